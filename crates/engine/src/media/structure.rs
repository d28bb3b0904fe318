//! Walks of the containers, from the first byte to the last. Each returns width and height, or what is
//! wrong. No walk allocates, recurses or trusts a length that leads out of the bytes.

use crate::domain::Format;

type Size = (u32, u32);
type Walk = Result<Size, &'static str>;

const CUT: &str = "it is cut short";

pub(super) fn walk(format: Format, bytes: &[u8]) -> Walk {
    match format {
        Format::Png => png(bytes),
        Format::Jpeg => jpeg(bytes),
        Format::Webp => webp(bytes),
        Format::Gif => gif(bytes),
        Format::Avif => avif(bytes),
    }
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    let four = bytes.get(at..at.saturating_add(4)).and_then(|four| four.first_chunk::<4>()).ok_or(CUT)?;
    Ok(u32::from_be_bytes(*four))
}

fn le32(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    Ok(be32(bytes, at)?.swap_bytes())
}

fn be16(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    let two = bytes.get(at..at.saturating_add(2)).and_then(|two| two.first_chunk::<2>()).ok_or(CUT)?;
    Ok(u32::from(u16::from_be_bytes(*two)))
}

fn le16(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    let two = bytes.get(at..at.saturating_add(2)).and_then(|two| two.first_chunk::<2>()).ok_or(CUT)?;
    Ok(u32::from(u16::from_le_bytes(*two)))
}

fn le24(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    let three = bytes.get(at..at.saturating_add(3)).and_then(|three| three.first_chunk::<3>()).ok_or(CUT)?;
    let [a, b, c] = three.map(u32::from);
    Ok(a | b << 8 | c << 16)
}

/// Every chunk up to IEND, with its checksum.
fn png(bytes: &[u8]) -> Walk {
    let mut at = 8;
    let mut size = None;
    let mut has_data = false;
    loop {
        let length = be32(bytes, at)? as usize;
        let end = at.checked_add(12).and_then(|n| n.checked_add(length)).ok_or(CUT)?;
        let body = bytes.get(at + 4..end - 4).ok_or(CUT)?;
        if crc32fast::hash(body) != be32(bytes, end - 4)? {
            return Err("a checksum does not fit");
        }
        match (body.first_chunk::<4>(), size) {
            (Some(b"IHDR"), None) if length == 13 => size = Some((be32(body, 4)?, be32(body, 8)?)),
            (_, None) => return Err("it does not begin with a header"),
            (Some(b"IDAT"), _) => has_data = true,
            (Some(b"IEND"), Some(size)) if has_data => return Ok(size),
            (Some(b"IEND"), _) => return Err("it has no pixels"),
            _ => {}
        }
        at = end;
    }
}

/// Every segment up to the first scan, then the end marker.
fn jpeg(bytes: &[u8]) -> Walk {
    let mut at = 2;
    let mut size = None;
    loop {
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1; // fill bytes
        }
        if *bytes.get(at).ok_or(CUT)? != 0xff {
            return Err("a segment does not begin with a marker");
        }
        let marker = *bytes.get(at + 1).ok_or(CUT)?;
        match marker {
            0xd9 => return Err("it ends before its pixels"),
            0x01 | 0xd0..=0xd8 => at += 2,
            0xda => {
                let rest = bytes.get(at..).ok_or(CUT)?;
                let ended = memchr::memmem::rfind(rest, b"\xff\xd9").is_some();
                return if ended { size.ok_or("it has no frame header") } else { Err(CUT) };
            }
            _ => {
                let length = be16(bytes, at + 2)? as usize;
                if length < 2 {
                    return Err("a segment has an impossible length");
                }
                // Start of frame, all kinds; C4, C8 and CC are something else.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                    size = Some((be16(bytes, at + 7)?, be16(bytes, at + 5)?));
                }
                at = at.checked_add(2 + length).ok_or(CUT)?;
            }
        }
    }
}

/// The RIFF frame and its first chunk; chunks must end inside the frame.
fn webp(bytes: &[u8]) -> Walk {
    let end = (le32(bytes, 4)? as usize).checked_add(8).ok_or(CUT)?;
    let frame = bytes.get(..end).ok_or(CUT)?;
    let mut at = 12;
    let mut size = None;
    let mut has_pixels = false;
    while at < frame.len() {
        let length = le32(frame, at + 4)? as usize;
        let body = frame.get(at + 8..).and_then(|rest| rest.get(..length)).ok_or(CUT)?;
        match frame.get(at..at + 4) {
            Some(b"VP8 ") => {
                has_pixels = true;
                if body.get(3..6) != Some(&[0x9d, 0x01, 0x2a]) {
                    return Err("its frame has no start code");
                }
                size = size.or(Some((le16(body, 6)? & 0x3fff, le16(body, 8)? & 0x3fff)));
            }
            Some(b"VP8L") => {
                has_pixels = true;
                if body.first() != Some(&0x2f) {
                    return Err("its frame has no signature");
                }
                let bits = le32(body, 1)?;
                size = size.or(Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)));
            }
            Some(b"VP8X") => size = size.or(Some((le24(body, 4)? + 1, le24(body, 7)? + 1))),
            Some(b"ANMF") => has_pixels = true,
            _ => {}
        }
        at = at.checked_add(8 + length + length % 2).ok_or(CUT)?;
    }
    if has_pixels { size.ok_or("it has no frame header") } else { Err("it has no pixels") }
}

/// Blocks up to the trailer.
fn gif(bytes: &[u8]) -> Walk {
    let size = (le16(bytes, 6)?, le16(bytes, 8)?);
    let color_table = |packed: u8| if packed & 0x80 == 0 { 0 } else { 3usize << ((packed & 7) + 1) };
    let mut at = 13 + color_table(*bytes.get(10).ok_or(CUT)?);
    let mut has_pixels = false;
    loop {
        match *bytes.get(at).ok_or(CUT)? {
            0x3b => return if has_pixels { Ok(size) } else { Err("it has no pixels") },
            0x21 => at += 2,
            0x2c => {
                has_pixels = true;
                at += 11 + color_table(*bytes.get(at + 9).ok_or(CUT)?);
            }
            _ => return Err("a block has an unknown kind"),
        }
        // Sub-blocks, each with its length before it, up to an empty one.
        loop {
            let length = usize::from(*bytes.get(at).ok_or(CUT)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// Top-level boxes must fill the bytes; the size is in the first image spatial extents property.
fn avif(bytes: &[u8]) -> Walk {
    let mut at = 0;
    let mut size = None;
    let mut has_pixels = false;
    while at < bytes.len() {
        let length = match be32(bytes, at)? as usize {
            0 => bytes.len() - at,
            1 => (u64::from(be32(bytes, at + 8)?) << 32 | u64::from(be32(bytes, at + 12)?)) as usize,
            length => length,
        };
        let body = bytes.get(at..).and_then(|rest| rest.get(..length)).ok_or(CUT)?;
        if body.len() < 8 {
            return Err("a box has an impossible length");
        }
        match body.get(4..8) {
            Some(b"meta") => {
                if let Some(ispe) = memchr::memmem::find(body, b"ispe") {
                    size = Some((be32(body, ispe + 8)?, be32(body, ispe + 12)?));
                }
            }
            Some(b"mdat") => has_pixels = true,
            _ => {}
        }
        at += length;
    }
    if has_pixels { size.ok_or("it does not tell its size") } else { Err("it has no pixels") }
}

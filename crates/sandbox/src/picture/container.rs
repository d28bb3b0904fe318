//! File formats: encodes a canvas and leaves room for a stamp and for padding, where each format allows foreign data.

use bytes::Bytes;

use super::canvas::Canvas;
use super::{Look, Painted};

/// A picture format the sandbox can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// PNG, lossless.
    Png,
    /// JPEG of a quality, 1 to 100. No transparency.
    Jpeg {
        /// The encoder's quality.
        quality: u8,
    },
    /// WebP, lossless.
    Webp,
}

impl Format {
    /// The media type.
    pub(crate) fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg { .. } => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// The name used in requests and as a file extension.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg { .. } => "jpeg",
            Self::Webp => "webp",
        }
    }
}

/// Signature and header chunk of every PNG, after which other chunks may stand.
const PNG_HEAD: usize = 8 + 25;

/// A chunk that no decoder needs, knows, or must drop when editing (see the case of its letters in the PNG standard).
const PNG_PADDING: &[u8; 4] = b"paDd";

/// The data of one JPEG comment, whose length field counts itself and has 16 bits.
const JPEG_COMMENT: usize = 0xFFFF - 2;

/// The chunk that carries the stamp; its length is the same for every stamp text of the same length.
pub(super) fn stamp(format: Format, text: &str) -> Bytes {
    let chunk = match format {
        Format::Png => png_chunk(b"tEXt", &[b"Comment\0", text.as_bytes()].concat()),
        Format::Jpeg { .. } => jpeg_comment(text.as_bytes()),
        Format::Webp => riff_chunk(b"NOTE", text.as_bytes()),
    };
    Bytes::from(chunk)
}

/// Encodes a canvas in the format of its look.
pub(super) fn encode(canvas: &Canvas, look: &Look) -> Result<Painted, String> {
    // Any stamp will do: only its length counts, and that is always the same.
    let stamp = stamp(look.format, &super::stamp_text(0, 0)).len();
    let (before, after) = match look.format {
        Format::Png => png(canvas, look, stamp),
        Format::Jpeg { quality } => jpeg(canvas, look, stamp, quality),
        Format::Webp => webp(canvas, look, stamp),
    }?;
    Ok(Painted { before: before.into(), after: after.into(), format: look.format, base64: Default::default() })
}

type Halves = Result<(Vec<u8>, Vec<u8>), String>;

fn png(canvas: &Canvas, look: &Look, stamp: usize) -> Halves {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, look.width, look.height);
    encoder.set_color(if look.transparent { png::ColorType::Rgba } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(&canvas.samples(look.transparent)).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    let rest = file.split_off(PNG_HEAD);
    let missing = look.least_bytes.saturating_sub(file.len() + stamp + rest.len());
    let mut after = if missing > 0 { png_chunk(PNG_PADDING, &noise(missing.saturating_sub(12))) } else { Vec::new() };
    after.extend_from_slice(&rest);
    Ok((file, after))
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(kind);
    checksum.update(data);
    // Padding is at most 256 MiB, far below the format's 2³¹ − 1.
    let length = data.len() as u32;
    [&length.to_be_bytes()[..], kind, data, &checksum.finalize().to_be_bytes()].concat()
}

fn jpeg(canvas: &Canvas, look: &Look, stamp: usize, quality: u8) -> Halves {
    let side =
        |pixels: u32| u16::try_from(pixels).map_err(|_| format!("a JPEG has at most 65535 pixels, not {pixels}"));
    let mut file = Vec::new();
    jpeg_encoder::Encoder::new(&mut file, quality)
        .encode(&canvas.samples(false), side(look.width)?, side(look.height)?, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    // Start marker (2 bytes), then the JFIF segment, which must stay first: marker (2) and length (counts itself).
    let Some([high, low]) = file.get(4..6) else {
        return Err("the JPEG encoder wrote no header".into());
    };
    let rest = file.split_off((4 + usize::from(u16::from_be_bytes([*high, *low]))).min(file.len()));
    let missing = look.least_bytes.saturating_sub(file.len() + stamp + rest.len());
    let mut after = Vec::with_capacity(missing + rest.len());
    for part in noise(missing).chunks(JPEG_COMMENT) {
        after.extend_from_slice(&jpeg_comment(part));
    }
    after.extend_from_slice(&rest);
    Ok((file, after))
}

fn jpeg_comment(data: &[u8]) -> Vec<u8> {
    // Callers cut the data to `JPEG_COMMENT`, so the length fits.
    let length = (data.len() + 2) as u16;
    [&[0xFF, 0xFE], &length.to_be_bytes()[..], data].concat()
}

fn webp(canvas: &Canvas, look: &Look, stamp: usize) -> Halves {
    use image_webp::ColorType::{Rgb8, Rgba8};
    let color = if look.transparent { Rgba8 } else { Rgb8 };
    let mut simple = Vec::new();
    image_webp::WebPEncoder::new(&mut simple)
        .encode(&canvas.samples(look.transparent), look.width, look.height, color)
        .map_err(|error| error.to_string())?;
    // The encoder writes the simple layout; unknown chunks are only allowed in the extended one.
    let image = simple.get(12..).ok_or("the WebP encoder wrote no header")?;
    let mut header = vec![if look.transparent { 0x10 } else { 0 }, 0, 0, 0];
    header.extend_from_slice(&(look.width - 1).to_le_bytes()[..3]);
    header.extend_from_slice(&(look.height - 1).to_le_bytes()[..3]);
    let mut before = [&b"RIFF\0\0\0\0WEBP"[..], &riff_chunk(b"VP8X", &header), image].concat();
    let missing = look.least_bytes.saturating_sub(before.len() + stamp);
    let after = if missing > 0 { riff_chunk(b"PADD", &noise(missing.saturating_sub(8))) } else { Vec::new() };
    let size = (before.len() + stamp + after.len() - 8) as u32;
    before[4..8].copy_from_slice(&size.to_le_bytes());
    Ok((before, after))
}

fn riff_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    let even: &[u8] = if data.len().is_multiple_of(2) { &[] } else { &[0] };
    [kind, &length.to_le_bytes()[..], data, even].concat()
}

/// Bytes that do not compress, always the same ones.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

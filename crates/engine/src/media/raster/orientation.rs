//! Which way up a picture is, as EXIF data tell it.

use super::Raster;

/// The tag that tells it.
const ORIENTATION: u16 = 0x0112;
/// Entries of a directory that are looked at.
const MOST_ENTRIES: usize = 512;

/// `raster` as it is to be seen. EXIF data that cannot be read say nothing.
pub(super) fn upright(raster: Raster, exif: Option<&[u8]>) -> Raster {
    let orientation = exif.and_then(read).unwrap_or(1);
    if !(2..=8).contains(&orientation) {
        return raster;
    }
    let (width, height) = (raster.width as usize, raster.height as usize);
    let is_turned = orientation >= 5;
    let (new_width, new_height) = if is_turned { (height, width) } else { (width, height) };
    let depth = raster.depth();
    let mut pixels = Vec::with_capacity(raster.pixels.len());
    for y in 0..new_height {
        for x in 0..new_width {
            let (from_x, from_y) = match orientation {
                2 => (width - 1 - x, y),
                3 => (width - 1 - x, height - 1 - y),
                4 => (x, height - 1 - y),
                5 => (y, x),
                6 => (y, height - 1 - x),
                7 => (width - 1 - y, height - 1 - x),
                _ => (width - 1 - y, x),
            };
            let at = (from_y * width + from_x) * depth;
            pixels.extend_from_slice(raster.pixels.get(at..at + depth).unwrap_or_default());
        }
    }
    Raster { width: new_width as u32, height: new_height as u32, pixels, ..raster }
}

/// The orientation, 1 to 8, from the first directory of a TIFF structure.
fn read(exif: &[u8]) -> Option<u16> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let is_little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let two = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let four = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<4>()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = four(4)? as usize;
    let entries = usize::from(two(directory)?).min(MOST_ENTRIES);
    let mut places = (0..entries).map(|index| directory.saturating_add(2 + 12 * index));
    let entry = places.find(|at| two(*at) == Some(ORIENTATION))?;
    two(entry.checked_add(8)?).filter(|orientation| (1..=8).contains(orientation))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data that say `orientation` and nothing else.
    fn exif(orientation: u16, is_little: bool) -> Vec<u8> {
        let two = |n: u16| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let four = |n: u32| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut out = if is_little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        out.extend(four(8));
        out.extend(two(1));
        out.extend([two(ORIENTATION), two(3)].concat());
        out.extend(four(1));
        out.extend([two(orientation), two(0)].concat());
        out.extend(four(0));
        out
    }

    #[test]
    fn all_eight() {
        // A B C
        // D E F
        let raster = || Raster {
            width: 3,
            height: 2,
            has_alpha: false,
            pixels: b"ABCDEF".iter().flat_map(|&letter| [letter; 3]).collect(),
            profile: None,
        };
        let seen = |orientation: u16, is_little: bool| {
            let turned = upright(raster(), Some(&exif(orientation, is_little)));
            let letters: Vec<u8> = turned.pixels.chunks(3).map(|pixel| pixel[0]).collect();
            let lines: Vec<String> =
                letters.chunks(turned.width as usize).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
            assert_eq!(lines.len(), turned.height as usize);
            lines.join("/")
        };
        let all = ["ABC/DEF", "CBA/FED", "FED/CBA", "DEF/ABC", "AD/BE/CF", "DA/EB/FC", "FC/EB/DA", "CF/BE/AD"];
        for (index, lines) in all.into_iter().enumerate() {
            for is_little in [true, false] {
                assert_eq!(seen(index as u16 + 1, is_little), lines, "{}", index + 1);
            }
        }
        assert_eq!(seen(9, true), "ABC/DEF");
        assert_eq!(upright(raster(), Some(b"II*\0\xff\xff\xff\xff")), raster());
        assert_eq!(upright(raster(), Some(b"Exif\0\0")), raster());
    }

    #[test]
    fn its_prefix_may_be_there() {
        let whole = [b"Exif\0\0".to_vec(), exif(6, true)].concat();
        assert_eq!(read(&whole), Some(6));
        for length in 0..whole.len() - 8 {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
    }
}

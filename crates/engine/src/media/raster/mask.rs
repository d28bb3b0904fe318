//! Masks in another convention. Callers send what the OpenAI API takes: a picture that is transparent where it is to be
//! edited. Others want grey, with white or with black there. In between is in between.

use bytes::Bytes;

use super::{Raster, RasterError, contained, decode, encode};
use crate::domain::{Digest, Format, Picture};

/// Which grey means that a pixel is to be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// White is edited, black is kept.
    White,
    /// Black is edited, white is kept.
    Black,
}

impl Edited {
    /// Alpha as this grey, and this grey as alpha: it is the same both ways.
    const fn turned(self, level: u8) -> u8 {
        match self {
            Edited::White => 255 - level,
            Edited::Black => level,
        }
    }
}

/// The mask as a PNG of one grey channel, where `edited` is what was transparent.
///
/// # Errors
/// It cannot be read, or nothing in it is transparent.
pub fn to_grey(mask: &Picture, edited: Edited) -> Result<Picture, RasterError> {
    contained(mask.format, || {
        let raster = decode::decode(&mask.bytes, mask.format)?;
        if !raster.has_alpha {
            return Err(RasterError::NoMask(
                "the mask has no transparent pixels, and those are what is edited: send a PNG with an alpha channel",
            ));
        }
        let (pixels, _) = raster.pixels.as_chunks::<4>();
        let grey: Vec<u8> = pixels.iter().map(|[_, _, _, alpha]| edited.turned(*alpha)).collect();
        let bytes = encode::grey_png(raster.width, raster.height, &grey);
        finished(bytes, raster.width, raster.height)
    })
}

/// A grey mask as a PNG that is transparent where it was `edited`, and black elsewhere. Colours count by their
/// brightness.
///
/// # Errors
/// It cannot be read.
pub fn from_grey(mask: &Picture, edited: Edited) -> Result<Picture, RasterError> {
    contained(mask.format, || {
        let raster = decode::decode(&mask.bytes, mask.format)?.opaque();
        let (colors, _) = raster.pixels.as_chunks::<3>();
        let pixels = colors.iter().flat_map(|color| [0, 0, 0, edited.turned(brightness(*color))]).collect();
        let (width, height) = (raster.width, raster.height);
        let raster = Raster { has_alpha: true, pixels, profile: None, ..raster };
        finished(encode::encode(raster, Format::Png), width, height)
    })
}

/// Luma as television has it, in whole numbers.
fn brightness([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 299 + u32::from(green) * 587 + u32::from(blue) * 114 + 500) / 1000) as u8
}

fn finished(written: Result<Vec<u8>, String>, width: u32, height: u32) -> Result<Picture, RasterError> {
    let bytes = Bytes::from(written.map_err(|why| RasterError::NotWritten(Format::Png, why))?);
    Ok(Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width, height })
}

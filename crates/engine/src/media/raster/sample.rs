//! A small look at a picture: for whoever wants to know what it is like, not to show it.

use bytes::Bytes;

use super::{Raster, RasterError, contained, decode, encode};
use crate::domain::{Format, Picture};

/// A picture made small, upright as its EXIF data say, laid on white.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    width: u32,
    height: u32,
    /// Red, green and blue of each pixel, row by row from the top.
    pixels: Vec<u8>,
}

impl Sample {
    /// Width in pixels, at least 1.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Red, green and blue of each pixel, row by row from the top.
    pub fn pixels(&self) -> &[[u8; 3]] {
        self.pixels.as_chunks::<3>().0
    }

    /// As a JPEG.
    ///
    /// # Errors
    /// It could not be written.
    pub fn into_jpeg(self) -> Result<Bytes, RasterError> {
        let Sample { width, height, pixels } = self;
        let raster = Raster { width, height, has_alpha: false, pixels, profile: None };
        let written = encode::encode(raster, Format::Jpeg);
        written.map(Bytes::from).map_err(|why| RasterError::NotWritten(Format::Jpeg, why))
    }
}

/// `picture` with no edge longer than `longest` pixels (1 or more), its shape kept; smaller ones stay as they are. Its
/// colour profile is not looked at.
///
/// # Errors
/// It cannot be read.
pub fn sample(picture: &Picture, longest: u32) -> Result<Sample, RasterError> {
    contained(picture.format, || {
        let raster = decode::decode(&picture.bytes, picture.format)?.opaque();
        let (width, height) = within(raster.width, raster.height, longest.max(1));
        let small = raster.covering(width, height);
        let small = small.map_err(|why| RasterError::Damaged(picture.format, why))?;
        Ok(Sample { width: small.width, height: small.height, pixels: small.pixels })
    })
}

/// The size with the shape of `width` × `height` whose longer edge is at most `longest`.
fn within(width: u32, height: u32, longest: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= longest {
        return (width, height);
    }
    let scaled = |side: u32| {
        let side = (u64::from(side) * u64::from(longest) + u64::from(longer) / 2) / u64::from(longer);
        u32::try_from(side).unwrap_or(longest).max(1)
    };
    (scaled(width), scaled(height))
}

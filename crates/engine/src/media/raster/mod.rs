//! Copies of pictures: another size, another encoding, a mask in another convention. The only room that decodes.
//!
//! A copy covers the size that is wanted and what juts out is cut off, the same on both sides. Pixels are mixed as they
//! are encoded (in gamma, as browsers and picture servers do), with colours weighed by their opacity.
//!
//! Everything here works on one thread without waiting, for some ten milliseconds per megapixel: callers see to it that
//! it is not one that serves others. Bytes may be hostile: what they can claim is bounded before memory is given
//! ([`MAX_PIXELS`]), and a decoder that panics is an error.

mod decode;
mod encode;
mod look;
mod mask;
mod orientation;
mod sample;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, ResizeOptions, Resizer};

use crate::domain::target::MOST_ENLARGED;
use crate::domain::{Digest, Form, Format, Picture};
pub use look::{Band, Look, SIDE};
pub use mask::{Edited, from_grey, to_grey};
pub use sample::{Sample, sample};

/// The most pixels that are decoded: 40 megapixels, 160 MB.
pub const MAX_PIXELS: u64 = 40_000_000;

/// Why there is no copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RasterError {
    /// There is no decoder for it here.
    #[error("copies cannot be made of {0} pictures")]
    Unreadable(Format),
    /// There is no encoder for it here.
    #[error("copies are png, jpeg or webp, not {0}")]
    Unwritable(Format),
    /// More than is decoded.
    #[error("it has {0}x{1} pixels, and copies are made of at most {MAX_PIXELS} pixels")]
    TooLarge(u32, u32),
    /// The copy would be too large for its original, or at all.
    #[error(
        "{to} cannot be made of {from_width}x{from_height}: no edge is made more than {MOST_ENLARGED} times as long, nor \
         longer than {longest}",
        longest = crate::domain::target::LONGEST_EDGE
    )]
    OutOfReach {
        /// Width of the original.
        from_width: u32,
        /// Height of the original.
        from_height: u32,
        /// The copy.
        to: Form,
    },
    /// The pixels cannot be read.
    #[error("the {0} picture is damaged: {1}")]
    Damaged(Format, String),
    /// A mask that says nothing.
    #[error("{0}")]
    NoMask(&'static str),
    /// The copy could not be written.
    #[error("the {0} copy could not be written: {1}")]
    NotWritten(Format, String),
}

/// Decoded pixels, 8 bits per channel, row by row from the top, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raster {
    width: u32,
    height: u32,
    /// True: red, green, blue, alpha (not multiplied in). False: red, green, blue.
    has_alpha: bool,
    pixels: Vec<u8>,
    /// The ICC profile that says which red, green and blue these are, if they are not the usual ones.
    profile: Option<Vec<u8>>,
}

impl Raster {
    const fn depth(&self) -> usize {
        if self.has_alpha { 4 } else { 3 }
    }

    /// Without an alpha channel that says nothing.
    fn slim(mut self) -> Raster {
        if self.has_alpha && self.pixels.chunks_exact(4).all(|pixel| pixel.last() == Some(&255)) {
            self.pixels = self.pixels.chunks_exact(4).flat_map(|pixel| pixel.iter().take(3)).copied().collect();
            self.has_alpha = false;
        }
        self
    }

    /// Laid on white.
    fn opaque(mut self) -> Raster {
        if self.has_alpha {
            let on_white = |pixel: &[u8]| {
                let alpha = u32::from(pixel.last().copied().unwrap_or(255));
                let mixed = |channel: u8| ((u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
                [0, 1, 2].map(|index| pixel.get(index).copied().map_or(255, mixed))
            };
            self.pixels = self.pixels.chunks_exact(4).flat_map(on_white).collect();
            self.has_alpha = false;
        }
        self
    }

    /// Covering `width` × `height`, with the middle of what is too much.
    fn covering(self, width: u32, height: u32) -> Result<Raster, String> {
        if (self.width, self.height) == (width, height) {
            return Ok(self);
        }
        let kind = if self.has_alpha { PixelType::U8x4 } else { PixelType::U8x3 };
        let from = ImageRef::new(self.width, self.height, &self.pixels, kind).map_err(|why| why.to_string())?;
        let mut to = Image::new(width, height, kind);
        // Lanczos with three lobes, weighed by alpha: the resizer's own defaults.
        let options = ResizeOptions::new().fit_into_destination(Some((0.5, 0.5)));
        Resizer::new().resize(&from, &mut to, &options).map_err(|why| why.to_string())?;
        Ok(Raster { width, height, pixels: to.into_vec(), ..self })
    }
}

/// The copy of `picture` in `form`, oriented as its EXIF data say, with its colour profile and without all other
/// metadata. JPEG copies have quality 90 and white where the original lets through what is behind it; PNG and WebP
/// copies lose nothing. The same picture and form give the same bytes.
///
/// # Errors
/// It cannot be read, `form` cannot be written, or the original is too small or too large for it.
pub fn copy(picture: &Picture, form: Form) -> Result<Picture, RasterError> {
    contained(picture.format, || {
        if !Form::is_writable(form.format) {
            return Err(RasterError::Unwritable(form.format));
        }
        let raster = decode::decode(&picture.bytes, picture.format)?;
        if !form.is_within_reach(raster.width, raster.height) {
            return Err(RasterError::OutOfReach { from_width: raster.width, from_height: raster.height, to: form });
        }
        let raster = if form.format == Format::Jpeg { raster.opaque() } else { raster };
        let not_written = |why| RasterError::NotWritten(form.format, why);
        let raster = raster.covering(form.width, form.height).map_err(not_written)?;
        let bytes = Bytes::from(encode::encode(raster, form.format).map_err(not_written)?);
        Ok(Picture { digest: Digest::of(&bytes), bytes, format: form.format, width: form.width, height: form.height })
    })
}

/// Runs `work`; a decoder that panics over `format` has found it damaged.
fn contained<T>(format: Format, work: impl FnOnce() -> Result<T, RasterError>) -> Result<T, RasterError> {
    // Nothing that outlives the panic is seen again.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(RasterError::Damaged(format, "its decoder gave up".to_owned())))
}

#[cfg(test)]
mod tests;

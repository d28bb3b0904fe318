//! What bytes are. Every picture that comes in, from a provider or a caller, passes [`examine`]:
//! its format is sniffed (nobody's word is taken for it), its structure is walked to the end (a picture
//! cut short is found out), and its size in pixels is bounded before anything would decode it.
//!
//! Nothing is decoded for that: the walk costs a fraction of a millisecond per megabyte and a constant
//! amount of memory, whatever the header claims.

pub mod inspect;
pub mod raster;
mod structure;

use bytes::Bytes;

use crate::domain::{Digest, Format, Picture};

/// The most pixels that a picture may have: 100 megapixels.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Why bytes are not taken for a picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPicture {
    /// No known signature.
    #[error("it is {0}, not a PNG, JPEG, WebP, GIF or AVIF picture")]
    NotAPicture(&'static str),
    /// Cut short or damaged.
    #[error("it is a damaged {0} picture: {1}")]
    Damaged(Format, &'static str),
    /// Claims more pixels than are allowed.
    #[error("it claims {0} × {1} pixels, and {MAX_PIXELS} are the most that are taken")]
    TooManyPixels(u32, u32),
}

/// Checks `bytes` and says what picture they are.
///
/// # Errors
/// They are no picture, a damaged one, or one with too many pixels.
pub fn examine(bytes: Bytes) -> Result<Picture, BadPicture> {
    let format = sniff(&bytes).ok_or_else(|| BadPicture::NotAPicture(describe(&bytes)))?;
    let (width, height) = structure::walk(format, &bytes).map_err(|why| BadPicture::Damaged(format, why))?;
    if width == 0 || height == 0 {
        return Err(BadPicture::Damaged(format, "it has no pixels"));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(BadPicture::TooManyPixels(width, height));
    }
    let digest = Digest::of(&bytes);
    Ok(Picture { bytes, digest, format, width, height })
}

/// The format that the first bytes announce.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(Format::Webp)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(Format::Gif)
    } else if bytes.get(4..8) == Some(b"ftyp") && matches!(bytes.get(8..12), Some(b"avif" | b"avis")) {
        Some(Format::Avif)
    } else {
        None
    }
}

/// What else it may be, in words that help.
fn describe(bytes: &[u8]) -> &'static str {
    let head: Vec<u8> = bytes.iter().take(256).map(u8::to_ascii_lowercase).collect();
    let text = head.trim_ascii_start();
    if bytes.is_empty() {
        "empty"
    } else if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        "an HTML page"
    } else if text.starts_with(b"<svg") || (text.starts_with(b"<?xml") && text.windows(4).any(|w| w == b"<svg")) {
        "an SVG drawing"
    } else if text.starts_with(b"{") {
        "JSON"
    } else if bytes.starts_with(b"%PDF") {
        "a PDF file"
    } else if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        "a TIFF picture"
    } else if bytes.starts_with(b"BM") {
        "a BMP picture"
    } else {
        "something unknown"
    }
}

#[cfg(test)]
mod tests;

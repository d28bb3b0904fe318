//! A picture: its bytes as they came, and what its header says.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::id::Digest;

/// The encodings that Mimeo takes in and gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG.
    #[serde(alias = "jpg")]
    Jpeg,
    /// WebP, lossy or lossless, still or animated.
    Webp,
    /// GIF, still or animated.
    Gif,
    /// AVIF.
    Avif,
}

impl Format {
    /// The name that the OpenAI API uses in `output_format`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
            Format::Gif => "gif",
            Format::Avif => "avif",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "png" => Some(Format::Png),
            "jpeg" | "jpg" => Some(Format::Jpeg),
            "webp" => Some(Format::Webp),
            "gif" => Some(Format::Gif),
            "avif" => Some(Format::Avif),
            _ => None,
        }
    }

    /// The media type.
    pub const fn mime(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Webp => "image/webp",
            Format::Gif => "image/gif",
            Format::Avif => "image/avif",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A picture whose bytes were checked: its format, its size in pixels, its content hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The bytes exactly as they came. Shared, never copied.
    pub bytes: Bytes,
    /// blake3 of the bytes.
    pub digest: Digest,
    /// The encoding, as found in the bytes (not as declared by anybody).
    pub format: Format,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

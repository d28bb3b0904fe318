//! What a picture is to be brought to when the model that makes it cannot make it so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::picture::{Format, Picture};
use super::request::Size;

/// The longest edge of a copy, in pixels, unless the original itself is longer.
pub const LONGEST_EDGE: u32 = 4096;
/// How many times as long an edge may become. Beyond, a copy would be a blur that nobody asked for.
pub const MOST_ENLARGED: u32 = 2;

/// What was asked for and a model cannot make by itself. The pictures of an answer are brought to it; one that is so
/// already goes out as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// The encoding.
    pub format: Option<Format>,
}

impl Target {
    /// This and what `other` asks for beyond it.
    pub fn and(self, other: Target) -> Target {
        Target { size: self.size.or(other.size), format: self.format.or(other.format) }
    }

    /// The copy of `picture` that is wanted and can be made.
    pub fn copy_of(&self, picture: &Picture) -> Option<Form> {
        let can_be_made = |form: &Form| {
            Form::is_readable(picture.format)
                && Form::is_writable(form.format)
                && form.is_within_reach(picture.width, picture.height)
        };
        self.form_of(picture).filter(can_be_made)
    }

    /// The copy of `picture` that is wanted; `None` if the picture is as it should be.
    pub fn form_of(&self, picture: &Picture) -> Option<Form> {
        let (width, height) = self.size.unwrap_or((picture.width, picture.height));
        let format = self.format.unwrap_or(match picture.format {
            writable if Form::is_writable(writable) => writable,
            // Nothing is lost in it, and everybody reads it.
            _ => Format::Png,
        });
        let is_sized = (width, height) == (picture.width, picture.height);
        let is_so = is_sized && self.format.is_none_or(|format| format == picture.format);
        (!is_so).then_some(Form { width, height, format })
    }
}

/// Width, height and encoding of a copy. Its text is the last part of the copy's address: `1200x630.png`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Width in pixels (1 or more).
    pub width: u32,
    /// Height in pixels (1 or more).
    pub height: u32,
    /// The encoding.
    pub format: Format,
}

/// The text is not the form of a copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a copy is called WIDTHxHEIGHT.FORMAT, with png, jpeg or webp, such as 1200x630.png")]
pub struct NotAForm;

impl Form {
    /// True if copies can be written in `format`.
    pub const fn is_writable(format: Format) -> bool {
        matches!(format, Format::Png | Format::Jpeg | Format::Webp)
    }

    /// True if copies can be made of pictures in `format`.
    pub const fn is_readable(format: Format) -> bool {
        matches!(format, Format::Png | Format::Jpeg | Format::Webp | Format::Gif)
    }

    /// True if a copy of this size may be made of an original of `width` × `height` pixels: no edge becomes more than
    /// [`MOST_ENLARGED`] times as long, and none longer than [`LONGEST_EDGE`].
    pub const fn is_within_reach(&self, width: u32, height: u32) -> bool {
        let is_same = self.width == width && self.height == height;
        let fits = self.width <= LONGEST_EDGE && self.height <= LONGEST_EDGE;
        is_same || (fits && is_enough(width, height, self.width, self.height))
    }
}

/// True if `width` × `height` pixels are enough to cover `to_width` × `to_height` without enlarging them too much.
pub const fn is_enough(width: u32, height: u32, to_width: u32, to_height: u32) -> bool {
    to_width <= width.saturating_mul(MOST_ENLARGED) && to_height <= height.saturating_mul(MOST_ENLARGED)
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}.{}", self.width, self.height, self.format)
    }
}

impl FromStr for Form {
    type Err = NotAForm;
    fn from_str(text: &str) -> Result<Self, NotAForm> {
        let (size, format) = text.split_once('.').ok_or(NotAForm)?;
        let Ok(Size::Exact(width, height)) = size.parse() else { return Err(NotAForm) };
        // One address per copy: `jpg` would be a second name of the same.
        let format = Format::from_name(format).filter(|known| known.name() == format && Form::is_writable(*known));
        Ok(Form { width, height, format: format.ok_or(NotAForm)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Digest;

    fn picture(format: Format, width: u32, height: u32) -> Picture {
        Picture { bytes: bytes::Bytes::new(), digest: Digest::of(b""), format, width, height }
    }

    #[test]
    fn forms_are_texts() {
        let form = Form { width: 1200, height: 630, format: Format::Jpeg };
        assert_eq!(form.to_string(), "1200x630.jpeg");
        assert_eq!("1200x630.jpeg".parse(), Ok(form));
        for bad in [
            "",
            "1200x630",
            "1200x630.",
            "auto.png",
            "1200x630.jpg",
            "1200x630.gif",
            "1200x630.avif",
            "0x5.png",
            "1200x630.png.png",
            "+1x1.png",
            "1200x630.PNG",
            "1200×630.png",
            "99999999x1.png",
            "-1x1.png",
            "1x1./png",
        ] {
            assert_eq!(bad.parse::<Form>(), Err(NotAForm), "{bad}");
        }
    }

    #[test]
    fn what_is_so_already_is_left_alone() {
        let wide = Target { size: Some((1200, 630)), format: None };
        assert_eq!(wide.form_of(&picture(Format::Avif, 1200, 630)), None);
        let form = |format| Some(Form { width: 1200, height: 630, format });
        assert_eq!(wide.form_of(&picture(Format::Webp, 1280, 672)), form(Format::Webp));
        assert_eq!(wide.form_of(&picture(Format::Gif, 1280, 672)), form(Format::Png));
        let jpeg = Target { size: None, format: Some(Format::Jpeg) };
        assert_eq!(jpeg.form_of(&picture(Format::Jpeg, 9, 9)), None);
        assert_eq!(jpeg.form_of(&picture(Format::Png, 1200, 630)), form(Format::Jpeg));
        assert_eq!(wide.and(jpeg).form_of(&picture(Format::Png, 9, 9)), form(Format::Jpeg));
        assert_eq!(Target::default().form_of(&picture(Format::Avif, 9, 9)), None);
        // Wanted, and not to be had.
        assert!(wide.form_of(&picture(Format::Png, 9, 9)).is_some());
        assert_eq!(wide.copy_of(&picture(Format::Png, 9, 9)), None);
        assert_eq!(wide.copy_of(&picture(Format::Avif, 1280, 672)), None);
        assert_eq!(wide.copy_of(&picture(Format::Png, 1280, 672)), form(Format::Png));
    }

    #[test]
    fn nothing_is_enlarged_out_of_measure() {
        let form = |width, height| Form { width, height, format: Format::Png };
        assert!(form(2048, 2048).is_within_reach(1024, 1024));
        assert!(!form(2049, 1).is_within_reach(1024, 1024));
        assert!(!form(4097, 64).is_within_reach(4096, 4096));
        assert!(form(8000, 64).is_within_reach(8000, 64), "only its format changes");
    }
}

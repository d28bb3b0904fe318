//! Pictures inside the data: `data:` URLs, bounded before anything is decoded.

use takumi::prelude::ImageSource;

use super::Limits;

/// A picture that passed the checks which need no decoding.
pub(super) struct Picture {
    bytes: Vec<u8>,
}

/// A picture in pixels.
pub(super) struct Decoded {
    pub(super) source: ImageSource,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Without transparent pixels: a photo rather than a cut-out.
    pub(super) opaque: bool,
}

impl Picture {
    /// Reads a `data:` URL. The error is a clause for [`super::RenderError::Field`].
    pub(super) fn from_data_url(url: &str, limits: &Limits) -> Result<Self, String> {
        if url.starts_with("http://") || url.starts_with("https://") {
            return Err("pictures are not fetched from the web: upload it or inline it as a data: URL".to_owned());
        }
        let (media_type, payload) = url
            .strip_prefix("data:")
            .and_then(|rest| rest.split_once(";base64,"))
            .ok_or("a picture must be a data: URL such as \"data:image/png;base64,…\"")?;
        if !matches!(media_type, "image/png" | "image/jpeg" | "image/webp") {
            return Err(format!("{media_type:?} is not supported: use image/png, image/jpeg or image/webp"));
        }
        if payload.len() / 4 * 3 > limits.max_image_bytes {
            return Err(format!("the picture is larger than {} bytes", limits.max_image_bytes));
        }
        let bytes =
            base64_simd::STANDARD.decode_to_vec(payload).map_err(|_| "the picture is not valid base64".to_owned())?;
        Self::from_bytes(bytes, limits)
    }

    fn from_bytes(bytes: Vec<u8>, limits: &Limits) -> Result<Self, String> {
        let broken = || "the picture is broken or not a PNG, JPEG or WebP".to_owned();
        // The declared type is not trusted: only what the bytes are decides which decoder sees them.
        match imagesize::image_type(&bytes) {
            Ok(imagesize::ImageType::Png | imagesize::ImageType::Jpeg | imagesize::ImageType::Webp) => {}
            _ => return Err(broken()),
        }
        let size = imagesize::blob_size(&bytes).map_err(|_| broken())?;
        let (width, height) =
            (u32::try_from(size.width).map_err(|_| broken())?, u32::try_from(size.height).map_err(|_| broken())?);
        if width == 0 || height == 0 {
            return Err(broken());
        }
        if u64::from(width) * u64::from(height) > limits.max_image_pixels {
            return Err(format!(
                "the picture has {width}x{height} pixels, more than {} are not decoded",
                limits.max_image_pixels
            ));
        }
        Ok(Self { bytes })
    }

    /// Decodes the pixels.
    pub(super) fn decode(&self) -> Result<Decoded, String> {
        match ImageSource::from_bytes(&self.bytes) {
            Ok(ImageSource::Bitmap(bitmap)) => Ok(Decoded {
                width: bitmap.width(),
                height: bitmap.height(),
                opaque: bitmap.data().chunks_exact(4).all(|pixel| pixel.ends_with(&[u8::MAX])),
                source: ImageSource::Bitmap(bitmap),
            }),
            // A card does not move, and frames are a way to make one small file cost much.
            Ok(_) => Err("animated pictures are not supported".to_owned()),
            Err(fault) => Err(format!("the picture cannot be decoded: {fault}")),
        }
    }
}

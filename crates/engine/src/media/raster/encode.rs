//! Pixels → bytes. The same pixels give the same bytes.

use std::borrow::Cow;

use super::Raster;
use crate::domain::Format;

/// What cannot be seen from what is left out with half of the bytes.
const JPEG_QUALITY: u8 = 90;

/// What can be wrong, as the encoders say it.
type Text = String;

pub(super) fn encode(raster: Raster, format: Format) -> Result<Vec<u8>, Text> {
    match format {
        Format::Png => png(&raster),
        Format::Jpeg => jpeg(&raster.opaque()),
        Format::Webp => webp(raster),
        Format::Gif | Format::Avif => Err("there is no encoder for it".to_owned()),
    }
}

fn png(raster: &Raster) -> Result<Vec<u8>, Text> {
    let mut info = png::Info::with_size(raster.width, raster.height);
    info.color_type = if raster.has_alpha { png::ColorType::Rgba } else { png::ColorType::Rgb };
    info.bit_depth = png::BitDepth::Eight;
    info.icc_profile = raster.profile.as_deref().map(Cow::Borrowed);
    write_png(info, &raster.pixels)
}

/// A PNG of one grey channel.
pub(super) fn grey_png(width: u32, height: u32, grey: &[u8]) -> Result<Vec<u8>, Text> {
    let mut info = png::Info::with_size(width, height);
    info.color_type = png::ColorType::Grayscale;
    info.bit_depth = png::BitDepth::Eight;
    write_png(info, grey)
}

fn write_png(info: png::Info<'_>, pixels: &[u8]) -> Result<Vec<u8>, Text> {
    let text = |why: png::EncodingError| why.to_string();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::with_info(&mut out, info).map_err(text)?;
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(text)?;
    writer.write_image_data(pixels).map_err(text)?;
    writer.finish().map_err(text)?;
    Ok(out)
}

fn jpeg(raster: &Raster) -> Result<Vec<u8>, Text> {
    let text = |why: jpeg_encoder::EncodingError| why.to_string();
    let side = |side: u32| u16::try_from(side).map_err(|_| format!("an edge of {side} pixels is too long"));
    let mut out = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, JPEG_QUALITY);
    encoder.set_optimized_huffman_tables(true);
    if let Some(profile) = &raster.profile {
        encoder.add_icc_profile(profile).map_err(text)?;
    }
    let (width, height) = (side(raster.width)?, side(raster.height)?);
    encoder.encode(&raster.pixels, width, height, jpeg_encoder::ColorType::Rgb).map_err(text)?;
    Ok(out)
}

fn webp(raster: Raster) -> Result<Vec<u8>, Text> {
    let mut out = Vec::new();
    let mut encoder = image_webp::WebPEncoder::new(&mut out);
    if let Some(profile) = raster.profile {
        encoder.set_icc_profile(profile);
    }
    let colors = if raster.has_alpha { image_webp::ColorType::Rgba8 } else { image_webp::ColorType::Rgb8 };
    encoder.encode(&raster.pixels, raster.width, raster.height, colors).map_err(|why| why.to_string())?;
    Ok(out)
}

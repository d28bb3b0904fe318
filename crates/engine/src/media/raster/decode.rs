//! Bytes → pixels. Of what moves, the first picture.

use std::io::Cursor;
use std::num::NonZeroU64;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use super::{MAX_PIXELS, Raster, RasterError, orientation};
use crate::domain::Format;

/// Memory that a decoder may take beside its pixels, such as for compressed profiles: 64 MB.
const SCRATCH: usize = 64 << 20;
/// Passes that a progressive JPEG may have: each costs as much time as a whole picture. Ten are usual.
const MAX_SCANS: usize = 40;

/// What can be wrong, as the decoders say it.
type Text = String;

/// The pixels of `bytes`, turned as their EXIF data say.
pub(super) fn decode(bytes: &[u8], format: Format) -> Result<Raster, RasterError> {
    let damaged = |why: Text| RasterError::Damaged(format, why);
    let decoded = match format {
        Format::Png => png(bytes)?,
        Format::Jpeg => jpeg(bytes)?,
        Format::Webp => webp(bytes)?,
        Format::Gif => gif(bytes)?,
        Format::Avif => return Err(RasterError::Unreadable(format)),
    };
    let Decoded { mut raster, exif } = decoded;
    let (pixels, depth) = (raster.width as usize * raster.height as usize, raster.depth());
    if raster.pixels.len() != pixels * depth || pixels == 0 {
        return Err(damaged("its pixels are not all there".to_owned()));
    }
    // A profile for grey or for ink says nothing about the red, green and blue that came out.
    raster.profile = raster.profile.filter(|profile| profile.get(16..20) == Some(b"RGB "));
    Ok(orientation::upright(raster.slim(), exif.as_deref()))
}

struct Decoded {
    raster: Raster,
    exif: Option<Vec<u8>>,
}

/// Refuses what is more than may be decoded, before there is memory for it.
fn bounded(width: u32, height: u32) -> Result<(), RasterError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS { Err(RasterError::TooLarge(width, height)) } else { Ok(()) }
}

fn png(bytes: &[u8]) -> Result<Decoded, RasterError> {
    let damaged = |why: png::DecodingError| RasterError::Damaged(Format::Png, why.to_string());
    let limits = png::Limits { bytes: SCRATCH };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    bounded(info.width, info.height)?;
    let profile = info.icc_profile.as_ref().map(|profile| profile.to_vec());
    let exif = info.exif_metadata.as_ref().map(|exif| exif.to_vec());
    let size = reader.output_buffer_size().ok_or(RasterError::TooLarge(info.width, info.height))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(damaged)?;
    pixels.truncate(frame.buffer_size());
    let (has_alpha, pixels) = match frame.color_type {
        png::ColorType::Grayscale => (false, pixels.iter().flat_map(|&grey| [grey; 3]).collect()),
        png::ColorType::GrayscaleAlpha => (true, with_alpha(&pixels)),
        png::ColorType::Rgba => (true, pixels),
        // Palettes were looked up.
        png::ColorType::Rgb | png::ColorType::Indexed => (false, pixels),
    };
    Ok(Decoded { raster: Raster { width: frame.width, height: frame.height, has_alpha, pixels, profile }, exif })
}

/// Grey and alpha → red, green, blue, alpha.
fn with_alpha(pixels: &[u8]) -> Vec<u8> {
    let (pairs, _) = pixels.as_chunks::<2>();
    pairs.iter().flat_map(|&[grey, alpha]| [grey, grey, grey, alpha]).collect()
}

fn jpeg(bytes: &[u8]) -> Result<Decoded, RasterError> {
    let damaged = |why: Text| RasterError::Damaged(Format::Jpeg, why);
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB).jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|why| damaged(why.to_string()))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("it does not tell its size".to_owned()))?;
    let side = |side: usize| u32::try_from(side).map_err(|_| damaged("it is too large".to_owned()));
    let (width, height) = (side(width)?, side(height)?);
    bounded(width, height)?;
    let pixels = decoder.decode().map_err(|why| damaged(why.to_string()))?;
    let (profile, exif) = (decoder.icc_profile(), decoder.exif().cloned());
    Ok(Decoded { raster: Raster { width, height, has_alpha: false, pixels, profile }, exif })
}

fn webp(bytes: &[u8]) -> Result<Decoded, RasterError> {
    let damaged = |why: image_webp::DecodingError| RasterError::Damaged(Format::Webp, why.to_string());
    // The decoder believes the frame inside before it compares it with the size outside.
    let (width, height) = largest_frame(bytes);
    bounded(width, height)?;
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    decoder.set_memory_limit(SCRATCH);
    let (width, height) = decoder.dimensions();
    bounded(width, height)?;
    let profile = decoder.icc_profile().map_err(damaged)?;
    let exif = decoder.exif_metadata().map_err(damaged)?;
    let size = decoder.output_buffer_size().ok_or(RasterError::TooLarge(width, height))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(damaged)?;
    Ok(Decoded { raster: Raster { width, height, has_alpha: decoder.has_alpha(), pixels, profile }, exif })
}

/// The size of the largest lossy frame of a WebP file, as the frames themselves claim it; zero if there is none.
fn largest_frame(bytes: &[u8]) -> (u32, u32) {
    let mut largest = (0, 0);
    let mut at = 12;
    while let Some([a, b, c, d, length @ ..]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let body = at + 8;
        let side = |at: usize| {
            let two = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()).copied().unwrap_or_default();
            u32::from(u16::from_le_bytes(two) & 0x3fff)
        };
        match [*a, *b, *c, *d] {
            // A frame of an animation: its own head is 16 bytes long, then come chunks again.
            [b'A', b'N', b'M', b'F'] => {
                at = body + 16;
                continue;
            }
            [b'V', b'P', b'8', b' '] => {
                let frame = (side(body + 6), side(body + 8));
                if u64::from(frame.0) * u64::from(frame.1) > u64::from(largest.0) * u64::from(largest.1) {
                    largest = frame;
                }
            }
            _ => {}
        }
        let length = u32::from_le_bytes(*length) as usize;
        at = body.saturating_add(length).saturating_add(length % 2);
    }
    largest
}

fn gif(bytes: &[u8]) -> Result<Decoded, RasterError> {
    let damaged = |why: gif::DecodingError| RasterError::Damaged(Format::Gif, why.to_string());
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    options.check_frame_consistency(true);
    if let Some(most) = NonZeroU64::new(MAX_PIXELS * 4) {
        options.set_memory_limit(gif::MemoryLimit::Bytes(most));
    }
    let mut decoder = options.read_info(bytes).map_err(damaged)?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    bounded(width, height)?;
    let frame = decoder.read_next_frame().map_err(damaged)?;
    let frame = frame.ok_or_else(|| RasterError::Damaged(Format::Gif, "it has no frame".to_owned()))?;
    // A frame may be smaller than its canvas, which is clear around it.
    let mut pixels = vec![0; width as usize * height as usize * 4];
    let (left, top) = (usize::from(frame.left) * 4, usize::from(frame.top));
    let (line, canvas) = (usize::from(frame.width) * 4, width as usize * 4);
    if line > 0 && canvas > 0 {
        for (from, to) in frame.buffer.chunks_exact(line).zip(pixels.chunks_exact_mut(canvas).skip(top)) {
            if let Some(to) = to.get_mut(left..left + line) {
                to.copy_from_slice(from);
            }
        }
    }
    Ok(Decoded { raster: Raster { width, height, has_alpha: true, pixels, profile: None }, exif: None })
}

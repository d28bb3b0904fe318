use proptest::prelude::*;

use super::*;
use crate::media::examine;

/// A picture with a colour per corner, `has_alpha` clear in its right half.
fn raster(width: u32, height: u32, has_alpha: bool) -> Raster {
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            pixels.extend([(x * 255 / width) as u8, (y * 255 / height) as u8, 128]);
            if has_alpha {
                pixels.push(if x * 2 >= width { 0 } else { 255 });
            }
        }
    }
    Raster { width, height, has_alpha, pixels, profile: None }
}

fn picture(width: u32, height: u32, has_alpha: bool, format: Format) -> Picture {
    examine(Bytes::from(encode::encode(raster(width, height, has_alpha), format).unwrap())).unwrap()
}

/// A GIF of two colours, its frame smaller than its canvas.
fn gif() -> Picture {
    let mut out = Vec::new();
    let mut encoder = gif::Encoder::new(&mut out, 8, 6, &[255, 0, 0, 0, 0, 255]).unwrap();
    let frame =
        gif::Frame { left: 2, top: 1, width: 4, height: 3, buffer: vec![1; 12].into(), ..gif::Frame::default() };
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    examine(Bytes::from(out)).unwrap()
}

fn form(width: u32, height: u32, format: Format) -> Form {
    Form { width, height, format }
}

fn pixel(raster: &Raster, x: u32, y: u32) -> &[u8] {
    let at = (y * raster.width + x) as usize * raster.depth();
    &raster.pixels[at..at + raster.depth()]
}

fn decoded(picture: &Picture) -> Raster {
    decode::decode(&picture.bytes, picture.format).unwrap()
}

#[test]
fn what_loses_nothing_loses_nothing() {
    for format in [Format::Png, Format::Webp] {
        for has_alpha in [false, true] {
            let made = raster(33, 21, has_alpha);
            let picture = picture(33, 21, has_alpha, format);
            assert_eq!(decoded(&picture), made, "{format}");
            let other = if format == Format::Png { Format::Webp } else { Format::Png };
            let copied = copy(&picture, form(33, 21, other)).unwrap();
            assert_eq!((copied.format, decoded(&copied)), (other, made));
        }
    }
}

#[test]
fn every_pair_of_formats_gives_the_form_asked_for() {
    let sources = [Format::Png, Format::Jpeg, Format::Webp]
        .map(|format| picture(96, 64, true, format))
        .into_iter()
        .chain([gif()]);
    for source in sources {
        for format in [Format::Png, Format::Jpeg, Format::Webp] {
            let wanted = form(12, 7, format);
            let made = copy(&source, wanted).unwrap();
            let checked = examine(made.bytes.clone()).unwrap();
            assert_eq!(checked, made, "its bytes are what is said of them");
            assert_eq!(form(checked.width, checked.height, checked.format), wanted, "from {}", source.format);
            assert_eq!(copy(&source, wanted).unwrap(), made, "the same again");
        }
    }
}

#[test]
fn the_middle_is_kept_and_the_rest_cut_off() {
    // Three stripes: what is cut off is red.
    let stripes = |width: u32, height: u32, is_middle: fn(u32, u32) -> bool| {
        let colors = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = colors.flat_map(|(x, y)| if is_middle(x, y) { [0, 0, 255] } else { [255, 0, 0] }).collect();
        Raster { width, height, has_alpha: false, pixels, profile: None }
    };
    let wide = stripes(90, 30, |x, _| (25..65).contains(&x));
    let tall = stripes(30, 90, |_, y| (25..65).contains(&y));
    for raster in [wide, tall] {
        let square = raster.covering(20, 20).unwrap();
        assert!(square.pixels.chunks(3).all(|pixel| pixel == [0, 0, 255]), "{:?}", &square.pixels[..12]);
    }
}

#[test]
fn colours_that_cannot_be_seen_do_not_bleed() {
    // Left: opaque white. Right: fully transparent, and black where nobody sees it.
    let pixels = (0..64 * 16).flat_map(|at| if at % 64 < 32 { [255; 4] } else { [0; 4] }).collect();
    let raster = Raster { width: 64, height: 16, has_alpha: true, pixels, profile: None };
    let small = raster.covering(9, 5).unwrap();
    let seen: Vec<&[u8]> = small.pixels.chunks(4).filter(|pixel| pixel[3] > 8).collect();
    assert!(
        seen.len() >= 4 * 5 && seen.iter().all(|pixel| pixel.iter().take(3).all(|channel| *channel >= 250)),
        "{seen:?}"
    );
}

#[test]
fn jpeg_is_laid_on_white() {
    let made = decoded(&copy(&picture(64, 64, true, Format::Png), form(64, 64, Format::Jpeg)).unwrap());
    assert!(pixel(&made, 60, 30).iter().all(|channel| *channel >= 250), "{:?}", pixel(&made, 60, 30));
    assert!(pixel(&made, 4, 30)[0] < 60, "{:?}", pixel(&made, 4, 30));
}

#[test]
fn an_alpha_channel_that_says_nothing_is_dropped() {
    let opaque = Raster { pixels: [1, 2, 3, 255].repeat(4), ..raster(2, 2, true) };
    assert_eq!(opaque.slim(), Raster { pixels: [1, 2, 3].repeat(4), ..raster(2, 2, false) });
    assert!(raster(4, 4, true).slim().has_alpha);
}

#[test]
fn colour_profiles_go_along() {
    let mut profile = vec![7; 300];
    profile[16..20].copy_from_slice(b"RGB ");
    let with = |profile: Vec<u8>| {
        let raster = Raster { profile: Some(profile), ..raster(8, 8, false) };
        examine(Bytes::from(encode::encode(raster, Format::Png).unwrap())).unwrap()
    };
    for format in [Format::Png, Format::Jpeg, Format::Webp] {
        let made = copy(&with(profile.clone()), form(8, 8, format)).unwrap();
        assert_eq!(decoded(&made).profile.as_ref(), Some(&profile), "{format}");
    }
    profile[16..20].copy_from_slice(b"GRAY");
    assert_eq!(decoded(&with(profile)).profile, None);
}

#[test]
fn small_frames_stand_on_a_clear_canvas() {
    let made = decoded(&gif());
    assert_eq!((made.width, made.height, made.has_alpha), (8, 6, true));
    assert_eq!(pixel(&made, 0, 0), [0, 0, 0, 0]);
    assert_eq!(pixel(&made, 2, 1), [0, 0, 255, 255]);
    assert_eq!(pixel(&made, 5, 3), [0, 0, 255, 255]);
    assert_eq!(pixel(&made, 6, 3), [0, 0, 0, 0]);
}

#[test]
fn what_is_out_of_reach_is_refused() {
    let small = picture(64, 64, false, Format::Png);
    assert!(copy(&small, form(128, 100, Format::Png)).is_ok());
    let refused = copy(&small, form(129, 10, Format::Png)).unwrap_err().to_string();
    assert!(refused.contains("129x10.png") && refused.contains("64x64") && refused.contains("2 times"), "{refused}");
    assert_eq!(copy(&small, form(8, 8, Format::Gif)).unwrap_err(), RasterError::Unwritable(Format::Gif));
    let avif = Picture { format: Format::Avif, ..small };
    assert_eq!(copy(&avif, form(8, 8, Format::Png)).unwrap_err(), RasterError::Unreadable(Format::Avif));
}

/// Pictures that claim more than they are: there is an error before there is memory.
#[test]
fn bombs_are_refused_by_their_claims() {
    let mut png = encode::encode(raster(4, 4, false), Format::Png).unwrap();
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let sum = crc32fast::hash(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&sum);
    assert_eq!(decode::decode(&png, Format::Png).unwrap_err(), RasterError::TooLarge(60_000, 60_000));

    let mut jpeg = encode::encode(raster(16, 16, false), Format::Jpeg).unwrap();
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x30, 0, 0x30, 0]);
    assert_eq!(decode::decode(&jpeg, Format::Jpeg).unwrap_err(), RasterError::TooLarge(0x3000, 0x3000));

    let mut small = gif().bytes.to_vec();
    small[6..10].copy_from_slice(&[0xff; 4]);
    assert_eq!(decode::decode(&small, Format::Gif).unwrap_err(), RasterError::TooLarge(65_535, 65_535));

    // A canvas of one pixel, and a frame of 16383 × 16383 in it.
    let frame = [0, 0, 0, 0x9d, 1, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
    let mut webp = b"RIFF\x28\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0VP8 \x0a\0\0\0".to_vec();
    webp.extend(frame);
    assert_eq!(decode::decode(&webp, Format::Webp).unwrap_err(), RasterError::TooLarge(16_383, 16_383));
    let mut moving = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0ANMF\x22\0\0\0".to_vec();
    moving.extend([0; 16]);
    moving.extend(b"VP8 \x0a\0\0\0");
    moving.extend(frame);
    assert_eq!(decode::decode(&moving, Format::Webp).unwrap_err(), RasterError::TooLarge(16_383, 16_383));
}

#[test]
fn masks_turn_both_ways() {
    let mask = picture(16, 8, true, Format::Png);
    for (edited, clear, kept) in [(Edited::White, 255, 0), (Edited::Black, 0, 255)] {
        let grey = to_grey(&mask, edited).unwrap();
        let raster = decoded(&grey);
        assert_eq!((grey.width, grey.height, raster.has_alpha), (16, 8, false));
        assert_eq!(pixel(&raster, 12, 4), [clear; 3], "what was clear is edited");
        assert_eq!(pixel(&raster, 2, 4), [kept; 3]);
        let back = decoded(&from_grey(&grey, edited).unwrap());
        assert_eq!((pixel(&back, 12, 4)[3], pixel(&back, 2, 4)[3]), (0, 255));
    }
    // Its header says what it is: one grey channel of 8 bits.
    assert_eq!(to_grey(&mask, Edited::White).unwrap().bytes[24..26], [8, 0]);
    let refused = to_grey(&picture(8, 8, false, Format::Png), Edited::White).unwrap_err();
    assert!(refused.to_string().contains("alpha channel"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// I20: hostile bytes neither panic nor hang, and what comes of them is what was asked for.
    #[test]
    fn mutated_pictures_are_copied_or_refused(
        pick in 0usize..5,
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        to in (1u32..80, 1u32..80),
    ) {
        let source = match pick {
            0 => picture(40, 24, false, Format::Jpeg),
            1 => picture(40, 24, true, Format::Webp),
            2 => gif(),
            3 => picture(40, 24, true, Format::Png),
            _ => picture(40, 24, false, Format::Png),
        };
        let mut bytes = source.bytes.to_vec();
        for (at, value) in noise {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let hostile = Picture { bytes: Bytes::from(bytes), ..source };
        let wanted = form(to.0, to.1, Format::Jpeg);
        if let Ok(made) = copy(&hostile, wanted) {
            let made = examine(made.bytes).unwrap();
            prop_assert_eq!(form(made.width, made.height, made.format), wanted);
        }
        let _ = to_grey(&hostile, Edited::White);
    }

    #[test]
    fn every_size_within_reach_comes_out(
        from in (1u32..60, 1u32..60), to in (1u32..120, 1u32..120), has_alpha in any::<bool>(),
    ) {
        let source = picture(from.0, from.1, has_alpha, Format::Png);
        let wanted = form(to.0, to.1, Format::Png);
        match copy(&source, wanted) {
            Ok(made) => {
                prop_assert!(wanted.is_within_reach(from.0, from.1));
                prop_assert_eq!((made.width, made.height), to);
                prop_assert!(examine(made.bytes).is_ok());
            }
            Err(RasterError::OutOfReach { .. }) => prop_assert!(!wanted.is_within_reach(from.0, from.1)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn a_sample_is_small_opaque_and_of_the_same_shape() {
    for (width, height, longest, expected) in
        [(96, 64, 24, (24, 16)), (64, 96, 24, (16, 24)), (10, 8, 24, (10, 8)), (900, 1, 30, (30, 1)), (5, 5, 0, (1, 1))]
    {
        for format in [Format::Png, Format::Jpeg, Format::Webp] {
            let sample = sample(&picture(width, height, true, format), longest).unwrap();
            assert_eq!((sample.width(), sample.height()), expected, "{format}");
            assert_eq!(sample.pixels().len(), (expected.0 * expected.1) as usize);
        }
    }
    // Its right half lets white through.
    let seen = sample(&picture(96, 64, true, Format::Png), 24).unwrap();
    assert_eq!(seen.pixels()[23], [255; 3]);
    assert_ne!(seen.pixels()[0], [255; 3]);
    let jpeg = seen.into_jpeg().unwrap();
    let checked = examine(jpeg).unwrap();
    assert_eq!((checked.format, checked.width, checked.height), (Format::Jpeg, 24, 16));
    let broken = Picture { bytes: Bytes::from_static(b"nothing"), ..picture(8, 8, false, Format::Png) };
    assert!(sample(&broken, 8).is_err());
}

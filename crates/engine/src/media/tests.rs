use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A valid PNG of one grey pixel row per `height`, built by hand: no encoder is needed for a header.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], body: &[u8]| {
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        let mut whole = kind.to_vec();
        whole.extend_from_slice(body);
        out.extend_from_slice(&whole);
        out.extend_from_slice(&crc32fast::hash(&whole).to_be_bytes());
    };
    let mut header = Vec::new();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[8, 0, 0, 0, 0]);
    chunk(b"IHDR", &header);
    chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0x00, 0x00, 0x00, 0x02, 0x00, 0x01]);
    chunk(b"IEND", &[]);
    out
}

/// The smallest JPEG that has a frame, a scan and an end.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8, 0xff, 0xc0, 0, 11, 8];
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&width.to_be_bytes());
    out.extend_from_slice(&[1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x55, 0xff, 0xd9]);
    out
}

fn webp_lossless(width: u32, height: u32) -> Vec<u8> {
    let mut body = vec![0x2f];
    body.extend_from_slice(&((width - 1) | (height - 1) << 14).to_le_bytes());
    body.push(0);
    let mut out = b"RIFF".to_vec();
    out.extend_from_slice(&(4 + 8 + body.len() as u32).to_le_bytes());
    out.extend_from_slice(b"WEBPVP8L");
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn gif(width: u16, height: u16) -> Vec<u8> {
    let mut out = b"GIF89a".to_vec();
    out.extend_from_slice(&width.to_le_bytes());
    out.extend_from_slice(&height.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b]);
    out
}

fn samples() -> Vec<(Format, Vec<u8>, (u32, u32))> {
    vec![
        (Format::Png, png(3, 5), (3, 5)),
        (Format::Jpeg, jpeg(640, 480), (640, 480)),
        (Format::Webp, webp_lossless(17, 99), (17, 99)),
        (Format::Gif, gif(7, 9), (7, 9)),
    ]
}

#[test]
fn whole_pictures_pass() {
    for (format, bytes, (width, height)) in samples() {
        let picture = examine(Bytes::from(bytes)).unwrap();
        assert_eq!((picture.format, picture.width, picture.height), (format, width, height));
    }
}

#[test]
fn every_cut_is_found() {
    for (format, bytes, _) in samples() {
        for length in 0..bytes.len() {
            assert!(examine(Bytes::copy_from_slice(&bytes[..length])).is_err(), "{format} cut to {length}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_png_is_found() {
    let bytes = png(3, 5);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(examine(Bytes::from(flipped)).is_err(), "bit {bit}");
    }
}

#[test]
fn other_things_are_named() {
    let cases: [(&[u8], &str); 4] = [
        (b"  <!DOCTYPE html><html>", "an HTML page"),
        (b"<?xml version='1.0'?><svg xmlns=''/>", "an SVG drawing"),
        (b"{\"error\":1}", "JSON"),
        (b"", "empty"),
    ];
    for (bytes, what) in cases {
        assert_eq!(examine(Bytes::from_static(bytes)).unwrap_err(), BadPicture::NotAPicture(what));
    }
    assert_eq!(examine(Bytes::from(png(65_000, 65_000))).unwrap_err(), BadPicture::TooManyPixels(65_000, 65_000));
}

proptest! {
    // I20: hostile bytes neither panic nor hang.
    #[test]
    fn no_bytes_panic(pick in 0usize..4, noise in prop::collection::vec((any::<u16>(), any::<u8>()), 0..12), tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = samples()[pick].1.clone();
        for (at, value) in noise {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        bytes.extend(tail);
        let _ = examine(Bytes::from(bytes));
    }

    #[test]
    fn no_avif_panics(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"\0\0\0\x10ftypavif\0\0\0\0".to_vec();
        bytes.extend(tail);
        let _ = examine(Bytes::from(bytes));
    }
}

use proptest::prelude::*;

use super::*;

const KEYS: &[&str] = &["b64_json"];

fn read(body: &[u8], cuts: &[usize], limits: Limits) -> Result<Lifted, LiftError> {
    let mut lift = Lift::new(KEYS, limits, Some(body.len()), 1);
    let mut rest = body;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() || cuts.iter().all(|cut| *cut == 0) {
            break;
        }
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        lift.feed(piece)?;
        rest = after;
    }
    lift.feed(rest)?;
    lift.finish()
}

fn pictures(lifted: &Lifted) -> Vec<Vec<u8>> {
    let data = lifted.value["data"].as_array().unwrap();
    data.iter().map(|item| lifted.picture(&item["b64_json"]).unwrap().unwrap().to_vec()).collect()
}

fn body(pictures: &[Vec<u8>]) -> String {
    let data: Vec<String> =
        pictures.iter().map(|p| format!("{{ \"b64_json\" : \"{}\" }}", STANDARD.encode_to_string(p))).collect();
    format!("{{\"created\":1,\n\"data\":[{}],\"note\":\"b64_json\",\"usage\":{{\"a\":1}}}}", data.join(","))
}

proptest! {
    #[test]
    fn any_cut_reads_like_the_whole(
        made in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4000), 0..4),
        cuts in prop::collection::vec(1usize..3000, 1..20),
        slashes in any::<bool>(),
    ) {
        let made: Vec<Vec<u8>> = made.into_iter().filter(|picture| !picture.is_empty()).collect();
        let mut body = body(&made);
        if slashes {
            body = body.replace('/', "\\/").replace('=', "\\u003D");
        }
        let lifted = read(body.as_bytes(), &cuts, Limits::default()).unwrap();
        prop_assert_eq!(pictures(&lifted), made);
        let whole: Value = serde_json::from_str(&body).unwrap();
        prop_assert_eq!(&lifted.value["usage"], &whole["usage"]);
        prop_assert_eq!(&lifted.value["note"], &whole["note"]);
    }

    #[test]
    fn texts_are_read_as_serde_reads_them(texts in prop::collection::vec(".{0,1500}", 1..6), cuts in prop::collection::vec(1usize..700, 1..9)) {
        // Under keys that are not lifted, and as keys.
        let value: Value = texts.iter().map(|text| (text.clone(), Value::from(texts.clone()))).collect();
        let body = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(read(body.as_bytes(), &cuts, Limits::default()).unwrap().value, value);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000), cuts in prop::collection::vec(1usize..500, 1..9)) {
        let _ = read(&bytes, &cuts, Limits::default());
        let mut opened = b"{\"b64_json\":\"".to_vec();
        opened.extend(&bytes);
        let _ = read(&opened, &cuts, Limits::default());
    }

    #[test]
    fn damaged_bodies_never_panic_and_cut_ones_are_errors(
        picture in prop::collection::vec(any::<u8>(), 1500..5000),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(1usize..2000, 1..5),
    ) {
        let mut body = body(&[picture]).into_bytes();
        let at = at.index(body.len());
        prop_assert!(read(&body[..at], &cuts, Limits::default()).is_err());
        body[at] = byte;
        let _ = read(&body, &cuts, Limits::default());
    }

    #[test]
    fn long_base64_is_judged_like_short(text in "[A-Za-z0-9+/=]{0,12}", cuts in prop::collection::vec(1usize..900, 1..5)) {
        // The same end of a string, after a long and after no beginning.
        let (long, short) = (format!("{}{text}", "AAAA".repeat(400)), text);
        let lifted = |text: &str| {
            read(format!("{{\"b64_json\":\"{text}\"}}").as_bytes(), &cuts, Limits::default())
                .and_then(|lifted| lifted.picture(&lifted.value["b64_json"]).unwrap_or(Ok(Bytes::new())))
        };
        match (lifted(&long), lifted(&short)) {
            (Ok(long), Ok(short)) => prop_assert_eq!(&long[1200..], &short[..]),
            (long, short) => prop_assert_eq!(long.is_err(), short.is_err()),
        }
    }
}

#[test]
fn a_mark_cannot_be_forged() {
    let body = "{\"data\":[{\"b64_json\":\"lifted:00000000000000000000000000000000:0\"}]}";
    let lifted = read(body.as_bytes(), &[7], Limits::default()).unwrap();
    assert_eq!(lifted.picture(&lifted.value["data"][0]["b64_json"]), Some(Err(LiftError::NotBase64)));
}

#[test]
fn data_urls_lose_their_prefix() {
    for picture in [vec![7u8; 30], vec![7u8; 30_000]] {
        let text = STANDARD.encode_to_string(&picture);
        for prefix in ["data:image/png;base64,", "data:image\\/png;base64,"] {
            let body = format!("{{\"data\":[{{\"b64_json\":\"{prefix}{text}\"}}]}}");
            assert_eq!(
                pictures(&read(body.as_bytes(), &[1000], Limits::default()).unwrap()),
                std::slice::from_ref(&picture)
            );
        }
        let other = format!("{{\"b64_json\":\"data:text/plain,{text}\"}}");
        let read = read(other.as_bytes(), &[1000], Limits::default());
        let picture = read.and_then(|lifted| lifted.picture(&lifted.value["b64_json"]).unwrap());
        assert_eq!(picture, Err(LiftError::NotBase64));
    }
}

#[test]
fn padding_may_be_missing_and_lines_may_be_broken() {
    let picture = vec![9u8; 4001];
    let text = STANDARD.encode_to_string(&picture);
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    for text in [text.trim_end_matches('=').to_owned(), lines.join("\\r\\n")] {
        let body = format!("{{\"data\":[{{\"b64_json\":\"{text}\"}}]}}");
        assert_eq!(
            pictures(&read(body.as_bytes(), &[333], Limits::default()).unwrap()),
            std::slice::from_ref(&picture)
        );
    }
}

#[test]
fn empty_and_missing_pictures_are_none() {
    let lifted = read(b"{\"a\":\"\",\"b\":null,\"b64_json\":\"\"}", &[2], Limits::default()).unwrap();
    for key in ["a", "b", "b64_json", "c"] {
        assert_eq!(lifted.picture(&lifted.value[key]), None, "{key}");
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { skeleton: 3000, picture: 5000, pictures: 1 };
    let within = body(&[vec![1; 5000]]);
    assert_eq!(pictures(&read(within.as_bytes(), &[100], limits).unwrap()).len(), 1);
    assert_eq!(read(body(&[vec![1; 5001]]).as_bytes(), &[100], limits).unwrap_err(), LiftError::PictureTooLarge);
    let two = body(&[vec![1; 2000], vec![1; 2000]]);
    assert_eq!(read(two.as_bytes(), &[100], limits).unwrap_err(), LiftError::TooManyPictures);
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(3000));
    assert_eq!(read(text.as_bytes(), &[100], limits).unwrap_err(), LiftError::SkeletonTooLarge);
}

#[test]
fn a_picture_is_decoded_into_its_final_buffer() {
    let picture = vec![3u8; 3 << 20];
    let body = body(std::slice::from_ref(&picture));
    let mut lift = Lift::new(KEYS, Limits::default(), Some(body.len()), 1);
    let mut buffers = Vec::new();
    for piece in body.as_bytes().chunks(16 << 10) {
        lift.feed(piece).unwrap();
        if let State::Picture(decoder) = &lift.state {
            buffers.push(decoder.out.as_ptr());
        }
    }
    buffers.dedup();
    assert_eq!(buffers.len(), 1, "it was moved");
    assert_eq!(pictures(&lift.finish().unwrap()), [picture]);
}

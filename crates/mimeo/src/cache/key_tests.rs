//! Golden keys say when the identity of requests has changed; properties say that each field counts.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{Format, Operation, Picture};

fn caller() -> Caller {
    Caller { tenant: "t".into(), key: "k".into(), pool: None }
}

fn key_of(request: &ImageRequest) -> Digest {
    key(&caller(), [("record/model", request)])
}

fn input(bytes: &'static [u8], file_name: Option<&str>) -> InputPicture {
    let bytes = Bytes::from_static(bytes);
    let picture = Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 1, height: 1 };
    InputPicture { picture, file_name: file_name.map(str::to_owned) }
}

fn template(data: Value) -> TemplateCall {
    TemplateCall { id: "card".into(), version: "1".into(), data }
}

/// If one of these changes, pictures that people have paid for are not found any more. Change them only
/// together with [`VERSION`], and say so in the changelog.
#[test]
fn golden_keys() {
    let plain = ImageRequest::generate("a red kite");
    let full = ImageRequest {
        size: Size::Exact(1536, 1024),
        quality: Some("high".into()),
        background: Some("transparent".into()),
        output_format: Some(Format::Webp),
        output_compression: Some(80),
        style: Some("vivid".into()),
        moderation: Some("low".into()),
        seed: Some(u64::MAX),
        steps: Some(20),
        guidance: "7.5".parse().ok(),
        negative_prompt: Some("blur".into()),
        extras: [("loras".to_owned(), json!([{ "b": 1, "a": "x" }]))].into(),
        ..ImageRequest::generate("a red kite")
    };
    let edit = ImageRequest {
        operation: Operation::Edit,
        inputs: vec![input(b"one", None), input(b"two", None)],
        mask: Some(input(b"mask", None)),
        input_fidelity: Some("high".into()),
        ..ImageRequest::generate("a red kite")
    };
    let card = ImageRequest {
        operation: Operation::Render,
        template: Some(template(json!({ "title": "Hello", "n": 1 }))),
        ..ImageRequest::generate("")
    };
    let keys: Vec<String> = [&plain, &full, &edit, &card].map(|request| key_of(request).to_string()).into();
    let golden = include_str!("golden_keys.txt");
    assert_eq!(keys, golden.lines().collect::<Vec<_>>(), "version {VERSION}");
}

#[test]
fn what_does_not_change_the_picture_does_not_change_the_key() {
    let named = |name| ImageRequest { inputs: vec![input(b"one", name)], ..ImageRequest::generate("x") };
    assert_eq!(key_of(&named(None)), key_of(&named(Some("photo.png"))));
    let data = |text: &str| ImageRequest {
        template: Some(template(serde_json::from_str(text).unwrap())),
        ..ImageRequest::generate("")
    };
    let one = key_of(&data(r#"{"a": 1, "b": {"x": true, "y": [1.50]}}"#));
    assert_eq!(one, key_of(&data(r#"{"b": {"y": [1.5], "x": true}, "a": 1.0}"#)));
    let request = ImageRequest::generate("x");
    let (a, b) = (("r/a", &request), ("r/b", &request));
    assert_eq!(key(&caller(), [a, b]), key(&caller(), [b, a]), "the order of candidates is not part of it");
    let other_key = Caller { key: "other".into(), ..caller() };
    assert_eq!(key(&other_key, [a]), key(&caller(), [a]), "keys of one tenant share");
}

#[test]
fn tenants_and_pools_do_not_mix() {
    let request = ImageRequest::generate("x");
    let of = |tenant: &str, pool: Option<&str>| {
        let caller = Caller { tenant: tenant.into(), key: "k".into(), pool: pool.map(str::to_owned) };
        key(&caller, [("r/m", &request)])
    };
    assert_ne!(of("a", None), of("b", None));
    assert_eq!(of("a", Some("p")), of("b", Some("p")));
    assert_ne!(of("p", None), of("a", Some("p")), "a tenant cannot be taken for a pool");
    assert_ne!(of("poolp", None), of("", Some("p")));
}

/// Long seeds are exact: 2⁵³ and 2⁵³ + 1 are two requests.
#[test]
fn integers_are_exact() {
    let seeded = |seed| key_of(&ImageRequest { seed: Some(seed), ..ImageRequest::generate("x") });
    assert_ne!(seeded(1 << 53), seeded((1 << 53) + 1));
    let extra = |number: &str| {
        let value = serde_json::from_str(number).unwrap();
        key_of(&ImageRequest { extras: [("n".to_owned(), value)].into(), ..ImageRequest::generate("x") })
    };
    assert_ne!(extra("9007199254740992"), extra("9007199254740993"));
    assert_ne!(extra("18446744073709551615"), extra("18446744073709551614"));
    assert_eq!(extra("2"), extra("2.0"));
    assert_ne!(extra("2"), extra("\"2\""));
}

/// One change to one field.
type Change = fn(&mut ImageRequest);

const CHANGES: &[(&str, Change)] = &[
    ("operation", |r| r.operation = Operation::Edit),
    ("prompt", |r| r.prompt.push('!')),
    ("size", |r| r.size = Size::Exact(64, 65)),
    ("quality", |r| r.quality = Some("other".into())),
    ("background", |r| r.background = Some("other".into())),
    ("output_format", |r| r.output_format = Some(Format::Gif)),
    ("output_compression", |r| r.output_compression = Some(1)),
    ("style", |r| r.style = Some("other".into())),
    ("moderation", |r| r.moderation = Some("other".into())),
    ("input_fidelity", |r| r.input_fidelity = Some("other".into())),
    ("seed", |r| r.seed = Some(12_345)),
    ("steps", |r| r.steps = Some(12_345)),
    ("guidance", |r| r.guidance = "3.25".parse().ok()),
    ("negative_prompt", |r| r.negative_prompt = Some("other".into())),
    ("inputs", |r| r.inputs.push(input(b"more", None))),
    ("input order", |r| {
        r.inputs.push(input(b"first", None));
        r.inputs.push(input(b"second", None));
    }),
    ("mask", |r| r.mask = Some(input(b"more", None))),
    ("template", |r| r.template = Some(template(json!({ "x": 1 })))),
    ("template version", |r| {
        r.template = Some(TemplateCall { version: "2".into(), ..template(json!({ "x": 1 })) });
    }),
    ("template data", |r| r.template = Some(template(json!({ "x": "1" })))),
    ("extras", |r| {
        r.extras.insert("more".into(), json!(null));
    }),
];

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-z]{0,6}")
}

prop_compose! {
    fn requests()(
        prompt in ".{0,20}", quality in text(), background in text(), style in text(), negative_prompt in text(),
        seed in prop::option::of(any::<u64>()), steps in prop::option::of(any::<u32>()),
        size in prop::option::of((1u32..5000, 1u32..5000)), output_compression in prop::option::of(0u8..=100),
    ) -> ImageRequest {
        ImageRequest {
            quality, background, style, negative_prompt, seed, steps, output_compression,
            size: size.map_or(Size::Auto, |(w, h)| Size::Exact(w, h)),
            ..ImageRequest::generate(prompt)
        }
    }
}

proptest! {
    /// I12: whatever the request, changing any one field changes the key, and to another one each.
    #[test]
    fn every_field_counts(request in requests()) {
        let mut seen = vec![(String::from("as it was"), key_of(&request))];
        for (field, change) in CHANGES {
            let mut changed = request.clone();
            change(&mut changed);
            if changed == request {
                continue; // the generator happened to choose that very value
            }
            let digest = key_of(&changed);
            for (other, known) in &seen {
                prop_assert_ne!(digest, *known, "{} against {}", field, other);
            }
            seen.push(((*field).to_owned(), digest));
        }
    }

    /// Two texts side by side cannot run into one another.
    #[test]
    fn fields_do_not_run_together(a in "[ab]{0,6}", b in "[ab]{0,6}", cut in 0usize..6) {
        let joined = format!("{a}{b}");
        let (left, right) = joined.split_at(cut.min(joined.len()));
        let of = |quality: &str, background: &str| key_of(&ImageRequest {
            quality: Some(quality.into()), background: Some(background.into()), ..ImageRequest::generate("x")
        });
        prop_assert_eq!(of(&a, &b) == of(left, right), (a.as_str(), b.as_str()) == (left, right));
    }

    /// The same request twice is the same key.
    #[test]
    fn keys_are_stable(request in requests()) {
        prop_assert_eq!(key_of(&request), key_of(&request.clone()));
    }
}

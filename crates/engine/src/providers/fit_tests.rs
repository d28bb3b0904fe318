use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::InputPicture;
use crate::domain::request::TemplateCall;
use crate::providers::testing::{input, provider};
use crate::providers::{Model, ResolvedModel};

fn model(record: &str, name: &str) -> ResolvedModel {
    provider(record, "http://127.0.0.1:9/v1", "").model(name).unwrap()
}

fn flare() -> ResolvedModel {
    model("openai", "gpt-image-2.5-flare")
}

fn none() -> BTreeMap<String, Value> {
    BTreeMap::new()
}

fn fit(model: &Model, request: &ImageRequest) -> Result<ImageRequest, Misfit> {
    model.fit(request, &none(), None)
}

fn plain() -> ImageRequest {
    ImageRequest::generate("a red kite")
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn spelled_out_defaults_are_no_request() {
    let spelled = ImageRequest {
        quality: some("auto"),
        background: some("auto"),
        output_format: Some(Format::Png),
        output_compression: Some(100),
        moderation: some("auto"),
        negative_prompt: some("  "),
        ..plain()
    };
    assert_eq!(fit(&flare(), &spelled).unwrap(), plain());
    let sandbox = model("sandbox", "draft");
    let spelled = ImageRequest { size: Size::Exact(1024, 1024), output_format: Some(Format::Png), ..plain() };
    assert_eq!(fit(&sandbox, &spelled).unwrap(), plain());
}

#[test]
fn a_tier_picks_the_quality_where_none_was_named() {
    let quality = |request: &ImageRequest, tier: &str| flare().fit(request, &none(), Some(tier)).unwrap().quality;
    assert_eq!(quality(&plain(), "draft"), some("low"));
    assert_eq!(quality(&plain(), "premium"), some("high"));
    assert_eq!(quality(&ImageRequest { quality: some("max"), ..plain() }, "draft"), some("max"));
    assert_eq!(flare().fit(&plain(), &none(), Some("best")).unwrap_err().param, "quality_tier");
}

#[test]
fn what_does_not_fit_is_named_with_what_does() {
    let at = |width, height| Size::Exact(width, height);
    let edit = |inputs: Vec<InputPicture>, mask| ImageRequest { operation: Operation::Edit, inputs, mask, ..plain() };
    let old = model("openai", "gpt-image-1.5");
    let two = model("openai", "gpt-image-2");
    let cases: Vec<(&Model, ImageRequest, &str, &str)> = vec![
        (&two, ImageRequest { prompt: "x".repeat(32_001), ..plain() }, "prompt", "32001 characters"),
        (&two, ImageRequest { prompt: String::new(), ..plain() }, "prompt", "must not be empty"),
        (&two, ImageRequest { size: at(1000, 1000), ..plain() }, "size", "multiples of 16"),
        (&two, ImageRequest { size: at(4096, 2048), ..plain() }, "size", "3840"),
        (&two, ImageRequest { size: at(3840, 3840), ..plain() }, "size", "8294400"),
        (&two, ImageRequest { size: at(1600, 160), ..plain() }, "size", "3 times"),
        (&old, ImageRequest { size: at(512, 512), ..plain() }, "size", "1024x1024, 1536x1024, 1024x1536"),
        (&two, ImageRequest { quality: some("max"), ..plain() }, "quality", "low, medium, high or auto"),
        (&two, ImageRequest { style: some("vivid"), ..plain() }, "style", "no style"),
        (&two, ImageRequest { output_format: Some(Format::Avif), ..plain() }, "output_format", "png, jpeg, webp"),
        (&two, ImageRequest { output_compression: Some(50), ..plain() }, "output_compression", "jpeg or webp"),
        (&two, ImageRequest { output_compression: Some(101), ..plain() }, "output_compression", "0 to 100"),
        (
            &two,
            ImageRequest { background: some("transparent"), output_format: Some(Format::Jpeg), ..plain() },
            "background",
            "png or webp",
        ),
        (&two, ImageRequest { background: some("green"), ..plain() }, "background", "transparent, opaque"),
        (&two, ImageRequest { seed: Some(1), ..plain() }, "seed", "no seed"),
        (&two, ImageRequest { steps: Some(1), ..plain() }, "steps", "no steps"),
        (&two, ImageRequest { guidance: "7".parse().ok(), ..plain() }, "guidance", "no guidance"),
        (&two, ImageRequest { negative_prompt: some("fog"), ..plain() }, "negative_prompt", "no negative"),
        (&old, ImageRequest { input_fidelity: some("high"), ..plain() }, "input_fidelity", "edits only"),
        (&two, edit(vec![], None), "image", "at least one"),
        (&two, edit(vec![input(b"x", 8, 8); 17], None), "image", "at most 16"),
        (&two, edit(vec![input(b"x", 8, 8)], Some(input(b"m", 8, 9))), "mask", "8x9 and the first image is 8x8"),
        (&two, ImageRequest { inputs: vec![input(b"x", 8, 8)], ..plain() }, "image", "edits only"),
        (&two, ImageRequest { operation: Operation::Render, ..plain() }, "model", "generate and edit"),
    ];
    for (model, request, param, says) in cases {
        let misfit = fit(model, &request).unwrap_err();
        assert_eq!(misfit.param, param, "{}", misfit.message);
        assert!(misfit.message.contains(says), "{}", misfit.message);
        assert!(misfit.message.len() < 400, "{}", misfit.message);
    }
}

#[test]
fn unknown_fields_are_errors_unless_they_pass_through() {
    let fields = |name: &str, value: Value| BTreeMap::from([(name.to_owned(), value)]);
    let misfit = flare().fit(&plain(), &fields("colour", json!("red")), None).unwrap_err();
    assert_eq!((misfit.param.as_str(), misfit.code), ("colour", "unknown_parameter"));
    let newest = model("openai", "gpt-image-2.6-flare");
    let fitted = newest.fit(&plain(), &fields("complexity", json!("low")), None).unwrap();
    assert_eq!(fitted.extras, fields("complexity", json!("low")));
    // Its default is no request either, and null is nothing.
    for value in [json!("high"), Value::Null] {
        assert_eq!(newest.fit(&plain(), &fields("complexity", value), None).unwrap(), plain());
    }
    let template = TemplateCall { id: "card".to_owned(), version: "1".to_owned(), data: json!({}) };
    let misfit = fit(&flare(), &ImageRequest { template: Some(template), ..plain() }).unwrap_err();
    assert_eq!(misfit.param, "template");
}

fn word() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::select(vec![
        "auto",
        "low",
        "medium",
        "high",
        "max",
        "transparent",
        "opaque",
        "vivid",
        "standard",
        "hd",
        "*",
        "",
    ]))
    .prop_map(|word| word.map(str::to_owned))
}

fn any_request() -> impl Strategy<Value = ImageRequest> {
    let size = prop_oneof![
        Just(Size::Auto),
        (1u32..300, 1u32..300).prop_map(|(w, h)| Size::Exact(w * 16, h * 16)),
        Just(Size::Exact(1024, 1024)),
    ];
    let format = prop::option::of(prop::sample::select(vec![Format::Png, Format::Jpeg, Format::Webp, Format::Gif]));
    let words = (word(), word(), word(), word());
    let numbers = (
        prop::option::of(0u8..=110),
        prop::option::of(any::<u64>()),
        prop::option::of(0u32..50),
        prop::option::of(0u32..20),
    );
    (".{0,20}", size, format, words, numbers, any::<bool>()).prop_map(|(prompt, size, format, words, numbers, edit)| {
        ImageRequest {
            operation: if edit { Operation::Edit } else { Operation::Generate },
            size,
            output_format: format,
            quality: words.0,
            background: words.1,
            moderation: words.2,
            style: words.3,
            output_compression: numbers.0,
            seed: numbers.1,
            steps: numbers.2,
            guidance: numbers.3.and_then(|number| format!("{number}.50").parse().ok()),
            inputs: if edit { vec![input(b"x", 8, 8)] } else { Vec::new() },
            ..ImageRequest::generate(prompt)
        }
    })
}

static MODELS: LazyLock<Vec<ResolvedModel>> = LazyLock::new(|| {
    let names = [
        ("openai", "gpt-image-2.6-sunburst"),
        ("openai", "gpt-image-1.5"),
        ("openai", "dall-e-3"),
        ("openai-compatible", "anything"),
        ("sandbox", "premium"),
    ];
    names.into_iter().map(|(record, name)| model(record, name)).collect()
});

proptest! {
    #[test]
    fn fitting_twice_changes_nothing(request in any_request(), tier in prop::option::of(0usize..3)) {
        let tier = tier.map(|tier| ["draft", "standard", "premium"][tier]);
        for model in MODELS.iter() {
            if let Ok(fitted) = model.fit(&request, &none(), tier) {
                prop_assert_eq!(&model.fit(&fitted, &none(), None).unwrap(), &fitted);
                prop_assert_eq!(&model.model.fit(&fitted, &none(), None).unwrap(), &fitted);
            }
        }
    }
}

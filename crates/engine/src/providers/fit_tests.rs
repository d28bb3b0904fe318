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
    model.fit(request, &none(), None).map(|fitted| fitted.request)
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
    let quality =
        |request: &ImageRequest, tier: &str| flare().fit(request, &none(), Some(tier)).unwrap().request.quality;
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
        (&two, ImageRequest { size: at(4097, 2048), ..plain() }, "size", "at most 4096"),
        (&two, ImageRequest { size: at(8000, 8000), ..plain() }, "size", "8294400"),
        (&old, ImageRequest { size: at(3100, 1000), ..plain() }, "size", "more than 2 times"),
        (&old, ImageRequest { size: at(4096, 4096), ..plain() }, "size", "1024x1024, 1536x1024, 1024x1536"),
        (&two, ImageRequest { quality: some("max"), ..plain() }, "quality", "low, medium, high or auto"),
        (&two, ImageRequest { style: some("vivid"), ..plain() }, "style", "no style"),
        (&two, ImageRequest { output_format: Some(Format::Avif), ..plain() }, "output_format", "png, jpeg, webp"),
        (&two, ImageRequest { output_compression: Some(50), ..plain() }, "output_compression", "jpeg or webp"),
        (&two, ImageRequest { output_format: Some(Format::Gif), ..plain() }, "output_format", "png, jpeg, webp"),
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
    let fitted = newest.fit(&plain(), &fields("complexity", json!("low")), None).unwrap().request;
    assert_eq!(fitted.extras, fields("complexity", json!("low")));
    // Its default is no request either, and null is nothing.
    for value in [json!("high"), Value::Null] {
        assert_eq!(newest.fit(&plain(), &fields("complexity", value), None).unwrap().request, plain());
    }
    let template = TemplateCall { id: "card".to_owned(), version: "1".to_owned(), data: json!({}) };
    let misfit = fit(&flare(), &ImageRequest { template: Some(template), ..plain() }).unwrap_err();
    assert_eq!(misfit.param, "template");
}

/// A model of a record that is made up here, with this said of it.
fn made_up(about: &str) -> Model {
    toml::from_str(&format!("id = \"m\"\n{about}")).unwrap()
}

const RATIOS: &str = "sizes = { ratios = { list = ['1:1', '16:9', '9:16', '21:9'], \
                      tiers = { 1K = 1048576, 2K = 4194304 }, multiple_of = 16 } }";

#[test]
fn sizes_that_it_cannot_make_become_the_nearest() {
    let (two, old) = (model("openai", "gpt-image-2"), model("openai", "gpt-image-1.5"));
    let (ratios, own) = (made_up(RATIOS), made_up(""));
    for (model, asked, sent, target) in [
        (&*two, (1200, 630), "1216x640", true),
        (&*two, (1000, 1000), "1008x1008", true),
        (&*two, (1008, 1008), "1008x1008", false),
        (&*two, (4096, 2048), "3840x1920", true),
        (&*two, (3840, 3840), "2880x2880", true),
        (&*two, (1600, 160), "1600x544", true),
        (&*old, (512, 512), "1024x1024", true),
        (&*old, (1200, 630), "1536x1024", true),
        (&*old, (1024, 1536), "1024x1536", false),
        (&ratios, (1920, 1080), "2736x1536", true),
        // Which pixels a ratio gives is never quite sure.
        (&ratios, (1024, 1024), "1024x1024", true),
        (&ratios, (1000, 1050), "2048x2048", true),
        (&own, (1200, 630), "auto", true),
    ] {
        let request = ImageRequest { size: Size::Exact(asked.0, asked.1), ..plain() };
        let fitted = model.fit(&request, &none(), None).unwrap();
        assert_eq!(fitted.request.size.to_string(), sent, "{asked:?}");
        let expected = target.then_some(Target { size: Some(asked), format: None });
        assert_eq!(fitted.target, expected, "{asked:?}");
    }
    // The model's own size is known, and too small.
    let small = made_up("defaults = { size = '512x512' }");
    let misfit = fit(&small, &ImageRequest { size: Size::Exact(1025, 64), ..plain() }).unwrap_err();
    assert!(misfit.param == "size" && misfit.message.contains("2 times"), "{}", misfit.message);
    // A default is left out also where it is only the nearest.
    let sandbox = model("sandbox", "draft");
    assert_eq!(fit(&sandbox, &ImageRequest { size: Size::Exact(1024, 1024), ..plain() }).unwrap(), plain());
    let square = made_up("sizes = { list = ['1024x1024'] }\ndefaults = { size = '1024x1024' }");
    assert_eq!(fit(&square, &ImageRequest { size: Size::Exact(600, 600), ..plain() }).unwrap(), plain());
}

#[test]
fn ratios_and_resolutions_choose_a_size() {
    let (two, old) = (model("openai", "gpt-image-2"), model("openai", "gpt-image-1.5"));
    let (ratios, any, own) = (made_up(RATIOS), made_up("sizes = 'any'"), made_up(""));
    let fields = |pairs: &[(&str, &str)]| -> BTreeMap<String, Value> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    };
    let (wide, fine) = (("aspect_ratio", "16:9"), ("resolution", "2K"));
    for (model, said, sent, target) in [
        (&*two, &[wide][..], "1360x768", None),
        (&*two, &[wide, fine], "2736x1536", None),
        (&*two, &[("resolution", "4k")], "2880x2880", None),
        (&*two, &[("aspect_ratio", "auto")], "auto", None),
        (&*old, &[wide], "1536x1024", Some((1536, 864))),
        (&*old, &[("aspect_ratio", "3:2")], "1536x1024", None),
        (&ratios, &[wide], "1360x768", None),
        (&ratios, &[wide, fine], "2736x1536", None),
        (&ratios, &[fine], "2048x2048", None),
        (&ratios, &[("aspect_ratio", "2:1")], "1360x768", Some((1360, 680))),
        (&any, &[wide], "1360x768", None),
    ] {
        let fitted = model.fit(&plain(), &fields(said), None).unwrap();
        assert_eq!(fitted.request.size.to_string(), sent, "{said:?}");
        assert_eq!(fitted.target.and_then(|target| target.size), target, "{said:?}");
        assert!(fitted.request.extras.is_empty(), "{said:?}");
        // They are not part of what is sent, so they are one with the size itself.
        let exact = ImageRequest { size: fitted.request.size, ..plain() };
        assert_eq!(fit(model, &exact).unwrap(), fitted.request);
    }
    type Wrong<'a> = (&'a Model, &'a [(&'a str, &'a str)], Size, &'a str, &'a str);
    let wrong: [Wrong<'_>; 9] = [
        (&two, &[wide], Size::Exact(1024, 1024), "aspect_ratio", "is not 16:9"),
        (&two, &[fine], Size::Exact(1024, 1024), "resolution", "leave resolution out"),
        (&two, &[("aspect_ratio", "wide")], Size::Auto, "aspect_ratio", "16:9"),
        (&two, &[("aspect_ratio", "0:1")], Size::Auto, "aspect_ratio", "16:9"),
        (&two, &[("resolution", "huge")], Size::Auto, "resolution", "1K, 2K or 4K"),
        (&two, &[("resolution", "8K")], Size::Auto, "resolution", "cannot make '8K'"),
        (&old, &[fine], Size::Auto, "resolution", "1024x1536"),
        (
            &ratios,
            &[wide, ("resolution", "4K")],
            Size::Auto,
            "resolution",
            "the ratios 1:1, 16:9, 9:16, 21:9 in 1K, 2K",
        ),
        (&own, &[wide], Size::Auto, "aspect_ratio", "chooses the size itself"),
    ];
    for (model, said, size, param, says) in wrong {
        let misfit = model.fit(&ImageRequest { size, ..plain() }, &fields(said), None).unwrap_err();
        assert_eq!(misfit.param, param, "{}", misfit.message);
        assert!(misfit.message.contains(says), "{}", misfit.message);
    }
    // Saying the same twice is no contradiction, and who takes the field itself gets it.
    let both = two.fit(&ImageRequest { size: Size::Exact(1920, 1080), ..plain() }, &fields(&[wide]), None).unwrap();
    assert_eq!(both.target, Some(Target { size: Some((1920, 1080)), format: None }));
    let passes = made_up("passthrough = ['aspect_ratio']");
    let fitted = passes.fit(&plain(), &fields(&[wide]), None).unwrap();
    assert_eq!((fitted.request.extras, fitted.target), (fields(&[wide]), None));
}

#[test]
fn formats_that_it_cannot_make_are_written_here() {
    let png = made_up("output_formats = ['png']\ndefaults = { output_format = 'png' }\nbackgrounds = ['transparent']");
    let ask = |format| ImageRequest { output_format: Some(format), ..plain() };
    for format in [Format::Jpeg, Format::Webp] {
        let fitted = png.fit(&ask(format), &none(), None).unwrap();
        assert_eq!(fitted, Fitted { request: plain(), target: Some(Target { size: None, format: Some(format) }) });
    }
    assert_eq!(png.fit(&ask(Format::Png), &none(), None).unwrap(), Fitted { request: plain(), target: None });
    let clear = ImageRequest { background: some("transparent"), ..ask(Format::Jpeg) };
    assert_eq!(fit(&png, &clear).unwrap_err().param, "background");
    assert!(fit(&png, &ImageRequest { background: some("transparent"), ..ask(Format::Webp) }).is_ok());
    let packed = ImageRequest { output_compression: Some(50), ..ask(Format::Jpeg) };
    assert_eq!(fit(&png, &packed).unwrap_err().param, "output_compression");
    // What cannot be read here cannot be written anew.
    let avif = made_up("output_formats = ['avif']\ndefaults = { output_format = 'avif' }");
    assert_eq!(fit(&avif, &ask(Format::Png)).unwrap_err().param, "output_format");
    // Who chooses the format itself: it is known when it is there.
    let fitted = made_up("").fit(&ask(Format::Png), &none(), None).unwrap();
    assert_eq!(fitted.target, Some(Target { size: None, format: Some(Format::Png) }));
}

#[test]
fn words_for_quality_that_it_does_not_have_become_its_tiers() {
    let speeds = made_up(
        "qualities = ['turbo', 'balanced', 'best']\ndefaults = { quality = 'balanced' }\n\
         tiers = { draft = 'turbo', standard = 'balanced', premium = 'best' }",
    );
    for (word, quality) in
        [("low", some("turbo")), ("medium", None), ("standard", None), ("high", some("best")), ("hd", some("best"))]
    {
        let request = ImageRequest { quality: some(word), ..plain() };
        assert_eq!(fit(&speeds, &request).unwrap().quality, quality, "{word}");
        // Its own words go first: without tiers, or with other words, nothing is guessed.
        assert!(fit(&made_up("qualities = ['turbo']"), &request).is_err(), "{word}");
    }
    let misfit = fit(&speeds, &ImageRequest { quality: some("max"), ..plain() }).unwrap_err();
    assert!(misfit.message.contains("turbo, balanced, best"), "{}", misfit.message);
    let own = made_up("qualities = ['low', 'high']\ntiers = { draft = 'high' }");
    assert_eq!(fit(&own, &ImageRequest { quality: some("low"), ..plain() }).unwrap().quality, some("low"));
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
        (1u32..5000, 1u32..5000).prop_map(|(w, h)| Size::Exact(w, h)),
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
            if let Ok(Fitted { request: fitted, .. }) = model.fit(&request, &none(), tier) {
                let again = Fitted { request: fitted.clone(), target: None };
                prop_assert_eq!(&model.fit(&fitted, &none(), None).unwrap(), &again);
                prop_assert_eq!(&model.model.fit(&fitted, &none(), None).unwrap(), &again);
            }
        }
    }
}

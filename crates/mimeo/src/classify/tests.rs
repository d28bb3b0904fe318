use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{Caller, Format, ImageRequest, InputPicture, Operation, RequestId, Size};
use crate::providers::model::Bounds;

/// A call to generate from `prompt`, with everything else left out.
pub(super) fn call(prompt: &str) -> Call {
    Call::new(RequestId::from_bytes([1; 16]), Caller::local(), ImageRequest::generate(prompt))
}

fn classifier(settings: &str) -> Classifier {
    Classifier::new(&toml::from_str(settings).unwrap(), &Environment::default()).unwrap()
}

/// Without any settings. Reading the lists takes a while in debug builds, so it is done once.
static PLAIN: LazyLock<Classifier> = LazyLock::new(|| classifier(""));

fn read(prompt: &str) -> Reading {
    PLAIN.read(&call(prompt))
}

/// A picture with the bytes of a white one with a dark square in it.
pub(super) fn square() -> Picture {
    let pixels: Vec<u8> = (0..128_usize * 128)
        .map(|at| if (40..90).contains(&(at % 128)) && (40..90).contains(&(at / 128)) { 60 } else { 255 })
        .collect();
    let mut bytes = Vec::new();
    let encoder = png::Encoder::new(&mut bytes, 128, 128);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    crate::media::examine(Bytes::from(bytes)).unwrap()
}

pub(super) fn edit(prompt: &str, picture: Picture) -> Call {
    let mut call = call(prompt);
    call.request.operation = Operation::Edit;
    call.request.inputs.push(InputPicture { picture, file_name: None });
    call
}

#[test]
fn what_is_easy_and_what_is_not() {
    for (prompt, category, background, half) in [
        ("White ceramic mug on a white background", "product", Background::Plain, true),
        ("a mug on a rustic wooden table", "product", Background::Complex, false),
        ("a glass bottle on a white background", "glass", Background::Plain, false),
        ("portrait of a woman, white background", "people", Background::Plain, false),
        ("a mug, white background, no people", "product", Background::Plain, true),
        ("logo for a bakery", "logo", Background::Plain, true),
        ("mountains at dawn", "landscape", Background::Complex, false),
        ("Bürostuhl vor weißem Hintergrund", "furniture", Background::Plain, true),
        ("", "other", Background::Unknown, false),
    ] {
        let reading = read(prompt);
        assert_eq!((reading.category.as_str(), reading.background), (category, background), "{prompt}: {reading:?}");
        assert_eq!(reading.share() < 0.51, half, "{prompt}: {reading:?}");
        assert_eq!((reading.purpose, reading.source), (Purpose::Standard, Source::Classifier), "{prompt}");
    }
}

#[test]
fn size_and_words_say_the_purpose_and_the_caller_knows_better() {
    let classifier = classifier("");
    let of = |prompt: &str, size: Size| {
        let mut call = call(prompt);
        call.request.size = size;
        classifier.read(&call).purpose
    };
    assert_eq!(of("a kite", Size::Exact(256, 256)), Purpose::Thumbnail);
    assert_eq!(of("a kite", Size::Exact(1792, 1024)), Purpose::Hero);
    assert_eq!(of("a kite", Size::Exact(1024, 1792)), Purpose::Standard);
    assert_eq!(of("rough sketch of a kite", Size::Exact(1792, 1024)), Purpose::Draft);
    assert_eq!(of("a kite", Size::Auto), Purpose::Standard);
    let mut said = call("hero banner with a kite");
    said.quality_tier = Some("draft".into());
    assert_eq!(classifier.read(&said).purpose, Purpose::Draft);
    said.purpose = Some("og".into());
    said.category = Some("glass".into());
    let reading = classifier.read(&said);
    assert_eq!((&reading.purpose, reading.category.as_str()), (&Purpose::Other("og".into()), "glass"));
    assert!(reading.complexity >= weigh::FULL, "what the caller says counts for the complexity, too: {reading:?}");
    assert_eq!(reading.source, Source::Caller);
}

#[test]
fn rules_go_before_words_and_callers_before_rules() {
    let classifier = classifier(
        "[[rules]]\nname = 'bottles'\nwhen = { prompt_matches = ['bottle*'] }\ncategory = 'glass'\nsteps = 40\n\
         [[rules]]\nwhen = { prompt_matches = ['mug'] }\npurpose = 'tile'\nbackground = 'plain'\ncomplexity = 0.5\n",
    );
    let bottle = classifier.read(&call("plastic bottles on white"));
    assert_eq!((bottle.category.as_str(), bottle.steps), ("glass", Some(40)));
    assert_eq!(bottle.source, Source::Rule("bottles".into()));
    assert!(bottle.complexity >= weigh::FULL, "a category brings its effort with it: {bottle:?}");
    assert_eq!(bottle.steps(Bounds { min: 1, max: 30 }, None), 30);
    let mug = classifier.read(&call("a mug in the woods"));
    assert_eq!(
        (&mug.purpose, mug.background, mug.complexity),
        (&Purpose::Other("tile".into()), Background::Plain, 0.5)
    );
    assert_eq!(mug.source.name(), "rule rule 2");
    let mut said = call("a mug");
    said.purpose = Some("draft".into());
    assert_eq!(classifier.read(&said).purpose, Purpose::Draft);
}

#[test]
fn the_picture_says_what_the_words_leave_open() {
    let classifier = classifier("");
    let reading = classifier.read(&edit("make it blue", square()));
    assert_eq!(reading.background, Background::Plain, "{reading:?}");
    let elsewhere = classifier.read(&edit("put it into a forest", square()));
    assert_eq!(elsewhere.background, Background::Complex, "words that say more count: {elsewhere:?}");
    let whole = square();
    let cut = whole.bytes.slice(..whole.bytes.len() / 2);
    for bytes in [cut, Bytes::new(), Bytes::from_static(b"\x89PNG\r\n\x1a\n")] {
        let digest = Digest::of(&bytes);
        let broken = Picture { bytes, digest, format: Format::Png, width: 128, height: 128 };
        let reading = classifier.read(&edit("make it blue", broken));
        assert_eq!(reading.background, Background::Unknown, "{reading:?}");
    }
}

#[tokio::test]
async fn waiting_and_not_waiting_read_the_same() {
    let (one, other) = (classifier(""), classifier(""));
    for call in [call("a cat on a sofa"), edit("make it blue", square())] {
        let waited = one.read_with_endpoint(&call).await;
        assert_eq!(waited, other.read(&call));
        assert_eq!(waited, one.read(&call), "remembered");
    }
}

#[test]
fn turned_off_it_saves_nothing_and_believes_the_caller() {
    let classifier = classifier("enabled = false");
    let mut call = edit("a mug on a white background", square());
    let reading = classifier.read(&call);
    assert_eq!((reading.category.as_str(), reading.share()), ("other", 1.0));
    call.category = Some("glass".into());
    assert_eq!(classifier.read(&call).category, "glass");
    assert_eq!(classifier.looks.len(), 0, "no picture was looked at");
}

#[test]
fn faults_are_told() {
    let settings = toml::from_str(
        "endpoint = { url = 'http://models.example.com/v1', model = 'm', api_key = { env = 'K' } }\n\
         [[rules]]\nwhen = { prompt_matches = ['*'] }\nsteps = 1",
    );
    let environment: Environment = [("K".to_owned(), "sk-1x7".to_owned())].into_iter().collect();
    let faults = Classifier::new(&settings.unwrap(), &environment).unwrap_err().join("\n");
    assert!(faults.contains("without TLS") && faults.contains("rule 1") && !faults.contains("1x7"), "{faults}");
    let settings = toml::from_str("endpoint = { url = 'https://h/v1', model = 'm', api_key = { env = 'K' } }").unwrap();
    let faults = Classifier::new(&settings, &Environment::default()).unwrap_err();
    assert_eq!(faults, ["endpoint.api_key: the environment variable K is not set"]);
}

#[test]
fn reasons_do_not_repeat_the_prompt() {
    let reading = read("Mrs Windermere's secret mug of Aunt Agatha, \"hunter2\", on white");
    let told = format!("{reading:?}").to_lowercase();
    assert!(told.contains("mug"), "{told}");
    for word in ["windermere", "agatha", "hunter2", "secret"] {
        assert!(!told.contains(word), "{told}");
    }
}

#[test]
fn giant_prompts_are_read_as_far_as_they_are_read() {
    let classifier =
        classifier("[[rules]]\nwhen = { prompt_matches = ['nowhere*to*be*found', 'not there'] }\nsteps = 3");
    let head = "a mug on a white background, ";
    for filler in ["mug ", "no ", "\"", "„", "«", "a", "ʻ", "😀", "ß ", "İ", "\n", "glass glass ", "\u{301}"] {
        let giant = format!("{head}{}", filler.repeat(4_000_000 / filler.len()));
        let (one, other) = (classifier.read(&call(&giant)), classifier.read(&call(&giant)));
        assert_eq!(one, other);
        assert!(one.why.iter().map(String::len).sum::<usize>() < 4_000, "{filler}");
    }
    let all_of_it = format!("{head}{} a woman", "x ".repeat(100_000));
    assert_eq!(read(&all_of_it).category, "product", "what stands after so much is not read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_and_always_the_same_way(prompt in "\\PC{0,300}", width in 1_u32..5000, height in 1_u32..5000) {
        let mut call = call(&prompt);
        call.request.size = Size::Exact(width, height);
        let reading = PLAIN.read(&call);
        prop_assert_eq!(&reading, &PLAIN.read(&call));
        prop_assert!((0.0..=1.0).contains(&reading.complexity));
        let share = reading.share();
        prop_assert!((0.5..=1.0).contains(&share));
        for (min, max, default) in [(1, 50, Some(28)), (1, 150, None), (1, 4, Some(4)), (15, 50, None), (7, 7, Some(30))] {
            let steps = reading.steps(Bounds { min, max }, default);
            prop_assert!((min..=max).contains(&steps));
            prop_assert!(steps <= default.unwrap_or(50).clamp(min, max), "never more than full quality takes");
        }
    }

    #[test]
    fn words_of_the_lists_in_any_order_are_read(words in prop::collection::vec(0_usize..2_000, 0..40)) {
        let all: Vec<&str> = include_str!("words.toml").split('"').skip(1).step_by(2).collect();
        let prompt: Vec<&str> = words.iter().filter_map(|word| all.get(*word).copied()).collect();
        let reading = read(&prompt.join(" "));
        prop_assert!((0.0..=1.0).contains(&reading.complexity));
        prop_assert!(!reading.category.is_empty());
    }

    #[test]
    fn damaged_pictures_never_stop_it(at in 0_usize..400, byte: u8) {
        let mut bytes = square().bytes.to_vec();
        let place = at % bytes.len();
        bytes[place] = byte;
        let bytes = Bytes::from(bytes);
        let picture = Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 128, height: 128 };
        let reading = PLAIN.read(&edit("make it blue", picture));
        prop_assert!((0.0..=1.0).contains(&reading.complexity));
    }
}

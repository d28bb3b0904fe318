use super::*;
use crate::domain::Certainty;
use crate::pricing::compare;
use crate::pricing::sheet::{Form, Mapping};

fn origin() -> Origin {
    Origin { certainty: Certainty::Reported, source: "a sheet".to_owned(), as_of: None }
}

fn quotes(text: &str, form: Form, mapping: Option<&Mapping>) -> Quotes {
    let sheet = Sheet::read(text, form, mapping).unwrap();
    Catalogue::embedded().quotes(&sheet, &origin(), "2026-11-21".parse().unwrap())
}

fn litellm() -> Quotes {
    quotes(include_str!("../../../../tests/sheets/litellm.json"), Form::Litellm, None)
}

fn why<'q>(quotes: &'q Quotes, name: &str) -> &'q str {
    &quotes.left_out.iter().find(|left| left.name == name).unwrap_or_else(|| panic!("{name}: {quotes:#?}")).why
}

/// By how much a model's rates differ from the known ones, in ten-thousandths.
fn differences(quotes: &Quotes, provider: &str, model: &str) -> Vec<(String, Option<i128>)> {
    let quoted = quotes.quoted.iter().find(|quoted| quoted.provider == provider && quoted.model == model);
    let quoted = quoted.unwrap_or_else(|| panic!("{provider}/{model}: {quotes:#?}"));
    let terms = compare::terms(quoted.known.as_ref().unwrap(), &quoted.said);
    terms.into_iter().map(|term| (term.of.clone(), term.difference())).collect()
}

#[test]
fn names_of_a_sheet_find_their_models() {
    let quotes = litellm();
    assert_eq!(differences(&quotes, "bfl", "flux-kontext-pro"), [("picture".to_owned(), Some(0))]);
    assert_eq!(differences(&quotes, "bfl", "flux-kontext-max"), [("picture".to_owned(), Some(-2500))]);
    let tokens = differences(&quotes, "openai", "gpt-image-2");
    assert!(tokens.contains(&("token of a picture made".to_owned(), Some(1000))), "{tokens:?}");
    assert!(tokens.contains(&("token of text sent".to_owned(), Some(0))), "{tokens:?}");
    assert!(
        quotes.quoted.iter().any(|quoted| quoted.model == "imagen-4.0-generate-001" && quoted.provider == "vertex")
    );
    assert!(why(&quotes, "nscale/black-forest-labs/FLUX.1-schnell").contains("no record of the catalogue is nscale"));
    assert!(why(&quotes, "gpt-image-1").contains("no such model that is served"));
    assert!(why(&quotes, "black_forest_labs/flux-2-pro").contains("known price per megapixel"));
}

#[test]
fn punctuation_and_prefixes_do_not_matter() {
    let quotes = quotes(include_str!("../../../../tests/sheets/openrouter.json"), Form::Openrouter, None);
    let found: Vec<_> = quotes.quoted.iter().map(|quoted| format!("{}/{}", quoted.provider, quoted.model)).collect();
    assert!(found.contains(&"gemini/gemini-3-pro-image".to_owned()), "{found:?}");
    assert!(found.contains(&"openai/gpt-image-2".to_owned()), "{found:?}");
    // Found by its name, but tokens say nothing of megapixels.
    assert!(why(&quotes, "black-forest-labs/flux.2-pro").starts_with("bfl/flux-2-pro: it is priced per token"));
}

#[test]
fn whose_price_it_is_must_be_clear() {
    let mapping = Mapping::of(["model=m", "price=p"]).unwrap();
    let text = "m,p\ngpt-image-2,0.1\nflux-kontext-pro,0.1\nflux-3-image,0.05\nnothing-like-it,1\n";
    let quotes = quotes(text, Form::Csv, Some(&mapping));
    assert!(why(&quotes, "flux-kontext-pro").contains("whose price"), "{quotes:#?}");
    assert!(why(&quotes, "nothing-like-it").contains("no such model"));
}

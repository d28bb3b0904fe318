use super::*;
use crate::domain::{Certainty, Size, Usd};
use crate::pricing::{ImageRate, Prices, Rates};

const LITELLM: &str = include_str!("../../../../../tests/sheets/litellm.json");
const OPENROUTER: &str = include_str!("../../../../../tests/sheets/openrouter.json");
const CSV: &str = include_str!("../../../../../tests/sheets/prices.csv");

fn row<'s>(sheet: &'s Sheet, provider: &str, model: &str) -> &'s Row {
    let is_meant = |row: &&Row| row.provider.as_deref() == Some(provider) && row.model == model;
    sheet.rows.iter().find(is_meant).unwrap_or_else(|| panic!("no {provider} {model} in {sheet:#?}"))
}

fn usd(text: &str) -> Option<Usd> {
    Some(text.parse().unwrap())
}

fn why<'s>(sheet: &'s Sheet, name: &str) -> &'s str {
    &sheet.left_out.iter().find(|left| left.name == name).unwrap_or_else(|| panic!("{name} was read")).why
}

fn origin() -> Origin {
    Origin { certainty: Certainty::Reported, source: "a sheet".to_owned(), as_of: "2026-11-21".parse().ok() }
}

#[test]
fn forms_are_told_by_their_looks() {
    assert_eq!(Form::of(LITELLM), Form::Litellm);
    assert_eq!(Form::of(&format!("\u{feff}{OPENROUTER}")), Form::Openrouter);
    assert_eq!(Form::of(" [{}]"), Form::Json);
    assert_eq!(Form::of(CSV), Form::Csv);
    for form in [Form::Litellm, Form::Openrouter, Form::Json, Form::Csv] {
        assert_eq!(form.to_string().parse(), Ok(form));
    }
    assert!("xml".parse::<Form>().unwrap_err().contains("openrouter"));
}

#[test]
fn litellm_is_read_to_the_digit() {
    let sheet = Sheet::read(LITELLM, Form::Litellm, None).unwrap();
    let tokens = &row(&sheet, "openai", "gpt-image-2").quote;
    assert_eq!([tokens.text_input, tokens.image_input], [usd("0.000005"), usd("0.000008")]);
    assert_eq!([tokens.text_output, tokens.image_output], [usd("0.00001"), usd("0.000033")]);
    assert!(tokens.images.is_empty());
    // A size and a quality in the name, a price per pixel: the picture's price, and nothing of the plain entry's.
    let by_size = &row(&sheet, "openai", "dall-e-3").quote;
    let image = |text: &str, quality: &str, width, height| ImageRate {
        usd: text.parse().unwrap(),
        size: Some(Size::Exact(width, height)),
        quality: Some(quality.to_owned()),
        max_pixels: None,
    };
    let expected = [image("0.11999117312", "hd", 1024, 1792), image("0.039999923815", "standard", 1024, 1024)];
    assert_eq!(by_size.images, expected);
    // One entry of tokens, one of a size: both are told.
    let both = &row(&sheet, "openai", "gpt-image-1");
    assert_eq!(
        (both.name.as_str(), both.quote.images.len(), both.quote.image_output),
        ("gpt-image-1", 1, usd("0.00004"))
    );
    let megapixel = row(&sheet, "nscale", "black-forest-labs/FLUX.1-schnell").quote.megapixel.unwrap();
    assert_eq!((Some(megapixel.usd), megapixel.pixels), (usd("0.0013"), 1_000_000));
    assert!(why(&sheet, "azure/standard/1024-x-1024/dall-e-2").contains("free"));
    assert!(why(&sheet, "1024-x-1024/50-steps/stability.stable-diffusion-xl-v1").contains("steps"));
    assert!(why(&sheet, "dashscope/qwen-image-2.0").contains("no price"));
    assert_eq!(sheet.others, 2);
    // Seventeen entries, of which three say more of a model that another names.
    assert_eq!(sheet.rows.len() + sheet.left_out.len() + sheet.others, 17 - 3);
    assert!(Sheet::read("[]", Form::Litellm, None).is_err());
}

#[test]
fn openrouter_is_read_from_its_texts() {
    let sheet = Sheet::read(OPENROUTER, Form::Openrouter, None).unwrap();
    let nano = &row(&sheet, "google", "gemini-3-pro-image").quote;
    assert_eq!(
        [nano.text_input, nano.text_output, nano.image_output],
        [usd("0.0000003"), usd("0.0000025"), usd("0.00003")]
    );
    // What a picture costs that is sent is not what one costs that is made.
    assert_eq!((nano.image_input, nano.images.len()), (None, 0));
    assert_eq!(row(&sheet, "openai", "gpt-image-2").quote.text_output, None);
    assert_eq!(row(&sheet, "black-forest-labs", "flux.2-pro").quote.image_output, usd("0.000019161677"));
    assert!(why(&sheet, "router/auto").contains("no fixed price"));
    assert!(why(&sheet, "acme/per-request").contains("per request"));
    assert!(why(&sheet, "acme/silent").contains("no price"));
    assert_eq!((sheet.rows.len(), sheet.others), (3, 1));
    assert!(Sheet::read("{\"models\":[]}", Form::Openrouter, None).is_err());
}

#[test]
fn csv_is_read_by_a_mapping() {
    let mapping =
        Mapping::of(["provider=Vendor", "model=model", "unit=Unit", "price=Price (USD)", "quality=Quality"]).unwrap();
    let sheet = Sheet::read(CSV, Form::Csv, Some(&mapping)).unwrap();
    assert_eq!(row(&sheet, "bfl", "flux-kontext-pro").quote.images[0].usd, "0.05".parse().unwrap());
    // Several rows of one model are one quote.
    let tokens = &row(&sheet, "openai", "gpt-image-2").quote;
    assert_eq!([tokens.text_input, tokens.image_output], [usd("0.000004"), usd("0.00003")]);
    assert_eq!(sheet.rows.iter().filter(|row| row.provider.is_none()).count(), 1);
    assert!(why(&sheet, "row 7: flux-pro-1.1").contains("no amount"));
    assert!(why(&sheet, "row 8: flux-pro-1.1-ultra").contains("free"));
    let wrong = Mapping { price: "Cost".to_owned(), ..mapping };
    assert!(Sheet::read(CSV, Form::Csv, Some(&wrong)).unwrap_err().0.contains("Price (USD)"));
    assert!(Sheet::read(CSV, Form::Csv, None).unwrap_err().0.contains("mapping"));
    assert!(Mapping::of(["model=Model"]).unwrap_err().contains("price="));
    // What is no table is told in few words.
    let page = format!("<html>{}", "welcome ".repeat(10_000));
    let why = Sheet::read(&page, Form::Csv, Some(&wrong)).unwrap_err().0;
    assert!(why.contains("there are <html>welcome") && why.len() < 200, "{why}");
    assert_eq!(Sheet::read("\n", Form::Csv, Some(&wrong)).unwrap_err().0, "it is empty");
}

#[test]
fn json_is_read_by_a_mapping() {
    let text = r#"{ "list": { "paint": { "cost": { "usd": 15e6 }, "res": "512x512" }, "draw": { "cost": {} }, "ink": { "cost": { "usd": "3" }, "res": "big" } } }"#;
    let mapping =
        Mapping::of(["rows=/list", "model=@key", "price=cost.usd", "per==1000000000", "size=res", "provider==acme"]);
    let sheet = Sheet::read(text, Form::Json, Some(&mapping.unwrap())).unwrap();
    let paint = &row(&sheet, "acme", "paint").quote.images[0];
    assert_eq!((paint.usd, paint.size), ("0.015".parse().unwrap(), Some(Size::Exact(512, 512))));
    assert!(why(&sheet, "row 1: draw").contains("no price"));
    assert!(why(&sheet, "row 2: ink").contains("no size"));
    let list = Mapping::of(["model=0", "price=1", "unit==megapixel"]).unwrap();
    let sheet = Sheet::read("[[\"a\", 0.1], [\"b\"]]", Form::Json, Some(&list)).unwrap();
    assert_eq!(sheet.rows[0].quote.megapixel, Some(PerMegapixel { usd: "0.1".parse().unwrap(), pixels: 1 << 20 }));
    assert!(Sheet::read("[]", Form::Json, Some(&Mapping { rows: "x".to_owned(), ..list })).is_err());
    assert!(Mapping::of(["colour=red"]).unwrap_err().contains("quality"));
    assert!(Mapping::of(["model"]).unwrap_err().contains("KEY=PLACE"));
}

fn known(rates: &str) -> Prices {
    toml::from_str(&format!(
        "certainty = \"verified\"\nsource = \"x\"\nbatch_permille = 500\n\
         tiers = [{{ after_pictures = 10, permille = 900 }}]\n[rates]\n{rates}"
    ))
    .unwrap()
}

#[test]
fn a_quote_is_laid_over_what_is_known() {
    let tokens = known(
        "tokens = { text_input = \"0.000005\", image_input = \"0.000008\", image_output = \"0.00003\", text_output = \"0.00001\", \
         input_picture_tokens = 100, auto_sizes = [\"8x8\"], output = { pixels = [{ max_pixels = 64, tokens = 9 }] } }",
    );
    let quote = Quote { image_output: usd("0.00004"), text_input: usd("0.000006"), ..Quote::default() };
    let said = quote.prices(Some(&tokens), &origin()).unwrap();
    let (Rates::Tokens(now), Rates::Tokens(before)) = (&said.rates, &tokens.rates) else { panic!("tokens") };
    assert_eq!(Some(now.image_output), usd("0.00004"));
    assert_eq!(
        (now.text_output, now.image_input, &now.output),
        (before.text_output, before.image_input, &before.output)
    );
    // Discounts of the account are not the sheet's subject.
    assert_eq!((said.batch_permille, said.tiers.len(), said.certainty), (Some(500), 1, Certainty::Reported));
    // The same pixels, counted by another megapixel.
    let megapixel = known("megapixel = { usd = \"0.01\" }");
    let decimal =
        Quote { megapixel: Some(PerMegapixel { usd: "1".parse().unwrap(), pixels: 1_000_000 }), ..Quote::default() };
    let Rates::Megapixel(rate) = decimal.prices(Some(&megapixel), &origin()).unwrap().rates else {
        panic!("megapixel")
    };
    assert_eq!(Some(rate.usd), usd("1.048576"));
}

#[test]
fn a_coarser_quote_is_no_price() {
    let flat = Quote {
        images: vec![ImageRate { usd: "0.04".parse().unwrap(), size: None, quality: None, max_pixels: None }],
        ..Quote::default()
    };
    for (rates, says) in [
        ("image = [{ usd = \"0.01\", quality = \"low\" }, { usd = \"0.04\" }]", "size or quality"),
        ("megapixel = { usd = \"0.01\" }", "known price per megapixel"),
        ("step = { usd = \"0.01\" }", "known price per step"),
    ] {
        assert!(flat.prices(Some(&known(rates)), &origin()).unwrap_err().contains(says), "{rates}");
    }
    let tokens = Quote { image_output: usd("0.00004"), ..Quote::default() };
    assert!(tokens.prices(None, &origin()).unwrap_err().contains("how many"));
    assert!(flat.prices(None, &origin()).is_ok());
    let both = Quote { images: flat.images.clone(), ..tokens };
    assert!(both.prices(None, &origin()).unwrap_err().contains("one size"));
}

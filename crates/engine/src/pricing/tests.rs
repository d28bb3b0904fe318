use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::Usage;

fn rates(base: &[(&str, u32)], factor: &[(&str, u32)]) -> TokenRates {
    let map = |pairs: &[(&str, u32)]| -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    };
    TokenRates {
        text_input: "0.000005".parse().unwrap(),
        image_input: "0.000008".parse().unwrap(),
        image_output: "0.00003".parse().unwrap(),
        text_output: None,
        input_picture_tokens: 7500,
        partial_tokens: 100,
        text_output_tokens: 0,
        output: OutputTokens::Area { base: map(base), factor: map(factor) },
        auto_sizes: vec![Size::Exact(1024, 1024), Size::Exact(1536, 1024), Size::Exact(1024, 1536)],
        unpriced_formats: vec![Format::Gif],
    }
}

mod units;
mod versions;

fn prices(rates: TokenRates) -> Prices {
    Prices { rates: Rates::Tokens(Box::new(rates)), ..Prices::flat(Usd::ZERO) }
}

const BASE_2_5: &[(&str, u32)] = &[("low", 16), ("medium", 24), ("high", 48), ("xhigh", 64), ("max", 96)];
const BASE_2: &[(&str, u32)] = &[("low", 16), ("medium", 48), ("high", 96)];

fn wanted(size: Size, quality: Option<&str>) -> Wanted<'_> {
    Wanted { size, quality, output_format: None, text_bytes: 0, inputs: &[], steps: None, n: 1, partials: 0 }
}

fn made(pictures: usize, usage: Option<Usage>) -> Generated {
    Generated { pictures: vec![Bytes::new(); pictures], usage, billed: None, revised_prompt: None }
}

#[test]
fn the_published_token_counts() {
    let count = |bases: &[(&str, u32)], width, height| -> Vec<u64> {
        bases.iter().map(|(_, base)| area_tokens(*base, width, height)).collect()
    };
    assert_eq!(count(BASE_2_5, 1024, 1024), [196, 439, 1756, 3122, 7024]);
    assert_eq!(count(BASE_2_5, 1536, 1024), [158, 343, 1372, 2459, 5488]);
    assert_eq!(count(BASE_2_5, 1024, 1536), [158, 343, 1372, 2459, 5488]);
    assert_eq!(count(BASE_2_5, 2048, 2048), [397, 892, 3568, 6343, 14272]);
    assert_eq!(count(BASE_2_5, 3840, 2160), [371, 865, 3336, 5930, 13342]);
    assert_eq!(count(BASE_2, 1024, 1024), [196, 1756, 7024]);
    assert_eq!(count(BASE_2, 2048, 2048), [397, 3568, 14272]);
    assert_eq!(count(BASE_2, 3840, 2160), [371, 3336, 13342]);
}

#[test]
fn the_published_prices_per_picture() {
    let prices = prices(rates(BASE_2_5, &[]));
    let size = Size::Exact(1024, 1024);
    for (quality, output_image, usd) in [
        ("low", 196, "0.00588"),
        ("medium", 439, "0.01317"),
        ("high", 1756, "0.05268"),
        ("xhigh", 3122, "0.09366"),
        ("max", 7024, "0.21072"),
    ] {
        let usage = Usage { output_image, ..Usage::default() };
        let bill = prices.billed(&wanted(size, Some(quality)), &made(1, Some(usage)));
        assert_eq!(bill, Price::Known(usd.parse().unwrap()), "{quality}");
    }
}

#[test]
fn halves_go_to_the_even_number() {
    // 16 · 2 / 64 = 0.5 → 0; 16 · 6 / 64 = 1.5 → 2; 16 · 10 / 64 = 2.5 → 2.
    assert_eq!([2, 6, 10].map(|short| round_of(16 * short, 64)), [0, 2, 2]);
}

fn round_of(dividend: u32, divisor: u32) -> u64 {
    // Seen through the formula: base = dividend along a strip of 1 × divisor.
    let tokens = area_tokens(dividend, 1, divisor);
    let area = 2_000_000 + u64::from(divisor);
    (0..100).find(|short| (u64::from(dividend) * short * area).div_ceil(4_000_000) == tokens).unwrap()
}

#[test]
fn what_the_model_may_choose_is_priced_as_the_dearest() {
    let prices = prices(rates(BASE_2_5, &[]));
    let auto = prices.expected(&wanted(Size::Auto, None));
    // 7024 tokens and the framing of an empty prompt.
    assert_eq!(auto, Price::Known("0.21104".parse().unwrap()));
    assert_eq!(
        prices.expected(&wanted(Size::Auto, Some("low"))),
        prices.expected(&wanted(Size::Exact(1024, 1024), Some("low")))
    );
}

#[test]
fn what_nobody_priced_is_unknown() {
    let tokens = prices(rates(BASE_2, &[]));
    assert_eq!(tokens.expected(&wanted(Size::Auto, Some("xhigh"))), Price::Unknown);
    assert_eq!(
        tokens.expected(&Wanted { output_format: Some(Format::Gif), ..wanted(Size::Auto, None) }),
        Price::Unknown
    );
    let rows = Prices {
        rates: Rates::Image(vec![ImageRate {
            usd: "0.04".parse().unwrap(),
            size: Some(Size::Exact(8, 8)),
            quality: None,
            max_pixels: None,
        }]),
        ..Prices::flat(Usd::ZERO)
    };
    assert_eq!(rows.expected(&wanted(Size::Exact(9, 9), None)), Price::Unknown);
    assert_eq!(rows.expected(&wanted(Size::Auto, None)), Price::Known("0.04".parse().unwrap()));
}

#[test]
fn per_picture_the_pictures_that_came_are_billed() {
    let flat = Prices::flat("0.0008".parse().unwrap());
    let four = Wanted { n: 4, ..wanted(Size::Auto, None) };
    assert_eq!(flat.expected(&four), Price::Known("0.0032".parse().unwrap()));
    assert_eq!(flat.billed(&four, &made(3, None)), Price::Known("0.0024".parse().unwrap()));
}

#[test]
fn the_providers_own_bill_goes_first() {
    let stated = Generated { billed: Some("0.5".parse().unwrap()), ..made(1, None) };
    let flat = Prices::flat("0.0008".parse().unwrap());
    assert_eq!(flat.billed(&wanted(Size::Auto, None), &stated), Price::Known("0.5".parse().unwrap()));
}

#[test]
fn without_usage_the_reservation_stands() {
    let prices = prices(rates(BASE_2_5, &[]));
    let call = wanted(Size::Exact(1024, 1024), Some("low"));
    assert_eq!(prices.billed(&call, &made(1, None)), prices.expected(&call));
    assert_eq!(prices.billed(&call, &made(1, Some(Usage::default()))), prices.expected(&call));
}

#[test]
fn contradictions_are_named() {
    assert!(prices(rates(&[], &[])).fault().unwrap().contains("of no picture"));
    assert!(prices(TokenRates { auto_sizes: vec![], ..rates(BASE_2, &[]) }).fault().unwrap().contains("auto_sizes"));
    assert!(Prices::flat("-1".parse().unwrap()).fault().unwrap().contains("negative"));
    assert_eq!(prices(rates(BASE_2, &[])).fault(), None);
}

proptest! {
    #[test]
    fn a_bill_by_the_formula_is_within_the_reservation(
        prompt in ".{0,200}",
        quality in 0usize..6,
        width in 1u32..=240,
        height in 1u32..=240,
        auto in any::<bool>(),
        n in 1u32..=10,
        partials in 0u8..=3,
        inputs in 0usize..=16,
    ) {
        let rates = rates(BASE_2_5, &[("low", 4), ("medium", 4)]);
        let quality = BASE_2_5.get(quality).map(|(name, _)| *name);
        let size = if auto { Size::Auto } else { Size::Exact(width * 16, height * 16) };
        let areas = vec![1024 * 1024; inputs];
        let text_bytes = prompt.len();
        let call = Wanted { size, quality, output_format: None, text_bytes, inputs: &areas, steps: None, n, partials };
        // What the vendor would report: four characters per token, any choice for what was left open.
        let (width, height) = if auto { (1024, 1024) } else { (width * 16, height * 16) };
        let base = BASE_2_5.iter().find(|(name, _)| Some(*name) == quality).map_or(96, |(_, base)| *base);
        let factor = if matches!(quality, Some("low" | "medium")) { 4 } else { 1 };
        let n64 = u64::from(n);
        let usage = Usage {
            input_text: n64 * (prompt.chars().count() as u64).div_ceil(4),
            input_image: n64 * inputs as u64 * 1024,
            output_text: 0,
            output_image: n64 * (area_tokens(base, width, height) * factor + 100 * u64::from(partials)),
        };
        let prices = prices(rates);
        let (Price::Known(billed), Price::Known(expected)) =
            (prices.billed(&call, &made(n as usize, Some(usage))), prices.expected(&call))
        else { panic!("both are known") };
        prop_assert!(billed <= expected, "{billed} > {expected}");
    }
}

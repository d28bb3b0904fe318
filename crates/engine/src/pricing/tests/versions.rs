//! Versions, volume tiers and batches.

use super::*;
use crate::domain::Usd;

const RATES: [&str; 6] = [
    "image = [{ usd = \"0.04\" }, { usd = \"0.0333\", quality = \"low\" }]",
    "tokens = { text_input = \"0.000005\", image_input = \"0.000008\", image_output = \"0.00003\", text_output = \"0.00001\", \
     input_picture_tokens = 100, auto_sizes = [\"1024x1024\"], output = { pixels = [{ max_pixels = 4194304, tokens = 1680 }] } }",
    "megapixel = { usd = \"0.015\", first = \"0.03\", input = \"0.015\" }",
    "step = { usd = \"0.00011\", tile = { usd = \"0.000053\", edge = 512 } }",
    "second = { usd = \"0.000975\", most_s = 60 }",
    "credit = { usd = \"0.01\", image = [{ credits = \"6.5\" }] }",
];

fn stated(more: &str, rates: &str) -> Prices {
    toml::from_str(&format!("certainty = \"verified\"\nsource = \"a test\"\n{more}\n[rates]\n{rates}")).unwrap()
}

fn usd(price: Price) -> Usd {
    price.known().unwrap()
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

#[test]
fn of_several_versions_the_last_that_has_begun_holds() {
    let always = stated("", RATES[0]);
    let summer = stated("from = \"2026-07-01\"", RATES[0]);
    let autumn = stated("from = \"2026-10-01\"", RATES[0]);
    let versions = [&autumn, &always, &summer];
    let from = |on: &str| Prices::in_force(versions, day(on)).unwrap().from;
    assert_eq!(from("2026-06-30"), None);
    assert_eq!(from("2026-07-01"), Some(day("2026-07-01")));
    assert_eq!(from("2026-09-30"), Some(day("2026-07-01")));
    assert_eq!(from("2027-01-01"), Some(day("2026-10-01")));
    // What has not begun is no price, and certainly not a free one.
    assert_eq!(Prices::in_force([&summer], day("2026-06-30")), None);
}

#[test]
fn a_tier_holds_for_what_comes_after_it() {
    let tiers = "tiers = [{ after_pictures = 1000, permille = 900 }, { after_pictures = 5000, permille = 700 }]";
    let prices = stated(tiers, RATES[0]);
    let call = wanted(Size::Auto, Some("low"));
    for (pictures, cost) in [(0, "0.0333"), (999, "0.0333"), (1000, "0.02997"), (4999, "0.02997"), (5000, "0.02331")] {
        // The row itself: the dearer one holds for every quality.
        let Rates::Image(rows) = &prices.after(pictures).rates else { panic!("per picture") };
        assert_eq!(rows[1].usd, cost.parse().unwrap(), "{pictures}");
    }
    let discounted = prices.after(1000);
    assert_eq!(usd(discounted.expected(&call)), "0.036".parse().unwrap());
    // Nothing is taken off twice.
    assert_eq!(discounted.after(5000), discounted);
}

#[test]
fn a_batch_costs_its_part_in_every_unit() {
    for rates in RATES {
        let prices = stated("batch_permille = 500", rates);
        let call = Wanted { steps: Some(4), inputs: &[1 << 20], ..wanted(Size::Exact(1024, 1024), None) };
        let batch = prices.batched().unwrap();
        assert_eq!(usd(batch.expected(&call)) * 2, usd(prices.expected(&call)), "{rates}");
        assert_eq!(batch.batched(), None);
    }
    assert_eq!(stated("", RATES[0]).batched(), None);
}

#[test]
fn what_is_written_is_read_again() {
    let more = "from = \"2026-07-01\"\nas_of = \"2026-06-01\"\nbatch_permille = 500\n\
                tiers = [{ after_pictures = 10, permille = 900 }]";
    for rates in RATES {
        let prices = stated(more, rates);
        assert_eq!(toml::from_str::<Prices>(&toml::to_string(&prices).unwrap()).unwrap(), prices, "{rates}");
        assert_eq!(serde_json::from_str::<Prices>(&serde_json::to_string(&prices).unwrap()).unwrap(), prices);
    }
}

#[test]
fn contradictions_of_discounts_are_named() {
    for (more, says) in [
        ("batch_permille = 0", "batch_permille"),
        ("batch_permille = 1001", "batch_permille"),
        ("tiers = [{ after_pictures = 0, permille = 900 }]", "1 or more"),
        ("tiers = [{ after_pictures = 9, permille = 900 }, { after_pictures = 9, permille = 800 }]", "grow"),
        ("tiers = [{ after_pictures = 9, permille = 1100 }]", "more than the whole price"),
    ] {
        assert!(stated(more, RATES[0]).fault().unwrap().contains(says), "{more}");
    }
}

proptest! {
    #[test]
    fn a_discount_is_rounded_up_by_less_than_a_pico_dollar(pico in 0i128..=20_000_000_000_000, permille in 0u16..=1000) {
        let price = stated("", &format!("image = [{{ usd = \"{}\" }}]", Usd::from_pico(pico)));
        let Rates::Image(rows) = price.rates.at(permille) else { panic!("per picture") };
        let excess = rows[0].usd.pico() * 1000 - pico * i128::from(permille);
        prop_assert!((0..1000).contains(&excess), "{excess}");
    }

    #[test]
    fn more_pictures_are_never_dearer(low in 0u64..10_000, more in 0u64..10_000, permille in 0u16..=900, kind in 0usize..6) {
        let lower = permille / 2;
        let tiers = format!(
            "tiers = [{{ after_pictures = 1000, permille = {permille} }}, {{ after_pictures = 7000, permille = {lower} }}]"
        );
        let prices = stated(&tiers, RATES[kind]);
        let call = Wanted { steps: Some(4), ..wanted(Size::Exact(1024, 1024), None) };
        let cost = |pictures| usd(prices.after(pictures).expected(&call));
        prop_assert!(cost(low + more) <= cost(low));
        prop_assert!(cost(low) <= usd(prices.expected(&call)));
    }
}

//! Prices per megapixel, step, second and credit, as records state them.

use super::*;

fn stated(rates: &str) -> Prices {
    toml::from_str(&format!("certainty = \"verified\"\nsource = \"a test\"\n[rates]\n{rates}")).unwrap()
}

fn known(usd: &str) -> Price {
    Price::Known(usd.parse().unwrap())
}

#[test]
fn a_part_of_a_megapixel_counts_as_a_whole_one() {
    let prices = stated("megapixel = { usd = \"0.015\", first = \"0.03\", input = \"0.015\" }");
    for (width, height, usd) in
        [(64, 64, "0.03"), (1024, 1024, "0.03"), (1024, 1025, "0.045"), (2048, 2048, "0.075"), (1, 1, "0.03")]
    {
        assert_eq!(prices.expected(&wanted(Size::Exact(width, height), None)), known(usd), "{width}x{height}");
    }
    let sent = Wanted { inputs: &[1 << 20, (1 << 20) + 1], ..wanted(Size::Exact(1024, 1024), None) };
    assert_eq!(prices.expected(&sent), known("0.075"));
    assert_eq!(prices.expected(&Wanted { n: 3, ..sent }), known("0.225"));
    // Fewer pictures than were wanted are billed as those that came.
    assert_eq!(prices.billed(&Wanted { n: 3, ..sent }, &made(1, None)), known("0.075"));
    assert_eq!(prices.expected(&wanted(Size::Auto, None)), Price::Unknown);
}

#[test]
fn or_as_that_part() {
    let prices =
        stated("megapixel = { usd = \"0.01\", megapixel = 1000000, round = \"exact\", auto_pixels = 2000000 }");
    assert_eq!(prices.expected(&wanted(Size::Exact(1000, 500), None)), known("0.005"));
    assert_eq!(prices.expected(&wanted(Size::Auto, None)), known("0.02"));
    // A third of a pico-dollar is not given away.
    let thirds = stated("megapixel = { usd = \"0.000000000001\", megapixel = 3, round = \"exact\" }");
    assert_eq!(thirds.expected(&wanted(Size::Exact(1, 1), None)), known("0.000000000001"));
}

#[test]
fn steps_beyond_the_included_ones_cost_in_proportion() {
    let prices = stated("megapixel = { usd = \"0.0027\", steps_included = 4 }");
    let call = wanted(Size::Exact(1024, 1024), None);
    for (steps, usd) in [(None, "0.0027"), (Some(1), "0.0027"), (Some(4), "0.0027"), (Some(12), "0.0081")] {
        assert_eq!(prices.expected(&Wanted { steps, ..call }), known(usd), "{steps:?}");
    }
}

#[test]
fn per_step() {
    let flat = stated("step = { usd = \"0.00035\" }");
    assert_eq!(flat.expected(&Wanted { steps: Some(4), n: 2, ..wanted(Size::Auto, None) }), known("0.0028"));
    assert_eq!(flat.expected(&wanted(Size::Auto, None)), Price::Unknown);
    let by_area = stated("step = { usd = \"0.00036\", area = 1048576 }");
    let call = Wanted { steps: Some(25), ..wanted(Size::Exact(512, 1024), None) };
    assert_eq!(by_area.expected(&call), known("0.0045"));
    assert_eq!(by_area.expected(&Wanted { size: Size::Auto, ..call }), Price::Unknown);
    let tiles = stated("step = { usd = \"0.00011\", tile = { usd = \"0.000053\", edge = 512 } }");
    let call = Wanted { steps: Some(4), ..wanted(Size::Exact(1024, 1024), None) };
    assert_eq!(tiles.expected(&call), known("0.000652"));
    assert_eq!(tiles.expected(&Wanted { size: Size::Exact(1025, 512), ..call }), known("0.000599"));
}

#[test]
fn per_second_the_most_is_reserved_and_the_stated_time_is_billed() {
    let prices = stated("second = { usd = \"0.000975\", most_s = 60 }");
    let call = Wanted { n: 2, ..wanted(Size::Auto, None) };
    assert_eq!(prices.expected(&call), known("0.117"));
    assert_eq!(prices.per_unit(), Some("0.000975".parse().unwrap()));
    let stated = Generated { billed: Some("0.00234".parse().unwrap()), ..made(2, None) };
    assert_eq!(prices.billed(&call, &stated), known("0.00234"));
    assert_eq!(prices.billed(&call, &made(2, None)), known("0.117"));
}

#[test]
fn per_credit() {
    let prices =
        stated("credit = { usd = \"0.01\", image = [{ credits = \"6.5\" }, { credits = \"8\", quality = \"high\" }] }");
    assert_eq!(prices.expected(&wanted(Size::Auto, Some("low"))), known("0.065"));
    assert_eq!(prices.expected(&Wanted { n: 2, ..wanted(Size::Auto, None) }), known("0.16"));
    assert_eq!(prices.per_unit(), Some("0.01".parse().unwrap()));
    assert_eq!(stated("credit = { usd = \"0.01\" }").expected(&wanted(Size::Auto, None)), Price::Unknown);
}

#[test]
fn per_picture_by_area() {
    let prices = stated(
        "image = [{ usd = \"0.048\", max_pixels = 1048576 }, { usd = \"0.1\", max_pixels = 4194304 }, { usd = \"0.607\" }]",
    );
    for (edge, usd) in [(1024, "0.048"), (1025, "0.1"), (2048, "0.1"), (4096, "0.607")] {
        assert_eq!(prices.expected(&wanted(Size::Exact(edge, edge), None)), known(usd), "{edge}");
    }
    // What the model chooses may be the dearest.
    assert_eq!(prices.expected(&wanted(Size::Auto, None)), known("0.607"));
    let bounded = stated("image = [{ usd = \"0.1\", max_pixels = 100 }]");
    assert_eq!(bounded.expected(&wanted(Size::Exact(11, 10), None)), Price::Unknown);
}

#[test]
fn tokens_by_area_and_the_text_beside_them() {
    let prices = stated(
        "[rates.tokens]\ntext_input = \"0.0000015\"\nimage_input = \"0.0000015\"\nimage_output = \"0.00003\"\n\
         text_output = \"0.0000075\"\ninput_picture_tokens = 1120\ntext_output_tokens = 4096\nauto_sizes = [\"1024x1024\"]\n\
         output = { pixels = [{ max_pixels = 4194304, tokens = 1680 }, { max_pixels = 1048576, tokens = 1120 }] }",
    );
    // 64 tokens of framing, 4096 of thoughts, 1120 or 1680 of picture.
    assert_eq!(prices.expected(&wanted(Size::Auto, None)), known("0.064416"));
    assert_eq!(prices.expected(&wanted(Size::Exact(2048, 2048), None)), known("0.081216"));
    assert_eq!(prices.expected(&wanted(Size::Exact(4096, 4096), None)), Price::Unknown);
    let usage = Usage { input_text: 9, input_image: 0, output_text: 180, output_image: 1120 };
    assert_eq!(prices.billed(&wanted(Size::Auto, None), &made(1, Some(usage))), known("0.0349635"));
}

#[test]
fn contradictions_of_units_are_named() {
    for (rates, says) in [
        ("megapixel = { usd = \"-1\" }", "negative"),
        ("megapixel = { usd = \"1\", first = \"2\", round = \"exact\" }", "first"),
        ("megapixel = { usd = \"1\", megapixel = 0 }", "1 or more"),
        ("step = { usd = \"-1\" }", "negative"),
        ("step = { usd = \"1\", tile = { usd = \"1\", edge = 0 } }", "1 or more"),
        ("second = { usd = \"1\", most_s = 0 }", "most_s"),
        ("credit = { usd = \"1\", image = [{ credits = \"-1\" }] }", "negative"),
    ] {
        assert!(stated(rates).fault().unwrap().contains(says), "{rates}");
    }
    assert_eq!(stated("megapixel = { usd = \"1\" }").fault(), None);
}

proptest! {
    #[test]
    fn what_is_larger_is_not_cheaper(
        first in 0i128..=1_000_000_000_000, usd in 0i128..=1_000_000_000_000,
        width in 1u32..=4096, height in 1u32..=4096, more in 0u32..=512, steps in 1u32..=50,
    ) {
        let (first, usd) = (Usd::from_pico(first.max(usd)), Usd::from_pico(usd));
        let all = [
            stated(&format!("megapixel = {{ usd = \"{usd}\", first = \"{first}\", steps_included = 4 }}")),
            stated(&format!("megapixel = {{ usd = \"{usd}\", round = \"exact\" }}")),
            stated(&format!("step = {{ usd = \"{usd}\", area = 1048576, tile = {{ usd = \"{first}\", edge = 512 }} }}")),
        ];
        for prices in all {
            let small = Wanted { steps: Some(steps), ..wanted(Size::Exact(width, height), None) };
            let large = Wanted { size: Size::Exact(width + more, height), steps: Some(steps + 1), ..small };
            let (Price::Known(small), Price::Known(large)) = (prices.expected(&small), prices.expected(&large))
            else { panic!("both are known") };
            prop_assert!(small <= large);
        }
    }
}

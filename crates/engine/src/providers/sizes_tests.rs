use proptest::prelude::*;

use super::*;
use crate::domain::target::MOST_ENLARGED;

fn rule() -> impl Strategy<Value = SizeRule> {
    let step = prop::option::of(prop::sample::select(vec![1u32, 8, 16, 32, 64]));
    let edge = prop::option::of(512u32..4096);
    let ratio = prop::option::of(1u32..8);
    let least = prop::option::of(65_536u64..655_360);
    let most = prop::option::of(1_048_576u64..16_777_216);
    (step, ratio, edge, least, most).prop_map(|(multiple_of, max_ratio, max_edge, min_pixels, max_pixels)| SizeRule {
        multiple_of,
        max_ratio,
        max_edge,
        min_pixels,
        max_pixels,
    })
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    let list = prop::collection::vec((16u32..2048, 16u32..2048), 1..6)
        .prop_map(|list| Sizes::List(list.into_iter().map(|(width, height)| Size::Exact(width, height)).collect()));
    let ratios = (prop::collection::vec((1u32..22, 1u32..22), 1..6), prop::bool::ANY, 0u32..3).prop_map(
        |(list, has_tiers, step)| {
            let tiers = [("1K".to_owned(), 1 << 20), ("2K".to_owned(), 1 << 22)];
            Sizes::Ratios(RatioSizes {
                list: list.into_iter().map(|(width, height)| Ratio { width, height }).collect(),
                tiers: if has_tiers { tiers.into() } else { BTreeMap::new() },
                multiple_of: [None, Some(8), Some(16)][step as usize],
            })
        },
    );
    prop_oneof![list, ratios, rule().prop_map(Sizes::Rule)]
}

/// What `sizes` can make, as far as it can be told without asking for the nearest.
fn makes(sizes: &Sizes, (width, height): (u32, u32)) -> bool {
    match sizes {
        Sizes::List(list) => list.contains(&Size::Exact(width, height)),
        Sizes::Rule(rule) => rule.broken_by(width, height).is_none(),
        Sizes::Ratios(ratios) => ratios.all().any(|(size, ..)| size == (width, height)),
        Sizes::None | Sizes::Any => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_nearest_is_made_and_nearest_to_itself(sizes in any_sizes(), to in (1u32..4096, 1u32..4096)) {
        if let Some(made) = sizes.nearest(to.0, to.1) {
            prop_assert!(makes(&sizes, made), "{made:?}");
            prop_assert_eq!(sizes.nearest(made.0, made.1), Some(made));
            prop_assert!(to.0 <= made.0 * MOST_ENLARGED && to.1 <= made.1 * MOST_ENLARGED);
        }
        if makes(&sizes, to) {
            prop_assert_eq!(sizes.nearest(to.0, to.1), Some(to));
        }
    }

    /// Nothing is enlarged where a larger one of the same ratio can be made.
    #[test]
    fn nothing_is_enlarged_needlessly(sizes in any_sizes(), to in (1u32..2048, 1u32..2048), times in 1u32..9) {
        let larger = (to.0 * times, to.1 * times);
        if makes(&sizes, larger) {
            let made = sizes.nearest(to.0, to.1).unwrap();
            prop_assert!(made.0 >= to.0 && made.1 >= to.1, "{made:?} for {to:?}, and {larger:?} can be made");
        }
    }

    /// A rule of the usual kind makes something that covers every usual size.
    #[test]
    fn a_rule_finds_something(to in (64u32..2048, 64u32..2048)) {
        prop_assume!(to.0 <= to.1 * 3 && to.1 <= to.0 * 3);
        let rule = SizeRule {
            multiple_of: Some(16), max_ratio: Some(3), max_edge: Some(3840),
            min_pixels: Some(655_360), max_pixels: Some(8_294_400),
        };
        let made = Sizes::Rule(rule).nearest(to.0, to.1);
        prop_assert!(made.is_some());
        let (wide, high) = made.unwrap();
        prop_assert!(wide >= to.0 && high >= to.1, "{made:?}");
    }

    #[test]
    fn names_of_ratios_and_tiers_are_found_again(sizes in any_sizes(), pick in any::<prop::sample::Index>()) {
        let Sizes::Ratios(ratios) = &sizes else { return Ok(()) };
        let all: Vec<_> = ratios.all().collect();
        let ((width, height), ratio, tier) = all[pick.index(all.len())];
        let (wide, high) = sizes.ratio_of(width, height);
        // Two names of one shape, or roundings of very different ones, may give the same size: the first is used.
        let named = Ratio { width: wide, height: high };
        prop_assert!(ratios.list.contains(&named));
        prop_assert!(named == ratio || all.iter().filter(|(size, ..)| *size == (width, height)).count() > 1);
        prop_assert_eq!(sizes.tier_of(width, height).is_some(), tier.is_some());
    }
}

#[test]
fn what_loses_least() {
    let list = |texts: &[&str]| Sizes::List(texts.iter().map(|text| text.parse().unwrap()).collect());
    let squares = list(&["256x256", "512x512", "1024x1024"]);
    assert_eq!(squares.nearest(300, 300), Some((512, 512)), "large enough goes before near");
    assert_eq!(squares.nearest(2000, 2000), Some((1024, 1024)));
    assert_eq!(squares.nearest(2049, 64), None, "that would be enlarged more than twice");
    let mixed = list(&["1024x1024", "1536x1024", "512x288"]);
    assert_eq!(mixed.nearest(960, 540), Some((512, 288)), "the same shape goes before large enough");
    assert_eq!(mixed.nearest(1100, 620), Some((1536, 1024)), "unless it is much too small");
}

#[test]
fn ratios_and_tiers_are_named() {
    let text = "ratios = { list = ['1:1', '4:2', '21:9'], tiers = { 1K = 1048576, 2K = 4194304 }, multiple_of = 8 }";
    let sizes: Sizes = toml::from_str(text).unwrap();
    let (width, height) = sizes.nearest(1400, 700).unwrap();
    assert_eq!((sizes.ratio_of(width, height), sizes.tier_of(width, height)), ((4, 2), Some("1K")));
    assert_eq!((sizes.ratio_of(2048, 2048), sizes.tier_of(2048, 2048)), ((1, 1), Some("2K")));
    // Not one of its own: the arithmetic name.
    assert_eq!((sizes.ratio_of(1920, 1080), sizes.tier_of(1920, 1080)), ((16, 9), None));
    assert_eq!(Sizes::Any.ratio_of(1024, 768), (4, 3));
    for bad in ["", "1", "1:0", "0:1", "1:1:1", "-1:1", "1.5:1", "01:1", "10001:1", "a:b"] {
        assert_eq!(bad.parse::<Ratio>(), Err(NotARatio), "{bad}");
    }
    for bad in ["list = []", "list = ['1:1']\ntiers = { 1K = 0 }", "list = ['1:1']\nmultiple_of = 0"] {
        let ratios: RatioSizes = toml::from_str(bad).unwrap();
        assert!(Sizes::Ratios(ratios).fault().is_some(), "{bad}");
    }
}

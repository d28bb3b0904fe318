use proptest::prelude::*;

use super::belief::Votes;
use super::*;
use crate::domain::ImageId;
use crate::store::FeedbackKind;

const NOW: Millis = 1_800_000_000_000;
const DAY: Millis = 86_400_000;
const TURBO: &str = "studio/turbo";

fn votes() -> Votes {
    Votes::new(NOW, (90 * DAY) as f64)
}

fn word(category: &str, kind: FeedbackKind, value: u32, trials: u32) -> Feedback {
    Feedback {
        at_ms: NOW,
        picture: ImageId::random(),
        request: None,
        tenant: "shop".into(),
        key: "web".into(),
        candidate: TURBO.into(),
        category: category.into(),
        kind,
        value,
        trials,
        note: None,
    }
}

fn taken(category: &str, yes: bool) -> Feedback {
    word(category, FeedbackKind::Accepted, u32::from(yes), 1)
}

#[test]
fn nothing_said_is_the_prior() {
    let votes = votes();
    for prior in [0.2, 0.5, 0.9] {
        for category in [None, Some("glass")] {
            let opinion = votes.opinion(TURBO, category, prior, NOW);
            assert!((opinion.mean - 100.0 * prior).abs() < 1e-9 && opinion.evidence == 0.0, "{opinion}");
        }
    }
    assert!(votes.opinion(TURBO, Some("glass"), 0.5, NOW).sd > votes.opinion(TURBO, None, 0.5, NOW).sd);
}

/// The story that this room is for.
#[test]
fn who_is_bad_at_glass_is_bad_at_glass_only() {
    let mut votes = votes();
    for _ in 0..40 {
        votes.add(&taken("furniture", true));
    }
    for _ in 0..14 {
        votes.add(&taken("Glass ", false));
    }
    let of = |category| votes.opinion(TURBO, category, 0.75, NOW);
    let below = |category| votes.belief(TURBO, Some(category), 0.75, NOW).0.below(0.6);
    assert!(of(Some("glass")).mean < 40.0, "{}", of(Some("glass")));
    assert!(of(Some("furniture")).mean > 80.0, "{}", of(Some("furniture")));
    assert!(below("glass") > 0.9 && below("furniture") < 0.1);
    // Of what nothing was said, it is taken to be as in general, with less certainty.
    let jewelry = of(Some("jewelry"));
    assert!((jewelry.mean - of(None).mean).abs() < 1.0 && jewelry.sd > of(None).sd, "{jewelry}");
    assert_eq!((jewelry.evidence, of(Some("glass")).evidence, of(None).evidence), (0.0, 14.0, 54.0));
}

#[test]
fn a_category_shrinks_towards_its_candidate_and_that_towards_the_prior() {
    let mut votes = votes();
    votes.add(&taken("glass", false));
    let one = votes.opinion(TURBO, Some("glass"), 0.8, NOW).mean;
    assert!((50.0..80.0).contains(&one), "one vote is not a verdict: {one}");
    for _ in 0..400 {
        votes.add(&taken("glass", false));
    }
    assert!(votes.opinion(TURBO, Some("glass"), 0.8, NOW).mean < 3.0, "many are");
}

#[test]
fn old_votes_fade() {
    let mut votes = votes();
    (0..40).for_each(|_| votes.add(&taken("glass", false)));
    let at = |days: Millis| votes.opinion(TURBO, None, 0.5, NOW + days * DAY);
    assert!((at(90).evidence - 20.0).abs() < 1e-6);
    assert!(at(0).mean < at(90).mean && at(90).mean < at(900).mean);
    assert!((at(3000).mean - 50.0).abs() < 0.1, "in the end it is as if nothing had been said");
    // A vote of an earlier time weighs the same as one of now would at that distance.
    let mut old = self::votes();
    (0..40).for_each(|_| old.add(&Feedback { at_ms: NOW - 90 * DAY, ..taken("glass", false) }));
    assert!((old.opinion(TURBO, None, 0.5, NOW).mean - at(90).mean).abs() < 1e-9);
}

#[test]
fn clicks_are_held_against_the_category() {
    let mut votes = votes();
    let clicks = |candidate: &str, value, views| Feedback {
        candidate: candidate.into(),
        ..word("glass", FeedbackKind::Clicks, value, views)
    };
    votes.add(&clicks(TURBO, 20, 2000));
    votes.add(&clicks("studio/fine", 60, 2000));
    let of = |candidate| votes.opinion(candidate, Some("glass"), 0.5, NOW);
    assert!(of(TURBO).mean < 45.0 && of("studio/fine").mean > 55.0, "{} {}", of(TURBO), of("studio/fine"));
    assert!(of("studio/fine").evidence <= 20.0, "clicks never drown people: {}", of("studio/fine"));
    // The same rates for all say nothing, however high they are.
    let mut equal = self::votes();
    equal.add(&clicks(TURBO, 400, 1000));
    equal.add(&clicks("studio/fine", 400, 1000));
    assert!((equal.opinion(TURBO, Some("glass"), 0.5, NOW).mean - 50.0).abs() < 1.0);
    // Two views and a click are next to nothing.
    let mut few = self::votes();
    few.add(&clicks(TURBO, 1, 2));
    assert!((few.opinion(TURBO, Some("glass"), 0.5, NOW).mean - 50.0).abs() < 2.0);
}

#[test]
fn the_judge_weighs_less_than_people() {
    let evidence = |kind, value| {
        let mut votes = votes();
        votes.add(&word("", kind, value, 1));
        votes.opinion(TURBO, None, 0.5, NOW).evidence
    };
    assert_eq!((evidence(FeedbackKind::Judge, 90), evidence(FeedbackKind::Rating, 5)), (0.25, 1.0));
}

#[test]
fn qualities_have_opinions_of_their_own() {
    assert_eq!(candidate_name("a/b", Some("high")), "a/b@high");
    assert_eq!(candidate_name("a/b@low", Some("low")), "a/b@low");
    assert_eq!(candidate_name("a/b", None), "a/b");
}

fn any_word() -> impl Strategy<Value = Feedback> {
    let kinds = prop_oneof![
        (1u32..=5).prop_map(|value| (FeedbackKind::Rating, value, 1)),
        (0u32..=1).prop_map(|value| (FeedbackKind::Accepted, value, 1)),
        (0u32..=100).prop_map(|value| (FeedbackKind::Judge, value, 1)),
        (0u32..=50, 50u32..5000).prop_map(|(value, views)| (FeedbackKind::Clicks, value, views)),
    ];
    (kinds, prop::sample::select(vec!["", "glass", "food"]), -400i64..=0).prop_map(
        |((kind, value, trials), category, days)| Feedback {
            at_ms: NOW + days * DAY,
            ..word(category, kind, value, trials)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn opinions_are_possible_and_forget_what_is_taken_back(
        words in prop::collection::vec(any_word(), 0..40),
        more in prop::collection::vec(any_word(), 0..10),
        prior in 0.0f64..=1.0,
    ) {
        let mut votes = votes();
        words.iter().for_each(|word| votes.add(word));
        let before = votes.opinion(TURBO, Some("glass"), prior, NOW);
        prop_assert!((0.0..=100.0).contains(&before.mean) && before.sd > 0.0 && before.sd < 50.0, "{}", before);
        prop_assert!(before.evidence >= 0.0);
        more.iter().for_each(|word| votes.add(word));
        more.iter().rev().for_each(|word| votes.take_back(word));
        let after = votes.opinion(TURBO, Some("glass"), prior, NOW);
        prop_assert!((before.mean - after.mean).abs() < 1e-6 && (before.evidence - after.evidence).abs() < 1e-6);
    }

    #[test]
    fn the_order_does_not_matter(words in prop::collection::vec(any_word(), 0..30)) {
        let (mut forth, mut back) = (votes(), votes());
        words.iter().for_each(|word| forth.add(word));
        words.iter().rev().for_each(|word| back.add(word));
        let of = |votes: &Votes| votes.opinion(TURBO, Some("food"), 0.6, NOW).mean;
        prop_assert!((of(&forth) - of(&back)).abs() < 1e-9);
    }

    #[test]
    fn praise_never_lowers_and_blame_never_raises(words in prop::collection::vec(any_word(), 0..30)) {
        let mut votes = votes();
        words.iter().for_each(|word| votes.add(word));
        let of = |votes: &Votes| votes.opinion(TURBO, Some("glass"), 0.6, NOW).mean;
        let (mut praised, mut blamed) = (votes.clone(), votes.clone());
        praised.add(&taken("glass", true));
        blamed.add(&taken("glass", false));
        prop_assert!(of(&blamed) <= of(&votes) + 1e-9 && of(&votes) <= of(&praised) + 1e-9);
    }
}

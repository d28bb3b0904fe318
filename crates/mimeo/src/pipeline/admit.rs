//! How an order is split into calls, and ⑦ whether what came of one is a picture.

use crate::domain::{Fault, FaultKind, Generated, Picture, Price, Usd};
use crate::media;

/// Bytes from which on pictures are examined on a thread that may block: about two milliseconds of work.
const LARGE: usize = 8 << 20;

/// ⑦ Are these bytes pictures? All of them must be.
pub(super) async fn admit(generated: &Generated) -> Result<Vec<Picture>, Fault> {
    let pictures = generated.pictures.clone();
    if pictures.is_empty() {
        return Err(Fault::new(FaultKind::BadAnswer, "it holds no picture"));
    }
    let is_large = pictures.iter().map(bytes::Bytes::len).sum::<usize>() >= LARGE;
    let examine = move || pictures.into_iter().map(media::examine).collect::<Result<Vec<_>, _>>();
    let examined = if is_large {
        let unexamined = |lost: tokio::task::JoinError| Fault::new(FaultKind::BadAnswer, lost.to_string());
        tokio::task::spawn_blocking(examine).await.map_err(unexamined)?
    } else {
        examine()
    };
    examined.map_err(|bad| Fault::new(FaultKind::BadAnswer, bad.to_string()))
}

/// `count` split into calls of at most `max` that together cost least, as `price` tells for a call of so many; among
/// equals the fewest calls. Where a price is unknown, nothing speaks against few.
pub(super) fn batches(count: u32, max: u32, price: impl Fn(u32) -> Price) -> Vec<u32> {
    let split = |each: u32| {
        let mut sizes = vec![each; (count / each) as usize];
        if !count.is_multiple_of(each) {
            sizes.push(count % each);
        }
        sizes
    };
    let cost = |sizes: &[u32]| sizes.iter().map(|n| price(*n).known()).sum::<Option<Usd>>();
    let mut best = split(max.clamp(1, count.max(1)));
    let Some(mut least) = cost(&best) else { return best };
    for each in (1..max.min(count)).rev() {
        let sizes = split(each);
        if let Some(cost) = cost(&sizes).filter(|cost| *cost < least) {
            (best, least) = (sizes, cost);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A price of so many cents for the call and for each picture.
    fn cents(call: i128, picture: i128) -> impl Fn(u32) -> Price {
        move |n| Price::Known(Usd::from_pico((call + picture * i128::from(n)) * Usd::SCALE / 100))
    }

    #[test]
    fn few_calls_unless_more_are_cheaper() {
        assert_eq!(batches(4, 10, cents(0, 4)), [4]);
        assert_eq!(batches(10, 4, cents(1, 4)), [4, 4, 2]);
        assert_eq!(batches(3, 1, cents(0, 4)), [1, 1, 1]);
        assert_eq!(batches(4, 4, |_| Price::Unknown), [4]);
        // Every picture beyond the first of a call costs double.
        let dear = |n: u32| Price::Known(Usd::from_pico(i128::from(2 * n - 1) * Usd::SCALE));
        assert_eq!(batches(3, 4, dear), [1, 1, 1]);
        // Two for the price of one, but no more than two.
        let pairs = |n: u32| Price::Known(Usd::from_pico(i128::from(if n <= 2 { 1 } else { 4 * n }) * Usd::SCALE));
        assert_eq!(batches(5, 5, pairs), [2, 2, 1]);
        // One price that is unknown says nothing of the others.
        let partly = |n: u32| if n == 2 { Price::Unknown } else { Price::Known(Usd::from_pico(i128::from(n * n))) };
        assert_eq!(batches(3, 3, partly), [1, 1, 1]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_and_no_call_is_too_large(count in 1u32..=10, max in 0u32..=12, call in 0i128..9, each in 0i128..9) {
            let sizes = batches(count, max, cents(call, each));
            proptest::prop_assert_eq!(sizes.iter().sum::<u32>(), count);
            proptest::prop_assert!(sizes.iter().all(|n| (1..=max.max(1)).contains(n)));
        }
    }
}

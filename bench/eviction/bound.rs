//! What nobody can beat.

use crate::traces::Trace;

/// Dollars that an endless cache would save, in pico-dollars: every repetition.
pub fn endless(trace: &Trace) -> i128 {
    let mut seen = vec![false; trace.items.len()];
    let repeated = trace.requests.iter().filter(|(key, _)| std::mem::replace(&mut seen[*key as usize], true));
    repeated.map(|(key, _)| i128::from(trace.items[*key as usize].price)).sum()
}

/// An upper bound of what a cache of `capacity` bytes can save that knows the future, in pico-dollars.
///
/// Keeping a picture from one request to the next takes its bytes for so many requests. A cache has capacity × requests of
/// that. Whoever may spend it freely, without being within the capacity at every single moment, buys what yields most
/// dollars for it; nobody who must be within it can do better. (This is the relaxation behind PFOO-L of Berger, Beckmann
/// and Harchol-Balter, SIGMETRICS 2018, with dollars for hits.)
pub fn offline(trace: &Trace, capacity: u64) -> i128 {
    let mut last: Vec<Option<usize>> = vec![None; trace.items.len()];
    let mut stays = Vec::new();
    for (at, (key, _)) in trace.requests.iter().enumerate() {
        let item = trace.items[*key as usize];
        if let Some(before) = last[*key as usize].replace(at)
            && item.bytes <= capacity
        {
            stays.push((item.price, item.bytes as f64 * (at - before) as f64));
        }
    }
    let yields = |stay: &(i64, f64)| stay.0 as f64 / stay.1;
    stays.sort_by(|a, b| yields(b).total_cmp(&yields(a)));
    let mut left = capacity as f64 * trace.requests.len() as f64;
    let mut saved = 0;
    for (price, takes) in stays {
        saved += i128::from(price);
        left -= takes;
        // The last one counts whole: a bound from above.
        if left <= 0.0 {
            break;
        }
    }
    saved
}

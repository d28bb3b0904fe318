//! Limits of accounts: what holds in one process holds over all replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Place, Server, Settings, begin, eventually, in_time, meet, patient, places};
use crate::config::Limits;
use crate::shared::Shared;

const fn concurrent(n: u32) -> Limits {
    Limits { concurrent: Some(n), ..Limits::NONE }
}

const fn paced(n: u32) -> Limits {
    Limits { requests_per_minute: Some(n), ..Limits::NONE }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_are_bounded_over_all_replicas() {
    for Place { replicas, _server } in places() {
        let under_way = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for n in 0..60 {
            let (shared, under_way, most) =
                (replicas[n % replicas.len()].clone(), Arc::clone(&under_way), Arc::clone(&most));
            tasks.spawn(async move {
                let pass = shared.pass("a", concurrent(3), 1).await;
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                drop(pass);
            });
        }
        in_time("all get their turn", tasks.join_all()).await;
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_spaced_over_all_replicas() {
    for Place { replicas, _server } in places() {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        // 61 may start at once (the burst of 60 and the one that is due), then one every 103 ms.
        for n in 0..71 {
            let shared = replicas[n % replicas.len()].clone();
            tasks.spawn(async move {
                let _pass = shared.pass("a", paced(600), 1).await;
                start.elapsed()
            });
        }
        let mut times = in_time("all get their turn", tasks.join_all()).await;
        times.sort();
        for (late, time) in times[61..].iter().enumerate() {
            // The server's clock is another one, and may be set while the test runs.
            let due = Duration::from_millis(103) * (late as u32 + 1);
            assert!(
                *time + Duration::from_millis(10) >= due,
                "call {late} after the burst began at {time:?}, due at {due:?}"
            );
        }
        assert!(replicas[0].try_pass("b", paced(600), 1).await.is_some(), "another account is another account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_limits_hold_at_once() {
    let limits = Limits { requests_per_minute: Some(60), concurrent: Some(2), ..Limits::NONE };
    for Place { replicas, _server } in places() {
        // 7 may start at once, two at a time.
        for n in 0..3 {
            let (first, second) = (&replicas[n % replicas.len()], &replicas[(n + 1) % replicas.len()]);
            let passes = (first.pass("a", limits, 1).await, second.pass("a", limits, 1).await);
            assert!(first.try_pass("a", limits, 1).await.is_none() && second.try_pass("a", limits, 1).await.is_none());
            drop(passes);
        }
        let last = eventually("there is room again", || replicas[0].try_pass("a", limits, 1)).await;
        drop(last);
        let start = Instant::now();
        let _pass = in_time("the eighth is due in a second", replicas[0].pass("a", limits, 1)).await;
        assert!(start.elapsed() > Duration::from_millis(100), "it had to wait: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_under_way_are_bounded_over_all_replicas() {
    let limits = Limits { concurrent_pictures: Some(5), ..Limits::NONE };
    for Place { replicas, _server } in places() {
        let under_way = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for n in 0..40 {
            let (shared, under_way, most) =
                (replicas[n % replicas.len()].clone(), Arc::clone(&under_way), Arc::clone(&most));
            tasks.spawn(async move {
                let pictures = n % 4 + 1;
                let pass = shared.pass("a", limits, pictures as u32).await;
                most.fetch_max(under_way.fetch_add(pictures, Ordering::SeqCst) + pictures, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                under_way.fetch_sub(pictures, Ordering::SeqCst);
                drop(pass);
            });
        }
        in_time("all get their turn", tasks.join_all()).await;
        assert!((4..=5).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        // One that is larger than the limit is made alone.
        let large = in_time("it is made", replicas[0].pass("a", limits, 9)).await;
        assert!(replicas[0].try_pass("a", limits, 1).await.is_none());
        drop(large);
        drop(eventually("there is room again", || replicas[0].try_pass("a", limits, 1)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_holds_more_than_the_account_allows() {
    for (limits, pictures, count) in [
        (Limits { requests_per_second: Some(20), ..Limits::NONE }, 3, 20),
        // Ten pictures are five calls, and no more than four begin in a burst.
        (Limits { pictures_per_minute: Some(10), ..Limits::NONE }, 2, 5),
    ] {
        for Place { replicas, _server } in places() {
            let start = Instant::now();
            let mut tasks = JoinSet::new();
            for n in 0..50 {
                let shared = replicas[n % replicas.len()].clone();
                tasks.spawn(async move {
                    let passed = tokio::time::timeout(Duration::from_secs(3), shared.pass("a", limits, pictures)).await;
                    passed.ok().map(|_| start.elapsed())
                });
            }
            let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
            times.sort();
            let per_minute = limits.requests_per_second.is_none();
            assert!(times.len() >= if per_minute { 3 } else { 50 }, "{times:?}");
            for (index, from) in times.iter().enumerate() {
                // The server's clock is another one.
                let window = Duration::from_millis(if per_minute { 60_000 } else { 1000 });
                let within = times[index..].iter().take_while(|time| **time < *from + window).count();
                assert!(within <= count, "{within} within {window:?}: {times:?}");
            }
        }
    }
}

/// What must be written down before a call can go out takes its time, and windows count from when it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_held_up_counts_from_when_it_goes_out() {
    for Place { replicas, _server } in places() {
        let limits = Limits { requests_per_second: Some(3), ..Limits::NONE };
        let (one, other) = (&replicas[0], &replicas[replicas.len() - 1]);
        let mut passes = Vec::new();
        for shared in [one, other, one] {
            passes.push(in_time("three at once", shared.pass("a", limits, 1)).await);
        }
        let begun = passes[0].begun();
        tokio::time::sleep_until(begun + Duration::from_millis(400)).await;
        let sent = Instant::now();
        passes.iter().for_each(|pass| pass.sends(sent));
        let _next = in_time("the next is due", other.pass("a", limits, 1)).await;
        assert!(sent.elapsed() >= Duration::from_millis(1000), "{:?} after the last went out", sent.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_one_replica_rests_all() {
    for Place { replicas, _server } in places() {
        let (one, other) = (&replicas[0], &replicas[replicas.len() - 1]);
        meet(one, other).await;
        for shared in [one, other] {
            drop(in_time("it passes", shared.pass("a", Limits::NONE, 1)).await);
        }
        one.refused("a", Limits::NONE, Instant::now(), Some(Duration::from_secs(60)));
        assert!(one.try_pass("a", Limits::NONE, 1).await.is_none());
        eventually("the others hear of it", async || {
            other.try_pass("a", Limits::NONE, 1).await.is_none().then_some(())
        })
        .await;
        let (rest, _) = other.outlook("a", Limits::NONE);
        assert!((50..=60).contains(&rest.as_secs()), "{rest:?}");
        assert!(other.try_pass("b", Limits::NONE, 1).await.is_some(), "another account is another account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_each_keeps_to_its_part() {
    let shared = Shared::alone();
    shared.among(3);
    let held = [shared.try_pass("a", concurrent(7), 1).await, shared.try_pass("a", concurrent(7), 1).await];
    assert!(held.iter().all(Option::is_some) && shared.try_pass("a", concurrent(7), 1).await.is_none());
    shared.among(1);
    assert!(shared.try_pass("a", concurrent(7), 1).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_taken_in_order() {
    for Place { replicas, _server } in places() {
        let shared = &replicas[0];
        let first = in_time("the first passes", shared.pass("a", concurrent(1), 1)).await;
        assert!(shared.try_pass("a", concurrent(1), 1).await.is_none());
        let mut queue: Vec<_> = (0..5).map(|_| Box::pin(shared.pass("a", concurrent(1), 1))).collect();
        for one in &mut queue {
            begin(one).await;
        }
        // Whoever goes away keeps nobody waiting.
        drop(queue.remove(1));
        drop(first);
        while !queue.is_empty() {
            let next = in_time("the next one passes", queue.remove(0)).await;
            for one in &mut queue {
                begin(one).await;
            }
            assert!(shared.try_pass("a", concurrent(1), 1).await.is_none());
            drop(next);
        }
        drop(eventually("all is free again", || shared.try_pass("a", concurrent(1), 1)).await);
    }
}

#[tokio::test]
async fn without_limits_there_is_no_waiting() {
    // Not even for a server that is not there.
    let address = super::Address::parse("unix:///nowhere/socket").unwrap();
    let shared = Shared::connect(&address, &patient());
    for _ in 0..1000 {
        let _pass = shared.pass("a", Limits::default(), 1).await;
        assert!(shared.try_pass("a", Limits::default(), 1).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_another_replica_goes_first() {
    let server = Server::start();
    let (busy, other) = (server.join(&patient()), server.join(&patient()));
    for _ in 0..30 {
        let held = in_time("there is room", busy.pass("a", concurrent(1), 1)).await;
        let mut waiting = JoinSet::new();
        waiting.spawn({
            let other = other.clone();
            async move { other.pass("a", concurrent(1), 1).await }
        });
        let queue = || async { (server.ask::<u32>(&["ZCARD", "mimeo:limits:{a}:queue"]) == 1).then_some(()) };
        eventually("it waits", queue).await;
        drop(held);
        busy.close().await;
        // The slot is free, and known to be so here before it is there.
        assert!(busy.try_pass("a", concurrent(1), 1).await.is_none(), "it is the other's");
        drop(in_time("it gets its turn", waiting.join_all()).await);
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holders_slot_comes_back_and_a_living_ones_does_not() {
    let server = Server::start();
    let settings = Settings { lease: Duration::from_millis(900), ..patient() };
    let address = server.address();
    // A process that is killed: its tasks end where they are, and it gives nothing back.
    let doomed = std::thread::spawn({
        let settings = settings.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let _inside = runtime.enter();
            let shared = Shared::connect(&address, &settings);
            let pass = runtime.block_on(shared.pass("a", concurrent(1), 1));
            std::mem::forget(pass);
            runtime.shutdown_background();
            std::mem::forget(shared);
        }
    });
    let living = server.join(&settings);
    let held = in_time("there is room at another account", living.pass("b", concurrent(1), 1)).await;
    doomed.join().unwrap();
    let observer = server.join(&settings);
    assert!(observer.try_pass("a", concurrent(1), 1).await.is_none(), "its lease is not over");
    let since = Instant::now();
    let taken = in_time("the dead one's slot comes back", observer.pass("a", concurrent(1), 1)).await;
    assert!(since.elapsed() < settings.lease + Duration::from_secs(5));
    // Meanwhile and for several leases more, the living one's is renewed.
    while since.elapsed() < settings.lease * 4 {
        assert!(observer.try_pass("b", concurrent(1), 1).await.is_none(), "the living one holds it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((taken, held));
    drop(eventually("what is given back is free", || observer.try_pass("b", concurrent(1), 1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_server_learns_of_the_slots_again() {
    let server = Server::start();
    let settings = Settings { lease: Duration::from_millis(900), ..patient() };
    let (one, other) = (server.join(&settings), server.join(&settings));
    let held = [one.pass("a", concurrent(3), 1).await, other.pass("a", concurrent(3), 1).await];
    assert_eq!(server.slots("a"), 2);
    let () = server.ask(&["FLUSHALL"]);
    let () = server.ask(&["SCRIPT", "FLUSH"]);
    eventually("both are renewed", || async { (server.slots("a") == 2).then_some(()) }).await;
    let _third = other.try_pass("a", concurrent(3), 1).await.expect("there is room for one");
    assert!(one.try_pass("a", concurrent(3), 1).await.is_none());
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_slot_was_lost_goes_on_without_one() {
    let server = Server::start();
    let (one, other) = (server.join(&patient()), server.join(&patient()));
    let held = one.pass("a", concurrent(1), 1).await;
    let () = server.ask(&["FLUSHALL"]);
    let taken = other.try_pass("a", concurrent(1), 1).await.expect("the server knows of nobody");
    // Both come back to a server that has room for one only.
    server.cut();
    let mut hints = other.hints();
    eventually("they are there again", async || {
        one.tell(super::super::Hint::Purged);
        hints.try_recv().ok()
    })
    .await;
    assert_eq!(server.slots("a"), 1, "no more than the limit, whatever is under way");
    drop(held);
    one.close().await;
    assert_eq!(server.slots("a"), 1, "the slot is the other's");
    assert!(one.try_pass("a", concurrent(1), 1).await.is_none());
    drop(taken);
    drop(eventually("it is free", || one.try_pass("a", concurrent(1), 1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_from_another_time_locks_nobody_out() {
    let server = Server::start();
    let shared = server.join(&patient());
    let limits = Limits { requests_per_minute: Some(600), concurrent: Some(2), ..Limits::NONE };
    // As an old dump leaves it on a machine whose clock was a year ahead: all slots taken, a queue, no call due.
    let later = "1826798400000000";
    for token in ["x", "y"] {
        let _: u32 = server.ask(&["ZADD", "mimeo:limits:{a}:slots", later, token]);
    }
    let _: u32 = server.ask(&["ZADD", "mimeo:limits:{a}:queue", later, "1-x"]);
    let () = server.ask(&["SET", "mimeo:limits:{a}:requests_per_minute:due", later]);
    let mut begun = vec!["LPUSH", "mimeo:limits:{a}:requests_per_minute:begun"];
    begun.extend([later; 600]);
    let _: u32 = server.ask(&begun);
    let since = Instant::now();
    let _pass = in_time("it passes", shared.pass("a", limits, 1)).await;
    // The burst is taken to be used up, so the next call is due after one interval of 103 ms.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // What is no time at all is no reason to stop, either.
    let () = server.ask(&["SET", "mimeo:limits:{b}:requests_per_minute:due", "soon"]);
    let _: u32 = server.ask(&["LPUSH", "mimeo:limits:{b}:requests_per_minute:begun", "then"]);
    assert!(shared.try_pass("b", limits, 1).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_do_not_meet() {
    let server = Server::start();
    let (one, other) = (server.join(&patient()), server.join(&Settings { namespace: "another".into(), ..patient() }));
    let _held = one.pass("a", concurrent(1), 1).await;
    assert!(other.try_pass("a", concurrent(1), 1).await.is_some());
    assert!(one.try_pass("a", concurrent(1), 1).await.is_none());
    let names: Vec<String> = server.ask(&["KEYS", "*"]);
    assert!(names.iter().all(|name| name.starts_with("mimeo:") || name.starts_with("another:")), "{names:?}");
}

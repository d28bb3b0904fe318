//! Hot pictures: right or none.

use std::time::Duration;

use bytes::Bytes;

use super::{Server, eventually, patient};
use crate::domain::Digest;
use crate::shared::{Settings, Shared};

fn picture(seed: u8, length: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(vec![seed; length]);
    (Digest::of(&bytes), bytes)
}

async fn ready(server: &Server, settings: &Settings) -> Shared {
    let shared = server.join(settings);
    let (digest, bytes) = picture(0, 100);
    eventually("the server is there", || async {
        shared.keep_picture(digest, bytes.clone());
        shared.picture(digest).await
    })
    .await;
    shared
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_hot_at_all_replicas_for_a_while() {
    let server = Server::start();
    let (one, other) = (ready(&server, &patient()).await, ready(&server, &patient()).await);
    let (digest, bytes) = picture(1, 3_000_000);
    assert_eq!(other.picture(digest).await, None);
    one.keep_picture(digest, bytes.clone());
    let found = eventually("the other has it", || other.picture(digest)).await;
    assert_eq!(found, bytes);
    let left: u64 = server.ask(&["PTTL", &format!("mimeo:picture:{digest}")]);
    assert!((3_000_000..=3_600_000).contains(&left), "{left} ms");
    assert_eq!(Shared::alone().picture(digest).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_given_out() {
    let server = Server::start();
    let shared = ready(&server, &patient()).await;
    let (digest, bytes) = picture(1, 10_000);
    let name = format!("mimeo:picture:{digest}");
    for (round, wrong) in ["x", &"x".repeat(10_000), &"x".repeat(20_000_000)].into_iter().enumerate() {
        let () = server.ask(&["SET", &name, wrong]);
        assert_eq!(shared.picture(digest).await, None);
        assert_eq!(shared.wrong_pictures(), round as u64 + 1);
        eventually("they are removed", || async { (server.ask::<u32>(&["EXISTS", &name]) == 0).then_some(()) }).await;
    }
    shared.keep_picture(digest, bytes.clone());
    assert_eq!(eventually("the right ones are kept", || shared.picture(digest)).await, bytes);
    assert_eq!(shared.wrong_pictures(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_much_is_not_kept() {
    let server = Server::start();
    let shared = ready(&server, &Settings { patience: Duration::from_secs(10), ..patient() }).await;
    shared.keep_picture(picture(1, (8 << 20) + 1).0, picture(1, (8 << 20) + 1).1);
    // 48 MiB while nothing can be written, of which 32 may wait.
    server.freeze();
    for seed in 10..22 {
        let (digest, bytes) = picture(seed, 4 << 20);
        shared.keep_picture(digest, bytes);
    }
    server.thaw();
    let (last, bytes) = picture(99, 10);
    eventually("everything is written", || async {
        shared.keep_picture(last, bytes.clone());
        shared.picture(last).await
    })
    .await;
    let kept: usize = server.ask::<Vec<String>>(&["KEYS", "mimeo:picture:*"]).len();
    // Those, the first and the last.
    assert_eq!(kept, 8 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_can_do_without_hot_pictures() {
    let server = Server::start();
    let (keeps, keeps_none) =
        (ready(&server, &patient()).await, server.join(&Settings { picture_ttl: Duration::ZERO, ..patient() }));
    let (digest, bytes) = picture(1, 100);
    keeps_none.keep_picture(digest, bytes.clone());
    // Whether it is up does not matter: it writes nothing in any case, and this comes after it.
    keeps.keep_picture(picture(2, 100).0, picture(2, 100).1);
    eventually("the second is there", || keeps.picture(picture(2, 100).0)).await;
    assert_eq!(keeps.picture(digest).await, None);
}

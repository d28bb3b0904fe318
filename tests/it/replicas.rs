//! Several gateways on one PostgreSQL: what is promised of one process holds for all of them together.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::cluster::{Builder, Cluster};
use crate::world::Reply;

/// A request for one small picture.
fn kite(prompt: &str) -> Value {
    json!({ "model": "sandbox/draft", "prompt": prompt, "size": "64x64" })
}

/// Every reply is a picture, and the same one.
#[track_caller]
fn all_equal(replies: &[Reply]) -> Vec<u8> {
    let pictures: Vec<_> = replies
        .iter()
        .map(|reply| {
            assert_eq!(reply.status, 200, "{}", reply.body);
            reply.pictures()
        })
        .collect();
    assert!(pictures.windows(2).all(|pair| pair[0] == pair[1]), "the answers differ");
    pictures[0][0].clone()
}

async fn three_hundred(builder: Builder) {
    let cluster = builder.start();
    let asks = (0..300).map(|client| cluster.generate(client % 3, kite("a kite over the sea [[latency=1200]]")));
    let replies = join_all(asks).await;
    let picture = all_equal(&replies);
    assert_eq!(cluster.book().await.len(), 1, "one picture, one bill");
    let misses = replies.iter().filter(|reply| reply.cache() == "miss").count();
    assert_eq!(misses, 1, "one paid, the others joined it");
    // A hit made by one is a hit on all.
    for replica in 0..3 {
        let again = cluster.generate(replica, kite("a kite over the sea [[latency=1200]]")).await.expect(200);
        assert_eq!((again.cache(), &again.pictures()[0]), ("hit", &picture));
    }
    let (code, _, err) = cluster.run(&["cache", "purge", "--all"]);
    assert_eq!(code, 0, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_three_hundred_clients_of_three_replicas_pay_once_with_postgres_alone() {
    three_hundred(Cluster::of(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_three_hundred_clients_of_three_replicas_pay_once_with_pictures_in_a_bucket() {
    three_hundred(Cluster::of(3).s3()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_three_hundred_clients_of_three_replicas_pay_once_with_redis_between() {
    three_hundred(Cluster::of(3).redis()).await;
}

/// Whatever becomes of Redis while a picture is made: one bill, and everybody is answered.
#[tokio::test(flavor = "multi_thread")]
async fn i16_redis_may_be_killed_flushed_restored_or_frozen() {
    let mut cluster = Cluster::of(3).redis().start();
    for (round, harm) in ["kill", "flush", "restore", "freeze", "cut"].into_iter().enumerate() {
        let prompt = format!("a heron before a {harm} [[latency=700]]");
        let redis = cluster.redis.as_mut().expect("it has one");
        redis.save_dump();
        let asks: Vec<_> = (0..30)
            .map(|client| {
                let url = format!("{}/v1/images/generations", cluster.replicas[client % 3].gateway.url);
                let body = kite(&prompt).to_string();
                let request = cluster.client.post(url).header("content-type", "application/json").body(body);
                tokio::spawn(async move { crate::world::reply(request).await })
            })
            .collect();
        cluster.until(|stats| stats["in_flight"] == 1).await;
        let redis = cluster.redis.as_mut().expect("it has one");
        match harm {
            "kill" => redis.kill(),
            "flush" => redis.flush(),
            "restore" => {
                redis.kill();
                redis.restore_dump();
            }
            "freeze" => redis.pause(),
            _ => redis.cut_clients(),
        }
        let replies: Vec<Reply> = join_all(asks).await.into_iter().map(|reply| reply.expect("no panic")).collect();
        all_equal(&replies);
        assert_eq!(cluster.book().await.len(), round + 1, "{harm}");
        let redis = cluster.redis.as_mut().expect("it has one");
        match harm {
            "kill" => redis.restart(),
            "freeze" => redis.resume(),
            _ => {}
        }
        for replica in 0..3 {
            assert_eq!(cluster.generate(replica, kite(&prompt)).await.expect(200).cache(), "hit", "{harm}");
        }
    }
}

/// The limits of an account hold for all replicas together.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_keep_the_limits_of_an_account_together() {
    let config =
        "[providers.narrow]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nlimits = { concurrent = 3 }\n";
    let cluster = Cluster::of(3).redis().config(config).start();
    let ask = |client: usize| {
        let prompt = format!("crane {client} [[latency=60]]");
        let body = json!({ "model": "narrow/draft", "prompt": prompt, "size": "64x64" });
        cluster.generate(client % 3, body)
    };
    let replies = join_all((0..24).map(ask)).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(cluster.stats().await["peak_in_flight"], 3);
}

/// A purge on one replica is a purge on all: within a second (they look every half), and on a machine that is busy
/// with other tests as soon as they come to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_on_one_is_a_purge_on_all() {
    let cluster = Cluster::of(2).start();
    let first = cluster.generate(0, kite("a barn")).await.expect(200);
    let id = first.body["mimeo"]["images"][0]["id"].as_str().expect("it is stored").to_owned();
    for replica in 0..2 {
        assert_eq!(cluster.get(replica, &format!("/media/{id}")).await.status, 200);
    }
    let (code, _, err) = cluster.run(&["cache", "purge", "--route", "sandbox/draft"]);
    assert_eq!(code, 0, "{err}");
    let purged = tokio::time::Instant::now();
    for replica in 0..2 {
        while cluster.get(replica, &format!("/media/{id}")).await.status != 404 {
            assert!(purged.elapsed() < Duration::from_secs(5), "replica {replica} still gives it out");
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(cluster.generate(1, kite("a barn")).await.expect(200).cache(), "miss");
    assert_eq!(cluster.book().await.len(), 2);
}

/// Whoever leads and is frozen past its lease can neither publish nor settle when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn i4_a_frozen_leader_can_neither_publish_nor_settle() {
    let mut cluster = Cluster::of(2).lease(1).start();
    let slow = kite("a lighthouse [[latency=1500]]");
    let leader = tokio::spawn({
        let client = cluster.client.clone();
        let url = format!("{}/v1/images/generations", cluster.replicas[0].gateway.url);
        let request = client.post(url).header("content-type", "application/json").body(slow.to_string());
        async move { crate::world::reply(request).await }
    });
    cluster.until(|stats| stats["in_flight"] == 1).await;
    cluster.stop(0);
    // The follower waits for the leader, gives it up, and pays for nothing.
    let follower = cluster.generate(1, slow.clone()).await.expect(504);
    assert_eq!(follower.code(), "outcome_unknown");
    assert!(follower.message().contains("ledger resolve att_"), "{}", follower.message());
    cluster.until(|stats| stats["in_flight"] == 0).await;
    cluster.resume(0);
    // Its own caller gets what was made, and nobody else does.
    let delivered = leader.await.expect("no panic").expect(200);
    assert_eq!(delivered.body["mimeo"]["images"][0]["id"], Value::Null, "it is not stored");
    for replica in 0..2 {
        assert_eq!(cluster.generate(replica, slow.clone()).await.expect(504).code(), "outcome_unknown");
    }
    let ledger = cluster.ledger();
    assert_eq!((&ledger["spent_usd"], &ledger["reserved_usd"]), (&json!("0"), &json!("0")));
    assert_ne!(ledger["suspense_usd"], "0");
    assert_eq!(cluster.book().await.len(), 1);
    // What it learnt is there for who resolves it; then the way is free.
    let (_, out, _) = cluster.run(&["ledger", "suspense", "--json"]);
    let suspense: Value = serde_json::from_str(&out).expect("JSON");
    assert!(suspense[0]["why"].as_str().expect("why").contains("billed $"), "{suspense}");
    let attempt = suspense[0]["attempt"].as_str().expect("its name");
    let billed = cluster.book().await[0]["usd"].as_str().expect("usd").to_owned();
    let (code, _, err) = cluster.run(&["ledger", "resolve", attempt, "--billed", &billed]);
    assert_eq!(code, 0, "{err}");
    // It is alive again under another term.
    assert_eq!(cluster.generate(0, slow).await.expect(200).cache(), "miss");
}

/// A repetition after an unknown outcome is paid only by who says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_after_an_unknown_outcome_is_not_paid_silently() {
    let cluster = Cluster::of(2).start();
    let lost = kite("a fox [[bill-then-reset]]");
    let first = cluster.generate(0, lost.clone()).await.expect(504);
    assert_eq!(first.code(), "outcome_unknown");
    for replica in [1, 0] {
        let again = cluster.generate(replica, lost.clone()).await.expect(504);
        assert_eq!(again.code(), "outcome_unknown");
        assert_eq!(again.header("x-should-retry"), "false");
        assert!(again.message().contains(first.header("x-request-id")), "{}", again.message());
    }
    // Neither does asking for a new picture, nor leaving no trace.
    for mode in ["no-cache", "no-store"] {
        let mut body = lost.clone();
        body["cache"] = json!({ "mode": mode });
        assert_eq!(cluster.generate(1, body).await.expect(504).code(), "outcome_unknown", "{mode}");
    }
    assert_eq!(cluster.book().await.len(), 1);
    let mut knowingly = lost.clone();
    knowingly["retry_unknown"] = json!(true);
    cluster.generate(1, knowingly).await.expect(504);
    assert_eq!(cluster.book().await.len(), 2, "who says so pays again");
}

/// 64 clients of 3 replicas, and money for ten.
#[tokio::test(flavor = "multi_thread")]
async fn i7_budgets_hold_over_all_replicas() {
    let limits = [
        ("[providers.sandbox.budget]\nusd = '0.1'\nper = 'day'\n", "usd"),
        ("[providers.sandbox.budget]\npictures = 10\nper = 'total'\n", "pictures"),
    ];
    for (config, what) in limits {
        let config = config.replace(
            "[providers.sandbox.budget]",
            "[routes.kites]\ncandidates = ['compatible/sandbox-image']\n[routes.kites.budget]",
        );
        let cluster = Cluster::of(3).config(&config).start();
        let ask = |client: usize| {
            let body = json!({ "model": "kites", "prompt": format!("kite {client}"), "size": "256x256" });
            cluster.generate(client % 3, body)
        };
        let replies = join_all((0..64).map(ask)).await;
        let made = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(made, 10, "{what}");
        assert_eq!(cluster.book().await.len(), 10, "{what}");
        let refused = replies.iter().find(|reply| reply.status != 200).expect("54 are refused");
        assert_eq!((refused.status, refused.code()), (429, "budget_exceeded"));
        assert!(refused.message().contains("route `kites` has used"), "{}", refused.message());
    }
}

/// PostgreSQL restarted while a picture is made: nobody notices but by the clock.
#[tokio::test(flavor = "multi_thread")]
async fn i16_postgres_may_restart_while_a_picture_is_made() {
    let mut cluster = Cluster::of(3).own_postgres().start();
    let slow = kite("a whale [[latency=1500]]");
    let asks: Vec<_> = (0..30)
        .map(|client| {
            let url = format!("{}/v1/images/generations", cluster.replicas[client % 3].gateway.url);
            let request = cluster.client.post(url).header("content-type", "application/json").body(slow.to_string());
            tokio::spawn(async move { crate::world::reply(request).await })
        })
        .collect();
    cluster.until(|stats| stats["in_flight"] == 1).await;
    cluster.postgres.kill();
    // It comes back after the provider has answered, so that the settlement has to wait for it.
    cluster.until(|stats| stats["in_flight"] == 0).await;
    cluster.postgres.restart();
    let replies: Vec<Reply> = join_all(asks).await.into_iter().map(|reply| reply.expect("no panic")).collect();
    all_equal(&replies);
    assert_eq!(cluster.book().await.len(), 1);
    cluster.until_ledger(|ledger| ledger["reserved_usd"] == "0" && ledger["suspense_usd"] == "0").await;
}

/// PostgreSQL away in the middle of two calls, for longer than anybody waits for it: when it is there again, what was
/// made is settled and stored, and what was only set aside is given back. No process has to end for that.
#[tokio::test(flavor = "multi_thread")]
async fn i16_postgres_away_for_long_leaves_nothing_open() {
    let config =
        "[providers.narrow]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nlimits = { concurrent = 1 }\n";
    let cluster = Cluster::of(1).proxied().lease(600).config(config).start();
    let way = &cluster.replicas[0].proxies.as_ref().expect("proxies").postgres;
    let narrow = |prompt: &str| json!({ "model": "narrow/draft", "prompt": prompt, "size": "64x64" });
    let ask = |body: &Value| {
        let url = format!("{}/v1/images/generations", cluster.replicas[0].gateway.url);
        let request = cluster.client.post(url).header("content-type", "application/json").body(body.to_string());
        tokio::spawn(crate::world::reply(request))
    };
    let (calling, waiting) = (narrow("a stork [[latency=4000]]"), narrow("an egret"));
    let first = ask(&calling);
    cluster.until(|stats| stats["in_flight"] == 1).await;
    // Its money is set aside, and it waits for its turn.
    let second = ask(&waiting);
    cluster.until_ledger(|ledger| ledger["reserved_usd"] == "0.004").await;
    way.cut();
    let delivered = first.await.expect("no panic").expect(200);
    assert_eq!(delivered.body["mimeo"]["images"][0]["id"], Value::Null, "it is not stored yet");
    assert_eq!(second.await.expect("no panic").expect(503).code(), "store_unavailable");
    assert_eq!(cluster.stats().await["requests_seen"], 1, "what could not be written down was not sent");
    way.mend();
    cluster.until_ledger(|ledger| ledger["reserved_usd"] == "0").await;
    let ledger = cluster.ledger();
    assert_eq!((&ledger["spent_usd"], &ledger["suspense_usd"]), (&json!("0.002"), &json!("0")), "{ledger}");
    let again = cluster.generate(0, calling).await.expect(200);
    assert_eq!((again.cache(), again.pictures()), ("hit", delivered.pictures()));
    assert_eq!(cluster.generate(0, waiting).await.expect(200).cache(), "miss");
    assert_eq!(cluster.book().await.len(), 2);
}

/// Without PostgreSQL nothing is sent, and it is said at once what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn i16_without_postgres_nothing_is_paid() {
    let mut cluster = Cluster::of(1).own_postgres().start();
    cluster.generate(0, kite("a tree")).await.expect(200);
    cluster.postgres.kill();
    let refused = cluster.generate(0, kite("another tree")).await.expect(503);
    assert_eq!(refused.code(), "store_unavailable");
    assert_eq!(cluster.get(0, "/readyz").await.status, 503);
    assert_eq!(cluster.book().await.len(), 1);
    cluster.postgres.restart();
    assert_eq!(cluster.generate(0, kite("a tree")).await.expect(200).cache(), "hit");
    cluster.generate(0, kite("another tree")).await.expect(200);
    assert_eq!(cluster.book().await.len(), 2);
}

/// A bucket that is away when a picture comes: the caller has it, and the others get it when the bucket is back.
#[tokio::test(flavor = "multi_thread")]
async fn i16_a_bucket_that_is_away_costs_no_second_picture() {
    let cluster = Cluster::of(2).s3().proxied().start();
    let ways =
        |replica: usize| cluster.replicas[replica].proxies.as_ref().and_then(|ways| ways.s3.as_ref()).expect("a proxy");
    ways(0).cut();
    let first = cluster.generate(0, kite("a mill")).await.expect(200);
    ways(0).mend();
    let second = tokio::time::timeout(Duration::from_secs(60), cluster.generate(1, kite("a mill")));
    let second = second.await.expect("the first does not leave it waiting").expect(200);
    assert_eq!((second.cache(), second.pictures()), ("join", first.pictures()));
    assert_eq!(cluster.book().await.len(), 1);
}

/// The leader is killed, or freezes for longer than its lease, at every named place: whoever waits for it is
/// answered, and there is one bill at most.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_leader_that_dies_or_freezes_anywhere_strands_nobody() {
    // Where nothing was sent a follower makes it; where it was, nobody knows; once it is written, it is there.
    let places = [
        ("attempt::before_intent", 200),
        ("attempt::after_intent", 504),
        ("attempt::after_answer", 504),
        ("attempt::after_admit", 504),
        ("store::before_blob", 504),
        ("store::after_blob", 504),
        ("store::after_settle", 200),
        ("flight::before_publish", 200),
    ];
    for action in ["kill", "stop"] {
        let runs = places.map(|(place, status)| async move {
            let script = format!("{place}={action}@1");
            let mut cluster = Cluster::of(3).lease(1).environment(0, "MIMEO_FAILPOINTS", &script).start();
            let body = kite(&format!("{action} at {place} [[latency=300]]"));
            let leader = {
                let url = format!("{}/v1/images/generations", cluster.replicas[0].gateway.url);
                let request = cluster.client.post(url).header("content-type", "application/json");
                tokio::spawn(crate::world::try_reply(request.body(body.to_string())))
            };
            cluster.until_down(0).await;
            let followers = join_all((0..20).map(|client| cluster.generate(1 + client % 2, body.clone()))).await;
            for follower in &followers {
                assert_eq!(follower.status, status, "{script}: {}", follower.body);
            }
            let bills = cluster.book().await.len();
            assert!(bills <= 1, "{script}: {bills} bills");
            if action == "stop" {
                // It comes back, and can do no harm.
                cluster.resume(0);
                let late = leader.await.expect("no panic").expect("it answers");
                let is_told = matches!(late.code(), "outcome_unknown" | "unavailable");
                assert!(late.status == 200 || is_told, "{script}: {}", late.body);
                let again = cluster.generate(1, body.clone()).await;
                assert_eq!(again.status, status, "{script}: {}", again.body);
                let bills = cluster.book().await.len();
                assert!(bills <= 1, "{script}: {bills} bills after it came back");
                let was_sent = place != "attempt::after_intent";
                assert_eq!(bills == 1, was_sent, "{script}: who finds itself late does not send");
            }
            let ledger = cluster.ledger();
            assert_eq!(ledger["reserved_usd"], "0", "{script}");
            assert_eq!(ledger["suspense_usd"] == "0", status == 200, "{script}: {ledger}");
        });
        for run in runs {
            run.await;
        }
    }
}

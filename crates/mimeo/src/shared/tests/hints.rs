//! Hints reach everybody once, and come again after a cut.

use tokio::sync::broadcast::Receiver;

use super::{Place, Server, eventually, in_time, meet, patient, places};
use crate::domain::Digest;
use crate::shared::Hint;

#[tokio::test(flavor = "multi_thread")]
async fn hints_reach_everybody_once() {
    for Place { replicas, _server } in places() {
        let listener = replicas.last().unwrap();
        meet(&replicas[0], listener).await;
        let mut heard_here = replicas[0].hints();
        let mut heard_there = listener.hints();
        let landed: Vec<Hint> = (0..100_u8).map(|n| Hint::Landed(Digest::of(&[n]))).collect();
        for hint in &landed {
            replicas[0].tell(*hint);
        }
        let all = in_time("all come", until(&mut heard_there, landed[99])).await;
        assert_eq!(all, landed);
        // The answer is on its way after the echo of everything that it answers.
        let answer = Hint::Landed(Digest::of(b"the answer"));
        listener.tell(answer);
        let mut all = in_time("all come", until(&mut heard_here, answer)).await;
        assert_eq!(all.pop(), Some(answer));
        assert_eq!(all, landed, "each once");
    }
}

/// Everything that is heard up to and with `last`, but for those of the beginning.
async fn until(hints: &mut Receiver<Hint>, last: Hint) -> Vec<Hint> {
    let mut heard = Vec::new();
    while heard.last() != Some(&last) {
        heard.push(hints.recv().await.unwrap());
    }
    heard.retain(|hint| *hint != Hint::Purged);
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_come_again_after_a_cut() {
    let server = Server::start();
    let (one, other) = (server.join(&patient()), server.join(&patient()));
    for _ in 0..3 {
        for (n, (from, to)) in [(&one, &other), (&other, &one)].into_iter().enumerate() {
            let (hint, mut hints) = (Hint::Landed(Digest::of(&[n as u8])), to.hints());
            eventually("it is heard", async || {
                from.tell(hint);
                hints.try_recv().ok().filter(|heard| *heard == hint)
            })
            .await;
        }
        server.cut();
    }
}

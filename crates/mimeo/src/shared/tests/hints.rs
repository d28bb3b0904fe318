//! Hints reach everybody once, and come again after a cut.

use tokio::sync::broadcast::error::TryRecvError;

use super::{Place, Server, eventually, in_time, patient, places};
use crate::domain::Digest;
use crate::shared::Hint;

#[tokio::test(flavor = "multi_thread")]
async fn hints_reach_everybody_once() {
    for Place { replicas, _server } in places() {
        let listener = replicas.last().unwrap();
        // Until both are there, hints to each other are lost.
        for (from, to) in [(&replicas[0], listener), (listener, &replicas[0])] {
            let mut hints = to.hints();
            eventually("they hear each other", async || {
                from.tell(Hint::Purged);
                hints.try_recv().ok()
            })
            .await;
        }
        // Everything before has arrived when the last of it has.
        let mut all: Vec<_> = replicas.iter().map(crate::shared::Shared::hints).collect();
        let landed: Vec<Hint> = (0..100_u8).map(|n| Hint::Landed(Digest::of(&[n]))).collect();
        for hint in &landed {
            replicas[0].tell(*hint);
        }
        for hints in &mut all {
            let mut heard = Vec::new();
            while heard.last() != landed.last() {
                heard.push(in_time("the next hint comes", hints.recv()).await.unwrap());
            }
            heard.retain(|hint| *hint != Hint::Purged);
            assert_eq!(heard, landed);
            assert!(matches!(hints.try_recv(), Err(TryRecvError::Empty)), "its own echo is not heard");
        }
    }
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

//! What a server tells over its WebSocket: JSON about nodes, and previews in binary frames.

use bytes::Bytes;
use serde_json::Value;

use crate::net::socket::Message;

/// The kinds of binary messages that hold a preview: with the picture's type before it, or with a description.
const PREVIEW: u32 = 1;
const DESCRIBED_PREVIEW: u32 = 4;

/// What a message says of one graph.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Its execution has begun.
    Started,
    /// How far the node is that works, 0–100.
    Progress(u8),
    /// What the picture looks like so far.
    Preview(Bytes),
    /// It has ended, well or badly.
    Ended,
}

impl News {
    /// What `message` says of the graph `name`, if anything.
    pub(super) fn of(message: Message, name: &str) -> Option<News> {
        match message {
            Message::Text(text) => told(&serde_json::from_str(&text).ok()?, name),
            Message::Binary(bytes) => preview(&bytes).map(News::Preview),
        }
    }
}

fn told(value: &Value, name: &str) -> Option<News> {
    let data = value.get("data")?;
    // Some are told to everybody.
    if data.get("prompt_id").is_some_and(|id| id.as_str() != Some(name)) {
        return None;
    }
    match value.get("type")?.as_str()? {
        "execution_start" | "execution_cached" => Some(News::Started),
        // No node at all is the end.
        "executing" if data.get("node")?.is_null() => Some(News::Ended),
        "executing" => Some(News::Started),
        "progress" => {
            let number = |key: &str| data.get(key).and_then(Value::as_f64);
            let share = number("value")? / number("max").filter(|max| *max > 0.0)?;
            // In range by the clamp.
            Some(News::Progress((share * 100.0).clamp(0.0, 100.0) as u8))
        }
        "execution_success" | "execution_error" | "execution_interrupted" => Some(News::Ended),
        _ => None,
    }
}

/// The picture in a binary message.
fn preview(bytes: &Bytes) -> Option<Bytes> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let start = match number(0)? {
        PREVIEW => 8,
        DESCRIBED_PREVIEW => usize::try_from(number(4)?).ok()?.checked_add(8)?,
        _ => return None,
    };
    (start < bytes.len()).then(|| bytes.slice(start..))
}

/// Picks as many previews as are wanted, evenly over the execution: servers send one for each step.
#[derive(Debug)]
pub(super) struct Previews {
    wanted: u8,
    sent: u8,
    percent: u8,
}

impl Previews {
    pub(super) fn wanted(wanted: u8) -> Previews {
        Previews { wanted, sent: 0, percent: 0 }
    }

    /// Notes how far the execution is.
    pub(super) fn progress(&mut self, percent: u8) {
        self.percent = self.percent.max(percent);
    }

    /// Counts a preview that came: its number among those that are passed on, if it is one of them.
    pub(super) fn next(&mut self) -> Option<u32> {
        let due = u32::from(self.percent) * (u32::from(self.wanted) + 1) >= 100 * (u32::from(self.sent) + 1);
        if !due || self.sent >= self.wanted {
            return None;
        }
        self.sent += 1;
        Some(u32::from(self.sent) - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Option<News> {
        News::of(Message::Text(text.to_owned()), "a")
    }

    #[test]
    fn what_is_told() {
        for (message, news) in [
            (r#"{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}}}}"#, None),
            (r#"{"type":"execution_start","data":{"prompt_id":"a"}}"#, Some(News::Started)),
            (r#"{"type":"execution_start","data":{"prompt_id":"b"}}"#, None),
            (r#"{"type":"executing","data":{"node":"3","prompt_id":"a"}}"#, Some(News::Started)),
            (r#"{"type":"executing","data":{"node":null,"prompt_id":"a"}}"#, Some(News::Ended)),
            (r#"{"type":"progress","data":{"value":5,"max":20,"prompt_id":"a","node":"3"}}"#, Some(News::Progress(25))),
            (r#"{"type":"progress","data":{"value":5,"max":0}}"#, None),
            (r#"{"type":"progress","data":{"value":50,"max":20}}"#, Some(News::Progress(100))),
            (r#"{"type":"execution_interrupted","data":{"prompt_id":"b"}}"#, None),
            (r#"{"type":"execution_error","data":{"prompt_id":"a"}}"#, Some(News::Ended)),
            ("[1]", None),
            ("{", None),
        ] {
            assert_eq!(text(message), news, "{message}");
        }
    }

    #[test]
    fn previews_in_both_frames() {
        let binary = |bytes: &[u8]| News::of(Message::Binary(Bytes::copy_from_slice(bytes)), "a");
        let jpeg = |bytes: &'static [u8]| Some(News::Preview(Bytes::from_static(bytes)));
        assert_eq!(binary(b"\0\0\0\x01\0\0\0\x01\xff\xd8"), jpeg(b"\xff\xd8"));
        assert_eq!(binary(b"\0\0\0\x04\0\0\0\x02{}\xff\xd8"), jpeg(b"\xff\xd8"));
        for bad in
            [&b""[..], b"\0\0\0\x01", b"\0\0\0\x01\0\0\0\x01", b"\0\0\0\x04\xff\xff\xff\xff{}", b"\0\0\0\x03\0\0\0\0xx"]
        {
            assert_eq!(binary(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn previews_are_spread_over_the_execution() {
        let picked = |wanted: u8| {
            let mut previews = Previews::wanted(wanted);
            let step = |step: u8| {
                previews.progress(step * 5);
                previews.next().map(|index| (step, index))
            };
            (1..=20).filter_map(step).collect::<Vec<_>>()
        };
        assert_eq!(picked(0), []);
        assert_eq!(picked(1), [(10, 0)]);
        assert_eq!(picked(3), [(5, 0), (10, 1), (15, 2)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn nothing_that_comes_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in ".{0,64}") {
            News::of(Message::Binary(bytes.into()), "a");
            News::of(Message::Text(text), "a");
        }
    }
}

//! The body of an answer as a row of pieces, so that a picture of many megabytes is never copied as a
//! whole: text goes out as it is, a picture is turned into base64 a chunk at a time, while it is sent,
//! straight from the bytes that the store and all other callers share.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Picture bytes that are encoded per frame. A multiple of 3, so that no chunk but the last is padded;
/// 256 KiB once encoded, enough to keep a socket busy, little enough to stay in a core's cache.
const CHUNK: usize = 192 * 1024;

/// Bodies below this size become one frame, and so one write together with the headers.
const COALESCE: usize = 64 * 1024;

/// A part of a body.
#[derive(Clone, Debug)]
enum Piece {
    /// Sent as it is.
    Plain(Bytes),
    /// Sent as base64.
    Base64(Bytes),
}

impl Piece {
    fn encoded_len(&self) -> usize {
        match self {
            Piece::Plain(bytes) => bytes.len(),
            Piece::Base64(bytes) => bytes.len().div_ceil(3) * 4,
        }
    }
}

/// A body under construction, or being sent.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    row: VecDeque<Piece>,
    /// Text that is not yet a piece.
    text: String,
}

impl Pieces {
    /// A body of these bytes.
    pub fn of(bytes: Bytes) -> Self {
        Pieces { row: VecDeque::from([Piece::Plain(bytes)]), text: String::new() }
    }

    /// Appends text as it is.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a value as JSON. A value that has no JSON form becomes `null`.
    pub fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> &mut Self {
        match serde_json::to_string(value) {
            Ok(json) => self.text(&json),
            Err(_) => self.text("null"),
        }
    }

    /// Appends a comma, a field's name and its value as JSON.
    pub fn field<T: serde::Serialize + ?Sized>(&mut self, name: &str, value: &T) -> &mut Self {
        self.text(",").json(name).text(":").json(value)
    }

    /// Appends the base64 of `bytes`, which are shared and not copied.
    pub fn base64(&mut self, bytes: Bytes) -> &mut Self {
        self.close_text();
        self.row.push_back(Piece::Base64(bytes));
        self
    }

    /// What all pieces will be when sent.
    pub fn len(&self) -> usize {
        self.text.len() + self.row.iter().map(Piece::encoded_len).sum::<usize>()
    }

    /// True if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Small bodies are put together now, large ones stay in pieces.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.close_text();
        if self.row.len() < 2 || self.len() >= COALESCE {
            return self;
        }
        let mut whole = Vec::with_capacity(self.len());
        while let Some(frame) = self.next_frame() {
            whole.extend_from_slice(&frame);
        }
        Pieces::of(whole.into())
    }

    /// The next bytes to send.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            match self.row.pop_front() {
                Some(Piece::Plain(bytes)) if bytes.is_empty() => {}
                Some(Piece::Plain(bytes)) => return Some(bytes),
                Some(Piece::Base64(bytes)) if bytes.is_empty() => {}
                Some(Piece::Base64(mut bytes)) => {
                    let chunk = bytes.split_to(bytes.len().min(CHUNK));
                    if !bytes.is_empty() {
                        self.row.push_front(Piece::Base64(bytes));
                    }
                    let mut encoded = Vec::with_capacity(chunk.len().div_ceil(3) * 4);
                    base64_simd::STANDARD.encode_append(&chunk, &mut encoded);
                    return Some(encoded.into());
                }
                None if self.text.is_empty() => return None,
                None => self.close_text(),
            }
        }
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.row.push_back(Piece::Plain(std::mem::take(&mut self.text).into()));
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_frame().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // Exact, which becomes the Content-Length.
        SizeHint::with_exact(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(mut pieces: Pieces) -> (Vec<u8>, usize) {
        let (mut whole, mut frames) = (Vec::new(), 0);
        loop {
            let before = pieces.size_hint().exact().unwrap();
            match pieces.next_frame() {
                None => {
                    assert_eq!(before, 0);
                    assert!(pieces.is_end_stream());
                    return (whole, frames);
                }
                Some(frame) => {
                    assert_eq!(pieces.size_hint().exact().unwrap() + frame.len() as u64, before);
                    assert!(!frame.is_empty());
                    whole.extend_from_slice(&frame);
                    frames += 1;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_sent_is_plain_base64(
            parts in prop::collection::vec((".{0,20}", 0usize..3 * CHUNK + 5), 0..4),
            fill in any::<u8>(),
        ) {
            let (mut pieces, mut expected) = (Pieces::default(), Vec::new());
            for (text, length) in &parts {
                let picture: Vec<u8> = (0..*length).map(|i| (i as u8).wrapping_mul(31) ^ fill).collect();
                expected.extend_from_slice(text.as_bytes());
                expected.extend_from_slice(base64_simd::STANDARD.encode_to_string(&picture).as_bytes());
                pieces.text(text).base64(picture.into());
            }
            pieces.text("}");
            expected.push(b'}');
            let pieces = pieces.finish();
            prop_assert_eq!(pieces.size_hint().exact(), Some(expected.len() as u64));
            let (whole, frames) = sent(pieces);
            prop_assert!(whole == expected);
            prop_assert!(whole.len() >= COALESCE || frames == 1);
        }
    }

    #[test]
    fn around_the_chunk_border() {
        for length in [0, 1, 2, 3, 4, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let picture = vec![0xA5; length];
            let mut pieces = Pieces::default();
            pieces.base64(picture.clone().into());
            let (whole, _) = sent(pieces.finish());
            assert!(whole == base64_simd::STANDARD.encode_to_string(&picture).into_bytes(), "{length}");
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let (whole, frames) = sent(Pieces::default().finish());
        assert!(whole.is_empty());
        assert_eq!(frames, 0);
    }
}

//! Server-sent events, read as they come, in linear time and without holding a line: a single `data` line may be
//! a picture of many megabytes, so its bytes are handed on piece by piece.

use memchr::memchr2;

/// Longest event name that is kept, in bytes.
const LONGEST_NAME: usize = 64;

/// A part of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Bytes of the current event's data.
    Data(&'a [u8]),
    /// The current event is complete; its name, empty if it has none.
    End(&'a str),
}

/// A stream that is being read.
#[derive(Debug, Default)]
pub(super) struct Sse {
    line: Line,
    /// The last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    name: Vec<u8>,
    has_data: bool,
}

/// Where in a line the stream is.
#[derive(Debug)]
enum Line {
    /// In the field's name, which is kept as far as it can be one of interest.
    Field(Vec<u8>),
    /// Behind the colon, where one space is dropped.
    Colon(Field),
    /// In the field's value.
    Value(Field),
}

impl Default for Line {
    fn default() -> Self {
        Line::Field(Vec::new())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Other,
}

fn field(name: &[u8]) -> Field {
    match name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) {
        b"data" => Field::Data,
        b"event" => Field::Event,
        _ => Field::Other,
    }
}

impl Sse {
    /// Takes the next piece of the stream and tells what it holds.
    ///
    /// # Errors
    /// The first error of `sink`.
    pub(super) fn feed<E>(
        &mut self,
        mut piece: &[u8],
        sink: &mut impl FnMut(Token<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.after_return && !piece.is_empty() {
            self.after_return = false;
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while !piece.is_empty() {
            let at = memchr2(b'\n', b'\r', piece);
            let (content, rest) = piece.split_at(at.unwrap_or(piece.len()));
            self.content(content, sink)?;
            let Some((end, rest)) = rest.split_first() else { return Ok(()) };
            self.end_line(sink)?;
            piece = rest;
            if *end == b'\r' {
                self.after_return = piece.is_empty();
                piece = piece.strip_prefix(b"\n").unwrap_or(piece);
            }
        }
        Ok(())
    }

    /// The stream's end. An event that only lacks its blank line counts: what it carries may be paid for.
    ///
    /// # Errors
    /// The error of `sink`.
    pub(super) fn finish<E>(mut self, sink: &mut impl FnMut(Token<'_>) -> Result<(), E>) -> Result<(), E> {
        if !matches!(&self.line, Line::Field(name) if name.is_empty()) {
            self.end_line(sink)?;
        }
        self.end_event(sink)
    }

    /// Bytes of the current line.
    fn content<E>(&mut self, mut content: &[u8], sink: &mut impl FnMut(Token<'_>) -> Result<(), E>) -> Result<(), E> {
        while !content.is_empty() {
            match &mut self.line {
                Line::Field(name) => {
                    let colon = memchr::memchr(b':', content);
                    let (part, rest) = content.split_at(colon.unwrap_or(content.len()));
                    let room = LONGEST_NAME.saturating_sub(name.len());
                    name.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
                    let Some((_, rest)) = rest.split_first() else { return Ok(()) };
                    let field = field(name);
                    self.begin(field, sink)?;
                    self.line = Line::Colon(field);
                    content = rest;
                }
                Line::Colon(field) => {
                    content = content.strip_prefix(b" ").unwrap_or(content);
                    self.line = Line::Value(*field);
                }
                Line::Value(Field::Data) => return sink(Token::Data(content)),
                Line::Value(Field::Event) => {
                    let room = LONGEST_NAME.saturating_sub(self.name.len());
                    self.name.extend_from_slice(content.get(..room.min(content.len())).unwrap_or_default());
                    return Ok(());
                }
                Line::Value(Field::Other) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The value of a field begins.
    fn begin<E>(&mut self, field: Field, sink: &mut impl FnMut(Token<'_>) -> Result<(), E>) -> Result<(), E> {
        match field {
            Field::Data if self.has_data => sink(Token::Data(b"\n")),
            Field::Data => {
                self.has_data = true;
                Ok(())
            }
            Field::Event => {
                self.name.clear();
                Ok(())
            }
            Field::Other => Ok(()),
        }
    }

    fn end_line<E>(&mut self, sink: &mut impl FnMut(Token<'_>) -> Result<(), E>) -> Result<(), E> {
        match std::mem::take(&mut self.line) {
            Line::Field(name) if name.is_empty() => self.end_event(sink),
            // A line without a colon is a field with an empty value.
            Line::Field(name) => self.begin(field(&name), sink),
            Line::Colon(_) | Line::Value(_) => Ok(()),
        }
    }

    fn end_event<E>(&mut self, sink: &mut impl FnMut(Token<'_>) -> Result<(), E>) -> Result<(), E> {
        let name = std::mem::take(&mut self.name);
        if !std::mem::take(&mut self.has_data) {
            return Ok(());
        }
        sink(Token::End(std::str::from_utf8(&name).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events of a stream that comes in pieces: names and data.
    fn events(stream: &[u8], cuts: &[usize]) -> Vec<(String, String)> {
        let (mut events, mut data) = (Vec::new(), Vec::new());
        let mut sink = |token: Token<'_>| -> Result<(), ()> {
            match token {
                Token::Data(bytes) => data.extend_from_slice(bytes),
                Token::End(name) => {
                    let text = String::from_utf8_lossy(&std::mem::take(&mut data)).into_owned();
                    events.push((name.to_owned(), text));
                }
            }
            Ok(())
        };
        let mut sse = Sse::default();
        let mut rest = stream;
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).clamp(1, rest.len()));
            sse.feed(piece, &mut sink).unwrap();
            rest = after;
        }
        sse.finish(&mut sink).unwrap();
        events
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn the_grammar() {
        let stream = "\u{feff}event: a\ndata: one\n\n: comment\nid: 7\nretry: 3\ndata:two\ndata:  three\n\n\
                      event: lost\n\nevent: x\nevent: b\ndata\ndata: \n\nunknown: field\ndata:[DONE]\n\ndata: tail";
        let expected =
            [event("a", "one"), event("", "two\n three"), event("b", "\n"), event("", "[DONE]"), event("", "tail")];
        for ends in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', ends);
            for cut in 1..9 {
                assert_eq!(events(stream.as_bytes(), &[cut]), expected, "{ends:?} {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_cut_reads_like_the_whole(
            stream in "(data|event|id|:|x|data:|event: e|data: [a-z]{0,9}|\r|\n|\r\n| ){0,60}",
            cuts in prop::collection::vec(1usize..12, 1..9),
        ) {
            prop_assert_eq!(events(stream.as_bytes(), &cuts), events(stream.as_bytes(), &[stream.len().max(1)]));
        }

        #[test]
        fn garbage_never_panics(stream in prop::collection::vec(any::<u8>(), 0..400), cuts in prop::collection::vec(1usize..50, 1..9)) {
            events(&stream, &cuts);
        }
    }
}

//! Reads a JSON body that carries pictures as base64, in one pass and without holding it twice.
//!
//! An answer with a picture of four megabytes is five and a half megabytes of JSON, nearly all of it one string.
//! [`Lift`] takes the body as it arrives, copies it to a small *skeleton*, and decodes the content of long strings
//! under known keys straight into the picture's final buffer. In the skeleton such a string is replaced by a
//! mark that no body can contain, because it is drawn at random for each body. What is left is parsed as usual.
//!
//! Short strings stay in the skeleton as they are, so that an empty or a wrong one can be looked at.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use memchr::{memchr, memchr2};
use serde_json::Value;

/// Strings up to this many bytes stay in the skeleton.
const SHORT: usize = 1024;

/// How far a `data:` prefix may reach, in bytes.
const PREFIX: usize = 256;

/// Least buffer for a picture of unknown size, and most that is set aside on the word of a header, in bytes.
const FIRST_BUFFER: usize = 256 << 10;
const MOST_AHEAD: usize = 32 << 20;

/// What a body may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest skeleton, in bytes.
    pub skeleton: usize,
    /// Largest picture, in bytes.
    pub picture: usize,
    /// Most pictures.
    pub pictures: usize,
}

/// Largest picture that is taken from a provider, however it comes, in bytes.
pub const LARGEST_PICTURE: usize = 128 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits { skeleton: 4 << 20, picture: LARGEST_PICTURE, pictures: 16 }
    }
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiftError {
    /// What is not a picture is too large.
    #[error("the answer is too large")]
    SkeletonTooLarge,
    /// A picture is too large.
    #[error("a picture in the answer is too large")]
    PictureTooLarge,
    /// There are too many pictures.
    #[error("the answer has too many pictures")]
    TooManyPictures,
    /// A picture is not valid base64.
    #[error("a picture in the answer is not valid base64")]
    NotBase64,
    /// The body ended inside a string.
    #[error("the answer is cut off")]
    Truncated,
    /// The body is not JSON.
    #[error("the answer is not JSON")]
    NotJson,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Lift {
    /// The keys whose strings are lifted; without them, whatever begins as a picture does.
    keys: Option<&'static [&'static str]>,
    limits: Limits,
    mark: String,
    skeleton: Vec<u8>,
    pictures: Vec<Bytes>,
    state: State,
    /// The last complete string of the skeleton, with its quotes.
    last: Range<usize>,
    /// Bytes of the body that are still to come, if that is known.
    ahead: Option<usize>,
    /// Pictures that are expected.
    expected: usize,
}

#[derive(Debug)]
enum State {
    /// Outside of strings.
    Plain,
    /// In a string that is copied, from its quote at `start`.
    Text { start: usize, liftable: bool, escaped: bool },
    /// In a string that is decoded.
    Picture(Decoder),
}

/// A body that was read.
#[derive(Debug)]
pub struct Lifted {
    /// The body, with marks in the place of pictures. Read those with [`Lifted::picture`].
    pub value: Value,
    pictures: Vec<Bytes>,
    mark: String,
}

impl Lift {
    /// A reader that lifts the strings under `keys`. `length` is the size of the body and `expected` the number of
    /// its pictures, as far as they are known; both only spare allocations.
    pub fn new(keys: &'static [&'static str], limits: Limits, length: Option<usize>, expected: usize) -> Self {
        Lift { keys: Some(keys), ..Lift::pictures(limits, length, expected) }
    }

    /// A reader that lifts every long string that begins as a picture does in base64, wherever it stands.
    pub fn pictures(limits: Limits, length: Option<usize>, expected: usize) -> Self {
        let random = || RandomState::new().build_hasher().finish();
        let (high, low) = (random(), random());
        Lift {
            keys: None,
            limits,
            mark: format!("lifted:{high:016x}{low:016x}:"),
            skeleton: Vec::with_capacity(2 * SHORT),
            pictures: Vec::new(),
            state: State::Plain,
            last: 0..0,
            ahead: length,
            expected: expected.max(1),
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// The body is wrong or too large; nothing more can come of it.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), LiftError> {
        while !piece.is_empty() {
            let before = piece.len();
            piece = match &mut self.state {
                State::Plain => self.plain(piece)?,
                State::Text { .. } => self.text(piece)?,
                State::Picture(decoder) => {
                    let (rest, closed) = decoder.text(piece)?;
                    if closed {
                        self.close_picture()?;
                    }
                    rest
                }
            };
            if let Some(ahead) = &mut self.ahead {
                *ahead = ahead.saturating_sub(before - piece.len());
            }
        }
        Ok(())
    }

    /// What was copied so far: the whole body, if it is short and not JSON.
    pub fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// The body's end.
    ///
    /// # Errors
    /// The body is incomplete or not JSON.
    pub fn finish(self) -> Result<Lifted, LiftError> {
        match self.state {
            State::Plain => {}
            State::Text { .. } | State::Picture(_) => return Err(LiftError::Truncated),
        }
        let value = serde_json::from_slice(&self.skeleton)
            .map_err(|error| if error.is_eof() { LiftError::Truncated } else { LiftError::NotJson })?;
        Ok(Lifted { value, pictures: self.pictures, mark: self.mark })
    }

    fn copy(&mut self, bytes: &[u8]) -> Result<(), LiftError> {
        if self.skeleton.len() + bytes.len() > self.limits.skeleton {
            return Err(LiftError::SkeletonTooLarge);
        }
        self.skeleton.extend_from_slice(bytes);
        Ok(())
    }

    fn plain<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], LiftError> {
        let Some(quote) = memchr(b'"', piece) else {
            self.copy(piece)?;
            return Ok(&[]);
        };
        let (before, rest) = piece.split_at(quote + 1);
        self.copy(before)?;
        let start = self.skeleton.len() - 1;
        let liftable = self.follows_key(start);
        self.state = State::Text { start, liftable, escaped: false };
        Ok(rest)
    }

    /// True if the string that begins at `start` is the value of one of the keys.
    fn follows_key(&self, start: usize) -> bool {
        let Some(keys) = self.keys else { return true };
        let before = self.skeleton.get(..start).unwrap_or_default().trim_ascii_end();
        let Some(before) = before.strip_suffix(b":") else { return false };
        let quoted = self.skeleton.get(self.last.clone()).unwrap_or_default();
        let name = quoted.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        before.trim_ascii_end().len() == self.last.end
            && name.is_some_and(|name| keys.iter().any(|key| key.as_bytes() == name))
    }

    fn text<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], LiftError> {
        let State::Text { start, liftable, mut escaped } = self.state else { return Ok(piece) };
        let at = if escaped { Some(0) } else { memchr2(b'"', b'\\', piece) };
        let mut take = at.map_or(piece.len(), |at| at + 1);
        let mut closes = false;
        if liftable {
            // Never more than what shows that the string is long.
            take = take.min((SHORT + 2).saturating_sub(self.skeleton.len() - start));
        }
        if at.is_some_and(|at| at + 1 == take) {
            closes = !escaped && piece.get(take - 1) == Some(&b'"');
            escaped = !escaped && !closes;
        }
        let (bytes, rest) = piece.split_at(take);
        self.copy(bytes)?;
        if closes {
            self.last = start..self.skeleton.len();
            self.state = State::Plain;
        } else if liftable && self.skeleton.len() - start > SHORT + 1 {
            if self.keys.is_none() && !begins_as_picture(self.skeleton.get(start + 1..).unwrap_or_default()) {
                self.state = State::Text { start, liftable: false, escaped };
                return Ok(rest);
            }
            self.open_picture(start)?;
        } else {
            self.state = State::Text { start, liftable, escaped };
        }
        Ok(rest)
    }

    /// The string from `start` is long: from here on it is decoded.
    fn open_picture(&mut self, start: usize) -> Result<(), LiftError> {
        if self.pictures.len() >= self.limits.pictures {
            return Err(LiftError::TooManyPictures);
        }
        let left = self.expected.saturating_sub(self.pictures.len()).max(1);
        let capacity = self.ahead.map_or(FIRST_BUFFER, |ahead| (ahead + SHORT) / left / 4 * 3 + 3);
        let mut decoder = Decoder::new(capacity.min(self.limits.picture).min(MOST_AHEAD), self.limits.picture);
        let head = self.skeleton.get(start + 1..).unwrap_or_default();
        decoder.text(without_prefix(head)?)?;
        self.skeleton.truncate(start);
        self.state = State::Picture(decoder);
        Ok(())
    }

    fn close_picture(&mut self) -> Result<(), LiftError> {
        let State::Picture(decoder) = std::mem::replace(&mut self.state, State::Plain) else { return Ok(()) };
        let start = self.skeleton.len();
        let mark = format!("\"{}{}\"", self.mark, self.pictures.len());
        self.copy(mark.as_bytes())?;
        self.last = start..self.skeleton.len();
        self.pictures.push(decoder.finish()?);
        Ok(())
    }
}

impl Lifted {
    /// The picture that a string of [`Lifted::value`] stands for: one that was lifted, or a short one that is
    /// decoded now. `None` if the value is no string or is empty.
    pub fn picture(&self, value: &Value) -> Option<Result<Bytes, LiftError>> {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        if let Some(index) = text.strip_prefix(&self.mark) {
            let picture = index.parse().ok().and_then(|index: usize| self.pictures.get(index));
            return Some(picture.cloned().ok_or(LiftError::NotBase64));
        }
        Some(decode(text))
    }
}

/// Decodes a whole base64 text, with or without padding, white space or a `data:` prefix.
fn decode(text: &str) -> Result<Bytes, LiftError> {
    let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let content = without_prefix(&compact)?;
    let mut decoder = Decoder::new(content.len() / 4 * 3 + 3, usize::MAX);
    decoder.push(content)?;
    decoder.finish()
}

/// True if the text of a JSON string begins as the base64 of a PNG, a JPEG, a WebP, a GIF or an AVIF does.
fn begins_as_picture(text: &[u8]) -> bool {
    let head = without_prefix(text.get(..PREFIX).unwrap_or(text)).unwrap_or_default();
    let head: Vec<u8> = head.iter().take(32).copied().filter(|byte| *byte != b'\\').collect();
    head.starts_with(b"iVBORw0KGgo")
        || head.starts_with(b"/9j/")
        || head.starts_with(b"UklGR")
        || head.starts_with(b"R0lGOD")
        // Four bytes of length, then `ftyp`.
        || (head.starts_with(b"AAAA") && head.get(5..10) == Some(b"mZ0eX"))
}

/// `text` without a `data:…;base64,` at its beginning.
fn without_prefix(text: &[u8]) -> Result<&[u8], LiftError> {
    if !text.starts_with(b"data:") {
        return Ok(text);
    }
    let comma = memchr(b',', text.get(..PREFIX.min(text.len())).unwrap_or_default()).ok_or(LiftError::NotBase64)?;
    let (head, content) = text.split_at(comma + 1);
    if head.ends_with(b";base64,") { Ok(content) } else { Err(LiftError::NotBase64) }
}

/// Decodes base64 that comes in pieces of any size.
#[derive(Debug)]
struct Decoder {
    out: Vec<u8>,
    limit: usize,
    /// The characters of an incomplete group of four.
    carry: [u8; 4],
    carried: usize,
    /// A group ended in `=`: nothing may follow.
    ended: bool,
    escape: Escape,
}

/// Where in a JSON escape sequence the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    Unicode { digits: u8, code: u16 },
}

impl Decoder {
    fn new(capacity: usize, limit: usize) -> Self {
        Decoder {
            out: Vec::with_capacity(capacity),
            limit,
            carry: [0; 4],
            carried: 0,
            ended: false,
            escape: Escape::None,
        }
    }

    /// Takes JSON string text up to its closing quote. Returns what follows the quote, and whether it was there.
    fn text<'a>(&mut self, mut text: &'a [u8]) -> Result<(&'a [u8], bool), LiftError> {
        while let Some((first, after)) = text.split_first() {
            match self.escape {
                Escape::None => {
                    let at = memchr2(b'"', b'\\', text);
                    let (content, rest) = text.split_at(at.unwrap_or(text.len()));
                    self.push(content)?;
                    match rest.split_first() {
                        None => return Ok((&[], false)),
                        Some((b'"', rest)) => return Ok((rest, true)),
                        Some((_, rest)) => {
                            self.escape = Escape::Backslash;
                            text = rest;
                        }
                    }
                }
                Escape::Backslash => {
                    self.escape = Escape::None;
                    match first {
                        b'/' => self.push(b"/")?,
                        // Line breaks inside base64, as in mail.
                        b'n' | b'r' | b't' => {}
                        b'u' => self.escape = Escape::Unicode { digits: 0, code: 0 },
                        _ => return Err(LiftError::NotBase64),
                    }
                    text = after;
                }
                Escape::Unicode { digits, code } => {
                    let digit = char::from(*first).to_digit(16).ok_or(LiftError::NotBase64)?;
                    let code = code << 4 | u16::try_from(digit).unwrap_or(0);
                    self.escape = Escape::Unicode { digits: digits + 1, code };
                    if digits == 3 {
                        self.escape = Escape::None;
                        // Some serialisers write `=`, `+` and `/` like this.
                        let character = u8::try_from(code).map_err(|_| LiftError::NotBase64)?;
                        if !character.is_ascii_whitespace() {
                            self.push(&[character])?;
                        }
                    }
                    text = after;
                }
            }
        }
        Ok((&[], false))
    }

    /// Takes base64 characters.
    fn push(&mut self, mut text: &[u8]) -> Result<(), LiftError> {
        while self.carried > 0 || text.len() < 4 {
            let Some((first, rest)) = text.split_first() else { return Ok(()) };
            if let Some(slot) = self.carry.get_mut(self.carried) {
                *slot = *first;
            }
            self.carried += 1;
            text = rest;
            if self.carried == 4 {
                self.carried = 0;
                let group = self.carry;
                self.groups(&group)?;
            }
        }
        let (groups, rest) = text.split_at(text.len() / 4 * 4);
        self.groups(groups)?;
        if rest.is_empty() { Ok(()) } else { self.push(rest) }
    }

    /// Decodes whole groups of four.
    fn groups(&mut self, groups: &[u8]) -> Result<(), LiftError> {
        if self.ended {
            return Err(LiftError::NotBase64);
        }
        let decoded = groups.len() / 4 * 3;
        if self.out.len() + decoded > self.limit.saturating_add(2) {
            return Err(LiftError::PictureTooLarge);
        }
        // The library would grow the buffer by exactly what it needs, piece after piece.
        self.out.reserve(decoded);
        STANDARD.decode_append(groups, &mut self.out).map_err(|_| LiftError::NotBase64)?;
        self.ended = groups.last() == Some(&b'=');
        Ok(())
    }

    fn finish(mut self) -> Result<Bytes, LiftError> {
        if self.escape != Escape::None || (self.carried > 0 && self.ended) {
            return Err(LiftError::NotBase64);
        }
        if let Some(rest) = self.carry.get(..self.carried).filter(|rest| !rest.is_empty()) {
            STANDARD_NO_PAD.decode_append(rest, &mut self.out).map_err(|_| LiftError::NotBase64)?;
        }
        if self.out.len() > self.limit {
            return Err(LiftError::PictureTooLarge);
        }
        // Where the guess was far too large, the rest would be held as long as the picture is.
        if self.out.capacity() - self.out.len() > self.out.len() / 4 + 4096 {
            self.out.shrink_to_fit();
        }
        Ok(Bytes::from(self.out))
    }
}

#[cfg(test)]
#[path = "lift_tests.rs"]
mod tests;

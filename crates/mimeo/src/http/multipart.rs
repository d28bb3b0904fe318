//! `multipart/form-data`, parsed in place: the upload is one buffer, and every part is a slice of it,
//! so that an input picture is copied once, off the socket, and never again.

use bytes::Bytes;
use memchr::memmem;

use crate::error::{Error, Result};

/// More parts than any request has fields and pictures.
const MAX_PARTS: usize = 256;
/// More than any honest part's headers.
const MAX_PART_HEADERS: usize = 16 * 1024;
/// File names are cut here; they are only passed on for the provider's information.
const MAX_FILE_NAME: usize = 255;

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The field.
    pub name: String,
    /// Name of the file, if the part is one.
    pub file_name: Option<String>,
    /// The content.
    pub bytes: Bytes,
}

/// The boundary that a `Content-Type` of `multipart/form-data` names.
///
/// # Errors
/// There is none, or none that the grammar allows.
pub fn boundary(content_type: &str) -> Result<String> {
    let (_, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let boundary = parameter(parameters, "boundary")
        .ok_or_else(|| broken("its Content-Type names no boundary. Let the HTTP client set that header"))?;
    if boundary.is_empty() || boundary.len() > 70 || !boundary.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(broken("the boundary must be 1 to 70 printable ASCII characters"));
    }
    Ok(boundary)
}

/// The parts of `body`, in order.
///
/// # Errors
/// The body does not follow the grammar, or was cut off.
pub fn parse(body: &Bytes, boundary: &str) -> Result<Vec<Part>> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut parts = Vec::new();
    let mut at = skip_preamble(body, &finder, delimiter.as_bytes())?;
    while let Some(start) = part_start(body, at)? {
        if parts.len() == MAX_PARTS {
            return Err(broken(&format!("it has more than {MAX_PARTS} parts")));
        }
        let (name, file_name, content) = part_headers(body, start)?;
        // From two bytes before the content: of a part without content, some senders let the empty
        // line that ends the headers also begin the delimiter.
        let end = next_delimiter(body, &finder, content.saturating_sub(2))
            .ok_or_else(|| broken("it ends before its closing boundary: the upload was cut off"))?;
        parts.push(Part { name, file_name, bytes: body.slice(content.min(end)..end) });
        at = end + delimiter.len();
    }
    Ok(parts)
}

/// Where the first delimiter ends.
fn skip_preamble(body: &[u8], finder: &memmem::Finder<'_>, delimiter: &[u8]) -> Result<usize> {
    let first_line = &delimiter[2..];
    if body.starts_with(first_line) && ends_delimiter(body, first_line.len()) {
        return Ok(first_line.len());
    }
    next_delimiter(body, finder, 0)
        .map(|at| at + delimiter.len())
        .ok_or_else(|| broken("the boundary that its Content-Type names is nowhere in it"))
}

/// The next delimiter at or after `from`. The same characters with more behind them are content.
fn next_delimiter(body: &[u8], finder: &memmem::Finder<'_>, from: usize) -> Option<usize> {
    finder.find_iter(body.get(from..)?).map(|at| from + at).find(|at| ends_delimiter(body, at + finder.needle().len()))
}

fn ends_delimiter(body: &[u8], at: usize) -> bool {
    let rest = &body[at..];
    rest.starts_with(b"--") || rest[blanks(rest)..].starts_with(b"\r\n")
}

/// Where the part behind the delimiter that ends at `at` begins; `None` behind the closing one.
fn part_start(body: &[u8], at: usize) -> Result<Option<usize>> {
    let rest = &body[at..];
    if rest.starts_with(b"--") {
        return Ok(None);
    }
    let padding = blanks(rest);
    match rest[padding..].starts_with(b"\r\n") {
        true => Ok(Some(at + padding + 2)),
        false => Err(broken("a boundary line does not end where it should")),
    }
}

/// Name, file name and where the content begins.
fn part_headers(body: &[u8], start: usize) -> Result<(String, Option<String>, usize)> {
    let rest = &body[start..];
    let window = &rest[..rest.len().min(MAX_PART_HEADERS)];
    let length = memmem::find(window, b"\r\n\r\n")
        .ok_or_else(|| broken("the headers of a part do not end, or there are too many"))?;
    let headers = std::str::from_utf8(&window[..length]).map_err(|_| broken("the headers of a part are not UTF-8"))?;
    let mut names = None;
    for line in headers.split("\r\n") {
        let (field, value) = line.split_once(':').ok_or_else(|| broken("a part has a header without a colon"))?;
        let value = value.trim();
        if field.eq_ignore_ascii_case("content-disposition") {
            let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
            if !kind.trim().eq_ignore_ascii_case("form-data") {
                return Err(broken("a part's Content-Disposition is not form-data"));
            }
            names = parameter(parameters, "name").map(|name| (name, parameter(parameters, "filename")));
        } else if field.eq_ignore_ascii_case("content-transfer-encoding")
            && !["binary", "8bit", "7bit"].iter().any(|plain| value.eq_ignore_ascii_case(plain))
        {
            return Err(broken("a part has a Content-Transfer-Encoding; send the bytes as they are"));
        }
    }
    let (name, file_name) = names.ok_or_else(|| broken("a part has no name in its Content-Disposition"))?;
    let file_name = file_name.map(|name| name.chars().take(MAX_FILE_NAME).collect());
    Ok((name, file_name, start + length + 4))
}

/// The value of `wanted` in a row of `; name=value`, with or without quotes.
fn parameter(mut row: &str, wanted: &str) -> Option<String> {
    loop {
        row = row.trim_start_matches([';', ' ', '\t']);
        let (name, rest) = row.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted)?,
            None => {
                let (value, rest) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
                (value.trim().to_owned(), rest)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        row = rest;
    }
}

/// The string up to the closing quote, and what follows that.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            // Only quotes and backslashes are escaped: a path such as C:\new stays what it is.
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    None
}

/// How many spaces and tabs `bytes` begins with: they may follow a boundary, other white space may not.
fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

fn broken(why: &str) -> Error {
    Error::new(crate::error::Kind::BadRequest, format!("The body is not valid multipart/form-data: {why}."))
        .code("invalid_multipart")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(parts: &[(&str, Option<&str>, &[u8])], boundary: &str) -> Bytes {
        let mut body = Vec::new();
        for (name, file, content) in parts {
            body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"").bytes());
            if let Some(file) = file {
                body.extend(format!("; filename=\"{file}\"\r\nContent-Type: image/png").bytes());
            }
            body.extend(b"\r\n\r\n");
            body.extend(*content);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        body.into()
    }

    proptest! {
        #[test]
        fn any_content_comes_through(
            contents in prop::collection::vec(prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'x'), any::<u8>()], 0..60), 0..5),
        ) {
            let parts: Vec<_> = contents.iter().map(|c| ("image[]", Some("a.png"), c.as_slice())).collect();
            let body = form(&parts, "x-boundary");
            let parsed = parse(&body, "x-boundary").unwrap();
            prop_assert_eq!(parsed.len(), contents.len());
            for (part, content) in parsed.iter().zip(&contents) {
                prop_assert_eq!(&part.name, "image[]");
                prop_assert_eq!(part.file_name.as_deref(), Some("a.png"));
                prop_assert_eq!(&part.bytes[..], &content[..]);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), Just(b':'), any::<u8>()], 0..200)) {
            let _ = parse(&bytes.into(), "b");
        }

        #[test]
        fn no_cut_is_taken_for_a_whole(cut in 0usize..1000) {
            let body = form(&[("prompt", None, b"a kite"), ("image", Some("a.png"), &[9; 90])], "bound");
            // The line break after the closing boundary is decoration.
            let cut = cut % (body.len() - 4);
            prop_assert!(parse(&body.slice(..cut), "bound").is_err());
        }

        #[test]
        fn no_header_panics(header in ".{0,80}") {
            let _ = boundary(&header);
            let _ = parameter(&header, "name");
        }
    }

    #[test]
    fn a_longer_line_that_begins_like_the_boundary_is_content() {
        let content = b"1\r\n--bound2\r\n2\r\n--boun";
        let body = form(&[("a", None, content)], "bound");
        assert_eq!(&parse(&body, "bound").unwrap()[0].bytes[..], content);
    }

    #[test]
    fn preamble_padding_and_escapes() {
        let body = Bytes::from_static(
            b"hello\r\n--b \t\r\ncontent-disposition: form-data; filename=\"a \\\"q\\\".png\"; name=image\r\n\r\nX\r\n--b--",
        );
        let parts = parse(&body, "b").unwrap();
        assert_eq!(parts[0].name, "image");
        assert_eq!(parts[0].file_name.as_deref(), Some("a \"q\".png"));
        assert_eq!(&parts[0].bytes[..], b"X");
        assert_eq!(parts[0].bytes.as_ptr(), body[body.len() - 8..].as_ptr(), "a slice, not a copy");
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").unwrap(), "abc");
        assert_eq!(boundary("multipart/form-data; charset=utf-8; Boundary=\"a b\"").unwrap(), "a b");
        for bad in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a"] {
            assert!(boundary(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_say_what_is_wrong() {
        let message = |body: &'static [u8]| parse(&Bytes::from_static(body), "b").unwrap_err().message;
        assert!(message(b"").contains("nowhere"));
        assert!(message(b"--b\r\nx: y\r\n\r\n1\r\n--b--").contains("no name"));
        assert!(message(b"--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1").contains("cut off"));
    }
}

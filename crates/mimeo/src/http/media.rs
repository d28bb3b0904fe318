//! `GET /media/{id}`: stored pictures by their capability. The hottest path of the house, and so the
//! shortest: a picture in memory is answered before the router, without waiting and with few
//! allocations. `GET /media/{id}/{form}` gives a copy, such as `1200x630.png`, made when it is asked for.
//!
//! A picture never changes under its identifier, so answers may be cached for ever. The copy of a picture is one, too.

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use super::range::{self, Slice};
use crate::domain::{Digest, Form, Format, ImageId};
use crate::error::{Error, Kind};
use crate::pipeline::Stored;

const PREFIX: &str = "/media/";
const SIMULATED: HeaderName = HeaderName::from_static("x-mimeo-simulated");

/// The picture that `path` names, if it is one's path.
pub fn id_in_path(path: &str) -> Option<ImageId> {
    path.strip_prefix(PREFIX)?.parse().ok()
}

/// The picture and the form of the copy that `path` names, if it is a copy's path.
pub fn copy_in_path(path: &str) -> Option<(ImageId, Form)> {
    let (id, form) = path.strip_prefix(PREFIX)?.split_once('/')?;
    Some((id.parse().ok()?, form.parse().ok()?))
}

/// True if `path` can only be a picture's, or a copy's, whether there is such a picture or not.
pub fn is_picture_path(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|name| {
        let (id, form) = name.split_once('/').map_or((name, None), |(id, form)| (id, Some(form)));
        !id.is_empty() && form.is_none_or(|form| form.parse::<Form>().is_ok())
    })
}

/// The address of a picture, or of its copy in a form. `base` has no slash at its end.
pub fn url(base: &str, id: ImageId, copy: Option<Form>) -> String {
    let form = copy.map(|form| format!("/{form}")).unwrap_or_default();
    format!("{base}{PREFIX}{id}{form}")
}

/// Headers that keep a browser from taking picture bytes for anything else.
pub fn guard_headers(format: Format, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.mime()));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
}

/// The answer to a GET or HEAD of `stored`, as its conditions and its range ask.
pub fn respond(method: &Method, asked: &HeaderMap, stored: &Stored) -> Response {
    let picture = &stored.picture;
    let etag = etag(&picture.digest);
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    if stored.simulated {
        headers.insert(SIMULATED, HeaderValue::from_static("true"));
    }

    let mut bytes = picture.bytes.clone();
    let mut status = StatusCode::OK;
    if asked.get_all(header::IF_NONE_MATCH).iter().any(|list| range::etag_matches(list.as_bytes(), &etag)) {
        status = StatusCode::NOT_MODIFIED;
        bytes.clear();
    } else {
        guard_headers(picture.format, &mut headers);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        match slice_asked(method, asked, &etag, bytes.len()) {
            Slice::Whole => {}
            Slice::Part(part) => {
                let range = format!("bytes {}-{}/{}", part.start, part.end - 1, bytes.len());
                if let Ok(range) = HeaderValue::try_from(range) {
                    headers.insert(header::CONTENT_RANGE, range);
                }
                bytes = bytes.slice(part);
                status = StatusCode::PARTIAL_CONTENT;
            }
            Slice::Unsatisfiable => {
                if let Ok(range) = HeaderValue::try_from(format!("bytes */{}", bytes.len())) {
                    headers.insert(header::CONTENT_RANGE, range);
                }
                headers.remove(header::CONTENT_TYPE);
                status = StatusCode::RANGE_NOT_SATISFIABLE;
                bytes.clear();
            }
        }
        if *method == Method::HEAD {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            bytes.clear();
        }
    }
    if let Ok(etag) = HeaderValue::from_bytes(&etag) {
        headers.insert(header::ETAG, etag);
    }

    let mut response = Response::new(if bytes.is_empty() { Body::empty() } else { Body::from(bytes) });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The answer when there is no such picture (any more).
pub fn unknown() -> Response {
    Failure(Error::new(Kind::NotFound, "There is no such picture here (any more).").code("picture_not_found"))
        .into_response()
}

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

fn slice_asked(method: &Method, asked: &HeaderMap, etag: &[u8], length: usize) -> Slice {
    let Some(wanted) = asked.get(header::RANGE) else { return Slice::Whole };
    // A range is defined for GET only; one of an older version means nothing for this one.
    let outdated = asked.get(header::IF_RANGE).is_some_and(|validator| validator.as_bytes() != etag);
    if *method != Method::GET || outdated {
        return Slice::Whole;
    }
    range::slice(wanted.as_bytes(), length)
}

/// The strong validator: half of the content's hash, quoted. 128 bits are enough to tell versions of
/// one address apart.
fn etag(digest: &Digest) -> [u8; 34] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'"'; 34];
    for (byte, pair) in digest.0.iter().zip(text[1..33].chunks_exact_mut(2)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Picture;
    use bytes::Bytes;

    fn stored() -> Stored {
        let bytes = Bytes::from_static(b"0123456789");
        let picture = Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 1, height: 1 };
        Stored { picture, created_ms: 0, simulated: false }
    }

    fn get(asked: &[(HeaderName, &str)]) -> Response {
        let asked = asked.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        respond(&Method::GET, &asked, &stored())
    }

    #[test]
    fn whole_cached_and_guarded() {
        let response = get(&[]);
        assert_eq!(response.status(), 200);
        let etag = format!("\"{}\"", &stored().picture.digest.to_string()[..32]);
        assert_eq!(response.headers()["etag"], etag);
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        for asked in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
            let response = get(&[(header::IF_NONE_MATCH, &asked)]);
            assert_eq!(response.status(), 304, "{asked}");
            assert_eq!(response.headers()["etag"], etag);
        }
        assert_eq!(get(&[(header::IF_NONE_MATCH, "\"x\"")]).status(), 200);
    }

    #[test]
    fn parts() {
        let response = get(&[(header::RANGE, "bytes=2-4")]);
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers()["content-range"], "bytes 2-4/10");
        let response = get(&[(header::RANGE, "bytes=10-")]);
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()["content-range"], "bytes */10");
        let etag = format!("\"{}\"", &stored().picture.digest.to_string()[..32]);
        assert_eq!(get(&[(header::RANGE, "bytes=2-4"), (header::IF_RANGE, &etag)]).status(), 206);
        assert_eq!(get(&[(header::RANGE, "bytes=2-4"), (header::IF_RANGE, "\"x\"")]).status(), 200);
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let response = respond(&Method::HEAD, &HeaderMap::new(), &stored());
        assert_eq!(response.headers()["content-length"], "10");
        assert!(http_body::Body::is_end_stream(response.body()));
    }

    #[test]
    fn paths() {
        let id = ImageId(0xabc);
        assert_eq!(id_in_path(&url("", id, None)), Some(id));
        let form = Form { width: 1200, height: 630, format: Format::Png };
        let copy = url("", id, Some(form));
        assert_eq!((id_in_path(&copy), copy_in_path(&copy)), (None, Some((id, form))));
        assert!(is_picture_path(&copy) && is_picture_path(&url("", id, None)));
        for other in ["", "/x", "/1x1.png/", "/../1x1.png", "/0x0.png", "/1x1.svg", "//1x1.png"] {
            let path = format!("{}{other}", url("", id, None));
            assert_eq!(copy_in_path(&path), None, "{path}");
            assert_eq!(is_picture_path(&path), other.is_empty(), "{path}");
        }
        for other in ["/media", "/media/", "/media/x", "/Media/img_00000000000000000000000000000abc"] {
            assert_eq!(id_in_path(other), None, "{other}");
        }
    }
}

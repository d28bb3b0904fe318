use reqwest::Method;

use super::*;

/// The account of the published test vectors, and their moment: 2015-08-30T12:36:00Z.
fn signer(token: Option<&str>) -> Signer {
    Signer {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: token.map(Secret::new),
        region: "us-east-1".to_owned(),
        service: "service".to_owned(),
    }
}

const MOMENT: Millis = 1_440_938_160_000;

fn request(method: Method, target: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::new(method, format!("https://example.amazonaws.com{target}").parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    request
}

fn signature(signer: &Signer, mut request: Request) -> String {
    signer.sign(&mut request, MOMENT).unwrap();
    let value = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
    value.split_once("Signature=").unwrap().1.to_owned()
}

/// Name, method, target, headers, signature.
type Vector<'a> = (&'a str, &'a Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn the_published_vectors() {
    let alphabet = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (get, post) = (Method::GET, Method::POST);
    let my = |value| ("My-Header1", value);
    let vectors: &[Vector<'_>] = &[
        ("get-vanilla", &get, "/", &[], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("query key", &get, "/?Param1=value1", &[], "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        (
            "query order",
            &get,
            "/?Param2=value2&Param1=value1",
            &[],
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "encoded query",
            &get,
            "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            &[],
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            "unreserved query",
            &get,
            &format!("/?{alphabet}={alphabet}"),
            &[],
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "unreserved path",
            &get,
            &format!("/{alphabet}"),
            &[],
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "several values",
            &get,
            "/",
            &[my("value2"), my("value2"), my("value1")],
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "order of values",
            &get,
            "/",
            &[my("value4"), my("value1"), my("value3"), my("value2")],
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "spaces in values",
            &get,
            "/",
            &[my(" value1"), ("My-Header2", " \"a   b   c\"")],
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("post-vanilla", &post, "/", &[], "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "post query",
            &post,
            "/?Param1=value1",
            &[],
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
        (
            "case of values",
            &post,
            "/",
            &[my("VALUE1")],
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
    ];
    for (name, method, target, headers, expected) in vectors {
        assert_eq!(signature(&signer(None), request((*method).clone(), target, headers)), *expected, "{name}");
    }
}

#[test]
fn a_body_and_a_session_are_covered() {
    let mut form = request(Method::POST, "/", &[("content-type", "application/x-www-form-urlencoded")]);
    *form.body_mut() = Some("Param1=value1".into());
    let expected = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
    assert_eq!(signature(&signer(None), form), expected);
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let expected = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8";
    assert_eq!(signature(&signer(Some(token)), request(Method::GET, "/", &[])), expected);
}

#[test]
fn the_path_is_encoded_once_more() {
    let request = request(Method::POST, "/test/@connections/JBDvjfGEIAMCERw%3D", &[]);
    let (text, names) = canonical(&request).unwrap();
    assert!(text.starts_with("POST\n/test/%40connections/JBDvjfGEIAMCERw%253D\n\nhost:example"), "{text}");
    assert_eq!(names, "host");
}

#[test]
fn what_is_sent_is_what_was_signed() {
    let mut request =
        request(Method::POST, "/model/stability.x%3A1/invoke", &[("user-agent", "x"), ("accept", "image/*")]);
    request.url_mut().set_port(Some(8443)).unwrap();
    *request.body_mut() = Some(r#"{"prompt":"a red kite"}"#.into());
    signer(Some("token")).sign(&mut request, MOMENT).unwrap();
    let headers = request.headers();
    let value = headers[AUTHORIZATION].to_str().unwrap();
    let names = "SignedHeaders=accept;host;x-amz-date;x-amz-security-token,";
    assert!(value.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "));
    assert!(value.contains(names), "{value}");
    assert!(headers[AUTHORIZATION].is_sensitive() && headers[SESSION].is_sensitive());
    assert_eq!(headers[DATE], "20150830T123600Z");
    assert!(canonical(&request).unwrap().0.contains("\nhost:example.amazonaws.com:8443\n"));

    let stream = reqwest::Body::wrap(reqwest::Body::from("x"));
    *request.body_mut() = Some(stream);
    assert_eq!(signer(None).sign(&mut request, MOMENT), Err("its body is a stream"));
}

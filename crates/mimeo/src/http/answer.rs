//! A finished request → the answer in the OpenAI API's shape, with Mimeo's account of it in `mimeo` and
//! in headers. Pictures are not copied: see [`super::pieces`].

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::media;
use super::pieces::Pieces;
use super::wire::Delivery;
use crate::clock::rfc3339;
use crate::domain::{Answer, Cascaded, Delivered, Form, ImageId, Price, Size, Usage};

/// The response to `answer`. `base` is the address that picture addresses begin with.
pub fn respond(answer: &Answer, delivery: Delivery, base: &str) -> Response {
    if delivery == Delivery::Raw
        && let [only] = answer.pictures.as_slice()
    {
        let mut response = Response::new(Body::new(Pieces::of(only.picture.bytes.clone())));
        headers(answer, response.headers_mut());
        media::guard_headers(only.picture.format, response.headers_mut());
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return response;
    }
    let mut response = Response::new(Body::new(body(answer, delivery, base)));
    headers(answer, response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The JSON of an answer.
pub fn body(answer: &Answer, delivery: Delivery, base: &str) -> Pieces {
    let mut out = Pieces::default();
    write(&mut out, answer, delivery, base);
    out.finish()
}

/// Appends the JSON of an answer to `out`.
pub fn write(out: &mut Pieces, answer: &Answer, delivery: Delivery, base: &str) {
    out.text("{\"created\":").json(&(answer.created_ms / 1000));
    if let Some(first) = answer.pictures.first() {
        out.field("output_format", shown(answer, first).format.name());
        out.field("size", &size_of(answer, first));
    }
    if let Some(quality) = &answer.understood.quality {
        out.field("quality", quality);
    }
    if let Some(background) = &answer.understood.background {
        out.field("background", background);
    }
    out.text(",\"data\":[");
    for (index, picture) in answer.pictures.iter().enumerate() {
        out.text(if index > 0 { ",{" } else { "{" });
        match picture.id.filter(|_| delivery == Delivery::Url) {
            Some(id) => {
                let copy = answer.target.and_then(|target| target.copy_of(&picture.picture));
                out.text("\"url\":").json(&media::url(base, id, copy))
            }
            // Also for an address that cannot be given, because the route stores nothing: the
            // picture is paid for, and this way it arrives.
            None => out.text("\"b64_json\":\"").base64(picture.picture.bytes.clone()).text("\""),
        };
        if let Some(prompt) = &picture.revised_prompt {
            out.field("revised_prompt", prompt);
        }
        out.text("}");
    }
    out.text("]");
    if let Some(usage) = answer.usage {
        out.field("usage", &usage_json(usage));
    }
    out.field("mimeo", &account(answer, &answer.pictures, base)).text("}");
}

/// The size asked for; where that was left to the model, the size that came; where the model cannot make it, the size
/// that the picture was brought to.
pub fn size_of(answer: &Answer, picture: &Delivered) -> String {
    match answer.understood.size {
        exact @ Size::Exact(..) if answer.target.is_none() => exact.to_string(),
        _ => {
            let Form { width, height, .. } = shown(answer, picture);
            Size::Exact(width, height).to_string()
        }
    }
}

/// How a picture is seen by who gets it, or fetches it from the address given.
fn shown(answer: &Answer, Delivered { picture, .. }: &Delivered) -> Form {
    let as_it_is = Form { width: picture.width, height: picture.height, format: picture.format };
    answer.target.and_then(|target| target.copy_of(picture)).unwrap_or(as_it_is)
}

/// Tokens in the OpenAI API's shape.
pub fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input(),
        "input_tokens_details": { "text_tokens": usage.input_text, "image_tokens": usage.input_image },
        "output_tokens": usage.output(),
        "output_tokens_details": { "text_tokens": usage.output_text, "image_tokens": usage.output_image },
        "total_tokens": usage.input() + usage.output(),
    })
}

/// Where `pictures` of this answer come from and what they cost. `base` is the address that addresses begin with.
pub fn account(answer: &Answer, pictures: &[Delivered], base: &str) -> Value {
    let images: Vec<Value> = pictures
        .iter()
        .map(|delivered| {
            let Form { width, height, format } = shown(answer, delivered);
            json!({
                "id": delivered.id.map(|id| id.to_string()),
                "width": width,
                "height": height,
                "format": format.name(),
                "cost_usd": price_json(delivered.cost),
            })
        })
        .collect();
    let mut account = json!({
        "request_id": answer.id.to_string(),
        "cache": answer.source.name(),
        "provider": answer.provider,
        "model": answer.model,
        "cost_usd": price_json(answer.cost),
        "saved_usd": answer.saved.to_string(),
        "images": images,
    });
    if answer.simulated {
        account["simulated"] = Value::Bool(true);
    }
    if let Some(prompt) = &answer.prompt_sent {
        account["prompt_sent"] = json!(prompt);
    }
    if !answer.explain.is_empty() {
        account["explain"] = json!(answer.explain);
    }
    if let Some(story) = &answer.story {
        account["story"] = json!(story);
    }
    if let Some(cascade) = &answer.cascade {
        account["cascade"] = cascaded(cascade, base);
    }
    account
}

/// What is to be known of a cascade: which drafts can be made final, where, and for how much.
fn cascaded(cascade: &Cascaded, base: &str) -> Value {
    let mut told = json!({
        "stage": cascade.stage.name(),
        "final_expected_usd": price_json(cascade.final_price),
    });
    let place = |(nth, id): (usize, &ImageId)| {
        let wish = cascade.wishes.get(nth).map(|wish| format!("?wish={wish}")).unwrap_or_default();
        json!({ "image_id": id.to_string(), "finalize_url": format!("{base}/v1/images/{id}/finalize{wish}") })
    };
    let drafts: Vec<Value> = cascade.drafts.iter().enumerate().map(place).collect();
    if let Some(first) = drafts.first() {
        told["image_id"] = first["image_id"].clone();
        told["finalize_url"] = first["finalize_url"].clone();
        told["finalize_by"] = json!(cascade.until_ms.map(rfc3339));
    }
    if drafts.len() > 1 {
        told["drafts"] = json!(drafts);
    }
    if let Some(parent) = cascade.parent {
        told["draft_request_id"] = json!(parent.to_string());
    }
    told
}

/// The exact decimal; an unknown price is null, never zero.
fn price_json(price: Price) -> Option<String> {
    price.known().map(|usd| usd.to_string())
}

/// The headers of every generation.
pub fn headers(answer: &Answer, headers: &mut HeaderMap) {
    let mut put = |name: &'static str, value: &str| {
        // A name that is no header value (it comes from a configuration) is left out of the headers; it is in the body.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("x-request-id", &answer.id.to_string());
    put("x-mimeo-cache", answer.source.name());
    put("x-mimeo-provider", &answer.provider);
    put("x-mimeo-model", &answer.model);
    match answer.cost {
        Price::Known(usd) => put("x-mimeo-cost-usd", &usd.to_string()),
        Price::Unknown => put("x-mimeo-cost", "unknown"),
    }
    put("x-mimeo-saved-usd", &answer.saved.to_string());
    if let Some(cascade) = &answer.cascade {
        put("x-mimeo-stage", cascade.stage.name());
    }
    if answer.simulated {
        put("x-mimeo-simulated", "true");
    }
    if !answer.timings.is_empty() {
        let phases: Vec<String> = answer.timings.iter().map(|(phase, ms)| format!("{phase};dur={ms:.2}")).collect();
        put("server-timing", &phases.join(", "));
    }
    // One line each: several budgets may be overrun at once.
    for warning in answer.warnings.iter().filter_map(|warning| HeaderValue::from_str(warning).ok()) {
        headers.append("x-mimeo-warning", warning);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{Digest, Format, Picture, RequestId, Source, Target, Understood, Usd};
    use bytes::Bytes;

    /// An answer of `pictures`, all of one stored kind.
    pub(crate) fn answer(pictures: Vec<Bytes>) -> Answer {
        let pictures = pictures
            .into_iter()
            .map(|bytes| Delivered {
                id: Some(ImageId(7)),
                picture: Picture { digest: Digest::of(&bytes), bytes, format: Format::Webp, width: 64, height: 32 },
                cost: Price::Known(Usd::from_pico(5_000_000_000)),
                usage: None,
                revised_prompt: Some("a \"red\" kite".into()),
                provider: "p".into(),
                model: "m".into(),
                simulated: true,
                created_ms: 1_790_000_000_123,
            })
            .collect();
        Answer {
            id: RequestId(1),
            created_ms: 1_790_000_000_123,
            pictures,
            usage: Some(Usage { input_text: 12, input_image: 0, output_text: 0, output_image: 196 }),
            source: Source::Miss,
            provider: "p".into(),
            model: "m".into(),
            simulated: true,
            cost: Price::Known(Usd::from_pico(10_000_000_000)),
            saved: Usd::ZERO,
            understood: Understood { quality: Some("low".into()), ..Understood::default() },
            target: None,
            prompt_sent: None,
            warnings: Vec::new(),
            explain: vec!["first choice".into()],
            story: None,
            cascade: None,
            timings: vec![("lookup", 0.123), ("attempt", 1500.0)],
        }
    }

    fn read(mut pieces: Pieces) -> Value {
        let mut whole = Vec::new();
        while let Some(frame) = pieces.next_frame() {
            whole.extend_from_slice(&frame);
        }
        serde_json::from_slice(&whole).unwrap()
    }

    #[test]
    fn the_shape() {
        let small = Bytes::from_static(b"RIFFsmall");
        let large = Bytes::from(vec![0x5A; 500_000]);
        let json = read(body(&answer(vec![small.clone(), large.clone()]), Delivery::Base64, ""));
        assert_eq!(json["created"], 1_790_000_000);
        assert_eq!(json["output_format"], "webp");
        assert_eq!(json["size"], "64x32");
        assert_eq!(json["quality"], "low");
        assert!(json.get("background").is_none());
        assert_eq!(json["data"][0]["revised_prompt"], "a \"red\" kite");
        for (index, bytes) in [small, large].iter().enumerate() {
            let text = json["data"][index]["b64_json"].as_str().unwrap();
            assert!(base64_simd::STANDARD.decode_to_vec(text).unwrap() == *bytes);
        }
        assert_eq!(json["usage"]["total_tokens"], 208);
        assert_eq!(json["usage"]["output_tokens_details"]["image_tokens"], 196);
        assert_eq!(json["mimeo"]["cost_usd"], "0.01");
        assert_eq!(json["mimeo"]["images"][1]["cost_usd"], "0.005");
        assert_eq!(json["mimeo"]["simulated"], true);
        assert_eq!(json["mimeo"]["explain"][0], "first choice");
    }

    #[test]
    fn addresses() {
        let mut stored = answer(vec![Bytes::from_static(b"x"), Bytes::from_static(b"y")]);
        stored.pictures[1].id = None;
        let json = read(body(&stored, Delivery::Url, "https://pictures.example.com"));
        let url = json["data"][0]["url"].as_str().unwrap();
        assert_eq!(url, format!("https://pictures.example.com/media/{}", ImageId(7)));
        assert!(json["data"][0].get("b64_json").is_none());
        assert_eq!(json["data"][1]["b64_json"], "eQ==");
    }

    #[test]
    fn copies_have_addresses_of_their_own() {
        let mut wide = answer(vec![Bytes::from_static(b"x"), Bytes::from_static(b"y")]);
        wide.target = Some(Target { size: Some((60, 30)), format: Some(Format::Jpeg) });
        wide.understood.size = Size::Exact(64, 32);
        // Too small to be brought to it: it goes out as it came.
        wide.pictures[1].picture.width = 20;
        let json = read(body(&wide, Delivery::Url, ""));
        assert_eq!(json["data"][0]["url"], format!("/media/{}/60x30.jpeg", ImageId(7)));
        assert_eq!(json["data"][1]["url"], format!("/media/{}", ImageId(7)));
        assert_eq!((json["size"].as_str(), json["output_format"].as_str()), (Some("60x30"), Some("jpeg")));
        assert_eq!(json["mimeo"]["images"][0]["width"], 60);
        assert_eq!(json["mimeo"]["images"][1]["width"], 20);
    }

    #[test]
    fn the_headers() {
        let mut priced = answer(vec![Bytes::from_static(b"x")]);
        let response = respond(&priced, Delivery::Raw, "");
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "image/webp");
        assert_eq!(header("x-mimeo-cost-usd"), "0.01");
        assert_eq!(header("x-mimeo-saved-usd"), "0");
        assert_eq!(header("x-mimeo-cache"), "miss");
        assert_eq!(header("x-mimeo-simulated"), "true");
        assert_eq!(header("server-timing"), "lookup;dur=0.12, attempt;dur=1500.00");
        priced.cost = Price::Unknown;
        priced.provider = "name\nwith a break".into();
        let response = respond(&priced, Delivery::Base64, "");
        assert_eq!(response.headers()["x-mimeo-cost"], "unknown");
        assert!(!response.headers().contains_key("x-mimeo-cost-usd"));
        assert!(!response.headers().contains_key("x-mimeo-provider"));
    }
}

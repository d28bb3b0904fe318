//! `POST /v1/feedback`: what people think of pictures. One object, or an array of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Request, State};
use serde_json::{Map, Value, json};

use super::auth::Identity;
use super::failure::Failure;
use super::{Edge, upload};
use crate::error::{Error, Kind, Result};
use crate::pipeline::{FeedbackKind, Remark, Told, Topic};

/// The largest body, in bytes.
const LARGEST: usize = 1 << 20;
/// Most remarks in one request.
const MOST: usize = 1000;
/// Longest category, in characters.
const CATEGORY: usize = 64;
/// Longest note, in characters.
const NOTE: usize = 500;
/// Most views of one picture that can be told.
const VIEWS: u64 = 1_000_000_000;

/// Writes down what the caller says, and answers with what is believed now.
pub async fn give(
    State(edge): State<Arc<Edge>>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let (parts, body) = request.into_parts();
    let patience = Duration::from_secs(u64::from(edge.options.timeouts.body_s));
    let most = edge.options.max_body.min(LARGEST);
    let body = upload::read(&parts.headers, body, most, patience, edge.load.body()).await?;
    let (remarks, is_list) = parse(&body)?;
    let told = edge.pipeline.feedback(&identity.caller, remarks).await?;
    let mut told: Vec<Value> = told.iter().map(believed).collect();
    Ok(Json(match told.pop() {
        Some(only) if !is_list => only,
        last => {
            told.extend(last);
            json!({ "object": "list", "data": told })
        }
    }))
}

fn parse(body: &[u8]) -> Result<(Vec<Remark>, bool)> {
    let value: Value = serde_json::from_slice(body).map_err(|why| {
        Error::new(Kind::BadRequest, format!("The request body is not valid JSON: {why}.")).code("invalid_json")
    })?;
    match value {
        Value::Array(items) if items.is_empty() || items.len() > MOST => {
            Err(Error::new(Kind::BadRequest, format!("An array of feedback holds 1 to {MOST} items.")))
        }
        Value::Array(items) => {
            let remarks = items.into_iter().enumerate().map(|(at, item)| {
                remark(item).map_err(|error| {
                    let message = format!("Item {at}: {}", error.message);
                    Error { message, ..error }
                })
            });
            Ok((remarks.collect::<Result<_>>()?, true))
        }
        item => Ok((vec![remark(item)?], false)),
    }
}

fn remark(item: Value) -> Result<Remark> {
    let Value::Object(mut fields) = item else {
        return Err(Error::new(Kind::BadRequest, "Feedback is a JSON object, or an array of them."));
    };
    // As in OpenAI's API, null is as good as nothing.
    fields.retain(|_, value| !value.is_null());
    let topic = topic(&mut fields)?;
    let mut words = Vec::new();
    if let Some(rating) = number(&mut fields, "rating", 1, 5)? {
        words.push((FeedbackKind::Rating, rating, 1));
    }
    if let Some(accepted) = flag(&mut fields, "accepted")? {
        words.push((FeedbackKind::Accepted, u32::from(accepted), 1));
    }
    let clicked = flag(&mut fields, "clicked")?;
    let views = number(&mut fields, "impressions", 1, VIEWS)?;
    let clicks = number(&mut fields, "clicks", 0, VIEWS)?;
    match (clicked, views, clicks) {
        (None, None, None) => {}
        (Some(clicked), None, None) => words.push((FeedbackKind::Clicks, u32::from(clicked), 1)),
        (None, Some(views), Some(clicks)) if clicks <= views => words.push((FeedbackKind::Clicks, clicks, views)),
        (None, Some(_), Some(_)) => {
            return Err(Error::bad("clicks", "Invalid 'clicks': more than 'impressions'."));
        }
        _ => {
            let message =
                "Say `clicked`, or both `impressions` and `clicks` (all there were since the picture was made).";
            return Err(Error::bad("clicks", message));
        }
    }
    if words.is_empty() {
        let message = "Nothing is said: give `rating` (1-5), `accepted`, `clicked`, or `impressions` and `clicks`.";
        return Err(Error::bad("rating", message).code("missing_required_parameter"));
    }
    let category = text(&mut fields, "category", CATEGORY)?;
    let note = text(&mut fields, "note", NOTE)?;
    if let Some(name) = fields.keys().next() {
        return Err(Error::bad(name, format!("Unknown parameter: '{name}'.")).code("unknown_parameter"));
    }
    Ok(Remark { topic, words, category, note })
}

fn topic(fields: &mut Map<String, Value>) -> Result<Topic> {
    let invalid = |name: &str, prefix: &str| {
        Error::bad(
            name,
            format!("Invalid '{name}': expected {prefix}_ and 32 hexadecimal digits, as an answer gave it."),
        )
    };
    match (text(fields, "image_id", 64)?, text(fields, "request_id", 64)?) {
        (Some(image), None) => image.parse().map(Topic::Image).map_err(|_| invalid("image_id", "img")),
        (None, Some(request)) => request.parse().map(Topic::Request).map_err(|_| invalid("request_id", "req")),
        (Some(_), Some(_)) => Err(Error::bad(
            "request_id",
            "Name a picture by `image_id` or all of a request's by `request_id`, not both.",
        )),
        (None, None) => {
            Err(Error::bad("image_id", "Name a picture by `image_id`, or all that a request made by `request_id`.")
                .code("missing_required_parameter"))
        }
    }
}

/// Text that an operator will see in a terminal: nothing in it may take that over.
fn text(fields: &mut Map<String, Value>, name: &str, longest: usize) -> Result<Option<String>> {
    // Only a note may have lines.
    let is_odd = |c: char| c.is_control() && !(c == '\n' && name == "note");
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= longest && !text.chars().any(is_odd) => {
            Ok(Some(text).filter(|text| !text.trim().is_empty()))
        }
        Some(_) => Err(Error::bad(
            name,
            format!("Invalid '{name}': expected a text of at most {longest} characters, without control characters."),
        )),
    }
}

fn flag(fields: &mut Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(Error::bad(name, format!("Invalid '{name}': expected true or false."))),
    }
}

fn number(fields: &mut Map<String, Value>, name: &str, least: u64, most: u64) -> Result<Option<u32>> {
    let Some(value) = fields.remove(name) else { return Ok(None) };
    let number = value.as_u64().filter(|number| (least..=most).contains(number));
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(Error::bad(name, format!("Invalid '{name}': expected a whole number from {least} to {most}."))),
    }
}

fn believed(told: &Told) -> Value {
    let quality: Vec<Value> = told
        .beliefs
        .iter()
        .map(|(candidate, category, opinion)| {
            json!({
                "candidate": candidate,
                "category": category,
                "mean": tenths(opinion.mean),
                "sd": tenths(opinion.sd),
                "evidence": tenths(opinion.evidence),
            })
        })
        .collect();
    let images: Vec<String> = told.pictures.iter().map(ToString::to_string).collect();
    json!({ "object": "feedback", "images": images, "quality": quality })
}

/// Nobody knows it better than that.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ImageId;

    fn fault(body: &Value) -> (String, String) {
        let error = parse(body.to_string().as_bytes()).unwrap_err();
        (error.param.unwrap_or_default(), error.message)
    }

    fn words(mut body: Value) -> Vec<(FeedbackKind, u32, u32)> {
        body["image_id"] = json!(ImageId(7).to_string());
        let (remarks, is_list) = parse(body.to_string().as_bytes()).unwrap();
        assert!(!is_list && remarks[0].topic == Topic::Image(ImageId(7)));
        remarks[0].words.clone()
    }

    #[test]
    fn every_way_to_say_it() {
        use FeedbackKind::{Accepted, Clicks, Rating};
        assert_eq!(words(json!({ "rating": 4 })), [(Rating, 4, 1)]);
        assert_eq!(words(json!({ "accepted": false, "rating": null })), [(Accepted, 0, 1)]);
        assert_eq!(words(json!({ "clicked": true })), [(Clicks, 1, 1)]);
        assert_eq!(words(json!({ "impressions": 200, "clicks": 3, "rating": 5 })), [(Rating, 5, 1), (Clicks, 3, 200)]);
        let many = json!([{ "image_id": ImageId(1).to_string(), "accepted": true, "category": " ", "note": "n" }]);
        let (remarks, is_list) = parse(many.to_string().as_bytes()).unwrap();
        assert!(is_list && remarks[0].category.is_none() && remarks[0].note.as_deref() == Some("n"));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let id = ImageId(7).to_string();
        for (body, param) in [
            (json!({ "rating": 4 }), "image_id"),
            (json!({ "image_id": "img_7", "rating": 4 }), "image_id"),
            (json!({ "image_id": id, "request_id": "req_1", "rating": 4 }), "request_id"),
            (json!({ "image_id": id }), "rating"),
            (json!({ "image_id": id, "rating": 0 }), "rating"),
            (json!({ "image_id": id, "rating": 4.5 }), "rating"),
            (json!({ "image_id": id, "accepted": "yes" }), "accepted"),
            (json!({ "image_id": id, "clicks": 2 }), "clicks"),
            (json!({ "image_id": id, "clicks": 3, "impressions": 2 }), "clicks"),
            (json!({ "image_id": id, "clicked": true, "impressions": 2, "clicks": 1 }), "clicks"),
            (json!({ "image_id": id, "rating": 4, "category": "x".repeat(65) }), "category"),
            (json!({ "image_id": id, "rating": 4, "category": "a\nb" }), "category"),
            (json!({ "image_id": id, "rating": 4, "category": "\u{1b}[31mred" }), "category"),
            (json!({ "image_id": id, "rating": 4, "note": "\u{1b}[31mred" }), "note"),
            (json!({ "image_id": id, "rating": 4, "stars": 3 }), "stars"),
            (json!([]), ""),
            (json!("good"), ""),
        ] {
            assert_eq!(fault(&body).0, param, "{body}");
        }
        assert!(fault(&json!([{ "image_id": id, "rating": 4 }, { "image_id": id }])).1.starts_with("Item 1: "));
        assert!(parse(b"{").unwrap_err().message.contains("JSON"));
    }
}

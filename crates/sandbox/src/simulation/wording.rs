//! Answers: templates over what is known of a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use minijinja::value::{Object, Value};
use minijinja::{Environment, UndefinedBehavior};

use super::sheet::{Answer, Sheet, Trouble};
use crate::picture::Picture;
use crate::problem::Problem;
use crate::sale::{Complaint, Reply, date_in};

/// The variables of templates and conditions.
pub(super) type Facts = BTreeMap<&'static str, Value>;

/// A picture as templates see it. Its base64 text is made only where it is asked for.
#[derive(Debug)]
pub(super) struct Shown {
    pub picture: Picture,
    pub url: String,
    pub name: String,
    pub index: usize,
    pub width: u32,
    pub height: u32,
    pub seed: i64,
}

impl Shown {
    fn base64(&self) -> String {
        String::from_utf8(self.picture.base64().concat()).unwrap_or_default()
    }
}

impl Object for Shown {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let format = self.picture.format();
        Some(match key.as_str()? {
            "b64" => Value::from(self.base64()),
            "data_url" => Value::from(format!("data:{};base64,{}", format.mime(), self.base64())),
            "url" => Value::from(self.url.clone()),
            "name" => Value::from(self.name.clone()),
            "index" => Value::from(self.index),
            "width" => Value::from(self.width),
            "height" => Value::from(self.height),
            "seed" => Value::from(self.seed),
            "mime" => Value::from(format.mime()),
            "format" => Value::from(format.name()),
            "bytes" => Value::from(self.picture.pieces().iter().map(Bytes::len).sum::<usize>()),
            _ => return None,
        })
    }
}

/// Templates and conditions behave the same for all simulations.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // A misspelled variable must not pass as an empty text.
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.add_filter("json", |value: Value| {
        serde_json::to_string(&value)
            .map_err(|error| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string()))
    });
    environment
}

/// Says what is wrong with the templates of an answer, if anything is.
pub(super) fn verify(answer: &Answer) -> Result<(), String> {
    let environment = environment();
    for text in answer.headers.values().chain([&answer.body]) {
        environment.template_from_str(text).map_err(|error| format!("{error} in the template {text}"))?;
    }
    if let Some(when) = &answer.when {
        environment.compile_expression(when).map_err(|error| format!("{error} in the condition {when}"))?;
    }
    if let Some(status) = answer.status {
        StatusCode::from_u16(status).map_err(|_| format!("{status} is no status of HTTP"))?;
    }
    Ok(())
}

/// Renders a template.
pub(super) fn text(template: &str, facts: &Facts) -> Result<String, Problem> {
    let broken = |error: minijinja::Error| Problem::broken(format!("{error:#} in the template {template}"));
    environment().render_str(template, Value::from(facts.clone())).map_err(broken)
}

/// The first answer whose condition holds.
pub(super) fn choose<'a>(answers: &'a [Answer], facts: &Facts) -> Result<&'a Answer, Problem> {
    let environment = environment();
    for answer in answers {
        let holds = match &answer.when {
            None => true,
            Some(when) => {
                let broken = |error| Problem::broken(format!("{error} in the condition {when}"));
                let expression = environment.compile_expression(when).map_err(broken)?;
                expression.eval(Value::from(facts.clone())).map_err(broken)?.is_true()
            }
        };
        if holds {
            return Ok(answer);
        }
    }
    Err(Problem::broken("the simulation has no answer for this case"))
}

/// Writes an answer. `picture` is what `picture = true` sends.
pub(super) fn reply(
    answer: &Answer,
    usual: StatusCode,
    facts: &Facts,
    picture: Option<&Picture>,
) -> Result<Reply, Problem> {
    let status = answer.status.map_or(Ok(usual), StatusCode::from_u16).map_err(Problem::broken)?;
    let mut headers = HeaderMap::new();
    let (mime, body) = match picture.filter(|_| answer.picture) {
        Some(picture) => (picture.format().mime(), picture.pieces()),
        None => ("application/json", vec![text(&answer.body, facts)?.into()]),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    for (name, template) in &answer.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(Problem::broken)?;
        let value = text(template, facts)?;
        if !value.is_empty() {
            headers.insert(name, HeaderValue::try_from(value).map_err(Problem::broken)?);
        }
    }
    Ok(Reply::Whole(status, headers, body))
}

/// A reply that is sent whole and at once.
pub(super) fn response(reply: Reply) -> Response {
    match reply {
        Reply::Whole(status, headers, body) => (status, headers, Body::from(body.concat())).into_response(),
        Reply::Events(_) => Problem::broken("simulations do not stream").into_response(),
    }
}

/// The status that a trouble usually has.
fn usual_status(trouble: Trouble) -> StatusCode {
    match trouble {
        Trouble::Unauthorized => StatusCode::UNAUTHORIZED,
        Trouble::NotFound | Trouble::NoModel | Trouble::JobNotFound => StatusCode::NOT_FOUND,
        Trouble::Invalid => StatusCode::BAD_REQUEST,
        Trouble::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Trouble::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Trouble::Quota => StatusCode::PAYMENT_REQUIRED,
        Trouble::Server => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The provider's answer to a trouble. `status` is what it is said with where the file leaves that open.
pub(super) fn trouble(sheet: &Sheet, trouble: Trouble, status: Option<StatusCode>, facts: &Facts) -> Response {
    let usual = status.unwrap_or_else(|| usual_status(trouble));
    let empty = Answer::default();
    let answer = sheet.errors.get(&trouble).or_else(|| sheet.errors.get(&Trouble::Server)).unwrap_or(&empty);
    let told = match sheet.errors.contains_key(&trouble) && trouble != Trouble::Server {
        true => answer.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(usual),
        false => usual,
    };
    let mut facts = facts.clone();
    facts.insert("status", Value::from(told.as_u16()));
    facts.insert("reason", Value::from(told.canonical_reason().unwrap_or("Error")));
    facts.entry("message").or_insert_with(|| Value::from(format!("Simulated failure: {told}.")));
    facts.entry("problems").or_insert_with(|| Value::from(Vec::<Value>::new()));
    // The status is decided: `server` lends only its words to the others.
    let answer = Answer { status: None, ..answer.clone() };
    match reply(&answer, told, &facts, None) {
        Ok(reply) => response(reply),
        Err(problem) => problem.into_response(),
    }
}

/// The provider's answer to a complaint.
pub(super) fn complain(sheet: &Sheet, complaint: Complaint, facts: &Facts) -> Response {
    let mut facts = facts.clone();
    match complaint {
        Complaint::Failed(status) => trouble(sheet, Trouble::Server, Some(status), &facts),
        Complaint::OutOfMoney => trouble(sheet, Trouble::Quota, None, &facts),
        Complaint::Throttled { wait, as_date } => {
            facts.insert("wait_s", Value::from(whole_seconds(wait)));
            facts.insert("wait_ms", Value::from(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
            facts.insert("wait_exact_s", Value::from(wait.as_secs_f64().to_string()));
            let header = if as_date { date_in(wait) } else { whole_seconds(wait).to_string() };
            facts.insert("wait_header", Value::from(header));
            trouble(sheet, Trouble::Throttled, None, &facts)
        }
        // Refusals are answers of the simulation; this is one that its file does not know.
        Complaint::Refused | Complaint::RefusedOk => {
            trouble(sheet, Trouble::Server, Some(StatusCode::BAD_REQUEST), &facts)
        }
    }
}

/// Rounded up: nobody is told to come too early.
fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

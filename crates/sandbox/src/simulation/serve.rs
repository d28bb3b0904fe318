//! Answers a request as a simulation's file says.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequest as _, Multipart, Query, Request};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use minijinja::value::{Serde, Value};

use super::check::{Flaw, Given, Part, check};
use super::order::{self, Wish};
use super::path::{Captures, capture, fits, text};
use super::sell::seed;
use super::sheet::{Does, Encoding, Route, Trouble};
use super::webhook::{self, Callback};
use super::wording::{self, Facts};
use super::{Simulation, auth};
use crate::files;
use crate::problem::Problem;
use crate::sale::{Complaint, Order, unix_seconds};
use crate::shop::{Shop, attempt};
use crate::stats::Visit;

/// A request to a simulation.
pub(super) struct Call {
    pub(super) shop: Arc<Shop>,
    pub(super) simulation: Arc<Simulation>,
    /// Where the simulation is reached, without a slash at the end.
    pub(super) base: String,
    path: String,
    method: Method,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    pub(super) facts: Facts,
}

/// Answers a request; `path` is what follows the simulation's own address.
pub(crate) async fn serve(
    shop: Arc<Shop>,
    simulation: Arc<Simulation>,
    base: String,
    path: String,
    request: Request,
) -> Response {
    if let Some(name) = path.strip_prefix("/files/") {
        return files::give(&shop, name, request.headers());
    }
    let query = pairs(request.uri());
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let facts = facts(&shop, &base, &query, &headers);
    let call = Call { shop, simulation, base, path, method, query, headers, facts };
    call.answer(request).await.unwrap_or_else(Problem::into_response)
}

fn pairs(uri: &Uri) -> Vec<(String, String)> {
    Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default()
}

/// What is known before the request is understood.
fn facts(shop: &Shop, base: &str, query: &[(String, String)], headers: &HeaderMap) -> Facts {
    let now = unix_seconds();
    let iso = i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_second(now).ok());
    let text = |value: &axum::http::HeaderValue| Value::from(value.to_str().unwrap_or_default());
    let headers: BTreeMap<String, Value> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    Facts::from([
        ("base", Value::from(base)),
        ("id", Value::from(shop.next_name())),
        ("now", Value::from(now)),
        ("now_iso", Value::from(iso.map(|iso| iso.to_string()).unwrap_or_default())),
        ("query", Value::from(query.iter().cloned().collect::<BTreeMap<String, String>>())),
        ("headers", Value::from(headers)),
    ])
}

impl Call {
    async fn answer(mut self, request: Request) -> Result<Response, Problem> {
        let simulation = Arc::clone(&self.simulation);
        let mut candidates: Vec<(usize, &Route, Captures)> = Vec::new();
        for (index, route) in simulation.sheet.routes.iter().enumerate() {
            if route.takes(&self.method)
                && let Some(captures) = capture(&route.path, &self.path)
            {
                candidates.push((index, route, captures));
            }
        }
        let Some((_, route, captures)) = candidates.first() else {
            return Ok(self.trouble(Trouble::NotFound, "There is nothing here."));
        };
        let path: BTreeMap<String, Value> =
            captures.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        self.facts.insert("path", Value::from(path));
        let visit = matches!(route.does, Does::Generate | Does::Submit).then(|| self.shop.counters.enter());
        let account = match (auth::account(&simulation.sheet.auth, &self.headers, &self.query), route.auth) {
            (Some(account), _) => account,
            (None, Some(false)) => "anonymous".to_owned(),
            (None, _) => return Ok(self.trouble(Trouble::Unauthorized, "The key is missing or malformed.")),
        };
        self.facts.insert("account", Value::from(account.as_str()));
        match (route.does, visit) {
            (Does::Generate | Does::Submit, Some(visit)) => self.paid(candidates, account, visit, request).await,
            (Does::Generate | Does::Submit, None) => Err(Problem::broken("a paid route without a visit")),
            (Does::Poll | Does::Result | Does::Cancel, _) => self.job(route, captures, request).await,
            (Does::Show, _) => {
                let answer = wording::choose(simulation.answers(route), &self.facts)?;
                wording::reply(answer, StatusCode::OK, &self.facts, None).map(wording::response)
            }
            (Does::Keys, _) => Ok(axum::Json(webhook::keys()?).into_response()),
        }
    }

    fn trouble(&self, trouble: Trouble, message: &str) -> Response {
        let mut facts = self.facts.clone();
        facts.insert("message", Value::from(message));
        wording::trouble(&self.simulation.sheet, trouble, None, &facts)
    }

    fn invalid(&self, flaws: &[Flaw]) -> Response {
        let mut facts = self.facts.clone();
        let said = flaws.iter().map(|flaw| format!("{}: {}", flaw.pointer, flaw.message));
        facts.insert("message", Value::from(said.collect::<Vec<_>>().join("; ")));
        facts.insert("problems", Value::from(Serde(flaws)));
        wording::trouble(&self.simulation.sheet, Trouble::Invalid, None, &facts)
    }

    /// A job is looked at, or cancelled.
    async fn job(mut self, route: &Route, captures: &Captures, request: Request) -> Result<Response, Problem> {
        self.shop.counters.poll();
        let id = match route.job.as_deref().and_then(|job| job.split_once(':')) {
            Some(("query", name)) => self.parameter(name).map(str::to_owned),
            Some((_, pointer)) => {
                let body = Bytes::from_request(request, &()).await.map_err(Problem::broken)?;
                serde_json::from_slice(&body).ok().and_then(|body| text(&body, pointer))
            }
            None => captures.get("job").cloned(),
        };
        let job = id.and_then(|id| self.shop.jobs.find(&self.simulation.sheet.name, &id));
        let nobody = |call: &Self| Ok(call.trouble(Trouble::JobNotFound, "There is no such job."));
        let Some(job) = job else {
            return nobody(&self);
        };
        job.settle().await;
        if route.does == Does::Cancel {
            let cancelled = job.cancel(&self.shop).await?;
            self.facts.insert("cancelled", Value::from(cancelled));
        }
        let glance = match job.look(&self.shop, route.does == Does::Poll) {
            None => return nobody(&self),
            Some(Err(status)) => {
                return Ok(wording::complain(&self.simulation.sheet, Complaint::Failed(status), &self.facts));
            }
            Some(Ok(glance)) => glance,
        };
        // What belongs to this request goes before what was known at the submission.
        let mut facts = glance.facts;
        facts.extend(self.facts.clone());
        let answers = self.simulation.answers(route);
        if glance.state == "gone" && !self.simulation.sheet.job.tells_gone {
            return nobody(&self);
        }
        let answer = wording::choose(answers, &facts)?;
        wording::reply(answer, StatusCode::OK, &facts, glance.picture.as_ref()).map(wording::response)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Something is sold.
    async fn paid(
        mut self,
        mut candidates: Vec<(usize, &Route, Captures)>,
        account: String,
        visit: Visit,
        request: Request,
    ) -> Result<Response, Problem> {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        candidates.retain(|(_, route, _)| match route.encoding {
            Encoding::Json => kind.contains("json"),
            Encoding::Form => kind.starts_with("multipart/form-data"),
            Encoding::None => true,
        });
        let Some(encoding) = candidates.first().map(|(_, route, _)| route.encoding) else {
            return Ok(self.trouble(Trouble::Encoding, "The body has a media type that is not supported here."));
        };
        let given = match self.given(encoding, request).await {
            Ok(given) => given,
            Err(flaw) => return Ok(self.invalid(&[flaw])),
        };
        let simulation = Arc::clone(&self.simulation);
        let mut chosen = None;
        for (index, route, captures) in candidates {
            let model = self.model(route, &captures, &given);
            if route.models.is_empty() || route.models.iter().any(|pattern| fits(pattern, &model)) {
                chosen = Some((index, route, model));
                break;
            }
        }
        let Some((index, route, model)) = chosen else {
            return Ok(self.trouble(Trouble::NoModel, "There is no such model."));
        };
        self.facts.insert("model", Value::from(model.as_str()));
        let mut checked = check(route, simulation.rules(index), given);
        checked.flaws.extend(self.around(route));
        self.facts.insert("body", Value::from(Serde(&checked.body)));
        if !checked.flaws.is_empty() {
            return Ok(self.invalid(&checked.flaws));
        }
        let wish = match order::read(route, &checked.body) {
            Ok(wish) => wish,
            Err(flaw) => return Ok(self.invalid(&[flaw])),
        };
        let pictures = checked.pictures as u64;
        let Some((usd, usage)) = order::price(&simulation.sheet, &model, &wish, pictures, &checked.body) else {
            return Ok(self.trouble(Trouble::NoModel, "There is no such model."));
        };
        let order = Order {
            provider: simulation.sheet.name.clone(),
            account,
            attempt: attempt(&self.headers),
            model,
            edit: checked.pictures > 0,
            n: usize::try_from(wish.n).unwrap_or(1),
            width: wish.width,
            height: wish.height,
            quality: wish.quality.clone(),
            prompt: wish.prompt.clone(),
            seed: wish.seed,
            format: wish.format,
            transparent: false,
            usd,
            usage,
            events: 0,
        };
        self.describe(&order, &wish, pictures);
        if route.does == Does::Submit {
            let callback = self.callback(&checked.body);
            self.submit(route, order, callback, visit).await
        } else {
            self.sell(route, order, visit).await
        }
    }

    async fn given(&self, encoding: Encoding, request: Request) -> Result<Given, Flaw> {
        let unreadable = |error: String| Flaw::new("", "unreadable", format!("The body cannot be read: {error}"));
        match encoding {
            Encoding::None => Ok(Given::Parts(
                self.query.iter().map(|(name, text)| (name.clone(), Part::Text(text.clone()))).collect(),
            )),
            Encoding::Json => {
                let body = Bytes::from_request(request, &()).await.map_err(|error| unreadable(error.to_string()))?;
                serde_json::from_slice(&body).map(Given::Json).map_err(|error| unreadable(error.to_string()))
            }
            Encoding::Form => {
                let broken = |error: axum::extract::multipart::MultipartError| unreadable(error.to_string());
                let form = Multipart::from_request(request, &()).await;
                let mut form = form.map_err(|error| unreadable(error.to_string()))?;
                let mut parts = Vec::new();
                while let Some(field) = form.next_field().await.map_err(broken)? {
                    let name = field.name().unwrap_or_default().to_owned();
                    let part = match field.file_name() {
                        Some(_) => Part::File(field.bytes().await.map_err(broken)?),
                        None => Part::Text(field.text().await.map_err(broken)?),
                    };
                    parts.push((name, part));
                }
                Ok(Given::Parts(parts))
            }
        }
    }

    fn model(&self, route: &Route, captures: &Captures, given: &Given) -> String {
        let Some(at) = route.model.as_deref() else {
            return captures.get("model").cloned().unwrap_or_default();
        };
        if let Some(name) = at.strip_prefix('=') {
            return name.to_owned();
        }
        if let Some(name) = at.strip_prefix("header:") {
            return self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        }
        match given {
            Given::Json(body) => text(body, at).unwrap_or_default(),
            Given::Parts(parts) => {
                let text = |(name, part): &(String, Part)| match part {
                    Part::Text(text) if name == at => Some(text.clone()),
                    _ => None,
                };
                parts.iter().find_map(text).unwrap_or_default()
            }
        }
    }

    /// What is wrong around the body: headers and query.
    fn around(&self, route: &Route) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        for (name, values) in &route.headers {
            let value = self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !values.all().iter().any(|pattern| fits(pattern, value)) {
                flaws.push(Flaw::new(name, "wrong_value", format!("The header {name} is missing or wrong")));
            }
        }
        if route.encoding == Encoding::None {
            return flaws;
        }
        let sheet = &self.simulation.sheet;
        let of_webhook = sheet.webhook.as_ref().and_then(|webhook| webhook.at.strip_prefix("query:"));
        let of_auth = sheet.auth.iter().filter_map(|auth| auth.query.as_deref());
        let known: Vec<&str> = route.query.iter().map(String::as_str).chain(of_webhook).chain(of_auth).collect();
        for (name, _) in self.query.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            flaws.push(Flaw::new(name, "unknown", format!("The query parameter {name} is not permitted")));
        }
        flaws
    }

    fn callback(&self, body: &serde_json::Value) -> Option<Callback> {
        let webhook = self.simulation.sheet.webhook.as_ref()?;
        let url = match webhook.at.strip_prefix("query:") {
            Some(name) => self.parameter(name)?.to_owned(),
            None => text(body, &webhook.at)?,
        };
        let told = webhook.secret_at.as_ref().and_then(|at| text(body, at));
        Some(Callback { url, secret: told.or_else(|| webhook.secret.clone()) })
    }

    /// Adds to the variables what is known of the order.
    fn describe(&mut self, order: &Order, wish: &Wish, inputs: u64) {
        let units = self.simulation.sheet.unit_usd.and_then(|unit| order::units(order.usd, unit));
        let usage = order.usage.unwrap_or_else(|| crate::price::Usage::new(0, 0, 0));
        let tokens = [
            ("input", usage.input_tokens),
            ("text", usage.input_tokens_details.text_tokens),
            ("image", usage.input_tokens_details.image_tokens),
            ("output", usage.output_tokens),
            ("total", usage.total_tokens),
        ];
        self.facts.extend([
            ("prompt", Value::from(wish.prompt.as_str())),
            ("n", Value::from(wish.n)),
            ("seed", Value::from(seed(order))),
            ("width", Value::from(wish.width)),
            ("height", Value::from(wish.height)),
            ("size", Value::from(format!("{}x{}", wish.width, wish.height))),
            ("quality", Value::from(wish.quality.clone())),
            ("format", Value::from(wish.format.name())),
            ("mime", Value::from(wish.format.mime())),
            ("edit", Value::from(order.edit)),
            ("inputs", Value::from(inputs)),
            ("usd", Value::from(order.usd.to_string())),
            ("units", Value::from(units)),
            ("tokens", Value::from(BTreeMap::from(tokens))),
            ("refusal", Value::from(0)),
        ]);
    }
}

impl Route {
    /// Whether it serves that method.
    fn takes(&self, method: &Method) -> bool {
        let usual = match self.does {
            Does::Generate | Does::Submit | Does::Cancel => "POST",
            Does::Poll | Does::Result | Does::Show | Does::Keys => "GET",
        };
        self.method.as_deref().unwrap_or(usual).eq_ignore_ascii_case(method.as_str())
    }
}

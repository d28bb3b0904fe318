//! Answers a request as a simulation's file says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest as _, Multipart, Query, Request};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use minijinja::value::{Serde, Value};

use super::check::{Flaw, Given, Part, check};
use super::job::{End, Job, billed_on_submission};
use super::order::{self, Wish};
use super::path::{Captures, capture, fits, text};
use super::sheet::{Does, Encoding, Route, Trouble};
use super::webhook::{self, Callback};
use super::wording::{self, Facts, Shown};
use super::{Simulation, auth};
use crate::fault::Fault;
use crate::files::{self, Stored};
use crate::picture::{Look, Picture};
use crate::problem::Problem;
use crate::sale::{self, Complaint, Order, Reply, Sold, Voice, unix_seconds};
use crate::script::Plan;
use crate::shop::{Shop, attempt};
use crate::stats::Visit;

/// A request to a simulation.
pub(super) struct Call {
    shop: Arc<Shop>,
    simulation: Arc<Simulation>,
    /// Where the simulation is reached, without a slash at the end.
    base: String,
    path: String,
    method: Method,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    facts: Facts,
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

    /// Sells pictures that are answered at once.
    async fn sell(self, route: &Route, order: Order, visit: Visit) -> Result<Response, Problem> {
        let simulation = Arc::clone(&self.simulation);
        let name = self.facts.get("id").map(Value::to_string).unwrap_or_default();
        let (shop, base, facts) = (Arc::clone(&self.shop), self.base.clone(), self.facts.clone());
        let voice = Wording { simulation: Arc::clone(&simulation), facts: self.facts, in_job: false };
        sale::sell(&self.shop, visit, order, &voice, |Sold { order, invoice, pictures, plan }| {
            let mut facts = facts;
            facts.insert("pictures", show(&shop, &simulation, &base, &name, order, plan, pictures));
            facts.insert("invoice", Value::from(invoice));
            let refusal = plan.outcome.as_ref().and_then(|fault| simulation.refusal(fault, false));
            let answer = match &refusal {
                Some((way, refusal)) => {
                    facts.insert("refusal", Value::from(*way));
                    &refusal.answer
                }
                None if plan.outcome.as_ref().is_some_and(is_refusal) => {
                    return Ok(Reply::Whole(StatusCode::BAD_REQUEST, HeaderMap::new(), Vec::new()));
                }
                None => wording::choose(simulation.answers(route), &facts)?,
            };
            wording::reply(answer, StatusCode::OK, &facts, pictures.first())
        })
        .await
    }

    /// Accepts a job, or does not.
    async fn submit(
        mut self,
        route: &Route,
        order: Order,
        callback: Option<Callback>,
        visit: Visit,
    ) -> Result<Response, Problem> {
        let simulation = Arc::clone(&self.simulation);
        let plan = sale::plan(&self.shop, &order)?;
        let voice = Wording { simulation: Arc::clone(&simulation), facts: self.facts.clone(), in_job: true };
        let (end, bills) = match &plan.outcome {
            Some(fault) if is_refusal(fault) => match simulation.refusal(fault, true) {
                Some((way, refusal)) if refusal.in_job => (End::Refused(way), voice.bills(fault)),
                Some((way, refusal)) => {
                    if voice.bills(fault) {
                        sale::bill(&self.shop, &order).await?;
                    }
                    self.facts.insert("refusal", Value::from(way));
                    let reply = wording::reply(&refusal.answer, StatusCode::OK, &self.facts, None)?;
                    return Ok(sale::deliver(reply, &plan, Duration::ZERO, visit));
                }
                None => return sale::instead(fault, &voice).await,
            },
            Some(fault @ (Fault::FailJob | Fault::BillThenFailJob)) => (End::Failed, voice.bills(fault)),
            Some(Fault::ForgetJob) => (End::Forgotten, true),
            Some(fault) if !fault.is_billed() => {
                sale::wait(plan.latency).await;
                return sale::instead(fault, &voice).await;
            }
            _ => (End::Done, true),
        };
        // Where the answer is lost, the bill must be there when the caller looks.
        let lost = plan.outcome.as_ref().is_some_and(replaces_submission);
        let invoice = match bills && (lost || billed_on_submission(&simulation)) {
            true => Some(sale::bill(&self.shop, &order).await?),
            false => None,
        };
        let job = self.accept(order, plan.clone(), (end, bills), invoice, callback);
        if let Some(fault) = plan.outcome.as_ref().filter(|fault| replaces_submission(fault)) {
            return sale::instead(fault, &voice).await;
        }
        let mut facts = self.facts;
        let queued = BTreeMap::from([("id", Value::from(job.id.as_str())), ("state", Value::from("queued"))]);
        facts.insert("job", Value::from(queued));
        facts.insert("invoice", Value::from(invoice.unwrap_or_default()));
        let answer = wording::choose(simulation.answers(route), &facts)?;
        Ok(sale::deliver(wording::reply(answer, StatusCode::OK, &facts, None)?, &plan, Duration::ZERO, visit))
    }

    fn accept(
        &self,
        order: Order,
        plan: Plan,
        (end, bills): (End, bool),
        invoice: Option<u64>,
        callback: Option<Callback>,
    ) -> Arc<Job> {
        let id = self.facts.get("id").map(Value::to_string).unwrap_or_default();
        let time = self.shop.latency() + plan.latency;
        let mut job = Job::new((order, plan), end, (Arc::clone(&self.simulation), id), time);
        job.bills = bills;
        job.facts = self.facts.clone();
        job.base.clone_from(&self.base);
        job.callback = callback;
        let job = Arc::new(job);
        if let Some(invoice) = invoice {
            job.billed(invoice);
        }
        self.shop.counters.accept();
        self.shop.jobs.accept(Arc::clone(&job));
        self.shop.tasks.spawn(Arc::clone(&job).run(Arc::clone(&self.shop), time));
        job
    }
}

/// The pictures as templates see them; each gets an address.
pub(super) fn show(
    shop: &Shop,
    simulation: &Simulation,
    base: &str,
    name: &str,
    order: &Order,
    plan: &Plan,
    pictures: &[Picture],
) -> Value {
    let sheet = &simulation.sheet;
    let shown = pictures.iter().enumerate().map(|(index, picture)| {
        let file = format!("{}-{name}-{index}.{}", sheet.name, picture.format().name());
        let stored = Stored::new(picture.clone(), plan).needing_key(sheet.files_need_key);
        shop.files.put(file.clone(), stored);
        Value::from_object(Shown {
            picture: picture.clone(),
            url: format!("{base}/files/{file}"),
            name: file,
            index,
            width: order.width,
            height: order.height,
            seed: seed(order).saturating_add(i64::try_from(index).unwrap_or(0)),
        })
    });
    Value::from_iter(shown)
}

/// The seed that was asked for, or the one that the provider rolled.
fn seed(order: &Order) -> i64 {
    order.seed.unwrap_or_else(|| 1000 + i64::from(Look::motif(&order.model, &order.prompt, None)))
}

fn is_refusal(fault: &Fault) -> bool {
    matches!(fault, Fault::Refuse(_) | Fault::RefuseOk | Fault::StreamRefuse)
}

/// Whether a billed fault puts something else in the place of the answer to a submission.
fn replaces_submission(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::BillThenFail(_)
            | Fault::BillThenHang
            | Fault::BillThenReset
            | Fault::BillThenStreamError
            | Fault::Html
            | Fault::GarbageJson
    )
}

/// The voice of a simulation.
struct Wording {
    simulation: Arc<Simulation>,
    facts: Facts,
    /// Whether the sale is one of a job.
    in_job: bool,
}

impl Voice for Wording {
    fn complain(&self, complaint: Complaint) -> Response {
        wording::complain(&self.simulation.sheet, complaint, &self.facts)
    }

    fn bills(&self, fault: &Fault) -> bool {
        let billing = &self.simulation.sheet.billing;
        match fault {
            fault if is_refusal(fault) => {
                let refusal = self.simulation.refusal(fault, self.in_job);
                refusal.and_then(|(_, refusal)| refusal.billed).unwrap_or(billing.refused)
            }
            Fault::FailJob => billing.failed,
            fault => fault.is_billed(),
        }
    }

    fn renders_refusals(&self) -> bool {
        true
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

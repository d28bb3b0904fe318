//! A trace, sent as fast as it goes: its moments in order, the requests of a moment at once.
//!
//! Time is compressed: what takes a month there takes a minute here. That changes nothing but what runs out, and nothing
//! does, since pictures answer for thirty days. Moments whose pictures differ are sent side by side; one that asks for a
//! picture again waits until the earlier one has its answer.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request as Http;
use hyper::http::response::Parts;
use mimeo::domain::Usd;
use mimeo::domain::request::canonical_text;
use mimeo_bench::client::{Connection, Target};
use mimeo_bench::process::{Folder, Process};
use mimeo_bench::{Failure, Result};
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::layers::{self, Layers};
use crate::trace::Request;
use crate::truth::{FULL_STEPS, Maker, Matter, Subject};

const SIMULATION: &str = include_str!("simulation.toml");
const RECORD: &str = include_str!("record.toml");

/// Moments that are sent side by side.
const ABREAST: usize = 8;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The provider itself.
    Direct,
    /// A gateway with these layers.
    Through(Layers),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the provider's invoice book says.
    pub billed: Usd,
    /// Invoices.
    pub calls: u64,
    /// What the gateway's ledger says.
    pub ledger: Option<Ledger>,
    /// Answers by what the gateway says of them: `hit`, `miss`, `join`, `bypass`.
    pub answers: HashMap<String, u64>,
    /// Answers that a template gave.
    pub drawn: u64,
    /// Answers below their floor.
    pub below: u64,
    /// Delicate things from the turbo model.
    pub spoiled: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The sums of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Paid.
    pub spent: Usd,
    /// Set aside or in suspense at the end.
    pub open: Usd,
    /// Not paid because pictures were there or being made.
    pub saved: Usd,
}

/// One answer, as far as it counts: which request it is for, and who the gateway says made it.
struct Answer {
    index: usize,
    cache: String,
    provider: String,
    model: String,
}

struct World {
    target: Target,
    sandbox: Target,
    // Fields are dropped in this order: processes before their folder.
    _gateway: Option<Process>,
    _sandbox: Process,
    _folder: Folder,
}

/// Sends `trace` and reads the bill.
///
/// # Errors
/// A process does not start, or a request is not answered as it should be.
pub async fn run(mimeo: &Path, way: Way, trace: &[Request]) -> Result<Outcome> {
    let world = Rc::new(World::begin(mimeo, way).await?);
    let start = Instant::now();
    let answers = LocalSet::new().run_until(send(&world, way, trace)).await?;
    let seconds = start.elapsed().as_secs_f64();
    world.read(way, trace, &answers, seconds).await
}

/// Indexes of requests that come at once and for the same picture.
fn moments(trace: &[Request]) -> Vec<Vec<usize>> {
    let mut moments: Vec<Vec<usize>> = Vec::new();
    let mut of: HashMap<(u64, String, &str), usize> = HashMap::new();
    for (index, request) in trace.iter().enumerate() {
        let picture = (request.at_ms, canonical_text(&request.prompt), request.size.as_str());
        let moment = *of.entry(picture).or_insert(moments.len());
        match moments.get_mut(moment) {
            Some(requests) => requests.push(index),
            None => moments.push(vec![index]),
        }
    }
    moments
}

async fn send(world: &Rc<World>, way: Way, trace: &[Request]) -> Result<Vec<Answer>> {
    let idle = Idle::default();
    let mut answers = Vec::with_capacity(trace.len());
    let moments = moments(trace);
    let mut next = 0;
    while next < moments.len() {
        let mut tasks = JoinSet::new();
        let mut pictures = HashSet::new();
        while let Some(moment) = moments.get(next).filter(|_| tasks.len() < ABREAST) {
            let requests: Vec<(usize, Request)> =
                moment.iter().filter_map(|index| Some((*index, trace.get(*index)?.clone()))).collect();
            if !requests.first().is_some_and(|(_, first)| pictures.insert(canonical_text(&first.prompt))) {
                break;
            }
            tasks.spawn_local(at_once(Rc::clone(world), way, idle.clone(), next, requests));
            next += 1;
        }
        while let Some(done) = tasks.join_next().await {
            answers.extend(done??);
        }
    }
    Ok(answers)
}

/// The requests of one moment, all for the same picture. Who is impatient asks twice: his first call goes on without him.
async fn at_once(
    world: Rc<World>,
    way: Way,
    idle: Idle,
    moment: usize,
    requests: Vec<(usize, Request)>,
) -> Result<Vec<Answer>> {
    let body = |request: &Request| match way {
        Way::Direct => layers::naive(request),
        Way::Through(layers) => layers.body(request, moment),
    };
    let copies =
        requests.iter().flat_map(|(index, request)| vec![(*index, body(request)); 1 + usize::from(request.impatient)]);
    let mut bodies: Vec<(usize, Value)> = copies.collect();
    let is_drawn = bodies.iter().any(|(_, body)| body.get("template").is_some());
    if let (Way::Through(layers), [(_, first), _, ..]) = (way, bodies.as_slice())
        && layers.each_for_himself()
        && !is_drawn
    {
        // Whoever looks before the first picture is stored finds nothing and has one made, if it was not there before.
        let mut probe = first.clone();
        mode(&mut probe, "only-if-cached");
        if idle.exchange(world.order(&probe)?, world.target.address).await?.0.status.as_u16() == 504 {
            bodies.iter_mut().for_each(|(_, body)| mode(body, "no-cache"));
        }
    }
    let mut tasks = JoinSet::new();
    for (index, body) in bodies {
        let (idle, world) = (idle.clone(), Rc::clone(&world));
        tasks.spawn_local(async move {
            let (head, bytes) = idle.exchange(world.order(&body)?, world.target.address).await?;
            answer(index, &head, &bytes)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        answers.push(answer??);
    }
    Ok(answers)
}

fn mode(body: &mut Value, mode: &str) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("cache".to_owned(), json!({ "mode": mode }));
    }
}

fn answer(index: usize, head: &Parts, bytes: &Bytes) -> Result<Answer> {
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let shown: String = String::from_utf8_lossy(bytes).chars().take(400).collect();
    if !head.status.is_success() || !shown.contains("b64_json") {
        return Err(format!("request {index} was answered with {}: {shown}", head.status).into());
    }
    let warning = header("x-mimeo-warning");
    if !warning.is_empty() {
        return Err(format!("request {index} was answered with a warning: {warning}").into());
    }
    Ok(Answer {
        index,
        cache: header("x-mimeo-cache"),
        provider: header("x-mimeo-provider"),
        model: header("x-mimeo-model"),
    })
}

/// Connections that carry nothing now.
#[derive(Clone, Default)]
struct Idle(Rc<RefCell<Vec<Connection>>>);

impl Idle {
    async fn exchange(&self, request: Http<Full<Bytes>>, address: SocketAddr) -> Result<(Parts, Bytes)> {
        let kept = self.0.borrow_mut().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(address).await?,
        };
        let answer = connection.exchange(request).await?;
        self.0.borrow_mut().push(connection);
        Ok(answer)
    }
}

impl World {
    async fn begin(mimeo: &Path, way: Way) -> Result<Self> {
        let folder = Folder::new(&std::env::temp_dir(), "bill")?;
        let path = folder.path();
        let records = path.join("records");
        fs::create_dir(&records)?;
        fs::write(records.join("studio.toml"), RECORD)?;
        fs::write(path.join("simulation.toml"), SIMULATION)?;
        let mut command = Command::new(mimeo);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--no-fsync"]);
        command.arg("--book").arg(path.join("book.jsonl")).arg("--simulation").arg(path.join("simulation.toml"));
        let mut process = Process::start("the sandbox", command, &path.join("sandbox.log"))?;
        let url = process.address().await?;
        let sandbox = Target::at(&url, "/as/studio/v1/images/generations", "")?;
        let Way::Through(layers) = way else {
            return Ok(Self { target: sandbox.clone(), sandbox, _gateway: None, _sandbox: process, _folder: folder });
        };
        fs::write(path.join("mimeo.toml"), layers.config(&url, &path.join("data"), &records))?;
        let mut command = Command::new(mimeo);
        command.arg("serve").arg("--config").arg(path.join("mimeo.toml")).env("MIMEO_LOG", "warn");
        let mut gateway = Process::start("mimeo", command, &path.join("mimeo.log"))?;
        let target = Target::at(&gateway.address().await?, "/v1/images/generations", "")?;
        Ok(Self { target, sandbox, _gateway: Some(gateway), _sandbox: process, _folder: folder })
    }

    fn order(&self, body: &Value) -> Result<Http<Full<Bytes>>> {
        let request = Http::post(&self.target.path)
            .header("host", self.target.address.to_string())
            .header("content-type", "application/json");
        Ok(request.body(Full::new(Bytes::from(body.to_string())))?)
    }

    async fn get(&self, target: &Target, path: &str) -> Result<Value> {
        let (status, body) = Connection::open(target.address).await?.fetch(target.get(path)?).await?;
        if !status.is_success() {
            return Err(format!("{path} is answered with {status}: {body:?}").into());
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// What the two books say, and how good the pictures are that were given out.
    async fn read(&self, way: Way, trace: &[Request], answers: &[Answer], seconds: f64) -> Result<Outcome> {
        let book = self.get(&self.sandbox, "/control/book").await?;
        // Least steps of each prompt that the premium model drew.
        let mut steps: HashMap<String, u32> = HashMap::new();
        for line in book["lines"].as_array().into_iter().flatten() {
            let (prompt, usd) = (line["prompt"].as_str().unwrap_or_default(), money(&line["usd"])?);
            if line["model"] == "premium" {
                let drawn = steps.entry(canonical_text(prompt)).or_insert(FULL_STEPS);
                *drawn = (*drawn).min(steps_for(usd)?);
            }
        }
        let ledger = match way {
            Way::Direct => None,
            Way::Through(_) => {
                let sums = self.get(&self.target, "/v1/ledger").await?;
                let open = money(&sums["reserved_usd"])? + money(&sums["suspense_usd"])?;
                Some(Ledger { spent: money(&sums["spent_usd"])?, open, saved: money(&sums["saved_usd"])? })
            }
        };
        let mut outcome = Outcome {
            billed: money(&book["billed_usd"])?,
            calls: book["count"].as_u64().ok_or("the invoice book has no count")?,
            ledger,
            answers: HashMap::new(),
            drawn: 0,
            below: 0,
            spoiled: 0,
            seconds,
        };
        for answer in answers {
            let request = trace.get(answer.index).ok_or("an answer to no request")?;
            let subject = Subject::of(request);
            let maker = match (way, answer.provider.as_str(), answer.model.as_str()) {
                (_, "template", _) => Maker::Template,
                (Way::Through(_), _, "turbo") => Maker::Turbo,
                (Way::Through(_), _, "premium") | (Way::Direct, ..) => {
                    let drawn = steps.get(&canonical_text(&request.prompt));
                    Maker::Premium(*drawn.ok_or_else(|| format!("nobody was billed for `{}`", request.prompt))?)
                }
                (_, provider, model) => return Err(format!("nobody knows who {provider}/{model} is").into()),
            };
            *outcome.answers.entry(answer.cache.clone()).or_default() += 1;
            outcome.drawn += u64::from(maker == Maker::Template);
            // Nobody can say what is good enough for what nobody knows.
            let is_known = request.purpose.is_some() || request.quality_tier.is_some();
            outcome.below += u64::from(is_known && subject.quality(maker) < subject.floor());
            outcome.spoiled += u64::from(maker == Maker::Turbo && subject.matter == Matter::Reflective);
        }
        Ok(outcome)
    }
}

fn money(value: &Value) -> Result<Usd> {
    let text = value.as_str().ok_or_else(|| format!("{value} is no amount"))?;
    text.parse().map_err(|_| Failure::from(format!("{text} is no amount")))
}

/// The steps of a premium picture of that price, see `simulation.toml`.
fn steps_for(usd: Usd) -> Result<u32> {
    let (fixed, step) = (12_000_000_000, 560_000_000);
    let steps = (usd.pico() - fixed) / step;
    match u32::try_from(steps) {
        Ok(steps) if i128::from(steps) * step + fixed == usd.pico() => Ok(steps),
        _ => Err(format!("no premium picture costs {usd}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_off_the_price() {
        let steps = |text: &str| steps_for(text.parse().unwrap()).ok();
        assert_eq!([steps("0.04"), steps("0.026"), steps("0.0265"), steps("0.008")], [Some(50), Some(25), None, None]);
    }

    #[test]
    fn a_moment_holds_the_requests_for_one_picture() {
        let line = |at_ms, prompt: &str| Request {
            at_ms,
            prompt: prompt.to_owned(),
            ..serde_json::from_str("{\"at_ms\":0,\"prompt\":\"\",\"size\":\"8x8\"}").unwrap()
        };
        let trace = [line(1, "a"), line(1, "b"), line(1, "a\n"), line(2, "a")];
        assert_eq!(moments(&trace), [vec![0, 2], vec![1], vec![3]]);
    }
}

//! Every provider of the catalogue, through the real binary, against the simulation of its API: what goes well, what is
//! refused in all its disguises, and everything that goes wrong before and after money was spent.
//!
//! Records and simulations are written independently of each other, so a mistake in one of them shows. A simulation
//! refuses whatever field its provider does not know.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mimeo::domain::{Operation, Usd};
use mimeo::providers::record::{Scheme, Shape};
use mimeo::providers::wiring::{Errors, Field, Meaning};
use mimeo::providers::{Catalogue, Model, Record, Status};
use serde_json::{Value, json};

use crate::world::{Reply, World};

/// What must never be seen again anywhere but at the provider.
const KEY: &str = "canary-7Qx2mZ9pLr4T";

/// How long a provider may take before a call counts as lost, in seconds, where some never answer. A busy machine must
/// make a picture within it.
const PATIENCE_S: u32 = 12;

/// The same where all answer in the end.
const LONG_S: u32 = 90;

/// Providers that are tried at the same time.
const AT_A_TIME: usize = 24;

/// The records that have a simulation of their own name.
fn simulated() -> Vec<Record> {
    let names: Vec<String> =
        mimeo_sandbox::simulations(&[]).expect("they are right").into_iter().map(|s| s.name).collect();
    let catalogue = Catalogue::embedded();
    catalogue.records().filter(|record| names.contains(&record.name)).map(|record| (**record).clone()).collect()
}

/// The path at which a provider's API begins on its own host.
fn base_path(record: &Record) -> String {
    let Some(base) = &record.base_url else { return String::new() };
    let rest = base.split_once("://").map_or(base.as_str(), |(_, rest)| rest);
    rest.split_once('/').map_or(String::new(), |(_, path)| format!("/{path}"))
}

fn configuration(records: &[Record], patience_s: u32) -> String {
    // What pictures look like is no part of how a provider is spoken to, and decoding them without optimisation takes long.
    let mut text = "[quality]\nchecks = false\n".to_owned();
    for record in records {
        let name = &record.name;
        let path = base_path(record);
        let _ = write!(
            text,
            "[providers.{name}]\nbase_url = '{{sandbox}}/as/{name}{path}'\ntimeout_s = {patience_s}\n\
             limits = {{ concurrent = 32 }}\n"
        );
        match record.auth.scheme {
            Scheme::None => {}
            Scheme::Google => text.push_str("api_key = { file = 'google.json' }\n"),
            Scheme::Basic => text.push_str("api_key = { file = 'pair' }\n"),
            _ => text.push_str("api_key = { file = 'key' }\n"),
        }
        if !record.vars.is_empty() {
            let vars: Vec<String> = record
                .vars
                .keys()
                .map(|var| match var.as_str() {
                    "token_host" => format!("{var} = '{{sandbox}}/as/{name}'"),
                    _ => format!("{var} = 'test-{}'", var.replace('_', "-")),
                })
                .collect();
            let _ = writeln!(text, "vars = {{ {} }}", vars.join(", "));
        }
    }
    text
}

/// The models that are called: the first, or all of them. That each dialect's refusals are known is tested where the
/// engine is.
fn spoken_to(record: &Record, all: bool) -> Vec<String> {
    let generates = |model: &&Model| {
        model.operations.contains(&Operation::Generate) && !matches!(model.status, Status::Gone { .. })
    };
    let names = record.models.iter().filter(generates).map(|model| model.id.clone());
    let mut names: Vec<String> = names.take(if all { usize::MAX } else { 1 }).collect();
    if record.open_models && names.is_empty() {
        names.push("any-model".to_owned());
    }
    names
}

/// Spent and suspended, by the ledger, and billed, by the book.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Money {
    spent: Usd,
    suspense: Usd,
    billed: Usd,
    bills: usize,
}

struct Trial<'a> {
    world: &'a World,
    record: &'a Record,
    model: String,
    faults: Vec<String>,
}

impl Trial<'_> {
    async fn money(&self) -> Money {
        let usd = |value: &Value| value.as_str().and_then(|text| text.parse::<Usd>().ok()).unwrap_or(Usd::ZERO);
        let ledger = self.world.get("/v1/ledger?group_by=provider").await.expect(200).body;
        let rows = ledger["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"] == self.record.name.as_str()).cloned().unwrap_or(json!({}));
        let book = self.world.book().await;
        let mine: Vec<&Value> = book.iter().filter(|line| line["provider"] == self.record.name.as_str()).collect();
        Money {
            spent: usd(&row["spent_usd"]),
            suspense: usd(&row["suspense_usd"]),
            billed: mine.iter().map(|line| usd(&line["usd"])).sum(),
            bills: mine.len(),
        }
    }

    fn note(&mut self, what: &str, why: impl std::fmt::Display) {
        self.faults.push(format!("{} {}: {what}: {why}", self.record.name, self.model));
    }

    /// One request, and what the two books say of it afterwards.
    async fn ask(&mut self, directives: &str, more: &Value) -> (Reply, Money) {
        let before = self.money().await;
        let mut body = json!({
            "model": format!("{}/{}", self.record.name, self.model),
            "prompt": format!("a kite over {} {directives} {}", self.model, self.faults.len()),
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let reply = self.world.generate(body).await;
        let after = self.money().await;
        let heard = format!("{:?} {}", reply.headers, reply.body);
        if heard.contains(KEY) || heard.contains("PRIVATE KEY") {
            self.note(directives, "a secret is in the answer");
        }
        let change = Money {
            spent: after.spent - before.spent,
            suspense: after.suspense - before.suspense,
            billed: after.billed - before.billed,
            bills: after.bills - before.bills,
        };
        // Own servers bill nothing, and may be asked again.
        if change.bills > 1 && !change.billed.is_zero() {
            self.note(directives, format!("{} bills for one request", change.bills));
        }
        let held = change.spent + change.suspense;
        // Where it is still being made, its money is set aside, which this report does not show.
        let is_open = reply.code() == "still_being_made";
        let is_priced = reply.header("x-mimeo-cost") != "unknown" && self.is_priced() && !is_open;
        // A failed job that is billed although the record says that it is not: nobody but the bill tells.
        let is_hidden = directives == "[[bill-then-fail-job]]" && self.bills_failures() == Some(false);
        let is_priced = is_priced && !is_hidden;
        if is_priced && held < change.billed {
            self.note(directives, format!("billed {}, held {held}: {}", change.billed, reply.body));
        }
        if is_priced && change.suspense.is_zero() && change.spent != change.billed {
            self.note(directives, format!("billed {}, spent {}: {}", change.billed, change.spent, reply.body));
        }
        (reply, change)
    }

    fn called(&self) -> Option<&Model> {
        let model = self.record.models.iter().find(|model| model.id == self.model);
        model.or(self.record.default_model.as_ref())
    }

    fn bills_failures(&self) -> Option<bool> {
        self.called()?.wiring.billing.failed
    }

    fn is_priced(&self) -> bool {
        self.called().is_some_and(|model| model.prices.is_some()) || self.record.cost.is_some()
    }

    async fn goes_well(&mut self, directives: &str, more: &Value) {
        let (reply, change) = self.ask(directives, more).await;
        if reply.status != 200 {
            return self.note(directives, format!("{} {}", reply.status, reply.body));
        }
        let is_picture = |bytes: &Vec<u8>| mimeo::media::examine(bytes.clone().into()).is_ok();
        if !reply.pictures().iter().all(is_picture) {
            self.note(directives, "no picture came");
        }
        if change.bills != 1 {
            self.note(directives, format!("{} bills", change.bills));
        }
        if reply.header("x-mimeo-cost-usd").is_empty() && reply.header("x-mimeo-cost") != "unknown" {
            self.note(directives, "its cost is neither told nor said to be unknown");
        }
    }

    /// A request that must fail with one of these statuses, and leave no doubt where `is_settled`.
    async fn fails(&mut self, directives: &str, statuses: &[u16], is_settled: bool) -> Option<Reply> {
        let (reply, change) = self.ask(directives, &json!({})).await;
        if !statuses.contains(&reply.status) {
            self.note(directives, format!("{} instead of {statuses:?}: {}", reply.status, reply.body));
            return None;
        }
        if is_settled && !change.suspense.is_zero() {
            self.note(directives, format!("{} went to suspense: {}", change.suspense, reply.body));
        }
        if reply.message().is_empty() || reply.code().is_empty() {
            self.note(directives, format!("the error says too little: {}", reply.body));
        }
        Some(reply)
    }

    async fn all(mut self) -> Vec<String> {
        let none = json!({});
        self.goes_well("", &none).await;
        self.goes_well("[[trickle=5]]", &none).await;
        // Refusals, in all disguises. They are answers: no outage, and nothing that is sent again.
        for way in (1..=4).filter(|_| refuses(self.record)) {
            if let Some(reply) = self.fails(&format!("[[refuse={way}]]"), &[400], true).await
                && reply.body["error"]["type"] != "image_generation_user_error"
            {
                self.note(&format!("refuse={way}"), format!("is no refusal: {}", reply.body));
            }
        }
        // Too many: it may be sent again, as it was not billed.
        if let Some(reply) = self.fails("[[throttle=1*100]]", &[429], true).await
            && reply.header("retry-after").is_empty()
        {
            self.note("throttle", "says not when to come back");
        }
        self.fails("[[quota]]", &[402, 429, 502], true).await;
        // Failures of which nobody knows what they cost, or that are known to cost nothing.
        self.fails("[[fail=500]]", &[502, 504], false).await;
        for directive in [
            "bill-then-fail=500",
            "bill-then-reset",
            "bill-then-hang",
            "hang",
            "truncate",
            "truncate-picture",
            "html",
            "html-picture",
            "garbage-json",
            "redirect",
        ] {
            self.fails(&format!("[[{directive}]]"), &[502, 504], false).await;
        }
        if self.record.shape == Shape::SubmitPoll {
            self.goes_well("[[odd-status]]", &none).await;
            self.goes_well("[[poll-fail=500]]", &none).await;
        }
        self.goes_well("[[lag=1]]", &none).await;
        // What may go on in the background comes last, and so does what makes the account rest.
        if self.record.shape == Shape::SubmitPoll {
            for directive in ["fail-job", "bill-then-fail-job", "forget-job"] {
                self.fails(&format!("[[{directive}]]"), &[502, 504], false).await;
            }
        }
        self.fails("[[fail=503*100]]", &[429, 502, 503, 504], false).await;
        self.faults
    }
}

/// Whether a provider judges what it is asked for. Servers of one's own and services that fill templates do not.
fn refuses(record: &Record) -> bool {
    let by_sign = |errors: &Errors| {
        !errors.refused.is_empty()
            || errors.empty_is_refusal
            || errors.when.iter().any(|when| when.means == Meaning::Refused)
    };
    by_sign(&record.errors) || !record.job.refused.is_empty() || record.result.flags.is_some()
}

/// A key file whose tokens the simulation gives out.
fn google_key(sandbox: &str) -> String {
    json!({
        "type": "service_account", "client_email": "kite@test.invalid", "private_key_id": "1",
        "private_key": include_str!("../../crates/engine/src/providers/auth/test_key.pem"), "token_uri": format!("{sandbox}/as/vertex/token"),
    })
    .to_string()
}

async fn world(records: &[Record], patience_s: u32) -> World {
    let files = |sandbox: &str| {
        vec![("key", KEY.to_owned()), ("pair", format!("kite:{KEY}")), ("google.json", google_key(sandbox))]
    };
    let mut world = World::with_files(&configuration(records, patience_s), files).await;
    // Most providers take no name of ours for a call: the books are compared request by request instead.
    world.leave_unaudited();
    world
}

async fn in_parallel(trials: Vec<Trial<'_>>, run: impl AsyncFn(Trial<'_>) -> Vec<String>) -> Vec<String> {
    // One provider after the other within each lane, because the books are compared per provider.
    let mut lanes: BTreeMap<String, Vec<Trial<'_>>> = BTreeMap::new();
    for trial in trials {
        lanes.entry(trial.record.name.clone()).or_default().push(trial);
    }
    let run = &run;
    let lanes = lanes.into_values().map(|lane| async move {
        let mut faults = Vec::new();
        for trial in lane {
            faults.extend(run(trial).await);
        }
        faults
    });
    use futures_util::StreamExt as _;
    futures_util::stream::iter(lanes).buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await.concat()
}

fn trials<'a>(world: &'a World, records: &'a [Record], all: bool) -> Vec<Trial<'a>> {
    let of = |record: &'a Record| {
        spoken_to(record, all).into_iter().map(move |model| Trial { world, record, model, faults: Vec::new() })
    };
    records.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_has_a_simulation() {
    let names: Vec<String> = simulated().into_iter().map(|record| record.name).collect();
    let own = ["openai", "openai-compatible", "sandbox", "template"];
    let lacking: Vec<String> = Catalogue::embedded()
        .records()
        .map(|record| record.name.clone())
        .filter(|name| !own.contains(&name.as_str()) && !names.contains(name))
        .collect();
    assert!(lacking.is_empty(), "no simulation for {lacking:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_of_every_provider_makes_a_picture() {
    let records = simulated();
    let world = world(&records, LONG_S).await;
    let run = async |mut trial: Trial<'_>| {
        trial.goes_well("", &json!({})).await;
        trial.faults
    };
    let faults = in_parallel(trials(&world, &records, true), run).await;
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(world.stats().await["key_leaks"], 0, "a key went where it does not belong");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_a_provider_keeps_are_filled_and_billed_once() {
    let records: Vec<Record> =
        simulated().into_iter().filter(|record| record.fields.contains_key(&Field::Data)).collect();
    assert!(records.len() > 3, "{}", records.len());
    let world = world(&records, LONG_S).await;
    for record in &records {
        let name = &record.name;
        let body = json!({"template": format!("{name}/card"), "data": {"headline": "a kite"}});
        for bills in [1, 0] {
            let before = world.book().await.len();
            let reply = world.generate(body.clone()).await;
            assert_eq!((reply.status, reply.pictures().len()), (200, 1), "{name}: {}", reply.body);
            assert_eq!(world.book().await.len() - before, bills, "{name}");
        }
        let other = json!({"template": format!("{name}/card"), "data": {"headline": "a lamp"}});
        let before = world.book().await.len();
        assert_eq!(world.generate(other).await.status, 200, "{name}");
        assert_eq!(world.book().await.len() - before, 1, "{name}: other data are another picture");
    }
    let lost = world.generate(json!({"template": "nobody/card", "data": {}})).await;
    assert_eq!((lost.status, lost.code()), (404, "template_not_found"), "{}", lost.body);
    let empty = world.generate(json!({"model": format!("{}/card", records[0].name), "prompt": ""})).await;
    assert_eq!(empty.status, 200, "{}", empty.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_fails_in_all_ways_without_costing_twice() {
    // Graphs have names of our own: what is lost on the way is found again, see the tests of that shape.
    let records: Vec<Record> = simulated().into_iter().filter(|record| record.shape != Shape::ComfyGraph).collect();
    let mut world = world(&records, PATIENCE_S).await;
    let faults = in_parallel(trials(&world, &records, false), async |trial: Trial<'_>| trial.all().await).await;
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let stats = world.stats().await;
    assert_eq!((&stats["key_leaks"], &stats["redirects_followed"]), (&json!(0), &json!(0)));
    world.gateway.kill();
    let said = world.gateway.last_words();
    assert!(!said.contains(KEY) && !said.contains("PRIVATE KEY"), "a secret is in the log");
}

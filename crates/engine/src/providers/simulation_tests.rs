//! Every record against the simulation of its own name: what is sent is taken, what comes back is read, refusals are
//! told from failures, and what was billed is known. Records and simulations are written independently of each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use mimeo_sandbox::Sandbox;

use super::Catalogue;
use crate::domain::{Digest, FaultKind, Format, ImageRequest, InputPicture, Operation, Picture, Price, Usd};
use crate::providers::auth::Scheme;
use crate::providers::model::{Model, Status};
use crate::providers::registry::Registry;
use crate::providers::testing::{self, sandbox};
use crate::providers::wiring::{Field, Meaning, Polarity, Wiring};
use crate::providers::{Provider, Record, Shape};
use crate::secret::Environment;
use crate::settings;

fn key(record: &Record, sandbox: &str) -> String {
    match record.auth.scheme {
        Scheme::Google => {}
        Scheme::Basic => return format!("kite:{}", testing::KEY),
        _ => return testing::KEY.to_owned(),
    }
    let private_key = include_str!("auth/test_key.pem");
    let token_uri = format!("{sandbox}/as/{}/token", record.name);
    serde_json::json!({
        "type": "service_account", "client_email": "kite@test.invalid", "private_key_id": "1",
        "private_key": private_key, "token_uri": token_uri,
    })
    .to_string()
}

/// The provider of a record, at its simulation.
fn simulated(record: &Record, sandbox: &str) -> Arc<Provider> {
    let at = format!("{sandbox}/as/{}", record.name);
    let base = record.base_url.as_deref().unwrap_or_default();
    let path = base.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let base = format!("{at}/{path}");
    let vars: BTreeMap<&String, String> = record
        .vars
        .keys()
        .map(|name| (name, if name == "token_host" { at.clone() } else { format!("test-{}", name.replace('_', "-")) }))
        .collect();
    let settings = serde_json::json!({"record": record.name, "base_url": base.trim_end_matches('/'), "vars": vars});
    let settings: settings::Provider = serde_json::from_value(settings).unwrap();
    let environment: Environment = record.auth.env.iter().map(|name| (name.clone(), key(record, sandbox))).collect();
    let registry = Registry::build(&[("x".to_owned(), settings)].into(), &environment, &Catalogue::embedded()).unwrap();
    Arc::clone(registry.provider("x").unwrap())
}

async fn png(sandbox: &Sandbox) -> InputPicture {
    let provider = testing::provider("sandbox", &format!("{}/native/v1", sandbox.url()), "");
    let request = ImageRequest { output_format: Some(Format::Png), ..ImageRequest::generate("a kite to be changed") };
    let made = testing::submit(&provider, "draft", &request, 1, None).await.0.unwrap();
    let bytes = made.pictures.into_iter().next().unwrap();
    let picture = Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 1024, height: 1024 };
    InputPicture { picture, file_name: None }
}

struct Trial {
    sandbox: Sandbox,
    provider: Arc<Provider>,
    faults: Vec<String>,
}

impl Trial {
    fn billed(&self) -> Usd {
        self.sandbox.book().totals().billed_usd.to_string().parse().unwrap()
    }

    /// Makes `n` pictures, and compares what the model says that they cost with the book.
    async fn goes_well(&mut self, model: &Model, request: &ImageRequest, n: u32) {
        let before = self.billed();
        let (outcome, _) = testing::submit(&self.provider, &model.id, request, n, None).await;
        let billed = self.billed() - before;
        let what = format!("{} {} ×{n}", model.id, request.operation.name());
        let made = match outcome {
            Ok(made) => made,
            Err(fault) => return self.faults.push(format!("{what}: {fault}")),
        };
        if made.pictures.len() != n as usize {
            self.faults.push(format!("{what}: {} pictures", made.pictures.len()));
        }
        let fitted = model.fit(request, &BTreeMap::new(), None).unwrap().request;
        // What goes in is counted as the most that it may be, where nobody tells.
        let is_exact = request.inputs.is_empty() || made.billed.is_some();
        if let Price::Known(usd) = model.billed(&fitted, n, 0, &made)
            && (usd < billed || (is_exact && usd != billed))
        {
            self.faults.push(format!("{what}: billed {billed}, counted {usd}"));
        }
        if let Price::Known(usd) = model.expected(&fitted, n, 0)
            && usd < billed
        {
            self.faults.push(format!("{what}: billed {billed}, reserved {usd}"));
        }
    }

    async fn is_refused(&mut self, model: &Model, way: u8) {
        let before = self.billed();
        let request = ImageRequest::generate(format!("a kite [[refuse={way}]]"));
        let (outcome, _) = testing::submit(&self.provider, &model.id, &request, 1, None).await;
        let billed = self.billed() - before;
        let what = format!("{} refuse={way}", model.id);
        match outcome {
            Ok(_) => self.faults.push(format!("{what}: a picture came")),
            Err(fault) if fault.kind != FaultKind::Refused => self.faults.push(format!("{what}: {fault}")),
            Err(fault) => {
                let counted = fault.billed.map_or(Some(Usd::ZERO), Price::known);
                if counted.is_some_and(|usd| usd != billed) {
                    self.faults.push(format!("{what}: billed {billed}, counted {counted:?}"));
                }
            }
        }
    }
}

/// Whether a provider judges what it is asked for. Servers of one's own and services that fill templates do not.
fn judges(wiring: &Wiring) -> bool {
    let (errors, result) = (&wiring.errors, &wiring.result);
    let by_sign = errors.when.iter().any(|sign| sign.means == Meaning::Refused);
    let in_words = !errors.refused.is_empty() || errors.empty_is_refusal || !wiring.job.refused.is_empty();
    by_sign || in_words || result.flags.is_some()
}

async fn faults_of(record: &Record) -> Vec<String> {
    let sandbox = sandbox().await;
    let provider = simulated(record, &sandbox.url());
    let input = png(&sandbox).await;
    let mut trial = Trial { sandbox, provider, faults: Vec::new() };
    let mut dialects = Vec::new();
    for model in record.models.iter().filter(|model| !matches!(model.status, Status::Gone { .. })) {
        let can = |operation| model.operations.contains(&operation);
        if can(Operation::Generate) {
            trial.goes_well(model, &ImageRequest::generate("a red kite"), 1).await;
            if model.max_n > 1 {
                trial.goes_well(model, &ImageRequest::generate("red kites"), 2).await;
            }
        }
        let masked = model.wiring.place(Field::Mask).is_some_and(|place| place.polarity != Polarity::Transparent);
        if can(Operation::Edit) && !masked {
            let request = ImageRequest {
                operation: Operation::Edit,
                inputs: vec![input.clone(); model.max_inputs.min(2) as usize],
                ..ImageRequest::generate("the kite at night")
            };
            trial.goes_well(model, &request, 1).await;
        }
        if can(Operation::Generate) && judges(&model.wiring) && !dialects.contains(&model.dialect) {
            dialects.push(model.dialect.clone());
            for way in 1..=4 {
                trial.is_refused(model, way).await;
            }
        }
    }
    trial.faults.iter().map(|fault| format!("{}: {fault}", record.name)).collect()
}

#[tokio::test]
async fn every_record_goes_with_its_simulation() {
    let names: Vec<String> = mimeo_sandbox::simulations(&[]).unwrap().into_iter().map(|known| known.name).collect();
    let catalogue = Catalogue::embedded();
    // Graphs want more than a prompt, and have tests of their own.
    let records = catalogue.records().filter(|record| record.shape != Shape::ComfyGraph);
    let records: Vec<&Arc<Record>> = records.filter(|record| names.contains(&record.name)).collect();
    assert!(records.len() > 10, "{names:?}");
    let faults = join_all(records.into_iter().map(|record| faults_of(record))).await.concat();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

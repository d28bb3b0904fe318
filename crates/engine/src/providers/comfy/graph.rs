//! The graph of a job: the record's, with the fields of the request at their places. Pictures are uploaded before, and
//! stand in it by their names.

use reqwest::Method;
use reqwest::header::HeaderMap;
use reqwest::multipart::Form;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::super::answer::Answer;
use super::super::call::{self, Payload};
use super::super::exchange::{self, Came};
use super::super::model::Model;
use super::super::provider::{Job, Provider};
use super::super::wiring::Field;
use super::super::{body, pointer};
use crate::domain::{Fault, FaultKind, InputPicture, id};

/// The folder of the server that pictures are uploaded into, beside those that its operator put there.
const FOLDER: &str = "mimeo";

/// The largest seed that all nodes take and JSON numbers keep.
const LARGEST_SEED: u128 = (1 << 53) - 1;

/// What is wrong with the graph of a model, if anything is: names the field and says what to do.
pub(in super::super) fn fault(model: &Model) -> Option<String> {
    let graph = match parsed(model) {
        Ok(graph) => Value::Object(graph),
        Err(message) => return Some(message),
    };
    let is_node = |node: &Value| node.get("class_type").is_some_and(Value::is_string);
    if !graph.as_object().is_some_and(|nodes| !nodes.is_empty() && nodes.values().all(is_node)) {
        return Some("graph holds something that is no node; export it in the API format".to_owned());
    }
    let fields = model.wiring.fields.iter().map(|(field, place)| (field.name(), place.at.clone()));
    let further = model.wiring.place(Field::Image).and_then(|place| place.more.as_ref()).into_iter().flat_map(|more| {
        (2..=model.max_inputs).map(move |count| (Field::Image.name(), more.replace("{i}", &count.to_string())))
    });
    fields.chain(further).filter(|(_, at)| !at.is_empty()).find_map(|(field, at)| {
        let (node, _) = at.rsplit_once('/').unwrap_or((&at, ""));
        let is_there = pointer::first(&graph, node).is_some_and(Value::is_object) && at.contains('/');
        (!is_there).then(|| format!("fields.{field} = \"{at}\" is no place in its graph; write \"NODE/inputs/NAME\""))
    })
}

fn parsed(model: &Model) -> Result<Map<String, Value>, String> {
    let text = model.graph.as_deref().ok_or("it has no graph; add graph = '''…''' in the API format")?;
    serde_json::from_str(text).map_err(|error| format!("graph is no JSON object: {error}"))
}

/// The graph of a job, ready to be queued. Its pictures are on the server then.
///
/// # Errors
/// A picture could not be uploaded. Nothing that costs anything has been sent.
pub(super) async fn filled(provider: &Provider, job: &Job<'_>) -> Result<Map<String, Value>, Fault> {
    let graph = parsed(job.model).map_err(|message| Fault::new(FaultKind::NotSent, message))?;
    let wiring = &job.model.wiring;
    let mut graph = body::fields_on(graph, job, None, None).body;
    if let (None, Some(place)) = (job.request.seed, wiring.place(Field::Seed)) {
        // With the one in the record, every picture would be the same.
        pointer::put(&mut graph, &place.at, Value::from((id::random() & LARGEST_SEED) as u64));
    }
    if let Some(place) = wiring.place(Field::Image) {
        for (index, input) in job.request.inputs.iter().enumerate() {
            let more = place.more.as_ref().filter(|_| index > 0);
            let at = more.map_or_else(|| place.at.clone(), |more| more.replace("{i}", &(index + 1).to_string()));
            pointer::put(&mut graph, &at, Value::from(upload(provider, job, input).await?));
        }
    }
    if let (Some(mask), Some(place)) = (&job.request.mask, wiring.place(Field::Mask)) {
        let turned = body::turned(mask, place.polarity).await?;
        let name = upload(provider, job, &turned).await?;
        pointer::put(&mut graph, &place.at, Value::from(name));
    }
    Ok(graph)
}

/// Uploads a picture under the name of its content, so that the same one is there once. Its name for a node.
async fn upload(provider: &Provider, job: &Job<'_>, input: &InputPicture) -> Result<String, Fault> {
    let name = format!("{}.{}", input.picture.digest, input.picture.format);
    let named = InputPicture { picture: input.picture.clone(), file_name: Some(name.clone()) };
    let form = Form::new()
        .part("image", body::part(&named, "image")?)
        .text("type", "input")
        .text("subfolder", FOLDER)
        .text("overwrite", "true");
    let url = call::address(provider, "/upload/image")?;
    let until = Instant::now() + provider.timeout;
    let sent = call::send(provider, Method::POST, url, HeaderMap::new(), Payload::Form(form), until).await;
    let came = match sent {
        Ok(mut reply) => exchange::receive(provider, job, &mut reply, &Answer::default()).await,
        Err(fault) => Err(fault),
    };
    match came {
        Ok(Came::Json(lifted)) => {
            let text = |place: &str| pointer::text(&lifted.value, place);
            let name = text("name").unwrap_or(name);
            Ok(text("subfolder").map_or_else(|| name.clone(), |folder| format!("{folder}/{name}")))
        }
        Ok(Came::Picture(_)) => Err(Fault::new(FaultKind::NotSent, "an input picture could not be uploaded")),
        // No graph has been queued yet, so there is nothing to doubt.
        Err(fault) if fault.kind.may_have_billed() => Err(Fault { kind: FaultKind::NotSent, ..fault }),
        Err(fault) => Err(fault),
    }
}

//! Looks a graph through before it is queued, and reads out of it what is to be drawn.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::money::Usd;
use crate::picture::Format;
use crate::sale::Order;

/// The nodes of which is known what they need. Other nodes may stand in a graph, with whatever inputs.
const NODES: &[(&str, &[&str])] = &[
    ("CheckpointLoaderSimple", &["ckpt_name"]),
    ("UNETLoader", &["unet_name", "weight_dtype"]),
    ("VAELoader", &["vae_name"]),
    ("CLIPTextEncode", &["text", "clip"]),
    (
        "KSampler",
        &[
            "model",
            "positive",
            "negative",
            "latent_image",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "denoise",
        ],
    ),
    ("EmptyLatentImage", &["width", "height", "batch_size"]),
    ("EmptySD3LatentImage", &["width", "height", "batch_size"]),
    ("VAEDecode", &["samples", "vae"]),
    ("VAEEncode", &["pixels", "vae"]),
    ("LoadImage", &["image"]),
    ("LoadImageMask", &["image", "channel"]),
    ("SaveImage", &["images", "filename_prefix"]),
    ("PreviewImage", &["images"]),
    ("SaveImageWebsocket", &["images"]),
];

/// Nodes without which nothing comes of a graph.
const OUTPUTS: [&str; 3] = ["SaveImage", "PreviewImage", "SaveImageWebsocket"];

/// Numbers with a range: input, least, most. Nodes that scale take 0 for a side that follows from the other.
const RANGES: [(&str, f64, f64); 6] = [
    ("steps", 1.0, 10_000.0),
    ("cfg", 0.0, 100.0),
    ("denoise", 0.0, 1.0),
    ("width", 0.0, 16_384.0),
    ("height", 0.0, 16_384.0),
    ("batch_size", 1.0, 4096.0),
];

/// A graph that can be executed.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    nodes: Map<String, Value>,
}

/// An answer that says why a graph was not queued.
pub(super) fn complaint(kind: &str, message: &str, node_errors: &Value) -> Value {
    let error = json!({ "type": kind, "message": message, "details": "", "extra_info": {} });
    json!({ "error": error, "node_errors": node_errors })
}

/// The graph of a request, or what is wrong with it.
pub(super) fn check(sent: &Value, uploads: &BTreeSet<String>) -> Result<Graph, Value> {
    let Some(nodes) = sent.get("prompt").and_then(Value::as_object) else {
        return Err(complaint("no_prompt", "No prompt provided", &json!({})));
    };
    let graph = Graph { nodes: nodes.clone() };
    for (id, node) in nodes {
        if class(node).is_none() {
            let message = format!("Cannot execute because node {id} has no class_type");
            return Err(complaint("invalid_prompt", &message, &json!({})));
        }
    }
    let outputs: Vec<&String> = graph.outputs().map(|(id, _)| id).collect();
    if outputs.is_empty() {
        return Err(complaint("prompt_no_outputs", "Prompt has no outputs", &json!({})));
    }
    let mut errors = Map::new();
    for (id, node) in nodes {
        let found = graph.errors(node, uploads);
        if !found.is_empty() {
            let class = class(node).unwrap_or_default();
            errors.insert(id.clone(), json!({ "errors": found, "dependent_outputs": outputs, "class_type": class }));
        }
    }
    if errors.is_empty() {
        return Ok(graph);
    }
    Err(complaint("prompt_outputs_failed_validation", "Prompt outputs failed validation", &Value::Object(errors)))
}

/// What the nodes need, as the server describes them.
pub(super) fn described() -> Value {
    let nodes = NODES.iter().map(|(class, inputs)| {
        let inputs: Map<String, Value> = inputs.iter().map(|input| ((*input).to_owned(), json!(["*"]))).collect();
        let node = json!({ "input": { "required": inputs }, "name": class, "output_node": OUTPUTS.contains(class) });
        ((*class).to_owned(), node)
    });
    Value::Object(nodes.collect())
}

fn class(node: &Value) -> Option<&str> {
    node.get("class_type")?.as_str()
}

fn input<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    node.get("inputs")?.get(name)
}

/// The node that an input is linked to.
fn link(value: &Value) -> Option<&str> {
    match value.as_array()?.as_slice() {
        [Value::String(id), Value::Number(_)] => Some(id),
        _ => None,
    }
}

impl Graph {
    /// The nodes by name, in the order of their numbers.
    pub(super) fn nodes(&self) -> Vec<&String> {
        let mut ids: Vec<&String> = self.nodes.keys().collect();
        ids.sort_by_key(|id| id.parse::<u64>().unwrap_or(u64::MAX));
        ids
    }

    /// The nodes that put out pictures, with their classes.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&String, &str)> {
        self.nodes.iter().filter_map(|(id, node)| Some((id, class(node).filter(|class| OUTPUTS.contains(class))?)))
    }

    /// The node that takes the steps, and how many.
    pub(super) fn sampler(&self) -> Option<(&String, u64)> {
        let steps = |node: &Value| input(node, "steps").and_then(Value::as_u64);
        self.nodes.iter().find_map(|(id, node)| Some((id, steps(node)?)))
    }

    fn errors(&self, node: &Value, uploads: &BTreeSet<String>) -> Vec<Value> {
        let error = |kind: &str, message: &str, name: &str, details: String| json!({ "type": kind, "message": message, "details": details, "extra_info": { "input_name": name } });
        let class = class(node).unwrap_or_default();
        let needed = NODES.iter().find(|(known, _)| *known == class).map(|(_, inputs)| *inputs).unwrap_or_default();
        let missing = needed.iter().filter(|name| input(node, name).is_none());
        let mut found: Vec<Value> = missing
            .map(|name| error("required_input_missing", "Required input is missing", name, (*name).to_owned()))
            .collect();
        let inputs = node.get("inputs").and_then(Value::as_object);
        for (name, value) in inputs.into_iter().flatten() {
            if let Some(other) = link(value) {
                if !self.nodes.contains_key(other) {
                    found.push(error("bad_linked_input", "Bad linked input", name, format!("{name}, {other}")));
                }
                continue;
            }
            if matches!(class, "LoadImage" | "LoadImageMask")
                && name == "image"
                && !value.as_str().is_some_and(|file| uploads.contains(file))
            {
                let details = format!("{name} - Invalid image file: {value}");
                found.push(error("custom_validation_failed", "Custom validation failed for node", name, details));
            }
            let range = RANGES.iter().find(|(known, ..)| known == name);
            if let (Some((_, least, most)), Some(number)) = (range, value.as_f64()) {
                if number < *least {
                    found.push(error("value_smaller_than_min", "Value smaller than min", name, name.clone()));
                }
                if number > *most {
                    found.push(error("value_bigger_than_max", "Value bigger than max", name, name.clone()));
                }
            }
        }
        found
    }

    /// The first number that an input of that name has in any node.
    fn number(&self, name: &str) -> Option<u64> {
        self.nodes.values().find_map(|node| input(node, name)?.as_u64())
    }

    fn word(&self, names: &[&str]) -> Option<String> {
        let word = |node: &Value| names.iter().find_map(|name| input(node, name)?.as_str().map(str::to_owned));
        self.nodes.values().find_map(word)
    }

    /// The texts that a sampler takes as positive; where there is no such thing, all texts.
    fn prompt(&self) -> String {
        let positive = self.nodes.values().find_map(|node| link(input(node, "positive")?));
        let mut texts = Vec::new();
        match positive {
            Some(id) => self.texts(id, &mut BTreeSet::new(), &mut texts),
            None => self.nodes.values().for_each(|node| texts.extend(texts_of(node))),
        }
        texts.join("\n")
    }

    fn texts(&self, id: &str, seen: &mut BTreeSet<String>, into: &mut Vec<String>) {
        let Some(node) = self.nodes.get(id).filter(|_| seen.insert(id.to_owned())) else {
            return;
        };
        into.extend(texts_of(node));
        let inputs = node.get("inputs").and_then(Value::as_object);
        for other in inputs.into_iter().flatten().filter_map(|(_, value)| link(value)) {
            self.texts(other, seen, into);
        }
    }

    /// What is to be drawn, by the provider of that name.
    pub(super) fn order(&self, provider: String) -> Order {
        // A side that no canvas can have is drawn as large as one can be.
        let side = |name: &str| self.number(name).unwrap_or(1024).clamp(16, 4096) as u32;
        let seed = self.number("seed").or_else(|| self.number("noise_seed"));
        Order {
            provider,
            account: "anonymous".to_owned(),
            attempt: None,
            model: self.word(&["ckpt_name", "unet_name", "model_name"]).unwrap_or_else(|| "unnamed".to_owned()),
            edit: self.nodes.values().any(|node| class(node) == Some("LoadImage")),
            n: usize::try_from(self.number("batch_size").unwrap_or(1).clamp(1, 10)).unwrap_or(1),
            width: side("width"),
            height: side("height"),
            quality: None,
            prompt: self.prompt(),
            seed: seed.and_then(|seed| i64::try_from(seed).ok()),
            format: Format::Png,
            transparent: false,
            usd: Usd::ZERO,
            usage: None,
            events: 0,
        }
    }
}

fn texts_of(node: &Value) -> Option<String> {
    let texts = ["text", "prompt", "t5xxl", "clip_l"].iter().filter_map(|name| input(node, name)?.as_str());
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

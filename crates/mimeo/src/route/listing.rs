//! What `GET /v1/models` and `mimeo providers` show.

use serde_json::{Value, json};

use super::{AUTO, Routes, TEMPLATE};
use crate::domain::{ImageRequest, Operation, Price};
use crate::prices::PriceBook;
use crate::providers::model::{SizeRule, Sizes};
use crate::providers::{Model, Provider, Record, Status};

/// Something that can be named in `model`.
#[derive(Clone, Debug)]
pub struct ModelListing {
    /// The name.
    pub id: String,
    /// `route`, `template`, or the name of the provider.
    pub owned_by: String,
    /// When it came to be known, in seconds since the Unix epoch; 0 where that means nothing.
    pub created: i64,
    /// The first day on which it cannot be called, `YYYY-MM-DD`, if one has been announced.
    pub shutdown_date: Option<String>,
    /// Capabilities, prices and status.
    pub details: Value,
}

impl Routes {
    /// Everything that callers may name: routes, models of the providers that are there at what they cost by `prices`,
    /// templates.
    pub fn models(&self, prices: &PriceBook) -> Vec<ModelListing> {
        let routes = self.routes.iter().map(|(name, route)| ModelListing {
            id: name.clone(),
            owned_by: "route".to_owned(),
            created: 0,
            shutdown_date: None,
            details: json!({
                "kind": "route",
                "candidates": route.candidates.iter().map(|offer| &offer.name).collect::<Vec<_>>(),
                "variants": route.settings.cache.variants.unwrap_or(1),
            }),
        });
        let virtuals = self.virtuals.keys().copied().chain((!self.routes.contains_key(AUTO)).then_some(AUTO));
        let virtuals = virtuals.map(|name| ModelListing {
            id: name.to_owned(),
            owned_by: "mimeo".to_owned(),
            created: 0,
            shutdown_date: None,
            details: json!({ "kind": "virtual", "candidates": "all models that are there" }),
        });
        let models = self.registry.providers().flat_map(|provider| {
            provider.models().iter().map(move |model| ModelListing {
                id: format!("{}/{}", provider.name, model.id),
                owned_by: provider.name.clone(),
                created: 0,
                shutdown_date: shutdown_date(model),
                details: describe(provider, &prices.priced(provider, model)),
            })
        });
        let templates = self.renderer.templates().map(|template| ModelListing {
            id: format!("{TEMPLATE}/{}", template.id),
            owned_by: TEMPLATE.to_owned(),
            created: 0,
            shutdown_date: None,
            details: json!({
                "kind": "template",
                "title": template.title,
                "description": template.description,
                "width": template.width,
                "height": template.height,
                "fields": template.fields,
                "usd_per_image": "0",
            }),
        });
        routes.chain(virtuals).chain(models).chain(templates).collect()
    }
}

/// The first day on which a model cannot be called, if one has been announced.
fn shutdown_date(model: &Model) -> Option<String> {
    match &model.status {
        Status::Live => None,
        Status::Retiring { until, .. } => Some(until.to_string()),
        Status::Gone { since, .. } => Some(since.to_string()),
    }
}

/// Capabilities, prices and status of a provider's model, for people and programs.
pub fn describe(provider: &Provider, model: &Model) -> Value {
    describe_as(&provider.record, model, provider.is_simulated(), provider.serves(model))
}

/// As [`describe`], of a record whose provider is perhaps not there.
pub fn describe_record(record: &Record, model: &Model) -> Value {
    describe_as(record, model, record.simulated, false)
}

fn describe_as(record: &Record, model: &Model, is_simulated: bool, serves: bool) -> Value {
    let successor = match &model.status {
        Status::Live => None,
        Status::Retiring { successor, .. } => successor.as_deref(),
        Status::Gone { successor, .. } => Some(successor.as_str()),
    };
    json!({
        "kind": "model",
        "title": model.title(),
        "status": model.status.name(),
        "shutdown_date": shutdown_date(model),
        "successor": successor,
        "aliases": model.aliases,
        "operations": model.operations.iter().map(|operation| operation.name()).collect::<Vec<_>>(),
        "capabilities": capabilities(model),
        "passthrough": model.passthrough,
        "usd_per_image": examples(model),
        "prices": model.prices.as_ref().map(|prices| json!({
            "unit": prices.rates.unit(), "certainty": prices.certainty.name(),
            "as_of": prices.as_of.map(|day| day.to_string()), "source": prices.source,
        })),
        "typical_s": model.typical_latency(None).map(|time| time.as_secs()),
        "certainty": record.certainty.name(),
        "simulated": is_simulated,
        "serves": serves,
    })
}

/// What a model can be asked for, field by field: an enumeration, a range, a text, a picture. A field that is not here
/// cannot be asked for.
fn capabilities(model: &Model) -> Value {
    let mut fields = serde_json::Map::new();
    let mut put = |name: &str, value: Value| {
        let mut value = value;
        if let (Some(default), Some(descriptor)) = (model.defaults.get(name), value.as_object_mut()) {
            descriptor.insert("default".to_owned(), default.clone());
        }
        fields.insert(name.to_owned(), value);
    };
    put("prompt", json!({ "type": "text", "max_chars": model.max_prompt_chars }));
    put("n", json!({ "type": "integer", "min": 1, "max_per_call": model.max_n }));
    if let Some(sizes) = sizes(&model.sizes) {
        put("size", sizes);
    }
    let formats: Vec<String> = model.output_formats.iter().map(ToString::to_string).collect();
    for (name, values) in [
        ("quality", &model.qualities),
        ("background", &model.backgrounds),
        ("output_format", &formats),
        ("style", &model.styles),
        ("moderation", &model.moderation),
        ("input_fidelity", &model.input_fidelity),
    ] {
        if !values.is_empty() {
            put(name, json!({ "type": "enum", "values": values }));
        }
    }
    if !model.tiers.is_empty() {
        put("quality_tier", json!({ "type": "enum", "values": model.tiers.keys().collect::<Vec<_>>() }));
    }
    if model.compression {
        put("output_compression", json!({ "type": "integer", "min": 0, "max": 100 }));
    }
    if model.seed {
        put("seed", json!({ "type": "integer" }));
    }
    if let Some(steps) = model.steps {
        put("steps", json!({ "type": "integer", "min": steps.min, "max": steps.max }));
    }
    if let Some(guidance) = model.guidance {
        let (min, max) = (guidance.min.to_json(), guidance.max.to_json());
        put("guidance", json!({ "type": "number", "min": min, "max": max }));
    }
    if model.negative_prompt {
        put("negative_prompt", json!({ "type": "text" }));
    }
    if model.max_inputs > 0 {
        put("image", json!({ "type": "picture", "max": model.max_inputs }));
    }
    if model.mask {
        put("mask", json!({ "type": "picture", "max": 1 }));
    }
    if model.partial_images > 0 {
        put("partial_images", json!({ "type": "integer", "min": 0, "max": model.partial_images }));
    }
    fields.into()
}

/// The sizes that can be asked for, if any can.
fn sizes(sizes: &Sizes) -> Option<Value> {
    Some(match sizes {
        Sizes::None => return None,
        Sizes::Any => json!({ "type": "size" }),
        Sizes::List(sizes) => {
            json!({ "type": "enum", "values": sizes.iter().map(ToString::to_string).collect::<Vec<_>>() })
        }
        Sizes::Ratios(ratios) => json!({
            "type": "size", "ratios": ratios.list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "tiers": ratios.tiers,
        }),
        Sizes::Rule(rule) => {
            let SizeRule { multiple_of, max_ratio, max_edge, min_pixels, max_pixels } = rule;
            json!({
                "type": "size", "multiple_of": multiple_of, "max_ratio": max_ratio, "max_edge": max_edge,
                "min_pixels": min_pixels, "max_pixels": max_pixels,
            })
        }
    })
}

/// What one square picture costs at most, by quality.
pub fn examples(model: &Model) -> Value {
    let price = |quality: Option<&str>| {
        let size = match &model.sizes {
            Sizes::None => "auto".parse(),
            _ => "1024x1024".parse(),
        };
        let request = ImageRequest {
            operation: Operation::Generate,
            size: size.unwrap_or_default(),
            quality: quality.map(str::to_owned),
            ..ImageRequest::generate("")
        };
        match model.expected(&request, 1, 0) {
            Price::Known(usd) => Some(usd),
            Price::Unknown => None,
        }
    };
    let steps: Vec<&String> = model.qualities.iter().filter(|quality| *quality != "auto" && *quality != "*").collect();
    if steps.is_empty() {
        return json!(price(None));
    }
    steps
        .into_iter()
        .map(|quality| (quality.clone(), json!(price(Some(quality)))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

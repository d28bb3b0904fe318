//! What `GET /v1/models` and `mimeo providers` show.

use serde_json::{Value, json};

use super::{Routes, TEMPLATE, name_of};
use crate::clock::Millis;
use crate::domain::{ImageRequest, Operation, Price};
use crate::providers::{Model, Provider, Status, model::Sizes};

/// Something that can be named in `model`.
#[derive(Clone, Debug)]
pub struct ModelListing {
    /// The name.
    pub id: String,
    /// `route`, `template`, or the name of the provider.
    pub owned_by: String,
    /// When it came to be known, in seconds since the Unix epoch; 0 where that means nothing.
    pub created: i64,
    /// Capabilities, prices and status.
    pub details: Value,
}

impl Routes {
    /// Everything that callers may name: routes, models of the providers that are there, templates.
    pub fn models(&self, _now: Millis) -> Vec<ModelListing> {
        let routes = self.routes.iter().map(|(name, route)| ModelListing {
            id: name.clone(),
            owned_by: "route".to_owned(),
            created: 0,
            details: json!({
                "kind": "route",
                "candidates": route.candidates.iter().map(name_of).collect::<Vec<_>>(),
                "variants": route.settings.cache.variants.unwrap_or(1),
            }),
        });
        let models = self.registry.providers().flat_map(|provider| {
            provider.models().iter().map(move |model| ModelListing {
                id: format!("{}/{}", provider.name, model.id),
                owned_by: provider.name.clone(),
                created: 0,
                details: describe(provider, model),
            })
        });
        let templates = self.renderer.templates().map(|template| ModelListing {
            id: format!("{TEMPLATE}/{}", template.id),
            owned_by: TEMPLATE.to_owned(),
            created: 0,
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
        routes.chain(models).chain(templates).collect()
    }
}

/// Capabilities, prices and status of a model, for people and programs.
pub fn describe(provider: &Provider, model: &Model) -> Value {
    let status = match &model.status {
        Status::Live => json!({ "status": "live" }),
        Status::Retiring { until, successor } => {
            json!({ "status": "retiring", "until": until.to_string(), "successor": successor })
        }
        Status::Gone { since, successor, .. } => {
            json!({ "status": "gone", "since": since.to_string(), "successor": successor })
        }
    };
    let sizes = match &model.sizes {
        Sizes::None => json!(null),
        Sizes::Any => json!("any"),
        Sizes::List(sizes) => json!(sizes.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Sizes::Rule(rule) => json!({
            "multiple_of": rule.multiple_of, "max_ratio": rule.max_ratio, "max_edge": rule.max_edge,
            "min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels,
        }),
        Sizes::Ratios(ratios) => json!({
            "ratios": ratios.list.iter().map(ToString::to_string).collect::<Vec<_>>(), "tiers": ratios.tiers,
        }),
    };
    let prices = model.prices.as_ref();
    let mut details = json!({
        "kind": "model",
        "title": model.title(),
        "operations": model.operations.iter().map(|operation| operation.name()).collect::<Vec<_>>(),
        "sizes": sizes,
        "qualities": model.qualities,
        "output_formats": model.output_formats,
        "max_n": model.max_n,
        "max_inputs": model.max_inputs,
        "mask": model.mask,
        "partial_images": model.partial_images,
        "max_prompt_chars": model.max_prompt_chars,
        "passthrough": model.passthrough,
        "usd_per_image": examples(model),
        "prices": prices.map(|prices| json!({
            "certainty": prices.certainty.name(), "as_of": prices.as_of.map(|day| day.to_string()), "source": prices.source,
        })),
        "aliases": model.aliases,
        "simulated": provider.is_simulated(),
        "serves": provider.serves(model),
    });
    if let (Some(details), Some(status)) = (details.as_object_mut(), status.as_object()) {
        details.extend(status.clone());
    }
    details
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

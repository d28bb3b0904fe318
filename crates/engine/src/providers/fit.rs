//! Does a model take a request, and what is the request's canonical form for it?
//!
//! A fitted request says nothing twice: whatever equals the model's default is left out, so that a default which
//! is spelled out and one which is omitted are one request, with one cache key. Fitting twice changes nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{Model, SizeRule, Sizes};
use super::wiring::Field;
use crate::domain::request::Decimal;
use crate::domain::{Format, ImageRequest, Operation, Size};

/// Why a model cannot serve a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Misfit {
    /// The field to blame.
    pub param: String,
    /// What is wrong, and what is possible.
    pub message: String,
    /// Machine-readable, in the vocabulary of the OpenAI API.
    pub code: &'static str,
}

/// In a list of values: every value is passed on, and the provider judges.
pub(super) const ANY: &str = "*";

fn misfit(param: &str, code: &'static str, message: String) -> Misfit {
    Misfit { param: param.to_owned(), message, code }
}

fn unsupported(param: &str, message: String) -> Misfit {
    misfit(param, "unsupported_parameter", message)
}

fn invalid(param: &str, message: String) -> Misfit {
    misfit(param, "invalid_value", message)
}

impl Model {
    /// The canonical form of `request` for this model. `unknown` are the caller's fields that are not part of
    /// the API; `tier` is `draft`, `standard` or `premium` and picks the quality where none was named.
    ///
    /// # Errors
    /// The first field that this model cannot serve, with what it can.
    pub fn fit(
        &self,
        request: &ImageRequest,
        unknown: &BTreeMap<String, Value>,
        tier: Option<&str>,
    ) -> Result<ImageRequest, Misfit> {
        self.check_operation(request)?;
        self.check_prompt(request)?;
        self.check_inputs(request)?;
        let output_format = self.fit_format(request.output_format)?;
        let background = self.choose("background", request.background.as_deref(), &self.backgrounds)?;
        self.check_transparency(background.as_deref(), output_format)?;
        let input_fidelity = self.choose("input_fidelity", request.input_fidelity.as_deref(), &self.input_fidelity)?;
        if input_fidelity.is_some() && request.operation != Operation::Edit {
            return Err(unsupported("input_fidelity", "input_fidelity is for edits only; leave it out".to_owned()));
        }
        Ok(ImageRequest {
            operation: request.operation,
            prompt: request.prompt.clone(),
            size: self.fit_size(request.size)?,
            quality: self.fit_quality(request.quality.as_deref(), tier)?,
            background,
            output_format,
            output_compression: self.fit_compression(request.output_compression, output_format)?,
            style: self.choose("style", request.style.as_deref(), &self.styles)?,
            moderation: self.choose("moderation", request.moderation.as_deref(), &self.moderation)?,
            input_fidelity,
            seed: self.fit_seed(request.seed)?,
            steps: self.fit_steps(request.steps)?,
            guidance: self.fit_guidance(request.guidance)?,
            negative_prompt: self.fit_negative(request.negative_prompt.as_deref())?,
            inputs: request.inputs.clone(),
            mask: request.mask.clone(),
            template: request.template.clone(),
            extras: self.fit_extras(&request.extras, unknown)?,
        })
    }

    fn check_operation(&self, request: &ImageRequest) -> Result<(), Misfit> {
        if !self.operations.contains(&request.operation) {
            let can: Vec<&str> = self.operations.iter().map(|operation| operation.name()).collect();
            return Err(misfit(
                "model",
                "unsupported_operation",
                format!("{} cannot {}; it can {}", self.id, request.operation.name(), can.join(" and ")),
            ));
        }
        let renders = request.operation == Operation::Render || self.wiring.place(Field::Data).is_some();
        if request.template.is_some() && !renders {
            return Err(unsupported("template", format!("{} does not render templates", self.id)));
        }
        Ok(())
    }

    fn check_prompt(&self, request: &ImageRequest) -> Result<(), Misfit> {
        let is_needed = request.operation != Operation::Render && !self.prompt_optional;
        if is_needed && request.prompt.trim().is_empty() {
            return Err(invalid("prompt", "Invalid 'prompt': it must not be empty.".to_owned()));
        }
        if let Some(most) = self.max_prompt_chars {
            let length = request.prompt.chars().count();
            if length > most as usize {
                return Err(misfit(
                    "prompt",
                    "string_above_max_length",
                    format!("prompt has {length} characters; {} takes at most {most}", self.id),
                ));
            }
        }
        Ok(())
    }

    fn check_inputs(&self, request: &ImageRequest) -> Result<(), Misfit> {
        if request.operation != Operation::Edit {
            return match (&request.inputs[..], &request.mask) {
                ([], None) => Ok(()),
                ([], Some(_)) => Err(unsupported("mask", "a mask is for edits only".to_owned())),
                _ => Err(unsupported("image", "input pictures are for edits only".to_owned())),
            };
        }
        let Some(first) = request.inputs.first() else {
            return Err(misfit("image", "missing_required_parameter", "an edit needs at least one image".to_owned()));
        };
        if request.inputs.len() > self.max_inputs as usize {
            return Err(invalid(
                "image",
                format!("{} images are too many; {} takes at most {}", request.inputs.len(), self.id, self.max_inputs),
            ));
        }
        if let Some(mask) = &request.mask {
            if !self.mask {
                return Err(unsupported("mask", format!("{} takes no mask", self.id)));
            }
            let (image, mask) = (&first.picture, &mask.picture);
            if (image.width, image.height) != (mask.width, mask.height) {
                return Err(invalid(
                    "mask",
                    format!(
                        "the mask is {}x{} and the first image is {}x{}; they must have the same size",
                        mask.width, mask.height, image.width, image.height
                    ),
                ));
            }
        }
        Ok(())
    }

    fn fit_size(&self, size: Size) -> Result<Size, Misfit> {
        let Size::Exact(width, height) = size else { return Ok(Size::Auto) };
        let possible = match &self.sizes {
            Sizes::Any => None,
            Sizes::None => Some(format!("{} chooses the size itself; leave it out", self.id)),
            Sizes::List(sizes) if sizes.contains(&size) => None,
            Sizes::List(sizes) => {
                let names: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                Some(format!("{} cannot make {size}; it makes {}", self.id, names.join(", ")))
            }
            Sizes::Rule(rule) => rule
                .broken_by(width, height)
                .map(|why| format!("{} cannot make {size}: {why}. It makes {rule}", self.id)),
        };
        if let Some(message) = possible {
            return Err(invalid("size", message));
        }
        let is_default = self.default_text("size").is_some_and(|default| default == size.to_string());
        Ok(if is_default { Size::Auto } else { size })
    }

    fn fit_quality(&self, quality: Option<&str>, tier: Option<&str>) -> Result<Option<String>, Misfit> {
        if let Some(tier) = tier
            && !["draft", "standard", "premium"].contains(&tier)
        {
            return Err(invalid(
                "quality_tier",
                format!("quality_tier is {}, and must be draft, standard or premium", quoted(tier)),
            ));
        }
        let from_tier = || tier.and_then(|tier| self.tiers.get(tier)).map(String::as_str);
        self.choose("quality", quality.or_else(from_tier), &self.qualities)
    }

    fn fit_format(&self, format: Option<Format>) -> Result<Option<Format>, Misfit> {
        let Some(format) = format else { return Ok(None) };
        // The default needs no support: it is what comes anyway.
        if self.default_text("output_format") == Some(format.name()) {
            return Ok(None);
        }
        if self.output_formats.contains(&format) {
            return Ok(Some(format));
        }
        let names: Vec<&str> = self.output_formats.iter().map(|format| format.name()).collect();
        Err(if names.is_empty() {
            unsupported("output_format", format!("{} chooses the format itself; leave it out", self.id))
        } else {
            invalid("output_format", format!("{} cannot make {format}; it makes {}", self.id, names.join(", ")))
        })
    }

    /// The encoding that comes, as far as it is known.
    fn format_of(&self, format: Option<Format>) -> Option<Format> {
        format.or_else(|| self.default_text("output_format").and_then(Format::from_name))
    }

    fn check_transparency(&self, background: Option<&str>, format: Option<Format>) -> Result<(), Misfit> {
        match (background, self.format_of(format)) {
            (Some("transparent"), Some(Format::Jpeg)) => Err(invalid(
                "background",
                "a transparent background needs an output_format with transparency: png or webp".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    fn fit_compression(&self, level: Option<u8>, format: Option<Format>) -> Result<Option<u8>, Misfit> {
        let Some(level) = level else { return Ok(None) };
        if level > 100 {
            return Err(invalid("output_compression", format!("output_compression is {level}, and must be 0 to 100")));
        }
        if self.default_is("output_compression", &Value::from(level)) {
            return Ok(None);
        }
        if !self.compression {
            return Err(unsupported("output_compression", format!("{} takes no output_compression", self.id)));
        }
        match self.format_of(format) {
            Some(Format::Png | Format::Gif) => Err(invalid(
                "output_compression",
                "output_compression works with output_format jpeg or webp only".to_owned(),
            )),
            _ => Ok(Some(level)),
        }
    }

    fn fit_seed(&self, seed: Option<u64>) -> Result<Option<u64>, Misfit> {
        match seed {
            Some(_) if !self.seed => Err(unsupported("seed", format!("{} takes no seed", self.id))),
            other => Ok(other),
        }
    }

    fn fit_steps(&self, steps: Option<u32>) -> Result<Option<u32>, Misfit> {
        let Some(steps) = steps else { return Ok(None) };
        let Some(range) = self.steps else {
            return Err(unsupported("steps", format!("{} has no steps to choose", self.id)));
        };
        if !(range.min..=range.max).contains(&steps) {
            return Err(invalid(
                "steps",
                format!("steps is {steps}; {} takes {} to {}", self.id, range.min, range.max),
            ));
        }
        Ok(Some(steps).filter(|steps| !self.default_is("steps", &Value::from(*steps))))
    }

    fn fit_guidance(&self, guidance: Option<Decimal>) -> Result<Option<Decimal>, Misfit> {
        let Some(guidance) = guidance else { return Ok(None) };
        let Some(range) = self.guidance else {
            return Err(unsupported("guidance", format!("{} has no guidance to choose", self.id)));
        };
        if !(range.min..=range.max).contains(&guidance) {
            return Err(invalid(
                "guidance",
                format!("guidance is {guidance}; {} takes {} to {}", self.id, range.min, range.max),
            ));
        }
        let default = self.defaults.get("guidance").and_then(|value| match value {
            Value::String(text) => text.parse::<Decimal>().ok(),
            number => number.to_string().parse::<Decimal>().ok(),
        });
        Ok(Some(guidance).filter(|guidance| default != Some(*guidance)))
    }

    fn fit_negative(&self, negative: Option<&str>) -> Result<Option<String>, Misfit> {
        match negative.filter(|text| !text.trim().is_empty()) {
            None => Ok(None),
            Some(text) if self.negative_prompt => Ok(Some(text.to_owned())),
            Some(_) => Err(unsupported("negative_prompt", format!("{} takes no negative prompt", self.id))),
        }
    }

    fn fit_extras(
        &self,
        extras: &BTreeMap<String, Value>,
        unknown: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Value>, Misfit> {
        let mut fitted = BTreeMap::new();
        for (name, value) in extras.iter().chain(unknown) {
            if !self.passthrough.contains(name) {
                let also = if self.passthrough.is_empty() {
                    String::new()
                } else {
                    format!(". Beyond the API's fields, {} takes {}", self.id, self.passthrough.join(", "))
                };
                return Err(misfit(name, "unknown_parameter", format!("Unknown parameter: {}{also}", quoted(name))));
            }
            if !value.is_null() && !self.default_is(name, value) {
                fitted.insert(name.clone(), value.clone());
            }
        }
        Ok(fitted)
    }

    /// A value out of a list. `auto` and the default are the same as no value.
    fn choose(&self, param: &str, value: Option<&str>, list: &[String]) -> Result<Option<String>, Misfit> {
        let Some(value) = value.filter(|value| *value != "auto") else { return Ok(None) };
        if self.default_is(param, &Value::from(value)) {
            return Ok(None);
        }
        if list.iter().any(|possible| possible == value || possible == ANY) {
            return Ok(Some(value.to_owned()));
        }
        Err(if list.is_empty() {
            unsupported(param, format!("{} has no {param} to choose; leave it out", self.id))
        } else {
            invalid(param, format!("{param} is {}; {} takes {} or auto", quoted(value), self.id, list.join(", ")))
        })
    }

    fn default_is(&self, field: &str, value: &Value) -> bool {
        self.defaults.get(field).is_some_and(|default| default == value)
    }
}

/// A caller's word for a message: cut, so that a megabyte does not come back.
fn quoted(word: &str) -> String {
    let cut: String = word.chars().filter(|c| !c.is_control()).take(60).collect();
    format!("'{cut}'")
}

impl SizeRule {
    /// Why a size breaks this rule; `None` if it keeps to it.
    fn broken_by(&self, width: u32, height: u32) -> Option<String> {
        let (long, short) = (width.max(height), width.min(height));
        let pixels = u64::from(width) * u64::from(height);
        if let Some(step) = self.multiple_of
            && !(width.is_multiple_of(step) && height.is_multiple_of(step))
        {
            return Some(format!("both edges must be multiples of {step}"));
        }
        if let Some(edge) = self.max_edge
            && long > edge
        {
            return Some(format!("an edge may have at most {edge} pixels"));
        }
        if let Some(ratio) = self.max_ratio
            && u64::from(long) > u64::from(short) * u64::from(ratio)
        {
            return Some(format!("the long edge may be at most {ratio} times the short one"));
        }
        if let Some(most) = self.max_pixels
            && pixels > most
        {
            return Some(format!("{pixels} pixels are more than {most}"));
        }
        if let Some(least) = self.min_pixels
            && pixels < least
        {
            return Some(format!("{pixels} pixels are fewer than {least}"));
        }
        None
    }
}

impl std::fmt::Display for SizeRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.multiple_of.map(|step| format!("edges in multiples of {step}")),
            self.max_edge.map(|edge| format!("edges up to {edge}")),
            self.max_ratio.map(|ratio| format!("ratios up to {ratio}:1")),
            self.min_pixels.map(|least| format!("at least {least} pixels")),
            self.max_pixels.map(|most| format!("at most {most} pixels")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;

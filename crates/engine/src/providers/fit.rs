//! Does a model take a request, and what is the request's canonical form for it?
//!
//! A fitted request says nothing twice: whatever equals the model's default is left out, so that a default which
//! is spelled out and one which is omitted are one request, with one cache key. Fitting twice changes nothing.
//!
//! A size or an encoding that the model does not make, and that its picture can be brought to, is no reason to refuse:
//! the request is for what loses least, and the [`Target`] says what remains to be done. So requests for targets that
//! come from one picture are one request.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{Model, Ratio, Sizes};
use super::wiring::Field;
use crate::domain::request::Decimal;
use crate::domain::target::{LONGEST_EDGE, MOST_ENLARGED, is_enough};
use crate::domain::{Form, Format, ImageRequest, Operation, Size, Target};

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

/// A request as a model takes it, and what its pictures are to be brought to.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// What is sent: canonical, with the model's defaults left out. This alone is the picture's identity.
    pub request: ImageRequest,
    /// What the caller wants and the model does not make by itself; `None` if pictures go out as they come.
    pub target: Option<Target>,
}

/// Fields that choose a size where the model does not take them itself.
const ASPECT_RATIO: &str = "aspect_ratio";
const RESOLUTION: &str = "resolution";

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
    /// A size becomes the nearest that the model makes. `aspect_ratio` (`16:9`) and `resolution` (`1K`, `2K`, `4K`)
    /// choose one where the model has no such fields of its own. A quality in words of the OpenAI API that the model
    /// does not have becomes its tier of that rank.
    ///
    /// # Errors
    /// The first field that this model cannot serve, with what it can.
    pub fn fit(
        &self,
        request: &ImageRequest,
        unknown: &BTreeMap<String, Value>,
        tier: Option<&str>,
    ) -> Result<Fitted, Misfit> {
        self.check_operation(request)?;
        self.check_prompt(request)?;
        self.check_inputs(request)?;
        let (size, to_size) = self.fit_size(request, unknown)?;
        let (output_format, to_format) = self.fit_format(request.output_format)?;
        let background = self.choose("background", request.background.as_deref(), &self.backgrounds)?;
        self.check_transparency(background.as_deref(), output_format)?;
        self.check_transparency(background.as_deref(), to_format)?;
        let output_compression = match to_format {
            None => self.fit_compression(request.output_compression, output_format)?,
            Some(format) => self.no_compression(request.output_compression, format)?,
        };
        let input_fidelity = self.choose("input_fidelity", request.input_fidelity.as_deref(), &self.input_fidelity)?;
        if input_fidelity.is_some() && request.operation != Operation::Edit {
            return Err(unsupported("input_fidelity", "input_fidelity is for edits only; leave it out".to_owned()));
        }
        let target = Target { size: to_size, format: to_format };
        let request = ImageRequest {
            operation: request.operation,
            prompt: request.prompt.clone(),
            size,
            quality: self.fit_quality(request.quality.as_deref(), tier)?,
            background,
            output_format,
            output_compression,
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
        };
        Ok(Fitted { request, target: Some(target).filter(|target| *target != Target::default()) })
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

    /// The size to ask for, and the one to bring it to.
    fn fit_size(
        &self,
        request: &ImageRequest,
        unknown: &BTreeMap<String, Value>,
    ) -> Result<(Size, Option<(u32, u32)>), Misfit> {
        let ratio = self.wish(ASPECT_RATIO, request, unknown)?;
        let ratio = ratio.map(|text| {
            text.parse::<Ratio>()
                .map_err(|why| invalid(ASPECT_RATIO, format!("aspect_ratio is {}: {why}", quoted(text))))
        });
        let (ratio, tier) = (ratio.transpose()?, self.wish(RESOLUTION, request, unknown)?);
        let (size, target) = match request.size {
            Size::Auto if ratio.is_none() && tier.is_none() => return Ok((Size::Auto, None)),
            Size::Auto => self.shaped(ratio, tier)?,
            Size::Exact(width, height) => {
                if let Some(ratio) = ratio.filter(|ratio| !ratio.is_about(width, height)) {
                    let message = format!("size {width}x{height} is not {ratio}; send size or aspect_ratio, not both");
                    return Err(invalid(ASPECT_RATIO, message));
                }
                if tier.is_some() {
                    return Err(invalid(RESOLUTION, format!("size is {width}x{height} already; leave resolution out")));
                }
                self.sized(width, height)?
            }
        };
        let is_default = self.default_text("size").is_some_and(|default| default == size.to_string());
        Ok((if is_default { Size::Auto } else { size }, target))
    }

    /// What a field that chooses a size says, if the model does not take that field itself.
    fn wish<'a>(
        &self,
        name: &str,
        request: &'a ImageRequest,
        unknown: &'a BTreeMap<String, Value>,
    ) -> Result<Option<&'a str>, Misfit> {
        match request.extras.get(name).or_else(|| unknown.get(name)) {
            _ if self.passes(name) => Ok(None),
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text == "auto" => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name, format!("{name} must be a text, such as \"16:9\" or \"2K\""))),
        }
    }

    /// For exactly `width` × `height` pixels.
    fn sized(&self, width: u32, height: u32) -> Result<(Size, Option<(u32, u32)>), Misfit> {
        let to = (width, height);
        let cannot = |why: String| invalid("size", format!("{} cannot make {width}x{height}: {why}", self.id));
        let far = || {
            cannot(format!(
                "no edge is made more than {MOST_ENLARGED} times as long as it comes. It makes {}",
                self.sizes
            ))
        };
        let made = match &self.sizes {
            Sizes::Any => return Ok((Size::Exact(width, height), None)),
            Sizes::None => match self.default_size() {
                Some((wide, high)) if !is_enough(wide, high, width, height) => return Err(far()),
                _ => Size::Auto,
            },
            sizes => {
                let (wide, high) = sizes.nearest(width, height).ok_or_else(far)?;
                // Whoever takes a ratio makes about that many pixels.
                if (wide, high) == to && !matches!(sizes, Sizes::Ratios(_)) {
                    return Ok((Size::Exact(wide, high), None));
                }
                Size::Exact(wide, high)
            }
        };
        if width.max(height) > LONGEST_EDGE {
            return Err(cannot(format!(
                "pictures are brought to edges of at most {LONGEST_EDGE} pixels. It makes {}",
                self.sizes
            )));
        }
        Ok((made, Some(to)))
    }

    /// For a ratio, a resolution, or both.
    fn shaped(&self, ratio: Option<Ratio>, tier: Option<&str>) -> Result<(Size, Option<(u32, u32)>), Misfit> {
        let param = if ratio.is_some() { ASPECT_RATIO } else { RESOLUTION };
        if self.sizes == Sizes::None {
            return Err(unsupported(param, format!("{} chooses the size itself; leave {param} out", self.id)));
        }
        let usual = self.default_size();
        let area = match tier {
            Some(tier) => self
                .sizes
                .area_of(tier)
                .ok_or_else(|| invalid(RESOLUTION, format!("resolution is {}; write 1K, 2K or 4K", quoted(tier))))?,
            None => usual.map_or_else(|| self.sizes.usual_area(), |(w, h)| u64::from(w) * u64::from(h)),
        };
        let shape = ratio.or(usual.map(|(width, height)| Ratio::of(width, height)));
        let shape = shape.unwrap_or(Ratio { width: 1, height: 1 });
        let made = self.sizes.shaped(shape, area);
        // Half again as long an edge is still called the same; more is another resolution.
        let is_it = |(wide, high): (u32, u32)| u64::from(wide) * u64::from(high) * 9 >= area * 4;
        let Some((wide, high)) = made.filter(|made| tier.is_none() || is_it(*made)) else {
            let asked = [ratio.map(|ratio| ratio.to_string()), tier.map(quoted)];
            let asked: Vec<String> = asked.into_iter().flatten().collect();
            let message = format!("{} cannot make {}; it makes {}", self.id, asked.join(" in "), self.sizes);
            return Err(invalid(if tier.is_some() { RESOLUTION } else { param }, message));
        };
        let target = ratio.filter(|ratio| !ratio.is_about(wide, high)).map(|ratio| ratio.within(wide, high));
        Ok((Size::Exact(wide, high), target))
    }

    /// The size that comes where none is named, if it is known.
    fn default_size(&self) -> Option<(u32, u32)> {
        match self.default_text("size")?.parse() {
            Ok(Size::Exact(width, height)) => Some((width, height)),
            _ => None,
        }
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
        let named = quality.filter(|word| *word != "auto").map(|word| self.in_own_words(word));
        self.choose("quality", named.or_else(from_tier), &self.qualities)
    }

    /// A quality in this model's words: where it does not know a word of the OpenAI API, its tier of that rank.
    fn in_own_words<'a>(&'a self, word: &'a str) -> &'a str {
        let is_known = self.qualities.iter().any(|known| known == word || known == ANY);
        if is_known || self.default_is("quality", &Value::from(word)) {
            return word;
        }
        let rank = match word {
            "low" => "draft",
            "medium" | "standard" => "standard",
            "high" | "hd" => "premium",
            _ => return word,
        };
        self.tiers.get(rank).map_or(word, String::as_str)
    }

    /// The encoding to ask for, and the one to bring it to.
    fn fit_format(&self, format: Option<Format>) -> Result<(Option<Format>, Option<Format>), Misfit> {
        let Some(format) = format else { return Ok((None, None)) };
        // The default needs no support: it is what comes anyway.
        if self.default_text("output_format") == Some(format.name()) {
            return Ok((None, None));
        }
        if self.output_formats.contains(&format) {
            return Ok((Some(format), None));
        }
        if Form::is_writable(format) && self.format_of(None).is_none_or(Form::is_readable) {
            return Ok((None, Some(format)));
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

    /// For copies, which are written here in `format`.
    fn no_compression(&self, level: Option<u8>, format: Format) -> Result<Option<u8>, Misfit> {
        match level {
            Some(_) => Err(unsupported(
                "output_compression",
                format!(
                    "{} does not make {format}: its picture is written anew, and how much that compresses cannot be \
                     chosen. Leave output_compression out",
                    self.id
                ),
            )),
            None => Ok(None),
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
            if !self.passes(name) && [ASPECT_RATIO, RESOLUTION].contains(&name.as_str()) {
                continue; // It has chosen the size.
            }
            if !self.passes(name) {
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

    fn passes(&self, name: &str) -> bool {
        self.passthrough.iter().any(|field| field == name)
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

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;

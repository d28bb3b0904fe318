//! Faults of a model: what it is said to be able to do and to cost.

use super::Faults;
use super::layout::At;
use crate::domain::{Operation, Usd};
use crate::pricing::{Certainty, OutputTokens, Prices, Rates};
use crate::providers::comfy;
use crate::providers::model::{Model, Sizes, Status};
use crate::providers::near::near;
use crate::providers::record::{Record, Shape};
use crate::providers::wiring::Field;

/// False for a model that is gone: nothing is sent to it.
pub(super) fn is_called(model: &Model) -> bool {
    !matches!(model.status, Status::Gone { .. })
}

/// False for a model whose dialect is not there, which is told elsewhere.
pub(super) fn has_wiring(record: &Record, model: &Model) -> bool {
    model.dialect.as_ref().is_none_or(|name| record.dialects.contains_key(name))
}

/// Finds the faults of one model, which stands at `at`.
pub(super) fn check(record: &Record, model: &Model, at: &At, faults: &mut Faults<'_>) {
    let mut finding = Finding { record, model, at, faults };
    finding.life();
    if is_called(model) {
        if record.shape.is_remote() && has_wiring(record, model) {
            finding.capabilities();
        }
        finding.numbers();
        finding.words();
        finding.prices();
    }
}

struct Finding<'a, 'f, 't> {
    record: &'a Record,
    model: &'a Model,
    at: &'a At,
    faults: &'f mut Faults<'t>,
}

impl Finding<'_, '_, '_> {
    fn add(&mut self, field: &str, message: impl std::fmt::Display) {
        self.faults.add(&self.at.join(&At::of(field)), format!("model {}: {message}", self.model.id));
    }

    /// Who serves in its place?
    fn life(&mut self) {
        let (Status::Gone { successor, .. } | Status::Retiring { successor: Some(successor), .. }) = &self.model.status
        else {
            return;
        };
        let live = |model: &&Model| matches!(model.status, Status::Live);
        let Some(heir) = self.record.models.iter().find(|other| other.id == *successor).filter(live) else {
            let names = self.record.models.iter().filter(live).map(|model| model.id.as_str());
            let hint = near(successor, names).first().map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            let place = if is_called(self.model) { "status.retiring.successor" } else { "status.gone.successor" };
            self.add(place, format!("the successor {successor} is not a live model of this record{hint}"));
            return;
        };
        if let Status::Gone { qualities, .. } = &self.model.status {
            for (old, new) in qualities.iter().filter(|(_, new)| !heir.qualities.contains(new)) {
                let message = format!("qualities: \"{old}\" becomes \"{new}\", which {} does not have", heir.id);
                self.add("status.gone.qualities", message);
            }
        }
    }

    /// Can what it is said to be able to do be asked for?
    fn capabilities(&mut self) {
        let model = self.model;
        let wiring = &model.wiring;
        let edits = model.operations.contains(&Operation::Edit);
        let wires: [(Field, &str, bool); 14] = [
            (Field::Quality, "qualities", !model.qualities.is_empty()),
            (Field::Background, "backgrounds", !model.backgrounds.is_empty()),
            (Field::OutputFormat, "output_formats", !model.output_formats.is_empty()),
            (Field::OutputCompression, "compression", model.compression),
            (Field::Style, "styles", !model.styles.is_empty()),
            (Field::Moderation, "moderation", !model.moderation.is_empty()),
            (Field::InputFidelity, "input_fidelity", !model.input_fidelity.is_empty()),
            (Field::Seed, "seed", model.seed),
            (Field::Steps, "steps", model.steps.is_some()),
            (Field::Guidance, "guidance", model.guidance.is_some()),
            (Field::NegativePrompt, "negative_prompt", model.negative_prompt),
            (Field::Image, "operations", edits),
            (Field::Mask, "mask", model.mask),
            (Field::N, "max_n", model.max_n > 1),
        ];
        for (field, capability, can) in wires {
            if can && wiring.place(field).is_none() {
                let name = field.name();
                self.add(capability, format!("it is said to take {name}, but [fields] has no place for {name}"));
            }
        }
        let has = |field| wiring.place(field).is_some();
        let sized = has(Field::Size) || has(Field::Ratio) || (has(Field::Width) && has(Field::Height));
        if model.sizes != Sizes::None && !sized {
            let message =
                "it has sizes, but [fields] has a place neither for size nor for ratio nor for width and height";
            self.add("sizes", message);
        }
        if !model.prompt_optional && has(Field::Data) && !has(Field::Prompt) {
            self.add("prompt_optional", "without a place for prompt, prompt_optional must be true");
        }
        if model.operations.contains(&Operation::Generate) && wiring.wire.generate.is_none() {
            self.add("operations", "it can generate, but wire.generate is missing");
        }
        if edits && wiring.wire.edit.is_none() {
            self.add("operations", "it can edit, but wire.edit is missing");
        }
        let is_graph = self.record.shape == Shape::ComfyGraph;
        if model.partial_images > 0 && !wiring.wire.streaming && !is_graph {
            self.add("partial_images", "it streams unfinished pictures, but wire.streaming is not true");
        }
        if is_graph && let Some(message) = comfy::fault(model) {
            self.add("graph", message);
        }
        if model.graph.is_some() && !is_graph {
            self.add("graph", "a graph is for shape = \"comfy-graph\"; take it out");
        }
    }

    fn numbers(&mut self) {
        let model = self.model;
        let renders = model.operations.contains(&Operation::Render);
        if model.operations.is_empty() {
            self.add("operations", "operations is empty");
        }
        if renders == self.record.shape.is_remote() {
            self.add("operations", "render is for shape = \"template\", which does nothing else");
        }
        if model.operations.contains(&Operation::Edit) && model.max_inputs == 0 {
            self.add("operations", "it can edit, but max_inputs = 0");
        }
        if model.mask && !model.operations.contains(&Operation::Edit) {
            self.add("mask", "a mask confines an edit, and it cannot edit");
        }
        if model.max_n == 0 {
            self.add("max_n", "max_n must be 1 or more");
        }
        if model.max_prompt_chars == Some(0) {
            self.add("max_prompt_chars", "max_prompt_chars = 0 would refuse every prompt; leave it out");
        }
        if model.partial_images > 3 {
            self.add("partial_images", "partial_images must be 0 to 3");
        }
        if let Some(message) = model.sizes.fault() {
            self.add("sizes", message);
        }
        if model.steps.is_some_and(|steps| steps.min > steps.max) {
            self.add("steps", "a range has its min above its max");
        }
        if model.guidance.is_some_and(|guidance| guidance.min > guidance.max) {
            self.add("guidance", "a range has its min above its max");
        }
    }

    /// Are the words that it uses its own?
    fn words(&mut self) {
        let model = self.model;
        let is_open = model.qualities.iter().any(|quality| quality == crate::providers::fit::ANY);
        let knows = |quality: &str| is_open || model.qualities.iter().any(|known| known == quality);
        for (tier, quality) in model.tiers.iter().filter(|(_, quality)| !knows(quality)) {
            self.add(&format!("tiers.{tier}"), format!("tiers.{tier} = \"{quality}\" is none of its qualities"));
        }
        for tier in model.tiers.keys().filter(|tier| !["draft", "standard", "premium"].contains(&tier.as_str())) {
            self.add(&format!("tiers.{tier}"), format!("tiers.{tier}: the tiers are draft, standard and premium"));
        }
        for quality in model.p50_s.keys().filter(|quality| !quality.is_empty() && !knows(quality)) {
            self.add("p50_s", format!("p50_s: \"{quality}\" is none of its qualities"));
        }
        for (quality, points) in &model.rating {
            if !quality.is_empty() && !knows(quality) {
                self.add("rating", format!("rating: \"{quality}\" is none of its qualities"));
            }
            if *points > 100 {
                self.add("rating", format!("rating = {points}: quality is counted from 0 to 100"));
            }
        }
        let default = |field: &str| model.default_text(field);
        if let Some(quality) = default("quality").filter(|quality| !knows(quality)) {
            self.add("defaults.quality", format!("the default \"{quality}\" is none of its qualities"));
        }
        if let Some(format) = default("output_format")
            && !model.output_formats.is_empty()
            && !model.output_formats.iter().any(|known| known.name() == format)
        {
            self.add("defaults.output_format", format!("the default \"{format}\" is none of its output_formats"));
        }
    }

    /// Its prices, and what they are announced to be.
    fn prices(&mut self) {
        let model = self.model;
        if let Some(prices) = &model.prices {
            self.version("prices", prices);
        }
        let mut before = model.prices.as_ref().and_then(|prices| prices.from);
        for (index, prices) in model.price_changes.iter().enumerate() {
            let place = format!("price_changes.{index}");
            self.version(&place, prices);
            if prices.from.is_none() {
                self.add(&place, "a price change needs the day `from` which it holds");
            } else if prices.from <= before {
                self.add(&format!("{place}.from"), "each version of the prices begins after the one before it");
            }
            before = prices.from;
        }
    }

    /// One version of the prices, which stands at `place`.
    fn version(&mut self, place: &str, prices: &Prices) {
        for (key, message) in price_faults(self.model, prices) {
            let at = self.at.join(&At::of(&format!("{place}.{key}")));
            self.faults.add(&at, format!("model {}: {}", self.model.id, message.replace("{}", place)));
        }
        if prices.certainty == Certainty::Configured {
            let message = format!(
                "{place}.certainty = \"configured\" is what operators say; it is verified, reported or recalled"
            );
            self.add(&format!("{place}.certainty"), message);
        }
    }
}

/// What is wrong with prices of that model, whoever states them: the key below the prices, and what to do. `{}` in a
/// message stands for the place of the prices.
pub(in crate::providers) fn price_faults(model: &Model, prices: &Prices) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if let Some(message) = prices.fault() {
        // The message begins with the key that is wrong.
        let key = message.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).next();
        faults.push((key.unwrap_or_default().to_owned(), format!("{{}}.{message}")));
    }
    let knows =
        |quality: &str| model.qualities.iter().any(|known| known == quality || known == crate::providers::fit::ANY);
    let mut named = |row: String, quality: Option<&String>| {
        if let Some(quality) = quality.filter(|quality| !knows(quality)) {
            let message = format!("a price is for the quality \"{quality}\", which is none of its qualities");
            faults.push((format!("rates.{row}"), message));
        }
    };
    match &prices.rates {
        Rates::Image(rows) => {
            for (index, row) in rows.iter().enumerate() {
                named(format!("image.{index}.quality"), row.quality.as_ref());
            }
        }
        Rates::Credit(rate) => {
            for (index, row) in rate.image.iter().enumerate() {
                named(format!("credit.image.{index}.quality"), row.quality.as_ref());
            }
        }
        Rates::Tokens(rates) => match &rates.output {
            OutputTokens::Area { base, .. } => {
                base.keys().for_each(|quality| named(format!("tokens.output.area.base.{quality}"), Some(quality)));
            }
            OutputTokens::Pixels(_) => {}
            OutputTokens::Table(rows) => {
                for (index, row) in rows.iter().enumerate() {
                    named(format!("tokens.output.table.{index}.quality"), Some(&row.quality));
                }
            }
        },
        Rates::Megapixel(_) | Rates::Step(_) | Rates::Second(_) => {}
    }
    let dear = dear(&prices.rates).into_iter().filter(|(_, usd, most, _)| usd > most);
    faults.extend(dear.map(|(row, usd, _, unit)| {
        (format!("rates.{row}"), format!("${usd} for one {unit}? Prices are US dollars, and for one"))
    }));
    faults
}

/// Each rate with its place, with more than anything of the kind costs, and with its unit. What is above that was written
/// in cents, or is the price of a thousand or of a million.
fn dear(rates: &Rates) -> Vec<(String, Usd, Usd, &'static str)> {
    const fn cents(cents: i128) -> Usd {
        Usd::from_pico(cents * (Usd::SCALE / 100))
    }
    match rates {
        Rates::Image(rows) => rows
            .iter()
            .enumerate()
            .map(|(index, row)| (format!("image.{index}.usd"), row.usd, cents(2000), "picture"))
            .collect(),
        Rates::Tokens(rates) => {
            [("text_input", rates.text_input), ("image_input", rates.image_input), ("image_output", rates.image_output)]
                .map(|(name, usd)| (format!("tokens.{name}"), usd, cents(1), "token"))
                .into()
        }
        Rates::Megapixel(rate) => vec![("megapixel.usd".to_owned(), rate.usd, cents(1000), "megapixel")],
        Rates::Step(rate) => vec![("step.usd".to_owned(), rate.usd, cents(100), "step")],
        Rates::Second(rate) => vec![("second.usd".to_owned(), rate.usd, cents(100), "second")],
        Rates::Credit(rate) => vec![("credit.usd".to_owned(), rate.usd, cents(1000), "credit")],
    }
}

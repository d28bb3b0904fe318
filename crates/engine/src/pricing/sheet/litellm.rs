//! The price list of LiteLLM: an object of models, each with its provider, its mode and its rates.
//!
//! A model may stand there several times, once for each size and quality: `hd/1024-x-1792/NAME`, `1024-x-1024/50-steps/NAME`.
//! Rates per pixel are those of the picture that is made, whatever they are called.

use std::collections::BTreeMap;

use super::amount::{self, NOTHING};
use super::quote::{PerMegapixel, Quote};
use super::raw::Node;
use super::{LeftOut, Row, Sheet, Unreadable};
use crate::domain::{Size, Usd};
use crate::pricing::ImageRate;

pub(super) fn read(text: &str) -> Result<Sheet, Unreadable> {
    let models = Node::of(text).map_err(Unreadable)?.entries();
    let models =
        models.ok_or_else(|| Unreadable("a litellm sheet is an object of models by their names".to_owned()))?;
    let mut sheet = Sheet::default();
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for (name, model) in models {
        let fields = model.entries().unwrap_or_default();
        let field = |name: &str| fields.get(name).and_then(|node| node.text());
        if !matches!(field("mode").as_deref(), Some("image_generation" | "image_edit")) {
            sheet.others += 1;
            continue;
        }
        let provider = field("litellm_provider").unwrap_or_default();
        let read = Name::of(&name, &provider).and_then(|named| Ok((quote(&named, field)?, named)));
        match read {
            Ok((quote, named)) => {
                let row = rows.entry((provider.clone(), named.model.clone())).or_insert_with(|| Row {
                    name: name.clone(),
                    provider: Some(provider).filter(|provider| !provider.is_empty()),
                    model: named.model,
                    quote: Quote::default(),
                });
                row.quote.join(quote);
                // The plain entry names the row, where there is one beside those of sizes and qualities.
                if named.size.is_none() {
                    row.name = name;
                }
            }
            Err(why) => sheet.left_out.push(LeftOut::new(name, why)),
        }
    }
    for mut row in rows.into_values() {
        // The dearest row that holds counts, so one without conditions would hide the prices of sizes and qualities.
        row.quote.images.sort_by(|a, b| (&a.quality, &a.size).cmp(&(&b.quality, &b.size)));
        row.quote.images.dedup();
        let named = |rate: &ImageRate| rate.size.is_some() || rate.quality.is_some();
        if row.quote.images.iter().any(named) {
            row.quote.images.retain(named);
        }
        sheet.rows.push(row);
    }
    Ok(sheet)
}

/// The name of an entry, taken apart.
struct Name {
    model: String,
    size: Option<Size>,
    quality: Option<String>,
}

impl Name {
    fn of(name: &str, provider: &str) -> Result<Name, String> {
        let parts: Vec<&str> = name.split('/').collect();
        let (mut size, mut quality, mut begin, mut is_stripped) = (None, None, 0, false);
        let ends_in_size = |from: usize| parts.iter().skip(from).any(|part| size_of(part).is_some());
        for (at, part) in parts.iter().enumerate().take(parts.len().saturating_sub(1)) {
            let is_provider = *part == provider || provider.starts_with(&format!("{part}-"));
            if let Some(found) = size_of(part) {
                size = Some(found);
            } else if part.ends_with("-steps") {
                return Err("it is the price for a number of steps, which a price per picture cannot say".to_owned());
            } else if is_provider && !is_stripped {
                is_stripped = true;
            } else if quality.is_none() && size.is_none() && ends_in_size(at + 1) {
                quality = Some((*part).to_owned());
            } else {
                break;
            }
            begin = at + 1;
        }
        Ok(Name { model: parts.get(begin..).unwrap_or_default().join("/"), size, quality })
    }
}

/// `1024-x-1792`.
fn size_of(part: &str) -> Option<Size> {
    let (width, height) = part.split_once("-x-")?;
    Some(Size::Exact(width.parse().ok()?, height.parse().ok()?))
}

fn quote(name: &Name, field: impl Fn(&str) -> Option<String>) -> Result<Quote, String> {
    let rate = |key: &str| match field(key) {
        None => Ok(None),
        Some(text) => amount::usd(&text, 1, 1).map(|usd| Some(usd).filter(|usd| *usd > Usd::ZERO)),
    };
    let mut quote = Quote { image_output: rate("output_cost_per_image_token")?, ..Quote::default() };
    if quote.image_output.is_some() {
        quote.text_input = rate("input_cost_per_token")?;
        quote.image_input = rate("input_cost_per_image_token")?;
        quote.text_output = rate("output_cost_per_token")?;
    }
    let per_picture = match rate("output_cost_per_image")? {
        // Without any price for what comes out, what is called the price of an input is that of the picture.
        None if quote.image_output.is_none() => rate("input_cost_per_image")?,
        made => made,
    };
    let per_pixel = [field("output_cost_per_pixel"), field("input_cost_per_pixel")];
    let per_pixel =
        per_pixel.into_iter().flatten().find(|text| amount::usd(text, 1, 1).is_ok_and(|usd| usd > Usd::ZERO));
    let image = |usd| ImageRate { usd, size: name.size, quality: name.quality.clone(), max_pixels: None };
    match (per_picture, per_pixel, name.size) {
        (Some(usd), ..) => quote.images.push(image(usd)),
        (None, Some(text), Some(Size::Exact(width, height))) => {
            let pixels = u64::from(width) * u64::from(height);
            quote.images.push(image(amount::usd(&text, 1, pixels)?));
        }
        (None, Some(text), _) => {
            let usd = amount::usd(&text, 1, 1_000_000)?;
            quote.megapixel = Some(PerMegapixel { usd, pixels: 1_000_000 });
        }
        (None, None, _) if quote.is_empty() => {
            let says_zero = ["output_cost_per_image", "input_cost_per_image", "input_cost_per_pixel"];
            return Err(if says_zero.iter().any(|key| field(key).is_some()) {
                NOTHING.to_owned()
            } else {
                "it has no price for the pictures that it makes".to_owned()
            });
        }
        (None, None, _) => {}
    }
    Ok(quote)
}

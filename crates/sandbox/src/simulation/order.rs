//! Reads the order out of a checked body: prompt, count, size, format, price.

use serde_json::Value;

use super::check::Flaw;
use super::path::{find, fits, text};
use super::sheet::{By, Megapixel, Parts, Price, Route, Sheet, Size};
use crate::fields::parse_size;
use crate::money::Usd;
use crate::picture::Format;
use crate::price::{Usage, text_tokens};

/// Largest picture that is drawn, in pixels.
const MOST_PIXELS: u64 = 20_000_000;

/// What a body asks for.
#[derive(Debug)]
pub(super) struct Wish {
    pub prompt: String,
    pub n: u64,
    pub seed: Option<i64>,
    pub width: u32,
    pub height: u32,
    pub quality: Option<String>,
    pub format: Format,
}

/// Reads what a body asks for.
pub(super) fn read(route: &Route, body: &Value) -> Result<Wish, Flaw> {
    let prompts = route.prompt.all();
    let found: Vec<&str> = prompts.iter().flat_map(|at| find(body, at)).filter_map(Value::as_str).collect();
    let prompt = found.join("\n");
    if prompt.trim().is_empty()
        // What is gathered from a list may be nothing: a template that is drawn as it is.
        && let Some(first) = prompts.first().filter(|first| !first.contains('*'))
    {
        return Err(Flaw::new(first, "missing", "Field required"));
    }
    let mut n = 1;
    let mut told = false;
    for at in route.n.all() {
        if let Some(factor) = find(body, at).first().and_then(|value| value.as_u64()) {
            n *= factor;
            told = true;
        }
    }
    if !told {
        n = route.default_n.unwrap_or(1);
    }
    if !(1..=10).contains(&n) {
        let at = route.n.all().first().map_or("", String::as_str);
        return Err(Flaw::new(at, "wrong_value", "Input should be from 1 to 10 pictures"));
    }
    let (width, height) = size(&route.size, body)?;
    let seed = route.seed.as_ref().and_then(|at| text(body, at)).and_then(|seed| seed.parse().ok());
    let format = match route.format.as_deref() {
        Some(fixed) if fixed.starts_with('=') => fixed.strip_prefix('=').map(str::to_owned),
        Some(at) => text(body, at),
        None => None,
    };
    let format = format.or_else(|| route.default_format.clone()).unwrap_or_default();
    Ok(Wish {
        prompt,
        n,
        // Providers take any negative number for "none".
        seed: seed.filter(|seed| *seed >= 0),
        width,
        height,
        quality: route.quality.as_ref().and_then(|at| text(body, at)),
        format: format_of(&format),
    })
}

/// The format that a provider calls so; PNG for what cannot be drawn.
fn format_of(name: &str) -> Format {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("image/").unwrap_or(&name) {
        "jpeg" | "jpg" => Format::Jpeg { quality: 90 },
        "webp" => Format::Webp,
        _ => Format::Png,
    }
}

/// The size in pixels.
fn size(size: &Size, body: &Value) -> Result<(u32, u32), Flaw> {
    let number = |at: &Option<String>| {
        let value = at.as_ref().and_then(|at| text(body, at))?;
        value.parse::<u32>().ok().filter(|side| *side > 0)
    };
    let told = |at: &Option<String>| at.as_ref().and_then(|at| Some((at.clone(), text(body, at)?)));
    let default = || parse_size(size.default.as_deref().unwrap_or("1024x1024")).unwrap_or((1024, 1024));
    let (at, (width, height)) = if let Some((at, word)) = told(&size.at) {
        let bad = || Flaw::new(&at, "wrong_value", "Input should be a size that is supported");
        (at.clone(), by_word(size, &word, body).ok_or_else(bad)?)
    } else if let (Some(width), Some(height)) = (number(&size.width), number(&size.height)) {
        (size.width.clone().unwrap_or_default(), (width, height))
    } else if let Some((at, word)) = told(&size.ratio) {
        let bad = || Flaw::new(&at, "wrong_value", "Input should be an aspect ratio that is supported");
        let shape = match word.as_str() {
            // What the provider chooses by itself.
            "auto" | "match_input_image" => by_ratio(size, (1, 1), body).ok_or_else(bad)?,
            word => ratio(word).and_then(|ratio| by_ratio(size, ratio, body)).ok_or_else(bad)?,
        };
        (at.clone(), shape)
    } else if size.tier.as_ref().is_some_and(|at| text(body, at).is_some()) {
        let at = size.tier.clone().unwrap_or_default();
        let bad = || Flaw::new(&at, "wrong_value", "Input should be a resolution that is supported");
        (at.clone(), by_ratio(size, (1, 1), body).ok_or_else(bad)?)
    } else {
        (String::new(), default())
    };
    let pixels = u64::from(width) * u64::from(height);
    let most = size.most_pixels.unwrap_or(MOST_PIXELS).min(MOST_PIXELS);
    if pixels > most {
        return Err(Flaw::new(&at, "wrong_value", format!("Input should have at most {most} pixels")));
    }
    Ok((width, height))
}

fn by_word(size: &Size, word: &str, body: &Value) -> Option<(u32, u32)> {
    if let Some(named) = size.named.get(word) {
        return parse_size(named);
    }
    let separator = size.separator.as_deref().unwrap_or("x");
    parse_size(&word.replacen(separator, "x", 1))
        .or_else(|| by_ratio(size, ratio(word).filter(|_| word.contains(':'))?, body))
}

/// `16:9`, with any one character between.
fn ratio(word: &str) -> Option<(u64, u64)> {
    let cut = word.find(|c: char| !c.is_ascii_digit())?;
    let (width, rest) = word.split_at(cut);
    let height = rest.get(1..)?;
    let side = |text: &str| text.parse::<u64>().ok().filter(|side| (1..=100).contains(side));
    Some((side(width)?, side(height)?))
}

fn by_ratio(size: &Size, (wide, high): (u64, u64), body: &Value) -> Option<(u32, u32)> {
    let area = match size.tier.as_ref().and_then(|at| text(body, at)) {
        Some(tier) => *size.tiers.get(&tier)?,
        None => size.area.unwrap_or(1 << 20),
    };
    let step = size.multiple_of.unwrap_or(16).max(1);
    let side = |one: u64, other: u64| {
        let exact = (area * one).checked_div(other)?.isqrt();
        u32::try_from(((exact + step / 2) / step).max(1) * step).ok()
    };
    Some((side(wide, high)?, side(high, wide)?))
}

/// What an order costs, all its pictures together, with the tokens behind it; `None` for a model that is not sold.
pub(super) fn price(
    sheet: &Sheet,
    model: &str,
    wish: &Wish,
    inputs: u64,
    body: &Value,
) -> Option<(Usd, Option<Usage>)> {
    let price = match sheet.prices.get(model) {
        Some(price) => price,
        None => {
            let fitting = sheet.prices.iter().filter(|(pattern, _)| fits(pattern, model));
            fitting.max_by_key(|(pattern, _)| pattern.len())?.1
        }
    };
    let parts = match price {
        Price::Flat(usd) => return Some((*usd * wish.n, None)),
        Price::Parts(parts) => parts,
    };
    let each = parts.image.as_ref().map_or(Usd::ZERO, |image| chosen(image, body));
    let area = u64::from(wish.width) * u64::from(wish.height);
    let by_area = parts.megapixel.map_or(Usd::ZERO, |megapixel| area_price(megapixel, area));
    let by_step = parts.step.as_ref().map_or(Usd::ZERO, |step| {
        let steps = text(body, &step.by).and_then(|steps| steps.parse().ok());
        step.usd * steps.unwrap_or(step.default)
    });
    let by_input = parts.input_image.map_or(Usd::ZERO, |usd| usd * inputs);
    let usage = usage(parts, wish, inputs, body);
    let tokens = usage.map_or(Usd::ZERO, |usage| {
        let side = |usd: Option<Usd>, tokens: u64| usd.map_or(Usd::ZERO, |usd| usd * tokens);
        side(parts.input_token, usage.input_tokens) + side(parts.output_token, usage.output_tokens)
    });
    Some(((each + by_area + by_step) * wish.n + by_input + tokens, usage))
}

fn usage(parts: &Parts, wish: &Wish, inputs: u64, body: &Value) -> Option<Usage> {
    let each = chosen(parts.image_tokens.as_ref()?, body);
    Some(Usage::new(text_tokens(&wish.prompt), inputs * parts.input_image_tokens, wish.n * each))
}

fn chosen<T: Copy + Default>(by: &By<T>, body: &Value) -> T {
    match by {
        By::One(value) => *value,
        By::Of { by, of } => {
            let word = text(body, by).unwrap_or_default();
            of.get(&word).or_else(|| of.get("")).copied().unwrap_or_default()
        }
    }
}

/// The price of one picture of that many pixels.
fn area_price(megapixel: Megapixel, area: u64) -> Usd {
    let (usd, first, pixels, exact) = match megapixel {
        Megapixel::Whole(usd) => (usd, None, None, false),
        Megapixel::Of { usd, first, pixels, exact } => (usd, first, pixels, exact),
    };
    let pixels = pixels.unwrap_or(1 << 20).max(1);
    if exact {
        let (total, pixels) = ((usd * area).pico(), i128::from(pixels));
        return Usd::from_pico((total + pixels - 1) / pixels);
    }
    let whole = area.div_ceil(pixels).max(1);
    first.unwrap_or(usd) + usd * (whole - 1)
}

/// An amount in units of which one costs `unit`, as a decimal with up to six places.
pub(super) fn units(usd: Usd, unit: Usd) -> Option<f64> {
    let millionths = (usd.pico() * 1_000_000).checked_div(unit.pico())?;
    // Exact far beyond every cost that a picture has; templates write it as JSON numbers.
    Some(millionths as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape(rules: &str, body: &Value) -> Result<(u32, u32), String> {
        size(&toml::from_str(rules).unwrap(), body).map_err(|flaw| flaw.pointer)
    }

    #[test]
    fn sizes_are_read_in_every_dialect() {
        let by_word = "at = 's'\nseparator = '*'\nnamed = { square = '512x512' }\nwidth = 's/w'\nheight = 's/h'";
        assert_eq!(shape(by_word, &json!({ "s": "640*480" })), Ok((640, 480)));
        assert_eq!(shape(by_word, &json!({ "s": "square" })), Ok((512, 512)));
        assert_eq!(shape(by_word, &json!({ "s": { "w": 8, "h": 9 } })), Ok((8, 9)));
        assert_eq!(shape(by_word, &json!({ "s": "round" })), Err("s".to_owned()));
        assert_eq!(shape(by_word, &json!({})), Ok((1024, 1024)));
        let by_ratio = "ratio = 'r'\ntier = 't'\ntiers = { '2K' = 4194304 }\nmost_pixels = 5000000";
        assert_eq!(shape(by_ratio, &json!({ "r": "16:9" })), Ok((1360, 768)));
        assert_eq!(shape(by_ratio, &json!({ "r": "9x16", "t": "2K" })), Ok((1536, 2736)));
        assert_eq!(shape(by_ratio, &json!({ "t": "2K" })), Ok((2048, 2048)));
        assert_eq!(shape(by_ratio, &json!({ "r": "9x16", "t": "8K" })), Err("r".to_owned()));
        assert_eq!(shape("width = 'w'\nheight = 'h'", &json!({ "w": 9000, "h": 9000 })), Err("w".to_owned()));
    }

    #[test]
    fn areas_are_billed_in_whole_or_in_parts() {
        let price = |rules: &str, area| {
            let parts: Parts = toml::from_str(rules).unwrap();
            area_price(parts.megapixel.unwrap(), area).to_string()
        };
        assert_eq!(price("megapixel = '0.03'", 1 << 20), "0.03");
        assert_eq!(price("megapixel = '0.03'", (1 << 20) + 1), "0.06");
        assert_eq!(price("megapixel = { usd = '0.015', first = '0.03' }", 3 << 20), "0.06");
        assert_eq!(price("megapixel = { usd = '0.01', exact = true, pixels = 1000000 }", 1_500_000), "0.015");
        assert_eq!(price("megapixel = { usd = '0.000000000001', exact = true }", 1), "0.000000000001");
    }

    #[test]
    fn steps_are_billed_beside_the_picture() {
        let prices = "prices.paint = { image = '0.012', step = { usd = '0.00056', by = 'steps', default = 50 } }";
        let facts = "name = 's'\ntitle = 'S'\ndocs = 'd'\nas_of = '2026-11-21'";
        let sheet: Sheet = toml::from_str(&format!("{facts}\n{prices}")).unwrap();
        let route: Route = toml::from_str("does = 'generate'\npath = '/'\nn = 'n'").unwrap();
        let costs = |body: Value| {
            let wish = read(&route, &body).unwrap();
            price(&sheet, "paint", &wish, 0, &body).unwrap().0.to_string()
        };
        assert_eq!(costs(json!({ "prompt": "a kite" })), "0.04");
        assert_eq!(costs(json!({ "prompt": "a kite", "steps": 25 })), "0.026");
        assert_eq!(costs(json!({ "prompt": "a kite", "steps": 25, "n": 2 })), "0.052");
    }

    #[test]
    fn units_are_exact() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        assert_eq!(units(usd("0.03"), usd("0.01")), Some(3.0));
        assert_eq!(units(usd("0.065"), usd("0.01")), Some(6.5));
        assert_eq!(units(usd("1"), Usd::ZERO), None);
    }
}

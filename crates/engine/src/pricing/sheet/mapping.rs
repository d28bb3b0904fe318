//! Any JSON or CSV, by a small mapping.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::amount;
use super::quote::{PerMegapixel, Quote};
use super::raw::Node;
use super::{LeftOut, Row, Sheet, Unreadable};
use crate::domain::Size;
use crate::pricing::ImageRate;

/// Where things stand in a sheet. Each of them is the name of a column, in JSON a path in the row (`cost.usd` or
/// `/cost/usd`), `@key` for the name under which a row stands in an object, or, after `=`, the value itself (`=image`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// JSON only: the path of the list, or of the object, whose members are the rows. Left out: the whole text.
    pub rows: String,
    /// Who sells it. Left out: whoever has a model of that name.
    pub provider: Option<String>,
    /// The model; required.
    pub model: String,
    /// The price in US dollars; required.
    pub price: String,
    /// What it is the price of: `image` (which is also what leaving it out means), `megapixel`, `step`, `second`,
    /// `credit`, `text_input`, `image_input`, `text_output` or `image_output` (each per token).
    pub unit: Option<String>,
    /// Of how many units it is the price: `=1000000` for prices per million tokens. Left out: of one.
    pub per: Option<String>,
    /// The quality that the price is for.
    pub quality: Option<String>,
    /// The size that the price is for, such as `1024x1024`.
    pub size: Option<String>,
}

impl Mapping {
    /// A mapping out of `KEY=PLACE` pairs, as a command line has them: `model=name`, `unit==megapixel`.
    ///
    /// # Errors
    /// A pair that is none, or a key that there is not; what is missing.
    pub fn of<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Mapping, String> {
        let mut mapping = Mapping::default();
        for pair in pairs {
            let (key, place) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` says not where: write KEY=PLACE, such as model=name"))?;
            let place = place.to_owned();
            match key {
                "rows" => mapping.rows = place,
                "provider" => mapping.provider = Some(place),
                "model" => mapping.model = place,
                "price" => mapping.price = place,
                "unit" => mapping.unit = Some(place),
                "per" => mapping.per = Some(place),
                "quality" => mapping.quality = Some(place),
                "size" => mapping.size = Some(place),
                _ => {
                    return Err(format!(
                        "there is no `{key}` in a mapping; there are rows, provider, model, price, unit, per, quality \
                         and size"
                    ));
                }
            }
        }
        if mapping.model.is_empty() || mapping.price.is_empty() {
            return Err("the mapping must say where the model and the price are: model=…, price=…".to_owned());
        }
        Ok(mapping)
    }
}

/// How many columns a message names, and how many letters of each: what is no table may have all of its text in one line.
const NAMED: (usize, usize) = (20, 40);

pub(super) fn read_json(text: &str, mapping: &Mapping) -> Result<Sheet, Unreadable> {
    let rows = Node::of(text)
        .map_err(Unreadable)?
        .at(&mapping.rows)
        .ok_or_else(|| Unreadable(format!("rows = \"{}\" leads nowhere in this sheet", mapping.rows)))?;
    let rows: Vec<(Option<String>, Node<'_>)> = match (rows.elements(), rows.entries()) {
        (Some(elements), _) => elements.into_iter().map(|row| (None, row)).collect(),
        (None, Some(entries)) => entries.into_iter().map(|(key, row)| (Some(key), row)).collect(),
        (None, None) => return Err(Unreadable("the rows of a JSON sheet are a list or an object".to_owned())),
    };
    let mut gathered = Gathered::default();
    for (number, (key, row)) in rows.into_iter().enumerate() {
        gathered.add(mapping, number + 1, &|place| match place {
            "@key" => key.clone(),
            path => row.at(path).and_then(Node::text),
        });
    }
    Ok(gathered.sheet())
}

pub(super) fn read_csv(text: &str, mapping: &Mapping) -> Result<Sheet, Unreadable> {
    if text.trim().is_empty() {
        return Err(Unreadable("it is empty".to_owned()));
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| Unreadable(format!("it is no CSV: {error}")))?.clone();
    let column = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let places = [Some(&mapping.model), Some(&mapping.price)].into_iter().flatten();
    let optional = [&mapping.provider, &mapping.unit, &mapping.per, &mapping.quality, &mapping.size];
    for place in places.chain(optional.into_iter().flatten()).filter(|place| !place.starts_with('=')) {
        if column(place).is_none() {
            let (columns, letters) = NAMED;
            let short = |column: &str| column.chars().take(letters).collect::<String>();
            let named: Vec<String> = header.iter().take(columns).map(short).collect();
            return Err(Unreadable(format!("there is no column {place}; there are {}", named.join(", "))));
        }
    }
    let mut gathered = Gathered::default();
    for (number, record) in reader.records().enumerate() {
        // The header is line 1.
        let record = record.map_err(|error| Unreadable(format!("line {}: {error}", number + 2)))?;
        gathered.add(mapping, number + 2, &|place| column(place).and_then(|at| record.get(at)).map(str::to_owned));
    }
    Ok(gathered.sheet())
}

/// Rows of the same model, put together.
#[derive(Default)]
struct Gathered {
    rows: BTreeMap<(Option<String>, String), Quote>,
    left_out: Vec<LeftOut>,
}

impl Gathered {
    /// Adds a row; `number` is what it is called if it has no model, and `value` what stands at a place of it.
    fn add(&mut self, mapping: &Mapping, number: usize, value: &dyn Fn(&str) -> Option<String>) {
        let of = |place: &str| match place.strip_prefix('=') {
            Some(itself) => Some(itself.to_owned()),
            None => value(place).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        };
        let optional = |place: &Option<String>| place.as_deref().and_then(of);
        let Some(model) = of(&mapping.model) else {
            self.left_out.push(LeftOut::new(format!("row {number}"), "it names no model"));
            return;
        };
        let quote = of(&mapping.price).ok_or_else(|| "it has no price".to_owned()).and_then(|price| {
            quote(
                &price,
                optional(&mapping.per).as_deref(),
                optional(&mapping.unit).as_deref().unwrap_or("image"),
                optional(&mapping.size).as_deref(),
                optional(&mapping.quality),
            )
        });
        match quote {
            Ok(quote) => self.rows.entry((optional(&mapping.provider), model)).or_default().join(quote),
            Err(why) => self.left_out.push(LeftOut::new(format!("row {number}: {model}"), why)),
        }
    }

    fn sheet(self) -> Sheet {
        let row = |((provider, model), quote): ((Option<String>, String), Quote)| {
            let name = provider.iter().map(|provider| format!("{provider}/")).collect::<String>() + &model;
            Row { name, provider, model, quote }
        };
        Sheet { rows: self.rows.into_iter().map(row).collect(), left_out: self.left_out, others: 0 }
    }
}

fn quote(
    price: &str,
    per: Option<&str>,
    unit: &str,
    size: Option<&str>,
    quality: Option<String>,
) -> Result<Quote, String> {
    let per = match per {
        None => 1,
        Some(text) => match text.parse() {
            Ok(0) | Err(_) => return Err(format!("`{text}` is no number of units, such as 1000000")),
            Ok(per) => per,
        },
    };
    let usd = amount::price(price, per)?;
    let size: Option<Size> = size.map(|text| text.parse().map_err(|_| format!("`{text}` is no size"))).transpose()?;
    if unit != "image" && (size.is_some() || quality.is_some()) {
        return Err(format!("a price per {unit} that depends on size or quality cannot be written down"));
    }
    let nothing = Quote::default();
    Ok(match unit {
        "image" => Quote { images: vec![ImageRate { usd, size, quality, max_pixels: None }], ..nothing },
        "megapixel" => Quote { megapixel: Some(PerMegapixel { usd, pixels: 1 << 20 }), ..nothing },
        "step" => Quote { step: Some(usd), ..nothing },
        "second" => Quote { second: Some(usd), ..nothing },
        "credit" => Quote { credit: Some(usd), ..nothing },
        "text_input" => Quote { text_input: Some(usd), ..nothing },
        "image_input" => Quote { image_input: Some(usd), ..nothing },
        "text_output" => Quote { text_output: Some(usd), ..nothing },
        "image_output" => Quote { image_output: Some(usd), ..nothing },
        _ => {
            return Err(format!(
                "`{unit}` is no unit; there are image, megapixel, step, second, credit, text_input, image_input, \
                 text_output and image_output"
            ));
        }
    })
}

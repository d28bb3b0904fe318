//! A provider's usage export: what it says was billed, row by row. CSV with a header line, a JSON array of
//! objects, or JSON objects one after another; which of them it is, its first character tells.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Millis;
use crate::domain::{AttemptId, Usd};

/// What a provider says of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its place in the export, counted from 1 without the header line.
    pub number: usize,
    /// The attempt that it names, if it names one.
    #[serde(skip)]
    pub attempt: Option<AttemptId>,
    /// When the call was, in milliseconds since the Unix epoch.
    pub at_ms: Option<Millis>,
    /// The model, as the provider calls it.
    pub model: Option<String>,
    /// What was billed. Negative is a credit note; `None` if the row says nothing.
    pub usd: Option<Usd>,
}

/// In which columns an export says what. Where nothing is set, the usual names are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    id: Option<String>,
    at: Option<String>,
    usd: Option<String>,
    model: Option<String>,
}

impl FromStr for Columns {
    type Err = String;

    /// From `id=COLUMN,at=COLUMN,usd=COLUMN,model=COLUMN`, any of them left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut columns = Columns::default();
        for naming in text.split(',') {
            let (what, column) = naming.split_once('=').unwrap_or((naming, ""));
            let place = match what.trim() {
                "id" => &mut columns.id,
                "at" => &mut columns.at,
                "usd" => &mut columns.usd,
                "model" => &mut columns.model,
                _ => return Err(format!("`{naming}` is not one of id=COLUMN, at=COLUMN, usd=COLUMN, model=COLUMN")),
            };
            if column.trim().is_empty() {
                return Err(format!("`{naming}` names no column"));
            }
            if place.replace(column.trim().to_owned()).is_some() {
                return Err(format!("`{}` is named twice", what.trim()));
            }
        }
        Ok(columns)
    }
}

/// The rows of an export.
///
/// # Errors
/// What cannot be read, in which row, and what to do.
pub fn read(text: &str, columns: &Columns) -> Result<Vec<Row>, String> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let (names, records) = match text.as_bytes().first() {
        Some(b'[' | b'{') => objects(text)?,
        _ => lines(text)?,
    };
    let places = Places::find(columns, &names)?;
    let rows = records.iter().enumerate().map(|(index, record)| places.row(index + 1, record));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    if !rows.is_empty() && places.at.is_none() && rows.iter().all(|row| row.attempt.is_none()) {
        return Err(format!(
            "no row names an attempt (att_…), and no column tells the time. Name it with --map at=COLUMN; {}",
            listed(&names)
        ));
    }
    Ok(rows)
}

/// The values of a row in the order of the columns' names; `None` where it has none.
type Record<'a> = Vec<Option<Cow<'a, str>>>;

fn lines(text: &str) -> Result<(Vec<String>, Vec<Record<'static>>), String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let bad = |error: csv::Error| format!("this is neither JSON nor CSV: {error}");
    let names = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
    let record = |record: Result<csv::StringRecord, csv::Error>| {
        let value = |value: &str| (!value.is_empty()).then(|| Cow::Owned(value.to_owned()));
        Ok(record.map_err(bad)?.iter().map(value).collect())
    };
    Ok((names, reader.records().map(record).collect::<Result<_, String>>()?))
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

fn objects(text: &str) -> Result<(Vec<String>, Vec<Record<'_>>), String> {
    let bad =
        |error: serde_json::Error| format!("this is not an array of JSON objects, nor one object a line: {error}");
    let objects: Vec<Object<'_>> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(bad)?
    } else {
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().map_err(bad)?
    };
    let mut places = BTreeMap::new();
    for name in objects.iter().flat_map(BTreeMap::keys) {
        let next = places.len();
        places.entry(name.clone()).or_insert(next);
    }
    let mut names = vec![String::new(); places.len()];
    places.iter().for_each(|(name, place)| names[*place].clone_from(name));
    let record = |object: &Object<'_>| names.iter().map(|name| object.get(name).and_then(|raw| scalar(raw))).collect();
    let records = objects.iter().map(record).collect();
    Ok((names, records))
}

/// The text of a string, the digits of a number exactly as they are written; nothing of anything else.
fn scalar(raw: &RawValue) -> Option<Cow<'static, str>> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(text).ok().filter(|text| !text.trim().is_empty()).map(Cow::Owned),
        b'-' | b'0'..=b'9' => Some(Cow::Owned(text.to_owned())),
        _ => None,
    }
}

/// Where in a record things are.
struct Places<'a> {
    names: &'a [String],
    id: Option<usize>,
    at: Option<usize>,
    usd: usize,
    model: Option<usize>,
}

impl<'a> Places<'a> {
    fn find(columns: &Columns, names: &'a [String]) -> Result<Places<'a>, String> {
        let place = |named: &Option<String>, usual: &[&str]| match named {
            Some(named) => match names.iter().position(|name| name == named) {
                Some(place) => Ok(Some(place)),
                None => Err(format!("there is no column `{named}`; {}", listed(names))),
            },
            None => Ok(usual.iter().find_map(|u| names.iter().position(|name| name.eq_ignore_ascii_case(u)))),
        };
        let usd = place(&columns.usd, &["usd", "cost_usd", "amount_usd"])?;
        Ok(Places {
            names,
            id: place(&columns.id, &[])?,
            at: place(&columns.at, &["at", "timestamp", "time", "created_at"])?,
            usd: usd.ok_or_else(|| {
                format!(
                    "no column tells what was billed in US dollars. Name it with --map usd=COLUMN; {}",
                    listed(names)
                )
            })?,
            model: place(&columns.model, &["model"])?,
        })
    }

    fn row(&self, number: usize, record: &Record<'_>) -> Result<Row, String> {
        let value = |place: usize| record.get(place).and_then(Option::as_deref).map(str::trim);
        let bad = |place: usize, why: String| format!("row {number}, column `{}`: {why}", self.names[place]);
        let at_ms = self.at.and_then(|place| value(place).map(|text| moment(text).map_err(|why| bad(place, why))));
        let usd = value(self.usd).map(|text| amount(text).map_err(|why| bad(self.usd, why)));
        let model = self.model.and_then(value).map(str::to_owned);
        Ok(Row {
            number,
            attempt: self.attempt(number, record)?,
            at_ms: at_ms.transpose()?,
            model,
            usd: usd.transpose()?,
        })
    }

    /// The attempt that a row names in the column for it, or in any.
    fn attempt(&self, number: usize, record: &Record<'_>) -> Result<Option<AttemptId>, String> {
        let values = match self.id {
            Some(place) => record.get(place..=place).unwrap_or_default(),
            None => record.as_slice(),
        };
        let mut named = values.iter().flatten().filter_map(|value| value.trim().parse::<AttemptId>().ok());
        let first = named.next();
        if named.any(|other| Some(other) != first) {
            return Err(format!("row {number} names several attempts. Say which column counts with --map id=COLUMN"));
        }
        Ok(first)
    }
}

fn listed(names: &[String]) -> String {
    format!("the columns are: {}", names.join(", "))
}

/// Exact dollars. A sign of currency is left out; of a number in exponents, its decimal form is meant.
fn amount(text: &str) -> Result<Usd, String> {
    let digits = text.strip_prefix('$').unwrap_or(text);
    digits.parse::<Usd>().or_else(|error| serde_json::from_str::<Usd>(digits).map_err(|_| error.to_string()))
}

/// Numbers from here on are milliseconds: as seconds they would be in the year 5138.
const LEAST_MILLIS: i64 = 100_000_000_000;

/// A moment as RFC 3339, or as seconds or milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<Millis, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let at = if !whole.is_empty() && digits(whole) && digits(part) {
        whole.parse::<i64>().ok().and_then(|number| match number {
            LEAST_MILLIS.. => (number < LEAST_MILLIS * 1000).then_some(number),
            _ => Some(number * 1000 + format!("{part:0<3.3}").parse::<i64>().ok()?),
        })
    } else {
        text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    };
    at.ok_or_else(|| {
        format!("`{text}` is neither a time such as 2026-11-21T08:00:00Z nor seconds or milliseconds since 1970")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "att_0190f000000000000000000000000001";

    fn rows(text: &str) -> Vec<Row> {
        read(text, &Columns::default()).unwrap()
    }

    #[test]
    fn csv_and_both_kinds_of_json_say_the_same() {
        let csv = format!("\u{feff}note,at,model,usd,request\n\"a, b\",2026-11-21T08:00:00Z,m,0.05,{ID}\n,,,,\n");
        let lines = format!(
            "{{\"at\": \"2026-11-21T08:00:00Z\", \"model\": \"m\", \"usd\": \"0.05\", \"request\": \"{ID}\"}}\n{{\"at\": null}}\n"
        );
        let array = format!("\n[{}]", lines.trim().replace("}\n{", "},\n{"));
        let expected = rows(&csv);
        assert_eq!(expected.len(), 2);
        assert_eq!(expected[0].attempt, ID.parse().ok());
        assert_eq!(expected[0].at_ms, Some(1_795_248_000_000));
        assert_eq!((expected[0].usd, expected[0].model.as_deref()), ("0.05".parse().ok(), Some("m")));
        assert_eq!(expected[1], Row { number: 2, attempt: None, at_ms: None, model: None, usd: None });
        assert_eq!(rows(&lines), expected);
        assert_eq!(rows(&array), expected);
    }

    #[test]
    fn amounts_are_exact() {
        for (text, pico) in [
            ("0.1", 100_000_000_000),
            ("$0.04", 40_000_000_000),
            ("5e-05", 50_000_000),
            ("0.000000000001", 1),
            ("-1.5", -1_500_000_000_000),
            ("12", 12_000_000_000_000),
        ] {
            assert_eq!(amount(text).map(Usd::pico), Ok(pico), "{text}");
            let json = format!("{{\"usd\": {}, \"at\": 0}}", text.trim_start_matches('$'));
            assert_eq!(rows(&json)[0].usd.map(Usd::pico), Some(pico), "{json}");
        }
        for bad in ["1,5", "0.0000000000001", "4 cents", "€1", "NaN", "1.2.3"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_told_apart() {
        let at = 1_795_248_000_123;
        for text in ["2026-11-21T08:00:00.123Z", "2026-11-21 09:00:00.123+01:00", "1795248000123", "1795248000.1239"] {
            assert_eq!(moment(text), Ok(at), "{text}");
        }
        assert_eq!(moment("1795248000"), Ok(1_795_248_000_000));
        for bad in ["", "2026-11-21", "2026-11-21T08:00:00", "yesterday", "1795248000123456789", "1.2.3", "-1."] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_are_named_where_they_are_not_recognised() {
        let csv = "when,what,paid,mine,other\n1795248000,m,1,att_0190f000000000000000000000000001,att_0190f000000000000000000000000002\n";
        let columns: Columns = "id=mine,at=when,usd=paid,model=what".parse().unwrap();
        assert_eq!(read(csv, &columns).unwrap()[0].attempt, ID.parse().ok());
        let say = |columns: &str| read(csv, &columns.parse().unwrap()).unwrap_err();
        assert!(say("usd=paid").contains("several attempts"));
        assert!(say("usd=cost").contains("there is no column `cost`; the columns are: when, what, paid"));
        assert!(say("at=when").contains("--map usd=COLUMN"));
        assert!(say("usd=paid,id=what").contains("--map at=COLUMN"));
        assert!(read("at,usd\nnow,1\n", &Columns::default()).unwrap_err().contains("row 1, column `at`"));
        for bad in ["", "id", "id=", "id=a,id=b", "price=usd"] {
            assert!(bad.parse::<Columns>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_export_is_an_error() {
        for bad in ["[1, 2]", "{\"usd\": 1", "[{}, 3]", "usd,at\n1\n", "no columns of ours\n1\n", "", "hello"] {
            assert!(read(bad, &Columns::default()).is_err(), "{bad}");
        }
        assert_eq!(rows("usd,at\n"), []);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[{]?.{0,60}") {
            let _ = read(&text, &Columns::default());
        }
    }
}

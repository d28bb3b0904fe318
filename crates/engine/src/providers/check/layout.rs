//! Where things stand in the text of a record.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error};

/// A place in a record: the keys that lead to it, and the numbers of elements, from its root on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct At(Vec<String>);

impl At {
    /// The place of a dotted name, such as `wire.generate`.
    pub(super) fn of(name: &str) -> At {
        At(name.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect())
    }

    /// One step further.
    pub(super) fn to<S: ToString + ?Sized>(&self, step: &S) -> At {
        At(self.0.iter().cloned().chain([step.to_string()]).collect())
    }

    /// How many steps it is from the root.
    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }

    /// All steps of another place further.
    pub(super) fn join(&self, tail: &At) -> At {
        At(self.0.iter().chain(&tail.0).cloned().collect())
    }

    /// The first place that `message` names with a dotted name that begins with `section`, below this place.
    pub(super) fn named_in(&self, section: &str, message: &str) -> At {
        let words = message.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
        let dotted = format!("{section}.");
        let named = words.map(|word| word.trim_end_matches('.')).find(|word| word.starts_with(&dotted));
        self.join(&At::of(named.unwrap_or(section)))
    }
}

/// The tables of a text, each key and value with its place in it.
#[derive(Clone, Debug)]
pub(super) struct Layout<'t>(Spanned<DeTable<'t>>);

impl<'t> Layout<'t> {
    /// Reads the grammar of TOML.
    ///
    /// # Errors
    /// All faults against it.
    pub(super) fn of(text: &'t str) -> Result<Layout<'t>, Vec<Error>> {
        let (root, faults) = DeTable::parse_recoverable(text);
        if faults.is_empty() { Ok(Layout(root)) } else { Err(faults) }
    }

    /// The text as a value of that type.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(toml::de::Deserializer::from(self.0.clone()))
    }

    /// How many steps of a place there are, and what to underline: the value, or the name of a table. Where the place
    /// is not there, that of the nearest thing around it.
    pub(super) fn span(&self, at: &At) -> (usize, Range<usize>) {
        let mut found = 0..0;
        let mut table = Some(self.0.get_ref());
        let mut list: Option<&DeArray<'t>> = None;
        for (depth, step) in at.0.iter().enumerate() {
            let (name, value) = match (table, list) {
                (Some(table), _) => match table.get_key_value(step.as_str()) {
                    Some((name, value)) => (name.span(), value),
                    None => return (depth, found),
                },
                (None, Some(list)) => match step.parse().ok().and_then(|index: usize| list.get(index)) {
                    Some(value) => (value.span(), value),
                    None => return (depth, found),
                },
                (None, None) => return (depth, found),
            };
            (table, list) = match value.get_ref() {
                DeValue::Table(table) => (Some(table), None),
                DeValue::Array(list) => (None, Some(list)),
                _ => (None, None),
            };
            found = if table.is_some() || list.is_some() { name } else { value.span() };
        }
        (at.0.len(), found)
    }

    /// Takes out the innermost entry whose key or value has that place in the text. Returns the place of what it was in.
    pub(super) fn cut(&mut self, span: &Range<usize>) -> Option<Range<usize>> {
        let root = self.0.span();
        cut_table(self.0.get_mut(), &root, span)
    }
}

fn cut_table(table: &mut DeTable<'_>, own: &Range<usize>, span: &Range<usize>) -> Option<Range<usize>> {
    if let Some(found) = table.iter_mut().find_map(|(_, value)| cut_within(value, span)) {
        return Some(found);
    }
    let is_it = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| key.span() == *span || value.span() == *span;
    let key = table.iter().find(|entry| is_it(*entry)).map(|(key, _)| key.clone())?;
    table.remove(&key).map(|_| own.clone())
}

fn cut_within(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Range<usize>> {
    let own = value.span();
    match value.get_mut() {
        DeValue::Table(table) => cut_table(table, &own, span),
        DeValue::Array(list) => {
            if let Some(found) = list.iter_mut().find_map(|element| cut_within(element, span)) {
                return Some(found);
            }
            let before = list.len();
            let mut kept = DeArray::new();
            list.iter().filter(|element| element.span() != *span).for_each(|element| kept.push(element.clone()));
            *list = kept;
            (list.len() < before).then_some(own)
        }
        _ => None,
    }
}

//! The list of models of OpenRouter: `data`, a list of models with `pricing` in texts, per token, picture or request.

use super::amount;
use super::quote::Quote;
use super::raw::Node;
use super::{LeftOut, Row, Sheet, Unreadable};
use crate::domain::Usd;

pub(super) fn read(text: &str) -> Result<Sheet, Unreadable> {
    let models = Node::of(text).map_err(Unreadable)?.get("data").and_then(Node::elements);
    let models =
        models.ok_or_else(|| Unreadable("an openrouter sheet has its models in the list `data`".to_owned()))?;
    let mut sheet = Sheet::default();
    for model in models {
        let makes = model.at("architecture.output_modalities").and_then(Node::elements).unwrap_or_default();
        let Some(name) = model.get("id").and_then(Node::text) else {
            sheet.left_out.push(LeftOut::new("?", "it has no id"));
            continue;
        };
        if !makes.into_iter().any(|kind| kind.text().as_deref() == Some("image")) {
            sheet.others += 1;
            continue;
        }
        match quote(model) {
            Ok(quote) => {
                let (provider, model) = match name.split_once('/') {
                    Some((provider, model)) => (Some(provider.to_owned()), model.to_owned()),
                    None => (None, name.clone()),
                };
                sheet.rows.push(Row { name, provider, model, quote });
            }
            Err(why) => sheet.left_out.push(LeftOut::new(name, why)),
        }
    }
    Ok(sheet)
}

fn quote(model: Node<'_>) -> Result<Quote, String> {
    let pricing = model.get("pricing").and_then(Node::entries).unwrap_or_default();
    let rate = |key: &str| match pricing.get(key).and_then(|node| node.text()) {
        None => Ok(None),
        // A text without digits is a price that nobody filled in.
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => amount::usd(&text, 1, 1).map(|usd| Some(usd).filter(|usd| *usd > Usd::ZERO)),
    };
    if rate("request")?.is_some() {
        return Err(
            "it has a price per request beside that per token, which cannot be told from one per picture".to_owned()
        );
    }
    // `image` is the price of a picture that is sent, not of one that is made.
    let Some(image_output) = rate("image_output")? else {
        return Err("it has no price for the pictures that it makes".to_owned());
    };
    Ok(Quote {
        image_output: Some(image_output),
        text_input: rate("prompt")?,
        image_input: rate("image_token")?,
        text_output: rate("completion")?,
        ..Quote::default()
    })
}

//! What steps cost.

use mimeo::domain::{ImageRequest, Price, Size};
use mimeo::providers::Catalogue;
use mimeo::providers::model::{Bounds, Model};
use mimeo_bench::Result;
use mimeo_bench::report::{Cell, Table, count, text};

use crate::score::Score;

/// The size that every picture is counted as.
const SIZE: Size = Size::Exact(1024, 1024);

/// A model whose price goes by steps.
#[derive(Debug)]
pub struct StepPrice {
    model: Model,
    /// The steps that it takes.
    pub bounds: Bounds,
    /// The fixed number of steps to compare with.
    pub steps: u32,
}

impl StepPrice {
    /// `name` is `PROVIDER/MODEL` of the catalogue.
    ///
    /// # Errors
    /// There is no such model, it does not take so many steps, or its price does not depend on them.
    pub fn of(name: &str, steps: u32) -> Result<StepPrice> {
        let (provider, id) = name.split_once('/').ok_or("write --model PROVIDER/MODEL")?;
        let catalogue = Catalogue::embedded();
        let model = catalogue.record(provider).and_then(|record| record.models.iter().find(|model| model.id == id));
        let model = model.ok_or_else(|| format!("there is no model {name} in the catalogue"))?.clone();
        let bounds = model.steps.ok_or_else(|| format!("{name} takes no steps"))?;
        if !(bounds.min..=bounds.max).contains(&steps) {
            return Err(format!("{name} takes {} to {} steps", bounds.min, bounds.max).into());
        }
        let price = StepPrice { model, bounds, steps };
        if price.of_steps(steps) <= price.of_steps(bounds.min) {
            return Err(format!("the price of {name} does not go by steps").into());
        }
        Ok(price)
    }

    /// What one picture costs, in pico-dollars; 0 if nobody knows.
    pub fn of_steps(&self, steps: u32) -> i128 {
        let request = ImageRequest { size: SIZE, steps: Some(steps), ..ImageRequest::generate("a kite") };
        match self.model.expected(&request, 1, 0) {
            Price::Known(usd) => usd.pico(),
            Price::Unknown => 0,
        }
    }
}

/// What is spent with a fixed number of steps, with the classifier, and with nothing but right answers.
pub fn table(scores: &[Score], price: &StepPrice) -> Table {
    let note = format!(
        "Every picture is {SIZE} by {} of the catalogue, the fixed number is {} steps. Labels: half of the steps wherever a \
         careful person says so, which nobody can beat without hurrying something. Hurried: pictures that need all steps and \
         get fewer, so that their quality is at risk. Missed: pictures that would do with half and get all.",
        price.model.title(),
        price.steps
    );
    let columns =
        ["set", "pictures", "fixed USD", "classifier USD", "saved %", "labels %", "need all", "hurried", "missed"];
    let mut table = Table::new("Money", note, &columns);
    for score in scores {
        let pictures = score.set.prompts.len();
        let fixed = price.of_steps(price.steps) * pictures as i128;
        let by_labels: i128 = score
            .pairs()
            .map(|pair| price.of_steps(if pair.label.is_easy { price.steps.div_ceil(2) } else { price.steps }))
            .sum();
        let usd = |pico: f64| Cell::Number(pico / 1e12, 2);
        let saved = score.saved(price);
        table.row(vec![
            text(score.set.name),
            count(pictures as u32),
            usd(fixed as f64),
            usd(fixed as f64 * (1.0 - saved)),
            Cell::Number(100.0 * saved, 1),
            Cell::Number(100.0 * (1.0 - by_labels as f64 / fixed as f64), 1),
            count(score.pairs().filter(|pair| !pair.label.is_easy).count() as u32),
            count(score.hurried() as u32),
            count(score.missed() as u32),
        ]);
    }
    table
}

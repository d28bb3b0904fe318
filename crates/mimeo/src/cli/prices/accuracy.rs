//! `mimeo prices accuracy`.

use super::super::{Common, Outcome, print, print_json, table::table};
use crate::clock::Clock;
use crate::config::Environment;
use crate::prices::accuracy;

pub(super) async fn run(common: &Common, json: bool, environment: &Environment) -> Outcome {
    let store = common.store(environment)?;
    let models = accuracy(&store, Clock::System.now()).await?;
    if json {
        return print_json(&models);
    }
    if models.is_empty() {
        eprintln!("No call of the last 30 days was settled whose price was known before.");
        return Ok(());
    }
    let percent = |part: Option<f64>| part.map_or_else(|| "–".to_owned(), |part| format!("{:.1} %", part * 100.0));
    let rows = models.iter().map(|model| {
        vec![
            format!("{}/{}", model.provider, model.model),
            model.quality.clone().unwrap_or_default(),
            model.settled.to_string(),
            format!("${}", model.set_aside_usd),
            format!("${}", model.estimated_usd),
            format!("${}", model.spent_usd),
            percent(model.bound_error),
            percent(model.error),
        ]
    });
    let header = ["model", "quality", "settled", "set aside", "estimated", "spent", "bound off by", "estimate off by"];
    print(&table(&header, rows, &[2, 3, 4, 5, 6, 7]))
}

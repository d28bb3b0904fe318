//! `mimeo ledger reconcile`: settles what is in suspense from a provider's usage export.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::clock::rfc3339;
use crate::domain::Usd;
use crate::ledger::Ledger;
use crate::ledger::reconcile::{Columns, Comparison, Finding, Reconciliation, Row, Terms, Verdict, export};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    /// The provider's usage export: CSV with a header line, a JSON array, or JSON lines
    file: PathBuf,
    /// Whose export it is, by its name in the configuration. Without it only rows that name an attempt count
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// In which columns what is, if not in `at`, `usd` and `model`: id=COLUMN,at=COLUMN,usd=COLUMN,model=COLUMN.
    /// A column that holds att_… is found without it
    #[arg(long)]
    map: Option<Columns>,
    /// How far the time of a row may be from the beginning of its call, in seconds. At least as long as a call takes
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    window: u32,
    /// The export is complete: release what no row of it may be, where it covers the time
    #[arg(long, requires = "provider")]
    absent_means_unbilled: bool,
    /// Write it to the ledger, in place of only showing it
    #[arg(long)]
    apply: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, ledger: &Ledger) -> Outcome {
    let place = arguments.file.display();
    let text =
        std::fs::read_to_string(&arguments.file).map_err(|error| Failure::Failed(format!("{place}: {error}")))?;
    let columns = arguments.map.unwrap_or_default();
    let rows = export::read(&text, &columns).map_err(|why| Failure::Failed(format!("{place}: {why}")))?;
    let terms = Terms {
        provider: arguments.provider,
        window: Duration::from_secs(u64::from(arguments.window)),
        absent_means_unbilled: arguments.absent_means_unbilled,
    };
    let mut reconciliation = ledger.reconcile(&rows, &terms).await?;
    if arguments.apply {
        ledger.settle(&mut reconciliation).await?;
    }
    if arguments.json {
        return print_json(&reconciliation);
    }
    show(&reconciliation)
}

fn show(reconciliation: &Reconciliation) -> Outcome {
    let Reconciliation { applied, attempts, settled } = reconciliation;
    if attempts.is_empty() {
        eprintln!("Nothing is in suspense.");
    } else {
        let dollars = |usd: Option<Usd>, none: &str| usd.map_or_else(|| none.to_owned(), |usd| format!("${usd}"));
        let lines = attempts.iter().map(|finding| {
            vec![
                finding.attempt.to_string(),
                finding.at.clone(),
                dollars(finding.up_to_usd, "unknown"),
                finding.decision.name().to_owned(),
                dollars(finding.billed_usd, ""),
                why(finding),
            ]
        });
        print(&table(&["attempt", "at", "up to", "decision", "billed", "why"], lines, &[2, 4]))?;
    }
    if settled.attempts > 0 {
        print(&compared(settled))?;
    }
    let decided = attempts.iter().filter(|finding| finding.decision != Verdict::Open).count();
    match (applied, decided, attempts.len() - decided) {
        (true, _, 0) => {}
        (true, _, _) => eprintln!("What is open: mimeo ledger resolve ATTEMPT --billed USD (or --release)"),
        (false, 0, _) => {}
        (false, _, _) => eprintln!("Nothing was changed. Write the decisions to the ledger with --apply."),
    }
    Ok(())
}

/// How many candidates a line of the table names; `--json` has them all.
const SHOWN: usize = 3;

/// Why, and which rows and other attempts leave it open.
fn why(finding: &Finding) -> String {
    let rows = few(finding.candidates.iter().map(brief));
    let rivals = few(finding.rivals.iter().map(ToString::to_string));
    match (rows.is_empty(), rivals.is_empty()) {
        (true, _) => finding.why.clone(),
        (false, true) => format!("{}: {rows}", finding.why),
        (false, false) => format!("{}: {rows}; which may be {rivals} as well", finding.why),
    }
}

fn few(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let shown = all.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn brief(row: &Row) -> String {
    let at = row.at_ms.map(|at| format!(" at {}", rfc3339(at))).unwrap_or_default();
    let usd = row.usd.map(|usd| format!(" of ${usd}")).unwrap_or_default();
    format!("row {}{at}{usd}", row.number)
}

fn compared(settled: &Comparison) -> String {
    let Comparison { attempts, export_usd, ledger_usd, differing } = settled;
    let mut text = format!(
        "settled before, and named by rows: {attempts}, ${export_usd} in the export, ${ledger_usd} in the ledger, \
         difference ${}\n",
        *export_usd - *ledger_usd
    );
    for difference in differing.iter().take(SHOWN) {
        text.push_str(&format!(
            "  {}: ${} in the export, ${} in the ledger\n",
            difference.attempt, difference.export_usd, difference.ledger_usd
        ));
    }
    if differing.len() > SHOWN {
        text.push_str(&format!("  and {} more (--json has them all)\n", differing.len() - SHOWN));
    }
    text
}

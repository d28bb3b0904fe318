//! `mimeo classify`: how a request would be read, and why. Nothing is made and nothing is paid.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::classify::{Classifier, Reading};
use crate::config::Environment;
use crate::domain::request::canonical_text;
use crate::domain::{Call, Caller, ImageRequest, InputPicture, Operation, RequestId, Size};

/// What a full number of steps is, where it is shown.
const SHOWN_OF: f32 = 50.0;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Configuration file, for rules and an endpoint [default: mimeo.toml, if it is there]
    #[arg(long, env = "MIMEO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The prompt
    prompt: String,
    /// A picture that is sent along, to be edited
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// WIDTHxHEIGHT in pixels, or auto
    #[arg(long, default_value = "auto")]
    size: Size,
    /// What the caller says that it is for
    #[arg(long)]
    purpose: Option<String>,
    /// What the caller says that it shows
    #[arg(long)]
    category: Option<String>,
    /// The model or route that the caller names, for rules that are about it
    #[arg(long, short)]
    model: Option<String>,
    /// Print the reading as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let common = Common { config: arguments.config.clone(), data: None };
    let config = common.config(None)?;
    let classifier = Classifier::new(&config.classifier, environment).map_err(|faults| {
        let file = common.file();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let faults = faults.iter().map(|fault| crate::app::classifier_fault(&file, fault).located(&text));
        Failure::Config(faults.collect())
    })?;
    let call = call(&arguments)?;
    let reading = classifier.read_with_endpoint(&call).await;
    let share = reading.share();
    if arguments.json {
        let mut value = serde_json::to_value(&reading).map_err(|error| Failure::Failed(error.to_string()))?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("steps_share".to_owned(), share.into());
        }
        return print_json(&value);
    }
    print(&shown(&reading, share))
}

fn shown(reading: &Reading, share: f32) -> String {
    let steps = match reading.steps {
        Some(steps) => format!("{steps}, as a rule says"),
        None => format!("{:.0} % of the model's own: {:.0} of {SHOWN_OF:.0}", 100.0 * share, (SHOWN_OF * share).ceil()),
    };
    let rows = [
        ("purpose", reading.purpose.name().to_owned()),
        ("category", reading.category.clone()),
        ("background", reading.background.name().to_owned()),
        ("complexity", format!("{:.2}", reading.complexity)),
        ("steps", steps),
        ("source", reading.source.name()),
    ];
    let mut out = table(&["reading", ""], rows.map(|(name, value)| vec![name.to_owned(), value]), &[]);
    for reason in &reading.why {
        out.push_str(&format!("  {reason}\n"));
    }
    out
}

fn call(arguments: &Arguments) -> Result<Call, Failure> {
    let mut request = ImageRequest::generate(canonical_text(&arguments.prompt));
    request.size = arguments.size;
    if let Some(path) = &arguments.image {
        request.operation = Operation::Edit;
        request.inputs.push(InputPicture { picture: picture(path)?, file_name: None });
    }
    Ok(Call {
        model: arguments.model.clone(),
        purpose: arguments.purpose.clone(),
        category: arguments.category.clone(),
        ..Call::new(RequestId::random(), Caller::local(), request)
    })
}

fn picture(path: &Path) -> Result<crate::domain::Picture, Failure> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", path.display())))?;
    crate::media::examine(bytes.into()).map_err(|bad| Failure::Failed(format!("{}: {bad}", path.display())))
}

//! `mimeo generate`: one request through the same pipeline as over HTTP, on the same data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::{Common, Failure, Outcome, color, print};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Environment;
use crate::domain::{Answer, CachePolicy, Call, Caller, Format, ImageRequest, Price, Size};

/// The encodings that every model's pictures can be brought to.
const CAN_BE_MADE: [Format; 3] = [Format::Png, Format::Jpeg, Format::Webp];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// What to draw
    prompt: String,
    /// A route or a model [default: the route `auto`, or the only one]
    #[arg(long, short)]
    model: Option<String>,
    /// WIDTHxHEIGHT in pixels, or auto
    #[arg(long, default_value = "auto")]
    size: Size,
    /// Quality in the model's vocabulary
    #[arg(long)]
    quality: Option<String>,
    /// How many pictures (1–10)
    #[arg(short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    n: u32,
    /// File to write, in the encoding that its name ends in (png, jpg, webp); several pictures are numbered. `-` writes to stdout [default: by its id]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Tell how it was chosen, made and paid
    #[arg(long)]
    explain: bool,
    /// Make a new picture even if there is one
    #[arg(long)]
    no_cache: bool,
    /// Pay again, although the same was sent before and nobody knows what came of it
    #[arg(long)]
    retry_unknown: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let mut config = arguments.common.config(None)?;
    let sandbox = arguments.common.sandbox(&mut config, environment).await?;
    let app = App::open(arguments.common.blueprint(config, environment)?, Clock::System)?;
    app.recover().await?;
    let progress = if color(environment, true) { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    progress.set_message("making it …");
    progress.enable_steady_tick(Duration::from_millis(120));
    let answer = app.pipeline.run(call(&arguments, app.pipeline.new_request_id()), None).await;
    progress.finish_and_clear();
    let written = match answer {
        Ok(mut answer) => {
            app.pipeline.bring(&mut answer, false).await;
            deliver(&arguments, &answer)
        }
        Err(error) => Err(error.into()),
    };
    // Whatever came of it: what is paid is finished and written down.
    app.close().await;
    if let Some(sandbox) = sandbox {
        sandbox.stop().await;
    }
    written
}

fn call(arguments: &Arguments, id: crate::domain::RequestId) -> Call {
    let mut request = ImageRequest::generate(crate::domain::request::canonical_text(&arguments.prompt));
    request.size = arguments.size;
    request.quality.clone_from(&arguments.quality);
    // A file that is called kite.png is to be one. What else it is called says nothing.
    let extension = arguments.output.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str());
    request.output_format = extension.and_then(Format::from_name).filter(|format| CAN_BE_MADE.contains(format));
    let mode = if arguments.no_cache { crate::domain::CacheMode::NoCache } else { crate::domain::CacheMode::Default };
    Call {
        model: arguments.model.clone(),
        n: arguments.n,
        cache: CachePolicy { mode, ..CachePolicy::default() },
        retry_unknown: arguments.retry_unknown,
        explain: arguments.explain,
        ..Call::new(id, Caller::local(), request)
    }
}

fn deliver(arguments: &Arguments, answer: &Answer) -> Outcome {
    for (index, delivered) in answer.pictures.iter().enumerate() {
        let picture = &delivered.picture;
        let path = match &arguments.output {
            Some(path) if path.as_os_str() == "-" => {
                use std::io::Write as _;
                std::io::stdout().lock().write_all(&picture.bytes)?;
                continue;
            }
            Some(path) if answer.pictures.len() == 1 => path.clone(),
            Some(path) => numbered(path, index + 1),
            None => PathBuf::from(format!(
                "{}.{}",
                picture.digest.to_string().get(..16).unwrap_or("picture"),
                picture.format
            )),
        };
        std::fs::write(&path, &picture.bytes)
            .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))?;
        print(&format!("{}\n", path.display()))?;
    }
    let cost = match answer.cost {
        Price::Known(usd) => format!("${usd}"),
        Price::Unknown => "an unknown amount".to_owned(),
    };
    eprintln!(
        "{} by {}/{}, cost {cost}, saved ${}{}",
        answer.source.name(),
        answer.provider,
        answer.model,
        answer.saved,
        if answer.simulated { " (simulated)" } else { "" }
    );
    answer.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    answer.explain.iter().for_each(|line| eprintln!("  {line}"));
    Ok(())
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{number}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{number}"),
    };
    path.with_file_name(name)
}

//! `mimeo demo`: no configuration, no key, no network. A real gateway on a free loopback port, a simulated
//! paid provider behind it, real requests through the OpenAI API, and the bill.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Failure, Outcome, color, print, serve::Signals};
use crate::app::{App, Blueprint, Stop};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::domain::Usd;
use crate::net::Clients;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for the pictures
    #[arg(long, short, default_value = "mimeo-demo", value_name = "DIR")]
    output: PathBuf,
    /// Leave the gateway running and print its address
    #[arg(long)]
    keep: bool,
}

/// How long the simulated provider takes for a picture.
const LATENCY: Duration = Duration::from_millis(700);
/// Callers who ask for the same picture at once.
const CROWD: usize = 50;

/// What one request came to.
struct Shown {
    cache: String,
    provider: String,
    model: String,
    cost: String,
    saved: String,
    picture: Vec<u8>,
    explain: Vec<String>,
    elapsed: Duration,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let colors = color(environment, std::io::stdout().is_terminal());
    std::fs::create_dir_all(&arguments.output)
        .map_err(|error| Failure::Failed(format!("{}: {error}. Choose another with -o", arguments.output.display())))?;
    let data = std::env::temp_dir().join(format!("mimeo-demo-{:032x}", crate::domain::id::random()));
    let outcome = tour(&arguments, &data, colors).await;
    let _ = std::fs::remove_dir_all(&data);
    outcome
}

async fn tour(arguments: &Arguments, data: &Path, colors: bool) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    std::fs::create_dir_all(data)?;
    let sandbox = mimeo_sandbox::start(mimeo_sandbox::Options {
        book: Some(data.join("invoices.jsonl")),
        latency: LATENCY,
        ..mimeo_sandbox::Options::default()
    })
    .await
    .map_err(|error| failed(&error))?;
    // A port that was free a moment ago and that nobody listens on: a provider that is down.
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let text = format!(
        "[storage]\npath = '{}'\n\
         [providers.sandbox]\nbase_url = '{}/native/v1'\n\
         [providers.down]\nrecord = 'sandbox'\nbase_url = 'http://{closed}/native/v1'\n\
         [routes.hero]\ncandidates = ['down/premium', 'sandbox/premium']\n",
        data.display(),
        sandbox.url()
    );
    let config = Config::parse(&text, Path::new("demo.toml")).map_err(Failure::Config)?;
    let blueprint =
        Blueprint::draw(config, &Environment::default(), Path::new("demo.toml")).map_err(Failure::Config)?;
    let app = App::open(blueprint, Clock::System)?;
    app.begin().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let pipeline = std::sync::Arc::clone(&app.pipeline);
    let stop = Stop::default();
    let tasks = tokio_util::task::TaskTracker::new();
    let serving = tasks.spawn(app.serve(listener, stop.clone()));

    let shown = visit(arguments, &base, colors).await;
    let outcome = match shown {
        Ok(()) => bill(&pipeline, &sandbox, arguments, colors).await,
        Err(failure) => Err(failure),
    };
    if arguments.keep && outcome.is_ok() {
        eprintln!("\nThe gateway is at {base}/v1 until you press Ctrl-C. Try it:");
        eprintln!("  curl {base}/v1/models");
        Signals::heed()?.next().await;
    }
    stop.asked.cancel();
    serving.await.map_err(|error| failed(&error))?;
    sandbox.stop().await;
    outcome
}

/// The requests, one after another.
async fn visit(arguments: &Arguments, base: &str, colors: bool) -> Outcome {
    let heading = |text: &str| if colors { format!("\x1b[1m{text}\x1b[0m\n") } else { format!("{text}\n") };
    let client = Clients::default();
    let client = client.plain().map_err(|error| Failure::Failed(error.to_string()))?;
    let card = json!({
        "template": "article", "explain": true,
        "data": { "title": "We stopped paying twice for the same picture", "author": "Ada Lovelace", "tag": "Engineering" },
    });
    print(&heading("1. A card from a template, drawn in this process"))?;
    let first = ask(client, base, &card).await?;
    tell(&first)?;
    save(arguments, "1-card", &first)?;
    print(&heading("2. The same card again, its fields in another order"))?;
    let again = json!({
        "data": { "tag": "Engineering", "author": "Ada Lovelace", "title": "We stopped paying twice for the same picture" },
        "template": "article",
    });
    tell(&ask(client, base, &again).await?)?;

    print(&heading(&format!("3. {CROWD} callers ask for the same new picture at once")))?;
    let kite = json!({ "model": "sandbox/standard", "prompt": "a red kite over a green hill", "size": "1024x1024" });
    let bar = ProgressBar::new(CROWD as u64);
    bar.set_style(
        ProgressStyle::with_template("   {bar:40} {pos}/{len} answered")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let crowd = (0..CROWD).map(|_| async {
        let shown = ask(client, base, &kite).await;
        bar.inc(1);
        shown
    });
    let crowd = futures_util::future::join_all(crowd).await;
    bar.finish_and_clear();
    let crowd = crowd.into_iter().collect::<Result<Vec<_>, _>>()?;
    let made = crowd.iter().filter(|shown| shown.cache == "miss").count();
    let equal = crowd.windows(2).all(|pair| pair.iter().all(|shown| shown.picture == crowd[0].picture));
    print(&format!("   {made} made and paid, {} joined it; all pictures equal: {equal}\n", CROWD - made))?;
    if let Some(one) = crowd.first() {
        save(arguments, "3-kite", one)?;
    }

    print(&heading("4. One more caller, later"))?;
    tell(&ask(client, base, &kite).await?)?;

    print(&heading("5. A route whose first provider is down"))?;
    let hero =
        json!({ "model": "hero", "prompt": "a lighthouse at dawn, wide view", "size": "1536x1024", "explain": true });
    let routed = ask(client, base, &hero).await?;
    tell(&routed)?;
    for line in &routed.explain {
        print(&format!("     {line}\n"))?;
    }
    save(arguments, "5-lighthouse", &routed)
}

async fn bill(
    pipeline: &std::sync::Arc<crate::pipeline::Pipeline>,
    sandbox: &mimeo_sandbox::Sandbox,
    arguments: &Arguments,
    colors: bool,
) -> Outcome {
    let report = pipeline.ledger(&crate::pipeline::LedgerQuery::default()).await?;
    let book = sandbox.book().totals();
    let naive = report.totals.spent_usd + report.totals.saved_usd;
    let bold = |text: String| if colors { format!("\x1b[1m{text}\x1b[0m") } else { text };
    print("\n")?;
    print(&format!("{}\n", bold("The bill (simulated money)".into())))?;
    print(&format!("  without Mimeo         ${naive}\n"))?;
    for layer in report.saved_by_layer.iter().filter(|layer| !layer.saved_usd.is_zero()) {
        let word = match layer.layer.as_str() {
            "join" => "joined one under way ",
            "hit" => "already stored ",
            other => other,
        };
        print(&format!("  {word:<22}−${} ({} pictures)\n", layer.saved_usd, layer.pictures))?;
    }
    print(&format!("  {}\n", bold(format!("spent                 ${}", report.totals.spent_usd))))?;
    let book_usd: Usd = book.billed_usd.to_string().parse().unwrap_or(Usd::ZERO);
    print(&format!("  provider's own book   ${book_usd} for {} pictures\n", book.pictures))?;
    if book_usd != report.totals.spent_usd {
        return Err(Failure::Failed("the ledger does not equal the invoice book: this is a bug".into()));
    }
    eprintln!("\nPictures are in {}/", arguments.output.display());
    Ok(())
}

async fn ask(client: &reqwest::Client, base: &str, body: &Value) -> Result<Shown, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let started = tokio::time::Instant::now();
    let response = client
        .post(format!("{base}/v1/images/generations"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .map_err(|error| failed(&error))?;
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("–").to_owned();
    let (cache, provider, model) = (header("x-mimeo-cache"), header("x-mimeo-provider"), header("x-mimeo-model"));
    let (cost, saved) = (header("x-mimeo-cost-usd"), header("x-mimeo-saved-usd"));
    let status = response.status();
    let body = response.bytes().await.map_err(|error| failed(&error))?;
    let json: Value = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    if !status.is_success() {
        return Err(Failure::Failed(format!("the gateway answered {status}: {}", json["error"]["message"])));
    }
    let text = json["data"][0]["b64_json"].as_str().unwrap_or_default();
    let picture = base64_simd::STANDARD.decode_to_vec(text).map_err(|error| failed(&error))?;
    let explain = json["mimeo"]["explain"].as_array().into_iter().flatten();
    let explain = explain.filter_map(|line| line.as_str().map(str::to_owned)).collect();
    Ok(Shown { cache, provider, model, cost, saved, picture, explain, elapsed: started.elapsed() })
}

fn tell(shown: &Shown) -> Outcome {
    print(&format!(
        "   {:<5} {}/{}, cost ${}, saved ${}, {} KB in {} ms\n",
        shown.cache,
        shown.provider,
        shown.model,
        shown.cost,
        shown.saved,
        shown.picture.len() / 1000,
        shown.elapsed.as_millis()
    ))
}

fn save(arguments: &Arguments, name: &str, shown: &Shown) -> Outcome {
    let extension = crate::media::sniff(&shown.picture).map_or("bin", crate::domain::Format::name);
    let path = arguments.output.join(format!("{name}.{extension}"));
    std::fs::write(&path, &shown.picture)
        .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))?;
    print(&format!("   → {}\n", path.display()))
}

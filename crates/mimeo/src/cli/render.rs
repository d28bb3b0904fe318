//! `mimeo render`: a template, drawn in this process. No store, no network.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::config::Environment;
use crate::domain::Size;
use crate::render::{FieldKind, Format, RenderJob, RenderOptions, Renderer};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Configuration file, for templates and fonts of your own [default: mimeo.toml, if it is there]
    #[arg(long, env = "MIMEO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The template; without one, the templates are listed
    template: Option<String>,
    /// JSON file with the data (`-` reads stdin)
    #[arg(long, value_name = "FILE.json")]
    data: Option<PathBuf>,
    /// One field of the data: a JSON value, else text; goes before --data
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Use the template's own sample data, under what --data and --set say
    #[arg(long)]
    sample: bool,
    /// WIDTHxHEIGHT in pixels [default: the template's]
    #[arg(long, default_value = "auto")]
    size: Size,
    /// 1–100, for JPEG and WebP
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// File to write; its ending (png, jpg, webp) decides the format
    #[arg(short, long, value_name = "FILE", requires = "template")]
    output: Option<PathBuf>,
    /// List the templates and their fields as JSON
    #[arg(long, conflicts_with_all = ["template", "output"])]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, _: &Environment) -> Outcome {
    let config = Common { config: arguments.config.clone(), data: None }.config(None)?;
    let options = RenderOptions {
        templates_dir: config.render.templates.clone(),
        fonts_dir: config.render.fonts.clone(),
        ..RenderOptions::default()
    };
    let renderer = Renderer::new(options).map_err(|fault| Failure::Failed(fault.to_string()))?;
    let Some(name) = &arguments.template else { return list(&renderer, arguments.json) };
    let template = renderer.template(name).ok_or_else(|| {
        let known: Vec<&str> = renderer.templates().map(|template| template.id.as_str()).collect();
        Failure::Failed(format!("there is no template {name}; there are {}", known.join(", ")))
    })?;
    let mut data = if arguments.sample { object(template.sample.clone())? } else { Map::new() };
    if let Some(path) = &arguments.data {
        data.extend(object(read(path)?)?);
    }
    for setting in &arguments.set {
        let (field, value) =
            setting.split_once('=').ok_or_else(|| Failure::Usage(format!("--set {setting}: write FIELD=VALUE")))?;
        data.insert(field.to_owned(), value_of(template, field, value));
    }
    let Some(output) = &arguments.output else { return Err(Failure::Usage("name a file with -o".into())) };
    let format = match output.extension().and_then(|extension| extension.to_str()) {
        Some("png") => Format::Png,
        Some("jpg" | "jpeg") => Format::Jpeg,
        Some("webp") => Format::WebP,
        _ => return Err(Failure::Usage("the file must end in .png, .jpg or .webp".into())),
    };
    let size = match arguments.size {
        Size::Auto => None,
        Size::Exact(width, height) => Some((width, height)),
    };
    let data = Value::Object(data);
    let job = RenderJob { template: name, data: &data, size, scale: 1.0, format, quality: arguments.quality };
    let drawn = renderer.render(&job).map_err(|error| Failure::Failed(error.to_string()))?;
    std::fs::write(output, &drawn.bytes)
        .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", output.display())))?;
    print(&format!("{}\n", output.display()))
}

/// Text stays text where the template wants text, whatever it looks like.
fn value_of(template: &crate::render::Template, field: &str, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match template.fields.iter().find(|known| known.name == field) {
        Some(known) if known.kind == FieldKind::Text => as_text(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| as_text()),
    }
}

fn read(path: &std::path::Path) -> Result<Value, Failure> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", path.display())))?
    };
    serde_json::from_str(&text).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

fn object(value: Value) -> Result<Map<String, Value>, Failure> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Failure::Failed("the data must be a JSON object with one member per field".into())),
    }
}

fn list(renderer: &Renderer, json: bool) -> Outcome {
    if json {
        return print_json(&renderer.templates().collect::<Vec<_>>());
    }
    let rows = renderer.templates().map(|template| {
        let fields: Vec<String> = template
            .fields
            .iter()
            .map(|field| if field.required { format!("{}*", field.name) } else { field.name.clone() })
            .collect();
        vec![template.id.clone(), format!("{}x{}", template.width, template.height), fields.join(" ")]
    });
    print(&table(&["template", "size", "fields (* required)"], rows, &[]))
}

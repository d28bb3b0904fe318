//! Templates: a folder with `template.toml` (size, fields, text to fit) and `template.html`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Limits, RENDER_VERSION, RenderError, TemplateFault};

/// A picture made of HTML and CSS, with holes that data fill.
#[derive(Clone, Debug, Serialize)]
pub struct Template {
    /// Name of its folder.
    pub id: String,
    /// Changes with everything that decides how the same data look: template, renderer, fonts.
    pub version: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Width it was designed for, in pixels.
    pub width: u32,
    /// Height it was designed for, in pixels.
    pub height: u32,
    /// Smallest size it comes in.
    pub min_size: (u32, u32),
    /// Largest size it comes in.
    pub max_size: (u32, u32),
    /// The holes, in the order of `template.toml`.
    pub fields: Vec<Field>,
    /// Data that show it at its best: every field's example.
    pub sample: Value,
    /// Elements whose text is shrunk until it fits.
    #[serde(skip)]
    pub(super) fits: Vec<Fit>,
    /// The file the fits and fields come from, for faults.
    #[serde(skip)]
    pub(super) manifest_path: PathBuf,
    #[serde(skip)]
    pub(super) html_path: PathBuf,
}

/// One hole of a template.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Key in the data.
    pub name: String,
    /// What may be filled in.
    pub kind: FieldKind,
    /// Whether it must be filled in.
    #[serde(default)]
    pub required: bool,
    /// Value when it is not filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Longest text, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
    /// Least number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// What a choice is between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Its value in the sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// For pictures: a file of the template's folder that becomes the example.
    #[serde(default, skip_serializing)]
    example_file: Option<String>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A string. It is text and never markup.
    Text,
    /// A number.
    Number,
    /// `{"amount": "49.90", "currency": "EUR"}`; the amount may be a number as well.
    Money,
    /// `#rgb` or `#rrggbb`.
    Color,
    /// A `data:` URL of a PNG, JPEG or WebP.
    Image,
    /// `true` or `false`.
    Bool,
    /// One of the field's options.
    Choice,
}

/// An element whose text is drawn as large as its parent has room for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fit {
    /// `id` attribute of the element.
    pub id: String,
    /// Largest font size, in pixels of the designed size.
    pub max: f32,
    /// Smallest font size. Text that is too long even so is cut off with an ellipsis.
    pub min: f32,
    /// Most lines.
    pub lines: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    title: String,
    #[serde(default)]
    description: String,
    width: u32,
    height: u32,
    #[serde(default = "default_min_size")]
    min_size: (u32, u32),
    #[serde(default = "default_max_size")]
    max_size: (u32, u32),
    #[serde(default, rename = "field")]
    fields: Vec<Field>,
    #[serde(default, rename = "fit")]
    fits: Vec<Fit>,
}

fn default_min_size() -> (u32, u32) {
    (200, 200)
}

fn default_max_size() -> (u32, u32) {
    (4096, 4096)
}

/// The files of a template, wherever they come from.
pub(super) struct Source {
    pub id: String,
    /// Folder, for faults.
    pub folder: PathBuf,
    pub html: String,
    pub manifest: String,
    /// Other files of the folder.
    pub assets: BTreeMap<String, Vec<u8>>,
}

impl Source {
    /// The templates that come with the program.
    pub(super) fn built_in() -> Vec<Self> {
        macro_rules! built_in {
            ($id:literal $(, $asset:literal)*) => {
                Source {
                    id: $id.to_owned(),
                    folder: PathBuf::from($id),
                    html: include_str!(concat!("../../../../templates/", $id, "/template.html")).to_owned(),
                    manifest: include_str!(concat!("../../../../templates/", $id, "/template.toml")).to_owned(),
                    assets: BTreeMap::from([$((
                        $asset.to_owned(),
                        include_bytes!(concat!("../../../../templates/", $id, "/", $asset)).to_vec(),
                    ),)*]),
                }
            };
        }
        vec![built_in!("article"), built_in!("product", "sample.webp"), built_in!("quote")]
    }

    /// Every folder of `dir` that holds a `template.toml`.
    pub(super) fn in_folder(dir: &Path) -> Result<Vec<Self>, TemplateFault> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(|fault| TemplateFault::new(dir, fault))? {
            let folder = entry.map_err(|fault| TemplateFault::new(dir, fault))?.path();
            if folder.join("template.toml").is_file() {
                found.push(Self::read(folder)?);
            }
        }
        Ok(found)
    }

    fn read(folder: PathBuf) -> Result<Self, TemplateFault> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|fault| TemplateFault::new(path, fault))
        };
        let id = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if id.is_empty() || !id.chars().all(is_id) {
            let message = "a template's folder is named with a-z, 0-9, - and _ only";
            return Err(TemplateFault::new(folder, message));
        }
        let mut assets = BTreeMap::new();
        let entries = fs::read_dir(&folder).map_err(|fault| TemplateFault::new(&folder, fault))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if matches!(path.extension().and_then(|it| it.to_str()), Some("png" | "jpg" | "jpeg" | "webp"))
                && let Some(name) = path.file_name().and_then(|name| name.to_str())
            {
                let bytes = fs::read(&path).map_err(|fault| TemplateFault::new(&path, fault))?;
                assets.insert(name.to_owned(), bytes);
            }
        }
        Ok(Self { html: text("template.html")?, manifest: text("template.toml")?, id, assets, folder })
    }
}

impl Template {
    /// Reads the manifest and checks it. `fonts` is a digest of all fonts, as part of the version.
    pub(super) fn from_source(source: &Source, fonts: &blake3::Hash, limits: &Limits) -> Result<Self, TemplateFault> {
        let path = source.folder.join("template.toml");
        let mut manifest: Manifest = toml::from_str(&source.manifest).map_err(|fault| {
            let line = fault.span().map(|span| line_of(&source.manifest, span.start));
            TemplateFault::new(&path, fault.message()).at(line)
        })?;
        let at = |needle: &str| source.manifest.find(needle).map(|offset| line_of(&source.manifest, offset));
        for field in &mut manifest.fields {
            if let Some(file) = field.example_file.take() {
                let bytes = source.assets.get(&file).ok_or_else(|| {
                    TemplateFault::new(&path, format!("there is no file {file:?} in this folder")).at(at(&file))
                })?;
                field.example = Some(Value::String(data_url(&file, bytes)));
            }
        }
        let mut template = Self {
            id: source.id.clone(),
            version: version_of(source, fonts),
            title: manifest.title,
            description: manifest.description,
            width: manifest.width,
            height: manifest.height,
            min_size: manifest.min_size,
            max_size: manifest.max_size,
            sample: Value::Null,
            fields: manifest.fields,
            fits: manifest.fits,
            html_path: source.folder.join("template.html"),
            manifest_path: path.clone(),
        };
        template.check(limits).map_err(|(needle, message)| TemplateFault::new(&path, message).at(at(&needle)))?;
        Ok(template)
    }

    /// Says what is wrong, and a piece of text near it.
    fn check(&mut self, limits: &Limits) -> Result<(), (String, String)> {
        let fault = |needle: &str, message: String| Err((needle.to_owned(), message));
        if let Err(problem) = self.check_size(self.width, self.height) {
            return fault("width", problem.to_string());
        }
        for (index, field) in self.fields.iter().enumerate() {
            let quoted = format!("{:?}", field.name);
            if self.fields.iter().take(index).any(|other| other.name == field.name) {
                return fault(&quoted, format!("field {quoted} is there twice"));
            }
            if matches!(field.name.as_str(), "canvas" | "") {
                return fault(&quoted, format!("a field cannot be named {quoted}"));
            }
            if (field.kind == FieldKind::Choice) == field.options.is_empty() {
                return fault(&quoted, format!("field {quoted}: options belong to a choice, and only there"));
            }
            for value in field.default.iter().chain(&field.example) {
                if let Err(problem) = field.canonical(value, limits) {
                    return fault(&quoted, problem.to_string());
                }
            }
        }
        for fit in &self.fits {
            if !(fit.min > 0.0 && fit.min <= fit.max && fit.lines > 0) {
                return fault(&format!("{:?}", fit.id), format!("fit {:?}: need 0 < min <= max, lines > 0", fit.id));
            }
        }
        let examples: Map<String, Value> =
            self.fields.iter().filter_map(|field| Some((field.name.clone(), field.example.clone()?))).collect();
        self.sample = self
            .canonical_data(&Value::Object(examples), limits)
            .map_err(|problem| ("[[field]]".to_owned(), format!("the examples do not make a sample: {problem}")))?;
        Ok(())
    }

    /// Whether the template comes in this size.
    pub(super) fn check_size(&self, width: u32, height: u32) -> Result<(), RenderError> {
        let ((min_width, min_height), (max_width, max_height)) = (self.min_size, self.max_size);
        if (min_width..=max_width).contains(&width) && (min_height..=max_height).contains(&height) {
            return Ok(());
        }
        let problem = format!(
            "{} comes in {min_width}x{min_height} up to {max_width}x{max_height}, and is designed for {}x{}",
            self.id, self.width, self.height
        );
        Err(RenderError::Size { width, height, problem })
    }
}

/// Depends on everything that decides how the same data look, so that a cache key made from it does too.
fn version_of(source: &Source, fonts: &blake3::Hash) -> String {
    let mut hasher = blake3::Hasher::new();
    let assets = source.assets.values().map(Vec::as_slice);
    let parts = [RENDER_VERSION.as_bytes(), fonts.as_bytes(), source.html.as_bytes(), source.manifest.as_bytes()];
    for part in parts.into_iter().chain(assets) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn data_url(file: &str, bytes: &[u8]) -> String {
    let subtype = match Path::new(file).extension().and_then(|it| it.to_str()) {
        Some("png") => "png",
        Some("webp") => "webp",
        _ => "jpeg",
    };
    format!("data:image/{subtype};base64,{}", base64_simd::STANDARD.encode_to_string(bytes))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

//! Draws pictures from templates and data, in process: Open Graph cards, product cards, quotes.
//!
//! A template is a folder: `template.toml` lists the fields, `template.html` is HTML and CSS with holes. Data
//! are checked against the fields, filled in (always as text, never as markup), laid out, and painted. Text
//! shrinks until it fits its box. The same data give the same bytes: there is no clock, no randomness, no
//! system font and no network.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use minijinja::Environment;
use minijinja::value::{Serde, Value as Filled};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use takumi::prelude::{Bitmap, ImageSource, OutputFormat, Quality};

mod color;
mod data;
mod fault;
mod filters;
mod fit;
mod fonts;
mod money;
mod page;
mod picture;
mod template;
#[cfg(test)]
mod tests;

pub use fault::{RenderError, TemplateFault};
pub use template::{Field, FieldKind, Template};

use fonts::Library;
use page::{Page, REM};
use picture::Decoded;
use template::Source;

/// Part of every template's version. Must change when the same template and data look different: with the
/// layout engine, or with anything in this module that touches pixels.
const RENDER_VERSION: &str = "1 takumi 2.19.0";

/// Where templates and fonts are, and how much one picture may cost.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// Folder of further templates. One with the name of a built-in template replaces it.
    pub templates_dir: Option<PathBuf>,
    /// Folder of further fonts (ttf, otf, ttc, woff2), for scripts that the bundled fonts lack: Chinese,
    /// Japanese and Korean above all.
    pub fonts_dir: Option<PathBuf>,
    /// Bounds on one picture.
    pub limits: Limits,
}

/// Bounds on the work one picture may cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of the picture drawn, scale included.
    pub max_pixels: u64,
    /// Bytes of one picture in the data.
    pub max_image_bytes: usize,
    /// Pixels of one picture in the data; checked before it is decoded.
    pub max_image_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 16 << 20, max_image_bytes: 10 << 20, max_image_pixels: 32 << 20 }
    }
}

/// Draws templates. Cheap to clone; one is enough for a process.
#[derive(Clone)]
pub struct Renderer {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Renderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.inner.templates.keys()).finish()
    }
}

struct Inner {
    templates: BTreeMap<String, Template>,
    environment: Environment<'static>,
    fonts: Library,
    limits: Limits,
}

/// An encoding of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lossless.
    #[default]
    Png,
    /// Lossy, without transparency.
    Jpeg,
    /// Lossy; lossless at quality 100.
    WebP,
}

/// One picture to draw.
#[derive(Clone, Copy, Debug)]
pub struct RenderJob<'a> {
    /// Name of the template.
    pub template: &'a str,
    /// What to fill in.
    pub data: &'a Value,
    /// Width and height in CSS pixels; the template's own when absent.
    pub size: Option<(u32, u32)>,
    /// Pixels of the picture per CSS pixel, 0.25 to 4: 2 for a sharp picture on a dense screen.
    pub scale: f32,
    /// Encoding.
    pub format: Format,
    /// 1 to 100, for JPEG and WebP.
    pub quality: u8,
}

impl<'a> RenderJob<'a> {
    /// A PNG in the template's own size.
    pub fn new(template: &'a str, data: &'a Value) -> Self {
        Self { template, data, size: None, scale: 1.0, format: Format::Png, quality: 85 }
    }
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The encoded picture.
    pub bytes: Bytes,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How it is encoded.
    pub format: Format,
}

impl Renderer {
    /// Loads the templates. The operator's own are filled with their samples to see that they work; for the
    /// built-in ones a test does that.
    pub fn new(options: RenderOptions) -> Result<Self, TemplateFault> {
        let RenderOptions { templates_dir, fonts_dir, limits } = options;
        let fonts = Library::open(fonts_dir.as_deref())?;
        let mut sources: Vec<_> = Source::built_in().into_iter().map(|source| (source, false)).collect();
        if let Some(dir) = &templates_dir {
            sources.extend(Source::in_folder(dir)?.into_iter().map(|source| (source, true)));
        }
        let mut inner = Inner { templates: BTreeMap::new(), environment: filters::environment(), fonts, limits };
        for (source, own) in sources {
            inner.add(source, own)?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All templates, by name.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.inner.templates.values()
    }

    /// The template of that name.
    pub fn template(&self, id: &str) -> Option<&Template> {
        self.inner.templates.get(id)
    }

    /// Checks data against the template's fields, and returns the form of them that a cache key should be made
    /// of: defaults filled in, colours and amounts spelled one way.
    pub fn canonical_data(&self, id: &str, data: &Value) -> Result<Value, RenderError> {
        guarded(|| self.inner.known(id)?.canonical_data(data, &self.inner.limits))
    }

    /// Draws one picture. It computes for milliseconds to seconds: call it from a thread that may block.
    pub fn render(&self, job: &RenderJob<'_>) -> Result<Rendered, RenderError> {
        // Shaping and decoding work on what strangers sent. A bug there must cost one picture, not the process.
        // Nothing of ours is changed halfway by a panic: all state is made per picture.
        guarded(|| self.inner.render(job))
    }
}

/// Turns a panic into an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, RenderError>) -> Result<T, RenderError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(RenderError::Panicked(message_of(&*panic))))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

impl Inner {
    /// Takes a template in, if it works; `own` is not built in, and so is tried with its own sample.
    fn add(&mut self, source: Source, own: bool) -> Result<(), TemplateFault> {
        let template = Template::from_source(&source, &self.fonts.digest, &self.limits)?;
        let id = template.id.clone();
        self.environment
            .add_template_owned(id.clone(), source.html)
            .map_err(|fault| TemplateFault::new(&template.html_path, detail_of(&fault)).at(fault.line()))?;
        if own {
            self.try_sample(&template)?;
        }
        self.templates.insert(id, template);
        Ok(())
    }

    /// Lays the template out with its own sample.
    fn try_sample(&self, template: &Template) -> Result<(), TemplateFault> {
        let html_fault = |fault: RenderError| match fault {
            RenderError::Template { line, message, .. } => {
                TemplateFault::new(&template.html_path, message).at(Some(line).filter(|line| *line > 0))
            }
            other => TemplateFault::new(&template.html_path, other),
        };
        let size = (template.width, template.height);
        let page = guarded(|| self.page(template, &template.sample, size, 1.0)).map_err(html_fault)?;
        page.check_css().map_err(|fault| TemplateFault::new(&template.html_path, fault))?;
        let layout = guarded(|| page.lay_out("")).map_err(html_fault)?;
        if let Some(fit) = template.fits.iter().find(|fit| layout.find(&fit.id).is_none()) {
            let message = format!("[[fit]] wants an element with id {:?}; the sample has none", fit.id);
            return Err(TemplateFault::new(&template.manifest_path, message));
        }
        Ok(())
    }

    fn known(&self, id: &str) -> Result<&Template, RenderError> {
        self.templates.get(id).ok_or_else(|| RenderError::UnknownTemplate {
            id: id.to_owned(),
            known: self.templates.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    fn render(&self, job: &RenderJob<'_>) -> Result<Rendered, RenderError> {
        let template = self.known(job.template)?;
        let (width, height) = job.size.unwrap_or((template.width, template.height));
        template.check_size(width, height)?;
        let scale = if job.scale.is_finite() { job.scale.clamp(0.25, 4.0) } else { 1.0 };
        let pixels = in_pixels((width, height), scale);
        if u64::from(pixels.0) * u64::from(pixels.1) > self.limits.max_pixels {
            let problem = format!("at scale {scale} that is more than {} pixels", self.limits.max_pixels);
            return Err(RenderError::Size { width, height, problem });
        }
        let data = template.canonical_data(job.data, &self.limits)?;
        let page = self.page(template, &data, (width, height), scale)?;
        let css = fit::solve(&page, &template.fits)?;
        let bitmap = page.paint(&css)?;
        let (width, height) = pixels;
        Ok(Rendered { bytes: encode(&bitmap, job.format, job.quality)?, width, height, format: job.format })
    }

    /// Fills canonical data into the template.
    fn page(&self, template: &Template, data: &Value, size: (u32, u32), scale: f32) -> Result<Page<'_>, RenderError> {
        let pictures = template.pictures(data, &self.limits)?;
        let failed = |line: Option<usize>, message: String| RenderError::Template {
            id: template.id.clone(),
            line: line.unwrap_or_default(),
            message,
        };
        let html = self
            .environment
            .get_template(&template.id)
            .and_then(|html| html.render(context(template, data, &pictures, size)))
            .map_err(|fault| failed(fault.line(), detail_of(&fault)))?;
        let images = pictures
            .into_iter()
            .map(|(field, picture)| (Arc::from(image_key(&field)), picture.source))
            .collect::<HashMap<Arc<str>, ImageSource>>();
        let rem = REM * unit(template, size);
        let fonts = self.fonts.fonts().map_err(|fault| RenderError::Engine(fault.to_string()))?;
        Page::new(&html, images, fonts, in_pixels(size, scale), rem, scale).map_err(|message| failed(None, message))
    }
}

/// How much larger than designed everything is drawn: by area, so that a square card has larger type than a
/// wide one of the same width, but never so large that too little fits on a line or on the card.
fn unit(template: &Template, (width, height): (u32, u32)) -> f32 {
    let (across, down) = (width as f32 / template.width as f32, height as f32 / template.height as f32);
    (across * down).sqrt().min(across / 0.62).min(down / 0.62)
}

fn in_pixels((width, height): (u32, u32), scale: f32) -> (u32, u32) {
    let side = |length: u32| (length as f32 * scale).round().max(1.0) as u32;
    (side(width), side(height))
}

/// The name under which the engine finds a picture: data never reach it as a URL.
fn image_key(field: &str) -> String {
    format!("field:{field}")
}

/// What the template sees: every field (none when not filled in), and `canvas`.
fn context(
    template: &Template,
    data: &Value,
    pictures: &BTreeMap<String, Decoded>,
    (width, height): (u32, u32),
) -> Filled {
    let shape = match f64::from(width) / f64::from(height) {
        ..0.8 => "tall",
        0.8..1.3 => "square",
        _ => "wide",
    };
    let canvas = minijinja::context! { width, height, shape };
    let fields = template.fields.iter().map(|field| {
        let value = match (pictures.get(&field.name), data.get(&field.name)) {
            (Some(picture), _) => {
                let Decoded { width, height, opaque, .. } = picture;
                minijinja::context! { src => image_key(&field.name), width, height, opaque }
            }
            (None, Some(value)) => Filled::from(Serde(value)),
            (None, None) => Filled::from(()),
        };
        (field.name.clone(), value)
    });
    Filled::from_pairs(fields.chain([("canvas".to_owned(), canvas)]))
}

fn encode(bitmap: &Bitmap, format: Format, quality: u8) -> Result<Bytes, RenderError> {
    let quality = Quality::new(quality.max(1));
    let format = match format {
        Format::Png => OutputFormat::Png,
        Format::Jpeg => OutputFormat::Jpeg { quality },
        Format::WebP if quality.get() == 100 => OutputFormat::WebPLossless,
        Format::WebP => OutputFormat::WebP { quality },
    };
    let mut bytes = Vec::new();
    takumi::write_image(bitmap, &mut bytes, format).map_err(|fault| RenderError::Engine(fault.to_string()))?;
    Ok(bytes.into())
}

/// A minijinja error without the parts that are reported on their own.
fn detail_of(fault: &minijinja::Error) -> String {
    fault.detail().map_or_else(|| fault.kind().to_string(), |detail| format!("{}: {detail}", fault.kind()))
}

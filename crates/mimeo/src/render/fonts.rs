//! The fonts: those that come with the program, then those of the operator's folder. System fonts are never
//! looked at, or the same data would look different from machine to machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use takumi::prelude::{FontOverride, FontResource, FontSource, Fonts, GenericFamily};

use super::TemplateFault;

/// A bundled font. The order is the order in which a missing glyph is looked for.
struct Bundled {
    family: &'static str,
    generic: Option<GenericFamily>,
    bytes: &'static [u8],
}

macro_rules! bundled {
    ($family:literal, $file:literal, $generic:expr) => {
        Bundled {
            family: $family,
            generic: $generic,
            bytes: include_bytes!(concat!("../../../../templates/fonts/", $file)),
        }
    };
}

static BUNDLED: &[Bundled] = &[
    bundled!("Inter", "inter.woff2", Some(GenericFamily::SANS_SERIF)),
    bundled!("Fraunces", "fraunces.woff2", Some(GenericFamily::SERIF)),
    bundled!("Noto Sans Arabic", "noto-sans-arabic.woff2", None),
    bundled!("Noto Sans Hebrew", "noto-sans-hebrew.woff2", None),
    bundled!("Noto Sans Devanagari", "noto-sans-devanagari.woff2", None),
    bundled!("Noto Sans Thai", "noto-sans-thai.woff2", None),
    bundled!("Noto Color Emoji", "noto-color-emoji.woff2", Some(GenericFamily::EMOJI)),
];

/// All fonts. Unpacking the bundled ones takes tens of milliseconds and megabytes, so it waits until the first
/// picture is drawn: a gateway that draws none starts fast and stays small.
pub(super) struct Library {
    unpacked: OnceLock<Result<Fonts, TemplateFault>>,
    own: Vec<(PathBuf, Arc<Vec<u8>>)>,
    /// Of all font files, as part of the templates' versions.
    pub(super) digest: blake3::Hash,
}

impl Library {
    /// The bundled fonts and every font file of `folder`.
    pub(super) fn open(folder: Option<&Path>) -> Result<Library, TemplateFault> {
        let mut digest = blake3::Hasher::new();
        for font in BUNDLED {
            digest.update(font.bytes);
        }
        let mut own = Vec::new();
        for path in font_files(folder)? {
            let bytes = fs::read(&path).map_err(|fault| TemplateFault::new(&path, fault))?;
            digest.update(&bytes);
            own.push((path, Arc::new(bytes)));
        }
        let library = Library { unpacked: OnceLock::new(), own, digest: digest.finalize() };
        if !library.own.is_empty() {
            // The operator's own may be broken, which should be said now and not with the first picture.
            library.fonts()?;
        }
        Ok(library)
    }

    /// The fonts, unpacked.
    pub(super) fn fonts(&self) -> Result<&Fonts, TemplateFault> {
        self.unpacked.get_or_init(|| unpack(&self.own)).as_ref().map_err(Clone::clone)
    }
}

fn unpack(own: &[(PathBuf, Arc<Vec<u8>>)]) -> Result<Fonts, TemplateFault> {
    let mut fonts = Fonts::default();
    for font in BUNDLED {
        let named = FontOverride { family_name: Some(font.family.into()), ..FontOverride::default() };
        let mut resource = FontResource::new(FontSource::from_static(font.bytes)).override_info(named);
        if let Some(generic) = font.generic {
            resource = resource.generic_family(generic);
        }
        let fault = |fault| TemplateFault::new(font.family, fault);
        fonts.register(resource).map_err(fault)?;
    }
    for (path, bytes) in own {
        let resource = FontResource::new(FontSource::from_shared(bytes.clone()));
        fonts.register(resource).map_err(|fault| TemplateFault::new(path, fault))?;
    }
    Ok(fonts)
}

/// Sorted: a folder lists its files in any order, and the order decides which font wins.
fn font_files(folder: Option<&Path>) -> Result<Vec<PathBuf>, TemplateFault> {
    let Some(folder) = folder else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|fault| TemplateFault::new(folder, fault))? {
        let path = entry.map_err(|fault| TemplateFault::new(folder, fault))?.path();
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
        if matches!(extension.as_str(), "ttf" | "otf" | "ttc" | "otc" | "woff2") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

//! What can go wrong: once, when templates are loaded, and per picture, when data are filled in.

use std::fmt;
use std::path::PathBuf;

/// A template or a font that cannot be used. It names the file and, where known, the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateFault {
    /// The file at fault. Built-in templates have a relative path, `article/template.html`.
    pub path: PathBuf,
    /// Line in that file, counted from 1.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub message: String,
}

impl TemplateFault {
    /// A fault in `path`.
    pub fn new(path: impl Into<PathBuf>, message: impl fmt::Display) -> Self {
        Self { path: path.into(), line: None, message: message.to_string() }
    }

    /// The same fault, at `line`.
    pub fn at(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a picture was not drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// There is no template of that name.
    #[error("there is no template {id:?}; there are: {known}")]
    UnknownTemplate {
        /// What was asked for.
        id: String,
        /// The ids that exist, separated by commas.
        known: String,
    },
    /// The data are not a JSON object.
    #[error("the data must be a JSON object with one member per field")]
    NotAnObject,
    /// One field is wrong, missing, or not known to the template.
    #[error("field {field:?}: {problem}")]
    Field {
        /// Name of the field.
        field: String,
        /// What is wrong with its value, as a clause that fits after a colon.
        problem: String,
    },
    /// The template does not come in that size.
    #[error("size {width}x{height}: {problem}")]
    Size {
        /// Width asked for.
        width: u32,
        /// Height asked for.
        height: u32,
        /// What is allowed.
        problem: String,
    },
    /// The template failed on data that pass its own checks: the author of the template is to blame.
    #[error("template {id:?}, line {line}: {message}")]
    Template {
        /// Name of the template.
        id: String,
        /// Line of `template.html`; 0 where unknown.
        line: usize,
        /// What failed.
        message: String,
    },
    /// Layout, painting or encoding failed.
    #[error("drawing failed: {0}")]
    Engine(String),
    /// Drawing panicked. The process lives on, the picture does not exist.
    #[error("drawing panicked: {0}")]
    Panicked(String),
}

impl RenderError {
    /// Whether other data or another size would help: the caller is to blame, not the server.
    pub fn is_callers_fault(&self) -> bool {
        match self {
            Self::UnknownTemplate { .. } | Self::NotAnObject | Self::Field { .. } | Self::Size { .. } => true,
            Self::Template { .. } | Self::Engine(_) | Self::Panicked(_) => false,
        }
    }

    pub(super) fn field(field: &str, problem: impl fmt::Display) -> Self {
        Self::Field { field: field.to_owned(), problem: problem.to_string() }
    }
}

//! Simulations: one file each describes a provider's API as its server sees it, and this engine plays it.
//!
//! The files stand in `simulations/` of the repository and are part of the program; `simulations/README.md` describes
//! their format. They are written from what is known of the providers and not from the gateway's own records, so that a
//! mistake in one of the two shows.
//!
//! In the order a request meets them: `serve`, `path` and `auth` (which route, whose key), `check` (is the body one that
//! the provider takes), `order` (what is wanted, and its price), `sell`, `job` (what is not answered at once), `wording`
//! (the answer), `webhook` (calling back).

mod auth;
mod check;
mod job;
mod order;
mod path;
mod sell;
mod serve;
mod sheet;
mod webhook;
mod wording;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use crate::fault::Fault;
pub(crate) use job::Jobs;
pub use job::Listed;
pub(crate) use serve::serve;
pub use sheet::Example;
use sheet::{Answer, Refusal, Route, Rule, Sheet};

// `FILES`: name and text of every file in `simulations/`.
include!(concat!(env!("OUT_DIR"), "/simulations.rs"));

/// Why a simulation cannot be played.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SimulationError {
    /// The file cannot be read.
    #[error("simulation {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The file does not say what it should.
    #[error("simulation {name}: {message}")]
    Invalid {
        /// The file.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// No simulation has that name.
    #[error("there is no simulation `{0}`; --list shows all")]
    Unknown(String),
}

/// A provider's API that can be played.
#[derive(Debug)]
pub(crate) struct Simulation {
    pub(crate) sheet: Sheet,
    /// What each route takes, shared groups included.
    rules: Vec<BTreeMap<String, Rule>>,
}

impl Simulation {
    /// Reads a file's text and checks everything that can be checked before the first request.
    fn parse(file: &str, text: &str) -> Result<Self, SimulationError> {
        let invalid = |message: String| SimulationError::Invalid { name: file.to_owned(), message };
        let sheet: Sheet = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if sheet.name.is_empty() || !sheet.name.chars().all(plain) {
            return Err(invalid(format!("`{}` is no name: a-z, 0-9 and - are allowed", sheet.name)));
        }
        let of_routes = sheet.routes.iter().flat_map(|route| &route.answers);
        let of_kinds = sheet.answers.values().flatten();
        let of_refusals = sheet.refusals.iter().map(|refusal| &refusal.answer);
        for answer in of_routes.chain(of_kinds).chain(of_refusals).chain(sheet.errors.values()) {
            wording::verify(answer).map_err(invalid)?;
        }
        let mut rules = Vec::new();
        for route in &sheet.routes {
            let mut all = BTreeMap::new();
            for group in &route.shared {
                let fields = sheet.shared.get(group).ok_or_else(|| invalid(format!("there is no group `{group}`")))?;
                all.extend(fields.clone());
            }
            all.extend(route.fields.clone());
            rules.push(all);
            if route.answers.is_empty() && route.does != sheet::Does::Keys && !sheet.answers.contains_key(&route.does) {
                return Err(invalid(format!("the route {} has no answers", route.path)));
            }
        }
        Ok(Self { sheet, rules })
    }

    /// What a route takes.
    fn rules(&self, route: usize) -> &BTreeMap<String, Rule> {
        static NOTHING: BTreeMap<String, Rule> = BTreeMap::new();
        self.rules.get(route).unwrap_or(&NOTHING)
    }

    /// The answers of a route.
    fn answers<'a>(&'a self, route: &'a Route) -> &'a [Answer] {
        match route.answers.as_slice() {
            [] => self.sheet.answers.get(&route.does).map(Vec::as_slice).unwrap_or_default(),
            answers => answers,
        }
    }

    /// The way to refuse that a fault asks for, with its number from 1. Only where jobs are can it be one of a job.
    fn refusal(&self, fault: &Fault, in_job: bool) -> Option<(usize, &Refusal)> {
        let mut ways = self.sheet.refusals.iter().enumerate().filter(|(_, refusal)| in_job || !refusal.in_job);
        let found = match fault {
            Fault::Refuse(way) => {
                let ways: Vec<_> = ways.collect();
                ways.get(usize::from(way.saturating_sub(1))).or_else(|| ways.last()).copied()
            }
            Fault::RefuseOk => {
                let first = ways.clone().next();
                ways.find(|(_, refusal)| refusal.answer.status.is_none_or(|status| status == 200)).or(first)
            }
            Fault::StreamRefuse => ways.next(),
            _ => None,
        };
        found.map(|(index, refusal)| (index + 1, refusal))
    }
}

/// The simulations of this program by name, read once.
static BUILT_IN: LazyLock<Result<ByName, SimulationError>> = LazyLock::new(|| {
    let read = |(file, text): &(&str, &str)| {
        let simulation = Simulation::parse(file, text)?;
        Ok((simulation.sheet.name.clone(), Arc::new(simulation)))
    };
    FILES.iter().map(read).collect()
});

type ByName = BTreeMap<String, Arc<Simulation>>;

/// All simulations of a sandbox.
#[derive(Debug, Default)]
pub(crate) struct Simulations {
    by_name: ByName,
    /// The one that is also served without `/as/NAME`.
    at_root: Option<Arc<Simulation>>,
}

impl Simulations {
    /// The simulations of this program and those in further files, which replace others of the same name.
    pub(crate) fn load(files: &[PathBuf], at_root: Option<&str>) -> Result<Self, SimulationError> {
        let mut by_name = BUILT_IN.clone()?;
        for path in files {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SimulationError::Unreadable { path: path.clone(), source: Arc::new(source) })?;
            let simulation = Simulation::parse(&path.display().to_string(), &text)?;
            by_name.insert(simulation.sheet.name.clone(), Arc::new(simulation));
        }
        let unknown = |name: &str| SimulationError::Unknown(name.to_owned());
        let at_root = at_root.map(|name| by_name.get(name).cloned().ok_or_else(|| unknown(name))).transpose()?;
        Ok(Self { by_name, at_root })
    }

    /// The simulation of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Simulation>> {
        self.by_name.get(name).cloned()
    }

    /// The simulation that is also served at the root.
    pub(crate) fn at_root(&self) -> Option<Arc<Simulation>> {
        self.at_root.clone()
    }
}

/// A simulation of this program.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name: it is served under `/as/NAME`.
    pub name: String,
    /// The provider's name.
    pub title: String,
    /// Where the provider describes its API.
    pub docs: String,
    /// When that was read.
    pub as_of: String,
    /// Requests that it answers.
    pub examples: Vec<Example>,
}

/// Every simulation of this program, and those in further files, by name.
///
/// # Errors
/// When a file cannot be read or is no simulation.
pub fn simulations(files: &[PathBuf]) -> Result<Vec<Described>, SimulationError> {
    let all = Simulations::load(files, None)?;
    let described = all.by_name.values().map(|simulation| {
        let Sheet { name, title, docs, as_of, examples, .. } = &simulation.sheet;
        let (name, title, docs, as_of) = (name.clone(), title.clone(), docs.clone(), as_of.clone());
        Described { name, title, docs, as_of, examples: examples.clone() }
    });
    Ok(described.collect())
}

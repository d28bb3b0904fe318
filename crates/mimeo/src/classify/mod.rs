//! What is a request for, and what does it show? Answered in this process, from the words of the prompt, the size, and
//! the picture that was sent along, so that what is easy to draw need not get everything that a model can give.
//!
//! In the order in which they count: what the caller says; the operator's rules (`rules`); a vision-language model, where
//! one is configured (`endpoint`); the lists of words and the measures of the picture (`words`, `look`, `weigh`).
//! [`Classifier::steps`] and [`Classifier::quality`] say what to make of it.
//!
//! The same request is always read the same way, in this process: a reading may decide what is sent, and so which picture
//! it is.

mod endpoint;
mod look;
mod rules;
mod steps;
mod weigh;
mod words;

use std::sync::Arc;

use quick_cache::sync::Cache;
use serde::{Serialize, Serializer};
use tokio::sync::Semaphore;

pub use crate::config::Background;
use crate::config::classifier::Rule;
use crate::config::{self, Environment};
use crate::domain::{Call, Digest, Picture};
use endpoint::{Endpoint, Told};
pub use look::Look;
use rules::Rules;
use words::Lexicon;

/// The category of what shows none of the others.
pub const OTHER: &str = "other";
/// Pictures whose measures are remembered.
const REMEMBERED: usize = 4_096;
/// Pictures that are measured at a time: each is decoded in full first.
const AT_A_TIME: usize = 2;

/// What a picture is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Large and first to be seen: a banner, the head of a page.
    Hero,
    /// Small, one of many.
    Thumbnail,
    /// To look at and to throw away.
    Draft,
    /// Everything else.
    Standard,
    /// To be printed, or in a campaign.
    Premium,
    /// A word of the caller's or the operator's own.
    Other(String),
}

impl Purpose {
    /// Those with a meaning of their own.
    pub const KNOWN: [Purpose; 5] =
        [Purpose::Hero, Purpose::Thumbnail, Purpose::Draft, Purpose::Standard, Purpose::Premium];

    /// The purpose of that name; any other word is a purpose of its own.
    pub fn named(name: &str) -> Purpose {
        let known = Purpose::KNOWN.into_iter().find(|purpose| purpose.name() == name);
        known.unwrap_or_else(|| Purpose::Other(name.to_owned()))
    }

    /// The word for it.
    pub fn name(&self) -> &str {
        match self {
            Purpose::Hero => "hero",
            Purpose::Thumbnail => "thumbnail",
            Purpose::Draft => "draft",
            Purpose::Standard => "standard",
            Purpose::Premium => "premium",
            Purpose::Other(name) => name,
        }
    }
}

impl Serialize for Purpose {
    /// As its word.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Who a reading comes from. What the caller says goes before all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The caller said both purpose and category.
    Caller,
    /// The operator's rule of that name.
    Rule(String),
    /// The lists of words and the measures of pictures.
    Classifier,
    /// The vision-language model.
    Endpoint,
}

impl Source {
    /// `caller`, `rule NAME`, `classifier` or `endpoint`.
    pub fn name(&self) -> String {
        match self {
            Source::Caller => "caller".to_owned(),
            Source::Rule(title) => format!("rule {title}"),
            Source::Classifier => "classifier".to_owned(),
            Source::Endpoint => "endpoint".to_owned(),
        }
    }
}

/// What a request is for and what it shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// What the picture is for.
    pub purpose: Purpose,
    /// What it shows: one of [`Classifier::categories`], or a word of the caller's or the operator's own.
    pub category: String,
    /// What is behind it.
    pub background: Background,
    /// How much of what a model can do it needs, 0–1. Up to 0.3 half of the steps do (on a plain background), from 0.7 on
    /// all are taken.
    pub complexity: f32,
    /// The steps that a rule sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// The reasons, one per line. They name words of the lists, not the prompt.
    pub why: Vec<String>,
    /// Who it comes from, beside the caller.
    pub source: Source,
}

impl Reading {
    /// Itself and its reasons, for people.
    pub fn lines(&self) -> Vec<String> {
        let Reading { purpose, category, background, complexity, source, .. } = self;
        let what = format!(
            "read as {} of {category}, {} background, complexity {complexity:.2} ({})",
            purpose.name(),
            background.name(),
            source.name()
        );
        std::iter::once(what).chain(self.why.iter().map(|why| format!("  {why}"))).collect()
    }
}

/// Reads requests.
#[derive(Debug)]
pub struct Classifier {
    is_enabled: bool,
    lexicon: Lexicon,
    rules: Rules,
    endpoint: Option<Endpoint>,
    /// What pictures are like; `None` for those that cannot be read.
    looks: Cache<Digest, Option<Look>>,
    threads: Arc<Semaphore>,
}

impl Classifier {
    /// The classifier of `settings`. Nothing is connected.
    ///
    /// # Errors
    /// Every fault of the rules and of the endpoint, with what to do.
    pub fn new(settings: &config::Classifier, environment: &Environment) -> Result<Classifier, Vec<String>> {
        let lexicon = Lexicon::embedded().map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        let rules = Rules::new(&settings.rules).map_err(|wrong| faults.extend(wrong));
        let names = || lexicon.categories().iter().map(|category| category.name.clone()).collect();
        let endpoint = settings.endpoint.as_ref().map(|endpoint| Endpoint::new(endpoint, names(), environment));
        let endpoint = endpoint.transpose().map_err(|wrong| faults.push(wrong));
        match (rules, endpoint) {
            (Ok(rules), Ok(endpoint)) => Ok(Classifier {
                is_enabled: settings.enabled,
                lexicon,
                rules,
                endpoint,
                looks: Cache::new(REMEMBERED),
                threads: Arc::new(Semaphore::new(AT_A_TIME)),
            }),
            _ => Err(faults),
        }
    }

    /// The categories that it tells apart, by name.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        self.lexicon.categories().iter().map(|category| category.name.as_str())
    }

    /// Reads `call` without asking anybody. Takes microseconds, and with a picture some ten milliseconds per megapixel
    /// on this thread, the first time that the picture is seen.
    pub fn read(&self, call: &Call) -> Reading {
        let picture = call.request.inputs.first().filter(|_| self.is_enabled).map(|input| &input.picture);
        let look = picture.and_then(|picture| {
            self.looks.get(&picture.digest).unwrap_or_else(|| {
                let look = Look::at(picture).ok();
                self.looks.insert(picture.digest, look);
                look
            })
        });
        self.conclude(call, look.as_ref(), self.rules.matching(call), None)
    }

    /// Reads `call`; where an endpoint is configured and no rule is about `call`, by that. Takes at most its deadline, and
    /// decodes pictures on threads that may block. Falls back to what [`Classifier::read`] says. What the endpoint
    /// costs is not in the ledger.
    pub async fn read_with_endpoint(&self, call: &Call) -> Reading {
        let rule = self.rules.matching(call);
        let (look, told) = tokio::join!(self.look(call), async {
            match (&self.endpoint, &rule) {
                (Some(endpoint), None) if self.is_enabled => endpoint.ask(call).await,
                _ => None,
            }
        });
        self.conclude(call, look.as_ref(), rule, told.as_deref())
    }

    async fn look(&self, call: &Call) -> Option<Look> {
        let picture = call.request.inputs.first().filter(|_| self.is_enabled)?.picture.clone();
        let looked = self.looks.get_or_insert_async(&picture.digest, self.look_at(picture.clone()));
        // A thread that was lost is no reason to remember anything.
        looked.await.ok().flatten()
    }

    async fn look_at(&self, picture: Picture) -> Result<Option<Look>, String> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|closed| closed.to_string())?;
        let looking = tokio::task::spawn_blocking(move || {
            let look = Look::at(&picture).ok();
            // Held to the end, also if nobody waits any more.
            drop(thread);
            look
        });
        looking.await.map_err(|lost| lost.to_string())
    }

    /// One reading from all that is known, in the order in which it counts.
    fn conclude(&self, call: &Call, look: Option<&Look>, rule: Option<(&str, &Rule)>, told: Option<&Told>) -> Reading {
        if !self.is_enabled {
            return unread(call);
        }
        let (title, rule) = rule.unzip();
        let said = call.category.as_deref().or_else(|| rule?.category.as_deref());
        let guess = weigh::weigh(&self.lexicon, call, look, said);
        let mut reading = Reading {
            purpose: guess.purpose,
            category: guess.category,
            background: guess.background,
            complexity: guess.complexity,
            steps: None,
            why: guess.why,
            source: Source::Classifier,
        };
        if let Some((told, endpoint)) = told.zip(self.endpoint.as_ref()) {
            reading.purpose = told.purpose.clone();
            reading.category.clone_from(&told.category);
            (reading.background, reading.complexity) = (told.background, told.complexity);
            reading.why = vec![format!("read by {}", endpoint.model())];
            reading.source = Source::Endpoint;
        } else if self.endpoint.is_some() && rule.is_none() {
            reading.why.push("the endpoint was not asked, or did not help".to_owned());
        }
        if let Some((title, rule)) = title.zip(rule) {
            follow(&mut reading, title, rule);
        }
        if let Some(purpose) = &call.purpose {
            reading.purpose = Purpose::named(purpose);
            reading.why.push(format!("purpose {purpose}: the caller says so"));
        }
        if let Some(category) = &call.category {
            reading.category.clone_from(category);
            reading.why.push(format!("category {category}: the caller says so"));
        }
        if call.purpose.is_some() && call.category.is_some() {
            reading.source = Source::Caller;
        }
        reading
    }
}

/// Lets `rule` have its say.
fn follow(reading: &mut Reading, title: &str, rule: &Rule) {
    let Rule { name: _, when: _, purpose, category, background, complexity, steps } = rule;
    if let Some(purpose) = purpose {
        reading.purpose = Purpose::named(purpose);
    }
    if let Some(category) = category {
        reading.category.clone_from(category);
    }
    reading.background = background.unwrap_or(reading.background);
    reading.complexity = complexity.unwrap_or(reading.complexity);
    reading.steps = *steps;
    reading.source = Source::Rule(title.to_owned());
    let says = [
        purpose.as_ref().map(|purpose| format!("purpose {purpose}")),
        category.as_ref().map(|category| format!("category {category}")),
        background.map(|background| format!("background {}", background.name())),
        complexity.map(|complexity| format!("complexity {complexity}")),
        steps.map(|steps| format!("{steps} steps")),
    ];
    reading.why.push(format!("the rule {title} says {}", says.into_iter().flatten().collect::<Vec<_>>().join(", ")));
}

/// The reading of what nobody reads: what the caller says, and otherwise what saves nothing.
fn unread(call: &Call) -> Reading {
    Reading {
        purpose: call.purpose.as_deref().map_or(Purpose::Standard, Purpose::named),
        category: call.category.clone().unwrap_or_else(|| OTHER.to_owned()),
        background: Background::Unknown,
        complexity: 1.0,
        steps: None,
        why: vec!["the classifier is turned off".to_owned()],
        source: Source::Caller,
    }
}

#[cfg(test)]
mod tests;

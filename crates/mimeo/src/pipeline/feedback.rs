//! What people say of pictures: whose pictures these are, and what is believed after it.

use super::Pipeline;
use crate::domain::{Caller, ImageId, RequestId};
use crate::error::{Error, Kind, Result};
use crate::quality::{NEUTRAL, Opinion};
use crate::store::{Feedback, FeedbackKind};

/// What somebody speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// One picture.
    Image(ImageId),
    /// All pictures that a request paid for.
    Request(RequestId),
}

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Of what.
    pub topic: Topic,
    /// How, what, and of how many views; see [`Feedback`].
    pub words: Vec<(FeedbackKind, u32, u32)>,
    /// What the pictures show, where that was not said when they were made or is to be corrected.
    pub category: Option<String>,
    /// Anything else.
    pub note: Option<String>,
}

/// What is believed after a remark.
#[derive(Clone, Debug)]
pub struct Told {
    /// The pictures that it was about.
    pub pictures: Vec<ImageId>,
    /// Whoever made them, in which category, and what is believed of that.
    pub beliefs: Vec<(String, Option<String>, Opinion)>,
}

impl Pipeline {
    /// Writes down what `caller` says: all of it, or nothing. What the same key has said of the same picture in the same way
    /// before does not count any more.
    ///
    /// # Errors
    /// One of the pictures is not there or not the caller's, which are told alike; or the store fails.
    pub async fn feedback(&self, caller: &Caller, remarks: Vec<Remark>) -> Result<Vec<Told>> {
        let now = self.clock.now();
        let (mut rows, mut told) = (Vec::new(), Vec::new());
        for (index, remark) in remarks.into_iter().enumerate() {
            let tenant = caller.tenant.clone();
            let subjects = match remark.topic {
                Topic::Image(id) => self.store.subject_of_feedback(tenant, id).await?.into_iter().collect(),
                Topic::Request(id) => self.store.subjects_of_feedback(tenant, id).await?,
            };
            if subjects.is_empty() {
                return Err(unknown(remark.topic, index));
            }
            let mut about = Told { pictures: Vec::new(), beliefs: Vec::new() };
            let mut who = Vec::new();
            for subject in subjects {
                let category = remark.category.clone().or(subject.category);
                rows.extend(remark.words.iter().map(|(kind, value, trials)| Feedback {
                    at_ms: now,
                    picture: subject.id,
                    request: subject.request,
                    tenant: caller.tenant.clone(),
                    key: caller.key.clone(),
                    candidate: subject.candidate.clone(),
                    category: category.clone().unwrap_or_default(),
                    kind: *kind,
                    value: *value,
                    trials: *trials,
                    note: remark.note.clone(),
                }));
                about.pictures.push(subject.id);
                if !who.contains(&(subject.candidate.clone(), category.clone())) {
                    who.push((subject.candidate, category));
                }
            }
            told.push((about, who));
        }
        self.opinions.note(rows).await?;
        let believed = told.into_iter().map(|(about, who)| {
            let beliefs = who.into_iter().map(|(candidate, category)| {
                let prior = self.routes.registry().rating(&candidate).map_or(NEUTRAL, f64::from);
                let opinion = self.opinions.opinion(&candidate, category.as_deref(), prior);
                (candidate, category, opinion)
            });
            Told { beliefs: beliefs.collect(), ..about }
        });
        Ok(believed.collect())
    }
}

fn unknown(topic: Topic, index: usize) -> Error {
    let (param, id) = match topic {
        Topic::Image(id) => ("image_id", id.to_string()),
        Topic::Request(id) => ("request_id", id.to_string()),
    };
    let message = format!(
        "There is no picture of yours under {param} {id} (item {index}). A picture that came from the cache is named by \
         its image_id; one that was purged or was not stored cannot be spoken of. Nothing was written down."
    );
    Error::new(Kind::NotFound, message).param(param).code("picture_not_found")
}

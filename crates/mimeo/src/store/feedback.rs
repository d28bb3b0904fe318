//! What people think of pictures. Rows are appended and never changed; of the same kind, by the same key, about the same
//! picture, the last one counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sql::{Row, Sql, SqlError, lock_name, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{ImageId, RequestId};

/// How somebody speaks of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedbackKind {
    /// 1 to 5.
    Rating,
    /// 1 if it was taken, 0 if not.
    Accepted,
    /// How often it was clicked, of how often it was shown; both since it was made.
    Clicks,
    /// 0 to 100, by the configured judge.
    Judge,
}

impl FeedbackKind {
    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            FeedbackKind::Rating => "rating",
            FeedbackKind::Accepted => "accepted",
            FeedbackKind::Clicks => "clicks",
            FeedbackKind::Judge => "judge",
        }
    }

    /// The highest value, where there is one.
    pub const fn most(self) -> u32 {
        match self {
            FeedbackKind::Rating => 5,
            FeedbackKind::Accepted => 1,
            FeedbackKind::Clicks => u32::MAX,
            FeedbackKind::Judge => 100,
        }
    }
}

/// One word about one picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// When it was given.
    pub at_ms: Millis,
    /// The picture.
    #[serde(with = "as_text")]
    pub picture: ImageId,
    /// The request that paid for it, if one did.
    #[serde(default, serialize_with = "maybe_text", deserialize_with = "maybe_id")]
    pub request: Option<RequestId>,
    /// Whose picture it is.
    pub tenant: String,
    /// The key that it was given with; empty for the judge.
    pub key: String,
    /// Who made the picture, as people name it: `provider/model@quality`.
    pub candidate: String,
    /// What the picture shows; empty if nobody said.
    #[serde(default)]
    pub category: String,
    /// How it is said.
    pub kind: FeedbackKind,
    /// What is said, in the kind's own measure.
    pub value: u32,
    /// Clicks: how often it was shown. Otherwise 1.
    pub trials: u32,
    /// What else was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Feedback {
    /// True if it says something that its kind can say.
    pub fn is_possible(&self) -> bool {
        let least = u32::from(self.kind == FeedbackKind::Rating);
        let of_trials = if self.kind == FeedbackKind::Clicks { self.trials } else { self.kind.most() };
        self.trials >= 1 && (least..=of_trials).contains(&self.value)
    }
}

/// A row with the one whose place it takes.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its position: later ones are higher.
    pub seq: i64,
    /// The row.
    pub feedback: Feedback,
    /// What the same key had said in that way of that picture.
    pub replaced: Option<Feedback>,
}

/// A picture that may be spoken of.
#[derive(Clone, Debug)]
pub struct Subjected {
    /// The picture.
    pub id: ImageId,
    /// The request that paid for it, if one did.
    pub request: Option<RequestId>,
    /// Who made it.
    pub candidate: String,
    /// What it shows, if it was said when it was made.
    pub category: Option<String>,
}

const COLUMNS: &str = "seq, at_ms, picture, request, tenant, api_key, candidate, category, kind, value, trials, note";

impl Store {
    /// The picture `id` of `tenant`.
    pub async fn subject_of_feedback(&self, tenant: String, id: ImageId) -> Result<Option<Subjected>, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first(
                    "SELECT p.id, a.request, p.candidate, p.category, p.provider, p.model
                     FROM pictures p LEFT JOIN attempts a ON a.id = p.attempt WHERE p.id = ?1 AND p.tenant = ?2",
                    &values![id.to_bytes(), &tenant],
                )?;
                row.as_ref().map(subjected).transpose()
            })
            .await
    }

    /// The pictures of `tenant` that the request `id` paid for; of a draft and a final that it made at once, the final.
    pub async fn subjects_of_feedback(&self, tenant: String, id: RequestId) -> Result<Vec<Subjected>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT p.id, a.request, p.candidate, p.category, p.provider, p.model
                     FROM attempts a JOIN pictures p ON p.attempt = a.id
                     WHERE a.request = ?1 AND p.tenant = ?2 AND NOT EXISTS (
                       SELECT 1 FROM attempts b JOIN pictures q ON q.attempt = b.id
                       WHERE b.request = a.request AND b.key <> a.key AND b.created_ms > a.created_ms)
                     ORDER BY p.id",
                    &values![id.to_bytes(), &tenant],
                )?;
                rows.iter().map(subjected).collect()
            })
            .await
    }

    /// Appends rows. In doubt whether they were written they are written again, which changes nothing: the last counts.
    pub async fn add_feedback(&self, rows: Vec<Feedback>) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                // Positions are then in the order of the commits: who reads on after one misses none.
                sql.lock(lock_name("feedback", b""))?;
                rows.iter().try_for_each(|row| append(sql, row))
            })
            .await
    }

    /// Appends rows from elsewhere, but those of which a word as late as they are is known already. Returns how many were
    /// new.
    pub async fn import_feedback(&self, rows: Vec<Feedback>) -> Result<u64, StoreError> {
        self.engine
            .write(move |sql| {
                sql.lock(lock_name("feedback", b""))?;
                let mut new = 0;
                for row in &rows {
                    let known = sql.first(
                        "SELECT 1 FROM feedback WHERE picture = ?1 AND api_key = ?2 AND kind = ?3 AND at_ms >= ?4",
                        &values![row.picture.to_bytes(), &row.key, row.kind.name(), row.at_ms],
                    )?;
                    if known.is_none() {
                        append(sql, row)?;
                        new += 1;
                    }
                }
                Ok(new)
            })
            .await
    }

    /// The first `limit` rows after the position `after` that were given since `since`, each with the one whose place it
    /// took.
    pub async fn feedback_after(&self, after: i64, since: Millis, limit: u32) -> Result<Vec<Heard>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    &format!("SELECT {COLUMNS} FROM feedback WHERE seq > ?1 AND at_ms >= ?2 ORDER BY seq LIMIT ?3"),
                    &values![after, since, limit],
                )?;
                rows.iter()
                    .map(|row| {
                        let (seq, feedback) = (row.int(0)?, feedback(row)?);
                        let before = sql.first(
                            &format!(
                                "SELECT {COLUMNS} FROM feedback
                                 WHERE picture = ?1 AND api_key = ?2 AND kind = ?3 AND seq < ?4 AND at_ms >= ?5
                                 ORDER BY seq DESC LIMIT 1"
                            ),
                            &values![feedback.picture.to_bytes(), &feedback.key, feedback.kind.name(), seq, since],
                        )?;
                        let replaced = before.as_ref().map(self::feedback).transpose()?;
                        Ok(Heard { seq, feedback, replaced })
                    })
                    .collect()
            })
            .await
    }

    /// The last `limit` rows, the newest first.
    pub async fn latest_feedback(&self, limit: u32) -> Result<Vec<Feedback>, StoreError> {
        self.engine
            .read(move |sql| {
                let query = format!("SELECT {COLUMNS} FROM feedback ORDER BY seq DESC LIMIT ?1");
                sql.query(&query, &values![limit])?.iter().map(feedback).collect()
            })
            .await
    }

    /// Lets pictures answer no key any more. Their addresses stay good until they are dropped as replaced.
    pub async fn unlist(&self, pictures: Vec<ImageId>) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                pictures.iter().try_for_each(|id| {
                    sql.execute("DELETE FROM entries WHERE picture = ?1", &values![id.to_bytes()]).map(|_| ())
                })
            })
            .await
    }
}

fn append(sql: &mut dyn Sql, row: &Feedback) -> Result<(), SqlError> {
    sql.execute(
        "INSERT INTO feedback (at_ms, picture, request, tenant, api_key, candidate, category, kind, value, trials, note)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        &values![
            row.at_ms,
            row.picture.to_bytes(),
            row.request.map(RequestId::to_bytes),
            &row.tenant,
            &row.key,
            &row.candidate,
            &row.category,
            row.kind.name(),
            row.value,
            row.trials,
            &row.note,
        ],
    )
    .map(|_| ())
}

fn subjected(row: &Row) -> Result<Subjected, SqlError> {
    let candidate = match row.maybe_text(2)? {
        Some(candidate) => candidate,
        // Stored before candidates were written down.
        None => format!("{}/{}", row.text(4)?, row.text(5)?),
    };
    Ok(Subjected {
        id: ImageId::from_bytes(row.bytes(0)?),
        request: row.maybe_bytes(1)?.map(RequestId::from_bytes),
        candidate,
        category: row.maybe_text(3)?,
    })
}

fn feedback(row: &Row) -> Result<Feedback, SqlError> {
    let kind = row.text(8)?;
    let kinds = [FeedbackKind::Rating, FeedbackKind::Accepted, FeedbackKind::Clicks, FeedbackKind::Judge];
    Ok(Feedback {
        at_ms: row.int(1)?,
        picture: ImageId::from_bytes(row.bytes(2)?),
        request: row.maybe_bytes(3)?.map(RequestId::from_bytes),
        tenant: row.text(4)?,
        key: row.text(5)?,
        candidate: row.text(6)?,
        category: row.text(7)?,
        kind: kinds
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| SqlError::Failed(format!("`{kind}` is no kind of feedback")))?,
        value: row.small(9)?,
        trials: row.small(10)?,
        note: row.maybe_text(11)?,
    })
}

/// Identifiers as people see them.
mod as_text {
    use super::{Deserialize, Deserializer, FromStr, Serializer, fmt};

    pub(super) fn serialize<S: Serializer>(id: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr>(from: D) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a valid identifier")))
    }
}

fn maybe_text<S: Serializer>(id: &Option<RequestId>, to: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => to.collect_str(id),
        None => to.serialize_none(),
    }
}

fn maybe_id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RequestId>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a valid identifier"))))
        .transpose()
}

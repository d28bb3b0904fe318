//! The stories of requests, for people who ask what came of one and why. Nothing is decided by them.

use super::sql::{Row, SqlError, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{RequestId, Story};

/// Rows that are deleted in one transaction, so that nobody waits long for its own.
const SWEEP: u32 = 1000;

/// Which stories to list.
#[derive(Clone, Debug, Default)]
pub struct StoryQuery {
    /// Only this tenant's; `None` is everybody's.
    pub tenant: Option<String>,
    /// Only those asked from here on.
    pub since_ms: Option<Millis>,
    /// The newest so many.
    pub limit: u32,
}

impl Store {
    /// Writes down what came of requests, in place of what was written of them before.
    pub async fn write_stories(&self, stories: Vec<Story>) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(stories.len());
        for story in &stories {
            let text = serde_json::to_string(story).map_err(|error| StoreError::Database(error.to_string()))?;
            let parent = story.parent.map(RequestId::to_bytes);
            rows.push(values![story.request.to_bytes(), &story.tenant, story.at_ms, parent, text]);
        }
        self.engine
            .write(move |sql| {
                for row in &rows {
                    sql.execute(
                        "INSERT INTO requests (id, tenant, at_ms, parent, story) VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT (id) DO UPDATE SET story = excluded.story",
                        row,
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// What came of the request `id`, if it is known; of any tenant's, unless one is named.
    pub async fn story(&self, id: RequestId, tenant: Option<String>) -> Result<Option<Story>, StoreError> {
        self.engine
            .read(move |sql| {
                // The comparison first: it tells PostgreSQL of which type the parameter is.
                let row = sql.first(
                    "SELECT story FROM requests WHERE (tenant = ?2 OR ?2 IS NULL) AND id = ?1",
                    &values![id.to_bytes(), &tenant],
                )?;
                row.as_ref().map(story_of_row).transpose()
            })
            .await
    }

    /// What came of the requests that go on with `parent`, oldest first.
    pub async fn stories_after(&self, parent: RequestId) -> Result<Vec<Story>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT story FROM requests WHERE parent = ?1 ORDER BY at_ms, id LIMIT 100",
                    &values![parent.to_bytes()],
                )?;
                rows.iter().map(story_of_row).collect()
            })
            .await
    }

    /// The newest stories that `query` matches, oldest first.
    pub async fn stories(&self, query: StoryQuery) -> Result<Vec<Story>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT story FROM requests WHERE (tenant = ?1 OR ?1 IS NULL) AND at_ms >= ?2
                     ORDER BY at_ms DESC, id LIMIT ?3",
                    &values![&query.tenant, query.since_ms.unwrap_or(Millis::MIN), query.limit],
                )?;
                rows.iter().rev().map(story_of_row).collect()
            })
            .await
    }

    /// Forgets the stories of requests that were asked before `before`, and of the others all but the newest `most`.
    /// Returns how many.
    pub async fn forget_stories(&self, before: Millis, most: Option<u64>) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let gone = self
                .engine
                .write(move |sql| {
                    let beyond = match most {
                        None => None,
                        Some(most) => sql.first(
                            "SELECT at_ms FROM requests ORDER BY at_ms DESC LIMIT 1 OFFSET ?1",
                            &values![most],
                        )?,
                    };
                    // Those of the same moment go, too.
                    let bound = beyond.map(|row| row.int(0)).transpose()?.map_or(before, |at| before.max(at + 1));
                    sql.execute(
                        "DELETE FROM requests WHERE id IN
                           (SELECT id FROM requests WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
                        &values![bound, SWEEP],
                    )
                })
                .await?;
            forgotten += gone;
            if gone < u64::from(SWEEP) {
                return Ok(forgotten);
            }
        }
    }
}

fn story_of_row(row: &Row) -> Result<Story, SqlError> {
    serde_json::from_str(&row.text(0)?).map_err(|error| SqlError::Failed(format!("a story cannot be read: {error}")))
}

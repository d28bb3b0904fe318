//! What the database is and what is in it, for whoever looks after it.

use std::time::Duration;

use tokio::time::Instant;

use super::sql::{Engine, values};
use super::{Store, StoreError};

/// The database behind a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// What it is: `SQLite` or `PostgreSQL`.
    pub engine: &'static str,
    /// Its version, as it says itself.
    pub version: String,
    /// How long one small question took.
    pub took: Duration,
}

impl Store {
    /// What the database says of itself.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn database(&self) -> Result<DatabaseFacts, StoreError> {
        let (engine, question) = match self.engine {
            Engine::Sqlite(_) => ("SQLite", "SELECT sqlite_version()"),
            Engine::Postgres(_) => ("PostgreSQL", "SELECT current_setting('server_version')"),
        };
        let asked = Instant::now();
        let version =
            self.engine.read(move |sql| sql.first(question, &[])?.map_or(Ok(String::new()), |row| row.text(0))).await?;
        Ok(DatabaseFacts { engine, version, took: asked.elapsed() })
    }

    /// The size, in pixels, that most of a route's pictures have which are stored now; `None` without any.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn typical_size(&self, route: &str) -> Result<Option<(u32, u32)>, StoreError> {
        let route = route.to_owned();
        self.engine
            .read(move |sql| {
                let row = sql.first(
                    "SELECT p.width, p.height FROM entries e JOIN pictures p ON p.id = e.picture WHERE e.route = ?1
                     GROUP BY p.width, p.height ORDER BY count(*) DESC, p.width, p.height LIMIT 1",
                    &values![&route],
                )?;
                row.map(|row| Ok((row.small(0)?, row.small(1)?))).transpose()
            })
            .await
    }
}

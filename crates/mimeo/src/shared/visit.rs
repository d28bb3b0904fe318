//! One look at a Redis, for whoever looks after it.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Address;

/// What a Redis says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its version, or that of the Valkey that it is.
    pub version: String,
    /// How long one small question took on an open connection.
    pub took: Duration,
}

impl Address {
    /// Connects, asks who is there, and leaves.
    ///
    /// # Errors
    /// It does not answer within `patience`, in words that hold no password.
    pub async fn visit(&self, patience: Duration) -> Result<Visit, String> {
        let visit = async {
            let mut connection = self.client().get_multiplexed_async_connection().await?;
            let about: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
            let asked = Instant::now();
            redis::cmd("PING").exec_async(&mut connection).await?;
            Ok::<_, redis::RedisError>((about, asked.elapsed()))
        };
        let (about, took) = timeout(patience, visit)
            .await
            .map_err(|_| format!("no answer within {} ms", patience.as_millis()))?
            .map_err(|error| error.to_string())?;
        let line = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
        let version = line("valkey_version:").map(|version| format!("Valkey {version}"));
        let version = version.or_else(|| line("redis_version:").map(|version| format!("Redis {version}")));
        Ok(Visit { version: version.unwrap_or_else(|| "of an unknown version".to_owned()), took })
    }
}

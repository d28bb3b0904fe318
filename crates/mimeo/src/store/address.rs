//! Where a database server is. Prints as host and port; the password in it is nowhere to be seen.

use std::fmt;

use postgres::Config;
use postgres::config::Host;

/// The text is not the address of a PostgreSQL. Never repeats any of it, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not the address of a PostgreSQL: write postgres://USER:PASSWORD@HOST:5432/NAME. Special characters of a \
     password are written as %XX; sslmode is disable, prefer or require, and certificates are always checked"
)]
pub struct BadDatabaseAddress;

/// Where a database server is, and who we are there.
#[derive(Clone)]
pub struct DatabaseAddress(Config);

impl DatabaseAddress {
    /// Parses `postgres://USER[:PASSWORD]@HOST[:PORT]/NAME[?OPTIONS]`, or the same as `KEY=VALUE` pairs.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(url: &str) -> Result<DatabaseAddress, BadDatabaseAddress> {
        let config: Config = url.parse().map_err(|_| BadDatabaseAddress)?;
        // Whatever has a `=` in it passes as a pair; without a host nobody meant it.
        if config.get_hosts().is_empty() {
            return Err(BadDatabaseAddress);
        }
        Ok(DatabaseAddress(config))
    }

    /// True if the address is a secret.
    pub fn has_password(&self) -> bool {
        self.0.get_password().is_some()
    }

    /// The settings of connections to there.
    pub(super) fn into_config(self) -> Config {
        self.0
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.get_ports().first().copied().unwrap_or(5432);
        match self.0.get_hosts().first() {
            Some(Host::Tcp(host)) => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Some(Host::Unix(path)) => write!(f, "{}:{port}", path.display()),
            None => write!(f, "localhost:{port}"),
        }
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_without_their_secrets() {
        for (url, shown, secret) in [
            ("postgres://mimeo@db.internal/mimeo", "db.internal:5432", false),
            ("postgres://mimeo:s3kr1t@db:6000/mimeo?sslmode=require", "db:6000", true),
            ("host=db user=mimeo password=s3kr1t dbname=mimeo", "db:5432", true),
        ] {
            let address = DatabaseAddress::parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.has_password()), (shown, secret), "{url}");
            assert_eq!(format!("{address:?}"), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_repeating_it() {
        for url in ["mysql://u:s3kr1t@h/db", "postgres://mimeo:s3kr1t@h:port/db", "s3kr1t", "", "password=s3kr1t"] {
            let told = DatabaseAddress::parse(url).unwrap_err().to_string();
            assert!(told.contains("postgres://USER") && !told.contains("s3kr1t"), "{url}: {told}");
        }
    }
}

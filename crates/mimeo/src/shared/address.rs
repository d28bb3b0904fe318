//! Where Redis is. Prints as host and port; the password in it is nowhere to be seen.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion};

/// The text is not the address of a Redis. Never repeats any of it, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It cannot be parsed.
    #[error(
        "is not the address of a Redis: write redis://HOST:6379/0, rediss://HOST:6379/0 for TLS, or unix:///PATH. \
         Special characters of a password are written as %XX"
    )]
    Malformed,
    /// It asks for TLS without certificates.
    #[error("ends in #insecure, and certificates are always checked: drop that, and give the server a certificate")]
    Insecure,
}

/// Where a Redis is, and how to authenticate there.
#[derive(Clone)]
pub struct Address(Client);

impl Address {
    /// Parses `redis://[USER][:PASSWORD@]HOST[:PORT][/DATABASE]`, the same with `rediss://` for TLS (also
    /// `valkey://` and `valkeys://`), or `unix:///PATH[?db=…&user=…&pass=…]`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(url: &str) -> Result<Address, BadAddress> {
        let info = url.into_connection_info().map_err(|_| BadAddress::Malformed)?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(BadAddress::Insecure);
        }
        // The third protocol lets one connection carry answers and messages.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        Client::open(info).map(Address).map_err(|_| BadAddress::Malformed)
    }

    /// True if the address is a secret.
    pub fn has_password(&self) -> bool {
        self.0.get_connection_info().redis_settings().password().is_some()
    }

    /// Makes connections to there.
    pub(super) fn client(&self) -> Client {
        self.0.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get_connection_info().addr().fmt(f)
    }
}

impl fmt::Debug for Address {
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
            ("redis://cache.internal", "cache.internal:6379", false),
            ("redis://me:s3kr1t@cache:7000/2", "cache:7000", true),
            ("rediss://:s3kr1t@cache/1", "cache:6379", true),
            ("valkey://cache", "cache:6379", false),
            ("unix:///run/redis.sock?pass=s3kr1t", "/run/redis.sock", true),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.has_password()), (shown, secret));
            assert!(!format!("{address:?} {:?}", address.client()).contains("s3kr1t"));
        }
    }

    #[test]
    fn what_is_no_address_is_not_repeated() {
        for url in [
            "",
            "s3kr1t",
            "http://s3kr1t@x",
            "redis://:s3kr1t@",
            "redis://:s3kr1t@x/s3kr1t",
            "redis://x?protocol=s3kr1t",
        ] {
            let message = Address::parse(url).unwrap_err().to_string();
            assert!(!message.contains("s3kr1t") && message.contains("redis://HOST"), "{message}");
        }
        assert_eq!(Address::parse("rediss://x#insecure").unwrap_err(), BadAddress::Insecure);
    }
}

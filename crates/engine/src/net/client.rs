//! The HTTP clients. Every one of them follows no redirect, repeats nothing by itself, decompresses
//! nothing, and gives up on connections that are slow to come: a paid call is sent once, as written.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, ClientBuilder};

use super::guard;

/// How long a connection may take to come about, name resolution and TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept. Shorter than the 60 s and more after which servers and load
/// balancers close theirs: a POST on a connection that is being closed is a call nobody can account for.
const IDLE: Duration = Duration::from_secs(20);

/// How long one request to an object store may take, up to the last byte of the answer.
const OBJECT: Duration = Duration::from_secs(30);

/// How long a connection to an object store may take to come about. It is tried again, so this is short.
const OBJECT_CONNECT: Duration = Duration::from_secs(5);

/// No client could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoClient(String);

/// The clients of one gateway. Each is made when it is first needed, because reading the machine's
/// certificates takes time; cloning shares them and their connections.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    plain: OnceLock<Result<Client, NoClient>>,
    secure: OnceLock<Result<Client, NoClient>>,
    guarded: OnceLock<Result<Client, NoClient>>,
    plain_storage: OnceLock<Result<Client, NoClient>>,
    secure_storage: OnceLock<Result<Client, NoClient>>,
}

impl Clients {
    /// For `http://` addresses that the operator configured. Works on a machine without certificates,
    /// and never goes through a proxy: what is reached without TLS is near.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn plain(&self) -> Result<&Client, NoClient> {
        // No roots at all, instead of the machine's: nothing is read, and https would fail closed.
        get(&self.0.plain, || finish(base().no_proxy().tls_certs_only([])))
    }

    /// For `https://` addresses that the operator configured or the catalogue names. Uses the proxy that
    /// `HTTPS_PROXY` names, if any.
    ///
    /// # Errors
    /// The machine has no certificates, or the client cannot be made for another reason.
    pub fn secure(&self) -> Result<&Client, NoClient> {
        get(&self.0.secure, || finish(base()))
    }

    /// For addresses that somebody else chose, such as a provider's answer: resolves no name to a
    /// private address, whatever the name server says, and uses no proxy, which would resolve by itself.
    ///
    /// # Errors
    /// The machine has no certificates, or the client cannot be made for another reason.
    pub fn guarded(&self) -> Result<&Client, NoClient> {
        get(&self.0.guarded, || finish(base().no_proxy().dns_resolver(Arc::new(guard::PublicOnly))))
    }

    /// For object stores that the operator configured, by the scheme of the address. Unlike a paid call, a
    /// request for an object has an end in sight: it and its answer may take 30 s. Proxies and
    /// certificates are as for [`Clients::plain`] and [`Clients::secure`].
    ///
    /// # Errors
    /// As for these.
    pub fn storage(&self, scheme: &str) -> Result<&Client, NoClient> {
        // One connection per transfer is faster than many transfers that share one.
        let patient =
            |builder: ClientBuilder| finish(builder.http1_only().timeout(OBJECT).connect_timeout(OBJECT_CONNECT));
        if scheme == "http" {
            get(&self.0.plain_storage, || patient(base().no_proxy().tls_certs_only([])))
        } else {
            get(&self.0.secure_storage, || patient(base()))
        }
    }

    /// The client for a configured base address.
    ///
    /// # Errors
    /// As for [`Clients::plain`] and [`Clients::secure`].
    pub fn for_base(&self, url: &reqwest::Url) -> Result<&Client, NoClient> {
        if url.scheme() == "http" { self.plain() } else { self.secure() }
    }
}

fn get(
    cell: &OnceLock<Result<Client, NoClient>>,
    make: impl FnOnce() -> Result<Client, NoClient>,
) -> Result<&Client, NoClient> {
    cell.get_or_init(make).as_ref().map_err(Clone::clone)
}

/// What all clients have in common.
#[expect(clippy::disallowed_methods, reason = "the one place that builds clients")]
fn base() -> ClientBuilder {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // An error means that another part of the process has chosen one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder()
        .user_agent(concat!("mimeo/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        // One HTTP/2 connection carries many pictures of several megabytes: let its window grow.
        .http2_adaptive_window(true)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
}

fn finish(builder: ClientBuilder) -> Result<Client, NoClient> {
    builder.build().map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        NoClient(format!(
            "no HTTPS client can be made on this machine: {cause}. If it has no CA certificates, install the package \
             `ca-certificates`, or set SSL_CERT_FILE to a bundle of them"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_certificates_can_still_speak_plain_http() {
        // The plain client reads no certificates at all, so this holds on every machine.
        assert!(Clients::default().plain().is_ok());
        assert!(Clients::default().storage("http").is_ok());
    }

    #[test]
    fn clients_are_made_once() {
        let clients = Clients::default();
        let first: *const Client = clients.plain().unwrap();
        let again: *const Client = clients.clone().plain().unwrap();
        assert_eq!(first, again);
    }
}

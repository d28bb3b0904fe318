//! Which addresses may be called when somebody else chose them.
//!
//! A provider's answer can name any URL. Fetching it must not become a way into the network that the gateway
//! stands in: no loopback, private, link-local, carrier, metadata or otherwise special address, no such address
//! in disguise (mapped into IPv6, translated, tunnelled), and none behind a name either. Names are checked where
//! the connection is made, by [`PublicOnly`], so that a name which changes its address between check and
//! connection gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why an address may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Neither `https` nor the provider's own server.
    #[error("it is not an https address")]
    NotHttps,
    /// The address is special, or there is none.
    #[error("it does not lead to a public host")]
    NotPublic,
    /// User and password in an address have no business in a picture's URL.
    #[error("it contains credentials")]
    Credentials,
}

/// May `url`, chosen by somebody else, be called through the guarded client?
///
/// # Errors
/// Why not.
pub fn check(url: &Url) -> Result<(), Blocked> {
    if url.scheme() != "https" {
        return Err(Blocked::NotHttps);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Blocked::Credentials);
    }
    if leads_out(url) { Ok(()) } else { Err(Blocked::NotPublic) }
}

/// True if the host of `url` is, by its looks, one of the public internet: not of this machine or its network.
pub fn leads_out(url: &Url) -> bool {
    // The URL parser has brought every spelling of an IPv4 address (octal, hexadecimal, one number) to this.
    match host(url) {
        Some(Host::Address(address)) => is_public(address),
        Some(Host::Name(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name.contains('.')
                && !name.ends_with(".localhost")
                && !name.ends_with(".local")
                && !name.ends_with(".internal")
        }
        None => false,
    }
}

/// True if the host of `url` is one of `domains`, or below one of them.
pub fn is_within(url: &Url, domains: &[String]) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_below = |domain: &String| {
        host.strip_suffix(domain.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    domains.iter().any(is_below)
}

enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

fn host(url: &Url) -> Option<Host<'_>> {
    let text = url.host_str()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some(bare.parse().map_or(Host::Name(text), Host::Address))
}

/// True for an address on the public internet: not for any of the special ones.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0                                    // this network
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()              // with the metadata service 169.254.169.254
        || (a == 100 && (64..=127).contains(&b)) // carriers' shared space
        || (a == 192 && b == 0 && c == 0)       // protocol assignments
        || (a == 192 && b == 88 && c == 99)     // 6to4 relays
        || (a == 198 && (b == 18 || b == 19))   // benchmarks
        || address.is_documentation()
        || address.is_multicast()
        || a >= 240) // reserved, and broadcast
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, c, _, e, f, g, h] = segments;
    let embedded = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(w, x, y, z)
    };
    match segments {
        // ::/96 (unspecified, loopback, compatible) and ::ffff:0:0/96 (mapped): never needed, always a disguise.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => false,
        // Translated by NAT64: as public as the IPv4 address in it.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(embedded(g, h)),
        // 6to4 the same.
        [0x2002, ..] => is_public_v4(embedded(b, c)),
        _ => {
            // Only global unicast is handed out; inside it, leave out Teredo, ORCHID, documentation and the like.
            (a & 0xe000) == 0x2000
                && !(a == 0x2001 && b < 0x200)
                && !(a == 0x2001 && b == 0xdb8)
                && !(a == 0x3fff && b < 0x1000)
                // ISATAP carries an IPv4 address in the interface identifier.
                && !((e == 0 || e == 0x200) && f == 0x5efe && !is_public_v4(embedded(g, h)))
        }
    }
}

/// Resolves names to public addresses only.
#[derive(Clone, Copy, Debug)]
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Blocked::NotPublic.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::10.0.0.1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "2606:4700::5efe:10.0.0.1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
        for public in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn urls() {
        let verdict = |url: &str| check(&url.parse().unwrap());
        assert_eq!(verdict("https://images.example.com/a.png?sig=1"), Ok(()));
        assert_eq!(verdict("https://1.1.1.1/a.png"), Ok(()));
        assert_eq!(verdict("http://images.example.com/a.png"), Err(Blocked::NotHttps));
        assert_eq!(verdict("file:///etc/passwd"), Err(Blocked::NotHttps));
        assert_eq!(verdict("https://user:word@example.com/"), Err(Blocked::Credentials));
        for private in [
            "https://localhost/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://017700000001/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://metadata.google.internal/",
            "https://printer.local./",
            "https://db/",
            "https://a.localhost/",
        ] {
            assert_eq!(verdict(private), Err(Blocked::NotPublic), "{private}");
        }
    }

    #[test]
    fn a_domain_ends_at_a_dot() {
        let domains = ["blob.example.com".to_owned()];
        let within = |url: &str| is_within(&url.parse().unwrap(), &domains);
        assert!(within("https://blob.example.com/a.png") && within("https://eu.Blob.example.com/a.png"));
        assert!(!within("https://evilblob.example.com/a.png") && !within("https://blob.example.com.evil.net/a.png"));
        assert!(!is_within(&"https://blob.example.com/".parse().unwrap(), &[]));
    }

    #[tokio::test]
    async fn names_of_private_hosts_resolve_to_nothing() {
        let answer = PublicOnly.resolve("localhost".parse().unwrap()).await;
        assert!(answer.is_err());
    }
}

//! Providers: is the key there and taken, does anybody answer, and is it the same time there and here?

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::PATIENCE;
use super::finding::Finding;
use crate::app::Blueprint;
use crate::clock::Millis;
use crate::config::Config;
use crate::providers::{Probed, Provider};

/// How far clocks may be apart, in milliseconds. Signatures hold for some minutes; a token's time of issue must not be
/// in the future.
const SKEW: Millis = 5_000;

/// `config` is as it was written: a blueprint's has an address for everybody.
pub(super) async fn examine(findings: &mut Vec<Finding>, blueprint: &Blueprint, config: &Config, is_offline: bool) {
    let registry = blueprint.routes.registry();
    let providers: Vec<&Arc<Provider>> = registry.providers().filter(|p| p.record.shape.is_remote()).collect();
    if providers.is_empty() {
        let todo = "Set a provider's key variable; `mimeo providers --all` says which.";
        findings.push(Finding::warning("provider", "", "none is there: only templates can be drawn", todo));
        return;
    }
    // A simulated one without an address runs inside `mimeo serve` and nowhere else.
    let is_inside = |provider: &Provider| {
        provider.is_simulated() && config.providers.get(&provider.name).is_some_and(|p| p.base_url.is_none())
    };
    if is_offline {
        findings.extend(providers.iter().map(|provider| key_alone(provider)));
        return;
    }
    let probes =
        join_all(providers.iter().map(|provider| async move {
            if is_inside(provider) { None } else { Some(provider.probe(PATIENCE).await) }
        }));
    let mut ahead = Vec::new();
    for (provider, probed) in providers.iter().zip(probes.await) {
        let name = provider.name.as_str();
        match probed {
            None => findings.push(Finding::good("reach", name, "it runs in the gateway itself")),
            Some(Err(why)) => {
                findings.push(key_alone(provider));
                findings.push(Finding::broken("reach", name, format!("{}: {why}", provider.address()), UNREACHED));
            }
            Some(Ok(probed)) => {
                findings.push(key(provider, probed));
                findings.push(reach(provider, probed));
                ahead.extend(probed.ahead);
            }
        }
    }
    findings.extend(clock(&mut ahead));
}

const UNREACHED: &str = "See that the server runs, that its name and port are right (providers.NAME.base_url), and that a \
                         firewall or proxy (HTTPS_PROXY) lets this machine through.";

/// The key, as far as it can be judged without asking anybody.
fn key_alone(provider: &Provider) -> Finding {
    let found = if provider.has_key() { "it is set, and was not tried" } else { "none is needed" };
    Finding::good("key", &provider.name, found)
}

fn key(provider: &Provider, probed: Probed) -> Finding {
    let name = provider.name.as_str();
    let asked = provider.record.probe_path.as_deref().unwrap_or_default();
    if !provider.has_key() && probed.status != 401 {
        return Finding::good("key", name, "none is needed");
    }
    if !probed.with_key && provider.has_key() {
        return Finding::good("key", name, "it is set; whether it is accepted cannot be checked without paying");
    }
    match probed.status {
        200..=299 => Finding::good("key", name, format!("it is accepted (GET {asked}, {})", time(probed.took))),
        401 => Finding::broken(
            "key",
            name,
            format!("it is refused (401 to GET {asked})"),
            match &provider.record.auth.env {
                Some(variable) => format!("Put a valid key into {variable}, or where providers.{name}.api_key points."),
                None => format!("Put a valid key where providers.{name}.api_key points."),
            },
        ),
        status => Finding::warning(
            "key",
            name,
            format!("GET {asked} is answered with {status}, which does not say whether it is accepted"),
            "Look at the key's permissions, or make one cheap picture with `mimeo generate`.",
        ),
    }
}

fn reach(provider: &Provider, probed: Probed) -> Finding {
    let (name, address) = (provider.name.as_str(), provider.address());
    match probed.status {
        status @ 500.. => Finding::warning(
            "reach",
            name,
            format!("{address} answers, with {status}"),
            "Look at the provider's status page; a route's other candidates are asked meanwhile.",
        ),
        _ => Finding::good("reach", name, format!("{address} answers ({})", time(probed.took))),
    }
}

/// The machine's clock against the middle one of those that were heard: one wrong server says nothing.
fn clock(ahead: &mut [Millis]) -> Option<Finding> {
    ahead.sort_unstable();
    let middle = *ahead.get(ahead.len() / 2)?;
    let seconds = middle.abs() / 1000;
    let found = match middle {
        _ if middle.abs() <= SKEW => {
            return Some(Finding::good("clock", "", "it agrees with those of the providers"));
        }
        1.. => format!("it is {seconds} s behind those of the providers"),
        _ => format!("it is {seconds} s before those of the providers"),
    };
    let todo = "Let the machine keep time (chrony, systemd-timesyncd): signed calls and tokens fail otherwise.";
    Some(Finding::warning("clock", "", found, todo))
}

fn time(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_middle_clock_counts() {
        assert!(clock(&mut []).is_none());
        let level = |ahead: &mut [Millis]| clock(ahead).map(|finding| finding.level);
        assert_eq!(level(&mut [900, -400, 86_400_000]), Some(Level::Good));
        assert_eq!(level(&mut [5_000]), Some(Level::Good));
        assert_eq!(level(&mut [5_001]), Some(Level::Warning));
        assert!(clock(&mut [-61_000, -60_500, 0]).unwrap().found.contains("60 s before"));
    }
}

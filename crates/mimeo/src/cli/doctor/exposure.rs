//! Who can reach the gateway and spend money there, and where keys lead.

use super::finding::Finding;
use crate::config::{Choice, Config, CreditUse};

pub(super) fn examine(findings: &mut Vec<Finding>, config: &Config) {
    let listen = config.server.listen.to_string();
    findings.push(match (config.keys.len(), &config.server.public_url) {
        (0, Some(url)) => Finding::warning(
            "exposure",
            &listen,
            format!("there are no keys, and server.public_url = {url}: whoever gets through to here spends your money"),
            "Make keys with `mimeo keys new NAME`, unless something in front of Mimeo asks for them.",
        ),
        (0, None) => Finding::good("exposure", &listen, "no key is asked for, and only this machine gets here"),
        (count, _) => {
            let keys = if count == 1 { "one key opens it".to_owned() } else { format!("{count} keys open it") };
            Finding::good("exposure", &listen, keys)
        }
    });
    for warning in crate::config::environment_warnings(config) {
        let (of, found) = warning.split_once(": ").unwrap_or(("", &warning));
        findings.push(Finding::warning("environment", of, found, "Or take the key's environment out."));
    }
    for (name, route) in config.routes.iter().filter(|(_, route)| route.credits == CreditUse::Only) {
        let has_plan = |candidate: &Choice| {
            let account = candidate.model.split('/').next().unwrap_or_default();
            config.providers.get(account).and_then(|p| p.plan.as_ref()).is_some_and(|plan| !plan.included.is_empty())
        };
        if !route.candidates.iter().any(has_plan) {
            findings.push(Finding::broken(
                "credits",
                name,
                "credits = \"only\", and no account of its candidates has a plan: it makes no picture",
                "Say what is included in providers.NAME.plan, or use credits = \"first\".",
            ));
        }
    }
}

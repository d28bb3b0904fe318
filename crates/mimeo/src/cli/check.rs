//! `mimeo check`: everything that `serve` would refuse, found without opening anything.

use super::{Common, Outcome, print};
use crate::config::Environment;

pub(super) fn run(common: &Common, environment: &Environment) -> Outcome {
    let config = common.config(None)?;
    let blueprint = common.blueprint(config, environment)?;
    let routes = &blueprint.routes;
    let providers: Vec<&str> =
        routes.registry().providers().filter(|p| p.record.shape.is_remote()).map(|p| p.name.as_str()).collect();
    let mut out = format!(
        "configuration is good: {} provider{} ({}), {} route{}, {} template{}, {} key{}\n",
        providers.len(),
        plural(providers.len()),
        if providers.is_empty() { "none: only templates can be drawn".to_owned() } else { providers.join(", ") },
        blueprint.config.routes.len(),
        plural(blueprint.config.routes.len()),
        blueprint.renderer.templates().count(),
        plural(blueprint.renderer.templates().count()),
        blueprint.config.keys.len(),
        plural(blueprint.config.keys.len()),
    );
    let lost = crate::config::environment_warnings(&blueprint.config);
    for warning in routes.warnings(crate::clock::Clock::System.now()).into_iter().chain(lost) {
        out.push_str(&format!("warning: {warning}\n"));
    }
    print(&out)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

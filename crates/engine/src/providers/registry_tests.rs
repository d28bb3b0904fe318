use super::*;
use crate::domain::{Generated, ImageRequest, Operation, Price, Size};
use crate::pricing::VolumeTier;
use crate::providers::Record;
use crate::providers::Status;
use crate::providers::catalogue::EMBEDDED;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[derive(serde::Deserialize)]
struct Configured {
    #[serde(default)]
    providers: BTreeMap<String, settings::Provider>,
}

fn configured(text: &str) -> BTreeMap<String, settings::Provider> {
    toml::from_str::<Configured>(text).unwrap().providers
}

fn build(text: &str, variables: &[(&str, &str)]) -> Result<Registry, Vec<(String, String)>> {
    Registry::build(&configured(text), &environment(variables), &Catalogue::embedded())
}

/// On the day `date`, with a key for the record `openai` and the given configuration.
fn on(date: &str, text: &str) -> Registry {
    let noon: jiff::Timestamp = format!("{date}T12:00:00Z").parse().unwrap();
    let clock = Clock::manual(noon.as_millisecond());
    let variables = environment(&[("OPENAI_API_KEY", "sk-test")]);
    Registry::build_with(&configured(text), &variables, &Catalogue::embedded(), &clock, &Clients::default()).unwrap()
}

fn the_fault(result: Result<Registry, Vec<(String, String)>>) -> String {
    let faults = result.map(|_| ()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    let (name, message) = &faults[0];
    format!("{name}: {message}")
}

#[test]
fn what_is_complete_needs_no_configuration() {
    let names = |registry: &Registry| registry.providers().map(|provider| provider.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&build("", &[]).unwrap()), ["template"]);
    assert_eq!(names(&build("", &[("OPENAI_API_KEY", "sk-1")]).unwrap()), ["openai", "template"]);
    // An empty variable is no key.
    assert_eq!(names(&build("", &[("OPENAI_API_KEY", "")]).unwrap()), ["template"]);
    let off = build("[providers.openai]\nenabled = false", &[("OPENAI_API_KEY", "sk-1")]).unwrap();
    assert_eq!(names(&off), ["template"]);
}

#[test]
fn what_is_missing_is_named() {
    let key = the_fault(build("[providers.openai]", &[]));
    assert!(key.contains("OPENAI_API_KEY") && key.contains("api_key"), "{key}");
    let address = the_fault(build("[providers.gpu]\nrecord = \"openai-compatible\"", &[]));
    assert!(address.contains("base_url"), "{address}");
    let record = the_fault(build("[providers.gpu]\nrecord = \"openai-compatibel\"", &[]));
    assert!(record.contains("did you mean openai-compatible"), "{record}");
    let name = the_fault(build("[providers.gpu]", &[]));
    assert!(name.contains("record = "), "{name}");
    let quoted = the_fault(build("[providers.openai]", &[("OPENAI_API_KEY", "\"sk-very-secret\"")]));
    assert!(!quoted.contains("secret"), "{quoted}");
    let model = the_fault(build("[providers.openai]\nmodels = [\"no-such\"]", &[("OPENAI_API_KEY", "k")]));
    assert!(model.contains("no-such"), "{model}");
}

#[test]
fn the_configuration_overrides_the_record() {
    let registry = build(
        "[providers.gpu]\nrecord = \"openai-compatible\"\nbase_url = \"http://10.0.0.5:8000/v1/\"\ntimeout_s = 7\n\
         models = [\"sdxl\", \"flux\"]\nprices = { usd_per_image = \"0.0008\" }",
        &[],
    )
    .unwrap();
    let gpu = registry.provider("gpu").unwrap();
    assert_eq!(gpu.base.as_ref().unwrap().as_str(), "http://10.0.0.5:8000/v1");
    assert_eq!(gpu.timeout, Duration::from_secs(7));
    assert!(gpu.model("other").is_none());
    let model = gpu.model("sdxl").unwrap();
    let request = ImageRequest::generate("x");
    assert_eq!(model.expected(&request, 2, 0), Price::Known("0.0016".parse().unwrap()));
    let (provider, found) = registry.find("flux").unwrap();
    assert_eq!((provider.name.as_str(), found.id.as_str()), ("gpu", "flux"));
}

#[test]
fn an_account_has_the_plan_that_was_bought_or_what_is_free() {
    // What the smallest plan includes is known of this one, and that nobody said that it was bought.
    let key = [("BANNERBEAR_API_KEY", "k")];
    let of = |text: &str| build(text, &key).unwrap().provider("bannerbear").unwrap().plan.clone();
    assert!(Catalogue::embedded().record("bannerbear").unwrap().plan.is_some());
    assert_eq!(of(""), None);
    let bought = of(
        "[providers.bannerbear.plan]\nfee_usd = \"49\"\nincluded = [{ pictures = 9, per = \"month\", paid = true }]",
    );
    assert_eq!(bought.unwrap().included[0].pictures, Some(9));
    let free = build("[providers.cloudflare]\nvars.account = \"a\"", &[("CLOUDFLARE_API_TOKEN", "k")]).unwrap();
    assert_eq!(free.provider("cloudflare").unwrap().plan.as_ref().unwrap().included[0].usd, "0.11".parse().ok());
    assert!(the_fault(build("[providers.bannerbear.plan]\nfee_usd = \"-1\"", &key)).contains("plan.fee_usd"));
}

#[test]
fn a_model_costs_what_holds_on_the_day() {
    let mut model = Catalogue::embedded().record("bfl").unwrap().models[0].clone();
    let now = Prices {
        tiers: vec![VolumeTier { after_pictures: 100, permille: 500 }],
        ..Prices::flat("0.04".parse().unwrap())
    };
    let later = Prices { from: "2027-01-01".parse().ok(), ..Prices::flat("0.05".parse().unwrap()) };
    (model.prices, model.price_changes) = (Some(now), vec![later]);
    let request = ImageRequest::generate("x");
    for (day, pictures, usd) in
        [("2026-12-31", 0, "0.04"), ("2026-12-31", 100, "0.02"), ("2027-01-01", 0, "0.05"), ("2027-01-01", 100, "0.05")]
    {
        let prices = model.prices_on(day.parse().unwrap(), pictures).unwrap();
        let expected = model.expected_with(Some(&prices), &request, 1, 0);
        assert_eq!(expected, Price::Known(usd.parse().unwrap()), "{day} {pictures}");
        let made = Generated { pictures: vec![bytes::Bytes::new()], usage: None, billed: None, revised_prompt: None };
        assert_eq!(model.billed_with(Some(&prices), &request, 1, 0, &made), expected);
    }
    assert_eq!(model.expected_with(None, &request, 1, 0), Price::Unknown);
}

#[test]
fn an_open_provider_takes_every_name_but_does_not_catch_all() {
    let text = "[providers.gpu]\nrecord = \"openai-compatible\"\nbase_url = \"http://10.0.0.5:8000/v1\"";
    let registry = build(text, &[]).unwrap();
    assert!(registry.find("whatever").is_none());
    let candidate = registry.resolve("gpu/black-forest/flux.1@high").unwrap();
    assert_eq!((candidate.model.id.as_str(), candidate.quality.as_deref()), ("black-forest/flux.1", Some("high")));
    assert_eq!(candidate.model.expected(&ImageRequest::generate("x"), 1, 0), Price::Unknown);
    assert_eq!(registry.resolve("template/card").unwrap().model.operations, [Operation::Render]);
}

#[test]
fn what_is_gone_is_served_by_its_successor() {
    let registry = on("2026-11-21", "");
    let (_, old) = registry.find("dall-e-3").unwrap();
    assert_eq!(old.renamed_from.as_deref(), Some("dall-e-3"));
    assert_ne!(old.id, "dall-e-3");
    let request = ImageRequest {
        size: Size::Exact(1792, 1024),
        quality: Some("hd".to_owned()),
        ..ImageRequest::generate("a red kite")
    };
    assert_eq!(old.fit(&request, &BTreeMap::new(), None).unwrap().request.quality.as_deref(), Some("high"));
    // What it meant without a word is kept; a tier goes before it.
    let plain = ImageRequest { style: Some("vivid".to_owned()), ..ImageRequest::generate("a red kite") };
    let fitted = old.fit(&plain, &BTreeMap::new(), None).unwrap().request;
    assert_eq!((fitted.quality.as_deref(), fitted.style), (Some("medium"), None));
    assert_eq!(old.fit(&plain, &BTreeMap::new(), Some("draft")).unwrap().request.quality.as_deref(), Some("low"));
    // Unless it cannot: it has no styles.
    let styled = ImageRequest { style: Some("natural".to_owned()), ..request };
    assert_eq!(old.fit(&styled, &BTreeMap::new(), None).unwrap_err().param, "style");
}

#[test]
fn what_retires_is_served_until_its_day() {
    let (before, after) = (on("2026-11-30", ""), on("2026-12-01", ""));
    let name = "gpt-image-1.5";
    let model = before.find(name).unwrap().1;
    assert_eq!((model.id.as_str(), model.renamed_from.as_deref()), (name, None));
    assert!(matches!(model.status, Status::Retiring { .. }));
    let (provider, model) = after.find(name).unwrap();
    assert_eq!(model.renamed_from.as_deref(), Some(name));
    assert!(provider.serves(&model));
    assert!(!provider.models().iter().any(|known| known.id == name && provider.serves(known)));
}

#[test]
fn names_resolve_or_say_what_is_near() {
    let registry = on("2026-11-21", "");
    let candidate = registry.resolve("openai/gpt-image-2.5-sunburst@high").unwrap();
    assert_eq!(candidate.provider.name, "openai");
    assert_eq!((candidate.model.id.as_str(), candidate.quality.as_deref()), ("gpt-image-2.5-sunburst", Some("high")));
    assert_eq!(registry.resolve("gpt-image-2@low").unwrap().quality.as_deref(), Some("low"));
    for (name, says) in [
        ("openai/gpt-image-2.5-sunbrust", "did you mean gpt-image-2.5-sunburst"),
        ("opneai/gpt-image-2", "did you mean openai"),
        ("gpt-imgae-2", "did you mean gpt-image-2"),
        ("openai/gpt-image-2@max", "it has low, medium, high"),
        ("nothing-like-it-at-all", "no model"),
        ("", "no model"),
        ("/", "no provider"),
        ("@", "no model"),
    ] {
        let NoSuchModel(message) = registry.resolve(name).unwrap_err();
        assert!(message.contains(says), "{name}: {message}");
    }
}

#[test]
fn what_is_real_goes_before_what_is_simulated() {
    let text = "[providers.a-sandbox]\nrecord = \"sandbox\"\nbase_url = \"http://127.0.0.1:9/native/v1\"\n\
                [providers.gpu]\nrecord = \"openai-compatible\"\nbase_url = \"http://10.0.0.5/v1\"\nmodels = [\"draft\"]";
    let registry = on("2026-11-21", text);
    assert_eq!(registry.find("draft").unwrap().0.name, "gpu");
    assert_eq!(registry.find("premium").unwrap().0.name, "a-sandbox");
}

#[test]
fn no_secret_is_printed() {
    let registry = build("", &[("OPENAI_API_KEY", "sk-very-secret")]).unwrap();
    assert!(!format!("{registry:?}").contains("very-secret"));
}

#[test]
fn faults_of_a_record_name_file_line_and_field() {
    let good = EMBEDDED.iter().find(|(file, _)| file.contains("sandbox")).unwrap().1;
    for (from, to, says) in [
        ("title =", "titel =", "titel"),
        ("timeout_s = 60", "timeout_s = 0", "timeout_s"),
        ("shape = \"exchange\"", "shape = \"no-such\"", "no-such"),
        ("usd = \"0.01\"", "usd = \"1e3\"", "1e3"),
        ("steps = \"steps\"\n", "", "to take steps"),
        ("id = \"premium\"", "id = \"draft\"", "twice"),
        ("generate = \"/draw\"", "generate = \"draw\"", "begin with a slash"),
        ("usd = \"1\"\n", "usd = \"1\"\nunit = 1\n", "unit"),
        ("max_edge = 4096", "max_egde = 4096", "max_egde"),
    ] {
        assert!(good.contains(from), "{from}");
        let fault = Record::parse(&good.replacen(from, to, 1), "my.toml").unwrap_err();
        let text = fault.to_string();
        assert!(text.contains(says) && text.starts_with("my.toml:"), "{to}: {text}");
        assert!(fault.line.is_some(), "{to}: {text}");
    }
    assert_eq!(Record::parse("", "my.toml").unwrap_err().file, "my.toml");
}

/// What an operator says of an account goes before what is published of new ones, all of it.
#[test]
fn published_limits_hold_until_the_operator_states_any() {
    let mut record = Record::parse(EMBEDDED.iter().find(|(file, _)| file.contains("sandbox")).unwrap().1, "x").unwrap();
    record.limits = AccountLimits { requests_per_minute: Some(60), concurrent: Some(2), ..AccountLimits::default() };
    let published = limits_of(&record, &Limits { max_wait_s: 7, ..Limits::default() });
    assert_eq!((published.requests_per_minute, published.concurrent, published.max_wait_s), (Some(60), Some(2), 7));
    let stated = limits_of(&record, &Limits { requests_per_minute: Some(500), ..Limits::default() });
    assert_eq!((stated.requests_per_minute, stated.concurrent), (Some(500), None));
}

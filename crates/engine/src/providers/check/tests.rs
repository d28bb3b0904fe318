use super::*;

/// A record with jobs, a dialect and prices that is right.
const GOOD: &str = r#"name = "acme"
title = "Acme"
shape = "submit-poll"
docs = "https://acme.example/docs"
base_url = "https://{region}.acme.example"

[vars]
region = { default = "eu", env = "ACME_REGION" }

[auth]
scheme = "header"
header = "x-key"
env = "ACME_API_KEY"

[wire]
generate = "/v1/{model}"
headers = { x-region = "{region}" }

[fields]
prompt = "prompt"
width = "width"
height = "height"
quality = "grade"
seed = { at = "seed", as = "text" }

[result]
pictures = ["images/*/url"]

[job]
id = "id"
poll_path = "/v1/jobs/{id}"
status = "status"
waiting = ["queued"]
done = ["done"]

[dialects.old]
fields = { quality = "" }

[[models]]
id = "paint"
sizes = { rule = { max_edge = 2048 } }
qualities = ["low", "high"]
seed = true
tiers = { draft = "low" }

[models.prices]
certainty = "reported"
source = "https://acme.example/prices"
rates = { image = [{ usd = "0.01", quality = "low" }, { usd = "0.04", quality = "high" }] }

[[models]]
id = "paint-1"
dialect = "old"
status = { retiring = { until = "2027-01-01", successor = "paint" } }
"#;

fn faults(text: &str) -> Vec<RecordFault> {
    Record::examine(text, "acme.toml").err().unwrap_or_default()
}

/// The faults of the good record with `from` replaced by `to`.
fn changed(from: &str, to: &str) -> Vec<RecordFault> {
    assert!(GOOD.contains(from), "{from}");
    faults(&GOOD.replacen(from, to, 1))
}

#[test]
fn a_right_record_has_no_fault() {
    assert_eq!(faults(GOOD), []);
}

#[test]
fn each_fault_is_underlined() {
    for (from, to, says, underlined) in [
        ("title = \"Acme\"", "titel = \"Acme\"", "did you mean `title`?", "titel"),
        ("\"submit-poll\"", "\"submit-pol\"", "did you mean `submit-poll`?", "\"submit-pol\""),
        ("as = \"text\"", "has = \"text\"", "unknown field `has`", "has"),
        ("\"images/*/url\"", "{ of = 1 }", "none of the forms of a pick", "[{ of = 1 }]"),
        ("seed = true", "seed = 1", "expected a boolean", "1"),
        ("width = \"width\"", "widht = \"width\"", "did you mean `width`?", "widht"),
        ("rates = { image", "rate = { image", "did you mean `rates`?", "rate"),
        ("2027-01-01", "2027-13-01", "month", "\"2027-13-01\""),
        ("name = \"acme\"", "name = \"Acme\"", "lower-case", "\"Acme\""),
        ("https://{region}", "https://{regoin}", "nobody knows what {regoin} is", "\"https://{regoin}.acme.example\""),
        ("/v1/{model}", "v1/{model}", "begin with a slash", "\"v1/{model}\""),
        ("/v1/{model}", "/v1/{id}", "nobody knows what {id} is", "\"/v1/{id}\""),
        ("\"{region}\" }", "\"{zone}\" }", "{zone}", "\"{zone}\""),
        ("/v1/jobs/{id}", "/v1/jobs/{jobid}", "{jobid}", "\"/v1/jobs/{jobid}\""),
        ("header = \"x-key\"\n", "", "auth.header", "auth"),
        ("images/*/url", "/images/*/url", "no slash", "\"/images/*/url\""),
        ("images/*/url", "images[*].url", "images/*/url", "\"images[*].url\""),
        ("\"grade\"", "\"grades/*\"", "cannot be written to", "\"grades/*\""),
        ("prompt = \"prompt\"", "prompt = \"\"", "no place for prompt", "\"\""),
        (
            "waiting = [\"queued\"]",
            "waiting = [\"queued\"]\nrunning = [\"queued\"]",
            "job.waiting as well",
            "\"queued\"",
        ),
        ("done = [\"done\"]", "done = []", "would never end", "\"status\""),
        ("id = \"id\"", "poll = \"url\"", "submit-poll", "job"),
        ("quality = \"grade\"", "", "no place for quality", "qualities"),
        ("width = \"width\"", "", "has sizes", "sizes"),
        ("dialect = \"old\"", "dialect = \"odl\"", "did you mean \"old\"?", "\"odl\""),
        ("dialect = \"old\"\n", "", "no model has dialect", "old"),
        ("successor = \"paint\"", "successor = \"piant\"", "did you mean paint?", "\"piant\""),
        ("draft = \"low\"", "draft = \"lo\"", "none of its qualities", "\"lo\""),
        ("draft = \"low\"", "cheap = \"low\"", "draft, standard and premium", "\"low\""),
        ("usd = \"0.04\"", "usd = \"40\"", "$40 for one picture", "\"40\""),
        ("usd = \"0.04\"", "usd = \"-0.04\"", "negative", "image"),
        ("quality = \"high\"", "quality = \"max\"", "the quality \"max\"", "\"max\""),
        ("id = \"paint-1\"", "id = \"paint\"", "twice", "\"paint\""),
        ("\"reported\"", "\"configured\"", "operators", "\"configured\""),
    ] {
        let found = changed(from, to);
        let fault = found.iter().find(|fault| fault.message.contains(says));
        let fault = fault.unwrap_or_else(|| panic!("{from} → {to}: {found:#?}"));
        let (text, meant) = fault.excerpt_of().expect("an excerpt");
        let column = fault.column.expect("a column") - 1;
        let shown: String = text.chars().skip(column).take(meant).collect();
        assert_eq!(shown, underlined, "{from} → {to}: {fault}");
        assert_eq!(found.len(), 1, "{from} → {to}: {found:#?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let several = |changes: &[(&str, &str)]| {
        let text = changes.iter().fold(GOOD.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        faults(&text).iter().map(|fault| fault.line.expect("a line")).collect::<Vec<_>>()
    };
    let line = |needle: &str| GOOD.lines().position(|line| line.contains(needle)).expect("there") + 1;
    // Against the grammar: in the record, in a table, in a list of a list, and in two models.
    let grammar = [
        ("docs =", "dox ="),
        ("as = \"text\"", "as = \"txt\""),
        ("usd = \"0.04\"", "usd = \"four cents\""),
        ("seed = true", "seed = 1"),
        ("id = \"paint-1\"", "name = \"paint-1\""),
    ];
    let lines = several(&grammar);
    assert_eq!(lines, [line("docs"), line("as = "), line("seed = true"), line("usd"), line("paint-1\"")]);
    // Against sense.
    let sense = [("/v1/{model}", "v1/{model}"), ("draft = \"low\"", "draft = \"lo\""), ("\"paint\" }", "\"pant\" }")];
    assert_eq!(several(&sense), [line("generate"), line("draft"), line("retiring")]);
    // Against the grammar of TOML itself.
    assert_eq!(several(&[("title = \"Acme\"", "title = Acme\""), ("as = ", "as : ")]).first(), Some(&line("title")));
}

#[test]
fn a_fault_is_drawn_with_its_line() {
    let fault = changed("title =", "# \u{e9}\ntitel =").pop().expect("a fault");
    let drawn = fault.drawn(false);
    assert_eq!(
        drawn,
        "error: unknown field `titel`; did you mean `title`?\n --> acme.toml:3:1\n  |\n3 | titel = \"Acme\"\n  | ^^^^^\n"
    );
    assert!(fault.drawn(true).contains("\u{1b}[1;31m^^^^^\u{1b}[0m"));
    assert_eq!(fault.to_string(), "acme.toml:3:1: unknown field `titel`; did you mean `title`?");
    assert_eq!(RecordFault::file("a", "b").drawn(false), "error: b\n --> a\n");
}

#[test]
fn what_a_dialect_does_not_change_is_told_once() {
    for (from, to) in [
        ("prompt = \"prompt\"\nwidth", "prompt = \"\"\nwidth"),
        ("id = \"id\"", "poll = \"url\""),
        ("/v1/jobs/{id}", "v1/jobs/{id}"),
    ] {
        let found = changed(from, to);
        assert_eq!(found.len(), 1, "{found:#?}");
    }
}

#[test]
fn a_dialect_is_blamed_for_what_it_changes() {
    let found = changed("fields = { quality = \"\" }", "fields = { quality = \"/x\" }\nwire = { generate = \"nope\" }");
    let lines: Vec<_> = found.iter().map(|fault| fault.line.expect("a line")).collect();
    let line = GOOD.lines().position(|line| line == "[dialects.old]").expect("there") + 1;
    assert_eq!(lines, [line + 1, line + 2], "{found:#?}");
}

#[test]
fn versions_of_prices_follow_each_other() {
    let change = |from: &str, more: &str| {
        format!(
            "rates = {{ image = [{{ usd = \"0.01\" }}] }}\n\n[[models.price_changes]]\n{from}\n{more}\ncertainty = \"reported\"\n\
             source = \"x\"\nrates = {{ image = [{{ usd = \"0.02\" }}] }}\n"
        )
    };
    let rates = "rates = { image = [{ usd = \"0.01\", quality = \"low\" }, { usd = \"0.04\", quality = \"high\" }] }";
    assert_eq!(changed(rates, &change("from = \"2027-01-01\"", "")), []);
    for (from, more, says) in [
        ("", "", "needs the day `from`"),
        ("from = \"2027-01-01\"", "batch_permille = 2000", "price_changes.0.batch_permille = 2000"),
    ] {
        let found = changed(rates, &change(from, more));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].message.contains(says), "{found:#?}");
    }
    let both = format!("from = \"2027-01-01\"\n{}", change("from = \"2027-01-01\"", ""));
    assert!(changed(rates, &both)[0].message.contains("begins after the one before"));
}

#[test]
fn a_plan_says_what_it_includes() {
    let plan = "[plan]\nfee_usd = \"10\"\nincluded = [{ pictures = 5, usd = \"1\", per = \"month\" }]\n\n[vars]";
    let found = changed("[vars]", plan);
    assert!(found[0].message.contains("either pictures or usd"), "{found:#?}");
    assert_eq!(found[0].line, Some(9), "{found:#?}");
}

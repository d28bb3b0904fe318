use super::*;

fn laid(text: &str) -> Result<Catalogue, Vec<RecordFault>> {
    let mut catalogue = Catalogue::embedded();
    catalogue.lay(text, "prices.toml").map(|()| catalogue)
}

fn flat(provider: &str, model: &str, rest: &str) -> String {
    format!(
        "[[models]]\nprovider = \"{provider}\"\nmodel = \"{model}\"\n[models.prices]\ncertainty = \"configured\"\n\
         source = \"contract\"\n{rest}\n"
    )
}

#[test]
fn prices_are_laid_over_a_record() {
    let text = flat("bfl", "flux-dev", "rates = { image = [{ usd = \"0.02\" }] }")
        + &flat("sandbox", "draft", "rates = { image = [{ usd = \"0.5\" }] }");
    let catalogue = laid(&text).unwrap();
    let price = |provider: &str, model: &str| {
        let record = catalogue.record(provider).unwrap();
        record.models.iter().find(|known| known.id == model).unwrap().prices.clone().unwrap()
    };
    assert_eq!(price("bfl", "flux-dev").source, "contract");
    assert_eq!(price("sandbox", "draft").certainty, crate::pricing::Certainty::Configured);
    // The others of the record are as they were, and so is how one speaks to it.
    let before = Catalogue::embedded();
    let of =
        |catalogue: &Catalogue| catalogue.record("bfl").unwrap().models.iter().find(|m| m.id == "flux-2-pro").cloned();
    assert_eq!(of(&catalogue), of(&before));
}

#[test]
fn prices_that_begin_one_day_leave_what_holds_before() {
    let from = |day: &str, usd: &str| {
        flat("sandbox", "draft", &format!("from = \"{day}\"\nrates = {{ image = [{{ usd = \"{usd}\" }}] }}"))
    };
    let mut catalogue = laid(&from("2027-03-01", "0.5")).unwrap();
    let held = |catalogue: &Catalogue, day: &str| {
        let model = catalogue.record("sandbox").unwrap().models.iter().find(|model| model.id == "draft").unwrap();
        let prices = model.prices_on(day.parse().unwrap(), 0).unwrap().into_owned();
        model
            .expected_with(Some(&prices), &crate::domain::ImageRequest::generate("x"), 1, 0)
            .known()
            .unwrap()
            .to_string()
    };
    assert_eq!(["2027-02-28", "2027-03-01"].map(|day| held(&catalogue, day)), ["0.002", "0.5"]);
    // Another file that begins earlier takes the place of what begins later, too.
    catalogue.lay(&from("2027-02-01", "0.3"), "prices.toml").unwrap();
    assert_eq!(["2027-01-31", "2027-02-01", "2027-03-01"].map(|day| held(&catalogue, day)), ["0.002", "0.3", "0.3"]);
}

#[test]
fn what_is_written_can_be_laid() {
    let file: PriceFile = toml::from_str(&flat("bfl", "flux-dev", "rates = { image = [{ usd = \"0.02\" }] }")).unwrap();
    assert!(laid(&toml::to_string(&file).unwrap()).is_ok());
}

#[test]
fn faults_name_what_is_near() {
    let good = "rates = { image = [{ usd = \"0.02\" }] }";
    for (text, says) in [
        (flat("blf", "flux-dev", good), "did you mean bfl"),
        (flat("bfl", "flux-dve", good), "did you mean flux-dev"),
        (
            flat("bfl", "flux-dev", "rates = { image = [{ usd = \"-1\" }] }"),
            "prices.rates.image has the negative price",
        ),
        (flat("bfl", "flux-dev", "rates = { image = [{ usd = \"1\", quality = \"hi\" }] }"), "none of its qualities"),
        (flat("bfl", "flux-dev", "rates = { image = [{ usd = \"2000\" }] }"), "for one picture?"),
        (flat("bfl", "flux-dev", "rate = 1"), "unknown field"),
        (
            flat("bfl", "flux-dev", good)
                + "[[models.price_changes]]\ncertainty = \"reported\"\nsource = \"x\"\n"
                + good,
            "from",
        ),
    ] {
        let faults = laid(&text).unwrap_err();
        assert!(faults.iter().any(|fault| fault.message.contains(says)), "{says}: {faults:#?}");
    }
    // All or nothing.
    let mut catalogue = Catalogue::embedded();
    let half = flat("bfl", "flux-dev", good) + &flat("blf", "x", good);
    assert_eq!(catalogue.lay(&half, "p").unwrap_err().len(), 1);
    let model =
        |catalogue: &Catalogue| catalogue.record("bfl").unwrap().models.iter().find(|m| m.id == "flux-dev").cloned();
    assert_eq!(model(&catalogue), model(&Catalogue::embedded()));
}

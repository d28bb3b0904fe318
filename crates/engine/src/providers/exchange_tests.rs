use super::*;
use crate::domain::{Format, ImageRequest, Price, Size};
use crate::providers::testing::{self, provider, sandbox};

#[tokio::test]
async fn a_picture_with_its_cost() {
    let sandbox = sandbox().await;
    let provider = provider("sandbox", &format!("{}/native/v1", sandbox.url()), "");
    assert!(provider.is_simulated());
    let request = ImageRequest {
        size: Size::Exact(160, 120),
        seed: Some(5),
        steps: Some(20),
        output_format: Some(Format::Webp),
        ..ImageRequest::generate("a red kite")
    };
    for name in ["draft", "standard", "premium"] {
        let made = testing::submit(&provider, name, &request, 1, None).await.0.unwrap();
        let is_webp = made.pictures[0].get(8..12) == Some(b"WEBP".as_slice());
        assert_eq!(is_webp, name != "premium", "that one makes nothing but PNG");
        let model = provider.model(name).unwrap();
        assert_eq!(Price::Known(made.billed.unwrap()), model.expected(&request, 1, 0));
        assert_eq!(model.billed(&request, 1, 0, &made), model.expected(&request, 1, 0));
    }
    assert_eq!(sandbox.book().totals().billed_usd.to_string(), "0.052");
    let line = &sandbox.book().lines().unwrap()[0];
    assert_eq!(line.invoice.attempt.as_deref(), Some(testing::ATTEMPT.to_string().as_str()));
}

#[tokio::test]
async fn every_fault() {
    use FaultKind::*;
    let sandbox = sandbox().await;
    let provider = provider("sandbox", &format!("{}/native/v1", sandbox.url()), "timeout_s = 1");
    for (directive, kind) in [
        ("fail=503", Failed),
        ("fail=500", Unknown),
        ("bill-then-fail=500", Unknown),
        ("bill-then-hang", Unknown),
        ("bill-then-reset", Unknown),
        ("throttle", Throttled),
        ("quota", Denied),
        ("refuse", Refused),
        ("refuse-200", Refused),
        ("redirect", Unknown),
        ("truncate", Unknown),
        ("html", BadAnswer),
        ("garbage-json", Unknown),
    ] {
        let prompt = format!("a kite [[{directive}]]");
        let request = ImageRequest { size: Size::Exact(128, 128), ..ImageRequest::generate(prompt) };
        let before = sandbox.book().totals().count;
        let fault = testing::submit(&provider, "draft", &request, 1, None).await.0.unwrap_err();
        assert_eq!(fault.kind, kind, "{directive}: {}", fault.message);
        let billed = sandbox.book().totals().count > before;
        assert!(!billed || fault.kind.may_have_billed(), "{directive} was billed");
    }
}

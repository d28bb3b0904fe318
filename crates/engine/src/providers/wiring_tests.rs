//! What a record says is what goes over the wire, and what comes back is read as it says.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use super::*;
use crate::domain::request::TemplateCall;
use crate::domain::{Fault, FaultKind, Generated, ImageRequest, Operation, Price, Size, Usage};
use crate::providers::testing::{self, Seen, Server, input, recorded, typed};

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

/// A record with these tables and this model.
fn record(tables: &str, model: &str) -> String {
    format!(
        "name = 'x'\ntitle = 'X'\nshape = 'exchange'\nauth = {{ scheme = 'bearer', env = 'X_KEY' }}\n{tables}\n\
         [[models]]\nid = 'vendor/kite#v2'\nprices = {{ certainty = 'verified', source = 'test', \
         rates = {{ image = [{{ usd = '0.05' }}] }} }}\n{model}\n"
    )
}

async fn submit(record: &str, server: &Server, request: &ImageRequest, n: u32) -> Result<Generated, Fault> {
    let provider = recorded(record, &server.url);
    let model = provider.model("vendor/kite#v2").unwrap();
    let request = model.fit(request, &BTreeMap::new(), None).unwrap().request;
    provider.submit(&testing::job(&model, &request, n, None), &|_| {}).await
}

async fn picture_server() -> Server {
    Server::start(|_: &Seen| typed(200, "image/png", PICTURE)).await
}

fn kite() -> ImageRequest {
    ImageRequest::generate("a red kite")
}

#[tokio::test]
async fn fields_go_where_the_record_says() {
    let tables = r#"
        constants = { "generationConfig/responseModalities" = ["IMAGE"], safe = false }
        [wire]
        generate = "/v1/models/{model}:draw"
        headers = { accept = "image/*" }
        attempt_header = "x-attempt"
        [fields]
        prompt = "contents/0/parts/-/text"
        size = { at = "size", separator = "*" }
        ratio = { at = "config/ratio", separator = "x" }
        width = { query = "w" }
        height = "height"
        seed = { at = "seeds", as = "list" }
        steps = { at = "steps", as = "text" }
        quality = { at = "speed", map = { turbo = "TURBO", fine = 3 } }
        background = { at = "transparent", map = { transparent = true, opaque = false } }
        user = "user"
    "#;
    let model = "sizes = 'any'\nseed = true\nsteps = { min = 1, max = 50 }\nqualities = ['turbo', 'fine', 'own']\n\
                 backgrounds = ['transparent', 'opaque']";
    let server = picture_server().await;
    let mut request = ImageRequest {
        size: Size::Exact(1920, 1080),
        seed: Some(7),
        steps: Some(20),
        quality: Some("fine".to_owned()),
        background: Some("transparent".to_owned()),
        ..kite()
    };
    submit(&record(tables, model), &server, &request, 1).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/models/vendor/kite%23v2:draw");
    assert_eq!(seen.query.as_deref(), Some("w=1920"));
    assert_eq!((seen.header("accept"), seen.header("x-attempt").is_some()), (Some("image/*"), true));
    assert_eq!(
        seen.json(),
        json!({
            "contents": [{"parts": [{"text": "a red kite"}]}],
            "generationConfig": {"responseModalities": ["IMAGE"]},
            "safe": false, "size": "1920*1080", "config": {"ratio": "16x9"}, "height": 1080,
            "seeds": [7], "steps": "20", "speed": 3, "transparent": true, "user": "user-1",
        })
    );
    request.quality = Some("own".to_owned());
    submit(&record(&tables.replace("[wire]", "[wire]\nencode_model = true"), model), &server, &request, 1)
        .await
        .unwrap();
    let seen = &server.seen()[1];
    assert_eq!((seen.path.as_str(), &seen.json()["speed"]), ("/v1/models/vendor%2Fkite%23v2:draw", &json!("own")));
}

#[tokio::test]
async fn a_name_cannot_leave_its_path() {
    let record = record("wire = { generate = '/v1/{model}' }\nfields = { prompt = 'prompt' }", "path = '../admin?x'");
    let server = picture_server().await;
    assert_eq!(submit(&record, &server, &kite(), 1).await.unwrap_err().kind, FaultKind::NotSent);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn pictures_go_in_the_form_that_the_record_says() {
    let edit = |inputs: usize| ImageRequest {
        operation: Operation::Edit,
        inputs: [input(b"one", 2, 2), input(b"two", 2, 2), input(b"three", 2, 2)].into_iter().take(inputs).collect(),
        ..kite()
    };
    let sent = async |field: &str, inputs: usize| {
        let tables = format!("wire = {{ edit = '/e' }}\n[fields]\nprompt = 'parts/-/text'\nimage = {field}");
        let server = picture_server().await;
        let model = "operations = ['edit']\nmax_inputs = 3";
        submit(&record(&tables, model), &server, &edit(inputs), 1).await.unwrap();
        server.seen()[0].json()
    };
    let text = json!({"text": "a red kite"});
    assert_eq!(
        sent("{ at = 'image', more = 'image_{i}', as = 'base64' }", 3).await,
        json!({"parts": [text], "image": "b25l", "image_2": "dHdv", "image_3": "dGhyZWU="})
    );
    assert_eq!(
        sent("{ at = 'images/-', as = 'data-url' }", 2).await,
        json!({"parts": [text], "images": ["data:image/png;base64,b25l", "data:image/png;base64,dHdv"]})
    );
    assert_eq!(
        sent("{ at = 'parts/-/inlineData/data', as = 'base64', beside = { mimeType = '{mime}' } }", 2).await,
        json!({"parts": [
            text,
            {"inlineData": {"data": "b25l", "mimeType": "image/png"}},
            {"inlineData": {"data": "dHdv", "mimeType": "image/png"}},
        ]})
    );
}

#[tokio::test]
async fn the_data_of_a_template_goes_to_its_layers() {
    let filled = |prompt: &str| ImageRequest {
        template: Some(TemplateCall {
            id: "card".to_owned(),
            version: String::new(),
            data: json!({"title": "Hi", "photo": "https://x/y.png", "price": {"text": "9", "color": "red"}}),
        }),
        ..ImageRequest::generate(prompt)
    };
    let sent = async |fields: &str, request: &ImageRequest| {
        let tables = format!("wire = {{ generate = '/r' }}\nfields = {{ {fields} }}");
        let server = picture_server().await;
        submit(&record(&tables, "prompt_optional = true"), &server, request, 1).await.unwrap();
        server.seen()[0].json()
    };
    assert_eq!(
        sent("prompt = 'layers/prompt/text', data = { at = 'layers', text = 'text', link = 'image' }", &filled("Ho"))
            .await,
        json!({"layers": {
            "title": {"text": "Hi"}, "photo": {"image": "https://x/y.png"}, "price": {"text": "9", "color": "red"},
            "prompt": {"text": "Ho"},
        }})
    );
    let named = "prompt = { at = 'changes/-/text', beside = { name = 'prompt' } }, \
                 data = { at = 'changes', as = 'named', text = 'text', link = 'image_url' }";
    assert_eq!(
        sent(named, &filled("Ho")).await,
        json!({"changes": [
            {"name": "photo", "image_url": "https://x/y.png"},
            {"name": "price", "text": "9", "color": "red"},
            {"name": "title", "text": "Hi"},
            {"name": "prompt", "text": "Ho"},
        ]})
    );
    assert_eq!(
        sent("model = { at = 'id', as = 'number' }, data = { at = '*', text = 'text' }", &filled("")).await,
        json!({
            "id": "vendor/kite#v2", "title": {"text": "Hi"}, "photo": "https://x/y.png",
            "price": {"text": "9", "color": "red"},
        })
    );
    assert_eq!(sent("prompt = 'prompt', data = 'values'", &ImageRequest::generate("")).await, json!({}));
}

#[test]
fn who_draws_no_templates_takes_neither_their_data_nor_an_empty_prompt() {
    let text = record("wire = { generate = '/v1' }\nfields = { prompt = 'prompt' }", "");
    let provider = recorded(&text, "http://127.0.0.1:9");
    let model = provider.model("vendor/kite#v2").unwrap();
    let template = TemplateCall { id: "card".to_owned(), version: String::new(), data: json!({}) };
    let filled = ImageRequest { template: Some(template), ..kite() };
    assert_eq!(model.fit(&filled, &BTreeMap::new(), None).unwrap_err().param, "template");
    let nothing = ImageRequest::generate(" ");
    assert_eq!(model.fit(&nothing, &BTreeMap::new(), None).unwrap_err().param, "prompt");
}

#[tokio::test]
async fn a_dialect_is_merged_over_the_record() {
    let tables = r#"
        wire = { generate = "/old", encoding = "json" }
        fields = { prompt = "prompt", seed = "seed" }
        [dialects.new]
        wire = { generate = "/new", encoding = "form" }
        fields = { prompt = "text", seed = "" }
    "#;
    let server = picture_server().await;
    submit(&record(tables, "dialect = 'new'"), &server, &kite(), 1).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/new");
    assert!(seen.header("content-type").unwrap().starts_with("multipart/form-data"));
    assert!(String::from_utf8_lossy(&seen.body).contains("name=\"text\"\r\n\r\na red kite"));
    let fault = Record::parse(&record(tables, "dialect = 'new'\nseed = true"), "x.toml").unwrap_err();
    assert!(fault.message.contains("no place for seed"), "{fault}");
    assert!(Record::parse(&record(tables, "dialect = 'newer'"), "x.toml").is_err());
}

async fn answered(
    tables: &str,
    status: u16,
    headers: &'static [(&str, &str)],
    body: Value,
) -> Result<Generated, Fault> {
    let server = Server::start(move |seen: &Seen| {
        if seen.path.starts_with("/files/") {
            return typed(200, "image/png", PICTURE);
        }
        let mut response: Response<Body> = testing::json(status, &body);
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        response
    })
    .await;
    let tables = format!("wire.generate = '/g'\nfields = {{ prompt = 'prompt', n = 'n' }}\n{tables}");
    submit(&record(&tables, "max_n = 4"), &server, &kite(), 2).await
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

#[tokio::test]
async fn pictures_are_found_wherever_they_are() {
    let long: Vec<u8> = PICTURE.iter().copied().chain(std::iter::repeat_n(7, 5000)).collect();
    let data_url = format!("data:image/png;base64,{}", base64(&long));
    let result = "result.pictures = ['images/*/url', 'images/*', 'output', { at = 'parts/*', value = 'data', unless = 'thought' }]";
    let cases = [
        (json!({"images": [base64(&long)]}), vec![long.clone()]),
        (json!({"images": [data_url, base64(PICTURE)]}), vec![long.clone(), PICTURE.to_vec()]),
        (json!({"images": [{"url": "/files/1"}, {"url": "/files/2"}]}), vec![PICTURE.to_vec(); 2]),
        (json!({"output": base64(&long), "prompt": "x".repeat(5000)}), vec![long.clone()]),
        (
            json!({"parts": [{"thought": true, "data": base64(PICTURE)}, {"text": "so"}, {"data": base64(&long)}]}),
            vec![long.clone()],
        ),
    ];
    for (body, pictures) in cases {
        assert_eq!(answered(result, 200, &[], body.clone()).await.unwrap().pictures, pictures);
    }
}

#[tokio::test]
async fn costs_and_tokens_are_read() {
    let tables = r#"
        cost = { at = "meta/credits", usd = "0.01" }
        result = { pictures = ["image"], revised_prompt = "meta/prompt" }
        usage = { input = "meta/in", output_image = "meta/out", output_text = "meta/thoughts" }
    "#;
    let body = json!({"image": base64(PICTURE), "meta": {"credits": 6.5, "prompt": "A kite.", "in": 9, "out": 1120, "thoughts": 80}});
    let generated = answered(tables, 200, &[], body).await.unwrap();
    assert_eq!(generated.billed, Some("0.065".parse().unwrap()));
    assert_eq!(generated.revised_prompt.as_deref(), Some("A kite."));
    let usage = Usage { input_text: 9, input_image: 0, output_text: 80, output_image: 1120 };
    assert_eq!(generated.usage, Some(usage));
    let tiny = "cost = { at = 'ticks', usd = '0.0000000001' }\nresult.pictures = ['image']";
    let ticks = |ticks: Value| json!({"image": base64(PICTURE), "ticks": ticks});
    for (value, usd) in [(json!(2e8), Some("0.02")), (json!("200000000"), Some("0.02")), (json!(-1), None)] {
        let billed = answered(tiny, 200, &[], ticks(value)).await.unwrap().billed;
        assert_eq!(billed, usd.map(|usd| usd.parse().unwrap()));
    }
}

/// Refusals come in every disguise.
#[tokio::test]
async fn signs_are_read_in_every_answer() {
    let tables = r#"
        result = { pictures = ["images/*"], flags = "nsfw/*" }
        [errors]
        denied = ["no_credit"]
        message = ["why/text"]
        code = ["name"]
        unbilled_statuses = [503]
        when = [
          { at = "finish/*", not = ["SUCCESS"], means = "refused" },
          { header = "finish-reason", is = ["FILTERED"], means = "refused", billed = true },
          { status = [403], at = "name", is = ["moderation"], means = "refused" },
          { status = [429], at = "why/text", contains = ["quota"], means = "denied" },
          { status = [500], at = "retryable", is = [true], means = "failed" },
        ]
    "#;
    let all = Some(Price::Known("0.1".parse().unwrap()));
    let picture = || json!([base64(PICTURE)]);
    type Case = (u16, &'static [(&'static str, &'static str)], Value, FaultKind, Option<Price>);
    let cases: Vec<Case> = vec![
        (
            200,
            &[],
            json!({"finish": ["SUCCESS", "Filter reason: prompt"], "images": picture()}),
            FaultKind::Refused,
            None,
        ),
        (200, &[("finish-reason", "FILTERED")], json!({"images": picture()}), FaultKind::Refused, all),
        (200, &[], json!({"images": picture(), "nsfw": [true]}), FaultKind::Refused, all),
        (200, &[], json!({"images": [], "error": {"message": "no"}}), FaultKind::BadAnswer, None),
        (200, &[], json!({"images": []}), FaultKind::BadAnswer, None),
        (403, &[], json!({"name": "moderation", "why": {"text": "no kites"}}), FaultKind::Refused, None),
        (403, &[], json!({"name": "forbidden"}), FaultKind::Denied, None),
        (429, &[], json!({"why": {"text": "Quota used up"}}), FaultKind::Denied, None),
        (429, &[], json!({"why": {"text": "slow down"}}), FaultKind::Throttled, None),
        (400, &[], json!({"name": "no_credit"}), FaultKind::Denied, None),
        (500, &[], json!({"retryable": true}), FaultKind::Failed, None),
        (500, &[], json!({"retryable": false}), FaultKind::Unknown, None),
        (503, &[], json!({"errors": [{"code": 7, "message": "busy"}]}), FaultKind::Failed, None),
        (503, &[], json!(null), FaultKind::Unknown, None),
    ];
    for (status, headers, body, kind, billed) in cases {
        let fault = answered(tables, status, headers, body.clone()).await.unwrap_err();
        assert_eq!((fault.kind, fault.billed), (kind, billed), "{status} {body}");
    }
    let fault =
        answered(tables, 403, &[], json!({"name": "moderation", "why": {"text": "no kites"}})).await.unwrap_err();
    assert_eq!((fault.message.as_str(), fault.code.as_deref()), ("no kites", Some("moderation")));
    // One of two that is withheld is no refusal of the other.
    let body = json!({"images": [base64(b"\x89PNG black"), base64(PICTURE)], "nsfw": [true, false]});
    let one = answered(tables, 200, &[], body).await.unwrap();
    assert_eq!((one.pictures, one.billed), (vec![PICTURE.into()], Some("0.1".parse().unwrap())));
}

#[tokio::test]
async fn when_to_come_back_may_be_said_in_the_body() {
    let after = async |unit: &str, value: Value| {
        let tables = format!("wire.retry_after = [{{ at = 'error/*/delay', unit = '{unit}' }}]");
        let fault = answered(&tables, 429, &[], json!({"error": [{"delay": value}]})).await.unwrap_err();
        fault.retry_after.map(|wait| wait.as_millis())
    };
    assert_eq!(after("duration", json!("33s")).await, Some(33_000));
    assert_eq!(after("duration", json!("1.5s")).await, Some(1500));
    assert_eq!(after("s", json!(2)).await, Some(2000));
    assert_eq!(after("ms", json!(250)).await, Some(250));
    assert_eq!(after("text", json!("Your limit resets in ~30s.")).await, Some(30_000));
    assert_eq!(after("text", json!("Error 503: at most 6 calls; wait 2 seconds")).await, Some(2000));
    for other in ["soon", "status 500", "E1001"] {
        assert_eq!(after("text", json!(other)).await, None);
    }
}

#[tokio::test]
async fn what_is_sent_with_edits_only() {
    let tables = "constants = { mode = 'text', safe = false }\nedit_constants = { mode = 'image', strength = 0.5 }\n\
                  wire = { generate = '/g', edit = '/e' }\nfields = { prompt = 'prompt', image = 'image' }";
    let record = record(tables, "operations = ['generate', 'edit']\nmax_inputs = 1");
    let server = picture_server().await;
    submit(&record, &server, &kite(), 1).await.unwrap();
    let edit = ImageRequest { operation: Operation::Edit, inputs: vec![input(b"one", 2, 2)], ..kite() };
    submit(&record, &server, &edit, 1).await.unwrap();
    let seen: Vec<Value> = server.seen().iter().map(Seen::json).collect();
    assert_eq!(seen[0], json!({"prompt": "a red kite", "mode": "text", "safe": false}));
    assert_eq!((&seen[1]["mode"], &seen[1]["strength"]), (&json!("image"), &json!(0.5)));
}

#[tokio::test]
async fn a_picture_that_is_not_clear_is_withheld_and_billed() {
    let tables = "wire = { generate = '/g' }\nfields = { prompt = 'prompt', n = 'n' }\n\
                  result = { pictures = [{ at = 'data/*', value = 'b64', clear = 'safe' }] }";
    let record = record(tables, "max_n = 3");
    let b64 = base64_simd::STANDARD.encode_to_string(PICTURE);
    let server = Server::start(move |seen: &Seen| {
        let safe = json!({"b64": b64, "safe": true});
        let unsafe_ = json!({"b64": b64, "safe": false});
        let data =
            if seen.json()["n"] == 1 { json!([{"b64": null, "safe": false}]) } else { json!([unsafe_, safe, safe]) };
        typed(200, "application/json", json!({"data": data}).to_string())
    })
    .await;
    let fault = submit(&record, &server, &kite(), 1).await.unwrap_err();
    assert_eq!((fault.kind, fault.billed), (FaultKind::Refused, Some(Price::Known("0.05".parse().unwrap()))));
    let made = submit(&record, &server, &kite(), 3).await.unwrap();
    // All three were made.
    assert_eq!((made.pictures.len(), made.billed), (2, Some("0.15".parse().unwrap())));
}

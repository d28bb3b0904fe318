//! What is seen in pictures that were paid for: a painter whose pictures are wrong in all the ways that are looked for.

use axum::routing::post;
use axum::{Json, Router};
use base64_simd::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::world::{Reply, World};

/// Edge of the painter's pictures, in pixels.
const EDGE: u32 = 96;

/// A server of the OpenAI Images API. What is wrong with its pictures depends on the model alone.
async fn painter() -> String {
    let draw = |Json(asked): Json<Value>| async move {
        let text = |name: &str| asked[name].as_str().expect("text").to_owned();
        answer(&paint(&text("model"), &text("prompt")))
    };
    // An edit leaves most of a picture as it was.
    let edit = |_: Bytes| async { answer(&paint("sorry", "")) };
    let router = Router::new().route("/v1/images/generations", post(draw)).route("/v1/images/edits", post(edit));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn answer(picture: &[u8]) -> Json<Value> {
    Json(json!({ "created": 1, "data": [{ "b64_json": STANDARD.encode_to_string(picture) }] }))
}

fn paint(model: &str, prompt: &str) -> Vec<u8> {
    let scene = Scene::of(prompt);
    match model {
        "plain" => png(EDGE, |x, y| scene.level(x, y)),
        "clear" => png(EDGE, |_, _| 128.0),
        "flat" => png(EDGE, |x, y| 90.0 + scene.level(x, y) / 32.0),
        "half" => png(EDGE, |x, y| if y > EDGE / 2 { 128.0 } else { scene.level(x, y) }),
        "small" => png(EDGE / 2, |x, y| scene.level(2 * x, 2 * y)),
        // Whatever is asked for, and encoded anew each time.
        "sorry" => png(EDGE, |x, y| Scene::of("we are sorry").level(x, y) + f64::from(prompt.len() as u32 % 2)),
        // A logo that shines through at the same place.
        "trial" => png(EDGE, |x, y| {
            let (level, radius) = (scene.level(x, y), (f64::from(x) - 72.0).hypot(f64::from(y) - 72.0));
            let is_logo = (10.0..13.0).contains(&radius) || (3.0..6.0).contains(&radius);
            if is_logo { level + 0.5 * (255.0 - level) } else { level }
        }),
        other => panic!("nobody knows how {other} paints"),
    }
}

/// A ground of some shade and things of other shades before it, with grain: different for every prompt.
struct Scene(Vec<f64>, u32);

impl Scene {
    fn of(prompt: &str) -> Scene {
        let mut bytes = [0; 48];
        blake3::Hasher::new().update(prompt.as_bytes()).finalize_xof().fill(&mut bytes);
        let seed = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Scene(bytes.iter().map(|byte| f64::from(*byte) / 255.0).collect(), seed)
    }

    fn level(&self, x: u32, y: u32) -> f64 {
        let (u, v) = (f64::from(x) / f64::from(EDGE), f64::from(y) / f64::from(EDGE));
        let mut level = 120.0 * self.0[0] * u + 120.0 * self.0[1] * (1.0 - v);
        for thing in self.0[4..].chunks_exact(4) {
            if (u - thing[0]).hypot(v - thing[1]) < 0.06 + 0.2 * thing[2] {
                level = 235.0 * thing[3];
            }
        }
        // Grain of its own: what is at the same place in all pictures would be a watermark.
        let grain =
            (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca6b) ^ self.1).wrapping_mul(0xc2b2_ae35) >> 28;
        level + f64::from(grain)
    }
}

fn png(edge: u32, level: impl Fn(u32, u32) -> f64) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..edge).flat_map(|y| (0..edge).map(move |x| (x, y))).map(|(x, y)| level(x, y) as u8).collect();
    let mut bytes = Vec::new();
    let encoder = png::Encoder::new(&mut bytes, edge, edge);
    encoder.write_header().expect("a head").write_image_data(&pixels).expect("pixels");
    bytes
}

/// A gateway before the painter, which is the provider `box`.
async fn gallery(config: &str) -> World {
    let url = painter().await;
    let mut world = World::with(&format!(
        "[providers.box]\nrecord = 'openai-compatible'\nbase_url = '{url}/v1'\nprices = {{ usd_per_image = '0.01' }}\n{config}"
    ))
    .await;
    // The painter keeps no book.
    world.leave_unaudited();
    world
}

/// A request, and no word of it in any other.
fn words(number: u32) -> String {
    format!("kite{number} over dune{number} at dawn{number}")
}

async fn ask(world: &World, model: &str, prompt: &str) -> Reply {
    let size = format!("{EDGE}x{EDGE}");
    world.generate(json!({ "model": model, "prompt": prompt, "size": size })).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_picture_shows_by_itself_is_told() {
    let world = gallery("").await;
    // What is worthless answers nobody else, and is made again.
    for (model, told, again) in [
        ("clear", "all of one colour (blank)", "miss"),
        ("flat", "next to no contrast anywhere (flat)", "hit"),
        ("half", "ends abruptly", "hit"),
        ("small", "is 48x48, and 96x96 was asked for (size)", "hit"),
        ("plain", "", "hit"),
    ] {
        let model = format!("box/{model}");
        let reply = ask(&world, &model, "a kite").await;
        let warning = reply.header("x-mimeo-warning");
        assert!(warning.contains(told) && warning.is_empty() == told.is_empty(), "{model}: {warning}");
        assert_eq!((reply.pictures().len(), reply.header("x-mimeo-cost-usd")), (1, "0.01"), "it is paid");
        assert_eq!(ask(&world, &model, "a kite").await.cache(), again, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_where_nobody_is_to() {
    let world = gallery("[quality]\nchecks = false\n").await;
    for model in ["box/clear", "box/half"] {
        assert_eq!(ask(&world, model, "a kite").await.header("x-mimeo-warning"), "");
    }
}

/// The same picture for quite different words: the third of them is told, and whoever wants another gets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_is_known_when_it_comes_for_other_words() {
    let world = gallery(
        "[routes.told]\ncandidates = ['box/sorry']\nquality = { checks = ['placeholder'] }\n\
         [routes.careful]\ncandidates = ['box/sorry', 'sandbox/standard']\n\
         quality = { checks = ['placeholder'], on_fail = 'next' }\n",
    )
    .await;
    let warning = async |prompt: &str| ask(&world, "told", prompt).await.header("x-mimeo-warning").to_owned();
    // One picture for one request, however it is written, is what everybody wants.
    for prompt in [words(0), words(0).to_uppercase(), format!("{}!", words(0)), words(1)] {
        assert_eq!(warning(&prompt).await, "", "{prompt}");
    }
    let third = ask(&world, "told", &words(2)).await;
    let told = third.header("x-mimeo-warning");
    assert!(told.contains("the same that box sent for 2 other prompts (placeholder)"), "{told}");
    assert_eq!(third.pictures().len(), 1, "it is paid, so it is delivered");
    assert_eq!(ask(&world, "told", &words(2)).await.cache(), "miss", "it answers nobody else");

    let next = ask(&world, "careful", &words(3)).await;
    assert_eq!(
        (next.header("x-mimeo-provider"), next.header("x-mimeo-cost-usd")),
        ("sandbox", "0.02"),
        "both are paid"
    );
    let again = ask(&world, "careful", &words(3)).await;
    assert_eq!((again.cache(), again.header("x-mimeo-provider")), ("hit", "sandbox"));

    // Who runs a server of its own gets no placeholders from it, unless a route wants to know.
    assert_eq!(ask(&world, "box/sorry", &words(4)).await.header("x-mimeo-warning"), "");
    // Edits of one picture are alike, whatever is to be changed.
    let image = format!("data:image/png;base64,{}", STANDARD.encode_to_string(paint("sorry", "")));
    for number in 5..9 {
        let body = json!({ "model": "told", "prompt": words(number), "image": image, "size": "96x96" });
        let edited = world.post("/v1/images/edits", body).await.expect(200);
        assert_eq!((edited.header("x-mimeo-provider"), edited.header("x-mimeo-warning")), ("box", ""));
    }
}

/// The logo of a free tier is in no single picture, only in what many of them have in common.
#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_is_found_in_what_pictures_have_in_common() {
    let world = gallery(
        "[routes.trial]\ncandidates = ['box/trial']\nquality = { checks = ['watermark'] }\n\
         [routes.plain]\ncandidates = ['box/plain']\nquality = { checks = ['watermark'] }\n",
    )
    .await;
    let mut marked = Vec::new();
    for number in 0..64 {
        let reply = ask(&world, "trial", &words(number)).await;
        let told = reply.header("x-mimeo-warning");
        if !told.is_empty() {
            assert!(told.contains("same pattern at the same place as other pictures of trial (watermark)"), "{told}");
            marked.push(number);
        }
        assert_eq!(ask(&world, "plain", &words(number)).await.header("x-mimeo-warning"), "", "{number} bears none");
    }
    assert!(marked.len() >= 8 && marked[0] >= 24, "only with strong evidence, and then often: {marked:?}");
    // It is told of and given out: whoever asks again need not pay again.
    assert_eq!(ask(&world, "trial", &words(marked[0])).await.cache(), "hit");
}

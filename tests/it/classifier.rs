//! `mimeo classify`: what a prompt is read as, with rules, with pictures, and with a model that is fine, slow or confused.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{BINARY, Folder, outcome};

/// Runs `mimeo classify` in `folder`.
fn classify(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.current_dir(&folder.0).env_clear().arg("classify").args(arguments);
    outcome(command)
}

fn read(folder: &Folder, arguments: &[&str]) -> Value {
    let (code, out, err) = classify(folder, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("stdout is JSON alone")
}

/// A model that answers every request with `text` in an answer of the API; without one it takes the request and is silent
/// until the caller hangs up. Its address.
fn model(text: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the whole body");
            match text {
                Some(text) => {
                    let body = json!({ "choices": [{ "message": { "content": text } }] }).to_string();
                    let head =
                        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all((head + &body).as_bytes());
                }
                None => {
                    let _ = reader.read_to_end(&mut body);
                }
            }
        }
    });
    format!("http://{address}/v1")
}

#[test]
fn a_prompt_is_read_with_its_reasons() {
    let folder = Folder::new();
    let reading = read(&folder, &["White ceramic mug on a white background"]);
    assert_eq!(reading["category"], "product");
    assert_eq!(reading["background"], "plain");
    assert_eq!(reading["purpose"], "standard");
    assert_eq!(reading["source"], "classifier");
    assert_eq!(reading["steps_share"], 0.5);
    let (code, out, err) = classify(&folder, &["hero banner with a crystal vase", "--size", "1792x1024"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for says in ["hero", "glass", "crystal vase", "a wide and large size", "100 % of the model's own: 50 of 50"] {
        assert!(out.contains(says), "{says} is not in\n{out}");
    }
    let said = read(&folder, &["a mug", "--purpose", "og", "--category", "toys"]);
    assert_eq!(
        (&said["purpose"], &said["category"], &said["source"]),
        (&json!("og"), &json!("toys"), &json!("caller"))
    );
    assert_eq!(std::fs::read_dir(&folder.0).expect("a folder").count(), 0, "looking leaves nothing behind");
}

#[test]
fn rules_count_and_their_faults_are_told() {
    let folder = Folder::new();
    let file = folder.0.join("mimeo.toml");
    std::fs::write(
        &file,
        "[[classifier.rules]]\nname = 'bottles'\nwhen = { prompt_matches = ['*flasche', 'bottle*'] }\ncategory = 'glass'\n",
    )
    .expect("written");
    let reading = read(&folder, &["Thermosflasche auf weißem Hintergrund"]);
    assert_eq!((&reading["category"], &reading["source"]), (&json!("glass"), &json!({ "rule": "bottles" })));
    for (text, line, says) in [
        ("\n[[classifier.rules]]\ncategory = 'x'\n", 2, "rule 1: `when` is empty"),
        ("[[classifier.rules]]\ncategory = 'x'\nwhen = { prompt_matches = ['*'] }\n", 1, "two or more letters"),
        ("[[classifier.rules]]\nwhen = { prompt = 'x' }\n", 2, "`prompt`"),
        ("[classifier]\nendpoint = { url = 'x', model = 'm' }\n", 1, "is no address"),
        (
            "[classifier.endpoint]\nurl = 'https://h/v1'\nmodel = 'm'\napi_key = { env = 'NOT_SET' }\n",
            1,
            "NOT_SET is not set",
        ),
    ] {
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(BINARY);
        command.current_dir(&folder.0).env_clear().arg("check");
        let (code, _, err) = outcome(command);
        assert_eq!(code, 64, "{text}: {err}");
        assert!(err.contains(&format!("mimeo.toml:{line}:")) && err.contains(says), "{text}: {err}");
        assert_eq!(classify(&folder, &["a mug"]).0, 64, "{text}");
    }
}

#[test]
fn a_picture_is_looked_at_and_a_broken_one_is_refused() {
    let folder = Folder::new();
    let mut bytes = Vec::new();
    let pixels: Vec<u8> =
        (0..100 * 100).map(|at| if at % 100 / 30 == 1 && at / 3_000 == 1 { 90 } else { 255 }).collect();
    let encoder = png::Encoder::new(&mut bytes, 100, 100);
    encoder.write_header().expect("a head").write_image_data(&pixels).expect("pixels");
    std::fs::write(folder.0.join("mug.png"), &bytes).expect("written");
    assert_eq!(read(&folder, &["make it blue", "--image", "mug.png"])["background"], "plain");
    std::fs::write(folder.0.join("half.png"), &bytes[..bytes.len() / 2]).expect("written");
    for (file, says) in [("half.png", "damaged"), ("none.png", "cannot be read")] {
        let (code, out, err) = classify(&folder, &["make it blue", "--image", file]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.starts_with("error: ") && err.contains(says), "{err}");
    }
}

#[test]
fn a_model_may_read_in_place_of_the_words_as_long_as_it_helps() {
    let folder = Folder::new();
    let fine = "{\"purpose\": \"premium\", \"category\": \"jewelry\", \"background\": \"simple\", \"complexity\": 0.4}";
    for (text, deadline, source) in
        [(Some(fine), 10_000, "endpoint"), (Some("a lovely picture"), 10_000, "classifier"), (None, 50, "classifier")]
    {
        let config = format!(
            "[classifier]\nendpoint = {{ url = '{}', model = 'eye', deadline_ms = {deadline} }}\n",
            model(text)
        );
        std::fs::write(folder.0.join("mimeo.toml"), config).expect("written");
        let begun = Instant::now();
        let reading = read(&folder, &["a mug on white"]);
        assert!(begun.elapsed() < Duration::from_secs(12), "{text:?}: it took {:?}", begun.elapsed());
        assert_eq!(reading["source"], source, "{text:?}: {reading}");
        let category = if source == "endpoint" { "jewelry" } else { "product" };
        assert_eq!(reading["category"], category, "{text:?}: {reading}");
    }
}

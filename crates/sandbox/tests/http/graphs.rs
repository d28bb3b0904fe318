//! The server of graphs: the queue, the history, the news, the files.

use std::time::Duration;

use futures_util::StreamExt as _;
use mimeo_sandbox::{Options, Sandbox, start};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::{Answer, get, post, request, size_of_png};
use crate::sandbox;

fn graph(prompt: &str) -> Value {
    json!({
        "3": { "class_type": "KSampler", "inputs": {
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
            "seed": 7, "steps": 20, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
        } },
        "4": { "class_type": "CheckpointLoaderSimple", "inputs": { "ckpt_name": "sdxl.safetensors" } },
        "5": { "class_type": "EmptyLatentImage", "inputs": { "width": 128, "height": 64, "batch_size": 2 } },
        "6": { "class_type": "CLIPTextEncode", "inputs": { "clip": ["4", 1], "text": prompt } },
        "7": { "class_type": "CLIPTextEncode", "inputs": { "clip": ["4", 1], "text": "blurred" } },
        "8": { "class_type": "VAEDecode", "inputs": { "samples": ["3", 0], "vae": ["4", 2] } },
        "9": { "class_type": "SaveImage", "inputs": { "images": ["8", 0], "filename_prefix": "x" } },
    })
}

async fn send(sandbox: &Sandbox, id: &str, graph: &Value) -> Answer {
    post(sandbox, "/as/comfyui/prompt", &json!({ "prompt": graph, "client_id": id, "prompt_id": id })).await
}

/// A WebSocket on which what concerns that name is told.
async fn listen(sandbox: &Sandbox, name: &str) -> WebSocketStream<TcpStream> {
    let mut stream = TcpStream::connect(sandbox.addr()).await.unwrap();
    let head = format!(
        "GET /as/comfyui/ws?clientId={name} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    // The example of RFC 6455.
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// The kinds of messages until the execution is over, the previews among them.
async fn told(socket: &mut WebSocketStream<TcpStream>) -> Vec<String> {
    let mut kinds = Vec::new();
    let listening = async {
        while let Some(message) = socket.next().await {
            match message.unwrap() {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    let kind = message["type"].as_str().unwrap().to_owned();
                    let over = kind == "executing" && message["data"]["node"].is_null();
                    kinds.push(kind);
                    if over {
                        return;
                    }
                }
                Message::Binary(bytes) => {
                    assert_eq!(bytes[..8], [0, 0, 0, 1, 0, 0, 0, 1]);
                    assert!(bytes[8..].starts_with(b"\xFF\xD8\xFF"), "a preview is a JPEG");
                    kinds.push("preview".to_owned());
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), listening).await.unwrap();
    kinds
}

#[tokio::test]
async fn a_graph_is_executed_and_told_step_by_step() {
    let sandbox = sandbox().await;
    let mut socket = listen(&sandbox, "one").await;
    let answer = send(&sandbox, "one", &graph("a red kite")).await;
    assert_eq!((answer.status, &answer.json()["prompt_id"]), (200, &json!("one")));
    let kinds = told(&mut socket).await;
    let count = |kind: &str| kinds.iter().filter(|told| *told == kind).count();
    assert_eq!((count("execution_start"), count("execution_success"), count("executed")), (1, 1, 1), "{kinds:?}");
    assert_eq!((count("progress"), count("preview"), count("executing")), (8, 8, 8), "{kinds:?}");
    assert!(count("status") >= 1);

    let history = get(&sandbox, "/as/comfyui/history/one").await.json();
    assert_eq!(history["one"]["status"]["status_str"], "success");
    let images = history["one"]["outputs"]["9"]["images"].as_array().unwrap().clone();
    assert_eq!(images.len(), 2);
    let name = images[1]["filename"].as_str().unwrap();
    let path = format!("GET /as/comfyui/view?filename={name}&subfolder=&type=output HTTP/1.1");
    assert_eq!(size_of_png(&request(&sandbox, &path, b"").await.body), (128, 64));
    let lines = sandbox.book().lines().unwrap();
    let invoice = &lines[0].invoice;
    assert_eq!((invoice.provider.as_str(), invoice.model.as_str(), invoice.n), ("comfyui", "sdxl.safetensors", 2));
    assert_eq!((invoice.prompt.as_str(), invoice.usd.to_string().as_str()), ("a red kite", "0"));
    assert_eq!(get(&sandbox, "/as/comfyui/history/two").await.json(), json!({}));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_graph_that_cannot_be_executed_is_not_queued() {
    let sandbox = sandbox().await;
    let with = |node: &str, input: &str, value: Value| {
        let mut graph = graph("x");
        graph[node]["inputs"][input] = value;
        graph
    };
    let loads = |file: &str| {
        let mut graph = graph("x");
        graph["10"] = json!({ "class_type": "LoadImage", "inputs": { "image": file } });
        graph
    };
    let mut silent = graph("x");
    silent.as_object_mut().unwrap().remove("9");
    for (graph, pointer, kind) in [
        (Value::Null, "/error/type", "no_prompt"),
        (silent, "/error/type", "prompt_no_outputs"),
        (with("3", "steps", json!(20_000)), "/node_errors/3/errors/0/type", "value_bigger_than_max"),
        (with("8", "vae", json!(["44", 2])), "/node_errors/8/errors/0/type", "bad_linked_input"),
        (loads("kite.png"), "/node_errors/10/errors/0/type", "custom_validation_failed"),
    ] {
        let answer = send(&sandbox, "x", &graph).await;
        assert_eq!((answer.status, answer.json().pointer(pointer)), (400, Some(&json!(kind))));
    }
    let picture = post(&sandbox, "/native/v1/draw", &json!({ "prompt": "x", "width": 64, "height": 64 })).await.body;
    let mut form = b"--cut\r\nContent-Disposition: form-data; name=\"image\"; filename=\"kite.png\"\r\n\r\n".to_vec();
    form.extend_from_slice(&picture);
    form.extend_from_slice(
        b"\r\n--cut\r\nContent-Disposition: form-data; name=\"subfolder\"\r\n\r\nmine\r\n--cut--\r\n",
    );
    let head = "POST /as/comfyui/upload/image HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=cut";
    let answer = request(&sandbox, head, &form).await;
    assert_eq!(answer.json(), json!({ "name": "kite.png", "subfolder": "mine", "type": "input" }));
    assert_eq!(send(&sandbox, "y", &loads("mine/kite.png")).await.status, 200);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_graph_fails_is_interrupted_or_taken_out_of_the_queue() {
    let sandbox = sandbox().await;
    let mut socket = listen(&sandbox, "bad").await;
    assert_eq!(send(&sandbox, "bad", &graph("[[fail-job]]")).await.status, 200);
    assert!(told(&mut socket).await.contains(&"execution_error".to_owned()));
    let status = get(&sandbox, "/as/comfyui/history/bad").await.json()["bad"]["status"].clone();
    assert_eq!((&status["status_str"], &status["messages"][1][0]), (&json!("error"), &json!("execution_error")));
    assert_eq!(send(&sandbox, "down", &graph("[[fail=503]]")).await.status, 503);

    // The first runs for an hour, the second waits behind it.
    let mut socket = listen(&sandbox, "first").await;
    send(&sandbox, "first", &graph("[[latency=3600000]]")).await;
    let started = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text.contains("execution_start")) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), started).await.unwrap();
    send(&sandbox, "second", &graph("x")).await;
    let queue = get(&sandbox, "/as/comfyui/queue").await.json();
    assert_eq!((&queue["queue_running"][0][1], &queue["queue_pending"][0][1]), (&json!("first"), &json!("second")));
    post(&sandbox, "/as/comfyui/interrupt", &json!({ "prompt_id": "second" })).await;
    post(&sandbox, "/as/comfyui/queue", &json!({ "delete": ["second", "first"] })).await;
    let queue = get(&sandbox, "/as/comfyui/queue").await.json();
    assert_eq!((&queue["queue_running"][0][1], &queue["queue_pending"]), (&json!("first"), &json!([])));
    post(&sandbox, "/as/comfyui/interrupt", &json!({ "prompt_id": "first" })).await;
    assert!(told(&mut socket).await.contains(&"execution_interrupted".to_owned()));
    assert_eq!(get(&sandbox, "/as/comfyui/history/second").await.json(), json!({}));
    assert_eq!(sandbox.book().totals().count, 0);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_server_of_graphs_can_stand_at_the_root() {
    let sandbox = start(Options { as_provider: Some("comfyui".to_owned()), ..Options::default() }).await.unwrap();
    assert_eq!(get(&sandbox, "/system_stats").await.json()["devices"][0]["name"], "simulated");
    assert_eq!(get(&sandbox, "/as/comfyui/queue").await.json(), get(&sandbox, "/queue").await.json());
    sandbox.stop().await;
}

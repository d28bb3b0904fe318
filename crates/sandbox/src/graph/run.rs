//! Executes graphs, one after another, and tells on the way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::check::Graph;
use super::{End, Open};
use crate::files::Stored;
use crate::picture::{self, Format, Look, Picture};
use crate::sale::{self, Order};
use crate::script::Plan;
use crate::shop::Shop;

/// Most steps that are told, and that previews are sent for.
const STEPS: u64 = 8;

/// The sides of a preview, in pixels.
const PREVIEW: u32 = 64;

/// A graph that was queued.
pub(super) struct Execution {
    pub id: String,
    /// Who hears of it.
    pub listener: Option<String>,
    pub graph: Graph,
    pub order: Order,
    pub plan: Plan,
    pub end: End,
    pub open: Open,
}

/// How an execution ended.
enum Ended {
    Done(Map<String, Value>),
    Failed,
    Interrupted,
}

impl Execution {
    /// Waits for its turn and executes the graph.
    pub(super) async fn run(self, shop: Arc<Shop>) {
        if self.end == End::Forgotten {
            return;
        }
        let turn = tokio::select! {
            turn = shop.graphs.turn.acquire() => turn,
            () = self.open.stop.cancelled() => return,
            () = shop.stop.cancelled() => return,
        };
        let Ok(_turn) = turn else { return };
        match shop.graphs.queue().open.get_mut(&self.id) {
            Some(open) => open.runs = true,
            // Taken out of the queue in the meantime.
            None => return,
        }
        self.tell(&shop, "execution_start", json!({}));
        self.tell(&shop, "execution_cached", json!({ "nodes": [] }));
        let ended = tokio::select! {
            ended = self.execute(&shop) => ended,
            () = self.open.stop.cancelled() => Ended::Interrupted,
            () = shop.stop.cancelled() => return,
        };
        self.conclude(&shop, ended);
    }

    async fn execute(&self, shop: &Shop) -> Ended {
        let time = shop.latency() + self.plan.latency;
        let sampler = self.graph.sampler();
        for id in self.graph.nodes() {
            self.tell(shop, "executing", json!({ "node": id, "display_node": id }));
            if let Some((_, steps)) = sampler.filter(|(sampler, _)| *sampler == id) {
                self.sample(shop, id, steps, time).await;
            }
        }
        if self.end == End::Failed {
            return Ended::Failed;
        }
        let Ok(invoice) = sale::bill(shop, &self.order).await else {
            return Ended::Failed;
        };
        let Ok(pictures) = sale::draw(shop, &self.order, &self.plan, invoice).await else {
            return Ended::Failed;
        };
        Ended::Done(self.put_out(shop, &pictures))
    }

    /// Takes the steps: tells each, and sends a preview with it.
    async fn sample(&self, shop: &Shop, node: &str, steps: u64, time: Duration) {
        let told = steps.clamp(1, STEPS);
        let each = time / u32::try_from(told).unwrap_or(1);
        let preview = self.preview().await;
        for step in 1..=told {
            sale::wait(each).await;
            let value = (step * steps).div_ceil(told);
            self.tell(shop, "progress", json!({ "value": value, "max": steps, "node": node }));
            if let Some(preview) = &preview {
                self.send(shop, framed(1, preview));
            }
        }
    }

    /// A small picture of what is being drawn.
    async fn preview(&self) -> Option<Bytes> {
        let look = Look {
            width: PREVIEW,
            height: PREVIEW,
            motif: Look::motif(&self.order.model, &self.order.prompt, self.order.seed),
            edit: self.order.edit,
            transparent: false,
            format: Format::Jpeg { quality: 60 },
            is_blank: false,
            least_bytes: 0,
        };
        let painted = picture::paint(look).await.ok()?;
        Some(Picture::stamped(painted, 0, 0).pieces().concat().into())
    }

    /// Saves or sends the pictures, as the nodes of the graph say, and tells where they are.
    fn put_out(&self, shop: &Shop, pictures: &[Picture]) -> Map<String, Value> {
        let mut outputs = Map::new();
        for (node, class) in self.graph.outputs() {
            if class == "SaveImageWebsocket" {
                for picture in pictures {
                    self.send(shop, framed(2, &picture.pieces().concat()));
                }
                continue;
            }
            let folder = if class == "PreviewImage" { "temp" } else { "output" };
            let mut images = Vec::new();
            for (index, picture) in pictures.iter().enumerate() {
                let name = format!("graph_{:05}_{node}_{index}.png", self.open.number);
                shop.files.put(name.clone(), Stored::new(picture.clone(), &self.plan));
                images.push(json!({ "filename": name, "subfolder": "", "type": folder }));
            }
            let output = json!({ "images": images });
            self.tell(shop, "executed", json!({ "node": node, "display_node": node, "output": output }));
            outputs.insert(node.clone(), output);
        }
        outputs
    }

    /// Writes the history, then tells the end.
    fn conclude(&self, shop: &Shop, ended: Ended) {
        let last = self.graph.nodes().last().map_or("", |node| node.as_str());
        let (kind, data, outputs) = match ended {
            Ended::Done(outputs) => ("execution_success", json!({}), outputs),
            Ended::Interrupted => (
                "execution_interrupted",
                json!({ "node_id": last, "node_type": "KSampler", "executed": [] }),
                Map::new(),
            ),
            Ended::Failed => {
                let error = json!({
                    "node_id": last, "node_type": "KSampler", "executed": [], "traceback": [],
                    "exception_type": "torch.OutOfMemoryError",
                    "exception_message": "Allocation on device failed (simulated)\n",
                });
                ("execution_error", error, Map::new())
            }
        };
        let success = kind == "execution_success";
        let named = |data: &Value| {
            let mut data = data.clone();
            if let Some(data) = data.as_object_mut() {
                data.insert("prompt_id".to_owned(), json!(self.id));
            }
            data
        };
        let status = json!({
            "status_str": if success { "success" } else { "error" },
            "completed": success,
            "messages": [["execution_start", named(&json!({}))], [kind, named(&data)]],
        });
        {
            let mut queue = shop.graphs.queue();
            queue.open.remove(&self.id);
            let prompt = json!([self.open.number, self.id, {}, {}, []]);
            let entry = json!({ "prompt": prompt, "outputs": outputs, "status": status, "meta": {} });
            queue.history.insert(self.id.clone(), entry);
        }
        self.tell(shop, kind, data);
        self.tell(shop, "executing", json!({ "node": null }));
        shop.graphs.tell_queue();
    }

    /// Tells something of this graph to whoever sent it.
    fn tell(&self, shop: &Shop, kind: &str, mut data: Value) {
        if let Some(data) = data.as_object_mut() {
            data.insert("prompt_id".to_owned(), json!(self.id));
        }
        self.send(shop, Message::text(json!({ "type": kind, "data": data }).to_string()));
    }

    fn send(&self, shop: &Shop, message: Message) {
        if let Some(listener) = &self.listener {
            shop.graphs.tell(Some(listener), message);
        }
    }
}

/// A picture as a binary message: the kind of message (1, a picture), the kind of picture (1 JPEG, 2 PNG), its bytes.
fn framed(kind: u32, picture: &[u8]) -> Message {
    Message::binary([1u32.to_be_bytes().as_slice(), &kind.to_be_bytes(), picture].concat())
}

//! What each layer is: a configuration of the gateway, and what the application says in its requests.

use std::path::Path;

use serde_json::{Value, json};

use crate::trace::Request;
use crate::truth::{Matter, Purpose, Subject};

/// Who chooses the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Nobody: all requests go to the premium model.
    Off,
    /// The purpose alone, as the shop first did it: every thumbnail goes to the turbo model.
    Blind,
    /// The purpose, with delicate things kept off the turbo model.
    Careful,
}

/// Which layers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Models by purpose.
    pub routing: Routing,
    /// Half of the steps where all of them would not be seen.
    pub steps: bool,
    /// The same picture again is not made again.
    pub cache: bool,
    /// Requests at the same moment share a picture that is being made.
    pub coalescing: bool,
    /// Cards are drawn here.
    pub templates: bool,
    /// The application says what a picture shows and how many steps it needs. False leaves that to the gateway's classifier,
    /// which has nothing but the prompt and what the picture is for.
    pub labels: bool,
}

impl Layers {
    /// None.
    pub const OFF: Layers =
        Layers { routing: Routing::Off, steps: false, cache: false, coalescing: false, templates: false, labels: true };

    /// Whether pictures that were made answer anybody at all.
    fn remembers(self) -> bool {
        self.cache || self.coalescing
    }

    /// Whether a picture that is looked for in vain is made for each of those who look at the same moment: what a cache
    /// without coalescing does.
    pub fn each_for_himself(self) -> bool {
        self.cache && !self.coalescing
    }

    /// The configuration of a gateway with these layers. `data` is its folder, `records` that of the provider's record.
    pub fn config(self, sandbox: &str, data: &Path, records: &Path) -> String {
        let mut config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\npath = {data:?}\nmemory_mb = 8\ndurability = \"process\"\n\
             [catalogue]\npath = {records:?}\n[providers.studio]\nbase_url = \"{sandbox}/as/studio\"\n"
        );
        let cache = format!("cache = {{ off = {} }}", !self.remembers());
        config += &format!("[routes.everything]\ncandidates = [\"studio/premium\"]\n{cache}\n");
        // What the operator thinks of the two models, in points; of what reflects, the shop learned it the hard way.
        let except = if self.routing == Routing::Careful { ", except = [\"glass\", \"jewelry\"]" } else { "" };
        let turbo = format!("{{ model = \"studio/turbo\", rating = 70{except} }}");
        let premium = "{ model = \"studio/premium\", rating = 92 }";
        // A request without a model goes to the route of its purpose or tier, and to `standard` if there is none.
        for (route, floor) in [("hero", 88), ("premium", 88), ("standard", 74), ("draft", 60), ("thumbnail", 60)] {
            config += &format!(
                "[routes.{route}]\nobjective = \"cost\"\nquality_floor = {floor}\n\
                 dynamic_steps = {}\ncandidates = [{turbo}, {premium}]\n{cache}\n",
                self.steps && !self.labels
            );
        }
        config
    }

    /// What the application sends for `request`, at the `moment`-th moment of the trace.
    pub fn body(self, request: &Request, moment: usize) -> Value {
        let mut body = json!({ "response_format": "b64_json", "size": request.size });
        let mut say = |name: &str, value: Value| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        let category = request.category.as_ref().filter(|_| self.labels);
        for (name, label) in
            [("purpose", request.purpose.as_ref()), ("category", category), ("user", request.key.as_ref())]
        {
            if let Some(label) = label {
                say(name, json!(label));
            }
        }
        if let (true, Some(template)) = (self.templates, &request.template) {
            say("template", json!(template));
            say("data", request.data.clone().unwrap_or_else(|| json!({})));
            return body;
        }
        if self.routing == Routing::Off {
            say("model", json!("everything"));
        }
        say("prompt", json!(request.prompt));
        if let Some(tier) = &request.quality_tier {
            say("quality_tier", json!(tier));
        }
        if let Some(steps) = self.steps(request) {
            say("steps", json!(steps));
        }
        if self.coalescing && !self.cache {
            // Nothing answers from the past: what comes at another moment is another picture.
            say("seed", json!(moment));
        }
        body
    }

    /// The rule of the shop: 25 steps on plain backgrounds, all of them for heroes of people and of what reflects, and
    /// where letters are drawn.
    fn steps(self, request: &Request) -> Option<u32> {
        let subject = Subject::of(request);
        let is_hard = subject.purpose == Purpose::Hero && subject.matter != Matter::Solid;
        // A turbo model takes no steps, and a request that names some would not go there.
        let is_turbo = self.routing != Routing::Off
            && subject.purpose == Purpose::Thumbnail
            && (self.routing == Routing::Blind || subject.matter != Matter::Reflective);
        let halved =
            self.steps && self.labels && subject.plain && !is_hard && !is_turbo && subject.purpose != Purpose::Card;
        halved.then_some(25)
    }
}

/// What an application without a gateway sends to its provider.
pub fn naive(request: &Request) -> Value {
    json!({ "model": "premium", "prompt": request.prompt, "size": request.size, "response_format": "b64_json" })
}

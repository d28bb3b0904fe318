//! The papers of a job: what is written down with its ticket, so that whoever finds it can end it as its own process
//! would have. Neither the prompt nor a picture is in them, only what the price and the place of the result depend on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Order;
use super::notes::Notes;
use super::stories::Stories;
use crate::cache::Cache;
use crate::config::{CreditUse, Route, RouteCache, RouteQuality};
use crate::domain::request::Decimal;
use crate::domain::{
    CacheMode, CachePolicy, Call, Caller, Digest, Format, ImageRequest, InputPicture, Operation, Picture, RequestId,
    Size,
};
use crate::providers::{Model, Provider};
use crate::route::{Candidate, Maker, Plan};
use crate::store::AcceptedJob;

/// What an order comes to once its call is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Papers {
    /// The candidate, as people name it.
    candidate: String,
    /// The request without its contents.
    outline: Outline,
    /// Whether what is made answers others, and whether it takes the place of what does.
    stores: bool,
    replaces: bool,
    ttl_ms: Option<u64>,
    route_ttl_s: Option<u64>,
    tags: Vec<String>,
    failover_on_refusal: bool,
    /// Unfinished pictures that were streamed, which some providers bill.
    partials: Option<u8>,
    /// How many pictures the request was for. What one call makes of that may be less.
    wanted: u32,
    /// What the pictures show, if somebody said.
    #[serde(default)]
    category: Option<String>,
    /// The request that tells of it, where that is another than the one it is for.
    #[serde(default)]
    told_as: Option<RequestId>,
}

/// A fitted request as its price and its echo see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outline {
    operation: String,
    size: Size,
    quality: Option<String>,
    background: Option<String>,
    output_format: Option<Format>,
    steps: Option<u32>,
    guidance: Option<String>,
    /// UTF-8 bytes.
    prompt: usize,
    negative_prompt: Option<usize>,
    /// Width and height of each picture that was sent; the last is the mask, if there is one.
    inputs: Vec<(u32, u32)>,
    has_mask: bool,
}

impl Papers {
    /// The papers of a call to `candidate` for `order`.
    pub(super) fn of(order: &Order, candidate: &Candidate) -> Papers {
        Papers {
            candidate: candidate.name.clone(),
            outline: Outline::of(&candidate.request),
            stores: order.stores(),
            replaces: !order.reads_cache(),
            ttl_ms: order.call.cache.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            route_ttl_s: order.plan.settings.cache.ttl_s,
            tags: order.call.cache.tags.clone(),
            failover_on_refusal: order.plan.settings.failover_on_refusal,
            partials: order.call.stream,
            wanted: order.call.n,
            category: order.plan.sense.category.clone(),
            told_as: (order.call.asked_as() != order.call.id).then_some(order.call.id),
        }
    }

    pub(super) fn to_json(&self) -> String {
        // Nothing in it can fail to be JSON: no map has keys that are not text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// True if the pictures of `job` are all that its request asked for.
    pub(super) fn are_of_all(&self, job: &AcceptedJob) -> bool {
        self.wanted == job.attempt.subject.pictures
    }

    /// The order again, as far as what is left to do depends on it: a call to `model` that the provider has accepted.
    pub(super) fn order(
        self,
        job: &AcceptedJob,
        cache: &Cache,
        provider: &std::sync::Arc<Provider>,
        model: &std::sync::Arc<Model>,
        stories: &Stories,
    ) -> Order {
        let subject = &job.attempt.subject;
        let request = self.outline.request();
        let candidate = Candidate {
            name: self.candidate.clone(),
            identity: self.candidate,
            maker: Maker::Provider(std::sync::Arc::clone(provider), std::sync::Arc::clone(model)),
            request: request.clone(),
            renamed_from: None,
            // Who asks for it later brings it to what it wants.
            target: None,
            choice: std::sync::Arc::default(),
            rating: None,
        };
        let mode = match (self.stores, self.replaces) {
            (false, _) => CacheMode::NoStore,
            (true, true) => CacheMode::NoCache,
            (true, false) => CacheMode::Default,
        };
        let call = Call {
            id: self.told_as.unwrap_or(subject.request),
            caller: Caller { tenant: subject.tenant.clone(), key: subject.api_key.clone(), pool: None },
            model: None,
            route: None,
            request,
            n: subject.pictures,
            cache: CachePolicy {
                mode,
                ttl: self.ttl_ms.map(Duration::from_millis),
                tags: self.tags,
                ..CachePolicy::default()
            },
            stream: self.partials,
            deadline: None,
            max_spend: None,
            purpose: subject.purpose.clone(),
            quality_tier: None,
            category: self.category,
            user: None,
            metadata: BTreeMap::new(),
            retry_unknown: false,
            trim_prompt: None,
            explain: false,
            unknown: BTreeMap::new(),
            leg: None,
        };
        let settings = Route {
            cache: RouteCache { ttl_s: self.route_ttl_s, ..RouteCache::default() },
            // Whoever asked is gone: what fails is told of, and nothing more is paid.
            quality: RouteQuality::default(),
            failover_on_refusal: self.failover_on_refusal,
            credits: CreditUse::Ignore,
            ..Route::default()
        };
        let mut plan = Plan::of(vec![candidate], subject.route.clone(), std::sync::Arc::new(settings));
        plan.sense.category.clone_from(&call.category);
        let notes = std::sync::Arc::new(Notes::of(stories, &call, job.attempt.created_ms));
        Order { hand: cache.hand(job.key, 1, call.n), call, plan, key: job.key, notes }
    }
}

impl Outline {
    fn of(request: &ImageRequest) -> Outline {
        let sides = |input: &InputPicture| (input.picture.width, input.picture.height);
        Outline {
            operation: request.operation.name().to_owned(),
            size: request.size,
            quality: request.quality.clone(),
            background: request.background.clone(),
            output_format: request.output_format,
            steps: request.steps,
            guidance: request.guidance.map(|guidance| guidance.to_string()),
            prompt: request.prompt.len(),
            negative_prompt: request.negative_prompt.as_ref().map(String::len),
            inputs: request.inputs.iter().chain(&request.mask).map(sides).collect(),
            has_mask: request.mask.is_some(),
        }
    }

    /// A request that costs the same and says nothing.
    fn request(&self) -> ImageRequest {
        let blank = |(width, height): &(u32, u32)| InputPicture {
            picture: Picture {
                bytes: Bytes::new(),
                digest: Digest::of(&[]),
                format: Format::Png,
                width: *width,
                height: *height,
            },
            file_name: None,
        };
        let mut inputs: Vec<InputPicture> = self.inputs.iter().map(blank).collect();
        let mask = if self.has_mask { inputs.pop() } else { None };
        ImageRequest {
            operation: if self.operation == Operation::Edit.name() { Operation::Edit } else { Operation::Generate },
            size: self.size,
            quality: self.quality.clone(),
            background: self.background.clone(),
            output_format: self.output_format,
            steps: self.steps,
            guidance: self.guidance.as_ref().and_then(|text| text.parse::<Decimal>().ok()),
            negative_prompt: self.negative_prompt.map(|length| " ".repeat(length)),
            inputs,
            mask,
            ..ImageRequest::generate(" ".repeat(self.prompt))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32) -> InputPicture {
        let bytes = Bytes::from_static(b"secret pixels");
        let picture = Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width, height: 9 };
        InputPicture { picture, file_name: Some("secret.png".into()) }
    }

    #[test]
    fn an_outline_keeps_the_price_and_no_contents() {
        let request = ImageRequest {
            operation: Operation::Edit,
            size: Size::Exact(640, 480),
            quality: Some("high".into()),
            output_format: Some(Format::Webp),
            steps: Some(30),
            guidance: "7.5".parse().ok(),
            negative_prompt: Some("secret fog".into()),
            inputs: vec![picture(3), picture(4)],
            mask: Some(picture(5)),
            ..ImageRequest::generate("a secret kité")
        };
        let outline = Outline::of(&request);
        let text = serde_json::to_string(&outline).unwrap();
        assert!(!text.contains("secret") && !text.contains("kit"), "{text}");
        let again = serde_json::from_str::<Outline>(&text).unwrap().request();
        assert_eq!(Outline::of(&again), outline);
        assert_eq!((again.prompt.len(), again.inputs.len()), (request.prompt.len(), 2));
        assert_eq!((again.mask.map(|mask| mask.picture.width), again.operation), (Some(5), Operation::Edit));
        assert_eq!((again.size, again.guidance, again.steps), (request.size, request.guidance, request.steps));
    }
}

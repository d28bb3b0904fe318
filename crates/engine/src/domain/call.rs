//! One call of one caller: the wanted picture plus everything that concerns only the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::cascade::Leg;
use super::id::RequestId;
use super::money::Usd;
use super::request::ImageRequest;

/// Who calls. Comes from the key that authenticated the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose pictures and money these are. Tenants never see each other's.
    pub tenant: String,
    /// Name of the key that was used; `local` for the command line and for loopback without keys.
    pub key: String,
    /// Cache entries are shared by all callers of one pool: by default the tenant's own.
    pub pool: Option<String>,
}

/// How this request uses the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Answer from the cache if possible, store what is made.
    #[default]
    Default,
    /// Make a new picture and let it replace what is stored.
    NoCache,
    /// Neither look up nor store.
    NoStore,
    /// Answer from the cache or not at all.
    OnlyIfCached,
}

/// The caller's wishes about the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// What to look up and store.
    pub mode: CacheMode,
    /// How long to keep what this request makes, in place of the configured time.
    pub ttl: Option<Duration>,
    /// Take nothing older than this.
    pub max_age: Option<Duration>,
    /// Size of the pool of pictures for one key (1–100); `None` leaves it to the route.
    pub variants: Option<u32>,
    /// Labels by which what this request makes can be purged.
    pub tags: Vec<String>,
}

/// A request with its caller.
#[derive(Clone, Debug)]
pub struct Call {
    /// Names this request in answers, logs and ledger rows.
    pub id: RequestId,
    /// Who calls.
    pub caller: Caller,
    /// The model or route, as the caller named it.
    pub model: Option<String>,
    /// The route that `model` came to, where that was decided already. It goes before `model`.
    pub route: Option<String>,
    /// The wanted picture, as the caller asked for it (before defaults of the model are applied).
    pub request: ImageRequest,
    /// How many pictures (1–10).
    pub n: u32,
    /// The caller's wishes about the cache.
    pub cache: CachePolicy,
    /// Show partial pictures while they are made: how many per picture (0–3), if streaming at all.
    pub stream: Option<u8>,
    /// How long this caller waits. The picture is finished and kept in any case.
    pub deadline: Option<Duration>,
    /// The most that this request may cost, over all of its attempts.
    pub max_spend: Option<Usd>,
    /// What the picture is for; groups the ledger.
    pub purpose: Option<String>,
    /// `draft`, `standard` or `premium`; picks the quality where none was named.
    pub quality_tier: Option<String>,
    /// Subject category, kept with the request.
    pub category: Option<String>,
    /// End-user identifier, passed on to the provider.
    pub user: Option<String>,
    /// The caller's own labels.
    pub metadata: BTreeMap<String, String>,
    /// Pay again, although the same was sent before and nobody knows what came of it.
    pub retry_unknown: bool,
    /// Take filler words out of the prompt where text is paid by the token; `None` leaves it to the route.
    pub trim_prompt: Option<bool>,
    /// Tell in the answer how the route was chosen.
    pub explain: bool,
    /// Fields that are not part of the API; allowed only if the model's record passes them through.
    pub unknown: BTreeMap<String, Value>,
    /// Its place among the requests that it belongs to: it is a draft, a final or a shadow.
    pub leg: Option<Leg>,
}

impl Call {
    /// The request as its caller knows it: a final that is made for the answer to its draft has that one's name.
    pub fn asked_as(&self) -> RequestId {
        self.leg.filter(|leg| leg.at_once).and_then(|leg| leg.parent).unwrap_or(self.id)
    }

    /// A call for one picture, with nothing special about it.
    pub fn new(id: RequestId, caller: Caller, request: ImageRequest) -> Call {
        Call {
            id,
            caller,
            model: None,
            route: None,
            request,
            n: 1,
            cache: CachePolicy::default(),
            stream: None,
            deadline: None,
            max_spend: None,
            purpose: None,
            quality_tier: None,
            category: None,
            user: None,
            metadata: BTreeMap::new(),
            retry_unknown: false,
            explain: false,
            trim_prompt: None,
            unknown: BTreeMap::new(),
            leg: None,
        }
    }
}

impl Caller {
    /// Whoever sits at this machine.
    pub fn local() -> Caller {
        Caller { tenant: "default".to_owned(), key: "local".to_owned(), pool: None }
    }
}

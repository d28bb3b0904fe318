//! What a request asks for, as 256 bits: two requests under one key are the same if these are.
//!
//! Fields are compared as they were understood, so their order, white space and the boundaries of a form do
//! not matter, and neither does spelling out what the API itself takes for granted (`n`: 1, `size`: auto,
//! `response_format`: b64_json). A default of a *model* that is spelled out makes another request here:
//! which model that is may change with the configuration between the two. Whose key it was sent with does not
//! count.

use crate::cache::key::{Fields, alternative};
use crate::domain::{CacheMode, CachePolicy, Call, Digest};

/// What `call` asks for, delivered in `form`.
pub(super) fn fingerprint(call: &Call, form: &str) -> Digest {
    // Destructured, so that a new field does not compile until somebody decides about it here.
    let Call {
        id: _,
        caller: _,
        model,
        request,
        n,
        cache,
        stream,
        deadline,
        max_spend,
        purpose,
        quality_tier,
        category,
        user,
        metadata,
        retry_unknown,
        trim_prompt,
        explain,
        unknown,
        // Which route it comes to, and whether that drafts first, is not for the caller to say.
        route: _,
        leg: _,
    } = call;
    let CachePolicy { mode, ttl, max_age, variants, tags } = cache;
    let milliseconds = |time: &std::time::Duration| time.as_millis() as i128;
    let mut hash = Fields::new();
    // The operation tells the path.
    hash.text("reply").text(form).bytes(&alternative("", request).0);
    hash.optional(model.as_deref()).integer(i128::from(*n));
    hash.text(match mode {
        CacheMode::Default => "default",
        CacheMode::NoCache => "no-cache",
        CacheMode::NoStore => "no-store",
        CacheMode::OnlyIfCached => "only-if-cached",
    });
    hash.number(ttl.as_ref().map(milliseconds)).number(max_age.as_ref().map(milliseconds));
    hash.number(variants.map(i128::from)).integer(tags.len() as i128);
    tags.iter().for_each(|tag| {
        hash.text(tag);
    });
    hash.number(stream.map(i128::from)).number(deadline.as_ref().map(milliseconds));
    hash.number(max_spend.map(|usd| usd.pico()));
    hash.optional(purpose.as_deref()).optional(quality_tier.as_deref());
    hash.optional(category.as_deref()).optional(user.as_deref());
    hash.integer(metadata.len() as i128);
    for (name, value) in metadata {
        hash.text(name).text(value);
    }
    // Left out it hashes as before there was such a field: answers that were kept then are found.
    if let Some(trim) = trim_prompt {
        hash.text("trim_prompt").integer(i128::from(*trim));
    }
    hash.integer(i128::from(*retry_unknown)).integer(i128::from(*explain)).integer(unknown.len() as i128);
    for (name, value) in unknown {
        hash.text(name).value(value);
    }
    hash.finish()
}

/// Where those meet who ask for the same under the same key.
pub(super) fn desk(tenant: &str, key: &str, fingerprint: Digest) -> Digest {
    let mut hash = Fields::new();
    hash.text("desk").text(tenant).text(key).bytes(&fingerprint.0);
    hash.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{Caller, ImageRequest, InputPicture, Picture, RequestId, Size, Usd};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::time::Duration;

    /// A call with nothing said but the prompt.
    pub(in super::super) fn call(prompt: &str) -> Call {
        Call {
            id: RequestId(1),
            caller: Caller { tenant: "shop".into(), key: "web".into(), pool: None },
            model: None,
            route: None,
            request: ImageRequest::generate(prompt),
            n: 1,
            cache: CachePolicy::default(),
            stream: None,
            deadline: None,
            max_spend: None,
            purpose: None,
            quality_tier: None,
            category: None,
            user: None,
            metadata: Default::default(),
            retry_unknown: false,
            trim_prompt: None,
            explain: false,
            unknown: Default::default(),
            leg: None,
        }
    }

    fn input(content: &'static [u8], name: &str) -> InputPicture {
        let bytes = bytes::Bytes::from_static(content);
        let picture =
            Picture { digest: Digest::of(&bytes), bytes, format: crate::domain::Format::Png, width: 1, height: 1 };
        InputPicture { picture, file_name: Some(name.to_owned()) }
    }

    type Change = fn(&mut Call);

    #[test]
    fn every_field_counts() {
        let changes: &[Change] = &[
            |_| {},
            |c| c.request.prompt = "another".into(),
            |c| c.request.size = Size::Exact(64, 64),
            |c| c.request.quality = Some("low".into()),
            |c| c.request.inputs = vec![input(b"one", "a.png")],
            |c| c.request.inputs = vec![input(b"two", "a.png")],
            |c| c.request.mask = Some(input(b"one", "a.png")),
            |c| c.model = Some("m".into()),
            |c| c.n = 2,
            |c| c.cache.mode = CacheMode::NoCache,
            |c| c.cache.mode = CacheMode::NoStore,
            |c| c.cache.mode = CacheMode::OnlyIfCached,
            |c| c.cache.ttl = Some(Duration::from_secs(1)),
            |c| c.cache.max_age = Some(Duration::from_secs(1)),
            |c| c.cache.variants = Some(1),
            |c| c.cache.tags = vec!["a".into()],
            |c| c.cache.tags = vec!["a".into(), "b".into()],
            |c| c.stream = Some(0),
            |c| c.stream = Some(1),
            |c| c.deadline = Some(Duration::from_secs(1)),
            |c| c.max_spend = Some(Usd::from_pico(1)),
            |c| c.purpose = Some("x".into()),
            |c| c.quality_tier = Some("x".into()),
            |c| c.category = Some("x".into()),
            |c| c.user = Some("x".into()),
            |c| drop(c.metadata.insert("x".into(), "y".into())),
            |c| c.retry_unknown = true,
            |c| c.explain = true,
            |c| drop(c.unknown.insert("x".into(), json!(1))),
        ];
        let of = |change: &Change, form: &str| {
            let mut call = call("a kite");
            change(&mut call);
            fingerprint(&call, form)
        };
        let all: BTreeSet<Digest> =
            changes.iter().flat_map(|change| ["b64_json", "url"].map(|form| of(change, form))).collect();
        assert_eq!(all.len(), changes.len() * 2);
    }

    #[test]
    fn who_asks_and_what_a_file_is_called_do_not_count() {
        let mut one = call("a kite");
        one.request.inputs = vec![input(b"one", "a.png")];
        let mut other = one.clone();
        other.id = RequestId(2);
        other.caller = Caller { tenant: "shop".into(), key: "app".into(), pool: Some("p".into()) };
        other.request.inputs = vec![input(b"one", "b.png")];
        assert_eq!(fingerprint(&one, "url"), fingerprint(&other, "url"));
        let desks = [("a", "bc"), ("ab", "c"), ("a", "bd")].map(|(tenant, key)| desk(tenant, key, Digest([0; 32])));
        assert_eq!(BTreeSet::from(desks).len(), 3);
    }

    proptest! {
        /// Two calls have one fingerprint exactly if they say the same.
        #[test]
        fn equal_texts_and_nothing_else(
            a in prop::array::uniform3(prop::option::of("[ab]{0,2}")),
            b in prop::array::uniform3(prop::option::of("[ab]{0,2}")),
        ) {
            let with = |[model, purpose, user]: [Option<String>; 3]| Call { model, purpose, user, ..call("a kite") };
            let same = a == b;
            prop_assert_eq!(fingerprint(&with(a), "url") == fingerprint(&with(b), "url"), same);
        }
    }
}

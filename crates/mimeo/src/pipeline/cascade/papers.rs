//! What was asked for, as it is kept beside a draft, so that its final can be made from the same: the prompt included,
//! the pictures that were sent beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{
    CacheMode, CachePolicy, Call, Caller, Digest, Format, ImageRequest, InputPicture, Leg, Operation, RequestId, Size,
    WishId,
};
use crate::error::{Error, Result};
use crate::media;

/// A request without the bytes of its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Papers {
    /// The route.
    model: String,
    is_edit: bool,
    prompt: String,
    size: Size,
    quality: Option<String>,
    background: Option<String>,
    output_format: Option<Format>,
    output_compression: Option<u8>,
    style: Option<String>,
    moderation: Option<String>,
    input_fidelity: Option<String>,
    /// What the caller said. What was drawn for the draft is in `drawn`.
    seed: Option<u64>,
    drawn: Option<u64>,
    steps: Option<u32>,
    guidance: Option<String>,
    negative_prompt: Option<String>,
    /// File names of the pictures that were sent; the last is the mask's, if there is one.
    inputs: Vec<Option<String>>,
    has_mask: bool,
    extras: BTreeMap<String, Value>,
    unknown: BTreeMap<String, Value>,
    ttl_ms: Option<u64>,
    tags: Vec<String>,
    purpose: Option<String>,
    category: Option<String>,
    quality_tier: Option<String>,
    metadata: BTreeMap<String, String>,
    trim_prompt: Option<bool>,
}

/// A final that is wanted.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The request.
    pub id: RequestId,
    /// Who wants it.
    pub caller: Caller,
    /// In which size, if not in that of the draft.
    pub size: Option<Size>,
    /// In which quality, if not in the one that was asked for with the draft.
    pub quality: Option<String>,
    /// The most that it may cost.
    pub max_spend: Option<crate::domain::Usd>,
    /// Pay again, although the same was sent before and nobody knows what came of it.
    pub retry_unknown: bool,
    /// How long its caller waits.
    pub deadline: Option<Duration>,
    /// Tell in the answer how it was chosen and made.
    pub explain: bool,
}

impl Papers {
    /// The papers of the draft in place `index` of those that `call` to the route `route` got; `drawn` is the seed that
    /// was drawn for it. Each has a final of its own: if the caller names a seed, those of several count up.
    pub(super) fn of(call: &Call, route: &str, drawn: Option<u64>, index: usize) -> Papers {
        // Destructured, so that a new field does not compile until somebody decides about it here.
        let ImageRequest {
            operation,
            prompt,
            size,
            quality,
            background,
            output_format,
            output_compression,
            style,
            moderation,
            input_fidelity,
            seed,
            steps,
            guidance,
            negative_prompt,
            inputs,
            mask,
            template: _,
            extras,
        } = &call.request;
        Papers {
            model: route.to_owned(),
            is_edit: *operation == Operation::Edit,
            prompt: prompt.clone(),
            size: *size,
            quality: quality.clone(),
            background: background.clone(),
            output_format: *output_format,
            output_compression: *output_compression,
            style: style.clone(),
            moderation: moderation.clone(),
            input_fidelity: input_fidelity.clone(),
            seed: seed.map(|seed| seed.saturating_add(index as u64)),
            drawn,
            steps: *steps,
            guidance: guidance.map(|guidance| guidance.to_string()),
            negative_prompt: negative_prompt.clone(),
            inputs: inputs.iter().chain(mask).map(|input| input.file_name.clone()).collect(),
            has_mask: mask.is_some(),
            extras: extras.clone(),
            unknown: call.unknown.clone(),
            ttl_ms: call.cache.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            tags: call.cache.tags.clone(),
            purpose: call.purpose.clone(),
            category: call.category.clone(),
            quality_tier: call.quality_tier.clone(),
            metadata: call.metadata.clone(),
            trim_prompt: call.trim_prompt,
        }
    }

    pub(super) fn to_json(&self) -> String {
        // Nothing in it can fail to be JSON: no map has keys that are not text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What names the papers that read `text`.
    pub(super) fn wish(text: &str) -> WishId {
        let Digest(bytes) = Digest::of(text.as_bytes());
        WishId::from_bytes(bytes.first_chunk().copied().unwrap_or_default())
    }

    /// # Errors
    /// Another program wrote it.
    pub(super) fn from_json(text: &str) -> Result<Papers> {
        serde_json::from_str(text).map_err(|cause| Error::internal("a kept draft", cause))
    }

    /// The route that makes its final.
    pub(super) fn route(&self) -> &str {
        &self.model
    }

    /// The request for the final that `approval` wants, from the pictures `sent`; `leg` without its seed.
    ///
    /// # Errors
    /// The pictures are not those that were kept.
    pub(super) fn call(self, approval: Approval, sent: Vec<Bytes>, leg: Leg) -> Result<Call> {
        if sent.len() != self.inputs.len() {
            return Err(Error::internal("a kept draft", "its input pictures are not all there"));
        }
        let mut inputs = Vec::with_capacity(sent.len());
        for (bytes, file_name) in sent.into_iter().zip(self.inputs) {
            let picture = media::examine(bytes).map_err(|bad| Error::internal("a kept draft", bad))?;
            inputs.push(InputPicture { picture, file_name });
        }
        let mask = if self.has_mask { inputs.pop() } else { None };
        let has_own_quality = approval.quality.is_some();
        let request = ImageRequest {
            operation: if self.is_edit { Operation::Edit } else { Operation::Generate },
            prompt: self.prompt,
            size: approval.size.unwrap_or(self.size),
            quality: approval.quality.or(self.quality),
            background: self.background,
            output_format: self.output_format,
            output_compression: self.output_compression,
            style: self.style,
            moderation: self.moderation,
            input_fidelity: self.input_fidelity,
            seed: self.seed,
            steps: self.steps,
            guidance: self.guidance.and_then(|text| text.parse().ok()),
            negative_prompt: self.negative_prompt,
            inputs,
            mask,
            template: None,
            extras: self.extras,
        };
        Ok(Call {
            id: approval.id,
            caller: approval.caller,
            model: Some(self.model),
            route: None,
            request,
            n: 1,
            cache: CachePolicy {
                mode: CacheMode::Default,
                variants: Some(1),
                ttl: self.ttl_ms.map(Duration::from_millis),
                tags: self.tags,
                ..CachePolicy::default()
            },
            stream: None,
            deadline: approval.deadline,
            max_spend: approval.max_spend,
            purpose: self.purpose,
            quality_tier: self.quality_tier.filter(|_| !has_own_quality),
            category: self.category,
            user: None,
            metadata: self.metadata,
            retry_unknown: approval.retry_unknown,
            trim_prompt: self.trim_prompt,
            explain: approval.explain,
            unknown: self.unknown,
            leg: Some(Leg { seed: self.drawn, ..leg }),
        })
    }
}

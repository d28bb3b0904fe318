//! `POST /v1/images/{id}/finalize`: the final of a draft.

use std::sync::Arc;

use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::auth::Identity;
use super::failure::Failure;
use super::fields::Fields;
use super::wire::{self, Delivery};
use super::{Edge, answer, images};
use crate::domain::{Caller, ImageId, RequestId, WishId};
use crate::error::{Error, Kind, Result};
use crate::pipeline::Approval;

/// What the body asks for: everything else is as it was for the draft. An empty body asks for nothing more.
fn approval(id: RequestId, caller: Caller, headers: &HeaderMap, body: &[u8]) -> Result<(Approval, Delivery)> {
    let mut fields = if body.trim_ascii().is_empty() { Fields::from_json(b"{}")? } else { Fields::from_json(body)? };
    let f = &mut fields;
    let approval = Approval {
        id,
        caller,
        size: if f.has("size") { Some(wire::size(f)?) } else { None },
        quality: f.label("quality", wire::LABEL)?.filter(|quality| quality != "auto"),
        max_spend: wire::max_spend(f)?,
        retry_unknown: f.boolean("retry_unknown")?.unwrap_or(false),
        deadline: wire::deadline(f)?,
        explain: f.boolean("explain")?.unwrap_or(false),
    };
    let delivery = match f.one_of("response_format", &["b64_json", "url"])? {
        Some("url") => Delivery::Url,
        None if wire::wants_picture(headers) => Delivery::Raw,
        _ => Delivery::Base64,
    };
    fields.finish()?;
    Ok((approval, delivery))
}

/// What was asked for with the draft, as its `finalize_url` names it; `None` if that names nothing.
fn wish(uri: &Uri) -> Result<Option<WishId>> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Error::new(Kind::BadRequest, "The query of this address cannot be read."))?;
    let mut wish = None;
    for (name, value) in pairs {
        if name != "wish" {
            return Err(Error::bad(&name, format!("Unknown parameter: '{name}'.")).code("unknown_parameter"));
        }
        wish = Some(value.parse::<WishId>().map_err(|_| {
            let message = "That is no name of a wish: it stands in `mimeo.cascade.finalize_url` of the draft's answer.";
            Error::new(Kind::NotFound, message).param("wish").code("draft_not_found")
        })?);
    }
    Ok(wish)
}

/// Makes the final of the draft `id` of the caller's tenant, or gives it out again.
pub async fn finalize(
    State(edge): State<Arc<Edge>>,
    Extension(request_id): Extension<RequestId>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Response, Failure> {
    let (turn, headers, body) = images::receive(&edge, request).await?;
    let (approval, delivery) = approval(request_id, identity.caller, &headers, &body)?;
    // Before anything is spent: without it there is nothing to answer with.
    let base = match delivery {
        Delivery::Url => images::base_url(edge.options.public_url.as_deref(), &headers)?,
        _ => String::new(),
    };
    let picture = id.parse::<ImageId>().map_err(|_| {
        let message = "That is no name of a picture: it is `mimeo.cascade.image_id` of the draft's answer.";
        Error::new(Kind::NotFound, message).code("draft_not_found")
    })?;
    let mut answer = Box::pin(edge.pipeline.finalize(picture, wish(&uri)?, approval)).await?;
    edge.pipeline.bring(&mut answer, delivery == Delivery::Url).await;
    Ok(turn.until_sent(answer::respond(&answer, delivery, &base)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Size;

    fn read(body: &str) -> Result<(Approval, Delivery)> {
        let caller = Caller { tenant: "shop".into(), key: "web".into(), pool: None };
        approval(RequestId(1), caller, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn little_can_be_changed() {
        let (asked, delivery) = read(" ").unwrap();
        assert_eq!((asked.size, asked.quality, delivery), (None, None, Delivery::Base64));
        let (asked, delivery) =
            read(r#"{"size":"1536x1024","quality":"high","response_format":"url","max_spend_usd":"0.1"}"#).unwrap();
        assert_eq!((asked.size, delivery), (Some(Size::Exact(1536, 1024)), Delivery::Url));
        assert_eq!((asked.quality.as_deref(), asked.max_spend), (Some("high"), "0.1".parse().ok()));
        assert_eq!(read(r#"{"prompt":"another"}"#).unwrap_err().param.as_deref(), Some("prompt"));
        assert_eq!(read("[]").unwrap_err().kind, Kind::BadRequest);
    }
}

//! `GET /v1/ledger`: what was spent and saved. A key sees its own tenant, an admin's key sees all.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::Uri;
use jiff::tz::TimeZone;

use super::Edge;
use super::auth::Identity;
use super::failure::Failure;
use crate::clock::Millis;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{LedgerQuery, LedgerReport};

/// The report that the query asks for, of what the caller may see.
pub async fn report(
    State(edge): State<Arc<Edge>>,
    Extension(identity): Extension<Identity>,
    uri: Uri,
) -> Result<Json<LedgerReport>, Failure> {
    let query = query(&uri, &identity)?;
    Ok(Json(edge.pipeline.ledger(&query).await?))
}

fn query(uri: &Uri, identity: &Identity) -> Result<LedgerQuery> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Error::new(Kind::BadRequest, "The query of this address cannot be read."))?;
    // Set first, so that nothing below can forget it.
    let mut query = LedgerQuery {
        tenant: (!identity.admin).then(|| identity.caller.tenant.clone()),
        group_by: None,
        since_ms: None,
        until_ms: None,
    };
    for (name, value) in pairs {
        match name.as_str() {
            "group_by" => {
                query.group_by = Some(value.parse().map_err(|_| {
                    Error::bad(
                        &name,
                        "Invalid 'group_by': expected provider, model, tenant, key, route, purpose or day.",
                    )
                })?);
            }
            "since" => query.since_ms = Some(moment(&name, &value)?),
            "until" => query.until_ms = Some(moment(&name, &value)?),
            "tenant" if identity.admin || identity.caller.tenant == value => query.tenant = Some(value),
            "tenant" => {
                return Err(Error::new(Kind::Forbidden, "This key sees its own tenant's rows only.").param("tenant"));
            }
            _ => {
                return Err(Error::bad(&name, format!("Unknown parameter: '{name}'.")).code("unknown_parameter"));
            }
        }
    }
    Ok(query)
}

/// A moment as RFC 3339, or a date, which means its beginning in UTC.
fn moment(name: &str, text: &str) -> Result<Millis> {
    // An unescaped + of an offset arrives as a space.
    let text = text.trim().replace(' ', "+");
    let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    });
    timestamp.map(jiff::Timestamp::as_millisecond).ok_or_else(|| {
        Error::bad(
            name,
            format!("Invalid '{name}': expected a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z."),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Caller;

    fn asked(path: &str, admin: bool) -> Result<LedgerQuery> {
        let caller = Caller { tenant: "shop".into(), key: "web".into(), pool: None };
        query(&path.parse().unwrap(), &Identity { caller, admin })
    }

    #[test]
    fn tenants_see_their_own() {
        assert_eq!(asked("/v1/ledger", false).unwrap().tenant.as_deref(), Some("shop"));
        assert_eq!(asked("/v1/ledger?tenant=shop", false).unwrap().tenant.as_deref(), Some("shop"));
        assert_eq!(asked("/v1/ledger?tenant=bank", false).unwrap_err().kind, Kind::Forbidden);
        assert_eq!(asked("/v1/ledger?tenant=shop&tenant=bank", false).unwrap_err().kind, Kind::Forbidden);
        assert_eq!(asked("/v1/ledger", true).unwrap().tenant, None);
        assert_eq!(asked("/v1/ledger?tenant=bank", true).unwrap().tenant.as_deref(), Some("bank"));
    }

    #[test]
    fn moments() {
        let since = |text: &str| asked(&format!("/v1/ledger?since={text}"), true).map(|query| query.since_ms);
        assert_eq!(since("1970-01-02").unwrap(), Some(86_400_000));
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), Some(1000));
        assert_eq!(since("1970-01-01T01:00:00+01:00").unwrap(), Some(0));
        assert_eq!(since("1970-01-01T01:00:00%2B01:00").unwrap(), Some(0));
        assert!(since("yesterday").is_err());
        assert!(asked("/v1/ledger?sine=1", true).is_err());
        assert!(asked("/v1/ledger?group_by=moon", true).is_err());
        assert!(asked("/v1/ledger?group_by=provider", true).unwrap().group_by.is_some());
    }
}

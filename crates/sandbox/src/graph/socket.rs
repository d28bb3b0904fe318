//! The WebSocket over which executions are told.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::News;
use crate::shop::Shop;

/// What a server appends to a client's key (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[derive(Deserialize)]
pub(super) struct Listener {
    #[serde(rename = "clientId", default)]
    name: String,
}

/// `GET /ws?clientId=NAME`: what is told to that name, from now on.
pub(super) async fn listen(
    State(shop): State<Arc<Shop>>,
    Query(listener): Query<Listener>,
    mut request: Request,
) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return (StatusCode::BAD_REQUEST, "No WebSocket UPGRADE hdr: None\n Can \"Upgrade\" only to \"WebSocket\".")
            .into_response();
    };
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID.as_bytes()].concat());
    let accept = base64_simd::STANDARD.encode_to_string(accept.as_ref());
    let Ok(accept) = HeaderValue::from_str(&accept) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // From here on, before the answer leaves: nothing is missed between the two.
    let news = shop.graphs.news.subscribe();
    let upgrade = hyper::upgrade::on(&mut request);
    let stop = shop.stop.clone();
    let graphs = Arc::clone(&shop);
    shop.tasks.spawn(async move {
        let upgraded = tokio::select! {
            upgraded = upgrade => upgraded,
            () = stop.cancelled() => return,
        };
        let Ok(upgraded) = upgraded else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        graphs.graphs.tell_queue();
        tokio::select! {
            () = forward(socket, news, &listener.name) => {}
            () = stop.cancelled() => {}
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// Sends what is told until either side ends.
async fn forward<S>(mut socket: WebSocketStream<S>, mut news: broadcast::Receiver<News>, name: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let sent = tokio::select! {
            told = news.recv() => match told {
                Ok(told) if told.listener.as_deref().is_none_or(|listener| listener == name) => {
                    socket.send(told.message).await
                }
                Ok(_) | Err(RecvError::Lagged(_)) => Ok(()),
                Err(RecvError::Closed) => return,
            },
            // Pings are answered while reading; what clients say otherwise is of no interest.
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => Ok(()),
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

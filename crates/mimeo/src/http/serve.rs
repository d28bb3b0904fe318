//! Connections: accepted, served, and ended in peace.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::patience::Patient;
use super::{Edge, media, router};

/// Pause after a failed accept: mostly there are no file descriptors, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then accepts nobody new and returns when the requests under way are answered.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>, shutdown: impl Future<Output = ()>) {
    let router = router(Arc::clone(&edge));
    let connections = TaskTracker::new();
    let stop = CancellationToken::new();
    let places = Arc::new(Semaphore::new(edge.options.max_connections));
    let mut is_full = false;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    is_full = false;
                    let (edge, router, stop) = (Arc::clone(&edge), router.clone(), stop.clone());
                    connections.spawn(async move {
                        connection(stream, edge, router, stop).await;
                        drop(place);
                    });
                }
                // Closed at once. Left in the kernel's queue it would wait unheard and for nobody knows how long, while
                // its caller, or the balancer before us, could be elsewhere by now.
                Err(_) => {
                    if !std::mem::replace(&mut is_full, true) {
                        let most = edge.options.max_connections;
                        tracing::warn!(
                            most,
                            "new connections are closed: as many are open as may (server.max_connections)"
                        );
                    }
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stop.cancel();
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, edge: Arc<Edge>, router: Router, stop: CancellationToken) {
    // Answers are written whole; waiting to fill a packet would only delay their ends.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let timeouts = edge.options.timeouts;
    let stream = Patient::new(stream, Duration::from_secs(u64::from(timeouts.write_s)));
    let service = service_fn(move |request| answer(&edge, &router, request));
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(u64::from(timeouts.head_s)))
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Callers hang up, time out and send garbage; that is no news.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A picture in memory is answered right here. Everything else goes through the router and all that
/// surrounds it.
fn answer(
    edge: &Edge,
    router: &Router,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let found = match *request.method() {
        Method::GET | Method::HEAD => {
            media::id_in_path(request.uri().path()).and_then(|id| edge.pipeline.picture_in_memory(id))
        }
        _ => None,
    };
    let now = found.map(|stored| media::respond(request.method(), request.headers(), &stored));
    let later = if now.is_none() { Some((router.clone(), request)) } else { None };
    async move {
        match (now, later) {
            (Some(response), _) => Ok(response),
            (None, Some((mut router, request))) => router.call(request).await,
            (None, None) => Ok(Response::default()),
        }
    }
}

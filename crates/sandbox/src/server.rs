//! Connections. Its own accept loop, because a sandbox must be able to close a connection without an answer and to
//! end with requests hanging, and axum's server does neither.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::problem::Problem;
use crate::sale::HangUp;
use crate::shop::Shop;
use crate::simulation::{self, SimulationError};
use crate::{compatible, control, files, graph, native, openai, rate};

/// Largest request body, in bytes: sixteen pictures of an edit in base64 with room to spare.
const LARGEST_REQUEST: usize = 256 << 20;

/// The time open requests get to end when the sandbox stops.
const DRAIN: Duration = Duration::from_millis(500);

/// All routes over one shop.
pub(crate) fn router(shop: Arc<Shop>) -> Router {
    // The server of graphs is in code, and can stand at the root like a simulation.
    let root = if shop.graph_at_root { graph::routes() } else { Router::new() };
    root.nest("/openai/v1", openai::routes())
        .nest("/compatible/v1", compatible::routes())
        .nest("/native/v1", native::routes())
        .nest("/graph", graph::routes())
        .nest("/control", control::routes())
        .route("/files/{id}", get(files::file))
        .route("/elsewhere", any(elsewhere))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/as/{name}", any(simulated))
        .route("/as/{name}/{*path}", any(simulated))
        .fallback(at_root)
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shop), rate::limit))
        .layer(axum::middleware::map_response_with_state(Arc::clone(&shop), label))
        .with_state(shop)
}

/// A simulation under its name.
async fn simulated(State(shop): State<Arc<Shop>>, request: Request) -> Response {
    let path = request.uri().path().strip_prefix("/as/").unwrap_or_default();
    let (name, path) = path.split_at(path.find('/').unwrap_or(path.len()));
    let Some(simulation) = shop.simulations.get(name) else {
        return SimulationError::Unknown(name.to_owned()).into_response();
    };
    let base = format!("{}/as/{name}", shop.origin(request.headers()));
    let path = path.to_owned();
    simulation::serve(shop, simulation, base, path, request).await
}

/// The simulation that is served without a name in front, if there is one.
async fn at_root(State(shop): State<Arc<Shop>>, request: Request) -> Response {
    let Some(simulation) = shop.simulations.at_root() else {
        return openai::not_found().await;
    };
    let base = shop.origin(request.headers());
    let path = request.uri().path().to_owned();
    simulation::serve(shop, simulation, base, path, request).await
}

impl IntoResponse for SimulationError {
    fn into_response(self) -> Response {
        Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", None, self.to_string()).into_response()
    }
}

/// Where `redirect` faults point: nobody has business here.
async fn elsewhere(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    shop.counters.follow();
    (StatusCode::OK, "You followed a redirect that you should not have followed.\n")
}

/// Says in every answer that it is simulated, and gives it an id of its own.
async fn label(State(shop): State<Arc<Shop>>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-simulated"), HeaderValue::from_static("sandbox"));
    if let Ok(id) = HeaderValue::from_str(&format!("req_simulated_{}", shop.counters.next_id())) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

/// Stops the server: first no new connections, then, after a short drain, none at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    pub gently: CancellationToken,
    pub now: CancellationToken,
}

/// Accepts connections until the shutdown.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown, tasks: TaskTracker) {
    let service = TowerToHyperService::new(router);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, most likely: others must end before a new try makes sense.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = shutdown.gently.cancelled() => return,
        };
        tasks.spawn(connection(stream, service.clone(), shutdown.clone()));
    }
}

async fn connection(stream: TcpStream, service: TowerToHyperService<Router>, shutdown: Shutdown) {
    // Without it small answers wait for the client's acknowledgement; a failure only costs that time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = service.call(request);
        async move {
            match answer.await {
                Ok(response) if response.extensions().get::<HangUp>().is_some() => Err("hung up, as the fault asks"),
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let connection = connection.with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ends is the client's business, and often a fault's.
        _ = connection.as_mut() => {}
        () = shutdown.now.cancelled() => {}
        () = shutdown.gently.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection.as_mut() => {}
                () = shutdown.now.cancelled() => {}
            }
        }
    }
}

/// Ends all connections and waits for their tasks.
pub(crate) async fn stop(shutdown: &Shutdown, tasks: &TaskTracker) {
    shutdown.gently.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        shutdown.now.cancel();
        tasks.wait().await;
    }
}

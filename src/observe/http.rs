//! `/metrics`, `/livez` and `/readyz`, over plain HTTP for the machine itself: no authentication, nothing
//! of a caller or a key, and no way to change anything.

use std::{io, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::readiness::{Board, Readiness, TlsStanding};

/// How long open requests may take once the service stops.
const DRAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Shown {
    metrics: PrometheusHandle,
    board: Board,
}

/// Serves until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    board: Board,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Shown { metrics, board });
    let stopped = stop.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await });
    tokio::select! {
        result = serving.into_future() => result,
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

/// The body of `/readyz`.
#[derive(serde::Serialize)]
struct Ready<'a> {
    #[serde(flatten)]
    readiness: &'a Readiness,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a TlsStanding>,
}

async fn render(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shown.metrics.render()).into_response()
}

async fn ready(State(shown): State<Shown>) -> Response {
    let Some(readiness) = shown.board.newest() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "nothing is known yet\n").into_response();
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let tls = shown.board.tls();
    let body = Ready { readiness: &readiness, tls: tls.as_deref() };
    let body = serde_json::to_string(&body).unwrap_or_default() + "\n";
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

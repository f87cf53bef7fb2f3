//! The recorder of metrics, and the figures of the faces. Everything is labelled by closed sets.

use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Requests ended, by method and gRPC code.
pub const REQUESTS: &str = "strongroom_requests_total";
/// From the arrival of a request until its answer, by method.
pub const REQUEST_SECONDS: &str = "strongroom_request_seconds";
/// Requests under way.
pub const REQUESTS_UNDER_WAY: &str = "strongroom_requests_under_way";
/// Operations of batches and streams ended, by form, operation and gRPC code.
pub const OPERATIONS: &str = "strongroom_operations_total";
/// TLS handshakes, by outcome.
pub const HANDSHAKES: &str = "strongroom_tls_handshakes_total";
/// Connections that are open.
pub const CONNECTIONS: &str = "strongroom_connections";
/// 1 while the service is ready, else 0.
pub const READY: &str = "strongroom_ready";
/// 1, with the release as a label.
pub const BUILD: &str = "strongroom_build_info";

/// Upper bounds in seconds: from 20 microseconds (an HMAC in the module) to 30 seconds.
const BUCKETS_S: [f64; 20] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 20.0, 30.0,
];

/// How often the recorder folds what histograms have collected: without it they would grow.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Installs the recorder. Once in a process, before the pool starts.
///
/// # Errors
/// When there is one already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_S)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests ended, by method and gRPC code");
    metrics::describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From the arrival of a request until its answer");
    metrics::describe_gauge!(REQUESTS_UNDER_WAY, "Requests under way");
    metrics::describe_counter!(OPERATIONS, "Operations of batches and streams ended, by form, operation and gRPC code");
    metrics::describe_counter!(HANDSHAKES, "TLS handshakes, by outcome");
    metrics::describe_gauge!(CONNECTIONS, "Connections that are open");
    metrics::describe_gauge!(READY, "1 while the service is ready");
    metrics::describe_gauge!(BUILD, "1, with the release as a label");
    metrics::describe_histogram!("strongroom_store_commit_seconds", Unit::Seconds, "A change of the store, by kind");
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

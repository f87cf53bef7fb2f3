//! The recorder of metrics, and the figures of the faces. Everything is labelled by closed sets.

use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Backups that were begun, by `outcome`.
pub const BACKUPS: &str = "strongroom_backups_total";
/// When the newest backup of this process was finished.
pub const BACKUP_LAST: &str = "strongroom_backup_last_success_timestamp_seconds";
/// How large it is.
pub const BACKUP_BYTES: &str = "strongroom_backup_last_size_bytes";
/// Requests ended, by method and gRPC code; those of the Azure face by operation and HTTP status.
pub const REQUESTS: &str = "strongroom_requests_total";
/// From the arrival of a request until its answer, by method.
pub const REQUEST_SECONDS: &str = "strongroom_request_seconds";
/// Requests under way.
pub const REQUESTS_UNDER_WAY: &str = "strongroom_requests_under_way";
/// Operations of batches and streams ended, by form, operation and gRPC code.
pub const OPERATIONS: &str = "strongroom_operations_total";
/// Requests and parts of batches that were refused because a quota was used up, by whose it was.
pub const QUOTA_REFUSALS: &str = "strongroom_quota_refusals_total";
/// Bearer tokens, by what came of them: KNOWN, BELIEVED, or the reason of the refusal.
pub const BEARER_TOKENS: &str = "strongroom_bearer_tokens_total";
/// Fetches of the keys of issuers, by issuer and outcome.
pub const OIDC_FETCHES: &str = "strongroom_oidc_fetches_total";
/// How old the keys of an issuer are, by issuer.
pub const OIDC_KEYS_AGE_SECONDS: &str = "strongroom_oidc_keys_age_seconds";
/// Tokens that were issued here and have neither expired nor been revoked.
pub const TOKENS_ISSUED: &str = "strongroom_tokens_issued";
/// TLS handshakes, by outcome.
pub const HANDSHAKES: &str = "strongroom_tls_handshakes_total";
/// Connections to the Unix socket, by outcome.
pub const UNIX_CONNECTIONS: &str = "strongroom_unix_connections_total";
/// Connections that were asked to end or cut off, by reason.
pub const CONNECTIONS_ENDED: &str = "strongroom_connections_ended_total";
/// When the server's certificate ends, in seconds since 1970.
pub const CERTIFICATE_ENDS: &str = "strongroom_tls_certificate_expires_timestamp_seconds";
/// When the first revocation list is past its next update, in seconds since 1970.
pub const CRL_ENDS: &str = "strongroom_tls_crl_expires_timestamp_seconds";
/// Readings of certificates, keys and revocation lists after the start, by outcome.
pub const RELOADS: &str = "strongroom_tls_reloads_total";
/// 1 while the files that TLS stands on are what is in force, else 0.
pub const TLS_CURRENT: &str = "strongroom_tls_files_in_force";
/// Connections that are open.
pub const CONNECTIONS: &str = "strongroom_connections";
/// 1 while the service is ready, else 0.
pub const READY: &str = "strongroom_ready";
/// How many are administrator by break-glass.
pub const BREAK_GLASS: &str = "strongroom_break_glass_assignments";
/// Rotations that were due and tried, by outcome.
pub const ROTATIONS: &str = "strongroom_rotations_total";
/// How far the time of destruction is behind the wall clock, in seconds.
pub const DESTRUCTION_BEHIND: &str = "strongroom_destruction_behind_seconds";
/// Keys, versions and vaults whose time has come, by outcome.
pub const PURGES: &str = "strongroom_purges_total";
/// Deliveries to webhooks, by webhook and outcome.
pub const DELIVERIES: &str = "strongroom_webhook_deliveries_total";
/// Deliveries that wait, by webhook.
pub const DELIVERIES_PENDING: &str = "strongroom_webhook_pending";
/// Deliveries that were given up, by webhook.
pub const DEAD_LETTERS: &str = "strongroom_webhook_dead_letters";
/// For how long what is due for a key has been due, at most, as the replica saw it that has the turn.
pub const ROTATION_BEHIND: &str = "strongroom_rotation_behind_seconds";
/// How far another root is on its way into the root's place: 0 when none is, 1 prepared, 2 renewing, 3 retiring.
pub const ROOT_STAGE: &str = "strongroom_root_rotation_stage";
/// Rows that were carried over from one root to another.
pub const ROOT_ROWS: &str = "strongroom_root_rotation_rows_total";
/// 1 while records can be written, as far as is known, else 0.
pub const AUDIT_USABLE: &str = "strongroom_audit_log_usable";
/// What the disk of the audit log has left, in bytes.
pub const AUDIT_FREE_BYTES: &str = "strongroom_audit_disk_free_bytes";
/// Records of the audit log that are under a signed checkpoint.
pub const AUDIT_RECORDS: &str = "strongroom_audit_signed_records";
/// When all that was durable was last found under a signed checkpoint, in seconds since 1970.
pub const AUDIT_CHECKPOINT: &str = "strongroom_audit_checkpoint_timestamp_seconds";
/// Records of the audit log that are in its index.
pub const AUDIT_INDEXED: &str = "strongroom_audit_indexed_records";
/// 1, with the release as a label.
pub const BUILD: &str = "strongroom_build_info";
/// Deliveries of the audit log, by exporter and outcome.
pub const EXPORTS: &str = "strongroom_audit_exports_total";
/// Records that are readable and that an exporter has not delivered, by exporter.
pub const EXPORT_LAG: &str = "strongroom_audit_export_lag_records";
/// How old what is known of other replicas' changes had become when it was heard anew.
pub const HEARD_AGE_SECONDS: &str = "strongroom_heard_age_seconds";
/// From a change until it was in force on every replica, by outcome.
pub const IN_FORCE_SECONDS: &str = "strongroom_in_force_seconds";
/// Changes that were decided again because another replica had changed the same scope first.
pub const RACES: &str = "strongroom_change_races_total";
/// Requests that were refused because this replica did not hear of others' changes.
pub const BEHIND: &str = "strongroom_behind_refusals_total";
/// Replicas, by state.
pub const REPLICAS: &str = "strongroom_replicas";
/// Spans of traces that have finished, by what became of them.
pub const TRACE_SPANS: &str = "strongroom_trace_spans_total";

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

/// What the service does by itself.
fn describe_upkeep() {
    metrics::describe_counter!(ROTATIONS, "Rotations that were due and tried, by outcome");
    metrics::describe_gauge!(
        ROOT_STAGE,
        "How far another root is: 0 none is on its way, 1 prepared, 2 renewing, 3 retiring"
    );
    metrics::describe_counter!(ROOT_ROWS, "Rows that were carried over to another root");
    metrics::describe_gauge!(
        ROTATION_BEHIND,
        Unit::Seconds,
        "For how long what is due for a key has been due, at most"
    );
    metrics::describe_gauge!(
        DESTRUCTION_BEHIND,
        Unit::Seconds,
        "How far the time by which things are destroyed is behind the wall clock"
    );
    metrics::describe_counter!(BACKUPS, "Backups that were asked for, by outcome");
    metrics::describe_gauge!(BACKUP_LAST, Unit::Seconds, "When the newest backup was finished, since 1970");
    metrics::describe_gauge!(BACKUP_BYTES, Unit::Bytes, "How large the newest backup is");
    metrics::describe_counter!(PURGES, "Keys, versions and vaults whose time had come, by outcome");
    metrics::describe_counter!(DELIVERIES, "Deliveries of events, by webhook and outcome");
    metrics::describe_gauge!(DELIVERIES_PENDING, "Deliveries of events that wait, by webhook");
    metrics::describe_gauge!(DEAD_LETTERS, "Deliveries of events that were given up, by webhook");
}

fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests ended, by method and gRPC code or HTTP status");
    metrics::describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From the arrival of a request until its answer");
    metrics::describe_gauge!(REQUESTS_UNDER_WAY, "Requests under way");
    describe_upkeep();
    metrics::describe_counter!(OPERATIONS, "Operations of batches and streams ended, by form, operation and gRPC code");
    metrics::describe_counter!(QUOTA_REFUSALS, "Refusals because a quota was used up, by whose it was");
    metrics::describe_counter!(BEARER_TOKENS, "Bearer tokens, by what came of them");
    metrics::describe_counter!(OIDC_FETCHES, "Fetches of the keys of issuers, by issuer and outcome");
    metrics::describe_gauge!(OIDC_KEYS_AGE_SECONDS, Unit::Seconds, "How old the keys of an issuer are");
    metrics::describe_gauge!(TOKENS_ISSUED, "Tokens that were issued here and are in force");
    metrics::describe_counter!(HANDSHAKES, "TLS handshakes, by outcome");
    metrics::describe_gauge!(CONNECTIONS, "Connections that are open");
    metrics::describe_counter!(UNIX_CONNECTIONS, "Connections to the Unix socket, by outcome");
    metrics::describe_counter!(CONNECTIONS_ENDED, "Connections that were asked to end or cut off, by reason");
    metrics::describe_gauge!(CERTIFICATE_ENDS, Unit::Seconds, "When the server's certificate ends, since 1970");
    metrics::describe_gauge!(
        CRL_ENDS,
        Unit::Seconds,
        "When the first revocation list is past its next update, since 1970"
    );
    metrics::describe_counter!(
        RELOADS,
        "Readings of certificates, keys and revocation lists after the start, by outcome"
    );
    metrics::describe_gauge!(TLS_CURRENT, "1 while the files that TLS stands on are what is in force");
    metrics::describe_gauge!(READY, "1 while the service is ready");
    metrics::describe_gauge!(BREAK_GLASS, "Administrators that were made at the console and still are");
    metrics::describe_gauge!(AUDIT_USABLE, "1 while audit records can be written");
    metrics::describe_gauge!(AUDIT_FREE_BYTES, Unit::Bytes, "What the disk of the audit log has left");
    metrics::describe_gauge!(AUDIT_RECORDS, "Records of the audit log that are under a signed checkpoint");
    metrics::describe_gauge!(
        AUDIT_CHECKPOINT,
        Unit::Seconds,
        "When all that was durable was last found under a signed checkpoint, since 1970"
    );
    metrics::describe_counter!(EXPORTS, "Deliveries of the audit log, by exporter and outcome");
    metrics::describe_gauge!(EXPORT_LAG, "Records of the audit log that an exporter has not delivered");
    metrics::describe_counter!(TRACE_SPANS, "Spans of traces that have finished, by what became of them");
    metrics::describe_gauge!(AUDIT_INDEXED, "Records of the audit log that are in its index");
    metrics::describe_histogram!(
        HEARD_AGE_SECONDS,
        Unit::Seconds,
        "How old what is known of other replicas' changes had become when it was heard anew"
    );
    metrics::describe_histogram!(IN_FORCE_SECONDS, Unit::Seconds, "From a change until it was in force everywhere");
    metrics::describe_counter!(RACES, "Changes that were decided again because another replica was quicker");
    metrics::describe_counter!(BEHIND, "Refusals because this replica did not hear of others' changes");
    metrics::describe_gauge!(REPLICAS, "Replicas, by state");
    metrics::describe_gauge!(BUILD, "1, with the release as a label");
    metrics::describe_histogram!("strongroom_store_commit_seconds", Unit::Seconds, "A change of the store, by kind");
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

//! Seeing it run: the program's own log, metrics, traces, and whether it is ready. None of it is the audit log.
//!
//! Labels of metrics are closed sets, so what is kept is bounded. What a caller sent is never logged,
//! only what was decided about it.

pub mod http;
pub mod logging;
pub mod metrics;
pub mod readiness;
pub mod trace;

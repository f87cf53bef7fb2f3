//! The program's own log, to standard error.

use tracing_subscriber::{filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogFormat, LogStyle};

/// Begins logging. A second call in one process changes nothing.
///
/// Dependencies are heard from `warn` on: below that they speak of connections and frames, not of ours.
pub fn start(style: LogStyle) {
    let quiet = style.level.min(LevelFilter::WARN);
    let filter = tracing_subscriber::filter::Targets::new()
        .with_default(quiet)
        .with_target("strongroom", style.level)
        .with_target("strongroom_hsm", style.level);
    let registry = tracing_subscriber::registry().with(filter);
    let writer = std::io::stderr;
    let result = match style.format {
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false)
                    .with_writer(writer),
            )
            .try_init(),
        LogFormat::Text => {
            registry.with(fmt::layer().with_target(false).with_ansi(false).with_writer(writer)).try_init()
        }
    };
    // An error says that a subscriber is there already: an embedding test's.
    drop(result);
}

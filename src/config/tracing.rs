//! `[tracing]`: of which requests traces are sent, and where to.

use super::{exporters, reader::Section};
use crate::observe::trace::Tracing;

/// One request in a hundred.
const SAMPLE_RATIO: f64 = 0.01;

/// Nothing without an endpoint: then no request is followed.
pub(super) fn tracing(mut section: Section) -> Option<Tracing> {
    let is_on = section.has("otlp_endpoint");
    if !is_on && !section.is_empty() {
        section
            .fault("otlp_endpoint", "is missing: without it no trace is sent, and nothing else of this table is used");
    }
    let receiver = if is_on { exporters::receiver(&mut section, "otlp_endpoint") } else { None };
    if !is_on {
        // What belongs here is taken all the same, so that one fault is said and not four.
        section.ignore(&["ca", "allow_http_loopback", "token_file"]);
    }
    let sample_ratio = section.fraction("sample_ratio", SAMPLE_RATIO);
    let trust_parent = section.switch("trust_parent", false);
    section.finish();
    receiver.map(|(url, channel)| Tracing { url, channel, sample_ratio, trust_parent })
}

//! Where a batch goes: one kind of receiver or another.

use super::{
    Exporter, Source, Target, error::DeliveryError, file::FileSink, http::HttpSink, otlp, shape::Form, source::Batch,
    syslog::SyslogSink,
};

/// An open receiver. A delivery that is given up leaves it fit for the next.
pub(super) enum Sink {
    File(FileSink),
    Syslog(SyslogSink),
    Webhook(HttpSink),
    Otlp(HttpSink, otlp::Resource),
}

/// What became of a delivery that was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    /// So many records the receiver said that it did not take, and does not want again.
    pub(super) rejected: u64,
}

impl Sink {
    pub(super) fn new(exporter: &Exporter, source: &Source) -> Self {
        let within = exporter.within;
        match &exporter.target {
            Target::File { path, .. } => Self::File(FileSink::new(path)),
            Target::Syslog { to, facility, .. } => Self::Syslog(SyslogSink::new(to.clone(), *facility)),
            Target::Webhook { url, channel, signature_key_file, .. } => {
                Self::Webhook(HttpSink::new(url, channel, signature_key_file.clone(), within))
            }
            Target::Otlp { url, channel } => {
                Self::Otlp(HttpSink::new(url, channel, None, within), otlp::Resource::new(&source.instance))
            }
        }
    }

    /// Delivers a batch that is not empty.
    pub(super) async fn deliver(&mut self, batch: &Batch, source: &Source) -> Result<Delivered, DeliveryError> {
        match self {
            Self::File(sink) => sink.append(&batch.items).await?,
            Self::Syslog(sink) => sink.send(&batch.items).await?,
            Self::Webhook(sink) => {
                let id = format!("{}_{}_{}", source.instance, batch.first, batch.until);
                sink.post(super::http::array(&batch.items), &id).await?;
            }
            Self::Otlp(sink, resource) => {
                let answer = sink.post(resource.request(&batch.items)?, "").await?;
                return Ok(Delivered { rejected: otlp::rejected(&answer, "rejectedLogRecords") });
            }
        }
        Ok(Delivered::default())
    }
}

impl Exporter {
    /// What is sent of a record.
    pub(super) const fn form(&self) -> Form {
        match &self.target {
            Target::File { form, .. } | Target::Syslog { form, .. } | Target::Webhook { form, .. } => *form,
            Target::Otlp { .. } => Form::Strongroom,
        }
    }
}

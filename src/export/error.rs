//! Why a delivery failed. All of them are tried again.

use std::{io, time::Duration};

use http::Uri;

use crate::{config::files::ReadError, outbound::ChannelError};

/// A delivery that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The file or socket said no.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the receiver took longer than {} s", .0.as_secs_f64())]
    Late(Duration),
    /// No answer.
    #[error(transparent)]
    Channel(ChannelError),
    /// An answer that is no success.
    #[error("the receiver answered with status {status}")]
    Status {
        /// The status.
        status: u16,
        /// When the receiver wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The secret that bodies are signed with.
    #[error(transparent)]
    KeyFile(#[from] ReadError),
    /// It is none.
    #[error("the file with the signing secret holds no secret of at least 24 bytes, or one that is not base64")]
    Key,
    /// A record that cannot be put into the form that is wanted.
    #[error("a record cannot be put into JSON")]
    Json(#[from] serde_json::Error),
}

impl From<ChannelError> for DeliveryError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(without_path(error))
    }
}

/// The same, of a URL only its host: receivers have secrets in paths and queries, and why a delivery failed is logged, kept
/// and shown.
pub(crate) fn without_path(error: ChannelError) -> ChannelError {
    match error {
        ChannelError::Url(url) => {
            ChannelError::Url(url.parse::<Uri>().map_or_else(|_| "the URL".to_owned(), |url| host(&url)))
        }
        other => other,
    }
}

/// What may be said of a receiver's URL.
pub(crate) fn host(url: &Uri) -> String {
    url.host().unwrap_or("no host").to_owned()
}

impl DeliveryError {
    /// Of file and socket calls.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// When the receiver wants to be asked again.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether less at once may be taken.
    pub(crate) const fn is_too_long(&self) -> bool {
        matches!(self, Self::Status { status: 413, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_url_but_its_host_is_told() {
        for (url, host) in [
            ("https://hooks.example/T0/secret?token=secret", "hooks.example"),
            ("https://user:secret@hooks.example/", "hooks.example"),
            ("/secret", "no host"),
            ("no URL: secret", "the URL"),
        ] {
            let told = DeliveryError::from(ChannelError::Url(url.to_owned())).to_string();
            assert!(told.starts_with(&format!("{host} is neither")) && !told.contains("secret"), "{told}");
        }
    }
}

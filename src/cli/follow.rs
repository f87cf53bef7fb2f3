//! Streams that are followed: opened again when their server has come back.

use std::time::Duration;

use strongroom_client::{Cause, Code, Error};
use tokio::time::sleep;

use super::{
    client::Client,
    failure::{Action, Failure},
    output,
};

/// How long to wait before a stream that was ended is opened again: at first, and at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);

/// How long to wait before a stream is opened again.
pub(super) struct Again(Duration);

impl Default for Again {
    fn default() -> Self {
        Self(AGAIN_AFTER)
    }
}

impl Again {
    /// Opens a stream again that this error broke off, when there is a server to open it. What nobody waits for is said.
    pub(super) async fn open<S, F: Future<Output = Result<S, Error>>>(
        &mut self,
        client: &Client,
        action: &Action,
        broken_by: Error,
        open: impl Fn() -> F,
    ) -> Result<S, Failure> {
        // Whatever broke a connection that was there, whether there can be another shows when it is opened.
        if !may_pass(&broken_by) && !matches!(broken_by, Error::Connection { .. }) {
            return Err(client.explain(&broken_by, action));
        }
        let mut is_said = false;
        loop {
            sleep(self.0).await;
            self.0 = (self.0 * 2).min(AGAIN_AFTER_MAX);
            let error = match open().await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if !may_pass(&error) {
                return Err(client.explain(&error, action));
            }
            if !is_said {
                output::note(&output::printable(&format!("waiting for the server: {error}")));
                is_said = true;
            }
        }
    }
}

/// Whether the same may succeed later, without anybody mending anything here.
fn may_pass(error: &Error) -> bool {
    // The name was known when it began: servers that start anew may be without one for a while.
    let passes = |cause: &Cause| !cause.is_lasting() || *cause == Cause::NoHost;
    match error {
        Error::Unavailable(_) | Error::TimedOut { .. } => true,
        Error::Connection { cause, .. } => passes(cause),
        Error::NoServer(failed) => failed.iter().any(|(_, cause)| passes(cause)),
        // What a server itself says has a reason. This is a connection that broke and left no cause.
        Error::Server(refusal) | Error::OutcomeUnknown(refusal) => {
            refusal.reason.is_empty() && matches!(refusal.code, Code::Unknown | Code::Cancelled)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use strongroom_client::Refusal;
    use tonic::Status;

    use super::*;

    #[test]
    fn a_server_is_waited_for_and_a_refusal_is_not() {
        let refused = |status: Status| Error::from(Refusal::from(&status));
        let broken = |cause| Error::Connection { endpoint: "https://a:1".to_owned(), cause };
        let several = |cause| Error::NoServer(vec![("a".to_owned(), Cause::UnknownIssuer), ("b".to_owned(), cause)]);
        let passing = [
            refused(Status::unavailable("starting")),
            refused(Status::unknown("transport error")),
            refused(Status::cancelled("operation was canceled")),
            Error::TimedOut { endpoint: String::new(), repeat_with: None },
            broken(Cause::Refused),
            broken(Cause::Broken),
            broken(Cause::NoHost),
            several(Cause::Refused),
        ];
        let lasting = [
            refused(Status::permission_denied("no right")),
            refused(Status::unauthenticated("a token that has ended")),
            refused(Status::not_found("no vault")),
            refused(Status::failed_precondition("forgotten")),
            refused(Status::invalid_argument("no token")),
            refused(Status::internal("trouble")),
            broken(Cause::Expired),
            several(Cause::Expired),
        ];
        assert!(passing.iter().all(may_pass), "{:?}", passing.iter().find(|error| !may_pass(error)));
        assert!(!lasting.iter().any(may_pass), "{:?}", lasting.iter().find(|error| may_pass(error)));
    }
}

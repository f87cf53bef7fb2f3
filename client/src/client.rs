//! The calls themselves: deadline, repetition, checksums.

use std::{sync::Arc, time::Duration};

use strongroom_proto::v1::{
    access_client::AccessClient, access_policies_client::AccessPoliciesClient, audit_log_client::AuditLogClient,
    crypto_client::CryptoClient, keys_client::KeysClient, role_assignments_client::RoleAssignmentsClient,
    role_definitions_client::RoleDefinitionsClient, tokens_client::TokensClient, vaults_client::VaultsClient,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{Cause, Error, bearer::TokenFile};

/// The longest answer: that of a batch of 4 MiB, which may be a little longer than its request.
const ANSWER_BYTES_MAX: usize = 5 * 1024 * 1024;
/// The most attempts at one call.
const ATTEMPTS_MAX: u32 = 6;
/// The wait before the first repetition; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// We give up this much later than the server does, so that its own answer is heard.
const GRACE: Duration = Duration::from_millis(250);

/// A connection. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    endpoint: Arc<str>,
    patience: Patience,
    /// Who calls, where it is not the connection's certificate that says it.
    token: Option<TokenFile>,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// Each call by itself.
    Each(Duration),
    /// All calls together.
    Until(Instant),
}

impl Client {
    /// A client on a channel of the caller's own making; each call, with its repetitions, gets this much time.
    #[must_use]
    pub fn on_channel(channel: Channel, timeout: Duration) -> Self {
        Self { channel, endpoint: "the server".into(), patience: Patience::Each(timeout), token: None }
    }

    pub(crate) fn at(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.into(), ..self }
    }

    /// Sends the token in that file with every call. For connections of [`crate::Settings`] only, which are
    /// encrypted or do not leave the machine: a token is worth as much as it is to whoever reads it on the way.
    pub(crate) fn bearing(self, token: Option<TokenFile>) -> Self {
        Self { token, ..self }
    }

    /// The same connection, with one deadline for all calls together.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { patience: Patience::Until(deadline), ..self.clone() }
    }

    /// The same connection; each call gets this much time.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { patience: Patience::Each(timeout), ..self.clone() }
    }

    /// The channel, for stubs of one's own: no deadline, no repetition, no checksums, no bearer token.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn vaults(&self) -> VaultsClient<Channel> {
        VaultsClient::new(self.channel.clone())
    }

    pub(crate) fn keys(&self) -> KeysClient<Channel> {
        KeysClient::new(self.channel.clone())
    }

    pub(crate) fn crypto(&self) -> CryptoClient<Channel> {
        CryptoClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn access(&self) -> AccessClient<Channel> {
        AccessClient::new(self.channel.clone())
    }

    pub(crate) fn audit_log(&self) -> AuditLogClient<Channel> {
        AuditLogClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn role_definitions(&self) -> RoleDefinitionsClient<Channel> {
        RoleDefinitionsClient::new(self.channel.clone())
    }

    pub(crate) fn access_policies(&self) -> AccessPoliciesClient<Channel> {
        AccessPoliciesClient::new(self.channel.clone())
    }

    pub(crate) fn roles(&self) -> RoleAssignmentsClient<Channel> {
        RoleAssignmentsClient::new(self.channel.clone())
    }

    pub(crate) fn tokens(&self) -> TokensClient<Channel> {
        TokensClient::new(self.channel.clone())
    }

    /// When what begins now ends.
    pub(crate) fn deadline(&self) -> Instant {
        match self.patience {
            Patience::Each(timeout) => Instant::now() + timeout,
            Patience::Until(deadline) => deadline,
        }
    }

    /// Whether there is one deadline for all calls together.
    pub(crate) const fn has_one_deadline(&self) -> bool {
        matches!(self.patience, Patience::Until(_))
    }

    /// What ends by this deadline, with a little more time for the server's own answer.
    pub(crate) async fn in_time<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout_at(deadline + GRACE, work).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// The error when the deadline has passed.
    pub(crate) fn late(&self) -> Error {
        Error::TimedOut { endpoint: self.endpoint.to_string(), repeat_with: None }
    }

    /// The error when the connection ended under what was under way.
    pub(crate) fn broken(&self, cause: Cause) -> Error {
        Error::Connection { endpoint: self.endpoint.to_string(), cause }
    }

    /// The error of one operation among others.
    pub(crate) fn refused(&self, status: &Status) -> Error {
        Error::of(status, &self.endpoint)
    }

    /// Makes a call: sends what `request` makes until there is an answer, an error that repetition does not
    /// mend, or the deadline.
    pub(crate) async fn call<Q, A, F>(
        &self,
        request: impl Fn() -> Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = self.deadline();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = Request::new(request());
            if let Some(token) = &self.token {
                token.authorize(request.metadata_mut())?;
            }
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let Ok(answer) = timeout_at(deadline + GRACE, send(request)).await else {
                return Err(self.late());
            };
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let next = wait_before_next(&status, attempt).map(|wait| Instant::now() + wait);
            match next.filter(|next| *next < deadline) {
                Some(next) => sleep_until(next).await,
                // tonic's own timer says `CANCELLED` when the deadline has passed.
                None if status.code() == Code::Cancelled && Instant::now() >= deadline => return Err(self.late()),
                None => return Err(Error::of(&status, &self.endpoint)),
            }
        }
    }

    /// The same of a change, whose error carries the id to repeat it with.
    pub(crate) async fn change<Q: Clone, A, F>(
        &self,
        request: Q,
        request_id: &str,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.call(|| request.clone(), send).await.map_err(|error| error.of_change(request_id))
    }
}

/// The request id of a change: the caller's, or a new one.
pub(crate) fn request_id(given: &str) -> String {
    if given.is_empty() { uuid::Uuid::new_v4().to_string() } else { given.to_owned() }
}

/// Checks an answer's bytes against the checksum that came with them.
pub(crate) fn intact(field: &'static str, bytes: &[u8], crc32c: u32) -> Result<(), Error> {
    if crc32c::crc32c(bytes) == crc32c { Ok(()) } else { Err(Error::Damaged { field }) }
}

/// How long to wait before a repetition; `None` when it would not help.
fn wait_before_next(status: &Status, attempt: u32) -> Option<Duration> {
    if attempt >= ATTEMPTS_MAX || Cause::of(status).is_some_and(|cause| cause.is_lasting()) {
        return None;
    }
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let backoff = spread(BACKOFF_FIRST * 2_u32.pow(attempt - 1));
    match (passing_code(status), asked) {
        (Code::Unavailable | Code::ResourceExhausted, Some(asked)) => Some(asked.max(backoff)),
        (Code::Unavailable, None) => Some(backoff),
        _ => None,
    }
}

/// Between this wait and twice as long, so that clients that failed together do not come back together.
fn spread(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes nothing is spread, and nothing else is wrong.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    wait + wait * u32::from(byte[0]) / 255
}

/// A connection that broke is `UNKNOWN` to tonic; to us the server was unavailable.
fn passing_code(status: &Status) -> Code {
    let broke = std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>());
    if broke { Code::Unavailable } else { status.code() }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn waits(status: &Status, attempt: u32, first_ms: u64) {
        let wait = wait_before_next(status, attempt).expect("repeated");
        let first = Duration::from_millis(first_ms);
        assert!(wait >= first && wait <= 2 * first, "{wait:?}");
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        waits(&Status::unavailable(""), 1, 100);
        waits(&Status::unavailable(""), 3, 400);
        assert_eq!(wait_before_next(&Status::unavailable(""), ATTEMPTS_MAX), None);
        assert_eq!(wait_before_next(&Status::resource_exhausted(""), 1), None, "a quota without a time to come back");
        for code in [Code::Internal, Code::InvalidArgument, Code::DeadlineExceeded, Code::PermissionDenied] {
            assert_eq!(wait_before_next(&Status::new(code, ""), 1), None);
        }
    }

    #[test]
    fn the_server_says_how_long_to_wait() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        assert_eq!(wait_before_next(&status, 1), Some(Duration::from_secs(2)));
    }

    #[test]
    fn damage_is_found() {
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert!(intact("signature", &[0; 32], 0x8a91_36aa).is_ok());
        let text = intact("signature", &[0; 31], 0x8a91_36aa).expect_err("damage").to_string();
        assert!(text.starts_with("signature was damaged on the way"), "{text}");
    }
}

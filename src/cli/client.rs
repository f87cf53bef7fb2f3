//! Calls to the server: deadline, repetition, checksums. Prints nothing and knows no command.
//!
//! Every call here may be repeated: a change carries a request id by which the server knows it again, an
//! operation with a key changes nothing (a repeated AES-GCM encryption uses one more of its 2^32).
//!
//! What is secret is wiped in our own buffers. The copies that gRPC and TLS make on the way cannot be.

use std::time::Duration;

use strongroom_proto::v1::{
    crypto_client::CryptoClient, keys_client::KeysClient, role_assignments_client::RoleAssignmentsClient,
    vaults_client::VaultsClient,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::{
    failure::{self, Action, Caller, Failure},
    tls_cause,
};

/// The most attempts at one call.
const ATTEMPTS_MAX: u32 = 6;
/// The wait before the first repetition; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// We give up this much later than the server does, so that its own answer is heard.
const GRACE: Duration = Duration::from_millis(250);

/// A connection with its deadline.
pub(super) struct Client {
    channel: Channel,
    deadline: Instant,
    caller: Caller,
}

impl Client {
    /// A client of a connected channel.
    pub(super) const fn new(channel: Channel, deadline: Instant, caller: Caller) -> Self {
        Self { channel, deadline, caller }
    }

    /// Vaults.
    pub(super) fn vaults(&self) -> VaultsClient<Channel> {
        VaultsClient::new(self.channel.clone())
    }

    /// Keys.
    pub(super) fn keys(&self) -> KeysClient<Channel> {
        KeysClient::new(self.channel.clone())
    }

    /// Operations with keys.
    pub(super) fn crypto(&self) -> CryptoClient<Channel> {
        CryptoClient::new(self.channel.clone())
    }

    /// Role assignments.
    pub(super) fn roles(&self) -> RoleAssignmentsClient<Channel> {
        RoleAssignmentsClient::new(self.channel.clone())
    }

    /// Makes a call: sends what `request` makes until there is an answer, an error that repetition does not
    /// mend, or the deadline.
    pub(super) async fn call<Q, A, F>(
        &self,
        action: &Action,
        request: impl Fn() -> Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = Request::new(request());
            request.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
            let Ok(answer) = timeout_at(self.deadline + GRACE, send(request)).await else {
                return Err(failure::timed_out(action, &self.caller));
            };
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            match self.next_attempt(&status, attempt) {
                Some(at) => sleep_until(at).await,
                None if self.is_over(&status) => return Err(failure::timed_out(action, &self.caller)),
                None => return Err(failure::from_status(&status, action, &self.caller)),
            }
        }
    }

    /// tonic's own timer says `CANCELLED` when the deadline has passed.
    fn is_over(&self, status: &Status) -> bool {
        status.code() == Code::Cancelled && Instant::now() >= self.deadline
    }

    fn next_attempt(&self, status: &Status, attempt: u32) -> Option<Instant> {
        let wait = wait_before_next(status, attempt)?;
        let at = Instant::now() + wait;
        (at < self.deadline).then_some(at)
    }
}

/// How long to wait before a repetition; `None` when it would not help.
fn wait_before_next(status: &Status, attempt: u32) -> Option<Duration> {
    if attempt >= ATTEMPTS_MAX || tls_cause::is_lasting(status) {
        return None;
    }
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let backoff = BACKOFF_FIRST * 2_u32.pow(attempt - 1);
    match (passing_code(status), asked) {
        (Code::Unavailable | Code::ResourceExhausted, Some(asked)) => Some(asked.max(backoff)),
        (Code::Unavailable, None) => Some(backoff),
        _ => None,
    }
}

/// A connection that broke is `UNKNOWN` to tonic; to us the server was unavailable.
fn passing_code(status: &Status) -> Code {
    let broke = std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>());
    if broke { Code::Unavailable } else { status.code() }
}

/// Checks an answer's bytes against the checksum that came with them.
///
/// # Errors
/// When they differ: the bytes were damaged on the way and must not be used.
pub(super) fn check_crc(action: &Action, field: &str, bytes: &[u8], crc32c: u32) -> Result<(), Failure> {
    if crc32c::crc32c(bytes) == crc32c {
        return Ok(());
    }
    Err(Failure::new(format!("cannot {}: {field} was damaged on the way (its CRC32C does not match)", action.what))
        .hint("repeat the command; if it happens again, look for a faulty proxy or memory between here and the server"))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_what_may_pass_is_repeated() {
        assert_eq!(wait_before_next(&Status::unavailable(""), 1), Some(Duration::from_millis(100)));
        assert_eq!(wait_before_next(&Status::unavailable(""), 3), Some(Duration::from_millis(400)));
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
        let action =
            Action { what: "sign".into(), noun: failure::Noun::Key, scope: "vaults/dev".into(), request_id: None };
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert!(check_crc(&action, "signature", &[0; 32], 0x8a91_36aa).is_ok());
        let text = check_crc(&action, "signature", &[0; 31], 0x8a91_36aa).expect_err("damage").to_string();
        assert!(text.starts_with("cannot sign: signature was damaged"), "{text}");
    }
}

//! The calls themselves: deadline, repetition, checksums.

use std::{sync::Arc, time::Duration};

use strongroom_proto::v1::{
    access_client::AccessClient, access_policies_client::AccessPoliciesClient, audit_log_client::AuditLogClient,
    backups_client::BackupsClient, crypto_client::CryptoClient, events_client::EventsClient, keys_client::KeysClient,
    own_keys_client::OwnKeysClient, replicas_client::ReplicasClient, role_assignments_client::RoleAssignmentsClient,
    role_definitions_client::RoleDefinitionsClient, rotations_client::RotationsClient, secrets_client::SecretsClient,
    tokens_client::TokensClient, vaults_client::VaultsClient,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap, transport::Channel};

use crate::{
    Cause, Error,
    attempts::{Attempts, Next, is_late},
    bearer::TokenFile,
    endpoints::{
        Endpoints,
        wire::{Way, Wire},
    },
};

/// The longest answer: that of a batch of 4 MiB, which may be a little longer than its request.
const ANSWER_BYTES_MAX: usize = 5 * 1024 * 1024;
/// We give up this much later than the server does, so that its own answer is heard.
const GRACE: Duration = Duration::from_millis(250);

/// In the metadata of an answer to a change: from when on it is in force on every replica (RFC 3339).
const IN_FORCE_FROM: &str = "strongroom-in-force-from";

/// A connection, to one server or to several that do the same. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    endpoints: Arc<Endpoints>,
    patience: Patience,
    in_force_later: Option<InForceLater>,
    /// Who calls, where it is not the connection's certificate that says it.
    token: Option<TokenFile>,
}

/// Who is told that a change is not in force everywhere yet.
#[derive(Clone)]
struct InForceLater(Arc<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for InForceLater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InForceLater")
    }
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
        Self::on(Endpoints::one(channel, "the server"), timeout)
    }

    pub(crate) const fn on(endpoints: Arc<Endpoints>, timeout: Duration) -> Self {
        Self { endpoints, patience: Patience::Each(timeout), in_force_later: None, token: None }
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

    /// The same connection. A change that may take a right away (a key disabled, a role taken back) is answered when every
    /// replica has heard of it; where the deadline comes before that, it is made all the same, and `tell` gets the time
    /// from which on it is in force on every replica (RFC 3339). Until then one that is cut off may serve what was before.
    #[must_use]
    pub fn when_in_force_later(&self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { in_force_later: Some(InForceLater(Arc::new(tell))), ..self.clone() }
    }

    /// A channel to one of the servers, for stubs of one's own: no other server, no deadline, no repetition, no
    /// checksums, no bearer token.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.endpoints.any_channel()
    }

    fn wire(&self) -> Wire {
        Wire(Arc::clone(&self.endpoints))
    }

    pub(crate) fn vaults(&self) -> VaultsClient<Wire> {
        VaultsClient::new(self.wire())
    }

    pub(crate) fn keys(&self) -> KeysClient<Wire> {
        KeysClient::new(self.wire())
    }

    pub(crate) fn secrets(&self) -> SecretsClient<Wire> {
        SecretsClient::new(self.wire())
    }

    pub(crate) fn crypto(&self) -> CryptoClient<Wire> {
        CryptoClient::new(self.wire()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn access(&self) -> AccessClient<Wire> {
        AccessClient::new(self.wire())
    }

    pub(crate) fn audit_log(&self) -> AuditLogClient<Wire> {
        AuditLogClient::new(self.wire()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn role_definitions(&self) -> RoleDefinitionsClient<Wire> {
        RoleDefinitionsClient::new(self.wire())
    }

    pub(crate) fn access_policies(&self) -> AccessPoliciesClient<Wire> {
        AccessPoliciesClient::new(self.wire())
    }

    pub(crate) fn events(&self) -> EventsClient<Wire> {
        EventsClient::new(self.wire())
    }

    pub(crate) fn rotations(&self) -> RotationsClient<Wire> {
        RotationsClient::new(self.wire())
    }

    pub(crate) fn own_keys(&self) -> OwnKeysClient<Wire> {
        OwnKeysClient::new(self.wire())
    }

    pub(crate) fn backups(&self) -> BackupsClient<Wire> {
        BackupsClient::new(self.wire())
    }

    pub(crate) fn replicas(&self) -> ReplicasClient<Wire> {
        ReplicasClient::new(self.wire())
    }

    pub(crate) fn roles(&self) -> RoleAssignmentsClient<Wire> {
        RoleAssignmentsClient::new(self.wire())
    }

    pub(crate) fn tokens(&self) -> TokensClient<Wire> {
        TokensClient::new(self.wire())
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
        Error::TimedOut { endpoint: self.endpoints.names(), repeat_with: None }
    }

    /// The error when the connection to that server ended under what was under way.
    pub(crate) fn broken(&self, at: usize, cause: Cause) -> Error {
        Error::Connection { endpoint: self.endpoints.name(at).to_owned(), cause }
    }

    /// The connection to that server ended: the next calls go elsewhere, if there is another.
    pub(crate) fn lost(&self, at: usize, cause: Cause) {
        self.endpoints.lost(at, cause);
    }

    /// The error of one operation among others.
    pub(crate) fn refused(&self, status: &Status) -> Error {
        Error::of(status, &self.endpoints.names())
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
        self.call_somewhere(request, send).await.map(|(answer, _)| answer)
    }

    /// The same; says which server has answered.
    pub(crate) async fn call_somewhere<Q, A, F>(
        &self,
        request: impl Fn() -> Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<(A, usize), Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = self.deadline();
        let mut attempts = Attempts::default();
        loop {
            let target = self.endpoints.pick(&attempts.tried);
            let way = Way::to(target.at);
            let mut request = Request::new(request());
            if let Some(token) = &self.token {
                token.authorize(request.metadata_mut())?;
            }
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            request.extensions_mut().insert(way.clone());
            let Ok(answer) = timeout_at(deadline + GRACE, send(request)).await else {
                return Err(self.late());
            };
            let status = match answer {
                Ok(answer) => {
                    self.endpoints.answered(way.at);
                    self.tell_when_in_force(answer.metadata());
                    return Ok((answer.into_inner(), way.at));
                }
                Err(status) => status,
            };
            drop(target);
            // The server, which knows the deadline too, may have ended it in this moment.
            if is_late(&status) || (status.code() == Code::Cancelled && Instant::now() >= deadline) {
                return Err(self.late());
            }
            match attempts.failed(&self.endpoints, &way, &status) {
                Next::Now if Instant::now() < deadline => {}
                Next::At(then) if then < deadline => sleep_until(then).await,
                Next::End(error) => return Err(error),
                Next::Now | Next::At(_) => return Err(self.endpoints.refused(&way, &status)),
            }
        }
    }

    fn tell_when_in_force(&self, metadata: &MetadataMap) {
        let from = metadata.get(IN_FORCE_FROM).and_then(|from| from.to_str().ok());
        if let (Some(InForceLater(tell)), Some(from)) = (&self.in_force_later, from) {
            tell(from);
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

/// Between this wait and twice as long, so that clients that failed together do not come back together.
pub(crate) fn spread(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes nothing is spread, and nothing else is wrong.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    wait + wait * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found() {
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert!(intact("signature", &[0; 32], 0x8a91_36aa).is_ok());
        let text = intact("signature", &[0; 31], 0x8a91_36aa).expect_err("damage").to_string();
        assert!(text.starts_with("signature was damaged on the way"), "{text}");
    }
}

//! One call on its way: what is asked, for how long, how often it was tried, and who waits for it.
//!
//! A call owns its inputs until it is answered, because a lost worker means that it is sent again. What
//! is secret in it is wiped when it is dropped ([`SecretBytes`](crate::SecretBytes)); the packet it was
//! copied into is wiped by the lane after the send.

use std::sync::Arc;

use serde::Serialize;
use serde_bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    error::Error,
    pool::{
        Admission, Tenant,
        queue::Line,
        timing::{Served, Told},
    },
    protocol::{Moment, Operation, Request, Response, append_frame},
    statement::{KeyRow, Residency, Seal},
};

/// The most times one call is begun by a worker: once, and once more if that worker was lost.
const ATTEMPTS_MAX: u8 = 2;

/// Frame length, id, deadline, tags and the lengths of the fields, each at its longest.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// What is asked of a worker.
pub(super) enum Work {
    /// An operation with a key.
    Operate {
        /// The key; its canonical form is sent when the worker does not have it.
        row: Arc<KeyRow>,
        /// What to do.
        operation: Operation,
    },
    /// Anything that needs no key row.
    Plain(Request),
}

/// What a call costs the module beside its time.
pub(super) const GENERATE_LOADS: u64 = 2;

impl Work {
    /// The key that it uses.
    pub(super) fn row(&self) -> Option<&Arc<KeyRow>> {
        match self {
            Self::Operate { row, .. } => Some(row),
            Self::Plain(_) => None,
        }
    }

    /// The seal that names the key that it uses.
    pub(super) fn seal(&self) -> Option<&Seal> {
        self.row().map(|row| &row.seal)
    }

    /// What it counts for in its tenant's turn.
    fn cost_us(&self) -> u32 {
        match self {
            Self::Operate { row, operation } => operation.cost_us(row.statement.spec),
            Self::Plain(request) => request.cost_us(),
        }
    }

    /// Whether doing it twice does no harm. A second GCM encryption burns one of the key's budget; a
    /// second wrapped key persists nowhere. A second token key would: it has the first one's CKA_ID.
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            Self::Operate { .. } => true,
            Self::Plain(request) => match request {
                Request::Canary
                | Request::Load { .. }
                | Request::Prove { .. }
                | Request::Seal { .. }
                | Request::CheckSeals { .. }
                | Request::SignLog { .. }
                | Request::Random { .. }
                | Request::DestroyToken { .. } => true,
                Request::Generate(wanted) | Request::Import { wanted, .. } | Request::ImportWrapped { wanted, .. } => {
                    wanted.residency != Residency::Token
                }
                Request::Renew { .. } | Request::MakeKek { .. } => false,
                Request::Hello(_) | Request::Operate { .. } | Request::Provision(_) => false,
            },
        }
    }

    /// Whether it is the lane's own question after the canary.
    pub(super) fn is_canary(&self) -> bool {
        matches!(self, Self::Plain(Request::Canary))
    }

    /// How many loads it counts as against the worker's budget, apart from its row: generating or importing
    /// makes two session objects, the key and its proof; proving makes one.
    pub(super) fn extra_loads(&self) -> u64 {
        match self {
            Self::Plain(Request::Generate(_) | Request::Import { .. } | Request::ImportWrapped { .. }) => {
                GENERATE_LOADS
            }
            Self::Plain(Request::Prove { .. }) => 1,
            _ => 0,
        }
    }

    /// An upper bound of its frame's length, in bytes, without the row.
    pub(super) fn frame_bytes_max(&self) -> usize {
        FRAME_OVERHEAD_BYTES + self.payload_bytes()
    }

    fn payload_bytes(&self) -> usize {
        match self {
            Self::Operate { operation, .. } => match operation {
                Operation::Sign { input, .. } => input.len(),
                Operation::Verify { input, signature, .. } => input.len() + signature.len(),
                Operation::Encrypt { plaintext, iv, additional_data, .. } => {
                    plaintext.len() + iv.len() + additional_data.len()
                }
                Operation::Decrypt { ciphertext, iv, tag, additional_data, .. } => {
                    ciphertext.len() + iv.len() + tag.len() + additional_data.len()
                }
                Operation::DataKey { additional_data, .. } => additional_data.len(),
            },
            // Five bytes are the longest length in postcard.
            Self::Plain(Request::Seal { forms }) => forms.iter().map(|form| form.len() + 5).sum(),
            Self::Plain(Request::CheckSeals { pairs }) => {
                pairs.iter().map(|(form, seal)| form.len() + seal.len() + 10).sum()
            }
            Self::Plain(Request::SignLog { public, text }) => public.len() + text.len(),
            Self::Plain(Request::Prove { seal, row }) => seal.len() + row.len() + 10,
            Self::Plain(Request::Import { material, .. }) => material.bytes(),
            Self::Plain(Request::ImportWrapped { seal, row, blob, .. }) => seal.len() + row.len() + blob.len() + 15,
            Self::Plain(_) => 0,
        }
    }

    /// Whether its frame holds something to be wiped: a plaintext, or a message that is signed as it is.
    fn is_secret(&self) -> bool {
        match self {
            Self::Operate { operation, .. } => match operation {
                Operation::Encrypt { .. } => true,
                Operation::Sign { algorithm, .. } | Operation::Verify { algorithm, .. } => {
                    algorithm.signature_digest().is_none()
                }
                Operation::Decrypt { .. } | Operation::DataKey { .. } => false,
            },
            Self::Plain(Request::Import { material, .. }) => material.is_secret(),
            Self::Plain(_) => false,
        }
    }
}

/// The same bytes as [`Request`], from borrowed parts: a call is encoded each time it is sent, and stays.
#[derive(Serialize)]
enum RequestRef<'a> {
    #[expect(dead_code, reason = "holds the place of Request::Hello: postcard counts variants")]
    Hello,
    #[expect(dead_code, reason = "holds the place of Request::Canary")]
    Canary,
    Operate {
        seal: &'a Bytes,
        row: Option<&'a Bytes>,
        operation: &'a Operation,
    },
}

#[derive(Serialize)]
struct CallRef<'a, R> {
    id: u32,
    deadline: Moment,
    request: &'a R,
}

/// A call that waits or is under way.
pub(super) struct Waiting {
    pub(super) work: Work,
    /// Asked again when the call leaves the queue.
    pub(super) admission: Option<Arc<dyn Admission>>,
    /// Where in the queue it stands.
    pub(super) line: Line,
    /// Behind whose calls.
    pub(super) tenant: Tenant,
    /// For how much of a turn.
    pub(super) cost_us: u32,
    pub(super) deadline: Moment,
    pub(super) queued_at: Moment,
    /// How often a worker may have begun it.
    pub(super) attempts: u8,
    /// A worker was lost while it may have been the one that ran: it travels alone, so that if it is what
    /// kills workers, it takes nobody with it.
    pub(super) suspect: bool,
    /// The worker said that it lacks the key: the row goes along whatever the lane believes.
    pub(super) row_wanted: bool,
    /// How a worker answered it, once one has.
    pub(super) served: Option<Served>,
    reply: Option<oneshot::Sender<Told>>,
}

impl Waiting {
    /// A call and where its result will come.
    pub(super) fn new(
        work: Work,
        admission: Option<Arc<dyn Admission>>,
        deadline: Moment,
    ) -> (Self, oneshot::Receiver<Told>) {
        let (reply, result) = oneshot::channel();
        (Self::with_reply(work, admission, deadline, Some(reply)), result)
    }

    /// The lane's own question: nobody waits for it.
    pub(super) fn canary(deadline: Moment) -> Self {
        Self::with_reply(Work::Plain(Request::Canary), None, deadline, None)
    }

    fn with_reply(
        work: Work,
        admission: Option<Arc<dyn Admission>>,
        deadline: Moment,
        reply: Option<oneshot::Sender<Told>>,
    ) -> Self {
        let queued_at = Moment::now();
        let (line, cost_us) = (Line::Single, work.cost_us());
        let tenant = admission.as_ref().map_or(Tenant::SERVICE, |admission| admission.tenant());
        Self {
            work,
            admission,
            line,
            tenant,
            cost_us,
            deadline,
            queued_at,
            attempts: 0,
            suspect: false,
            row_wanted: false,
            served: None,
            reply,
        }
    }

    /// What it counts for in the queue, in bytes: with its row, since it may have to travel.
    pub(super) fn bytes(&self) -> usize {
        self.work.frame_bytes_max() + self.work.row().map_or(0, |row| row.canonical.len())
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Why it is not to be sent any more, if so.
    pub(super) fn lapse(&self, now: Moment) -> Option<Error> {
        if now >= self.deadline {
            return Some(Error::Expired);
        }
        match &self.admission {
            Some(admission) if !admission.still_holds() => Some(Error::Withdrawn),
            _ => None,
        }
    }

    /// Notes that the worker that may have begun it was lost. Whether it may be sent again.
    pub(super) fn survives_loss(&mut self) -> bool {
        self.attempts += 1;
        self.suspect = true;
        self.row_wanted = false;
        self.served = None;
        self.work.is_repeatable() && self.attempts < ATTEMPTS_MAX
    }

    /// Appends its frame to a packet. Whether that frame is secret.
    pub(super) fn encode(&self, packet: &mut Vec<u8>, id: u32, with_row: bool) -> bool {
        match &self.work {
            Work::Operate { row, operation } => {
                let seal = Bytes::new(&row.seal);
                let canonical = with_row.then(|| Bytes::new(&row.canonical));
                let request = &RequestRef::Operate { seal, row: canonical, operation };
                append_frame(packet, &CallRef { id, deadline: self.deadline, request });
            }
            Work::Plain(request) => append_frame(packet, &CallRef { id, deadline: self.deadline, request }),
        }
        self.work.is_secret()
    }

    /// Gives the result to whoever waits.
    pub(super) fn finish(self, result: Result<Response, Error>) {
        if let Some(reply) = self.reply {
            // The receiver may have left in this moment; then the result has no owner and is dropped.
            drop(reply.send(Told { result, queued_at: self.queued_at, served: self.served }));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::{
        algorithms::{Algorithm, KeyOps, KeySpec},
        checkpoint,
        material::Material,
        protocol::{Call, NewVersion},
        secret::SecretBytes,
        statement::KeyStatement,
    };

    fn row() -> Arc<KeyRow> {
        let statement = KeyStatement {
            vault: "vault".into(),
            key: "key".into(),
            version: [7; 16],
            spec: KeySpec::Aes256,
            ops: KeyOps::ENCRYPT,
            enabled: true,
            not_before: None,
            expires: None,
            residency: Residency::Wrapped,
            blob: vec![1; 40],
            public: Vec::new(),
            check_value: vec![1, 2, 3],
            created: 1,
            revision: 1,
            rest: Vec::new(),
            kek: None,
        };
        Arc::new(KeyRow::new(statement, [9; 32]))
    }

    fn operation() -> Operation {
        Operation::Encrypt {
            algorithm: Algorithm::A256Gcm,
            purpose: KeyOps::ENCRYPT,
            plaintext: SecretBytes::new(vec![5; 1000]),
            iv: ByteBuf::new(),
            additional_data: ByteBuf::from(vec![6; 300]),
        }
    }

    #[test]
    fn borrowed_and_owned_calls_are_the_same_bytes() {
        for with_row in [false, true] {
            let row = row();
            let seal = ByteBuf::from(row.seal.to_vec());
            let canonical = with_row.then(|| ByteBuf::from(row.canonical.to_vec()));
            let deadline = Moment(u64::MAX);
            let request = Request::Operate { seal, row: canonical, operation: operation() };
            let mut owned = Vec::new();
            append_frame(&mut owned, &Call { id: u32::MAX, deadline, request });

            let (call, _result) = Waiting::new(Work::Operate { row, operation: operation() }, None, deadline);
            let mut borrowed = Vec::new();
            assert!(call.encode(&mut borrowed, u32::MAX, with_row), "a plaintext is secret");
            assert_eq!(owned, borrowed);
            assert!(borrowed.len() <= call.bytes());
        }
    }

    #[test]
    fn the_bound_of_a_frame_holds_for_many_small_forms() {
        let forms = vec![ByteBuf::from(vec![0]); 4000];
        let (call, _result) = Waiting::new(Work::Plain(Request::Seal { forms }), None, Moment(u64::MAX));
        let mut packet = Vec::new();
        call.encode(&mut packet, u32::MAX, false);
        assert!(packet.len() <= call.work.frame_bytes_max());
    }

    #[test]
    fn the_bound_of_a_frame_holds_for_the_longest_checkpoint() {
        let text = "x".repeat(checkpoint::TEXT_BYTES_MAX);
        let (call, _result) =
            Waiting::new(Work::Plain(Request::SignLog { public: ByteBuf::new(), text }), None, Moment(u64::MAX));
        let mut packet = Vec::new();
        assert!(!call.encode(&mut packet, u32::MAX, false), "a checkpoint is for everyone");
        assert!(packet.len() <= call.work.frame_bytes_max());
        assert!(call.work.is_repeatable());
    }

    #[test]
    fn a_key_from_outside_is_wiped_and_within_its_bound() {
        let material = Material::Secret(SecretBytes::new(vec![0x5a; 64]));
        let request = Request::Import { wanted: NewVersion::new(KeySpec::Aes256, Residency::Token, [9; 16]), material };
        let (call, _result) = Waiting::new(Work::Plain(request), None, Moment(u64::MAX));
        let mut packet = Vec::new();
        assert!(call.encode(&mut packet, u32::MAX, false), "a secret is secret");
        assert!(packet.len() <= call.work.frame_bytes_max());
    }

    #[test]
    fn only_what_leaves_nothing_behind_is_repeated() {
        let generate = |residency| Work::Plain(Request::Generate(NewVersion::new(KeySpec::P256, residency, [0; 16])));
        let material = || Material::Secret(SecretBytes::new(vec![0x5a; 32]));
        let import = |residency| {
            let material = material();
            Work::Plain(Request::Import { wanted: NewVersion::new(KeySpec::Aes256, residency, [0; 16]), material })
        };
        assert!(generate(Residency::Wrapped).is_repeatable() && import(Residency::Wrapped).is_repeatable());
        assert!(!generate(Residency::Token).is_repeatable() && !import(Residency::Token).is_repeatable());
        assert!(Work::Plain(Request::DestroyToken { version: [0; 16] }).is_repeatable());
        assert!(!Work::Plain(Request::MakeKek { id: [0; 16] }).is_repeatable());
    }
}

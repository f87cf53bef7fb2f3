//! One record of the log.

use serde::{Deserialize, Serialize};

/// What a record says of the course of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A change is about to be made. Durable before it begins.
    Intent,
    /// What became of an intent.
    Outcome,
    /// An operation without a change, or a refusal: one record says all.
    Operation,
    /// Something the service did by itself (start, stop, settlement of an open intent).
    Event,
}

impl Kind {
    /// As records show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Operation => "operation",
            Self::Event => "event",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not yet known: an intent.
    Pending,
    /// Done.
    Done,
    /// Refused: no right, no such object, wrong input.
    Refused,
    /// Failed: the HSM, the store, a deadline.
    Failed,
}

impl Outcome {
    /// As records show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The newest head of a scope at the time of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadMark {
    /// The scope's id, 32 hexadecimal digits; all zero for the service.
    pub scope: String,
    /// Its revision.
    pub revision: u64,
    /// Its short digest, 64 hexadecimal digits.
    pub digest: String,
}

/// What a batch did: one record stands for all of its operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Operations that have the same said of them.
    pub groups: Vec<BatchGroup>,
    /// Each operation, in the order of the request. What could not be read of a request is not among them.
    pub items: Vec<BatchItem>,
}

/// What operations of a batch have in common: the fields of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchGroup {
    /// The operation, for example `keys.sign`.
    pub operation: String,
    /// The resource's name, with the version that was used.
    pub resource: String,
    /// Where the key lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<String>,
    /// The algorithm's JWA name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Where the operations ran: `hsm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<String>,
    /// How they ended.
    pub outcome: Outcome,
    /// Why they were refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many they are.
    pub count: u64,
}

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchItem {
    /// Its place in the request, from 0.
    pub place: u64,
    /// Its group: an index.
    pub group: u64,
    /// SHA-256, 64 hexadecimal digits, of what it made or was given that is no secret: the signature; or
    /// ciphertext, IV and tag, one behind the other. Absent where there is nothing such: random bytes, and
    /// what was to be signed or encrypted and was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A record. It never holds a secret, an input or an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Seconds since 1970.
    pub time: i64,
    /// What it says.
    pub kind: Kind,
    /// The operation, for example `keys.sign` (`{noun}.{verb}`).
    pub operation: String,
    /// Who; absent for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// From where: the peer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The resource's name, with the version that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Where the key lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<String>,
    /// The algorithm's JWA name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Where the operation ran: `hsm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused or failed: the stable reason that the caller was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The server's id of the request, which its answer and logs carry too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// An outcome's intent: its index in this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// An intent to make a version: its id, by which an unfinished creation is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// For how many equal refusals this record stands, beside itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// What a change is in a few words: which role for whom, which fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The heads that a change made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<HeadMark>,
    /// The operations of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

impl Record {
    /// A record with what every record has.
    #[must_use]
    pub fn new(time: crate::model::Timestamp, kind: Kind, operation: &str, outcome: Outcome) -> Self {
        Self {
            time: time.0,
            kind,
            operation: operation.to_owned(),
            principal: None,
            source: None,
            resource: None,
            residency: None,
            algorithm: None,
            ran: None,
            outcome,
            reason: None,
            request: None,
            intent: None,
            version: None,
            repeated: 0,
            detail: None,
            heads: Vec::new(),
            batch: None,
        }
    }

    /// Whether what the log says as a whole is the same after it: no head, no intent, no end of one.
    pub(super) fn leaves_standing(&self) -> bool {
        self.kind == Kind::Operation && self.intent.is_none() && self.heads.is_empty()
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

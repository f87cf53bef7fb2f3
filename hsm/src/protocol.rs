//! The closed set of messages between the front and a worker, and their frames.
//!
//! A SOCK_SEQPACKET socket pair is the worker's standard input. A packet holds one or more whole frames,
//! at most [`PACKET_BYTES_MAX`] together:
//!
//! ```text
//! length u32 (little-endian) | postcard(Call) or postcard(Answer)
//! ```
//!
//! The first call is [`Request::Hello`], answered when the worker is logged in and its canary has
//! signed. After that answers come in the order of the calls. Postcard reads strictly: an unknown
//! variant or a cut message is an error, and an error ends the worker.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::{
    algorithms::{Algorithm, KeyOps, KeySpec, LengthError},
    checkpoint::NotACheckpoint,
    material::Material,
    profile::{Sandbox, TokenName},
    secret::SecretBytes,
    statement::{KekId, Residency, Seal},
};

/// The longest packet. Far below the socket's send buffer (212,992 bytes by default), so that a pair
/// with two packets under way cannot dead-lock.
pub const PACKET_BYTES_MAX: usize = 96 * 1024;

/// The longest log signature: ECDSA P-256 in DER, two integers of 33 bytes with their heads.
pub const LOG_SIGNATURE_BYTES_MAX: usize = 72;

/// A moment of CLOCK_MONOTONIC in nanoseconds: the same clock in every process of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).expect("monotonic time is not negative");
        let nanoseconds = u64::try_from(now.tv_nsec).expect("monotonic time is not negative");
        Self(seconds * 1_000_000_000 + nanoseconds)
    }

    /// That much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` until this moment; zero when it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A call to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the front; the answer carries it again.
    pub id: u32,
    /// Work that has not begun by then is answered with [`Fault::Expired`].
    pub deadline: Moment,
    /// What to do.
    pub request: Request,
}

/// An answer of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The call's.
    pub id: u32,
    /// How long the work took in the worker, in nanoseconds.
    pub service_ns: u64,
    /// The result.
    pub result: Result<Response, Fault>,
}

/// What a worker can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first call: which module and token, and as what.
    Hello(Box<Hello>),
    /// Signs with the canary, a key on the token.
    Canary,
    /// One operation with one key. When the worker does not have the key and `row` is absent, the
    /// answer is [`Fault::KeyNotLoaded`] and the front asks again with it.
    Operate {
        /// The row's seal: the key's name in the cache.
        seal: ByteBuf,
        /// The row's canonical form.
        row: Option<ByteBuf>,
        /// What to do.
        operation: Operation,
    },
    /// Loads a key without using it: warms a new worker.
    Load {
        /// The row's seal.
        seal: ByteBuf,
        /// The row's canonical form.
        row: ByteBuf,
    },
    /// Proves a key without keeping it: whatever its row permits, and disabled or not, its private half is unwrapped or found
    /// and compared with the row.
    Prove {
        /// The row's seal.
        seal: ByteBuf,
        /// The row's canonical form.
        row: ByteBuf,
    },
    /// Makes a key. A `Wrapped` one is generated as a session object, wrapped under the root or a vault's KEK, unwrapped
    /// and used once, and its original destroyed; a `Token` one becomes a permanent object with this
    /// version as CKA_ID, and the token's files are synced before the answer.
    Generate(NewVersion),
    /// Brings a key in from outside. A secret one becomes an extractable session object, and from there on
    /// what [`Self::Generate`] makes, or a permanent object; what came out of it is compared with what went
    /// in. A public one is tried and leaves nothing.
    Import {
        /// As what.
        wanted: NewVersion,
        /// The key.
        material: Material,
    },
    /// Brings a key in that is wrapped for the KEK of a row whose only operation is `import`: both layers are unwrapped
    /// inside the HSM, and from there on it is as [`Self::Import`].
    ImportWrapped {
        /// As what.
        wanted: NewVersion,
        /// The KEK's seal.
        seal: ByteBuf,
        /// The KEK's row.
        row: ByteBuf,
        /// `CKM_RSA_AES_KEY_WRAP` (PKCS#11 3.1 section 6.1.21).
        blob: ByteBuf,
    },
    /// Carries a version over from the service's other root to its own, and from the other sealing key to its own: only a
    /// worker of [`Role::Renew`] can. The key is proved before it is answered.
    Renew {
        /// The row's seal.
        seal: ByteBuf,
        /// The row's canonical form.
        row: ByteBuf,
    },
    /// Makes a vault's key-encryption key: a permanent object with this CKA_ID, born on the token, never extractable and
    /// without an escrow. The token's files are synced before the answer.
    MakeKek {
        /// CKA_ID.
        id: KekId,
    },
    /// Destroys the token objects of a version or KEK: those of an unfinished creation, or of a purge. Their
    /// absence is not an error.
    DestroyToken {
        /// CKA_ID.
        version: [u8; 16],
    },
    /// Seals canonical forms.
    Seal {
        /// The forms.
        forms: Vec<ByteBuf>,
    },
    /// Checks seals.
    CheckSeals {
        /// Pairs of canonical form and seal.
        pairs: Vec<(ByteBuf, ByteBuf)>,
    },
    /// Signs a checkpoint of the log with the log key, which signs nothing else.
    SignLog {
        /// Which of the log keys that the worker knows, by its SubjectPublicKeyInfo (DER).
        public: ByteBuf,
        /// What [`check`](crate::checkpoint::check) takes.
        text: String,
    },
    /// Random bytes of the module.
    Random {
        /// How many: 1 to 1024.
        length: u32,
    },
    /// What only an unprovisioned session may ask: making the token and its keys.
    Provision(Box<Provision>),
}

/// A version whose key is to be made or brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVersion {
    /// What kind.
    pub spec: KeySpec,
    /// Where it is to live.
    pub residency: Residency,
    /// The version it is for.
    pub version: [u8; 16],
    /// What it is wrapped under, where it is: none for the root.
    pub kek: Option<Kek>,
}

/// A key-encryption key on the token, a vault's or a root that was made in place of another, and what proves it: whoever has the PIN could put another in its place, out
/// of which he could get what is wrapped under it from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kek {
    /// CKA_ID.
    pub id: KekId,
    /// An AES-128 key under it.
    pub blob: [u8; 24],
    /// What that key makes of a constant block.
    pub mark: [u8; 16],
}

impl NewVersion {
    /// One under the root, where it is wrapped.
    #[must_use]
    pub const fn new(spec: KeySpec, residency: Residency, version: [u8; 16]) -> Self {
        Self { spec, residency, version, kek: None }
    }
}

/// How a worker is to begin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The PKCS#11 module to load.
    pub module: PathBuf,
    /// What the module is told at `C_Initialize` (`pReserved`).
    pub module_parameters: Option<String>,
    /// As a serving worker or for provisioning.
    pub role: Role,
    /// Which token: never by slot index.
    pub token: TokenName,
    /// The file that holds the user PIN, read by the worker only.
    pub pin_file: PathBuf,
    /// Where the start lock and the PIN latch live, shared by all workers of one token.
    pub state_dir: PathBuf,
    /// Folders that hold the token's files, synced after a change of a token object.
    pub sync_dirs: Vec<PathBuf>,
    /// How tightly the worker shuts itself in.
    pub sandbox: Sandbox,
    /// The most keys it keeps loaded.
    pub cached_keys_max: u32,
    /// How long it may work on one packet before it sends what is finished, in microseconds.
    pub flush_us: u32,
    /// Scripted faults, for tests: see [`crate::worker::faults`]. Refused unless built with `failpoints`.
    pub faults: String,
}

/// What a worker is for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Role {
    /// Serves operations; these keys of the service are loaded at the start.
    Serve(ServiceKeys),
    /// Makes or examines a token.
    Provision,
    /// Serves, and carries keys over from the other root, which it holds as a session object that opens blobs.
    Renew(Renewing),
}

/// What opens the blobs of the root that is left behind. Its unwrap template lets no key out of it that could be wrapped
/// again; so it comes from its escrow once more, which takes a recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewing {
    /// The service's keys, with the others.
    pub keys: ServiceKeys,
    /// What opens the root that is left behind.
    pub recovery: RecoveryKeyFile,
}

/// A recovery key in a file that only the worker reads, and what it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryKeyFile {
    /// PKCS#8 in PEM, not encrypted, readable by its owner only.
    pub file: PathBuf,
    /// The root under each recovery key, with the SHA-256 of that key's SubjectPublicKeyInfo (DER).
    pub escrow: Vec<([u8; 32], ByteBuf)>,
}

/// The service's own wrapped keys, and what proves those on the token, as kept in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceKeys {
    /// The root, where it was made in place of another: its own label names it. None: the one of `init`.
    pub root: Option<Kek>,
    /// Another root and sealing key that are known beside these, while one takes the place of the other.
    pub other: Option<OtherKeys>,
    /// The sealing key (HMAC-SHA256, 32 bytes) under the root, AES-KWP.
    pub sealing: ByteBuf,
    /// The key of stored secrets (AES-256) under the root, AES-KWP.
    pub data: ByteBuf,
    /// The canary's HMAC-SHA256 of `strongroom canary`: a token that answers otherwise is another token.
    pub canary: ByteBuf,
    /// SubjectPublicKeyInfo (DER) of the log key, Ed25519 or P-256: by it a log signature is judged before it is
    /// answered.
    pub log_public: ByteBuf,
    /// CKA_ID of the log key, where it was made in place of another: its own label names it. None: the one of `init`.
    pub log_id: Option<KekId>,
    /// Another log key that can still sign, while one takes the place of the other.
    pub other_log: Option<Box<OtherLog>>,
}

/// A log key that stands beside the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherLog {
    /// CKA_ID; none: the one of `init`.
    pub id: Option<KekId>,
    /// Its SubjectPublicKeyInfo (DER).
    pub public: ByteBuf,
}

/// A root and a sealing key that stand beside the service's own: blobs under that root open, and seals of that key are
/// right; nothing new is made with either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherKeys {
    /// The root; none: the one of `init`.
    pub root: Option<Kek>,
    /// The sealing key under it, AES-KWP.
    pub sealing: ByteBuf,
}

/// One operation with one key.
#[derive(Debug, Serialize, Deserialize)]
pub enum Operation {
    /// Signs, or makes a MAC.
    Sign {
        /// RS*, PS*, ES*, EdDSA, HS*.
        algorithm: Algorithm,
        /// RS*, PS*, ES*: the digest, as long as the algorithm's hash. EdDSA, HS*: the message, which may be
        /// confidential.
        input: SecretBytes,
    },
    /// Verifies a signature or MAC.
    Verify {
        /// RS*, PS*, ES*, EdDSA, HS*.
        algorithm: Algorithm,
        /// As when signing.
        input: SecretBytes,
        /// As [`Output::Signature`].
        signature: ByteBuf,
    },
    /// Encrypts data (`purpose` is `ENCRYPT`) or wraps a caller's key (`WRAP_KEY`). An AES-GCM IV is
    /// made here, by the module's random numbers.
    Encrypt {
        /// RSA-OAEP*, RSA1_5, A*GCM, A*CBC, A*CBCPAD, A*KW, A*KWP.
        algorithm: Algorithm,
        /// [`KeyOps::ENCRYPT`] or [`KeyOps::WRAP_KEY`]: which permission it uses.
        purpose: KeyOps,
        /// The data or key.
        plaintext: SecretBytes,
        /// A*CBC, A*CBCPAD: 16 bytes of the caller's; else empty.
        iv: ByteBuf,
        /// A*GCM only.
        additional_data: ByteBuf,
    },
    /// Decrypts data (`purpose` is `DECRYPT`) or unwraps a caller's key (`UNWRAP_KEY`).
    Decrypt {
        /// As when encrypting.
        algorithm: Algorithm,
        /// [`KeyOps::DECRYPT`] or [`KeyOps::UNWRAP_KEY`]: which permission it uses.
        purpose: KeyOps,
        /// The ciphertext.
        ciphertext: ByteBuf,
        /// A*GCM: 12 bytes; A*CBC, A*CBCPAD: 16; else empty.
        iv: ByteBuf,
        /// A*GCM: 16 bytes; else empty.
        tag: ByteBuf,
        /// A*GCM only.
        additional_data: ByteBuf,
    },
    /// Makes a data key of the module's random numbers and puts it under the key, as `Encrypt` would.
    DataKey {
        /// One that has a [`data_key_operation`](Algorithm::data_key_operation), which is the purpose.
        algorithm: Algorithm,
        /// One of [`DATA_KEY_BYTES`](crate::algorithms::DATA_KEY_BYTES).
        length_bytes: u32,
        /// A*GCM only.
        additional_data: ByteBuf,
        /// Whether the data key itself is answered too; else it never leaves the worker in the clear.
        form: DataKeyForm,
    },
}

/// In which forms a data key is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataKeyForm {
    /// In the clear, and under the key.
    PlainAndWrapped,
    /// Under the key only.
    WrappedOnly,
}

impl Operation {
    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sign { algorithm, .. }
            | Self::Verify { algorithm, .. }
            | Self::Encrypt { algorithm, .. }
            | Self::Decrypt { algorithm, .. }
            | Self::DataKey { algorithm, .. } => *algorithm,
        }
    }

    /// The permission it uses.
    #[must_use]
    pub fn purpose(&self) -> KeyOps {
        match self {
            Self::Sign { .. } => KeyOps::SIGN,
            Self::Verify { .. } => KeyOps::VERIFY,
            Self::Encrypt { purpose, .. } | Self::Decrypt { purpose, .. } => *purpose,
            Self::DataKey { algorithm, .. } => algorithm.data_key_operation().unwrap_or(KeyOps::NONE),
        }
    }

    /// The length of its largest input, which decides the lane.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        match self {
            Self::Sign { input, .. } | Self::Verify { input, .. } => input.len(),
            Self::Encrypt { plaintext, additional_data, .. } => plaintext.len() + additional_data.len(),
            Self::Decrypt { ciphertext, additional_data, .. } => ciphertext.len() + additional_data.len(),
            Self::DataKey { length_bytes, additional_data, .. } => {
                usize::try_from(*length_bytes).unwrap_or(usize::MAX).saturating_add(additional_data.len())
            }
        }
    }
}

/// The result of an operation.
#[derive(Debug, Serialize, Deserialize)]
pub enum Output {
    /// RSA: as long as the modulus. ECDSA: r‖s. EdDSA: 64 bytes. HS*: as long as the hash.
    Signature(ByteBuf),
    /// Whether a signature is right.
    Verified(bool),
    /// Encrypted data, a wrapped key, or a data key of [`DataKeyForm::WrappedOnly`].
    Ciphertext {
        /// As long as the algorithm makes it; without tag.
        ciphertext: ByteBuf,
        /// A*GCM: 12 bytes; A*CBC, A*CBCPAD: the caller's 16; else empty.
        iv: ByteBuf,
        /// A*GCM: 16 bytes; else empty.
        tag: ByteBuf,
    },
    /// Decrypted data or an unwrapped key.
    Plaintext(SecretBytes),
    /// A data key of [`DataKeyForm::PlainAndWrapped`].
    DataKey {
        /// The data key.
        key: SecretBytes,
        /// It, under the key.
        ciphertext: ByteBuf,
        /// A*GCM: 12 bytes; else empty.
        iv: ByteBuf,
        /// A*GCM: 16 bytes; else empty.
        tag: ByteBuf,
    },
}

/// A new key or one that was brought in, proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// `Wrapped`: the key under the root or the KEK that was asked for, AES-KWP. Else empty.
    pub blob: ByteBuf,
    /// SubjectPublicKeyInfo (DER) of RSA, EC and OKP keys; empty for oct.
    pub public: ByteBuf,
    /// See [`KeyStatement::check_value`](crate::statement::KeyStatement::check_value).
    pub check_value: ByteBuf,
}

/// A version that was carried over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// Its blob: under the root, if it was under the other one; else as it was.
    pub blob: ByteBuf,
    /// Its check value: an imported key's is made anew by the sealing key.
    pub check_value: ByteBuf,
}

/// A root in place of another, with the keys that are under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoot {
    /// The root on the token.
    pub root: Kek,
    /// A new sealing key under it.
    pub sealing: ByteBuf,
    /// A new key of stored secrets under it.
    pub data: ByteBuf,
    /// It under each recovery key, in the order they were given.
    pub escrow: Vec<ByteBuf>,
    /// Whether it carries the unwrap template.
    pub unwrap_template: bool,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Hello`]: ready.
    Ready(Ready),
    /// Done, nothing to say.
    Done,
    /// To [`Request::Operate`].
    Output(Output),
    /// To [`Request::Generate`], [`Request::Import`] and [`Request::ImportWrapped`].
    Generated(Generated),
    /// To [`Request::Renew`].
    Renewed(Renewed),
    /// To [`Provision::MakeRoot`].
    Root(NewRoot),
    /// To [`Provision::MakeLogKey`]: its SubjectPublicKeyInfo (DER).
    LogKey(ByteBuf),
    /// To [`Request::MakeKek`].
    Kek(Kek),
    /// To [`Request::Seal`]: one seal of 32 bytes for each form.
    Seals(Vec<ByteBuf>),
    /// To [`Request::CheckSeals`]: one verdict for each pair.
    Checked(Vec<bool>),
    /// To [`Request::SignLog`]: as a signed note takes it (C2SP signed-note), at most [`LOG_SIGNATURE_BYTES_MAX`].
    /// Ed25519: 64 bytes. ECDSA P-256 with SHA-256: `SEQUENCE { r, s }` in DER.
    LogSignature(ByteBuf),
    /// To [`Request::Random`].
    Random(SecretBytes),
    /// To [`Provision::CreateHierarchy`] and [`Provision::Recover`].
    Hierarchy(Box<Hierarchy>),
    /// To [`Provision::Probe`].
    Capabilities(Capabilities),
    /// To [`Provision::List`].
    Offers(Offers),
}

/// What a worker found when it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The token's serial number.
    pub serial: String,
    /// The module's own name and version.
    pub library: String,
    /// Whether the root carries the unwrap template, so that not even PIN and blob give a key away.
    pub unwrap_template: bool,
}

/// What only provisioning may ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Provision {
    /// Initialises a token under the label of [`Hello::token`] in a free slot, and sets both PINs.
    /// Refused when a token of that label exists.
    InitToken {
        /// The file that holds the security officer's PIN.
        so_pin_file: PathBuf,
    },
    /// Makes root, sealing key, data key, log key and canary on an initialised token without them.
    CreateHierarchy {
        /// SubjectPublicKeyInfo (DER) of RSA keys of at least 3072 bits; the root is wrapped for each.
        recovery: Vec<ByteBuf>,
    },
    /// Makes root (from its escrow), log key and canary on an initialised token without them.
    Recover {
        /// PKCS#8 (DER) of the recovery key.
        private: SecretBytes,
        /// The root under the recovery key: RSA-OAEP (SHA-1).
        escrow: ByteBuf,
        /// The service keys whose unwrapping proves that it is the right root.
        service_keys: ServiceKeys,
        /// The escrow of the other root, where the service keys name one: it is brought back too.
        other: Option<ByteBuf>,
    },
    /// Makes a root in place of the one that is there, and a sealing key and a key of stored secrets under it. Both roots are on
    /// the token then. Refused unless the recovery key opens the escrow of the one that is there.
    MakeRoot {
        /// CKA_ID of the new one.
        id: KekId,
        /// The service's keys: by them the token is known.
        keys: ServiceKeys,
        /// What has to open the root that is there.
        recovery: RecoveryKeyFile,
        /// SubjectPublicKeyInfo (DER) of RSA keys of at least 3072 bits; the new root is wrapped for each.
        escrow_for: Vec<ByteBuf>,
    },
    /// Destroys a root that nothing is under any more. Its absence is not an error.
    DestroyRoot {
        /// The service's keys, among them the root that stays.
        keys: ServiceKeys,
        /// Which: none for the one of `init`.
        root: Option<KekId>,
    },
    /// Makes a log key beside the one that is there. Both are on the token then.
    MakeLogKey {
        /// CKA_ID of the new one.
        id: KekId,
        /// The service's keys: by them the token is known.
        keys: ServiceKeys,
    },
    /// Destroys a log key that signs nothing any more. Its absence is not an error.
    DestroyLogKey {
        /// The service's keys, among them the log key that stays.
        keys: ServiceKeys,
        /// Which: none for the one of `init`.
        id: Option<KekId>,
    },
    /// Gives the token's user another PIN and puts it in the place of [`Hello::pin_file`], or finishes that where it was
    /// begun.
    ChangePin {
        /// The file that holds the new PIN; absent to finish.
        new_pin_file: Option<PathBuf>,
    },
    /// What this module and token can do, by trying.
    Probe,
    /// Which tokens the module shows, and what it lists for each. Nobody logs in.
    List,
}

/// A new hierarchy, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The wrapped service keys, the canary's proof and the log key's public half.
    pub service_keys: ServiceKeys,
    /// The root under each recovery key, in the order they were given.
    pub escrow: Vec<ByteBuf>,
    /// The token's serial number.
    pub serial: String,
    /// Whether the root carries the unwrap template.
    pub unwrap_template: bool,
}

/// The line of [`Capabilities`] that says whether the service's own keys can be made in the module at all.
pub const HIERARCHY: &str = "hierarchy";
/// The line that says whether PIN and blob together open no key.
pub const UNWRAP_TEMPLATE: &str = "unwrap template";
/// The line that says whether keys that were born on the token are told from those that were put there.
pub const BIRTH: &str = "birth";
/// The line that says whether the module keeps a key to the mechanisms of its operations.
pub const ALLOWED_MECHANISMS: &str = "allowed mechanisms";
/// The line that says whether the log can be signed with Ed25519.
pub const LOG_BY_ED25519: &str = "Ed25519";

/// What a module can do: one line for each thing the service uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The module's own name and version.
    pub library: String,
    /// Each thing and what was found.
    pub lines: Vec<Capability>,
}

/// One thing a module can or cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// What: an algorithm with a key kind and residency, or a property of the module.
    pub what: String,
    /// Its place among the keys; none for a property of the module.
    pub cell: Option<Cell>,
    /// Whether it works.
    pub works: bool,
    /// What that means, or the error that was met.
    pub note: String,
}

/// A kind of key in a residency: that it can be made, or used with an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What kind.
    pub spec: KeySpec,
    /// Where it lives.
    pub residency: Residency,
    /// What it is used with; none for the key itself.
    pub algorithm: Option<Algorithm>,
}

/// What a module says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// The module's own name and version.
    pub library: String,
    /// Every token that it shows.
    pub tokens: Vec<Offer>,
}

/// A token that a module shows, and what the module lists for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// CK_TOKEN_INFO.label.
    pub label: String,
    /// CK_TOKEN_INFO.serialNumber.
    pub serial: String,
    /// Whether the token is initialised.
    pub is_initialised: bool,
    /// What the service uses, and whether the module lists a mechanism for it. Nothing was tried.
    pub lines: Vec<Capability>,
}

/// Why a worker did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// The key is not loaded here: ask again with its row.
    #[error("the key is not loaded in this worker")]
    KeyNotLoaded,
    /// The deadline passed before the work began.
    #[error("the deadline passed before the work began")]
    Expired,
    /// The row's seal is not right: somebody changed the row.
    #[error("the row's seal is not right")]
    SealBroken,
    /// The key that came out of the blob is not the one the row describes.
    #[error("the loaded key is not the one its row describes")]
    KeyMismatch,
    /// The blob could not be unwrapped under this root, or under its vault's KEK.
    #[error("the key's blob does not open under what it was wrapped with")]
    BlobBroken,
    /// A key of token residency is not on the token.
    #[error("the key is not on the token")]
    KeyAbsent,
    /// The key-encryption key of a vault is not on the token.
    #[error("the key-encryption key of the vault is not on the token")]
    KekAbsent,
    /// A wrapped key could not be brought in.
    #[error("the wrapped key {0}")]
    Layer(Layer),
    /// The text is none that the log key signs.
    #[error(transparent)]
    Checkpoint(NotACheckpoint),
    /// The log key is not on the token.
    #[error(
        "the token has no log key, so no checkpoint can be signed: it was removed; `strongroom recover` makes one \
         when it brings the service onto a fresh token"
    )]
    LogKeyAbsent,
    /// Under the log key's label is another key, or more than one.
    #[error(
        "the token's log key is not the one that the service knows: another was put on the token; remove it, or bring \
         the service onto a fresh token with `strongroom recover`"
    )]
    LogKeyMismatch,
    /// The row says that the version is disabled.
    #[error("the version is disabled")]
    Disabled,
    /// The row does not permit the operation.
    #[error("the key's operations do not include it")]
    NotPermitted,
    /// The algorithm is not one for this key.
    #[error("the algorithm is not one for this key")]
    WrongAlgorithm,
    /// An input has the wrong length.
    #[error(transparent)]
    Length(LengthError),
    /// The data did not decrypt: a verdict on the data, not on the HSM.
    #[error("the data does not decrypt with this key")]
    DecryptionFailed,
    /// The module lacks what this needs.
    #[error("this HSM cannot do it: {0}")]
    Unsupported(String),
    /// The message was not one that can be asked now.
    #[error("the worker's protocol was not followed")]
    Protocol,
    /// The PIN was refused, now or before: nobody tries again until an operator clears the latch.
    #[error("the HSM refused the PIN; the latch is set, and no further login is tried until it is cleared")]
    PinRefused,
    /// The PIN file, the module or a state file could not be read or written.
    #[error("{0}")]
    Setup(String),
    /// The module failed.
    #[error("{function} returned {code}")]
    Module {
        /// The PKCS#11 function.
        function: String,
        /// Its return value, by name.
        code: String,
        /// What it takes down.
        damage: Damage,
    },
}

/// What is wrong with a wrapped key that is brought in: the first of its layers that is not as it is to be. The texts follow
/// its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Layer {
    /// Its length.
    #[error("{0}")]
    Length(String),
    /// The part under the KEK.
    #[error(
        "begins with no RSA-OAEP block of SHA-1 for this key-encryption key: it was made for another key, with another hash \
         or padding, or altered"
    )]
    Oaep,
    /// The part under the KEK is right but for its hash.
    #[error("begins with an RSA-OAEP block made with SHA-256: CKM_RSA_AES_KEY_WRAP takes SHA-1 for it")]
    OaepHash,
    /// The part under the AES key.
    #[error(
        "is not wrapped by AES-KWP (RFC 5649) under the AES key that it begins with: it was altered, or made otherwise"
    )]
    KeyWrap,
    /// What is inside is no key.
    #[error("holds no key in the encoding that its kind has: PrivateKeyInfo in DER (PKCS#8) of RSA and EC keys")]
    Encoding,
    /// A key of another type is inside.
    #[error("holds a key of type {0}")]
    KeyType(String),
    /// A key of another kind is inside.
    #[error("holds a key of kind {}", .0.name())]
    Kind(KeySpec),
    /// An RSA key of another size is inside.
    #[error("holds an RSA key of {0} bits")]
    Bits(usize),
    /// A key that may not be used.
    #[error("holds a key that {0}")]
    Unsound(String),
}

/// What a failure of the module takes down; recovery escalates in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Damage {
    /// This operation only.
    Operation,
    /// The session: the worker opens another.
    Session,
    /// The login, or the handles made under it: the worker is replaced.
    Login,
    /// The token or module: the worker is replaced, with growing pauses.
    Token,
}

/// A packet that does not follow the protocol.
#[derive(Debug, thiserror::Error)]
#[error("a packet does not follow the worker protocol")]
pub struct BadPacket;

/// Appends one frame to a packet.
///
/// # Panics
/// When the message cannot be encoded, which no message of this module is.
pub fn append_frame<T: Serialize>(packet: &mut Vec<u8>, message: &T) {
    let start = packet.len();
    packet.extend_from_slice(&[0; 4]);
    *packet = postcard::to_extend(message, std::mem::take(packet)).expect("every message can be encoded");
    let length = u32::try_from(packet.len() - start - 4).expect("messages are bounded");
    packet[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads every frame of a packet.
///
/// # Errors
/// When it is cut, or a frame is not exactly one message.
pub fn read_frames<T: DeserializeOwned>(mut packet: &[u8]) -> Result<Vec<T>, BadPacket> {
    let mut frames = Vec::with_capacity(4);
    while !packet.is_empty() {
        let (length, rest) = packet.split_first_chunk::<4>().ok_or(BadPacket)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| BadPacket)?;
        let (frame, rest) = rest.split_at_checked(length).ok_or(BadPacket)?;
        let (message, left) = postcard::take_from_bytes(frame).map_err(|_| BadPacket)?;
        if !left.is_empty() {
            return Err(BadPacket);
        }
        frames.push(message);
        packet = rest;
    }
    Ok(frames)
}

/// The seal in a message.
///
/// # Errors
/// When it is not 32 bytes long.
pub fn seal_of(bytes: &[u8]) -> Result<Seal, BadPacket> {
    bytes.try_into().map_err(|_| BadPacket)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(id: u32) -> Call {
        Call { id, deadline: Moment(7), request: Request::Random { length: id } }
    }

    fn sign_log(text: String) -> Call {
        Call { id: 1, deadline: Moment(7), request: Request::SignLog { public: ByteBuf::from(vec![4; 44]), text } }
    }

    #[test]
    fn frames_of_a_packet_come_back_in_order() {
        let mut packet = Vec::new();
        for id in 0..3 {
            append_frame(&mut packet, &call(id));
        }
        let calls: Vec<Call> = read_frames(&packet).expect("whole");
        assert_eq!(calls.iter().map(|call| call.id).collect::<Vec<_>>(), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn hostile_packets_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_frames::<Call>(&bytes);
            let _ = read_frames::<Answer>(&bytes);
        }

        #[test]
        fn a_text_for_the_log_arrives_as_it_was_sent(text in any::<String>(), signature in any::<Vec<u8>>()) {
            let mut packet = Vec::new();
            append_frame(&mut packet, &sign_log(text.clone()));
            let calls: Vec<Call> = read_frames(&packet).expect("whole");
            let Request::SignLog { text: found, .. } = &calls[0].request else { panic!("another call") };
            prop_assert_eq!(found, &text);
            let result = Ok(Response::LogSignature(signature.clone().into()));
            packet.clear();
            append_frame(&mut packet, &Answer { id: 1, service_ns: 1, result });
            let answers: Vec<Answer> = read_frames(&packet).expect("whole");
            let Ok(Response::LogSignature(found)) = &answers[0].result else { panic!("another answer") };
            prop_assert_eq!(&**found, &signature);
        }

        #[test]
        fn a_text_that_is_not_utf_8_is_refused(bytes in prop::collection::vec(any::<u8>(), 1..100), wrong in 0x80u8..0xc0) {
            // A continuation that nothing begins.
            let bytes = [&[wrong], bytes.as_slice()].concat();
            let mut packet = Vec::new();
            append_frame(&mut packet, &sign_log("x".repeat(bytes.len())));
            let at = packet.len() - bytes.len();
            packet[at..].copy_from_slice(&bytes);
            prop_assert!(read_frames::<Call>(&packet).is_err());
        }

        #[test]
        fn a_cut_packet_is_refused(cut in 1usize..8) {
            let mut packet = Vec::new();
            append_frame(&mut packet, &call(1));
            prop_assert!(read_frames::<Call>(&packet[..packet.len() - cut]).is_err());
        }
    }
}

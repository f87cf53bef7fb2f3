//! What is stored and sealed: one type for each kind of row, with its canonical form (ADR 0002).
//!
//! A row's identity is `(kind, id)`; its revision grows with every change. Columns may move between
//! releases, the canonical form may not: a new field takes a new number and is left out while it has
//! its default.

use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    KeyOps, KeySpec, KeyStatement, Residency,
    protocol::{Kek, ServiceKeys},
    statement::{Canonical, IMPORTED_CHECK_BYTES},
};

use super::{
    log_keys::LogKeys,
    names::{KeyName, VaultName, VersionId},
    network::NetworkRules,
    principal::Principal,
    renewal::{Escrow, Renewal, escrow_form, root_form},
    roles::{AssignmentId, RoleId, stored_role},
    rotation_policy::RotationPolicy,
    scope::Scope,
    staleness::MaxStaleness,
    tags::Tags,
    time::Timestamp,
};

/// Whether a vault or key is in use or softly deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use.
    Active,
    /// Softly deleted, until it is purged.
    Deleted {
        /// Since when.
        since: Timestamp,
        /// When it is destroyed if nobody brings it back.
        purge_at: Timestamp,
    },
}

impl State {
    /// Whether it is in use.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active)
    }
}

/// A row's kind and id: what a seal and a head name it by. `id` is unique in its kind for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    /// Which table.
    pub kind: RowKind,
    /// Which row: 16 bytes.
    pub id: [u8; 16],
}

/// The kinds of sealed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    /// [`VaultRow`].
    Vault,
    /// [`KeyObjectRow`].
    Key,
    /// [`VersionRow`].
    Version,
    /// [`UsageRow`].
    Usage,
    /// [`AssignmentRow`].
    Assignment,
    /// [`InstanceRow`].
    Instance,
    /// [`TokenRow`](super::TokenRow).
    Token,
    /// [`IssuerKeyRow`](super::IssuerKeyRow).
    IssuerKey,
    /// [`super::RoleDefinitionRow`].
    RoleDefinition,
    /// [`super::AccessPolicyRow`].
    AccessPolicy,
    /// [`super::KnownRow`].
    Known,
    /// [`super::SecretRow`].
    Secret,
    /// [`super::SecretVersionRow`].
    SecretVersion,
    /// [`super::ReplicaRow`]: in no head.
    Replica,
    /// [`super::EventRow`]: in no head.
    Event,
    /// [`super::ClockRow`]: in no head.
    Clock,
}

impl RowKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Vault,
        Self::Key,
        Self::Version,
        Self::Usage,
        Self::Assignment,
        Self::Instance,
        Self::Token,
        Self::IssuerKey,
        Self::RoleDefinition,
        Self::AccessPolicy,
        Self::Known,
        Self::Secret,
        Self::SecretVersion,
        Self::Replica,
        Self::Event,
        Self::Clock,
    ];

    /// The kind of that code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// A byte that stands for the kind in a head, for ever.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Vault => 1,
            Self::Key => 2,
            Self::Version => 3,
            Self::Usage => 4,
            Self::Assignment => 5,
            Self::Instance => 6,
            Self::Token => 20,
            Self::IssuerKey => 21,
            Self::RoleDefinition => 7,
            Self::AccessPolicy => 8,
            Self::Known => 9,
            Self::Secret => 10,
            Self::SecretVersion => 11,
            Self::Replica => 30,
            Self::Event => 31,
            Self::Clock => 32,
        }
    }
}

/// What all sealed rows have.
pub trait Row: Clone + Send + Sync + 'static {
    /// Its kind and id.
    fn row_id(&self) -> RowId;
    /// Its revision: 1 when new, one more with every change.
    fn revision(&self) -> u64;
    /// What is sealed.
    fn canonical(&self) -> Vec<u8>;

    /// The entity tag: changes with every change. Hexadecimal.
    fn etag(&self) -> String {
        let id = self.row_id();
        let mut hash = Sha256::new();
        hash.update([id.kind.code()]);
        hash.update(id.id);
        hash.update(self.revision().to_be_bytes());
        base16ct::lower::encode_string(&hash.finalize()[..8])
    }
}

pub(super) fn state_fields(form: Canonical, state: State) -> Canonical {
    let (since, purge_at) = match state {
        State::Active => (None, None),
        State::Deleted { since, purge_at } => (Some(since.0), Some(purge_at.0)),
    };
    form.optional_number(50, since).optional_number(51, purge_at)
}

/// What decides who may do what with the things in a vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VaultAuthorization {
    /// Role assignments.
    #[default]
    Roles,
    /// Its own access policies.
    AccessPolicies,
}

impl VaultAuthorization {
    /// The name, as stored and recorded.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Roles => "roles",
            Self::AccessPolicies => "accessPolicies",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Roles, Self::AccessPolicies].into_iter().find(|authorization| authorization.name() == name)
    }

    /// What is sealed.
    const fn code(self) -> u64 {
        match self {
            Self::Roles => 0,
            Self::AccessPolicies => 1,
        }
    }
}

/// A vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultRow {
    /// Decided by the name (`service::catalog::vault_id`), so that a missing row is found by its name.
    pub id: [u8; 16],
    /// Its name.
    pub name: VaultName,
    /// Its tags.
    pub tags: Tags,
    /// For how many days a deleted object can be recovered: 7 to 90.
    pub retention_days: u16,
    /// Nothing can be purged before its date; never switched off.
    pub purge_protection: bool,
    /// Whether RSA1_5 and A*CBCPAD may decrypt and unwrap with its keys.
    pub padding_decryption_allowed: bool,
    /// From where it may be used.
    pub network: NetworkRules,
    /// What decides who may use what is in it.
    pub authorization: VaultAuthorization,
    /// How old what a replica knows of it may be.
    pub max_staleness: MaxStaleness,
    /// Its own key-encryption key on the token, under which its wrapped keys are; none: under the root. Fixed when it is
    /// made, and destroyed with it; another takes its place when it is rotated.
    pub kek: Option<Kek>,
    /// Those before it that something may still be under, oldest first: destroyed when nothing is, and with the vault.
    pub retired_keks: Vec<RetiredKek>,
    /// When the present one took over; absent while it is the first.
    pub kek_since: Option<Timestamp>,
    /// In use or deleted.
    pub state: State,
    /// All that is in it is being destroyed, and then it: nobody brings it back any more.
    pub purging: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// Grows with every change.
    pub revision: u64,
}

/// A key-encryption key of a vault that wraps nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredKek {
    /// Its CKA_ID.
    pub id: VersionId,
    /// Since when.
    pub retired: Timestamp,
}

/// What proves a KEK, as it is stored: the blob and the mark of [`Kek`], one behind the other.
#[must_use]
pub fn kek_check(kek: Option<&Kek>) -> Vec<u8> {
    kek.map(|kek| [kek.blob.as_slice(), &kek.mark].concat()).unwrap_or_default()
}

impl VaultRow {
    /// The CKA_ID of its own KEK.
    #[must_use]
    pub fn kek_id(&self) -> Option<VersionId> {
        self.kek.map(|kek| VersionId::from_bytes(kek.id))
    }

    /// The CKA_IDs of all that it has on the token, the present one last.
    pub fn kek_ids(&self) -> impl Iterator<Item = VersionId> {
        self.retired_keks.iter().map(|kek| kek.id).chain(self.kek_id())
    }

    /// Azure's name for what can be done with deleted objects (`akv` deletionRecoveryLevel).
    #[must_use]
    pub const fn recovery_level(&self) -> &'static str {
        match (self.retention_days < 90, self.purge_protection) {
            (false, false) => "Recoverable+Purgeable",
            (false, true) => "Recoverable",
            (true, false) => "CustomizedRecoverable+Purgeable",
            (true, true) => "CustomizedRecoverable",
        }
    }
}

impl Row for VaultRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Vault, id: self.id }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        let retired: Vec<u8> = self
            .retired_keks
            .iter()
            .flat_map(|kek| kek.id.bytes().into_iter().chain(kek.retired.0.to_be_bytes()))
            .collect();
        let form = Canonical::new("strongroom.vault.v1")
            .field(1, &self.id)
            .field(2, self.name.as_str().as_bytes())
            .field(3, self.tags.to_json().as_bytes())
            .number(4, u64::from(self.retention_days))
            .number(5, u64::from(self.purge_protection))
            .optional_number(6, Some(self.created.0))
            .optional_number(7, Some(self.updated.0))
            .number(8, self.revision)
            .number(9, self.intent)
            .number(10, u64::from(self.padding_decryption_allowed))
            .number(11, u64::from(!self.network.public_access()))
            .number(12, u64::from(!self.network.local_access()))
            .field(13, &self.network.sealed_ranges())
            .number(14, self.authorization.code())
            .number(15, self.max_staleness.sealed())
            .number(16, u64::from(self.purging))
            .field(17, self.kek.as_ref().map_or(&[], |kek| &kek.id))
            .field(18, &kek_check(self.kek.as_ref()))
            .field(19, &retired)
            .optional_number(20, self.kek_since.map(|since| since.0));
        state_fields(form, self.state).finish()
    }
}

/// A key: a name, its newest version and its state. The material is in its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyObjectRow {
    /// Decided by vault and name (`service::catalog::key_id`), so that a missing row is found by its name.
    pub id: [u8; 16],
    /// The vault it is in.
    pub vault: VaultName,
    /// Its name.
    pub name: KeyName,
    /// The newest version.
    pub current: VersionId,
    /// In use or deleted.
    pub state: State,
    /// What happens to it by itself, if that was said.
    pub rotation: Option<KeyRotation>,
    /// Up to which instant notices about the newest version were given.
    pub noted: Option<Timestamp>,
    /// When somebody is to look whether anything is due for it. Not sealed: who looks reckons anew, and all keys with a
    /// policy are looked at from time to time, whatever is said here.
    pub due: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed (a new version, a policy, a deletion).
    pub updated: Timestamp,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// Grows with every change.
    pub revision: u64,
}

impl Row for KeyObjectRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Key, id: self.id }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        let form = Canonical::new("strongroom.key.v1")
            .field(1, &self.id)
            .field(2, self.vault.as_str().as_bytes())
            .field(3, self.name.as_str().as_bytes())
            .field(4, &self.current.bytes())
            .optional_number(5, Some(self.created.0))
            .optional_number(6, Some(self.updated.0))
            .number(7, self.revision)
            .number(8, self.intent)
            .field(9, self.rotation.as_ref().map(|rotation| rotation.policy.canonical()).unwrap_or_default().as_bytes())
            .optional_number(10, self.rotation.as_ref().map(|rotation| rotation.created.0))
            .optional_number(11, self.rotation.as_ref().map(|rotation| rotation.updated.0))
            .optional_number(12, self.noted.map(|noted| noted.0));
        state_fields(form, self.state).finish()
    }
}

/// What happens to a key by itself, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRotation {
    /// What.
    pub policy: RotationPolicy,
    /// When the key first had a policy.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// One version of a key. Its canonical form is the statement that workers read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The vault it is in.
    pub vault: VaultName,
    /// The key it belongs to, as first spelled.
    pub key: KeyName,
    /// Which version.
    pub version: VersionId,
    /// Its place among the key's versions: 1 for the first.
    pub ordinal: u64,
    /// What kind of key.
    pub spec: KeySpec,
    /// What it may be used for.
    pub ops: KeyOps,
    /// A disabled version does nothing.
    pub enabled: bool,
    /// Earlier it neither encrypts, signs nor wraps.
    pub not_before: Option<Timestamp>,
    /// From then on it neither encrypts, signs nor wraps.
    pub expires: Option<Timestamp>,
    /// Its tags.
    pub tags: Tags,
    /// Where it lives.
    pub residency: Residency,
    /// `Wrapped`: the key under the root or under `kek`. `Token`: empty.
    pub blob: Vec<u8>,
    /// `Wrapped`: what it is under, a root or the vault's own key-encryption key, by its CKA_ID; none: the root of `init`.
    pub kek: Option<VersionId>,
    /// SubjectPublicKeyInfo (DER); empty for oct.
    pub public: Vec<u8>,
    /// What tells one oct key from another, and imported ones from generated ones ([`KeyStatement::check_value`]); empty
    /// for others.
    pub check_value: Vec<u8>,
    /// In use or deleted.
    pub state: State,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Grows with every change.
    pub revision: u64,
}

impl VersionRow {
    /// Whether its key was brought in from outside.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        self.residency == Residency::Public || self.check_value.len() == IMPORTED_CHECK_BYTES
    }

    /// The statement that is sealed and that a worker reads.
    #[must_use]
    pub fn statement(&self) -> KeyStatement {
        let rest = Canonical::new("strongroom.key-version-rest.v1")
            .number(1, self.ordinal)
            .field(2, self.tags.to_json().as_bytes())
            .number(3, self.intent)
            .optional_number(4, Some(self.updated.0));
        let rest = state_fields(rest, self.state).finish();
        KeyStatement {
            vault: self.vault.as_str().to_owned(),
            key: self.key.as_str().to_owned(),
            version: self.version.bytes(),
            spec: self.spec,
            ops: self.ops,
            enabled: self.enabled,
            not_before: self.not_before.map(|time| time.0),
            expires: self.expires.map(|time| time.0),
            residency: self.residency,
            blob: self.blob.clone(),
            public: self.public.clone(),
            check_value: self.check_value.clone(),
            created: self.created.0,
            revision: self.revision,
            rest: Sha256::digest(rest).to_vec(),
            kek: self.kek.map(VersionId::bytes),
        }
    }
}

impl Row for VersionRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Version, id: self.version.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        self.statement().encode()
    }
}

/// How many AES-GCM encryptions of a version have been reserved, and how many uses out of the budget of its key's policy.
/// Counted before they are made, in ranges, so that a crash loses numbers and never repeats them (NIST SP 800-38D section
/// 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Whose.
    pub version: VersionId,
    /// Reserved so far, of AES-GCM encryptions.
    pub encryptions: u64,
    /// Reserved so far, out of the budget.
    pub uses: u64,
    /// Grows with every change.
    pub revision: u64,
}

impl Row for UsageRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Usage, id: self.version.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.key-usage.v1")
            .field(1, &self.version.bytes())
            .number(2, self.encryptions)
            .number(3, self.revision)
            .number(4, self.uses)
            .finish()
    }
}

/// A role that a principal, or a group, has at a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentRow {
    /// Which assignment.
    pub id: AssignmentId,
    /// Who.
    pub principal: Principal,
    /// What.
    pub role: RoleId,
    /// Where.
    pub scope: Scope,
    /// Since when.
    pub created: Timestamp,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// 1, and more where it was sealed anew: assignments are made and taken away, never changed.
    pub revision: u64,
}

impl Row for AssignmentRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Assignment, id: self.id.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.role-assignment.v1")
            .field(1, &self.id.bytes())
            .field(2, self.principal.as_str().as_bytes())
            .field(3, stored_role(self.role).as_bytes())
            .field(4, self.scope.to_string().as_bytes())
            .optional_number(5, Some(self.created.0))
            .number(6, self.revision)
            .number(7, self.intent)
            .finish()
    }
}

/// The service itself: its identity and its own wrapped keys. One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Made by `init`; in every log and backup of this instance.
    pub id: [u8; 16],
    /// When it was made.
    pub created: Timestamp,
    /// Made by `dev`: `serve` refuses it.
    pub development: bool,
    /// The label of its token.
    pub token_label: String,
    /// The serial number of its token.
    pub token_serial: String,
    /// Whether the root carries the unwrap template.
    pub unwrap_template: bool,
    /// The sealing key and data key under the root, the canary's proof and the log key's public half.
    pub service_keys: ServiceKeys,
    /// The root under each recovery key, with the SHA-256 of that key's SubjectPublicKeyInfo.
    pub escrow: Vec<Escrow>,
    /// A root that takes the place of another, while that lasts.
    pub renewal: Option<Renewal>,
    /// The log keys, beside the public half of the one that signs.
    pub log_keys: LogKeys,
    /// Grows with every change.
    pub revision: u64,
}

impl Row for InstanceRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Instance, id: self.id }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.instance.v1")
            .field(1, &self.id)
            .optional_number(2, Some(self.created.0))
            .number(3, u64::from(self.development))
            .field(4, self.token_label.as_bytes())
            .field(5, self.token_serial.as_bytes())
            .number(6, u64::from(self.unwrap_template))
            .field(7, &self.service_keys.sealing)
            .field(8, &self.service_keys.data)
            .field(9, &self.service_keys.canary)
            .field(10, &escrow_form(&self.escrow))
            .field(11, &self.service_keys.log_public)
            .number(12, self.revision)
            .field(13, &root_form(self.service_keys.root.as_ref()))
            .field(14, &self.renewal.as_ref().map(Renewal::canonical).unwrap_or_default())
            .field(15, &self.log_keys.canonical())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::fixtures::vault;

    #[test]
    fn the_recovery_level_says_whether_it_can_be_purged_and_how_long_it_is_kept() {
        for (retention_days, purge_protection, level) in [
            (90, false, "Recoverable+Purgeable"),
            (90, true, "Recoverable"),
            (7, false, "CustomizedRecoverable+Purgeable"),
            (89, false, "CustomizedRecoverable+Purgeable"),
            (89, true, "CustomizedRecoverable"),
        ] {
            let row = VaultRow { retention_days, purge_protection, ..vault(1, "dev") };
            assert_eq!(row.recovery_level(), level);
        }
    }

    #[test]
    fn what_a_vault_has_unless_it_is_said_otherwise_is_not_in_its_seal() {
        let row = VaultRow { kek: None, ..vault(1, "dev") };
        let before_rules = Canonical::new("strongroom.vault.v1")
            .field(1, &[1; 16])
            .field(2, b"dev")
            .field(3, b"{}")
            .number(4, 90)
            .optional_number(6, Some(1_700_000_000))
            .optional_number(7, Some(1_700_000_000))
            .number(8, 1)
            .number(9, 7)
            .finish();
        assert_eq!(row.canonical(), before_rules);
    }

    #[test]
    fn every_rule_of_a_vault_is_sealed() {
        let rules = |public, local, ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
            VaultRow { network: NetworkRules::new(public, local, ranges).expect("right"), ..vault(1, "dev") }
        };
        let retired = |n, at| RetiredKek { id: VersionId::from_bytes([n; 16]), retired: Timestamp(at) };
        let rows = [
            rules(true, true, &[]),
            rules(true, false, &[]),
            rules(false, true, &[]),
            rules(false, false, &[]),
            rules(false, true, &["10.0.0.0/8"]),
            rules(false, true, &["10.0.0.0/9"]),
            rules(false, true, &["11.0.0.0/8"]),
            rules(false, true, &["10.0.0.0/8", "11.0.0.0/8"]),
            rules(false, true, &["a00::/8"]),
            VaultRow { authorization: VaultAuthorization::AccessPolicies, ..vault(1, "dev") },
            VaultRow { kek: None, ..vault(1, "dev") },
            VaultRow { kek: Some(Kek { id: [2; 16], blob: [1; 24], mark: [1; 16] }), ..vault(1, "dev") },
            VaultRow { kek: Some(Kek { id: [1; 16], blob: [2; 24], mark: [1; 16] }), ..vault(1, "dev") },
            VaultRow { kek: Some(Kek { id: [1; 16], blob: [1; 24], mark: [2; 16] }), ..vault(1, "dev") },
            VaultRow { kek_since: Some(Timestamp(1)), ..vault(1, "dev") },
            VaultRow { retired_keks: vec![retired(1, 1)], ..vault(1, "dev") },
            VaultRow { retired_keks: vec![retired(2, 1)], ..vault(1, "dev") },
            VaultRow { retired_keks: vec![retired(1, 2)], ..vault(1, "dev") },
            VaultRow { retired_keks: vec![retired(1, 1), retired(2, 1)], ..vault(1, "dev") },
        ];
        let forms: std::collections::HashSet<Vec<u8>> = rows.iter().map(Row::canonical).collect();
        assert_eq!(forms.len(), rows.len());
    }
}

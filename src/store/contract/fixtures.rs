//! Rows for the contract: plain ones, and ones with the oddest values that are allowed.

use strongroom_hsm::{
    Seal,
    protocol::{Kek, ServiceKeys},
};

use crate::{
    model::{
        AccessPolicyRow, AssignmentId, AssignmentRow, ClockRow, Escrow, EventRow, EventType, Fate, Generation,
        InstanceRow, IssuerKeyRow, KeyName, KeyObjectRow, KeyOps, KeyRotation, KeySpec, KnownRow, LogChange, LogKey,
        LogKeys, MaxStaleness, NetworkRules, ObjectType, Ordinal, Permissions, Renewal, ReplicaName, ReplicaRow,
        RequestId, Residency, RetiredKek, RoleDefinitionRow, RoleId, RolePatterns, RotationPolicy, Row, RowId, RowKind,
        Scope, SecretRow, SecretVersionRow, Stage, State, Tags, Timestamp, TokenId, TokenRow, Uptime, UsageRow,
        VaultAuthorization, VaultName, VaultRow, VersionId, VersionRow,
    },
    store::{
        Beat, Change, HeadChange, HeadRow, HeadScope, Position, RequestRecord, Sealed, Step, Write, head::SetDigest,
    },
};

/// A name that the fixtures are sure of.
pub(crate) fn vault_name(text: &str) -> VaultName {
    text.parse().expect("a vault name")
}

pub(crate) fn key_name(text: &str) -> KeyName {
    text.parse().expect("a key name")
}

pub(crate) fn version_id(n: u8) -> VersionId {
    VersionId::from_bytes([n; 16])
}

/// Seals a row as no HSM would: a digest of its canonical form, so that every revision has its own.
pub(crate) fn sealed<R: Row>(row: R) -> Sealed<R> {
    let seal: Seal = *blake3::hash(&row.canonical()).as_bytes();
    Sealed::new(row, seal)
}

/// A change of these rows alone.
pub(crate) fn change(writes: impl IntoIterator<Item = Write>) -> Change {
    Change {
        name: "test",
        writes: writes.into_iter().collect(),
        heads: Vec::new(),
        request: None,
        lease: None,
        events: Vec::new(),
        is_urgent: false,
    }
}

pub(crate) fn vault(n: u8, name: &str) -> VaultRow {
    VaultRow {
        id: [n; 16],
        name: vault_name(name),
        tags: Tags::default(),
        retention_days: 90,
        purge_protection: false,
        padding_decryption_allowed: n.is_multiple_of(2),
        network: NetworkRules::default(),
        authorization: VaultAuthorization::Roles,
        max_staleness: MaxStaleness::default(),
        kek: (!n.is_multiple_of(2)).then_some(Kek { id: [n; 16], blob: [n; 24], mark: [n; 16] }),
        retired_keks: n
            .is_multiple_of(3)
            .then(|| RetiredKek { id: version_id(n), retired: Timestamp(9) })
            .into_iter()
            .collect(),
        kek_since: n.is_multiple_of(3).then_some(Timestamp(9)),
        state: State::Active,
        purging: false,
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_000),
        intent: 7,
        revision: 1,
    }
}

pub(crate) fn key(n: u8, vault: &str, name: &str) -> KeyObjectRow {
    KeyObjectRow {
        id: [n; 16],
        vault: vault_name(vault),
        name: key_name(name),
        current: version_id(n),
        state: State::Active,
        rotation: None,
        noted: None,
        due: None,
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_000),
        intent: 7,
        revision: 1,
    }
}

/// The key with a rotation policy, to be looked at.
pub(crate) fn with_policy(key: KeyObjectRow) -> KeyObjectRow {
    let policy = RotationPolicy::from_canonical("rotation-policy.v1;Rotate=timeAfterCreate:P90D;expiryTime=P1Y");
    let (created, updated) = (Timestamp(1_700_000_001), Timestamp(1_700_000_002));
    KeyObjectRow {
        rotation: Some(KeyRotation { policy: policy.expect("a policy"), created, updated }),
        noted: Some(Timestamp(1_700_000_003)),
        due: Some(Timestamp(1_700_000_004)),
        ..key
    }
}

pub(crate) fn version(n: u8, vault: &str, key: &str, ordinal: u64) -> VersionRow {
    VersionRow {
        vault: vault_name(vault),
        key: key_name(key),
        version: version_id(n),
        ordinal,
        spec: KeySpec::P256,
        ops: KeyOps::SIGN,
        enabled: true,
        not_before: None,
        expires: None,
        tags: Tags::default(),
        residency: Residency::Wrapped,
        blob: vec![n; 150],
        kek: n.is_multiple_of(3).then(|| version_id(n)),
        public: vec![n; 91],
        check_value: Vec::new(),
        state: State::Active,
        intent: 7,
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_000),
        revision: 1,
    }
}

/// What is known of a version of the first vault that is gone.
pub(crate) fn known(n: u8, revision: u64) -> KnownRow {
    let (id, newest) = ([n; 16], n.is_multiple_of(2).then(|| version_id(n)));
    let at = Timestamp(1_700_000_005);
    KnownRow { id, vault: [1; 16], fate: Fate::Purged, newest, last: 3, encryptions: 4, uses: 5, at, revision }
}

pub(crate) fn secret(n: u8, vault: &str, name: &str) -> SecretRow {
    SecretRow {
        id: [n; 16],
        vault: vault_name(vault),
        name: key_name(name),
        current: version_id(n.wrapping_add(1)),
        data_key: version_id(n),
        blob: vec![n; 40],
        kek: n.is_multiple_of(3).then(|| version_id(n)),
        check_value: vec![n; 3],
        state: State::Active,
        noted: n.is_multiple_of(2).then_some(Timestamp(9)),
        due: Some(Timestamp(1_700_000_004)),
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_000),
        intent: 7,
        revision: 1,
    }
}

pub(crate) fn secret_version(n: u8, vault: &str, secret: &str, ordinal: u64) -> SecretVersionRow {
    SecretVersionRow {
        vault: vault_name(vault),
        secret: key_name(secret),
        version: version_id(n),
        ordinal,
        content_type: "text/plain; \u{1f511}".to_owned(),
        enabled: true,
        not_before: None,
        expires: Some(Timestamp(1_800_000_000)),
        tags: Tags::default(),
        iv: vec![n; 12],
        tag: vec![n; 16],
        ciphertext: vec![n; 300],
        intent: 7,
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_000),
        revision: 1,
    }
}

pub(crate) fn usage(n: u8, encryptions: u64, revision: u64) -> UsageRow {
    UsageRow { version: version_id(n), encryptions, uses: 0, revision }
}

pub(crate) fn event(n: u8, vault: &str) -> EventRow {
    EventRow {
        id: [n; 16],
        kind: EventType::KeyDeleted,
        time: Timestamp(1_700_000_000),
        vault: vault_name(vault),
        object: Some(key_name("Root")),
        version: n.is_multiple_of(2).then(|| version_id(n)),
        principal: "spiffe://example.org/ci".to_owned(),
        due: Some(Timestamp(1_700_000_009)),
        detail: "a\u{0}\u{1f512}".replace('\u{0}', "b"),
    }
}

pub(crate) fn clock(seconds: u64, revision: u64) -> ClockRow {
    let uptime = Uptime { boot: [3; 16], seconds };
    ClockRow { time: Timestamp(1_700_000_000), uptime, revision }
}

pub(crate) fn assignment(n: u8, scope: Scope) -> AssignmentRow {
    AssignmentRow {
        id: AssignmentId::from_bytes([n; 16]),
        principal: "spiffe://example.org/ci".parse().expect("a principal"),
        role: RoleId::from_bytes([n.wrapping_add(1); 16]),
        scope,
        created: Timestamp(1_700_000_000),
        intent: 7,
        revision: 1,
    }
}

pub(crate) fn token(n: u8) -> TokenRow {
    TokenRow {
        id: TokenId::from_bytes([n; 16]),
        name: "ci".parse().expect("a name"),
        creator: "spiffe://example.org/admin".parse().expect("a principal"),
        created: Timestamp(1_700_000_000),
        expires: Timestamp(1_700_003_600),
        intent: 7,
        revision: 1,
    }
}

pub(crate) fn role_definition(n: u8, name: &str) -> RoleDefinitionRow {
    RoleDefinitionRow {
        id: RoleId::from_bytes([n; 16]),
        name: name.to_owned(),
        description: "\u{1f5dd} \"'; DROP TABLE role_definitions; --".to_owned(),
        patterns: RolePatterns {
            actions: vec!["*".parse().expect("a pattern"); 3],
            data_actions: vec!["Microsoft.KeyVault/vaults/*".parse().expect("a pattern")],
            ..RolePatterns::default()
        },
        assignable_scopes: vec![Scope::Service, "vaults/dev/keys/Root-1".parse().expect("a scope")],
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_001),
        intent: 7,
        revision: 1,
    }
}

pub(crate) fn issuer_key(n: u8) -> IssuerKeyRow {
    IssuerKeyRow {
        id: version_id(n),
        created: Timestamp(1_700_000_000),
        public: vec![n; 91],
        blob: vec![n; 150],
        kek: Some(version_id(n)),
        revision: 1,
    }
}

pub(crate) fn access_policy(vault: &str, principal: &str) -> AccessPolicyRow {
    let mut permissions = Permissions::default();
    for (kind, name) in [(ObjectType::Keys, "get"), (ObjectType::Keys, "unwrapKey"), (ObjectType::Secrets, "all")] {
        permissions.add(kind, name).expect("a permission");
    }
    AccessPolicyRow {
        vault: vault_name(vault),
        principal: principal.parse().expect("a principal"),
        permissions,
        created: Timestamp(1_700_000_000),
        updated: Timestamp(1_700_000_001),
        intent: 7,
        revision: 1,
    }
}

pub(crate) fn instance() -> InstanceRow {
    InstanceRow {
        id: [200; 16],
        created: Timestamp(1_700_000_000),
        development: true,
        token_label: "strongroom ☂".to_owned(),
        token_serial: String::new(),
        unwrap_template: false,
        service_keys: ServiceKeys {
            sealing: vec![0; 40].into(),
            data: (0..=255).collect::<Vec<u8>>().into(),
            canary: Vec::new().into(),
            log_public: vec![48; 44].into(),
            root: Some(Kek { id: [1; 16], blob: [2; 24], mark: [3; 16] }),
            other: None,
            log_id: None,
            other_log: None,
        },
        escrow: vec![
            Escrow { recovery_key: [0; 32], blob: Vec::new() },
            Escrow { recovery_key: [255; 32], blob: vec![9; 512] },
        ],
        renewal: Some(Renewal {
            stage: Stage::Renewing,
            other: Generation {
                root: None,
                sealing: vec![5; 40],
                data: vec![6; 40],
                escrow: vec![Escrow { recovery_key: [7; 32], blob: vec![8; 384] }],
                unwrap_template: true,
            },
            begun: Timestamp(1_700_000_002),
        }),
        log_keys: LogKeys {
            id: Some([4; 16]),
            change: Some(LogChange { old: LogKey { id: None, public: vec![5; 44] }, begun: Timestamp(1_700_000_003) }),
            former: vec![LogKey { id: Some([6; 16]), public: vec![7; 91] }],
        },
        revision: 1,
    }
}

pub(crate) fn head(scope: HeadScope, revision: u64, rows: &[(RowId, u64, Seal)]) -> HeadRow {
    let mut digest = SetDigest::default();
    for (id, revision, seal) in rows {
        digest.insert(id, *revision, seal);
    }
    HeadRow { scope, revision, rows: rows.len() as u64, intent: 7, digest }
}

/// A head that nobody is told the way to.
pub(crate) fn bare(head: HeadRow) -> HeadChange {
    HeadChange { head: sealed(head), steps: Vec::new() }
}

/// A step of one row, from a revision to the next.
pub(crate) fn step(n: u8, revision: u64) -> Step {
    let old = (revision > 1).then_some((revision - 1, [n; 32]));
    Step {
        id: RowId { kind: RowKind::Key, id: [n; 16] },
        old,
        new: Some((revision, [n; 32])),
        in_use: true,
        renews: false,
    }
}

pub(crate) fn replica(n: u8, name: &str) -> ReplicaRow {
    ReplicaRow {
        id: [n; 16],
        ordinal: Ordinal::new(n.into()).expect("a number"),
        name: replica_name(name),
        created: Timestamp(1_700_000_000),
        log_size: 5,
        log_root: [n; 32],
        closed: false,
        revision: 1,
    }
}

pub(crate) fn replica_name(text: &str) -> ReplicaName {
    text.parse().expect("a replica's name")
}

pub(crate) fn beat(name: &str, heard: u64) -> Beat {
    Beat {
        replica: replica_name(name),
        heard: Position(heard),
        adopted: heard / 2,
        version: "1.2.3".to_owned(),
        address: "https://[::1]:7070".to_owned(),
        trouble: String::new(),
    }
}

pub(crate) fn request(n: u8, principal: &str, expires: i64) -> RequestRecord {
    RequestRecord {
        principal: principal.to_owned(),
        id: request_id(n),
        digest: [n; 32],
        resource: format!("vaults/v/keys/k{n}"),
        expires: Timestamp(expires),
    }
}

pub(crate) fn request_id(n: u8) -> RequestId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().expect("a UUID")
}

/// The most, longest and strangest tags that are allowed.
pub(crate) fn odd_tags() -> Tags {
    let strange = ["'; DROP TABLE keys; --", "\"\\\u{0}\n\u{7f}", "🗝️ключ鍵", "e\u{301}", "\u{202e}\u{feff}"];
    let strange = strange.into_iter().map(|text| (text.to_owned(), text.to_owned()));
    let long = (0..10).map(|n| (format!("{n}{}", "\u{10ffff}".repeat(255)), "é".repeat(256)));
    Tags::new(strange.chain(long)).expect("allowed tags")
}

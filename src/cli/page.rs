//! `docs/json.md` against the program: every command that takes `-o json` is on that page, and what it shows is
//! there field by field, in order, with an example that is what the program writes.
//!
//! The samples name every field of every message and view, without `..Default`: a field that is added does not
//! compile here until it has a value, and then the page is wrong until it names it.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::Timestamp;
use serde::Serialize;
use serde_json::Value;
use strongroom_proto::v1;

use super::{
    audit::{
        CosignedView, FormerKeyView, HandoverView, HeldView, LogKeyView, LogView, PrunedView, ReceiptView, RecordView,
        SignerView, TornView, UsedView,
    },
    backup,
    bench::audit::{AuditCostView, AuditModeView},
    bench::azure::{AzureCostView, AzureFaceView, AzureWorkView},
    bench::isolation::{IsolationView, PacedView},
    bench::report::{CaseView, LaneFigure, Machine, Report, RowView, SettingsView},
    break_glass::BrokenGlassView,
    check::{Check, Verdict},
    cluster::ClusterView,
    config::{ConfigView, LaneView},
    dev::DevView,
    event::{DeadLetterView, EventView, ReplayedView, WebhookView},
    failure::{Answered, Failure},
    file::{
        FileView,
        identity::{IdentityView, RecipientView},
    },
    init::{InitialisedView, RecoveredView},
    key::{
        backup::{KeyBackupView, MovedKeyView},
        lifecycle::PurgedKeyView,
        random::RandomView,
        rotation_policy::RotationPolicyView,
    },
    manual::tests::commands,
    own_keys::{IssuerRotatedView, OwnKeysView, OwnLogKeyView, RootView},
    pin::{LatchView, PinChangedView},
    review::{DifferenceView, ExplanationView, PermittedView},
    rotation::RotationView,
    secret::{backup::SecretBackupView, lifecycle::PurgedSecretView},
    store::{MigratedView, TableView},
    token::IssuedView,
    vault::PurgedVaultView,
    view::{AssignmentView, KeyView, PolicyView, RoleView, SecretValueView, SecretView, TokenView, UseView, VaultView},
};

const PAGE: &str = include_str!("../../docs/json.md");

/// Commands that print nothing, or what is no object: a script, files, formats of others.
const WITHOUT: [&str; 10] = [
    "serve",
    "azure-cli-config",
    "completions",
    "man",
    "proto",
    "exec",
    "inject",
    "audit export",
    "audit receipt",
    "audit checkpoint",
];

/// The title of an object and what the program writes of it.
struct Sample {
    title: &'static str,
    json: String,
}

fn sample(title: &'static str, value: &impl Serialize) -> Sample {
    Sample { title, json: serde_json::to_string_pretty(value).expect("JSON") }
}

/// A part of a sample, for an object that is shown inside of another only. As the program writes it: its lines,
/// without the outer indentation.
fn part(title: &'static str, whole: &impl Serialize, field: &str) -> Sample {
    let text = serde_json::to_string_pretty(whole).expect("JSON");
    let begin = text.lines().position(|line| line == format!("  \"{field}\": {{")).expect("the field is an object");
    let inner = text.lines().skip(begin + 1).take_while(|line| !["  }", "  },"].contains(line));
    let inner: Vec<&str> = inner.map(|line| &line[2..]).collect();
    Sample { title, json: format!("{{\n{}\n}}", inner.join("\n")) }
}

/// A part of a part.
fn part_of_part(title: &'static str, whole: &impl Serialize, outer: &str, field: &str) -> Sample {
    let json = part(title, whole, outer).json;
    let begin = json.lines().position(|line| line == format!("  \"{field}\": {{")).expect("the field is an object");
    let inner = json.lines().skip(begin + 1).take_while(|line| !["  }", "  },"].contains(line));
    let inner: Vec<&str> = inner.map(|line| &line[2..]).collect();
    Sample { title, json: format!("{{\n{}\n}}", inner.join("\n")) }
}

/// The same of the one object in a list.
fn part_of_list(title: &'static str, whole: &impl Serialize, field: &str) -> Sample {
    let value = serde_json::to_value(whole).expect("JSON");
    assert_eq!(value[field].as_array().expect("a list").len(), 1, "{field}");
    let text = serde_json::to_string_pretty(whole).expect("JSON");
    let begin = text.lines().position(|line| line == format!("  \"{field}\": [")).expect("the field is a list");
    let inner = text.lines().skip(begin + 2).take_while(|line| *line != "    }");
    let inner: Vec<&str> = inner.map(|line| &line[4..]).collect();
    Sample { title, json: format!("{{\n{}\n}}", inner.join("\n")) }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn change() -> v1::Change {
    let (create_time, update_time) = (at(1_798_761_600), at(1_798_848_000));
    v1::Change { create_time, update_time, delete_time: at(1_799_020_800), purge_time: at(1_806_796_800), revision: 3 }
}

fn tags() -> std::collections::HashMap<String, String> {
    [("team".to_owned(), "payments".to_owned())].into()
}

fn vault() -> VaultView {
    VaultView::from(&v1::Vault {
        name: "vaults/payments".into(),
        tags: tags(),
        retention_days: 90,
        purge_protection: true,
        padding_decryption_allowed: false,
        network: Some(v1::NetworkRules {
            public_access: Some(false),
            allowed_ranges: vec!["10.20.0.0/16".into(), "2001:db8::/32".into()],
            local_access: Some(true),
        }),
        authorization: v1::VaultAuthorization::Roles.into(),
        max_staleness_seconds: 1,
        own_kek: true,
        kek_id: "9f2d3c1e8a7b4c5d9f2d3c1e8a7b4c5d".into(),
        kek_time: at(1_798_848_000),
        retired_kek_ids: vec!["1c8b0d4f6a2e4f7b1c8b0d4f6a2e4f7b".into()],
        state: v1::State::Deleted.into(),
        change: Some(change()),
        etag: "5d41402a".into(),
    })
}

fn key() -> KeyView {
    KeyView::from(&v1::Key {
        name: "vaults/payments/keys/release".into(),
        version: Some(v1::KeyVersion {
            name: "vaults/payments/keys/release/versions/0123456789abcdef0123456789abcdef".into(),
            key_type: v1::KeyType::Ec.into(),
            key_size: 256,
            curve: v1::Curve::P256.into(),
            key_operations: vec![v1::KeyOperation::Sign.into(), v1::KeyOperation::Verify.into()],
            enabled: Some(true),
            not_before_time: at(1_798_761_600),
            expire_time: at(1_830_297_600),
            tags: tags(),
            residency: v1::Residency::Wrapped.into(),
            public_key: b"SubjectPublicKeyInfo".to_vec(),
            algorithms: vec!["ES256".into()],
            change: Some(change()),
            etag: "7d793037".into(),
            imported: false,
            state: v1::State::Active.into(),
            r#use: Some(v1::KeyVersionUse {
                last_use_time: at(1_798_848_000),
                uses: 1_234,
                recorded_since_time: at(1_798_761_600),
            }),
        }),
        state: v1::State::Deleted.into(),
        change: Some(change()),
        recovery: Some(v1::Recovery { level: "Recoverable".into(), retention_days: 90 }),
        etag: "5d41402a".into(),
    })
}

fn secret_version() -> v1::SecretVersion {
    v1::SecretVersion {
        name: "vaults/payments/secrets/db-password/versions/0123456789abcdef0123456789abcdef".into(),
        content_type: "text/plain".into(),
        enabled: Some(true),
        not_before_time: at(1_798_761_600),
        expire_time: at(1_830_297_600),
        tags: tags(),
        change: Some(v1::Change { delete_time: None, purge_time: None, ..change() }),
        etag: "7d793037".into(),
    }
}

fn secret() -> SecretView {
    SecretView::from(&v1::Secret {
        name: "vaults/payments/secrets/db-password".into(),
        version: Some(secret_version()),
        state: v1::State::Deleted.into(),
        change: Some(change()),
        recovery: Some(v1::Recovery { level: "Recoverable".into(), retention_days: 90 }),
        etag: "5d41402a".into(),
    })
}

fn purged_secret() -> PurgedSecretView {
    PurgedSecretView { name: "vaults/payments/secrets/db-password".into(), versions: "3".into() }
}

fn assignment() -> AssignmentView {
    AssignmentView::from(&role_assignment())
}

fn role_assignment() -> v1::RoleAssignment {
    v1::RoleAssignment {
        name: "roleAssignments/0123456789abcdef0123456789abcdef".into(),
        principal: "spiffe://example.org/ci".into(),
        role: "roleDefinitions/12338af00e694776bea757ae8d297424".into(),
        scope: "vaults/payments".into(),
        create_time: at(1_798_761_600),
        role_name: "Key Vault Crypto User".into(),
    }
}

fn explanation() -> ExplanationView {
    ExplanationView::new(&v1::ExplainAccessResponse {
        permitted: false,
        reason: v1::AccessReason::OtherScope.into(),
        sources: Vec::new(),
        misses: vec![v1::AccessMiss {
            role_assignment: Some(role_assignment()),
            reason: v1::AccessReason::OtherScope.into(),
        }],
    })
}

fn access_source() -> v1::AccessSource {
    v1::AccessSource { source: Some(v1::access_source::Source::RoleAssignment(role_assignment())) }
}

fn broken_glass() -> BrokenGlassView {
    BrokenGlassView {
        principal: "spiffe://example.org/alice".into(),
        assignment: "roleAssignments/0123456789abcdef0123456789abcdef".into(),
        existed: false,
    }
}

fn rotation_policy() -> RotationPolicyView {
    RotationPolicyView::from(&v1::RotationPolicy {
        name: "vaults/payments/keys/release/rotationPolicy".into(),
        lifetime_actions: vec![v1::LifetimeAction {
            trigger: Some(v1::lifetime_action::Trigger::TimeAfterCreate("P90D".into())),
            action: v1::LifetimeActionType::Rotate.into(),
        }],
        expiry_time: "P1Y".into(),
        next_key: "P-384".into(),
        create_time: at(1_798_761_600),
        update_time: at(1_798_848_000),
        etag: "0123456789abcdef".into(),
        use_budget: Some(v1::UseBudget { uses: 1_000_000, action: v1::BudgetAction::Rotate.into() }),
    })
}

fn event() -> v1::Event {
    v1::Event {
        id: "9a2f5a30-6f2e-4d58-9d2b-0a0f4f5b8b11".into(),
        r#type: "strongroom.v1.KeyDeleted".into(),
        time: at(1_798_848_000),
        subject: "vaults/payments/keys/release".into(),
        principal: "spiffe://example.org/ci".into(),
        due_time: at(1_806_624_000),
        detail: String::new(),
    }
}

fn dead_letter() -> DeadLetterView {
    DeadLetterView::from(&v1::DeadLetter {
        name: "webhooks/ops/deadLetters/9a2f5a30-6f2e-4d58-9d2b-0a0f4f5b8b11".into(),
        event: Some(event()),
        attempts: 10,
        last_attempt_time: at(1_799_107_200),
        failure: "the receiver answered with status 503".into(),
    })
}

fn rotation() -> RotationView {
    RotationView::from(&v1::KeyRotation {
        key: "vaults/payments/keys/release".into(),
        steps: vec![v1::RotationStep {
            work: "rotate".into(),
            due_time: at(1_798_761_600),
            run_time: at(1_798_762_000),
        }],
        failure: "the HSM does not answer".into(),
        failures: 2,
        failure_time: at(1_798_848_000),
    })
}

fn cluster() -> ClusterView {
    let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    ClusterView::from(&v1::ListReplicasResponse {
        replicas: vec![v1::Replica {
            name: "replicas/a".into(),
            ordinal: 0,
            state: v1::ReplicaState::Serving.into(),
            version: "0.1.0".into(),
            address: "192.0.2.7:8443".into(),
            create_time: at(1_798_761_600),
            silent_for: duration(0, 120_000_000),
            behind: false,
            log_records: 1204,
            log_closed: false,
            trouble: "lane long: 0 of 1 workers".into(),
            answers: true,
        }],
        leases: vec![v1::WorkLease {
            work: "tidy".into(),
            replica: "replicas/a".into(),
            left: duration(12, 0),
            token: 3,
        }],
        heard_ago: duration(0, 90_000_000),
        store: "postgres".into(),
    })
}

fn issuer_key() -> v1::IssuerKey {
    v1::IssuerKey {
        name: "issuerKeys/0123456789abcdef0123456789abcdef".into(),
        create_time: at(1_798_761_600),
        fingerprint: vec![0x5f; 32],
        signs: true,
    }
}

fn own_keys() -> OwnKeysView {
    let log_key = "strongroom/0123456789abcdef0123456789abcdef+5b7a1f20+AT8c".into();
    OwnKeysView::from(&v1::GetOwnKeysResponse {
        issuer_keys: vec![issuer_key()],
        log_key,
        root: Some(root()),
        log_key_rotation: Some(log_key_rotation()),
    })
}

fn log_key_rotation() -> v1::LogKeyRotation {
    v1::LogKeyRotation {
        old_key: OLD_LOG_KEY.into(),
        create_time: at(1_798_761_600),
        waits_for: vec!["replica-2".into()],
    }
}

fn own_log_key() -> OwnLogKeyView {
    OwnLogKeyView::from(&v1::LogKey { key: LOG_KEY.into(), rotation: Some(log_key_rotation()) })
}

fn root() -> v1::Root {
    v1::Root {
        id: "9f2d3c1e8a7b4c5d9f2d3c1e8a7b4c5d".into(),
        unwrap_template: true,
        recovery_keys: vec![vec![0x5f; 32]],
        rotation: Some(v1::RootRotation {
            stage: v1::root_rotation::Stage::Renewing.into(),
            create_time: at(1_798_761_600),
            other_id: String::new(),
            rows: 1_200,
            total_rows: 90_000,
            renewed_rows: 1_180,
            waits_for: String::new(),
            failures: vec![v1::RootRotationFailure {
                name: "vaults/payments/keys/release/versions/0123456789abcdef0123456789abcdef".into(),
                reason: "the key's blob does not open under what it was wrapped with".into(),
            }],
        }),
    }
}

fn issuer_rotated() -> IssuerRotatedView {
    IssuerRotatedView::from(&v1::RotateIssuerKeyResponse {
        issuer_key: Some(issuer_key()),
        removed_keys: vec!["issuerKeys/fedcba9876543210fedcba9876543210".into()],
        revoked_tokens: 3,
    })
}

fn token() -> TokenView {
    TokenView::from(&v1::Token {
        name: "tokens/0123456789abcdef0123456789abcdef".into(),
        principal: "token:ci".into(),
        creator: "spiffe://example.org/admin".into(),
        create_time: at(1_798_761_600),
        expire_time: at(1_798_765_200),
    })
}

fn role() -> RoleView {
    RoleView::from(&v1::RoleDefinition {
        name: "roleDefinitions/0123456789abcdef0123456789abcdef".into(),
        role_name: "signer".into(),
        description: "Signs releases".into(),
        r#type: v1::RoleType::Custom.into(),
        actions: Vec::new(),
        not_actions: Vec::new(),
        data_actions: vec!["keys.sign".into()],
        not_data_actions: Vec::new(),
        assignable_scopes: vec!["vaults/payments".into()],
        permits: vec!["keys.sign".into()],
        create_time: at(1_798_761_600),
        update_time: at(1_798_848_000),
        etag: "7d793037".into(),
    })
}

fn access_policy() -> PolicyView {
    PolicyView::from(&v1::AccessPolicy {
        parent: "vaults/payments".into(),
        principal: "spiffe://example.org/ci".into(),
        keys: vec!["get".into(), "sign".into()],
        secrets: Vec::new(),
        certificates: Vec::new(),
        create_time: at(1_798_761_600),
        update_time: at(1_798_848_000),
        etag: "7d793037".into(),
    })
}

fn used() -> UseView {
    let name = "vaults/payments/keys/release/versions/0123456789abcdef0123456789abcdef".into();
    UseView { name, algorithm: "ES256", valid: Some(true) }
}

fn lane() -> LaneView {
    LaneView { lane: "medium", workers: 2, queue_max: 4096, hang_ms: 10_000 }
}

fn configuration() -> ConfigView {
    ConfigView {
        listen: "127.0.0.1:8443".into(),
        authorities: vec!["client_ca: every URI".into()],
        unix_socket: Some("/run/strongroom/strongroom.sock".into()),
        trusted_proxies: Vec::new(),
        issuers: vec!["https://issuer.example.org: for strongroom; RS256; keys by discovery; subject by sub".into()],
        azure_listen: Some("127.0.0.1:8445".into()),
        identity_listen: Some("127.0.0.1:8446".into()),
        metrics_listen: "127.0.0.1:8444".into(),
        module: "/usr/lib/softhsm/libsofthsm2.so".into(),
        token: "strongroom".into(),
        store: "/var/lib/strongroom/strongroom.db".into(),
        audit_dir: "/var/lib/strongroom/audit".into(),
        exporters: vec![
            "siem: strongroom to https://siem.example.org/audit; first what is new; 100 records at once, within 10 s"
                .into(),
        ],
        traces: Some("to https://collector.example.org:4318/v1/traces: of all requests a part of 0.01".into()),
        state_dir: "/var/lib/strongroom/state".into(),
        lanes: vec![lane()],
    }
}

const OLD_LOG_KEY: &str = "strongroom/0123456789abcdef0123456789abcdef+5b7a1f20+AT8c";
const LOG_KEY: &str =
    "strongroom/0123456789abcdef0123456789abcdef+a8b1c2d3+Aea0FoBk3Cn0dtoLKWE8KPCsMEXbVnM6pdS6OIqyJgJv";

const WITNESS_KEY: &str = "witness.example.org/one+5d41402a+BH0ydZBnbxzW3uZzJUBTrBNLuPMjRs7mzUuLvMdRKhxX";

fn signer() -> SignerView {
    SignerView {
        name: "witness.example.org/one".into(),
        key: WITNESS_KEY.into(),
        time: Some("2027-01-01T00:00:00Z".into()),
    }
}

fn log() -> LogView {
    LogView {
        log: "/copies/audit".into(),
        instance: "0123456789abcdef0123456789abcdef".into(),
        records: "1000003".into(),
        first_available: "512".into(),
        signed: "1000001".into(),
        signed_by: vec!["strongroom/0123456789abcdef0123456789abcdef".into()],
        keys_from: "given",
        keys: vec![LOG_KEY.into()],
        handovers: vec![HandoverView { size: "700000".into(), from: OLD_LOG_KEY.into(), to: LOG_KEY.into() }],
        held: vec![HeldView { file: "last-year.checkpoint".into(), size: "400000".into(), signers: vec![signer()] }],
        open_intents: vec!["1000002".into()],
        torn: Some(TornView {
            file: "/copies/audit/journal/00000000000000999936.jsonl".into(),
            offset: "28672".into(),
            bytes: "117".into(),
        }),
    }
}

fn proof_samples() -> Vec<Sample> {
    let receipt = ReceiptView {
        origin: "strongroom/0123456789abcdef0123456789abcdef".into(),
        index: "815".into(),
        size: "1000001".into(),
        signers: vec![signer()],
        entry: "{\"time\":1798761600,\"kind\":\"operation\"}".into(),
    };
    let cosigned = CosignedView {
        origin: "strongroom/0123456789abcdef0123456789abcdef".into(),
        size: "1000001".into(),
        time: "2027-01-01T00:00:00Z".into(),
        file: "witness/strongroom%2f0123456789abcdef0123456789abcdef.checkpoint".into(),
        key: WITNESS_KEY.into(),
        first: false,
    };
    let pruned =
        PrunedView { from: "0".into(), until: "512".into(), done: true, archive: Some("/archive/audit".into()) };
    let key = LogKeyView {
        origin: "strongroom/0123456789abcdef0123456789abcdef".into(),
        key: LOG_KEY.into(),
        former: vec![FormerKeyView { key: OLD_LOG_KEY.into(), until: Some("700000".into()) }],
    };
    vec![
        sample("VerifiedLog", &log()),
        sample("HeldCheckpoint", &log().held[0]),
        sample("Handover", &log().handovers[0]),
        part("TornRecord", &log(), "torn"),
        sample("Signer", &signer()),
        sample("VerifiedReceipt", &receipt),
        sample("LogKey", &key),
        sample("FormerKey", &key.former[0]),
        sample("Cosigned", &cosigned),
        sample("PrunedRecords", &pruned),
    ]
}

fn initialised() -> InitialisedView {
    InitialisedView {
        instance: "0123456789abcdef0123456789abcdef".into(),
        token_label: "strongroom".into(),
        token_serial: "5f1c2a9be0d34c77".into(),
        unwrap_template: true,
        administrator: Some("spiffe://example.org/admin".into()),
        recovery_keys: vec!["sha256:9f86d081".into()],
        store: "/var/lib/strongroom/strongroom.db".into(),
        audit_dir: "/var/lib/strongroom/audit".into(),
        log_key: LOG_KEY.into(),
        escrow: String::new(),
    }
}

fn failure() -> Failure {
    Failure {
        message: "cannot sign with vaults/payments/keys/release: the key is disabled".into(),
        answered: Some(Box::new(Answered {
            code: "FAILED_PRECONDITION",
            reason: Some("KEY_DISABLED".into()),
            request_id: Some("8c6f1c2e-5d0a-4b7e-9a57-0b8f7f6f3a51".into()),
        })),
        details: vec!["reason: KEY_DISABLED (FAILED_PRECONDITION)".into()],
        hints: vec!["enable it: strongroom key update NAME --enable [--version V]".into()],
    }
}

/// A run of `bench`, for its own tests too.
pub(super) fn report() -> Report {
    use super::bench::report::Form;
    let row = |form, clients, ops_per_second| RowView {
        form,
        clients,
        ops_per_second,
        spread: 0.02,
        p50_us: 1455.0,
        p99_us: 3004.0,
        p999_us: 4567.0,
        server_cpu_us: 17.8,
        workers_cpu_us: 7.7,
        client_cpu_us: 17.1,
        busy: 0.95,
        others: 0.01,
        ceiling: Some(53_900.0),
        of_ceiling: Some(0.79),
        of_raw: Some(0.27),
        operations: 126_900,
        right: 128,
        wrong: 0,
        failed: 0,
        error: Some("Unavailable: the lane is full".into()),
    };
    let rows = vec![row(Form::Unary, 64, 42_310.0), row(Form::Echo, 64, 64_600.0), row(Form::Raw, 1, 157_000.0)];
    Report {
        version: "0.1.0".into(),
        module: "/usr/lib/softhsm/libsofthsm2.so".into(),
        library: "SoftHSM 2.6".into(),
        machine: Machine { cores: 2, processor: "a processor".into(), kernel: "Linux 6.1.0".into() },
        settings: SettingsView {
            rounds: 3,
            round_seconds: 1.0,
            connections_max: 4,
            batch_operations: 100,
            stream_operations: 64,
        },
        cases: vec![CaseView {
            operation: "encrypt".into(),
            algorithm: "A256GCM".into(),
            key: "AES-256".into(),
            input_bytes: 1024,
            lane: "short",
            rows,
        }],
        checks: vec![Check { what: "failures".into(), verdict: Verdict::Ok, found: "no call failed".into() }],
        lanes: vec![LaneFigure {
            lane: "short",
            measured_by: "A256GCM encrypt AES-256".into(),
            one_worker: 157_000.0,
            two_workers: 310_000.0,
            ceiling: 53_900.0,
            workers: 1,
        }],
        lanes_toml: "[hsm.lanes.short]\nworkers = 1\n".into(),
    }
}

/// The same with one row: an example is to be read.
fn short_report() -> Report {
    let mut report = report();
    report.cases[0].rows.truncate(1);
    report
}

fn isolation() -> IsolationView {
    let alone = PacedView {
        calls: 15_000,
        failed: 0,
        right: 256,
        wrong: 0,
        p50_us: 210.0,
        p99_us: 890.0,
        p999_us: 2400.0,
        error: None,
    };
    let error = Some("Unavailable: the lane is full".to_owned());
    IsolationView {
        version: "0.1.0".into(),
        cores: 2,
        calls_per_second: 5000,
        signers: 32,
        signature_us: 3520.0,
        alone: alone.clone(),
        beside: PacedView { failed: 1, p50_us: 420.0, p99_us: 4100.0, p999_us: 6900.0, error, ..alone },
        signatures_per_second: 210.0,
        keys_per_second: 14.0,
        of_signature: 1.165,
        checks: vec![Check { what: "isolation".into(), verdict: Verdict::Ok, found: "1.17 times".into() }],
    }
}

fn audit_cost() -> AuditCostView {
    let mode = |audit: &str, ops_per_second, server_cpu_us, of_discard| AuditModeView {
        audit: audit.into(),
        ops_per_second,
        server_cpu_us,
        of_discard,
    };
    AuditCostView {
        version: "0.1.0".into(),
        cores: 2,
        clients: 256,
        rounds: 10,
        fdatasync_us: 131.0,
        modes: vec![mode("discard", 10_000.0, 61.0, 1.0), mode("write", 9_700.0, 63.0, 0.97)],
        checks: vec![Check { what: "write".into(), verdict: Verdict::Ok, found: "0.97".into() }],
    }
}

fn azure_cost() -> AzureCostView {
    let face = |ops_per_second, server_cpu_us, client_cpu_us| AzureFaceView {
        ops_per_second,
        server_cpu_us,
        workers_cpu_us: 31.2,
        client_cpu_us,
        p50_us: 3120.0,
        p99_us: 8240.0,
        right: 640,
        wrong: 0,
        error: Some("503 Service Unavailable".to_owned()),
    };
    let (grpc, azure) = (face(16_200.0, 60.1, 28.4), face(14_500.0, 66.3, 30.2));
    AzureCostView {
        version: "0.1.0".into(),
        cores: 2,
        clients: 64,
        rounds: 5,
        work: vec![AzureWorkView { operation: "ES256 sign P-256".into(), grpc, azure, of_grpc: 0.895 }],
        checks: vec![Check { what: "ES256 sign P-256".into(), verdict: Verdict::Ok, found: "0.90".into() }],
    }
}

fn audit_record() -> RecordView {
    RecordView::from(&v1::AuditRecord {
        name: "auditRecords/815".into(),
        index: 815,
        time: at(1_798_761_600),
        kind: "operation".into(),
        operation: "keys.sign".into(),
        principal: "spiffe://example.org/ci".into(),
        source: "192.0.2.7:40312".into(),
        resource: "vaults/payments/keys/release".into(),
        outcome: v1::AuditOutcome::Refused.into(),
        reason: "PERMISSION_DENIED".into(),
        request_id: "01234567-89ab-4def-8123-456789abcdef".into(),
        entry: br#"{"time":1798761600}"#.to_vec(),
    })
}

fn audit_use() -> UsedView {
    UsedView::from(&v1::AuditUse {
        resource: "vaults/payments/keys/release".into(),
        principal: "spiffe://example.org/ci".into(),
        operation: "keys.sign".into(),
        outcome: v1::AuditOutcome::Done.into(),
        count: 4711,
        first_time: at(1_798_761_600),
        last_time: at(1_798_848_000),
        first_index: 16,
        last_index: 815,
    })
}

fn samples() -> Vec<Sample> {
    let next_root = RootView::from(&root());
    let taking_over = next_root.rotation.as_ref().expect("one is on its way");
    let development = DevView {
        endpoint: "https://127.0.0.1:8443".into(),
        metrics: "http://127.0.0.1:8444".into(),
        azure: Some("https://localhost:8445".into()),
        data_dir: "/home/me/strongroom-dev".into(),
        env: "/home/me/strongroom-dev/env".into(),
        vault: "dev".into(),
    };
    let check = Check { what: "PIN latch".into(), verdict: Verdict::Ok, found: "not set".into() };
    let recovered = RecoveredView {
        instance: "0123456789abcdef0123456789abcdef".into(),
        token_label: "strongroom".into(),
        token_serial: "a0c3417be2f8d915".into(),
    };
    let random = RandomView { length_bytes: 16, data: Some("yGEfFCpmPMo6OHkxBr5XLQ==".to_owned().into()) };
    let key_name = || "vaults/payments/keys/backups".to_owned();
    let recipient = || strongroom_client::file::recipient_text(&key_name()).expect("a key");
    let file = FileView {
        versions: vec!["vaults/payments/keys/backups/versions/0123456789abcdef0123456789abcdef".into()],
        plaintext_bytes: "5368709120".into(),
    };
    let identity = IdentityView {
        key: Some(key_name()),
        recipient: Some(recipient()),
        identity: strongroom_client::file::identity_text(Some(&key_name())).expect("a key"),
    };
    let permitted = PermittedView::from(&v1::PermittedPrincipal {
        principal: "spiffe://example.org/ci".into(),
        sources: vec![access_source()],
    });
    let difference = DifferenceView::from(&v1::AccessDifference {
        principal: "spiffe://example.org/ci".into(),
        scope: "vaults/payments".into(),
        gained: vec!["keys.sign".into(), "keys.verify".into()],
        lost: Vec::new(),
    });
    let webhook = WebhookView::from(&v1::Webhook { name: "webhooks/ops".into(), pending: 2, dead_letters: 1 });
    let purged_key = PurgedKeyView { name: "vaults/payments/keys/release".into(), versions: "3".into() };
    vec![
        sample("Vault", &vault()),
        part("NetworkRules", &vault(), "network"),
        sample("Key", &key()),
        part("KeyVersion", &key(), "version"),
        part_of_part("KeyVersionUse", &key(), "version", "use"),
        sample("Secret", &secret()),
        part("SecretVersion", &secret(), "version"),
        sample("SecretValue", &SecretValueView::new(&secret_version(), Some(b"hunter2"))),
        sample("PurgedSecret", &purged_secret()),
        sample("SecretBackup", &secret_backup()),
        part("Change", &vault(), "change"),
        part("Recovery", &key(), "recovery"),
        sample("RoleAssignment", &assignment()),
        sample("AccessExplanation", &explanation()),
        sample("ConsideredAssignment", &explanation().assignments[0]),
        sample("PermittedPrincipal", &permitted),
        sample("AccessDifference", &difference),
        sample("BrokenGlass", &broken_glass()),
        sample("Token", &token()),
        sample("IssuedToken", &IssuedView { token: token(), text: Some("eyJ0eXAi.eyJpc3Mi.MEUCIQ".to_owned().into()) }),
        sample("RotationPolicy", &rotation_policy()),
        part_of_list("LifetimeAction", &rotation_policy(), "lifetimeActions"),
        part("UseBudget", &rotation_policy(), "useBudget"),
        sample("KeyRotation", &rotation()),
        part_of_list("RotationStep", &rotation(), "steps"),
        sample("Event", &EventView::from(&event())),
        sample("Webhook", &webhook),
        sample("DeadLetter", &dead_letter()),
        sample("Replayed", &ReplayedView { queued: "3".into() }),
        sample("PurgedKey", &purged_key),
        sample("KeyBackup", &key_backup()),
        sample("MovedKey", &moved_key()),
        sample("PurgedVault", &PurgedVaultView { name: "vaults/payments".into(), done: true }),
        sample("OwnKeys", &own_keys()),
        sample("IssuerKey", &own_keys().issuer_keys[0]),
        sample("IssuerRotated", &issuer_rotated()),
        sample("OwnLogKey", &own_log_key()),
        part("LogKeyRotation", &own_keys(), "logKeyRotation"),
        sample("Root", &next_root),
        sample("RootRotation", taking_over),
        sample("RootRotationFailure", &taking_over.failures[0]),
        sample("Cluster", &cluster()),
        sample("Replica", &cluster().replicas[0]),
        sample("WorkLease", &cluster().leases[0]),
        sample("AuditRecord", &audit_record()),
        sample("AuditUse", &audit_use()),
        sample("RoleDefinition", &role()),
        sample("AccessPolicy", &access_policy()),
        sample("Use", &used()),
        sample("RandomBytes", &random),
        sample("File", &file),
        sample("AgeRecipient", &RecipientView { key: key_name(), recipient: recipient() }),
        sample("AgeIdentity", &identity),
        sample("Initialised", &initialised()),
        sample("Recovered", &recovered),
        sample("Configuration", &configuration()),
        sample("Lane", &lane()),
        sample("PinChanged", &PinChangedView { pin_file: "/etc/strongroom/pin".into(), was_begun: false }),
        sample("Latch", &LatchView { cleared: true, latch: "/var/lib/strongroom/state/pin-refused".into() }),
        sample("Backup", &backup::samples::backup()),
        sample("Restored", &backup::samples::restored()),
        sample("Drill", &backup::samples::drill()),
        part_of_list("DrillStep", &backup::samples::drill(), "steps"),
        part_of_list("DrillVersion", &backup::samples::drill(), "unproved"),
        sample("StoreCopy", &store_copy()),
        sample("TableRows", &table_rows()),
        sample("Check", &check),
        sample("Development", &development),
        sample("Bench", &short_report()),
        part("Machine", &short_report(), "machine"),
        part("BenchSettings", &short_report(), "settings"),
        sample("BenchCase", &short_report().cases[0]),
        sample("BenchRow", &report().cases[0].rows[0]),
        sample("BenchLane", &report().lanes[0]),
        sample("Isolation", &isolation()),
        sample("AuditCost", &audit_cost()),
        sample("AuditMode", &audit_cost().modes[1]),
        sample("AzureCost", &azure_cost()),
        sample("AzureWork", &azure_cost().work[0]),
        sample("AzureFace", &azure_cost().work[0].azure),
        sample("PacedCalls", &isolation().beside),
        sample("Error", &failure()),
    ]
}

/// The sections of the page, by title.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let parts = PAGE.split("\n### ").skip(1);
    parts.filter_map(|part| part.split_once('\n')).map(|(title, text)| (title.trim(), text)).collect()
}

/// The rows of the tables in a text: cells without their quotes.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| row.splitn(3, " | ").map(|cell| cell.trim_matches('`')).collect()).collect()
}

/// The names of an object's fields, in order: only they are two spaces from the margin.
fn fields(json: &str) -> Vec<&str> {
    let begun = json.lines().filter_map(|line| line.strip_prefix("  \"")?.split_once("\":"));
    begun.map(|(name, _)| name).collect()
}

/// Whether the page's word for a type is right for that value.
fn table_rows() -> TableView {
    TableView { table: "versions", rows: 4 }
}

fn secret_backup() -> SecretBackupView {
    SecretBackupView {
        name: "vaults/payments/secrets/db-password".to_owned(),
        versions: "3".to_owned(),
        bytes: "1311".to_owned(),
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
    }
}

fn key_backup() -> KeyBackupView {
    KeyBackupView {
        name: "vaults/payments/keys/release".to_owned(),
        versions: "3".to_owned(),
        bytes: "4711".to_owned(),
        sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
    }
}

fn moved_key() -> MovedKeyView {
    MovedKeyView {
        name: "vaults/billing/keys/release".to_owned(),
        from: "vaults/payments/keys/release".to_owned(),
        role_assignments_left: "1".to_owned(),
    }
}

fn store_copy() -> MigratedView {
    MigratedView {
        from: "/var/lib/strongroom/strongroom.db".to_owned(),
        to: "postgres strongroom/strongroom on db1.example:5432".to_owned(),
        rows: vec![table_rows()],
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match value {
        Value::String(_) => kind == "string",
        Value::Bool(_) => kind == "boolean",
        Value::Number(_) => kind == "number",
        Value::Array(_) => kind.starts_with("array of "),
        Value::Object(_) => kind == "map of string" || kind.starts_with('['),
        Value::Null => false,
    }
}

#[test]
fn every_object_is_explained_field_by_field_with_an_example() {
    let sections = sections();
    let mut titles = BTreeSet::new();
    for Sample { title, json } in samples().into_iter().chain(proof_samples()) {
        titles.insert(title);
        let text = sections.get(title).unwrap_or_else(|| panic!("docs/json.md has no section {title}"));
        let example = text.split_once("```json\n").and_then(|(_, rest)| rest.split_once("\n```"));
        assert_eq!(
            example.map(|(example, _)| example),
            Some(json.as_str()),
            "the example of {title} is to be:\n{json}"
        );
        let explained = rows(text);
        let names: Vec<&str> = explained.iter().map(|row| row[0]).collect();
        assert_eq!(names, fields(&json), "the fields of {title}");
        let values: Value = serde_json::from_str(&json).expect("JSON");
        for row in explained {
            let [name, kind, meaning] = row[..] else { panic!("{title}: {row:?} is not name, type and meaning") };
            assert!(is_of(kind, &values[name]) && !meaning.is_empty(), "{title}: {name} is no {kind}");
        }
    }
    assert_eq!(titles, sections.keys().copied().collect(), "objects, and sections of the page");
}

#[test]
fn every_command_is_there_with_its_object() {
    let (head, _) = PAGE.split_once("\n### ").expect("sections");
    let listed: BTreeMap<&str, &str> = rows(head).iter().map(|row| (row[0], row[1])).collect();
    let sections = sections();
    let leaves = commands().into_iter().filter(|(words, command)| !words.is_empty() && !command.has_subcommands());
    let mut shown = BTreeSet::new();
    for (words, command) in leaves {
        let takes = command.get_arguments().any(|argument| argument.get_short() == Some('o'));
        assert_eq!(takes, !WITHOUT.contains(&words.as_str()), "{words} has -o, or is one of {WITHOUT:?}");
        if takes {
            let object = listed.get(words.as_str()).unwrap_or_else(|| panic!("docs/json.md does not list {words}"));
            let title = object.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(title, _)| title);
            let title = title.unwrap_or_else(|| panic!("{words}: {object} links no object"));
            assert!(sections.contains_key(title), "{words}: there is no section {title}");
            shown.insert(words);
        }
    }
    let unknown: Vec<_> = listed.keys().filter(|words| !shown.contains(**words)).collect();
    assert!(unknown.is_empty(), "no such command: {unknown:?}");
}

//! What the page on JSON shows of backups.

use strongroom_proto::v1;

use super::{
    drill::{DrillView, StepView, VersionView},
    restore::RestoredView,
    take::BackupView,
};

const ID: &str = "4f1c0a92d7e64b3a8f52c19e06b7d384";
const INSTANCE: &str = "0123456789abcdef0123456789abcdef";

/// A finished backup.
pub(in crate::cli) fn backup() -> BackupView {
    BackupView::from(&v1::Backup {
        name: format!("backups/{ID}"),
        folder: "20270101T020000Z-main-4f1c0a92".into(),
        create_time: Some(prost_types::Timestamp { seconds: 1_798_768_800, nanos: 0 }),
        state: v1::BackupState::Done.into(),
        replica: "replicas/main".into(),
        version: "1.0.0".into(),
        size_bytes: 73_400_320,
        files: 42,
        log_records: 4711,
        with_token: false,
        manifest_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
    })
}

/// A restore.
pub(in crate::cli) fn restored() -> RestoredView {
    RestoredView {
        backup: ID.into(),
        create_time: "2027-01-01T02:00:00Z".into(),
        instance: INSTANCE.into(),
        store: "/var/lib/strongroom/strongroom.db".into(),
        audit_dir: "/var/lib/strongroom/audit".into(),
        log_records: "4711".into(),
        token_serial: "a0c3417be2f8d915".into(),
        with_token: false,
    }
}

/// A drill.
pub(in crate::cli) fn drill() -> DrillView {
    DrillView {
        backup: ID.into(),
        instance: INSTANCE.into(),
        token: "recovery-key",
        steps: vec![StepView { step: "verify the backup", took: "0.412s".into() }],
        versions: "815".into(),
        proved: "99".into(),
        unproved: vec![VersionView {
            name: format!("vaults/payments/keys/release/versions/{INSTANCE}"),
            why: "of token residency: in no escrow".into(),
        }],
        failed: Vec::new(),
    }
}

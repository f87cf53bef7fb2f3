//! What a version may be used for in its state. Azure Key Vault's rules:
//!
//! | operation                | disabled | before not-before | from expiry on |
//! |--------------------------|----------|-------------------|----------------|
//! | encrypt, sign, wrap      | refused  | refused           | refused        |
//! | decrypt, verify, unwrap  | refused  | allowed           | allowed        |
//!
//! A deleted version is refused everything.

use strongroom_hsm::KeyOps;

use crate::model::{Timestamp, VersionRow};

/// Why a version cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUsable {
    /// It is softly deleted.
    Deleted,
    /// It is disabled.
    Disabled,
    /// `key_operations` does not list the operation.
    NotPermitted,
    /// It is too early.
    NotYetValid(Timestamp),
    /// It is too late.
    Expired(Timestamp),
}

/// Operations that make something new with the key.
const MAKES: KeyOps = KeyOps::ENCRYPT.union(KeyOps::SIGN).union(KeyOps::WRAP_KEY);

/// Whether a version may be used for one operation at that time.
///
/// # Errors
/// The first rule that forbids it.
pub fn usable(row: &VersionRow, operation: KeyOps, now: Timestamp) -> Result<(), NotUsable> {
    if !row.state.is_active() {
        return Err(NotUsable::Deleted);
    }
    if !row.enabled {
        return Err(NotUsable::Disabled);
    }
    if !row.ops.contains(operation) {
        return Err(NotUsable::NotPermitted);
    }
    if MAKES.contains(operation) {
        if let Some(from) = row.not_before.filter(|from| now < *from) {
            return Err(NotUsable::NotYetValid(from));
        }
        if let Some(until) = row.expires.filter(|until| now >= *until) {
            return Err(NotUsable::Expired(until));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use strongroom_hsm::{KeySpec, Residency};

    use super::*;
    use crate::model::{State, Tags, VersionId};

    fn row(enabled: bool, not_before: Option<i64>, expires: Option<i64>) -> VersionRow {
        VersionRow {
            vault: "dev".parse().expect("right"),
            key: "k".parse().expect("right"),
            version: VersionId::from_bytes([1; 16]),
            ordinal: 1,
            spec: KeySpec::Rsa2048,
            ops: KeyOps::ALL_SIX,
            enabled,
            not_before: not_before.map(Timestamp),
            expires: expires.map(Timestamp),
            tags: Tags::default(),
            residency: Residency::Wrapped,
            blob: Vec::new(),
            kek: None,
            public: Vec::new(),
            check_value: Vec::new(),
            state: State::Active,
            intent: 0,
            created: Timestamp(0),
            updated: Timestamp(0),
            revision: 1,
        }
    }

    const USES: [KeyOps; 3] = [KeyOps::DECRYPT, KeyOps::VERIFY, KeyOps::UNWRAP_KEY];
    const MAKERS: [KeyOps; 3] = [KeyOps::ENCRYPT, KeyOps::SIGN, KeyOps::WRAP_KEY];

    #[test]
    fn each_operation_is_permitted_by_itself() {
        let all = || USES.into_iter().chain(MAKERS);
        for (permitted, op) in all().flat_map(|permitted| all().map(move |op| (permitted, op))) {
            let row = VersionRow { ops: permitted, ..row(true, None, None) };
            let wanted = if permitted == op { Ok(()) } else { Err(NotUsable::NotPermitted) };
            assert_eq!(usable(&row, op, Timestamp(5)), wanted);
        }
    }

    #[test]
    fn a_disabled_version_does_nothing() {
        for op in USES.into_iter().chain(MAKERS) {
            assert_eq!(usable(&row(false, None, None), op, Timestamp(5)), Err(NotUsable::Disabled));
        }
    }

    #[test]
    fn a_deleted_version_does_nothing() {
        let state = State::Deleted { since: Timestamp(1), purge_at: Timestamp(9) };
        for op in USES.into_iter().chain(MAKERS) {
            let row = VersionRow { state, ..row(true, None, None) };
            assert_eq!(usable(&row, op, Timestamp(5)), Err(NotUsable::Deleted));
        }
    }

    #[test]
    fn an_expired_version_still_decrypts_verifies_and_unwraps() {
        for op in USES {
            assert_eq!(usable(&row(true, None, Some(5)), op, Timestamp(5)), Ok(()));
        }
        for op in MAKERS {
            assert_eq!(usable(&row(true, None, Some(5)), op, Timestamp(4)), Ok(()));
            assert_eq!(usable(&row(true, None, Some(5)), op, Timestamp(5)), Err(NotUsable::Expired(Timestamp(5))));
        }
    }

    #[test]
    fn a_version_before_its_time_makes_nothing_new() {
        for op in USES {
            assert_eq!(usable(&row(true, Some(5), None), op, Timestamp(4)), Ok(()));
        }
        for op in MAKERS {
            assert_eq!(usable(&row(true, Some(5), None), op, Timestamp(4)), Err(NotUsable::NotYetValid(Timestamp(5))));
            assert_eq!(usable(&row(true, Some(5), None), op, Timestamp(5)), Ok(()));
        }
    }

    #[test]
    fn what_key_operations_do_not_list_is_refused() {
        let mut row = row(true, None, None);
        row.ops = KeyOps::VERIFY;
        assert_eq!(usable(&row, KeyOps::SIGN, Timestamp(0)), Err(NotUsable::NotPermitted));
        assert_eq!(usable(&row, KeyOps::VERIFY, Timestamp(0)), Ok(()));
    }
}

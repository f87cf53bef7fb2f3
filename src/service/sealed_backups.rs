//! What backups of keys and of secrets are held against before they come back.

use strongroom_hsm::{
    Error,
    protocol::{Fault, Moment},
};

use super::{
    Service,
    error::{Problem, ServiceError},
    hands::outage,
    keys::invalid,
};
use crate::model::sealed_backup::Origin;

pub(super) fn precondition(reason: &'static str, why: String) -> ServiceError {
    Problem::Precondition { reason, why }.into()
}

/// The refusal of a backup that is older than what is known of its key or secret.
pub(super) fn older_than_known(name: &str, older: &str) -> ServiceError {
    let why = format!(
        "the backup is older than what is known of {name}: {older}. Restore a newer one, or insist (allow_older, --older)"
    );
    precondition("OLDER_THAN_KNOWN", why)
}

/// What a failure of the HSM means for a backup.
pub(super) fn unproved(name: String, error: Error) -> ServiceError {
    match error {
        Error::Fault(fault @ (Fault::BlobBroken | Fault::KeyMismatch)) => {
            let why = format!(
                "{name} does not open here, or is another key than the backup says: it is under another root key, or the token \
                 is another; nothing was restored"
            );
            ServiceError::because(Problem::Precondition { reason: "KEY_DOES_NOT_OPEN", why }, fault)
        }
        Error::Fault(fault @ Fault::KekAbsent) => ServiceError::because(Problem::KekAbsent { name }, fault),
        other => outage(other),
    }
}

impl Service {
    /// That a backup was made by this instance, on this root, and nobody has changed it.
    pub(super) async fn check_origin(&self, origin: &Origin, deadline: Moment) -> Result<(), ServiceError> {
        let instance = self.instance();
        let (of, here) = (origin.instance, instance.id);
        if of != here {
            let hex = |id: &[u8; 16]| base16ct::lower::encode_string(id);
            let why = format!(
                "it is a backup of instance {}; this is instance {}: restore it where it was made",
                hex(&of),
                hex(&here)
            );
            return Err(precondition("OTHER_INSTANCE", why));
        }
        self.resting_root()?;
        if origin.root != instance.root_name() {
            let why =
                "it was made under a root key whose place another has taken, and opens no more: restore a backup that \
                       was made since"
                    .to_owned();
            return Err(precondition("OTHER_ROOT", why));
        }
        let right = self.pool.check_seals(vec![(origin.sealed.clone(), origin.seal)], deadline).await;
        if right.map_err(outage)? == [true] {
            return Ok(());
        }
        Err(invalid("backup", "its seal is wrong: it was altered, or not made by this instance; take another copy"))
    }
}

//! Events: what others are told of what happened to keys, secrets and vaults.

use strongroom_hsm::statement::Canonical;

use super::{
    names::{ObjectName, VaultName, VersionId},
    rows::{Row, RowId, RowKind},
    scope::ObjectType,
    time::Timestamp,
};

/// What has happened. Names are those of Azure's Event Grid, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A key has a new version: made, imported or rotated.
    KeyNewVersionCreated,
    /// The newest version of a key expires soon, as its policy says.
    KeyNearExpiry,
    /// The newest version of a key has expired.
    KeyExpired,
    /// A key was deleted softly.
    KeyDeleted,
    /// A deleted key was brought back.
    KeyRecovered,
    /// A key was destroyed.
    KeyPurged,
    /// A key was brought back by a backup.
    KeyRestored,
    /// A key was moved to another vault, or came from one.
    KeyMoved,
    /// A version was deleted softly.
    KeyVersionDeleted,
    /// A deleted version was brought back.
    KeyVersionRecovered,
    /// A version was destroyed.
    KeyVersionPurged,
    /// What a key does by itself was changed.
    KeyRotationPolicyUpdated,
    /// What was due for a key could not be done; it is tried again.
    KeyRotationFailed,
    /// A secret has a new version.
    SecretNewVersionCreated,
    /// The newest version of a secret expires within 30 days.
    SecretNearExpiry,
    /// The newest version of a secret has expired.
    SecretExpired,
    /// A secret was deleted softly.
    SecretDeleted,
    /// A deleted secret was brought back.
    SecretRecovered,
    /// A secret was destroyed.
    SecretPurged,
    /// A secret was brought back by a backup.
    SecretRestored,
    /// A vault was deleted softly.
    VaultDeleted,
    /// A deleted vault was brought back.
    VaultRecovered,
    /// A vault was destroyed, with all that was in it.
    VaultPurged,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::KeyNewVersionCreated,
        Self::KeyNearExpiry,
        Self::KeyExpired,
        Self::KeyDeleted,
        Self::KeyRecovered,
        Self::KeyPurged,
        Self::KeyRestored,
        Self::KeyMoved,
        Self::KeyVersionDeleted,
        Self::KeyVersionRecovered,
        Self::KeyVersionPurged,
        Self::KeyRotationPolicyUpdated,
        Self::KeyRotationFailed,
        Self::SecretNewVersionCreated,
        Self::SecretNearExpiry,
        Self::SecretExpired,
        Self::SecretDeleted,
        Self::SecretRecovered,
        Self::SecretPurged,
        Self::SecretRestored,
        Self::VaultDeleted,
        Self::VaultRecovered,
        Self::VaultPurged,
    ];

    /// The name, as in CloudEvents' `type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyNewVersionCreated => "strongroom.v1.KeyNewVersionCreated",
            Self::KeyNearExpiry => "strongroom.v1.KeyNearExpiry",
            Self::KeyExpired => "strongroom.v1.KeyExpired",
            Self::KeyDeleted => "strongroom.v1.KeyDeleted",
            Self::KeyRecovered => "strongroom.v1.KeyRecovered",
            Self::KeyPurged => "strongroom.v1.KeyPurged",
            Self::KeyRestored => "strongroom.v1.KeyRestored",
            Self::KeyMoved => "strongroom.v1.KeyMoved",
            Self::KeyVersionDeleted => "strongroom.v1.KeyVersionDeleted",
            Self::KeyVersionRecovered => "strongroom.v1.KeyVersionRecovered",
            Self::KeyVersionPurged => "strongroom.v1.KeyVersionPurged",
            Self::KeyRotationPolicyUpdated => "strongroom.v1.KeyRotationPolicyUpdated",
            Self::KeyRotationFailed => "strongroom.v1.KeyRotationFailed",
            Self::SecretNewVersionCreated => "strongroom.v1.SecretNewVersionCreated",
            Self::SecretNearExpiry => "strongroom.v1.SecretNearExpiry",
            Self::SecretExpired => "strongroom.v1.SecretExpired",
            Self::SecretDeleted => "strongroom.v1.SecretDeleted",
            Self::SecretRecovered => "strongroom.v1.SecretRecovered",
            Self::SecretPurged => "strongroom.v1.SecretPurged",
            Self::SecretRestored => "strongroom.v1.SecretRestored",
            Self::VaultDeleted => "strongroom.v1.VaultDeleted",
            Self::VaultRecovered => "strongroom.v1.VaultRecovered",
            Self::VaultPurged => "strongroom.v1.VaultPurged",
        }
    }

    /// Of which type the object is that it tells of: none where it is of a vault itself.
    #[must_use]
    pub const fn object_type(self) -> Option<ObjectType> {
        match self {
            Self::KeyNewVersionCreated
            | Self::KeyNearExpiry
            | Self::KeyExpired
            | Self::KeyDeleted
            | Self::KeyRecovered
            | Self::KeyPurged
            | Self::KeyRestored
            | Self::KeyMoved
            | Self::KeyVersionDeleted
            | Self::KeyVersionRecovered
            | Self::KeyVersionPurged
            | Self::KeyRotationPolicyUpdated
            | Self::KeyRotationFailed => Some(ObjectType::Keys),
            Self::SecretNewVersionCreated
            | Self::SecretNearExpiry
            | Self::SecretExpired
            | Self::SecretDeleted
            | Self::SecretRecovered
            | Self::SecretPurged
            | Self::SecretRestored => Some(ObjectType::Secrets),
            Self::VaultDeleted | Self::VaultRecovered | Self::VaultPurged => None,
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An event. It is written with the change that it tells of, never changed, and forgotten after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its id, by which whoever is told twice knows it.
    pub id: [u8; 16],
    /// What has happened.
    pub kind: EventType,
    /// When.
    pub time: Timestamp,
    /// In which vault.
    pub vault: VaultName,
    /// To which key or secret, unless to the vault itself: of which type, the kind says.
    pub object: Option<ObjectName>,
    /// To which version, where it is one's.
    pub version: Option<VersionId>,
    /// Who did it.
    pub principal: String,
    /// When it expires, or is destroyed.
    pub due: Option<Timestamp>,
    /// What else there is to say, for people.
    pub detail: String,
}

impl EventRow {
    /// The resource it happened to.
    #[must_use]
    pub fn subject(&self) -> String {
        let mut name = format!("vaults/{}", self.vault);
        if let (Some(object), Some(kind)) = (&self.object, self.kind.object_type()) {
            name.push_str(&format!("/{}/{object}", kind.name()));
            if let Some(version) = &self.version {
                name.push_str(&format!("/versions/{version}"));
            }
        }
        name
    }
}

impl Row for EventRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Event, id: self.id }
    }

    fn revision(&self) -> u64 {
        1
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.event.v1")
            .field(1, &self.id)
            .field(2, self.kind.name().as_bytes())
            .optional_number(3, Some(self.time.0))
            .field(4, self.vault.as_str().as_bytes())
            .field(5, self.object.as_ref().map_or("", ObjectName::as_str).as_bytes())
            .field(6, self.version.map(VersionId::bytes).unwrap_or_default().as_slice())
            .field(7, self.principal.as_bytes())
            .optional_number(8, self.due.map(|due| due.0))
            .field(9, self.detail.as_bytes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_once() {
        for kind in EventType::ALL {
            assert_eq!(EventType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(EventType::from_name("KeyPurged"), None);
    }
}

//! Plain types of the domain, parsed once at the rim. No async, no input or output, no clock.

pub mod access_rows;
pub mod base64;
pub mod boot;
pub mod byok;
pub mod duration;
pub mod event;
pub mod identity;
pub mod jwk;
pub mod key_backup;
pub mod known;
pub mod lease;
pub mod log_keys;
pub mod names;
pub mod naming;
pub mod network;
pub mod principal;
pub mod private_key;
pub mod renewal;
pub mod replica;
pub mod roles;
pub mod rotation_policy;
pub mod rows;
pub mod scope;
pub mod sealed_backup;
pub mod secret_backup;
pub mod secrets;
pub mod staleness;
pub mod tags;
pub mod time;
pub mod tokens;

pub use access_rows::{AccessPolicyRow, Permissions, RoleDefinitionRow, access_policy_id};
pub use boot::{ClockRow, Uptime};
pub use byok::{ByokFile, NotByok};
pub use duration::{CalendarDuration, DurationError};
pub use event::{EventRow, EventType};
pub use identity::{Identity, Origin};
pub use jwk::Jwk;
pub use key_backup::KeyBackup;
pub use known::{Fate, KnownRow};
pub use lease::{Ended, Lease};
pub use log_keys::{LogChange, LogKey, LogKeys};
pub use names::{KeyName, NameError, ObjectName, RequestId, SecretName, VaultName, VersionId, secret_name};
pub use network::{AddressRange, NetworkPatch, NetworkRules};
pub use principal::Principal;
pub use private_key::{NotAPrivateKey, PrivateJwk, PrivateKey};
pub use renewal::{Escrow, Generation, Renewal, Stage};
pub use replica::{Ordinal, ReplicaName, ReplicaRow};
pub use roles::{ADMINISTRATOR, ActionPattern, AssignmentId, BREAK_GLASS, RoleId, RolePatterns};
pub use rotation_policy::{
    BudgetAction, LifetimeAction, LifetimeActionType, RotationPolicy, Trigger, USES_MAX, UseBudget,
};
pub use rows::{
    AssignmentRow, InstanceRow, KeyObjectRow, KeyRotation, RetiredKek, Row, RowId, RowKind, State, UsageRow,
    VaultAuthorization, VaultRow, VersionRow,
};
pub use scope::{ObjectType, Scope};
pub use sealed_backup::NotABackup;
pub use secret_backup::SecretBackup;
pub use secrets::{SecretRow, SecretVersionRow};
pub use staleness::MaxStaleness;
pub use strongroom_hsm::{Algorithm, KeyOps, KeySpec, Residency};
pub use tags::{Tags, TagsError};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use tokens::{IssuerKeyRow, TokenId, TokenName, TokenRow};

//! Tokens that are issued here, and the key that signs them.

use std::{fmt, str::FromStr};

use strongroom_hsm::{KeyOps, KeySpec, KeyStatement, Residency, statement::Canonical};

use super::{
    names::{NameError, VersionId},
    principal::Principal,
    rows::{Row, RowId, RowKind},
    time::Timestamp,
};

/// How principals of tokens that are issued here begin.
const SCHEME: &str = "token";
/// Where the issuer's key says that it is: no vault has such a name, so no statement of a caller's key is one of
/// the issuer's, nor the other way round.
const ISSUER_SCOPE: &str = "$tokens";

/// The id of a token, its `jti`.
pub type TokenId = VersionId;

/// What a token is called: 1 to 64 of `[a-z0-9-]`, beginning with a letter and not ending with a hyphen. Several tokens
/// may have one name, so that the next is there before the last has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenName(String);

impl TokenName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whom a token of this name stands for: `token:{name}`.
    #[must_use]
    pub fn principal(&self) -> Principal {
        format!("{SCHEME}:{}", self.0).parse().expect("a name has printable ASCII characters only")
    }
}

impl FromStr for TokenName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "1 to 64 of a-z, 0-9 and inner hyphens, beginning with a letter";
        let right = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-');
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError { what: "token name", rule: RULE, found: text.chars().take(200).collect() })
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token that was issued and has not expired. Without its row a token is worth nothing: to revoke one is to
/// remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Which.
    pub id: TokenId,
    /// For whom.
    pub name: TokenName,
    /// Who asked for it.
    pub creator: Principal,
    /// Since when it is good.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// The audit log's index of the intent of its creation: settles an open intent after a crash.
    pub intent: u64,
    /// 1, and more where it was sealed anew: tokens are issued and revoked, never changed.
    pub revision: u64,
}

impl Row for TokenRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Token, id: self.id.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.token.v1")
            .field(1, &self.id.bytes())
            .field(2, self.name.as_str().as_bytes())
            .field(3, self.creator.as_str().as_bytes())
            .optional_number(4, Some(self.created.0))
            .optional_number(5, Some(self.expires.0))
            .number(6, self.revision)
            .number(7, self.intent)
            .finish()
    }
}

/// The key that signs tokens: ES256, made in the HSM, wrapped under the root like any key, and in no vault, so
/// that no caller can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKeyRow {
    /// Which: its `kid`.
    pub id: VersionId,
    /// Since when.
    pub created: Timestamp,
    /// SubjectPublicKeyInfo (DER).
    pub public: Vec<u8>,
    /// The key under the root.
    pub blob: Vec<u8>,
    /// Which root, by its CKA_ID; none: the one of `init`.
    pub kek: Option<VersionId>,
    /// 1, and more where it was carried over to another root.
    pub revision: u64,
}

impl IssuerKeyRow {
    /// Its kind.
    pub const SPEC: KeySpec = KeySpec::P256;
    /// Where it lives.
    pub const RESIDENCY: Residency = Residency::Wrapped;

    /// The statement that is sealed and that a worker reads.
    #[must_use]
    pub fn statement(&self) -> KeyStatement {
        KeyStatement {
            vault: ISSUER_SCOPE.to_owned(),
            key: "issuer".to_owned(),
            version: self.id.bytes(),
            spec: Self::SPEC,
            ops: KeyOps::SIGN,
            enabled: true,
            not_before: None,
            expires: None,
            residency: Self::RESIDENCY,
            blob: self.blob.clone(),
            public: self.public.clone(),
            check_value: Vec::new(),
            created: self.created.0,
            revision: self.revision,
            rest: Vec::new(),
            kek: self.kek.map(VersionId::bytes),
        }
    }
}

impl Row for IssuerKeyRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::IssuerKey, id: self.id.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        self.statement().encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VaultName;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "ci", "deploy-2", &"x".repeat(64)] {
            assert_eq!(
                good.parse::<TokenName>().map(|name| name.principal().to_string()),
                Ok(format!("token:{good}")),
                "{good}"
            );
        }
        for bad in ["", "CI", "-a", "a-", "7a", "a b", "a#b", "a/b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<TokenName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_vault_is_where_the_issuers_key_is() {
        assert!(ISSUER_SCOPE.parse::<VaultName>().is_err());
    }
}

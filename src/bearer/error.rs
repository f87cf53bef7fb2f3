//! Why a token is not believed. The texts are for whoever sent it: they say what to mend, and nothing of the
//! token itself.

use super::TOKEN_BYTES_MAX;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// Not a JSON Web Token, or not in its one form.
    #[error("the bearer token is no JSON Web Token that can be read: {0}")]
    Malformed(&'static str),
    /// An algorithm that is not allowed, or not one for the key that the token names.
    #[error("the bearer token is signed with an algorithm that is not accepted from its issuer")]
    Algorithm,
    /// Nobody trusts that issuer here.
    #[error("the bearer token comes from an issuer that is not configured here")]
    Issuer,
    /// The issuer has no such key.
    #[error("the bearer token names no key that its issuer publishes")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the bearer token is wrong")]
    Signature,
    /// For somebody else.
    #[error("the bearer token is for another audience than this service")]
    Audience,
    /// Too old.
    #[error("the bearer token has expired")]
    Expired,
    /// Too new, or a clock is wrong.
    #[error("the bearer token is not valid yet: is a clock wrong?")]
    NotYetValid,
    /// Lives longer than its issuer's tokens may.
    #[error("the bearer token lives longer than {max_s} s, the longest that is accepted from its issuer")]
    Life {
        /// The longest.
        max_s: u64,
    },
    /// Bound to a key that is not looked at here.
    #[error("the bearer token is bound to a key of its owner (cnf), which is not supported: ask for one that is not")]
    Bound,
    /// It does not say for whom it is.
    #[error("the claim of the bearer token that names its subject is missing, empty, not text, or too long")]
    Subject,
    /// Its groups cannot be read.
    #[error("the groups of the bearer token cannot be used: {0}")]
    Groups(&'static str),
    /// A required claim has not the required value.
    #[error("the claim {claim} of the bearer token has not the value that is required here")]
    Claim {
        /// Which, as the configuration names it.
        claim: String,
    },
    /// Issued here, and taken back, or of another state of this service.
    #[error("the bearer token was revoked")]
    Revoked,
    /// The issuer's keys are not known.
    #[error("the keys of the bearer token's issuer cannot be fetched at the moment")]
    IssuerUnavailable,
    /// Too many wrong tokens from there.
    #[error("too many bearer tokens were refused, or wait to be checked: try again in a second")]
    Crowded,
}

impl BearerError {
    /// Every reason.
    pub const REASONS: [&str; 16] = [
        "TOKEN_MALFORMED",
        "TOKEN_ALGORITHM",
        "TOKEN_ISSUER",
        "TOKEN_KEY",
        "TOKEN_SIGNATURE",
        "TOKEN_AUDIENCE",
        "TOKEN_EXPIRED",
        "TOKEN_NOT_YET_VALID",
        "TOKEN_LIFE",
        "TOKEN_BOUND",
        "TOKEN_SUBJECT",
        "TOKEN_GROUPS",
        "TOKEN_CLAIM",
        "TOKEN_REVOKED",
        "TOKEN_ISSUER_UNAVAILABLE",
        "TOKEN_CROWDED",
    ];

    pub(super) const TOO_LONG: Self = Self::Malformed("it is longer than 16 KiB");

    /// A stable word for it, for machines.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        Self::REASONS[self.place()]
    }

    const fn place(&self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::Algorithm => 1,
            Self::Issuer => 2,
            Self::UnknownKey => 3,
            Self::Signature => 4,
            Self::Audience => 5,
            Self::Expired => 6,
            Self::NotYetValid => 7,
            Self::Life { .. } => 8,
            Self::Bound => 9,
            Self::Subject => 10,
            Self::Groups(_) => 11,
            Self::Claim { .. } => 12,
            Self::Revoked => 13,
            Self::IssuerUnavailable => 14,
            Self::Crowded => 15,
        }
    }

    /// Whether it is not the token's fault.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::IssuerUnavailable | Self::Crowded)
    }

    /// Whether the same token may be believed a moment later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::UnknownKey | Self::NotYetValid | Self::IssuerUnavailable | Self::Crowded)
    }
}

const _: () = assert!(TOKEN_BYTES_MAX == 16 * 1024, "the text says so");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_one() {
        let reasons: std::collections::BTreeSet<_> = BearerError::REASONS.into_iter().collect();
        assert_eq!(reasons.len(), BearerError::REASONS.len());
        assert_eq!(BearerError::Crowded.reason(), "TOKEN_CROWDED");
        assert_eq!(BearerError::Claim { claim: String::new() }.reason(), "TOKEN_CLAIM");
        assert_eq!(BearerError::Expired.reason(), "TOKEN_EXPIRED");
    }
}

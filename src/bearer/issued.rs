//! Tokens that are issued here: what is in force of them, shared by the service, which issues and revokes, and by
//! the faces, which are sent them. The signature is the HSM's; this only writes what is signed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde_json::{Value, json};
use spki::der::Decode as _;
use zeroize::Zeroizing;

use super::{
    claims::{ClaimPath, LEEWAY_MAX, Rules},
    error::BearerError,
    json::Object,
    jws,
    keys::{Key, KeySet},
};
use crate::model::{
    Algorithm, Identity, IssuerKeyRow, Jwk, KeyOps, Lease, Principal, Timestamp, TokenId, TokenRow, VersionId,
};

/// Where the document about this issuer is.
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// Where its keys are.
pub const KEYS_PATH: &str = "/.well-known/jwks.json";
/// The longest life that can be configured.
pub const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The tokens that are in force, and the keys that signed them.
pub struct Issued {
    rules: Rules,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    keys: Arc<KeySet>,
    /// The JWK of each key.
    published: Vec<Value>,
    tokens: HashMap<TokenId, Live>,
}

struct Live {
    principal: Principal,
    expires: Timestamp,
    lease: Lease,
}

impl Issued {
    /// Nothing is issued yet by the issuer of that name, which is also the audience.
    ///
    /// # Panics
    /// Never: `sub` is a claim.
    #[must_use]
    pub fn new(issuer: &str) -> Self {
        let rules = Rules {
            issuer: issuer.to_owned(),
            audiences: vec![issuer.to_owned()],
            algorithms: vec![Algorithm::Es256],
            subject: ClaimPath::new("sub").expect("a name"),
            groups: None,
            required: Vec::new(),
            // One clock wrote and reads the times; of several machines', a little.
            leeway: Duration::from_secs(5).min(LEEWAY_MAX),
            life_max: LIFE_MAX,
        };
        Self { rules, known: RwLock::default() }
    }

    /// The issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts these keys in force, and no others.
    pub fn set_keys(&self, rows: &[IssuerKeyRow]) {
        let keys = rows.iter().filter_map(|row| Some((key(row)?, published(row)?)));
        let (keys, published): (Vec<_>, Vec<_>) = keys.unzip();
        let mut known = self.write();
        known.keys = Arc::new(KeySet::new(keys.into_iter().map(Arc::new).collect()));
        known.published = published;
    }

    /// How many keys are in force.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.read().published.len()
    }

    /// Puts a token in force.
    pub fn put(&self, row: &TokenRow) {
        let live = Live { principal: row.name.principal(), expires: row.expires, lease: Lease::until(None) };
        self.write().tokens.insert(row.id, live);
    }

    /// Puts these tokens in force, and no others: whatever stands on one that is gone stops.
    pub fn set(&self, rows: &[TokenRow]) {
        let gone: Vec<TokenId> = {
            let known = self.read();
            let stays: HashSet<TokenId> = rows.iter().map(|row| row.id).collect();
            known.tokens.keys().filter(|id| !stays.contains(id)).copied().collect()
        };
        gone.into_iter().for_each(|id| self.end(id));
        for row in rows {
            if !self.read().tokens.contains_key(&row.id) {
                self.put(row);
            }
        }
    }

    /// Ends a token: whatever stands on it stops.
    pub fn end(&self, id: TokenId) {
        if let Some(live) = self.write().tokens.remove(&id) {
            live.lease.end();
        }
    }

    /// Whether a token has expired by then.
    #[must_use]
    pub fn any_expired(&self, by: Timestamp) -> bool {
        self.read().tokens.values().any(|live| live.expires <= by)
    }

    /// How many are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().tokens.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, BearerError> {
        if !self.rules.algorithms.contains(&algorithm) {
            return Err(BearerError::Algorithm);
        }
        self.read().keys.find(kid, algorithm)
    }

    /// Whose a token is whose signature is right: it must be one of those that are in force. Also until when.
    pub(super) fn identify(
        &self,
        claims: &Object,
        now: Timestamp,
    ) -> Result<(Principal, Lease, Timestamp), BearerError> {
        let until = self.rules.check_frame(claims, now)?;
        let id = claims.get("jti").and_then(Value::as_str).and_then(|id| id.parse::<TokenId>().ok());
        let known = self.read();
        let live = id.and_then(|id| known.tokens.get(&id)).ok_or(BearerError::Revoked)?;
        if claims.get("sub").and_then(Value::as_str) != Some(live.principal.as_str()) {
            return Err(BearerError::Subject);
        }
        Ok((live.principal.clone(), live.lease.clone(), until))
    }

    /// What is to be signed for a token: header and claims.
    #[must_use]
    pub fn unsigned(&self, key: VersionId, row: &TokenRow) -> String {
        let header = json!({ "alg": Algorithm::Es256.name(), "kid": key.to_string(), "typ": "JWT" });
        let claims = json!({
            "iss": self.rules.issuer,
            "sub": row.name.principal().as_str(),
            "aud": self.rules.issuer,
            "iat": row.created.0,
            "exp": row.expires.0,
            "jti": row.id.to_string(),
        });
        format!("{}.{}", jws::part(header.to_string().as_bytes()), jws::part(claims.to_string().as_bytes()))
    }

    /// The token: what was signed, and the signature.
    #[must_use]
    pub fn signed(unsigned: &str, signature: &[u8]) -> Zeroizing<String> {
        let signature = Zeroizing::new(jws::part(signature));
        let mut token = Zeroizing::new(String::with_capacity(unsigned.len() + 1 + signature.len()));
        token.push_str(unsigned);
        token.push('.');
        token.push_str(&signature);
        token
    }

    /// The document about this issuer (OpenID Connect Discovery section 3), where its name is a URL.
    #[must_use]
    pub fn discovery(&self) -> Option<String> {
        let issuer = self.issuer();
        let base = issuer.starts_with("https://").then(|| issuer.trim_end_matches('/'))?;
        let document = json!({
            "issuer": issuer,
            "jwks_uri": format!("{base}{KEYS_PATH}"),
            "id_token_signing_alg_values_supported": [Algorithm::Es256.name()],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        });
        Some(document.to_string())
    }

    /// The keys (RFC 7517 section 5).
    #[must_use]
    pub fn key_set(&self) -> String {
        json!({ "keys": self.read().published }).to_string()
    }

    pub(super) fn identity(principal: Principal, lease: Lease) -> Identity {
        Identity::new(principal, Vec::new(), lease)
    }
}

/// The key of a row, as tokens are verified with it. A row of ours always has one.
fn key(row: &IssuerKeyRow) -> Option<Key> {
    let info = spki::SubjectPublicKeyInfoRef::from_der(&row.public).ok()?;
    let point = info.subject_public_key.as_bytes()?.to_vec();
    (point.len() == 65).then(|| Key::p256(row.id.to_string(), point))
}

/// As others see it: `use` and not `key_ops`, which do not go together (RFC 7517 section 4.3).
fn published(row: &IssuerKeyRow) -> Option<Value> {
    let jwk = Jwk::public(&row.id.to_string(), KeyOps::NONE, &row.public)?;
    let mut jwk = serde_json::to_value(jwk).ok()?;
    jwk["use"] = "sig".into();
    jwk["alg"] = Algorithm::Es256.name().into();
    Some(jwk)
}

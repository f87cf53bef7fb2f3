//! The service's own keys: what there is of them, and the rotation of the key that signs tokens.
//!
//! A new key of the issuer signs from its commit on. Those before it are kept for what they have signed: a token is worth
//! something while its row is there, so a key can go when every row that it may have signed is gone. Where a key may have come
//! into other hands, the old ones go with the same commit, and every token with them: none of those that are in force then
//! was signed by the new one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use strongroom_hsm::protocol::{Generated, Kek, Moment};

use super::{
    Caller, ChangeOptions, Service,
    catalog::Checked,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    fresh_id,
    log_key::LogKeyView,
    root::RootView,
    scopes::{Making, NewRow, Put},
};
use crate::{
    access::{Permit, ops},
    audit::{Durability, Kind, Outcome, Record},
    failpoint,
    model::{IssuerKeyRow, Scope, Timestamp, TokenRow, VersionId},
    store::{HeadScope, WorkLease},
};

/// The most keys of the issuer at once. Who verifies tokens reads all of them.
pub const ISSUER_KEYS_MAX: usize = 16;
/// For how long after its successor a key may still sign: a request that began before, on a replica that had not heard.
const SIGNS_ON_S: i64 = 900;
/// How long forgetting one key may take.
const FORGET_WITHIN: Duration = Duration::from_secs(10);

/// What becomes of the keys before the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    /// They are kept until every token that they have signed has ended.
    Kept,
    /// They are taken away at once, with every token.
    Revoked,
}

/// A key that signs tokens, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKeyView {
    /// Which.
    pub id: VersionId,
    /// Since when.
    pub created: Timestamp,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub fingerprint: [u8; 32],
    /// Whether it is the one that signs.
    pub signs: bool,
}

/// What there is of the service's own keys.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    /// Those of the issuer, oldest first; none before the first token.
    pub issuer_keys: Vec<IssuerKeyView>,
    /// What signs this replica's log.
    pub log_key: LogKeyView,
    /// The root, and one that takes its place.
    pub root: RootView,
}

/// What a rotation of the issuer's key came to.
#[derive(Clone, Debug)]
pub struct IssuerRotated {
    /// The key that signs now; absent when it was only checked whether it could be made.
    pub key: Option<IssuerKeyView>,
    /// The keys that were taken away.
    pub removed: Vec<VersionId>,
    /// How many tokens ended with them.
    pub revoked_tokens: usize,
}

/// The resource name of an issuer's key.
#[must_use]
pub fn issuer_key_name(id: VersionId) -> String {
    format!("issuerKeys/{id}")
}

fn views(rows: &[Checked<IssuerKeyRow>]) -> Vec<IssuerKeyView> {
    let newest = rows.last().map(|newest| newest.row.id);
    rows.iter().map(|checked| view(&checked.row, newest)).collect()
}

fn view(row: &IssuerKeyRow, newest: Option<VersionId>) -> IssuerKeyView {
    IssuerKeyView {
        id: row.id,
        created: row.created,
        fingerprint: Sha256::digest(&row.public).into(),
        signs: Some(row.id) == newest,
    }
}

impl Service {
    /// Shows what there is of the service's own keys.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn own_keys(&self, caller: &Caller) -> Result<OwnKeys, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::OwnKeysRead>| async {
            let rows = self.catalog.issuer_keys(caller.deadline).await?;
            let root = self.root_view(caller.deadline).await?;
            let log_key = self.log_key_view(caller.deadline).await?;
            Ok(OwnKeys { issuer_keys: views(&rows), log_key, root })
        };
        self.plain(caller, "ownKeys".to_owned(), Scope::Service, &note, work).await
    }

    /// Has a new key sign tokens.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when there are too many keys already whose tokens are in force.
    pub async fn rotate_issuer_key(
        self: &Arc<Self>,
        caller: &Caller,
        old: OldKeys,
        options: ChangeOptions,
    ) -> Result<IssuerRotated, ServiceError> {
        let id = VersionId::from_bytes(fresh_id());
        let work = RotateIssuer { id, old, said: Mutex::default() };
        self.change(caller, issuer_key_name(id), Scope::Service, options, work).await
    }

    /// Forgets keys of the issuer that have no tokens any more.
    pub(super) async fn forget_issuer_keys(&self, lease: &WorkLease) -> Result<(), ServiceError> {
        if self.issued.key_count() < 2 {
            return Ok(());
        }
        let deadline = Moment::now().after(FORGET_WITHIN);
        let locked = self.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (keys, tokens) = (self.catalog.issuer_keys(deadline).await?, self.catalog.tokens(deadline).await?);
        let tokens: Vec<&TokenRow> = tokens.iter().map(|checked| checked.row.as_ref()).collect();
        let now = self.clock.now();
        let successors = keys.iter().skip(1);
        let gone: Vec<_> = keys.iter().zip(successors).filter(|(_, next)| is_past(&next.row, &tokens, now)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let puts = gone.iter().map(|(key, _)| remove(key)).collect();
        let making = Making { name: "tokens.forgetKey", right: lease, intent: 0, request: None, deadline };
        let committed = self.catalog.scopes.commit(&locked, making, puts).await?;
        self.read_issuer_keys(deadline).await?;
        let names: Vec<String> = gone.iter().map(|(key, _)| key.row.id.to_string()).collect();
        let record = Record {
            resource: Some("issuerKeys".to_owned()),
            detail: Some(format!("no token of theirs is left: {}", names.join(" "))),
            heads: vec![committed.mark],
            ..Record::new(self.clock.now(), Kind::Event, "tokens.forgetKey", Outcome::Done)
        };
        self.log.append(record, Durability::Fsync).await?;
        Ok(())
    }
}

/// Whether no token is left that the key before this one may have signed.
fn is_past(successor: &IssuerKeyRow, tokens: &[&TokenRow], now: Timestamp) -> bool {
    let signed_until = successor.created.0.saturating_add(SIGNS_ON_S);
    now.0 >= signed_until && tokens.iter().all(|token| token.created.0 >= signed_until)
}

fn remove(key: &Checked<IssuerKeyRow>) -> Put {
    Put::remove(NewRow::RemoveIssuerKey(IssuerKeyRow::clone(&key.row)), key.seal)
}

struct RotateIssuer {
    id: VersionId,
    old: OldKeys,
    /// What it does to what was there before.
    said: Mutex<Option<String>>,
}

/// What is taken away.
struct Old {
    keys: Vec<Checked<IssuerKeyRow>>,
    tokens: Vec<Checked<TokenRow>>,
}

impl RotateIssuer {
    async fn plan(&self, service: &Service, deadline: Moment) -> Result<Old, ServiceError> {
        let keys = service.catalog.issuer_keys(deadline).await?;
        let tokens = match self.old {
            OldKeys::Kept => Vec::new(),
            OldKeys::Revoked => service.catalog.tokens(deadline).await?,
        };
        if self.old == OldKeys::Kept && keys.len() >= ISSUER_KEYS_MAX {
            let why = format!(
                "there are {} keys of the issuer whose tokens may be in force, and there can be {ISSUER_KEYS_MAX}: wait \
                 until tokens have ended, or take the old keys away with their tokens",
                keys.len()
            );
            return Err(Problem::Precondition { reason: "TOO_MANY_ISSUER_KEYS", why }.into());
        }
        let said = match self.old {
            OldKeys::Kept => format!("{} before it are kept for the tokens that they have signed", keys.len()),
            OldKeys::Revoked => {
                let names: Vec<String> = keys.iter().map(|key| key.row.id.to_string()).collect();
                format!("taken away with {} tokens: {}", tokens.len(), names.join(" "))
            }
        };
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(Old { keys, tokens })
    }

    fn row(&self, made: &Generated, root: Option<Kek>, newest: Option<&IssuerKeyRow>, now: Timestamp) -> IssuerKeyRow {
        // The newest is the last by its time, in whole seconds, and clocks go back.
        let later = newest.map_or(now.0, |newest| now.0.max(newest.created.0.saturating_add(1)));
        let (public, blob) = (made.public.to_vec(), made.blob.to_vec());
        let kek = root.map(|root| VersionId::from_bytes(root.id));
        IssuerKeyRow { id: self.id, created: Timestamp(later), public, blob, kek, revision: 1 }
    }

    fn puts(&self, row: &IssuerKeyRow, old: &Old) -> Vec<Put> {
        let new = Put::insert(NewRow::IssuerKey(row.clone()));
        let keys = old.keys.iter().filter(|_| self.old == OldKeys::Revoked).map(remove);
        let tokens = old.tokens.iter().map(|token| Put::remove_token(TokenRow::clone(&token.row), token.seal));
        std::iter::once(new).chain(keys).chain(tokens).collect()
    }

    fn outcome(&self, key: Option<IssuerKeyView>, old: &Old) -> IssuerRotated {
        let removed = match self.old {
            OldKeys::Kept => Vec::new(),
            OldKeys::Revoked => old.keys.iter().map(|key| key.row.id).collect(),
        };
        IssuerRotated { key, removed, revoked_tokens: old.tokens.len() }
    }
}

impl Work for RotateIssuer {
    type Op = ops::OwnKeysRotateIssuer;
    type Out = IssuerRotated;

    fn detail(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<IssuerRotated, ServiceError> {
        let old = self.plan(service, context.caller.deadline).await?;
        Ok(self.outcome(None, &old))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<IssuerRotated>, ServiceError> {
        let deadline = context.caller.deadline;
        // Under the lock: so it is under the root that all that follows is under.
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let old = self.plan(service, deadline).await?;
        let root = service.root();
        let made = service.hands.generate_issuer_key(&permit, self.id, root, &context.caller).await?;
        failpoint::hit(failpoint::SERVICE_AFTER_GENERATE);
        let newest = old.keys.last().map(|newest| newest.row.as_ref());
        let row = self.row(&made, root, newest, context.now);
        let request = context.request_record(issuer_key_name(self.id));
        let making = Making { name: "ownKeys.rotateIssuer", right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, self.puts(&row, &old)).await;
        if matches!(&committed, Ok(_) | Err(ServiceError { problem: Problem::Unknown { .. }, .. })) {
            // Of unknown fate too: they were meant to end, and which key signs is read again when one is needed.
            old.tokens.iter().for_each(|token| service.issued.end(token.row.id));
            service.issuer_key.store(None);
        }
        let committed = committed?;
        if let Err(error) = service.read_issuer_keys(deadline).await {
            tracing::debug!(%error, "the issuer's keys are read when the next token is issued");
        }
        let view = view(&row, Some(self.id));
        Ok(Applied { out: self.outcome(Some(view), &old), heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        context: &Context,
    ) -> Result<IssuerRotated, ServiceError> {
        let rows = service.catalog.issuer_keys(context.caller.deadline).await?;
        let found = views(&rows).into_iter().find(|key| issuer_key_name(key.id) == name);
        let key = found.ok_or_else(|| Problem::NotFound { name: name.to_owned() })?;
        // What it took away is not known any more: the audit log says it.
        Ok(IssuerRotated { key: Some(key), removed: Vec::new(), revoked_tokens: 0 })
    }
}

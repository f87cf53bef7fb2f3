//! Tokens of our own: issued, listed, revoked. What is answered is in force: a revoked token stops open streams and
//! queued work. A token has the rights that are assigned to `token:{name}` and no others; those of whoever asked
//! for it do not matter. So whoever may issue tokens may have every right that is assigned to any name of one.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{KeyRow, Seal, SecretBytes, protocol::Moment};

use super::{
    Caller, ChangeOptions, Page, Paged, Service, bounds,
    catalog::Catalog,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    own_keys::issuer_key_name,
    scopes::{Making, NewRow, Put},
};
use crate::{
    access::{Permit, ops},
    audit::{Durability, Kind, Outcome, Record},
    bearer::Issued,
    model::{IssuerKeyRow, RowId, RowKind, Scope, Timestamp, TokenId, TokenName, TokenRow, VersionId},
    observe::metrics::TOKENS_ISSUED,
    store::{HeadScope, WorkLease},
};

/// For how long the row of an expired token stays: clocks differ a little, and until then a token is refused
/// because it has expired, not because it was revoked.
const KEPT_AFTER_S: i64 = 60;
/// How many expired tokens are forgotten in one change.
const FORGOTTEN_MAX: usize = 500;
/// How long that may take.
const FORGET_WITHIN: Duration = Duration::from_secs(10);

/// A token that is wanted.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its name.
    pub name: TokenName,
    /// For how long; the configured life when absent.
    pub life: Option<Duration>,
}

/// A token that was issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its row.
    pub row: TokenRow,
    /// The token itself; absent when it was only checked whether it could be issued.
    pub text: Option<SecretBytes>,
}

/// The key that signs, once it is known.
pub(super) type IssuerKeyCell = ArcSwapOption<IssuerKey>;

/// A checked key that signs tokens.
pub(super) struct IssuerKey {
    id: VersionId,
    hsm: Arc<KeyRow>,
}

impl IssuerKey {
    fn new(row: &IssuerKeyRow, seal: Seal) -> Arc<Self> {
        Arc::new(Self { id: row.id, hsm: Arc::new(KeyRow::new(row.statement(), seal)) })
    }
}

/// Puts in force what the store holds of tokens and keys; the newest key signs.
pub(super) async fn load(catalog: &Catalog, issued: &Issued, deadline: Moment) -> Result<IssuerKeyCell, ServiceError> {
    let keys = catalog.issuer_keys(deadline).await?;
    let rows: Vec<IssuerKeyRow> = keys.iter().map(|checked| IssuerKeyRow::clone(&checked.row)).collect();
    issued.set_keys(&rows);
    let tokens = catalog.tokens(deadline).await?;
    issued.set(&tokens.iter().map(|checked| TokenRow::clone(&checked.row)).collect::<Vec<_>>());
    Ok(ArcSwapOption::new(keys.last().map(|newest| IssuerKey::new(&newest.row, newest.seal))))
}

impl Service {
    /// Tokens of our own that are in force.
    #[must_use]
    pub const fn issued(&self) -> &Arc<Issued> {
        &self.issued
    }

    /// Issues a token.
    ///
    /// # Errors
    /// [`Problem::Invalid`] for a life that is too long; [`Problem::Precondition`] when too many are in force.
    pub async fn create_token(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewToken,
        options: ChangeOptions,
    ) -> Result<IssuedToken, ServiceError> {
        let id = TokenId::from_bytes(super::fresh_id());
        self.change(caller, resource(id), Scope::Service, options, Issue { new, id }).await
    }

    /// A token that is in force, without its text, which nobody keeps.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when it has expired or was revoked, too.
    pub async fn get_token(&self, caller: &Caller, id: TokenId) -> Result<TokenRow, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::TokensRead>| async {
            let rows = self.live_tokens(caller.deadline).await?;
            rows.into_iter().find(|row| row.id == id).ok_or_else(|| not_found(id))
        };
        self.plain(caller, resource(id), Scope::Service, &note, work).await
    }

    /// Lists the tokens in force, in the order of their ids.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list_tokens(&self, caller: &Caller, page: Page<TokenId>) -> Result<Paged<TokenRow>, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::TokensRead>| async {
            let mut items = self.live_tokens(caller.deadline).await?;
            items.retain(|row| page.after.is_none_or(|after| row.id > after));
            items.sort_by_key(|row| row.id);
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let more = items.len() > size;
            items.truncate(size);
            Ok(Paged { items, more })
        };
        self.plain(caller, "tokens".to_owned(), Scope::Service, &note, work).await
    }

    /// Revokes a token: from the answer on it is worth nothing.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when it has expired or was revoked already.
    pub async fn revoke_token(
        self: &Arc<Self>,
        caller: &Caller,
        id: TokenId,
        options: ChangeOptions,
    ) -> Result<TokenRow, ServiceError> {
        self.change(caller, resource(id), Scope::Service, options, Revoke { id, found: OnceLock::new() }).await
    }

    async fn live_tokens(&self, deadline: Moment) -> Result<Vec<TokenRow>, ServiceError> {
        let now = self.clock.now();
        let rows = self.catalog.tokens(deadline).await?;
        let rows = rows.into_iter().map(|checked| TokenRow::clone(&checked.row));
        Ok(rows.filter(|row| row.expires > now).collect())
    }

    /// The key that signs tokens; made when the first token is.
    async fn issuer_key(
        &self,
        permit: &Permit<ops::TokensCreate>,
        caller: &Caller,
    ) -> Result<Arc<IssuerKey>, ServiceError> {
        let deadline = caller.deadline;
        if let Some(key) = self.issuer_key.load_full() {
            return Ok(key);
        }
        let locked = self.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        // Another caller's may have been made meanwhile, or one before a failure that left it unknown.
        if locked.cell().count(RowKind::IssuerKey) > 0 {
            return self.read_issuer_keys(deadline).await;
        }
        let id = VersionId::from_bytes(super::fresh_id());
        let root = self.root();
        let made = self.hands.generate_issuer_key(permit, id, root, caller).await?;
        let (public, blob) = (made.public.into_vec(), made.blob.into_vec());
        let kek = root.map(|root| VersionId::from_bytes(root.id));
        let row = IssuerKeyRow { id, created: self.clock.now(), public, blob, kek, revision: 1 };
        let making = Making { name: "tokens.makeKey", right: permit, intent: 0, request: None, deadline };
        let put = Put::insert(NewRow::IssuerKey(row.clone()));
        let committed = self.catalog.scopes.commit(&locked, making, vec![put]).await?;
        let record = Record {
            resource: Some(issuer_key_name(id)),
            heads: vec![committed.mark],
            ..Record::new(self.clock.now(), Kind::Event, "tokens.makeKey", Outcome::Done)
        };
        self.log.append(record, Durability::Fsync).await?;
        let seal = committed.seals.first().ok_or(Problem::Internal)?;
        Ok(self.sign_with(std::slice::from_ref(&row), &row, *seal))
    }

    /// Loads the key that signs tokens anew, which was carried over to another root.
    pub(super) async fn load_issuer_key(&self, deadline: Moment) -> Result<(), ServiceError> {
        let found = self.catalog.issuer_keys(deadline).await?;
        if let Some(newest) = found.last() {
            let rows: Vec<IssuerKeyRow> = found.iter().map(|checked| IssuerKeyRow::clone(&checked.row)).collect();
            self.sign_with(&rows, &newest.row, newest.seal);
        }
        Ok(())
    }

    fn sign_with(&self, all: &[IssuerKeyRow], newest: &IssuerKeyRow, seal: Seal) -> Arc<IssuerKey> {
        let key = IssuerKey::new(newest, seal);
        self.issued.set_keys(all);
        self.issuer_key.store(Some(Arc::clone(&key)));
        key
    }

    /// Puts the issuer's keys in force that the store holds; the newest signs.
    pub(super) async fn read_issuer_keys(&self, deadline: Moment) -> Result<Arc<IssuerKey>, ServiceError> {
        let found = self.catalog.issuer_keys(deadline).await?;
        let newest = found.last().ok_or(Problem::Internal)?;
        let rows: Vec<IssuerKeyRow> = found.iter().map(|checked| IssuerKeyRow::clone(&checked.row)).collect();
        Ok(self.sign_with(&rows, &newest.row, newest.seal))
    }

    async fn sign_token(
        &self,
        permit: &Permit<ops::TokensCreate>,
        key: &IssuerKey,
        row: &TokenRow,
        caller: &Caller,
    ) -> Result<SecretBytes, ServiceError> {
        let unsigned = self.issued.unsigned(key.id, row);
        let digest = Sha256::digest(&unsigned).to_vec();
        let signature = self.hands.sign_token(permit, &key.hsm, digest.into(), caller).await?;
        Ok(Issued::signed(&unsigned, &signature).as_bytes().to_vec().into())
    }

    /// Forgets tokens that have expired.
    pub(super) async fn forget_tokens(&self, lease: &WorkLease) -> Result<(), ServiceError> {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(TOKENS_ISSUED).set(self.issued.len() as f64);
        let by = Timestamp(self.clock.now().0.saturating_sub(KEPT_AFTER_S));
        if !self.issued.any_expired(by) {
            return Ok(());
        }
        let deadline = Moment::now().after(FORGET_WITHIN);
        let locked = self.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let rows = self.catalog.tokens(deadline).await?;
        let expired: Vec<_> = rows.iter().filter(|checked| checked.row.expires <= by).take(FORGOTTEN_MAX).collect();
        if expired.is_empty() {
            return Ok(());
        }
        let puts = expired.iter().map(|checked| Put::remove_token(TokenRow::clone(&checked.row), checked.seal));
        let making = Making { name: "tokens.expire", right: lease, intent: 0, request: None, deadline };
        let committed = self.catalog.scopes.commit(&locked, making, puts.collect()).await?;
        for checked in &expired {
            self.issued.end(checked.row.id);
        }
        let record = Record {
            resource: Some("tokens".to_owned()),
            detail: Some(format!("{} expired", expired.len())),
            heads: vec![committed.mark],
            ..Record::new(self.clock.now(), Kind::Event, "tokens.expire", Outcome::Done)
        };
        self.log.append(record, Durability::Write).await?;
        Ok(())
    }
}

/// A token's resource name.
#[must_use]
pub fn resource(id: TokenId) -> String {
    format!("tokens/{id}")
}

fn not_found(id: TokenId) -> ServiceError {
    Problem::NotFound { name: resource(id) }.into()
}

/// A token in the words of a record.
fn described(row: &TokenRow) -> String {
    format!("{} until {}", row.name.principal(), row.expires)
}

struct Issue {
    new: NewToken,
    id: TokenId,
}

impl Issue {
    fn row(&self, service: &Service, context: &Context) -> Result<TokenRow, ServiceError> {
        let (life, max) =
            (self.new.life.unwrap_or(service.settings.token_life_default), service.settings.token_life_max);
        if life.as_secs() == 0 || life > max {
            let why = format!("is {} s; tokens live 1 to {} s here", life.as_secs(), max.as_secs());
            return Err(Problem::Invalid { field: "life", why }.into());
        }
        let life = i64::try_from(life.as_secs()).map_err(|_| Problem::Internal)?;
        Ok(TokenRow {
            id: self.id,
            name: self.new.name.clone(),
            creator: context.caller.principal().clone(),
            created: context.now,
            expires: Timestamp(context.now.0.saturating_add(life)),
            intent: context.intent,
            revision: 1,
        })
    }
}

impl Work for Issue {
    type Op = ops::TokensCreate;
    type Out = IssuedToken;

    fn detail(&self) -> Option<String> {
        let life = self.new.life.map_or_else(|| "the usual time".to_owned(), |life| format!("{} s", life.as_secs()));
        Some(format!("{} for {life}", self.new.name.principal()))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<IssuedToken, ServiceError> {
        Ok(IssuedToken { row: self.row(service, context)?, text: None })
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<IssuedToken>, ServiceError> {
        let deadline = context.caller.deadline;
        let row = self.row(service, context)?;
        // Signed first: a token without a row is worth nothing, a row without a token would only be in the way.
        let key = service.issuer_key(&permit, &context.caller).await?;
        let mut text = service.sign_token(&permit, &key, &row, &context.caller).await?;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        if !locked.cell().has(&RowId { kind: RowKind::IssuerKey, id: key.id.bytes() }) {
            // It was taken away meanwhile, and nobody believes what it has signed.
            let key = service.read_issuer_keys(deadline).await?;
            text = service.sign_token(&permit, &key, &row, &context.caller).await?;
        }
        bounds::check_tokens(locked.cell().count(RowKind::Token), service.settings.tokens_max)?;
        let request = context.request_record(resource(row.id));
        let making = Making { name: "tokens.create", right: &permit, intent: context.intent, request, deadline };
        let put = Put::insert(NewRow::Token(row.clone()));
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await?;
        service.issued.put(&row);
        Ok(Applied { out: IssuedToken { row, text: Some(text) }, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        name: &str,
        context: &Context,
    ) -> Result<IssuedToken, ServiceError> {
        let deadline = context.caller.deadline;
        let rows = service.live_tokens(deadline).await?;
        let found = rows.into_iter().find(|row| resource(row.id) == name);
        let row = found.ok_or_else(|| Problem::NotFound { name: name.to_owned() })?;
        // The same claims; another signature, which is as good.
        let key = service.issuer_key(permit, &context.caller).await?;
        let text = service.sign_token(permit, &key, &row, &context.caller).await?;
        Ok(IssuedToken { row, text: Some(text) })
    }
}

struct Revoke {
    id: TokenId,
    /// What is revoked, as the check found it: the record must say it, for the row will be gone.
    found: OnceLock<String>,
}

impl Revoke {
    async fn plan(&self, service: &Service, context: &Context) -> Result<(TokenRow, Seal), ServiceError> {
        let rows = service.catalog.tokens(context.caller.deadline).await?;
        let live = |row: &TokenRow| row.id == self.id && row.expires > context.now;
        let found = rows.iter().find(|checked| live(&checked.row)).ok_or_else(|| not_found(self.id))?;
        self.found.get_or_init(|| described(&found.row));
        Ok((TokenRow::clone(&found.row), found.seal))
    }
}

impl Work for Revoke {
    type Op = ops::TokensRevoke;
    type Out = TokenRow;

    fn detail(&self) -> Option<String> {
        self.found.get().cloned()
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<TokenRow, ServiceError> {
        Ok(self.plan(service, context).await?.0)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<TokenRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (row, seal) = self.plan(service, context).await?;
        let request = context.request_record(resource(row.id));
        let making = Making { name: "tokens.revoke", right: &permit, intent: context.intent, request, deadline };
        let put = Put::remove_token(row.clone(), seal);
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await;
        if matches!(&committed, Ok(_) | Err(ServiceError { problem: Problem::Unknown { .. }, .. })) {
            // Of unknown fate too: it was meant to end.
            service.issued.end(row.id);
        }
        Ok(Applied { out: row, heads: vec![committed?.mark] })
    }

    async fn again(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        _: &Context,
    ) -> Result<TokenRow, ServiceError> {
        // It is gone, as was asked; there is nothing left to show.
        Err(Problem::NotFound { name: name.to_owned() }.into())
    }
}

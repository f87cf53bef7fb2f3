//! Makes keys: generated in the HSM, or brought in from outside. Where the key comes from is a [`Source`];
//! all else (the checks, the intent, the rows, the commit, the outcome) is the same.

use std::{
    borrow::Cow,
    future::Future,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use strongroom_hsm::{
    KeyRow, KeyType, Material,
    protocol::{Generated, Kek, Moment, NewVersion},
};

use super::{check_ops, check_times, invalid};
use crate::{
    access::{Action, Barrier, Denied, Op, Permit, ops, state::usable},
    failpoint,
    model::{
        EventRow, EventType, KeyObjectRow, KeyOps, KeySpec, Residency, Scope, State, Timestamp, VaultRow, VersionId,
        VersionRow,
    },
    service::{
        Caller, KeyRef, KeyView, NewKey, Service,
        catalog::{Checked, key_id, vault_id},
        crypto::not_usable,
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        events, fresh_id,
        hands::Generates,
        rotation::look_at,
        scopes::{Locked, Making, NewRow, Put, Right},
        settle::REAP_WITHIN,
        version_name,
    },
    store::{HeadScope, WorkLease},
};

/// Where a key comes from.
pub(super) trait Source: Send + Sync + 'static {
    /// The operation.
    type Op: Op;

    /// Refuses what cannot come from there.
    fn check(&self, new: &NewKey) -> Result<(), ServiceError>;

    /// Makes the key of a version that does not exist yet. Called once.
    fn make(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        wanted: NewVersion,
        caller: &Caller,
    ) -> impl Future<Output = Result<Generated, ServiceError>> + Send;

    /// Says whether the key could be made, and its public half where that is known before.
    fn try_out(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        new: &NewKey,
        caller: &Caller,
    ) -> impl Future<Output = Result<Vec<u8>, ServiceError>> + Send {
        let _ = (service, permit, new, caller);
        async { Ok(Vec::new()) }
    }

    /// How it came to be, for the record: before its kind and residency.
    fn origin(&self) -> Cow<'static, str>;

    /// Whether it is known outside of the HSM.
    fn is_outside(&self) -> bool;

    /// Whether the key can be made once more, when what it was to be under has changed meanwhile.
    fn can_again(&self) -> bool {
        true
    }

    /// What it costs besides the key itself.
    fn extra_us(&self) -> u64 {
        0
    }

    /// See [`Work::holds_secret`].
    fn holds_secret(&self) -> bool {
        false
    }
}

/// Generated in the HSM, by that operation.
pub(super) struct Fresh<O>(PhantomData<O>);

impl<O> Fresh<O> {
    /// For that operation.
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<O: Generates> Source for Fresh<O> {
    type Op = O;

    fn check(&self, new: &NewKey) -> Result<(), ServiceError> {
        if new.residency == Residency::Public {
            return Err(invalid("version.residency", "a public half without a private one is imported, not created"));
        }
        Ok(())
    }

    async fn make(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        wanted: NewVersion,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        service.hands.generate(permit, wanted, caller).await
    }

    fn origin(&self) -> Cow<'static, str> {
        "".into()
    }

    fn is_outside(&self) -> bool {
        false
    }
}

/// Brought in from outside.
pub(super) struct Imported {
    /// Until it goes to the HSM.
    material: Mutex<Option<Material>>,
    is_secret: bool,
}

impl Imported {
    /// From that material.
    pub(super) fn new(material: Material) -> Self {
        Self { is_secret: material.is_secret(), material: Mutex::new(Some(material)) }
    }
}

impl Source for Imported {
    type Op = ops::KeysImport;

    fn check(&self, new: &NewKey) -> Result<(), ServiceError> {
        match (self.is_secret, new.residency) {
            (true, Residency::Wrapped | Residency::Token) | (false, Residency::Public) => Ok(()),
            (true, Residency::Public) => Err(invalid(
                "version.residency",
                "a secret or private key is not kept as a public half: import the public key",
            )),
            (false, _) => Err(invalid("version.residency", "a public key has no private half to keep in the HSM")),
        }
    }

    async fn make(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        wanted: NewVersion,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        let material = self.material.lock().unwrap_or_else(PoisonError::into_inner).take();
        let material = material.ok_or(Problem::Internal)?;
        service.hands.import(permit, wanted, material, caller).await
    }

    async fn try_out(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        _: &NewKey,
        _: &Caller,
    ) -> Result<Vec<u8>, ServiceError> {
        let material = self.material.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(material.as_ref().map(|material| material.public_half().to_vec()).unwrap_or_default())
    }

    fn origin(&self) -> Cow<'static, str> {
        if self.is_secret { "plain import ".into() } else { "public import ".into() }
    }

    fn is_outside(&self) -> bool {
        true
    }

    fn holds_secret(&self) -> bool {
        self.is_secret
    }

    /// What went to the HSM is not kept.
    fn can_again(&self) -> bool {
        false
    }
}

/// Brought in wrapped for a key of the same vault that is for nothing else.
pub(super) struct Wrapped {
    kek: KeyRef,
    /// `CKM_RSA_AES_KEY_WRAP`.
    blob: Vec<u8>,
}

impl Wrapped {
    /// Wrapped for that key, or its newest version.
    pub(super) const fn new(kek: KeyRef, blob: Vec<u8>) -> Self {
        Self { kek, blob }
    }

    /// The KEK, if it may bring keys in.
    async fn kek(&self, service: &Service, caller: &Caller) -> Result<(KeyRow, String), ServiceError> {
        let deadline = caller.deadline;
        let (action, scope) = (Action::KeysImport, Scope::key(&self.kek.vault, &self.kek.key));
        if !service.policy.now().allows(&caller.identity, action, &scope) {
            let principal = caller.principal().clone();
            return Err(Problem::Denied(Denied { principal, action, scope, by: Barrier::Rights }).into());
        }
        let vault = service.catalog.live_vault(&self.kek.vault, deadline).await?;
        let key = service.catalog.key(&vault.row, &self.kek.key, deadline).await?;
        if !key.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: self.kek.to_string() }.into());
        }
        let version = self.kek.version.unwrap_or(key.row.current);
        let version = service.catalog.version(&vault.row, &key.row, version, deadline).await?;
        usable(&version.row, KeyOps::IMPORT, service.clock.now())
            .map_err(|why| not_usable(&version.row, KeyOps::IMPORT, why))?;
        Ok((KeyRow::new(version.row.statement(), version.seal), version_name(&version.row)))
    }
}

impl Source for Wrapped {
    type Op = ops::KeysImport;

    fn check(&self, new: &NewKey) -> Result<(), ServiceError> {
        if self.kek.vault != new.vault {
            let why = format!("it is of vaults/{}: a key is brought in by one of its own vault", self.kek.vault);
            return Err(invalid("wrapped_key.kek", why));
        }
        if new.spec.key_type() == KeyType::Okp {
            return Err(invalid("version.key_type", "RSA, EC and oct keys can be brought in wrapped"));
        }
        match new.residency {
            Residency::Wrapped | Residency::Token => Ok(()),
            Residency::Public => Err(invalid("version.residency", "a wrapped key has its private half")),
        }
    }

    async fn make(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        wanted: NewVersion,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        let (kek, name) = self.kek(service, caller).await?;
        service.hands.import_wrapped(permit, wanted, (&kek, name), self.blob.clone(), caller).await
    }

    /// In the HSM, under the root, and away with it: nothing else says whether it opens.
    async fn try_out(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        new: &NewKey,
        caller: &Caller,
    ) -> Result<Vec<u8>, ServiceError> {
        let wanted = NewVersion::new(new.spec, Residency::Wrapped, fresh_id());
        Ok(self.make(service, permit, wanted, caller).await?.public.into_vec())
    }

    fn extra_us(&self) -> u64 {
        u64::from(KeySpec::Rsa4096.load_us())
    }

    fn origin(&self) -> Cow<'static, str> {
        format!("wrapped import by {} ", self.kek).into()
    }

    fn is_outside(&self) -> bool {
        true
    }
}

/// Makes a key, or a new version of one.
pub(super) struct MakeKey<S> {
    new: NewKey,
    version: VersionId,
    source: S,
    /// What it follows, where it is the successor of a certain version.
    follows: Option<Follows>,
    /// The key, once it is made: a change that another process was quicker than is decided again, and its key stays.
    made: Mutex<Option<Made>>,
}

/// A key that was made.
#[derive(Clone)]
struct Made {
    key: Generated,
    /// What it is wrapped under, unless that is the root of `init`.
    kek: Option<Kek>,
    /// The root of when it was made: with it the sealing key by which the HSM knows an imported key again.
    root: [u8; 16],
}

/// What a successor follows, and when it begins.
pub(super) struct Follows {
    /// The key, and its newest version, as they were when the successor was decided on.
    pub(super) revisions: (u64, u64),
    /// When it counts as made, where that is not now.
    pub(super) created: Timestamp,
    /// Whose turn it is, where it is made on a schedule.
    pub(super) lease: Option<WorkLease>,
}

impl Follows {
    /// Whether all is as it was: else the successor would bring back what was taken from its predecessor meanwhile.
    fn is_of(&self, key: &KeyObjectRow, newest: &VersionRow) -> bool {
        self.revisions == (key.revision, newest.revision)
    }
}

/// What a creation found: the vault, and the key with its newest version if it exists.
struct Place {
    vault: Arc<Checked<VaultRow>>,
    key: Option<(Arc<Checked<KeyObjectRow>>, Checked<VersionRow>)>,
}

impl<S: Source> MakeKey<S> {
    /// Under an id of its own: whoever asks does not choose what a version is called on the token.
    pub(super) fn new(new: NewKey, source: S) -> Self {
        Self { new, version: VersionId::from_bytes(fresh_id()), source, follows: None, made: Mutex::default() }
    }

    /// A successor.
    pub(super) fn after(follows: Follows, new: NewKey, version: VersionId, source: S) -> Self {
        Self { new, version, source, follows: Some(follows), made: Mutex::default() }
    }

    /// The key's own scope.
    pub(super) fn scope(&self) -> Scope {
        Scope::key(&self.new.vault, &self.new.name)
    }

    /// The key's resource name.
    pub(super) fn key_name(&self) -> String {
        format!("vaults/{}/keys/{}", self.new.vault, self.new.name)
    }

    async fn place(&self, service: &Service, deadline: Moment) -> Result<Place, ServiceError> {
        let new = &self.new;
        self.source.check(new)?;
        check_ops(new.ops.unwrap_or(KeyOps::NONE), new.spec, new.residency)?;
        check_times(new.not_before, new.expires)?;
        if self.brings_in() && self.source.is_outside() {
            let why =
                "a key that brings others in is made here: who knew this one outside could read what is sent wrapped";
            return Err(invalid("version.key_operations", why));
        }
        let vault = service.catalog.live_vault(&new.vault, deadline).await?;
        let key = match service.catalog.key(&vault.row, &new.name, deadline).await {
            Ok(key) => key,
            // A successor follows what is there: where nothing is any more, the key was purged or moved meanwhile.
            Err(ServiceError { problem: Problem::NotFound { .. }, .. }) if self.follows.is_none() => {
                return Ok(Place { vault, key: None });
            }
            Err(error) => return Err(error),
        };
        if !key.row.state.is_active() {
            return Err(Problem::Deleted { name: self.key_name() }.into());
        }
        if new.must_not_exist {
            return Err(Problem::Exists { name: self.key_name() }.into());
        }
        let newest = service.catalog.version(&vault.row, &key.row, key.row.current, deadline).await?;
        self.check_origin(&newest.row)?;
        if self.follows.as_ref().is_some_and(|follows| !follows.is_of(&key.row, &newest.row)) {
            // Another version, other operations, another policy: what was decided was decided on something else.
            return Err(Problem::Changed { name: self.key_name() }.into());
        }
        Ok(Place { vault, key: Some((key, newest)) })
    }

    /// Whether it is for bringing others in.
    fn brings_in(&self) -> bool {
        self.new.ops.is_some_and(|ops| ops.contains(KeyOps::IMPORT))
    }

    /// What was brought in does not take the place of what was generated: else a public key, or a secret that
    /// somebody knows, could be what everybody verifies or encrypts with from now on. The other way round is
    /// how a key that was known outside is left behind.
    fn check_origin(&self, newest: &VersionRow) -> Result<(), ServiceError> {
        let is_public = |residency| residency == Residency::Public;
        let (reason, why) = match (is_public(newest.residency), is_public(self.new.residency)) {
            (true, false) => ("PUBLIC_AND_PRIVATE", "has public halves only: make a key with its private half"),
            (false, true) => ("PUBLIC_AND_PRIVATE", "has private halves in the HSM: import a public key"),
            (false, false) if self.source.is_outside() && !newest.is_imported() => {
                ("GENERATED_IN_HSM", "was generated in the HSM: import a key that is known outside")
            }
            (_, _) if newest.ops.contains(KeyOps::IMPORT) != self.brings_in() => {
                ("IMPORT_STANDS_ALONE", "brings others in, or does not: make a key for the other")
            }
            (_, _) => return Ok(()),
        };
        Err(Problem::Precondition { reason, why: format!("{} {why} under another name", self.key_name()) }.into())
    }

    /// The key, made if it was not made yet.
    async fn make(&self, service: &Service, permit: &Permit<S::Op>, context: &Context) -> Result<Made, ServiceError> {
        if let Some(made) = self.made().clone() {
            return Ok(made);
        }
        let NewKey { vault, spec, residency, .. } = &self.new;
        let vault = service.catalog.live_vault(vault, context.caller.deadline).await?;
        let (kek, root) = (service.wrapped_under(&vault.row, *residency), service.instance().root_name());
        let wanted = NewVersion { spec: *spec, residency: *residency, version: self.version.bytes(), kek };
        let key = self.source.make(service, permit, wanted, &context.caller).await?;
        let made = Made { key, kek, root };
        *self.made() = Some(made.clone());
        Ok(made)
    }

    fn made(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key, and its place under the scope's lock. A key that was made while another root took the root's place is made once
    /// more: what is under the old one would be lost with it.
    async fn made_in_place(
        &self,
        service: &Service,
        permit: &Permit<S::Op>,
        context: &Context,
    ) -> Result<(Made, Locked, Place), ServiceError> {
        let deadline = context.caller.deadline;
        loop {
            let made = self.make(service, permit, context).await?;
            failpoint::hit("service.after_generate");
            // The vault's id is decided by its name: the lock can be taken before the vault is looked at again.
            let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.new.vault)), deadline).await?;
            if made.kek.is_some() && made.kek != service.root() {
                // After the lock: whoever takes a KEK off the vault's list writes the head that this is committed on.
                service.catch_up_service(deadline).await?;
            }
            let place = self.place(service, deadline).await?;
            let under = service.wrapped_under(&place.vault.row, self.new.residency);
            let is_in_place = made.kek == under || is_under_retired(&made, &place.vault.row);
            let is_known_again = !self.source.is_outside() || made.root == service.instance().root_name();
            if is_in_place && is_known_again {
                return Ok((made, locked, place));
            }
            // Under another KEK it is another vault of that name, or its KEK was retired so long ago that it is gone.
            let can_again = self.source.can_again() && self.new.residency == Residency::Wrapped;
            if !can_again || !is_in_place && place.vault.row.kek.is_some() {
                return Err(Problem::Changed { name: self.key_name() }.into());
            }
            *self.made() = None;
        }
    }

    fn key_row(&self, place: &Place, context: &Context) -> KeyObjectRow {
        match &place.key {
            Some((key, _)) => KeyObjectRow {
                current: self.version,
                noted: None,
                updated: context.now,
                intent: context.intent,
                revision: key.row.revision + 1,
                ..KeyObjectRow::clone(&key.row)
            },
            None => KeyObjectRow {
                id: key_id(place.vault.row.id, &self.new.name),
                vault: place.vault.row.name.clone(),
                name: self.new.name.clone(),
                current: self.version,
                state: State::Active,
                rotation: None,
                noted: None,
                due: None,
                created: context.now,
                updated: context.now,
                intent: context.intent,
                revision: 1,
            },
        }
    }

    fn version_row(&self, key: &KeyObjectRow, ordinal: u64, made: Made, context: &Context) -> VersionRow {
        let (new, Made { key: made, kek, .. }) = (&self.new, made);
        VersionRow {
            vault: key.vault.clone(),
            key: key.name.clone(),
            version: self.version,
            ordinal,
            spec: new.spec,
            ops: new.ops.unwrap_or(new.residency.possible_ops(new.spec)),
            enabled: new.enabled,
            not_before: new.not_before,
            expires: new.expires,
            tags: new.tags.clone(),
            residency: new.residency,
            blob: made.blob.into_vec(),
            kek: kek.map(|kek| VersionId::from_bytes(kek.id)),
            public: made.public.into_vec(),
            check_value: made.check_value.into_vec(),
            state: State::Active,
            intent: context.intent,
            created: self.follows.as_ref().map_or(context.now, |follows| follows.created),
            updated: context.now,
            revision: 1,
        }
    }

    /// The rows of a key that was made, and the change that puts them in place.
    fn rows(&self, place: &Place, made: Made, context: &Context) -> (KeyObjectRow, VersionRow, Vec<Put>) {
        let mut key = self.key_row(place, context);
        let ordinal = place.key.as_ref().map_or(1, |(_, newest)| newest.row.ordinal + 1);
        let version = self.version_row(&key, ordinal, made, context);
        key.due = look_at(&key, &version, 0, context.now);
        let key_put = match &place.key {
            Some((old, _)) => Put::replace(old.row.as_ref(), old.seal, NewRow::Key(key.clone())),
            None => Put::insert(NewRow::Key(key.clone())),
        };
        let puts = vec![key_put, Put::insert(NewRow::Version(Box::new(version.clone())))];
        (key, version, puts)
    }
}

impl<S: Source> Work for MakeKey<S> {
    type Op = S::Op;
    type Out = KeyView;

    fn detail(&self) -> Option<String> {
        Some(format!("{}{} {}", self.source.origin(), self.new.spec.name(), self.new.residency.name()))
    }

    fn holds_secret(&self) -> bool {
        self.source.holds_secret()
    }

    fn cost_us(&self) -> u64 {
        let spec = self.new.spec;
        u64::from(if self.source.is_outside() { 2 * spec.load_us() } else { spec.generate_us() })
            + self.source.extra_us()
    }

    async fn check(
        &self,
        service: &Service,
        permit: &Permit<S::Op>,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        let place = self.place(service, context.caller.deadline).await?;
        let public = if context.options.validate_only {
            self.source.try_out(service, permit, &self.new, &context.caller).await?
        } else {
            Vec::new()
        };
        let (blob, check_value) = (Vec::new().into(), Vec::new().into());
        let unmade = Generated { blob, public: public.into(), check_value };
        let kek = service.wrapped_under(&place.vault.row, self.new.residency);
        let unmade = Made { key: unmade, kek, root: service.instance().root_name() };
        let (key, version, _) = self.rows(&place, unmade, context);
        Ok(KeyView { vault: Arc::clone(&place.vault.row), key: Arc::new(key), version: Arc::new(version) })
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<S::Op>,
        context: &Context,
    ) -> Result<Applied<KeyView>, ServiceError> {
        let deadline = context.caller.deadline;
        let (made, locked, place) = self.made_in_place(service, &permit, context).await?;
        let (key, version, puts) = self.rows(&place, made, context);
        let request = context.request_record(version_name(&version));
        let right: &dyn Right = match self.follows.as_ref().and_then(|follows| follows.lease.as_ref()) {
            Some(lease) => lease,
            None => &permit,
        };
        let making = Making { name: S::Op::ACTION.name(), right, intent: context.intent, request, deadline };
        let name = KeyRef { vault: key.vault.clone(), key: key.name.clone(), version: Some(version.version) };
        let event = events::of_key(EventType::KeyNewVersionCreated, &context.caller, context.now, &name);
        let detail = format!("{} {}", version.spec.name(), version.residency.name());
        let event = EventRow { due: version.expires, detail, ..event };
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, puts, vec![event]).await?;
        let out = KeyView { vault: Arc::clone(&place.vault.row), key: Arc::new(key), version: Arc::new(version) };
        Ok(Applied { out, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<S::Op>,
        resource: &str,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        let version = resource.rsplit('/').next().and_then(|version| version.parse().ok());
        let name = KeyRef { vault: self.new.vault.clone(), key: self.new.name.clone(), version };
        service.view(&name, context.caller.deadline).await
    }

    fn version(&self) -> Option<VersionId> {
        Some(self.version)
    }

    async fn undo(&self, service: &Service, _: &Context) -> Result<(), ServiceError> {
        if self.new.residency != Residency::Token {
            return Ok(());
        }
        // The caller's deadline may have passed; cleaning up has its own.
        service.hands.reap(self.version, Moment::now().after(REAP_WITHIN)).await
    }
}

/// Whether a key is under a KEK of its vault that was retired while it was made.
fn is_under_retired(made: &Made, vault: &VaultRow) -> bool {
    made.kek.is_some_and(|kek| vault.retired_keks.iter().any(|retired| retired.id.bytes() == kek.id))
}

//! Setting a secret: a new version each time, under the data key of the secret, which the first brings along.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_hsm::{
    KeyRow, Residency, SecretBytes,
    protocol::{Generated, Kek, Moment, NewVersion},
};

use super::{NewSecret, SecretRef, SecretView, check_content_type, event, look_at, secret_version_name};
use crate::{
    access::{Permit, ops},
    failpoint,
    model::{EventRow, EventType, SecretRow, SecretVersionRow, State, VaultRow, VersionId, secrets::VALUE_BYTES_MAX},
    service::{
        Service,
        catalog::{Checked, secret_id, vault_id},
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        fresh_id,
        hands::EncryptedValue,
        keys::{check_times, invalid},
        scopes::{Locked, Making, NewRow, Put},
    },
    store::HeadScope,
};

/// Makes a version.
pub(super) struct SetSecret {
    new: NewSecret,
    version: VersionId,
    /// The data key that comes with a new secret, once it is made: a change that another process was quicker than is decided
    /// again, and its key stays.
    made: Mutex<Option<DataKey>>,
}

/// A data key that was made.
#[derive(Clone)]
struct DataKey {
    id: VersionId,
    key: Generated,
    /// What it is wrapped under, unless that is the root of `init`.
    kek: Option<Kek>,
}

/// What a value is put under: the secret as it is, or as it will be.
struct Place {
    vault: Arc<Checked<VaultRow>>,
    secret: Option<(Checked<SecretRow>, u64)>,
}

impl SetSecret {
    pub(super) fn new(new: NewSecret) -> Self {
        Self { new, version: VersionId::from_bytes(fresh_id()), made: Mutex::default() }
    }

    pub(super) fn name(&self) -> SecretRef {
        SecretRef { vault: self.new.vault.clone(), secret: self.new.name.clone(), version: None }
    }

    fn check_new(&self) -> Result<(), ServiceError> {
        if self.new.value.len() > VALUE_BYTES_MAX {
            let why = format!("{} bytes; at most {VALUE_BYTES_MAX}", self.new.value.len());
            return Err(invalid("value", why));
        }
        check_content_type(&self.new.content_type)?;
        check_times(self.new.not_before, self.new.expires)
    }

    /// Where the version comes to: with the secret, the place of its newest version.
    async fn place(&self, service: &Service, deadline: Moment) -> Result<Place, ServiceError> {
        self.check_new()?;
        let vault = service.catalog.live_vault(&self.new.vault, deadline).await?;
        let secret = match service.catalog.secret(&vault.row, &self.new.name, deadline).await {
            Ok(secret) => secret,
            Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => return Ok(Place { vault, secret: None }),
            Err(error) => return Err(error),
        };
        let name = || self.name().to_string();
        if !secret.row.state.is_active() {
            return Err(Problem::Deleted { name: name() }.into());
        }
        if self.new.must_not_exist {
            return Err(Problem::Exists { name: name() }.into());
        }
        let newest = service.catalog.secret_version(&vault.row, &secret.row, secret.row.current, deadline).await?;
        Ok(Place { vault, secret: Some((secret, newest.row.ordinal)) })
    }

    fn made(&self) -> MutexGuard<'_, Option<DataKey>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data key of a new secret, made if it was not made yet.
    async fn data_key(
        &self,
        service: &Service,
        vault: &VaultRow,
        permit: &Permit<ops::SecretsSet>,
        context: &Context,
    ) -> Result<DataKey, ServiceError> {
        let kek = service.wrapped_under(vault, Residency::Wrapped);
        if let Some(made) = self.made().clone().filter(|made| made.kek == kek) {
            return Ok(made);
        }
        let id = VersionId::from_bytes(fresh_id());
        let wanted = NewVersion { spec: SecretRow::SPEC, residency: Residency::Wrapped, version: id.bytes(), kek };
        let key = service.hands.generate(permit, wanted, &context.caller).await?;
        let made = DataKey { id, key, kek };
        *self.made() = Some(made.clone());
        Ok(made)
    }

    /// The secret's row with the new version as its newest.
    fn secret_row(&self, place: &Place, made: Option<DataKey>, context: &Context) -> SecretRow {
        let row = match (&place.secret, made) {
            (Some((old, _)), _) => SecretRow {
                current: self.version,
                noted: None,
                updated: context.now,
                intent: context.intent,
                revision: old.row.revision + 1,
                ..SecretRow::clone(&old.row)
            },
            (None, made) => SecretRow {
                id: secret_id(place.vault.row.id, &self.new.name),
                vault: place.vault.row.name.clone(),
                name: self.new.name.clone(),
                current: self.version,
                data_key: made.as_ref().map_or(self.version, |made| made.id),
                blob: made.as_ref().map(|made| made.key.blob.to_vec()).unwrap_or_default(),
                kek: made.as_ref().and_then(|made| made.kek).map(|kek| VersionId::from_bytes(kek.id)),
                check_value: made.map(|made| made.key.check_value.into_vec()).unwrap_or_default(),
                state: State::Active,
                noted: None,
                due: None,
                created: context.now,
                updated: context.now,
                intent: context.intent,
                revision: 1,
            },
        };
        let due = look_at(&row, &self.version_row(place, &row, None, context), context.now);
        SecretRow { due, ..row }
    }

    fn version_row(
        &self,
        place: &Place,
        secret: &SecretRow,
        value: Option<EncryptedValue>,
        context: &Context,
    ) -> SecretVersionRow {
        let (new, value) = (&self.new, value.unwrap_or(EncryptedValue { ciphertext: vec![], iv: vec![], tag: vec![] }));
        SecretVersionRow {
            vault: secret.vault.clone(),
            secret: secret.name.clone(),
            version: self.version,
            ordinal: place.secret.as_ref().map_or(1, |(_, newest)| newest + 1),
            content_type: new.content_type.clone(),
            enabled: new.enabled,
            not_before: new.not_before,
            expires: new.expires,
            tags: new.tags.clone(),
            iv: value.iv,
            tag: value.tag,
            ciphertext: value.ciphertext,
            intent: context.intent,
            created: context.now,
            updated: context.now,
            revision: 1,
        }
    }

    /// The value under the data key of that row.
    async fn encrypt(
        &self,
        service: &Service,
        permit: &Permit<ops::SecretsSet>,
        key: &Arc<KeyRow>,
        version: &SecretVersionRow,
        context: &Context,
    ) -> Result<EncryptedValue, ServiceError> {
        let value = SecretBytes::from(self.new.value.expose_secret().to_vec());
        service.hands.encrypt_secret(permit, key, version.additional_data(), value, &context.caller).await
    }

    /// The rows, with the value encrypted, and the lock under which they are put in place. A data key that was made while
    /// another root or KEK took the place of what it is under is made once more.
    async fn encrypted_in_place(
        &self,
        service: &Service,
        permit: &Permit<ops::SecretsSet>,
        context: &Context,
    ) -> Result<(Locked, Place, SecretRow, SecretVersionRow), ServiceError> {
        let deadline = context.caller.deadline;
        loop {
            let before = self.place(service, deadline).await?;
            let made = match &before.secret {
                Some(_) => None,
                None => Some(self.data_key(service, &before.vault.row, permit, context).await?),
            };
            let kek = made.as_ref().map(|made| made.kek);
            let row = self.secret_row(&before, made.clone(), context);
            let key = match &before.secret {
                Some((old, _)) => Arc::new(KeyRow::new(old.row.statement(), old.seal)),
                None => Arc::new(service.sealed_key(&row, deadline).await?),
            };
            let version = self.version_row(&before, &row, None, context);
            let value = match self.encrypt(service, permit, &key, &version, context).await {
                Ok(value) => value,
                // Another root took the root's place since it was read.
                Err(_) if before.secret.as_ref().is_some_and(|(secret, _)| !secret.is_current()) => continue,
                Err(error) => return Err(error),
            };
            failpoint::hit("service.after_generate");
            let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.new.vault)), deadline).await?;
            let place = self.place(service, deadline).await?;
            let is_same = match (&before.secret, &place.secret) {
                (None, None) => {
                    service.catch_up_service(deadline).await?;
                    kek == Some(service.wrapped_under(&place.vault.row, Residency::Wrapped))
                }
                (Some((before, _)), Some((now, _))) => before.row.data_key == now.row.data_key,
                _ => false,
            };
            if is_same {
                let secret = self.secret_row(&place, made, context);
                let version = self.version_row(&place, &secret, Some(value), context);
                return Ok((locked, place, secret, version));
            }
        }
    }
}

impl Service {
    /// The data key of a secret that has no row yet, as a worker takes it.
    pub(super) async fn sealed_key(&self, row: &SecretRow, deadline: Moment) -> Result<KeyRow, ServiceError> {
        let statement = row.statement();
        let seals = self.pool.seal(vec![statement.encode()], deadline).await;
        let seals = seals.map_err(crate::service::hands::outage)?;
        Ok(KeyRow::new(statement, *seals.first().ok_or(Problem::Internal)?))
    }
}

impl Work for SetSecret {
    type Op = ops::SecretsSet;
    type Out = SecretView;

    fn holds_secret(&self) -> bool {
        true
    }

    fn cost_us(&self) -> u64 {
        u64::from(SecretRow::SPEC.generate_us())
    }

    fn version(&self) -> Option<VersionId> {
        Some(self.version)
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<SecretView, ServiceError> {
        let place = self.place(service, context.caller.deadline).await?;
        let secret = self.secret_row(&place, None, context);
        let version = Arc::new(self.version_row(&place, &secret, None, context));
        Ok(SecretView { vault: Arc::clone(&place.vault.row), secret: Arc::new(secret), version })
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<SecretView>, ServiceError> {
        let deadline = context.caller.deadline;
        let (locked, place, secret, version) = self.encrypted_in_place(service, &permit, context).await?;
        let secret_put = match &place.secret {
            Some((old, _)) => Put::replace(old.row.as_ref(), old.seal, NewRow::Secret(Box::new(secret.clone()))),
            None => Put::insert(NewRow::Secret(Box::new(secret.clone()))),
        };
        let puts = vec![secret_put, Put::insert(NewRow::SecretVersion(Box::new(version.clone())))];
        let request = context.request_record(secret_version_name(&version));
        let making = Making { name: "secrets.set", right: &permit, intent: context.intent, request, deadline };
        let name = SecretRef { version: Some(self.version), ..self.name() };
        let event = EventRow { due: version.expires, ..event(EventType::SecretNewVersionCreated, context, &name) };
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, puts, vec![event]).await?;
        let vault = Arc::clone(&place.vault.row);
        let out = SecretView { vault, secret: Arc::new(secret), version: Arc::new(version) };
        Ok(Applied { out, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        resource: &str,
        context: &Context,
    ) -> Result<SecretView, ServiceError> {
        service.secret_again(&self.name(), resource, context).await
    }
}

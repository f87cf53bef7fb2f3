//! Purging secrets: on demand, when their time has come, and with their vault. There is nothing of them on the token.

use std::sync::{Arc, OnceLock};

use strongroom_hsm::protocol::Moment;

use super::{SecretRef, event};
use crate::{
    access::{Permit, ops},
    model::{EventType, Fate, SecretRow, SecretVersionRow, VaultRow},
    service::{
        Caller, ChangeOptions, Page, Service,
        catalog::{Checked, vault_id},
        door::{Applied, Context, Work},
        error::ServiceError,
        known::Memory,
        purge::{Schedule, may_purge},
        scopes::{Making, NewRow, Put, Right},
    },
    store::HeadScope,
};

/// How many rows are read at once.
const ROWS: u32 = 1_000;

impl Service {
    /// Destroys a deleted secret with all its versions; says how many versions that were.
    ///
    /// # Errors
    /// [`Problem::NotFound`](crate::service::Problem::NotFound);
    /// [`Problem::Precondition`](crate::service::Problem::Precondition) when it is not deleted, or the vault has purge
    /// protection.
    pub async fn purge_secret(
        self: &Arc<Self>,
        caller: &Caller,
        name: &SecretRef,
        options: ChangeOptions,
    ) -> Result<usize, ServiceError> {
        let work = PurgeSecret { name: name.clone(), schedule: None, said: OnceLock::new() };
        self.change(caller, name.to_string(), name.scope(), options, work).await
    }

    /// Destroys a secret whose time has come.
    pub(in crate::service) async fn purge_one_secret(
        self: &Arc<Self>,
        caller: &Caller,
        name: &SecretRef,
        schedule: Schedule,
    ) -> Result<(), ServiceError> {
        let work = PurgeSecret { name: name.clone(), schedule: Some(schedule), said: OnceLock::new() };
        self.scheduled(caller, name.to_string(), name.scope(), work).await.map(drop)
    }

    /// A secret's row with all its versions, to be taken away, or with as many versions as that. Says how many they were, and
    /// whether that was all.
    pub(in crate::service) async fn doom_secret(
        &self,
        vault: &VaultRow,
        secret: &Checked<SecretRow>,
        versions_max: usize,
        puts: &mut Vec<Put>,
        deadline: Moment,
    ) -> Result<(usize, bool), ServiceError> {
        let (mut count, mut page) = (0, Page { size: ROWS, after: None, deleted: true });
        loop {
            let versions = self.catalog.secret_versions(vault, &secret.row, &page, deadline).await?;
            let Some(last) = versions.last() else { break };
            page.after = Some(last.row.ordinal);
            for version in versions {
                if count >= versions_max {
                    return Ok((count, false));
                }
                count += 1;
                let row = Box::new(SecretVersionRow::clone(&version.row));
                puts.push(Put::remove(NewRow::RemoveSecretVersion(row), version.seal));
            }
        }
        puts.push(Put::remove(NewRow::RemoveSecret(Box::new(SecretRow::clone(&secret.row))), secret.seal));
        Ok((count, true))
    }
}

/// Destroys a deleted secret.
struct PurgeSecret {
    name: SecretRef,
    schedule: Option<Schedule>,
    /// How many versions, as the intent says.
    said: OnceLock<usize>,
}

impl PurgeSecret {
    async fn plan(&self, service: &Service, context: &Context) -> Result<(Vec<Put>, usize), ServiceError> {
        use crate::model::Row as _;
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let secret = service.catalog.secret(&vault.row, &self.name.secret, deadline).await?;
        let name = self.name.to_string();
        context.check_etag(&secret.row.etag(), &name)?;
        may_purge(secret.row.state, &vault.row, &name, self.schedule.as_ref())?;
        let mut puts = Vec::new();
        let (versions, _) = service.doom_secret(&vault.row, &secret, usize::MAX, &mut puts, deadline).await?;
        if let Some(known) = service.known(&vault.row, secret.row.id, deadline).await? {
            let memory = Memory { fate: Fate::Purged, at: context.now };
            puts.push(Service::remember_secret(&known, &secret.row, memory));
        }
        Ok((puts, versions))
    }
}

impl Work for PurgeSecret {
    type Op = ops::SecretsPurge;
    type Out = usize;

    fn detail(&self) -> Option<String> {
        self.said.get().map(|versions| format!("{versions} versions"))
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<usize, ServiceError> {
        let (_, versions) = self.plan(service, context).await?;
        Ok(*self.said.get_or_init(|| versions))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<usize>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.name.vault)), deadline).await?;
        let (puts, versions) = self.plan(service, context).await?;
        let request = context.request_record(self.name.to_string());
        let lease = self.schedule.as_ref().and_then(|schedule| schedule.lease.as_ref());
        let right: &dyn Right = lease.map_or(&permit as &dyn Right, |lease| lease);
        let making = Making { name: "secrets.purge", right, intent: context.intent, request, deadline };
        let event = event(EventType::SecretPurged, context, &self.name);
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, puts, vec![event]).await?;
        Ok(Applied { out: versions, heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<usize, ServiceError> {
        // How many there were is not known any more.
        Ok(0)
    }
}

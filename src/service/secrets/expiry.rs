//! Telling of the expiry of secrets: thirty days before the newest version expires, and when it does. The planner of keys says
//! when ([`crate::rotation`]): a secret is to it a key without a policy.

use std::sync::Arc;

use super::{SecretRef, secret_version_name};
use crate::{
    audit::{Durability, Kind, Outcome, Record},
    model::{EventRow, EventType, SecretRow, SecretVersionRow, Timestamp},
    rotation::{Due, KeyLife, Mark, VersionLife, Work as Step, WorkKind, next_due, plan},
    service::{
        Caller, Service,
        catalog::{Checked, vault_id},
        error::{Problem, ServiceError},
        events,
        rotation::{PRINCIPAL, ROWS, Turn},
        scopes::{Making, NewRow, Put},
    },
    store::{HeadScope, ToLookAt, WorkLease},
};

/// A secret as the planner sees it.
fn life(secret: &SecretRow, newest: &SecretVersionRow) -> KeyLife {
    let mark = |kind| secret.noted.map(|at| Mark { version: newest.version, kind, at });
    KeyLife {
        key: secret.id,
        state: secret.state,
        policy: None,
        current: VersionLife {
            version: newest.version,
            created: newest.created,
            expires: newest.expires,
            enabled: newest.enabled,
            uses: 0,
        },
        done: [WorkKind::NotifyNearExpiry, WorkKind::NotifyExpired].into_iter().filter_map(mark).collect(),
    }
}

/// When somebody is to look at a secret, if ever.
pub(super) fn look_at(secret: &SecretRow, newest: &SecretVersionRow, now: Timestamp) -> Option<Timestamp> {
    if secret.state.is_active() { next_due(&life(secret, newest), now) } else { None }
}

/// A secret in use, with its newest version.
type Found = (Checked<SecretRow>, Checked<SecretVersionRow>);

impl Service {
    /// Tells of the expiry of secrets whose time has come, as long as the turn lasts.
    pub(in crate::service) async fn tell_of_secrets(self: &Arc<Self>, turn: &Turn<'_>) -> Result<(), ServiceError> {
        let mut after = None;
        while !turn.is_over() {
            let rows = self.store.secrets_due(self.clock.now(), after, ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = last.due.map(|due| (due, last.id));
            for ToLookAt { id, vault, object, .. } in rows {
                // What a row says that is not checked is a reason to look, and nothing else.
                if turn.is_over() || !self.is_ripe(id) {
                    continue;
                }
                let name = SecretRef { vault, secret: object, version: None };
                let result = self.look_at_secret(&name, turn.lease()).await;
                self.ended(id, &name.to_string(), result, turn);
            }
        }
        Ok(())
    }

    async fn look_at_secret(&self, name: &SecretRef, lease: &WorkLease) -> Result<(), ServiceError> {
        let caller = self.itself(PRINCIPAL);
        let (secret, newest) = self.current_secret(name, &caller).await?;
        let now = self.clock.now();
        let plan = plan(&life(&secret.row, &newest.row), now, now);
        for due in &plan.due {
            self.tell_of_secret(name, due, lease, &caller).await?;
        }
        if plan.due.is_empty() && look_at(&secret.row, &newest.row, now) != secret.row.due {
            self.note_secret(name, lease, &caller, None, None).await?;
        }
        Ok(())
    }

    /// Gives a notice, and then notes that it was given.
    async fn tell_of_secret(
        &self,
        name: &SecretRef,
        due: &Due,
        lease: &WorkLease,
        caller: &Caller,
    ) -> Result<(), ServiceError> {
        let (_, newest) = self.current_secret(name, caller).await?;
        let (operation, kind) = match due.work {
            Step::NotifyNearExpiry => ("secrets.nearExpiry", EventType::SecretNearExpiry),
            Step::NotifyExpired => ("secrets.expired", EventType::SecretExpired),
            // A key without a policy is neither rotated, nor purged while it is in use.
            Step::Rotate { .. } | Step::Purge => return Ok(()),
        };
        if newest.row.version != due.version {
            return Ok(());
        }
        let record = Record {
            principal: Some(PRINCIPAL.to_owned()),
            source: Some(caller.source.clone()),
            resource: Some(secret_version_name(&newest.row)),
            request: Some(caller.request.clone()),
            detail: newest.row.expires.map(|expires| format!("expires {expires}")),
            ..Record::new(self.clock.now(), Kind::Event, operation, Outcome::Done)
        };
        self.append(caller, record, Durability::Fsync).await?;
        let event = events::of_vault(kind, caller, self.clock.now(), &name.vault);
        let (object, version) = (Some(name.secret.clone()), Some(due.version));
        let event = EventRow { object, version, due: newest.row.expires, ..event };
        self.note_secret(name, lease, caller, Some(event), Some(due.at)).await
    }

    /// Keeps in the secret's row up to when notices were given and when to look at it again, under the lease. Whoever is
    /// overtaken looks again with the next pass.
    async fn note_secret(
        &self,
        name: &SecretRef,
        lease: &WorkLease,
        caller: &Caller,
        event: Option<EventRow>,
        noted: Option<Timestamp>,
    ) -> Result<(), ServiceError> {
        let scope = HeadScope::Vault(vault_id(&name.vault));
        let locked = self.catalog.scopes.lock(scope, caller.deadline).await?;
        let (old, newest) = self.current_secret(name, caller).await?;
        let mut new = SecretRow { revision: old.row.revision + 1, ..SecretRow::clone(&old.row) };
        new.noted = noted.or(new.noted);
        new.due = look_at(&new, &newest.row, self.clock.now());
        let put = Put::replace(old.row.as_ref(), old.seal, NewRow::Secret(Box::new(new)));
        let making = Making { name: "secrets.note", right: lease, intent: 0, request: None, deadline: caller.deadline };
        let events = event.into_iter().collect();
        let committed = self.catalog.scopes.commit_and_tell(&locked, making, vec![put], events).await?;
        let record = Record {
            principal: Some(PRINCIPAL.to_owned()),
            source: Some(caller.source.clone()),
            resource: Some(name.to_string()),
            request: Some(caller.request.clone()),
            heads: vec![committed.mark],
            ..Record::new(self.clock.now(), Kind::Event, "secrets.note", Outcome::Done)
        };
        self.append(caller, record, Durability::Write).await?;
        Ok(())
    }

    async fn current_secret(&self, name: &SecretRef, caller: &Caller) -> Result<Found, ServiceError> {
        let vault = self.catalog.live_vault(&name.vault, caller.deadline).await?;
        let secret = self.catalog.secret(&vault.row, &name.secret, caller.deadline).await?;
        if !secret.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: name.to_string() }.into());
        }
        let newest = self.catalog.secret_version(&vault.row, &secret.row, secret.row.current, caller.deadline).await?;
        Ok((secret, newest))
    }
}

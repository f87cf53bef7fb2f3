//! Events: made with the changes they tell of, told to those who watch, and delivered to webhooks.

use std::{collections::HashSet, sync::Arc, time::Duration};

use strongroom_hsm::protocol::Moment;

use super::{
    Caller, ChangeOptions, KeyRef, Service,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    fresh_id,
    quota::ROW_US,
};
use crate::{
    access::{Permit, Where, ops},
    model::{EventRow, EventType, Row as _, Scope, Timestamp, VaultName},
    store::{Change, CommitError, DeadLetter, EventPlace, Sealed, WebhookState, WorkLease},
};

/// For how long events are kept, for those who come back.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// For how long dead letters are kept.
pub const LETTERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many events are read at once.
pub const PAGE: u32 = 256;

/// How long it may take to read them.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Which events are wanted; all where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of that vault.
    pub vault: Option<VaultName>,
    /// Of these types.
    pub types: Vec<EventType>,
}

impl EventFilter {
    /// Whether it is one of them.
    #[must_use]
    pub fn wants(&self, event: &EventRow) -> bool {
        self.vault.as_ref().is_none_or(|vault| *vault == event.vault)
            && (self.types.is_empty() || self.types.contains(&event.kind))
    }

    /// As records name it.
    fn resource(&self) -> String {
        self.vault.as_ref().map_or_else(|| "events".to_owned(), |vault| format!("vaults/{vault}/events"))
    }

    /// Where the right to see them is held.
    fn scope(&self) -> Scope {
        self.vault.clone().map_or(Scope::Service, Scope::Vault)
    }
}

/// From where on somebody wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What comes from now on.
    Now,
    /// Everything that is still kept.
    Beginning,
    /// What comes after that event.
    After(EventPlace),
}

/// An event of a key or one of its versions.
pub(super) fn of_key(kind: EventType, caller: &Caller, now: Timestamp, name: &KeyRef) -> EventRow {
    EventRow { object: Some(name.key.clone()), version: name.version, ..of_vault(kind, caller, now, &name.vault) }
}

/// An event of a vault.
pub(super) fn of_vault(kind: EventType, caller: &Caller, now: Timestamp, vault: &VaultName) -> EventRow {
    EventRow {
        id: fresh_id(),
        kind,
        time: now,
        vault: vault.clone(),
        object: None,
        version: None,
        principal: caller.principal().as_str().to_owned(),
        due: None,
        detail: String::new(),
    }
}

/// Somebody who is told of events, as long as he may be.
pub struct Watch {
    service: Arc<Service>,
    permit: Permit<ops::EventsRead>,
    filter: EventFilter,
    /// When the vault that is watched was made; none where all are.
    made: Option<Timestamp>,
    at: EventPlace,
}

/// Some of what there is to tell.
#[derive(Debug)]
pub struct Portion {
    /// What is wanted of it, oldest first; there may be nothing.
    pub events: Vec<EventRow>,
    /// Where to go on after it.
    pub place: EventPlace,
    /// There is nothing more yet.
    pub is_all: bool,
}

impl Service {
    /// Begins to tell of events.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when the vault does not exist; [`Problem::Precondition`] when events after that place were
    /// forgotten, or it is none of this store.
    pub async fn watch_events(
        self: &Arc<Self>,
        caller: &Caller,
        filter: EventFilter,
        from: From,
    ) -> Result<Watch, ServiceError> {
        let note = Note::default();
        let (resource, scope) = (filter.resource(), filter.scope());
        self.plain(caller, resource, scope, &note, |permit: Permit<ops::EventsRead>| async {
            let made = match &filter.vault {
                Some(vault) => Some(self.catalog.vault(vault, caller.deadline).await?.row.created),
                None => None,
            };
            let at = self.place(from).await?;
            Ok(Watch { service: Arc::clone(self), permit, filter, made, at })
        })
        .await
    }

    /// Keeps an event of which no row tells.
    pub(super) async fn tell(&self, event: EventRow, lease: &WorkLease, deadline: Moment) -> Result<(), ServiceError> {
        let seals = self.pool.seal(vec![event.canonical()], deadline).await.map_err(super::hands::outage)?;
        let seal = *seals.first().ok_or(Problem::Internal)?;
        let change = Change {
            name: "events.tell",
            writes: Vec::new(),
            heads: Vec::new(),
            request: None,
            lease: Some(lease.clone()),
            events: vec![Sealed::new(event, seal)],
            is_urgent: false,
        };
        match self.store.commit(change).await {
            Ok(_) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error) => Err(ServiceError::because(Problem::Changed { name: "the event".to_owned() }, error)),
        }
    }

    async fn place(&self, from: From) -> Result<EventPlace, ServiceError> {
        let (forgotten, newest) = self.store.event_bounds().await?;
        match from {
            From::Now => Ok(newest),
            From::Beginning => Ok(forgotten),
            From::After(place) if place < forgotten => {
                let why =
                    "events after that place were forgotten: begin without one, and read what there is".to_owned();
                Err(Problem::Precondition { reason: "EVENTS_FORGOTTEN", why }.into())
            }
            From::After(place) if place > newest => {
                let why = "no event of this store stands there: was another store put in its place?".to_owned();
                Err(Problem::Precondition { reason: "EVENTS_UNKNOWN", why }.into())
            }
            From::After(place) => Ok(place),
        }
    }

    /// Events after a place, checked. One that cannot be read is left out, and one that is not ours: nobody is told what
    /// somebody wrote into the store.
    pub(super) async fn checked_events(
        &self,
        found: Vec<(EventPlace, Option<Sealed<EventRow>>)>,
        deadline: Moment,
    ) -> Result<Vec<(EventPlace, EventRow)>, ServiceError> {
        let found: Vec<_> = found.into_iter().filter_map(|(place, event)| Some((place, event?))).collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let pairs = found.iter().map(|(_, event)| (event.unchecked().canonical(), *event.seal())).collect();
        let verdicts = self.pool.check_seals(pairs, deadline).await.map_err(super::hands::outage)?;
        let right = found.into_iter().zip(verdicts).filter_map(|((place, event), right)| {
            if !right {
                tracing::error!(%place, "an event in the store has a wrong seal: nobody is told of it");
            }
            right.then(|| (place, event.into_unchecked().0))
        });
        Ok(right.collect())
    }

    /// Lists what waits for webhooks.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list_webhooks(&self, caller: &Caller) -> Result<Vec<WebhookState>, ServiceError> {
        let note = Note::default();
        self.plain(caller, "webhooks".to_owned(), Scope::Service, &note, |_: Permit<ops::WebhooksRead>| async {
            let found = self.store.webhooks().await?;
            note.charge(ROW_US * found.len() as u64);
            Ok(found)
        })
        .await
    }

    /// Lists deliveries that were given up.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when there never was such a webhook.
    pub async fn list_dead_letters(
        &self,
        caller: &Caller,
        webhook: &str,
        after: EventPlace,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, ServiceError> {
        let note = Note::default();
        let resource = format!("webhooks/{webhook}/deadLetters");
        self.plain(caller, resource, Scope::Service, &note, |_: Permit<ops::WebhooksRead>| async {
            self.known_webhook(webhook).await?;
            let found = self.store.dead_letters(webhook, after, limit).await?;
            note.charge(ROW_US * found.len() as u64);
            let events = found.iter().map(|letter| (letter.place, Some(letter.event.clone()))).collect();
            let right: HashSet<EventPlace> =
                self.checked_events(events, caller.deadline).await?.into_iter().map(|(place, _)| place).collect();
            Ok(found.into_iter().filter(|letter| right.contains(&letter.place)).collect())
        })
        .await
    }

    /// Queues dead letters again: that of one event, or all. Says how many.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when there never was such a webhook, or it has no dead letter of that event.
    pub async fn replay_dead_letters(
        self: &Arc<Self>,
        caller: &Caller,
        webhook: &str,
        event: Option<[u8; 16]>,
    ) -> Result<u64, ServiceError> {
        let resource = format!("webhooks/{webhook}/deadLetters");
        let work = ReplayDeadLetters { webhook: webhook.to_owned(), event };
        self.change(caller, resource, Scope::Service, ChangeOptions::default(), work).await
    }

    async fn known_webhook(&self, webhook: &str) -> Result<(), ServiceError> {
        match self.store.webhook(webhook).await? {
            Some(_) => Ok(()),
            None => Err(Problem::NotFound { name: format!("webhooks/{webhook}") }.into()),
        }
    }
}

/// Queues dead letters again. Deliveries are under no head: they can be repeated, and none can be made up.
struct ReplayDeadLetters {
    webhook: String,
    event: Option<[u8; 16]>,
}

impl Work for ReplayDeadLetters {
    type Op = ops::WebhooksReplay;
    type Out = u64;

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, _: &Context) -> Result<u64, ServiceError> {
        service.known_webhook(&self.webhook).await.map(|()| 0)
    }

    async fn apply(&self, service: &Service, _: Permit<Self::Op>, _: &Context) -> Result<Applied<u64>, ServiceError> {
        let queued = service.store.replay(&self.webhook, self.event).await?;
        match self.event {
            Some(id) if queued == 0 => {
                let name = format!("webhooks/{}/deadLetters/{}", self.webhook, uuid::Uuid::from_bytes(id));
                Err(Problem::NotFound { name }.into())
            }
            _ => Ok(Applied { out: queued, heads: Vec::new() }),
        }
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<u64, ServiceError> {
        Ok(0)
    }
}

impl Watch {
    /// Some of what there is to tell, at once.
    ///
    /// # Errors
    /// [`Problem::Denied`] once the caller may not be told any more; when the store or the HSM does not answer.
    pub async fn more(&mut self) -> Result<Portion, ServiceError> {
        let deadline = Moment::now().after(READ_WITHIN);
        self.service.catch_up(&Where::At(self.filter.scope()), deadline).await?;
        self.check()?;
        let found = self.service.store.events(self.at, PAGE).await?;
        let is_all = found.len() < PAGE as usize;
        let last = found.last().map(|(place, _)| *place);
        let checked = self.service.checked_events(found, deadline).await?;
        let events = checked.into_iter().map(|(_, event)| event);
        let events = events.filter(|event| self.filter.wants(event) && is_of_one_made(self.made, event)).collect();
        // What was asked of the HSM took a moment, in which the right may have gone.
        self.check()?;
        self.at = last.unwrap_or(self.at);
        Ok(Portion { events, place: self.at, is_all })
    }

    /// Whether the caller may still be told.
    ///
    /// # Errors
    /// [`Problem::Denied`].
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.permit.still_holds() { Ok(()) } else { Err(Problem::Denied(self.permit.denied()).into()) }
    }
}

/// Whether it happened to a vault that was made then, or later. What happened before, happened to another that had its name
/// and was purged: whoever may see the events of this one need not have seen those.
fn is_of_one_made(made: Option<Timestamp>, event: &EventRow) -> bool {
    made.is_none_or(|made| event.time >= made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_to_an_earlier_vault_of_that_name_is_not_told() {
        let vault: VaultName = "dev".parse().expect("a name");
        let at = |seconds| EventRow {
            id: [1; 16],
            kind: EventType::VaultPurged,
            time: Timestamp(seconds),
            vault: vault.clone(),
            object: None,
            version: None,
            principal: "a:b".to_owned(),
            due: None,
            detail: String::new(),
        };
        let made = Some(Timestamp(50));
        assert!(!is_of_one_made(made, &at(49)) && is_of_one_made(made, &at(50)) && is_of_one_made(made, &at(51)));
        assert!(is_of_one_made(None, &at(49)), "who watches all vaults sees what happened to each");
    }
}

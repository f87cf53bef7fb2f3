//! What waits for webhooks: queued as events come, handed out checked, settled when it was tried.

use std::time::Duration;

use strongroom_hsm::protocol::Moment;

use super::{
    Service, TIDYING, TIDYING_FOR,
    error::{Problem, ServiceError},
    events::{KEPT, LETTERS_KEPT, PAGE},
};
use crate::{
    model::EventRow,
    observe::metrics::{DEAD_LETTERS, DELIVERIES_PENDING},
    store::{CommitError, Delivery, EventPlace, Forgotten, Undelivered, WorkLease},
    webhooks::Webhook,
};

/// How many deliveries are handed out at once.
pub const DUE_MAX: u32 = 64;
/// A lease lives so much longer than all deliveries of a turn may take.
const LEASE_MORE: Duration = Duration::from_secs(30);
/// How often at most as many deliveries follow each other in one turn as are under way at once.
const ROUNDS: u32 = 8;
/// How long the store and the HSM may take.
const WITHIN: Duration = Duration::from_secs(10);
/// For how long a delivery is put off whose event this release cannot read: a newer one may, which another replica has
/// already. Until then it neither stands before others nor fills the log.
const UNREAD_FOR: Duration = Duration::from_secs(3600);
/// Why it is.
const UNREAD: &str = "this release cannot read the event";
/// How often at most something is forgotten in one go.
const FORGETTING_MAX: u32 = 100;

/// What has come of a delivery.
#[derive(Debug)]
pub enum Outcome {
    /// The receiver has it.
    Delivered(EventPlace),
    /// It has not.
    Failed(Undelivered),
}

/// What has come of queueing.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    /// There may be more.
    pub more: bool,
}

impl Service {
    /// Takes the turn of delivering to a webhook, unless another has it. One that is late delivers what another has
    /// delivered too, and nothing else comes of it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn take_deliveries(&self, webhook: &str, within: Duration) -> Result<Option<WorkLease>, ServiceError> {
        let life = within.saturating_mul(ROUNDS).saturating_add(LEASE_MORE);
        let own = self.own.name().await;
        Ok(self.store.take_lease(&format!("webhook:{webhook}"), &own, life).await?)
    }

    /// Queues what is new of what a webhook wants. One that is new is told of what comes from now on.
    ///
    /// # Errors
    /// When the store or the HSM does not answer.
    pub async fn queue_deliveries(&self, webhook: &Webhook) -> Result<Queued, ServiceError> {
        let (forgotten, newest) = self.store.event_bounds().await?;
        let Some(from) = self.store.webhook(&webhook.name).await? else {
            self.queued(self.store.queue(&webhook.name, None, newest, Vec::new()).await)?;
            return Ok(Queued { more: false });
        };
        if from < forgotten {
            // Once: its place moves on, whether there are newer events or not.
            tracing::error!(webhook = webhook.name, "events were forgotten that it was not told of");
            self.queued(self.store.queue(&webhook.name, Some(from), forgotten, Vec::new()).await)?;
            return Ok(Queued { more: true });
        }
        let found = self.store.events(from, PAGE).await?;
        let Some((to, _)) = found.last() else { return Ok(Queued { more: false }) };
        let (to, more) = (*to, found.len() == PAGE as usize);
        let checked = self.checked_events(found, Moment::now().after(WITHIN)).await?;
        let wanted = checked.into_iter().filter(|(_, event)| webhook.wants(event)).map(|(place, _)| place).collect();
        self.queued(self.store.queue(&webhook.name, Some(from), to, wanted).await)?;
        Ok(Queued { more })
    }

    fn queued(&self, result: Result<(), CommitError>) -> Result<(), ServiceError> {
        match result {
            // Another replica was quicker.
            Ok(()) | Err(CommitError::Conflict) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error) => Err(ServiceError::because(Problem::Internal, error)),
        }
    }

    /// Deliveries whose time has come, checked: what is not ours is not told, and not kept. What cannot be read is put off.
    ///
    /// # Errors
    /// When the store or the HSM does not answer.
    pub async fn due_deliveries(&self, webhook: &str) -> Result<Vec<(EventPlace, EventRow, u32)>, ServiceError> {
        let found = self.store.deliveries(webhook, DUE_MAX).await?;
        let of = |delivery: &Delivery| (delivery.place, delivery.attempts, delivery.event.is_some());
        let all: Vec<(EventPlace, u32, bool)> = found.iter().map(of).collect();
        let events = found.into_iter().map(|delivery| (delivery.place, delivery.event)).collect();
        let checked = self.checked_events(events, Moment::now().after(WITHIN)).await?;
        let mut right = checked.into_iter().peekable();
        let (mut due, mut wrong, mut unread) = (Vec::with_capacity(all.len()), Vec::new(), Vec::new());
        for (place, attempts, is_read) in all {
            match right.next_if(|(found, _)| *found == place) {
                Some((place, event)) => due.push((place, event, attempts)),
                None if is_read => wrong.push(place),
                None => {
                    let (failure, retry_after) = (UNREAD.to_owned(), Some(UNREAD_FOR));
                    unread.push(Undelivered { place, failure, retry_after });
                }
            }
        }
        if !wrong.is_empty() || !unread.is_empty() {
            self.store.settle_deliveries(webhook, wrong, unread).await?;
        }
        Ok(due)
    }

    /// Notes what came of deliveries.
    ///
    /// # Errors
    /// When the store does not answer: then they are made again.
    pub async fn settle_deliveries(
        &self,
        webhook: &str,
        outcomes: Vec<Outcome>,
        _turn: &WorkLease,
    ) -> Result<(), ServiceError> {
        let (mut delivered, mut failed) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Outcome::Delivered(place) => delivered.push(place),
                Outcome::Failed(undelivered) => failed.push(undelivered),
            }
        }
        if !delivered.is_empty() || !failed.is_empty() {
            self.store.settle_deliveries(webhook, delivered, failed).await?;
        }
        Ok(())
    }

    /// Forgets old events, and deliveries that nobody takes, as the one replica whose turn it is. Called by a job.
    ///
    /// # Errors
    /// When the store does not answer: the next call goes on.
    pub async fn forget_events(&self) -> Result<(), ServiceError> {
        let own = self.own.name().await;
        for _ in 0..FORGETTING_MAX {
            // Taken anew each time, or it would lapse meanwhile.
            if self.store.take_lease(TIDYING, &own, TIDYING_FOR).await?.is_none() {
                break;
            }
            let Forgotten { deliveries, more } = self.store.forget_events(KEPT, LETTERS_KEPT).await?;
            if deliveries > 0 {
                tracing::warn!(deliveries, "deliveries were forgotten: nobody took them, or asked for them again");
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Counts what waits for webhooks. Called by a job.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count_deliveries(&self) -> Result<(), ServiceError> {
        for webhook in self.store.webhooks().await? {
            // Far fewer than 2^52 of each.
            metrics::gauge!(DELIVERIES_PENDING, "webhook" => webhook.name.clone()).set(webhook.pending as f64);
            metrics::gauge!(DEAD_LETTERS, "webhook" => webhook.name).set(webhook.dead as f64);
        }
        Ok(())
    }
}

//! What is sealed and under no head: events, the clock of destruction, replicas that do not serve.

use std::{collections::HashMap, time::Duration};

use strongroom_hsm::{Seal, protocol::Moment};

use crate::{
    model::{ReplicaRow, Row},
    service::{
        Service,
        error::{Problem, ServiceError},
        hands::outage,
    },
    store::{CommitError, EventPlace, Sealed},
};

/// How many events are read at once.
const EVENTS: u32 = 500;
/// How long one question to the HSM may take.
const WITHIN: Duration = Duration::from_secs(60);

impl Service {
    /// Seals anew what is under no head. Says whether all of it is.
    ///
    /// # Errors
    /// When the store or the HSM does not answer.
    pub(super) async fn renew_beside(&self) -> Result<bool, ServiceError> {
        let events = self.renew_events().await?;
        let clock = self.renew_clock().await?;
        Ok(self.renew_replicas().await? && events && clock)
    }

    /// Those of these rows whose seal is another key's: each with the seal of now. One whose seal is wrong is left as it is, and
    /// said to be.
    async fn unrenewed<R: Row>(&self, rows: Vec<Sealed<R>>) -> Result<Vec<(Sealed<R>, Seal)>, ServiceError> {
        let deadline = Moment::now().after(WITHIN);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let forms = rows.iter().map(|row| row.unchecked().canonical()).collect();
        let seals = self.pool.seal(forms, deadline).await.map_err(outage)?;
        let old: Vec<_> = rows.into_iter().zip(seals).filter(|(row, seal)| row.seal() != seal).collect();
        let pairs = old.iter().map(|(row, _)| (row.unchecked().canonical(), *row.seal())).collect();
        let right = self.pool.check_seals(pairs, deadline).await.map_err(outage)?;
        Ok(old.into_iter().zip(right).filter_map(|(row, right)| right.then_some(row)).collect())
    }

    async fn renew_events(&self) -> Result<bool, ServiceError> {
        // From the first on: one that waits for a webhook is kept beyond its time.
        let mut after = EventPlace::default();
        loop {
            let found = self.store.events(after, EVENTS).await?;
            let Some((last, _)) = found.last() else { return Ok(true) };
            after = *last;
            let (places, events): (Vec<EventPlace>, Vec<_>) =
                found.into_iter().filter_map(|(place, event)| Some((place, event?))).unzip();
            let places: HashMap<[u8; 16], EventPlace> =
                events.iter().zip(places).map(|(event, place)| (event.unchecked().id, place)).collect();
            let old = self.unrenewed(events).await?;
            let seals = old
                .into_iter()
                .filter_map(|(event, seal)| Some((*places.get(&event.unchecked().id)?, *event.seal(), seal)));
            let seals: Vec<_> = seals.collect();
            if !seals.is_empty() {
                self.store.seal_events_anew(seals).await.map_err(uncommitted)?;
            }
        }
    }

    async fn renew_clock(&self) -> Result<bool, ServiceError> {
        let found = self.store.clock().await?;
        for (row, _) in self.unrenewed(found.into_iter().collect()).await? {
            let mut next = *row.unchecked();
            next.revision += 1;
            let seal = self.seal_of(&next).await?;
            match self.store.put_clock(Sealed::new(next, seal)).await {
                // Another was quicker, and has sealed it by the key of now.
                Ok(()) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(uncommitted(error)),
            }
        }
        let found = self.store.clock().await?;
        Ok(self.unrenewed(found.into_iter().collect()).await?.is_empty())
    }

    /// Those that serve have sealed their own rows when they adopted the keys; the others do not mind.
    async fn renew_replicas(&self) -> Result<bool, ServiceError> {
        let own = self.own.name().await;
        let rows: Vec<_> = self.store.replicas().await?.into_iter().map(|replica| replica.row).collect();
        for (row, _) in self.unrenewed(rows).await? {
            if row.unchecked().name == own {
                self.own.seal_anew(Moment::now().after(WITHIN)).await?;
                continue;
            }
            let old = row.unchecked();
            let next = ReplicaRow { revision: old.revision + 1, ..old.clone() };
            let seal = self.seal_of(&next).await?;
            match self.store.put_replica(Sealed::new(next, seal)).await {
                Ok(()) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(uncommitted(error)),
            }
        }
        let rows: Vec<_> = self.store.replicas().await?.into_iter().map(|replica| replica.row).collect();
        Ok(self.unrenewed(rows).await?.is_empty())
    }

    async fn seal_of<R: Row>(&self, row: &R) -> Result<Seal, ServiceError> {
        let seals = self.pool.seal(vec![row.canonical()], Moment::now().after(WITHIN)).await.map_err(outage)?;
        Ok(*seals.first().ok_or(Problem::Internal)?)
    }
}

fn uncommitted(error: CommitError) -> ServiceError {
    match error {
        CommitError::Store(error) => error.into(),
        error => ServiceError::because(Problem::Internal, error),
    }
}

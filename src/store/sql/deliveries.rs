//! Deliveries of events to webhooks, by the database's clock.

use std::time::Duration;

use super::{
    clock,
    columns::{Columns, integer},
    error::{Failure, fault},
    events,
    session::{Record, Session, query},
};
use crate::store::{DeadLetter, Delivery, EventPlace, StoreError, Undelivered, WebhookState};

const TABLE: &str = "deliveries";
const PLACE: &str = "SELECT position, number FROM webhooks WHERE name = $1";
const BEGIN: &str = "INSERT INTO webhooks (name, position, number) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const MOVE: &str = "UPDATE webhooks SET position = $2, number = $3 WHERE name = $1 AND position = $4 AND number = $5";
const QUEUE: &str = "INSERT INTO deliveries (webhook, position, number, attempts, next_at, failure) \
    VALUES ($1, $2, $3, 0, $4, '')";
const DUE: &str = "SELECT deliveries.attempts, events.* FROM deliveries JOIN events \
    ON events.position = deliveries.position AND events.number = deliveries.number \
    WHERE deliveries.webhook = $1 AND deliveries.next_at <= $2 ORDER BY deliveries.next_at, events.position, events.number \
    LIMIT $3";
const DELIVERED: &str = "DELETE FROM deliveries WHERE webhook = $1 AND position = $2 AND number = $3";
const FAILED: &str = "UPDATE deliveries SET attempts = attempts + 1, next_at = $4, tried_at = $5, failure = $6 \
    WHERE webhook = $1 AND position = $2 AND number = $3";
const DEAD: &str = "SELECT deliveries.attempts, deliveries.tried_at, deliveries.failure, events.* FROM deliveries \
    JOIN events ON events.position = deliveries.position AND events.number = deliveries.number \
    WHERE deliveries.webhook = $1 AND deliveries.next_at IS NULL \
    AND (deliveries.position > $2 OR (deliveries.position = $2 AND deliveries.number > $3)) \
    ORDER BY deliveries.position, deliveries.number LIMIT $4";
const REPLAY_ALL: &str = "UPDATE deliveries SET attempts = 0, next_at = $2 WHERE webhook = $1 AND next_at IS NULL";
const REPLAY: &str = "UPDATE deliveries SET attempts = 0, next_at = $2 WHERE webhook = $1 AND next_at IS NULL \
    AND EXISTS (SELECT 1 FROM events WHERE events.id = $3 AND events.position = deliveries.position \
    AND events.number = deliveries.number)";
const STATES: &str = "SELECT webhooks.name, count(deliveries.next_at) AS pending, \
    count(deliveries.webhook) - count(deliveries.next_at) AS dead \
    FROM webhooks LEFT JOIN deliveries ON deliveries.webhook = webhooks.name \
    GROUP BY webhooks.name ORDER BY webhooks.name";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 4] = [PLACE, DELIVERED, FAILED, DEAD];

/// Up to where the deliveries of a webhook are queued.
pub(super) async fn queued(session: &mut Session, webhook: &str) -> Result<Option<EventPlace>, StoreError> {
    let row = query(PLACE).bind(webhook).fetch_optional(session).await.map_err(fault)?;
    row.map(|row| events::place(&Columns::of(TABLE, &row))).transpose()
}

/// Queues deliveries and moves the place up to which all are queued.
pub(super) async fn queue(
    session: &mut Session,
    webhook: &str,
    from: Option<EventPlace>,
    to: EventPlace,
    wanted: &[EventPlace],
) -> Result<(), Failure> {
    let (position, number) = numbers(to)?;
    let moved = match from {
        None => query(BEGIN).bind(webhook).bind(position).bind(number),
        Some(from) => {
            let (old_position, old_number) = numbers(from)?;
            query(MOVE).bind(webhook).bind(position).bind(number).bind(old_position).bind(old_number)
        }
    };
    if moved.execute(session).await? != 1 {
        return Err(Failure::CONFLICT);
    }
    let now = clock::now(session).await?;
    for place in wanted {
        let (position, number) = numbers(*place)?;
        query(QUEUE).bind(webhook).bind(position).bind(number).bind(now).execute(session).await?;
    }
    Ok(())
}

/// Begins a webhook's deliveries anew, with the first event.
pub(super) async fn begin(session: &mut Session, webhook: &str) -> Result<(), Failure> {
    query(BEGIN).bind(webhook).bind(0).bind(0).execute(session).await?;
    Ok(())
}

pub(super) async fn due(session: &mut Session, webhook: &str, limit: u32) -> Result<Vec<Delivery>, Failure> {
    let now = clock::now(session).await?;
    let rows = query(DUE).bind(webhook).bind(now).bind(i64::from(limit)).fetch_all(session).await?;
    let delivery = |row: &Record| -> Result<_, StoreError> {
        let columns = Columns::of(TABLE, row);
        Ok(Delivery { place: events::place(&columns)?, event: events::decode(row)?, attempts: attempts(&columns)? })
    };
    Ok(rows.iter().map(delivery).collect::<Result<_, _>>()?)
}

pub(super) async fn settle(
    session: &mut Session,
    webhook: &str,
    delivered: &[EventPlace],
    failed: &[Undelivered],
) -> Result<(), Failure> {
    for place in delivered {
        let (position, number) = numbers(*place)?;
        query(DELIVERED).bind(webhook).bind(position).bind(number).execute(session).await?;
    }
    let now = clock::now(session).await?;
    for Undelivered { place, failure, retry_after } in failed {
        let (position, number) = numbers(*place)?;
        let next = retry_after.map(|after| now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)));
        let query = query(FAILED).bind(webhook).bind(position).bind(number).bind(next).bind(now);
        query.bind(failure.as_str()).execute(session).await?;
    }
    Ok(())
}

pub(super) async fn dead(
    session: &mut Session,
    webhook: &str,
    after: EventPlace,
    limit: u32,
) -> Result<Vec<DeadLetter>, Failure> {
    let (position, number) = numbers(after)?;
    let query = query(DEAD).bind(webhook).bind(position).bind(number).bind(i64::from(limit));
    let rows = query.fetch_all(session).await?;
    let now = clock::now(session).await?;
    let letter = |row: &Record| -> Result<_, StoreError> {
        let columns = Columns::of(TABLE, row);
        let tried = columns.time("tried_at")?.0;
        Ok(DeadLetter {
            place: events::place(&columns)?,
            event: events::decode(row)?,
            attempts: attempts(&columns)?,
            age: Duration::from_millis(u64::try_from(now.saturating_sub(tried)).unwrap_or(0)),
            failure: columns.text("failure")?.to_owned(),
        })
    };
    Ok(rows.iter().map(letter).collect::<Result<_, _>>()?)
}

pub(super) async fn replay(session: &mut Session, webhook: &str, event: Option<[u8; 16]>) -> Result<u64, Failure> {
    let now = clock::now(session).await?;
    let query = match event {
        None => query(REPLAY_ALL).bind(webhook).bind(now),
        Some(id) => query(REPLAY).bind(webhook).bind(now).bind(id.to_vec()),
    };
    Ok(query.execute(session).await?)
}

pub(super) async fn states(session: &mut Session) -> Result<Vec<WebhookState>, StoreError> {
    let rows = query(STATES).fetch_all(session).await.map_err(fault)?;
    let state = |row: &Record| {
        let columns = Columns::of(TABLE, row);
        Ok(WebhookState {
            name: columns.text("name")?.to_owned(),
            pending: columns.number("pending")?,
            dead: columns.number("dead")?,
        })
    };
    rows.iter().map(state).collect()
}

fn attempts(columns: &Columns<'_>) -> Result<u32, StoreError> {
    u32::try_from(columns.number("attempts")?).map_err(|_| columns.wrong("attempts"))
}

fn numbers(place: EventPlace) -> Result<(i64, i64), StoreError> {
    Ok((integer(place.position.0, TABLE, "position")?, i64::from(place.number)))
}

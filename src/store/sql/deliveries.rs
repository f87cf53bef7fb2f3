//! Deliveries of events to webhooks, by the database's clock.

use std::time::Duration;

use super::{
    clock,
    columns::{Columns, integer},
    error::{Failure, fault},
    events,
    session::{Record, Session, Text, query},
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
    WHERE deliveries.webhook = $1 AND deliveries.next_at <= $2 \
    ORDER BY deliveries.next_at, deliveries.position, deliveries.number LIMIT $3";
const DELIVERED: &str = "DELETE FROM deliveries WHERE webhook = $1 AND position = $2 AND number = $3";
const FAILED: &str = "UPDATE deliveries SET attempts = attempts + 1, next_at = $4, tried_at = $5, failure = $6 \
    WHERE webhook = $1 AND position = $2 AND number = $3";
// Left to itself SQLite would go through all that is pending, by the primary key.
const DEAD: Text = Text {
    sqlite: "SELECT deliveries.attempts, deliveries.tried_at, deliveries.failure, events.* \
        FROM deliveries INDEXED BY deliveries_dead \
        JOIN events ON events.position = deliveries.position AND events.number = deliveries.number \
        WHERE deliveries.webhook = $1 AND deliveries.next_at IS NULL \
        AND (deliveries.position, deliveries.number) > ($2, $3) \
        ORDER BY deliveries.position, deliveries.number LIMIT $4",
    postgres: "SELECT deliveries.attempts, deliveries.tried_at, deliveries.failure, events.* FROM deliveries \
        JOIN events ON events.position = deliveries.position AND events.number = deliveries.number \
        WHERE deliveries.webhook = $1 AND deliveries.next_at IS NULL \
        AND (deliveries.position, deliveries.number) > ($2, $3) \
        ORDER BY deliveries.position, deliveries.number LIMIT $4",
};
const REPLAY_ALL: &str = "UPDATE deliveries SET attempts = 0, next_at = $2 WHERE webhook = $1 AND next_at IS NULL";
const REPLAY: &str = "UPDATE deliveries SET attempts = 0, next_at = $2 WHERE webhook = $1 AND next_at IS NULL \
    AND EXISTS (SELECT 1 FROM events WHERE events.id = $3 AND events.position = deliveries.position \
    AND events.number = deliveries.number)";
// Each count reads a part of an index and no row.
const STATES: &str = "SELECT webhooks.name, (SELECT count(*) FROM deliveries \
    WHERE deliveries.webhook = webhooks.name AND deliveries.next_at IS NOT NULL) AS pending, (SELECT count(*) \
    FROM deliveries WHERE deliveries.webhook = webhooks.name AND deliveries.next_at IS NULL) AS dead \
    FROM webhooks ORDER BY webhooks.name";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 5] = [PLACE, DUE, DELIVERED, FAILED, DEAD.sqlite];

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

/// Deliveries whose time has come; of those whose event cannot be read, without it.
pub(super) async fn due(session: &mut Session, webhook: &str, limit: u32) -> Result<Vec<Delivery>, Failure> {
    let now = clock::now(session).await?;
    let rows = query(DUE).bind(webhook).bind(now).bind(i64::from(limit)).fetch_all(session).await?;
    let delivery = |row: &Record| -> Result<_, StoreError> {
        let columns = Columns::of(TABLE, row);
        let (place, attempts) = (events::place(&columns)?, attempts(&columns)?);
        Ok(Delivery { place, event: events::read(place, events::decode(row)), attempts })
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
        events::forget_held(session, *place).await?;
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

/// Dead letters after a place, as many as there are up to the limit, without those that cannot be read.
pub(super) async fn dead(
    session: &mut Session,
    webhook: &str,
    mut after: EventPlace,
    limit: u32,
) -> Result<Vec<DeadLetter>, Failure> {
    let now = clock::now(session).await?;
    let (mut letters, mut wanted) = (Vec::new(), limit);
    loop {
        let (asked, (position, number)) = (wanted, numbers(after)?);
        let query = query(DEAD).bind(webhook).bind(position).bind(number).bind(i64::from(asked));
        let rows = query.fetch_all(session).await?;
        for row in &rows {
            after = events::place(&Columns::of(TABLE, row))?;
            if let Some(letter) = events::read(after, letter(row, after, now)) {
                letters.push(letter);
                wanted -= 1;
            }
        }
        if wanted == 0 || rows.len() < asked as usize {
            return Ok(letters);
        }
    }
}

fn letter(row: &Record, place: EventPlace, now: i64) -> Result<DeadLetter, StoreError> {
    let columns = Columns::of(TABLE, row);
    let tried = columns.time("tried_at")?.0;
    Ok(DeadLetter {
        place,
        event: events::decode(row)?,
        attempts: attempts(&columns)?,
        age: Duration::from_millis(u64::try_from(now.saturating_sub(tried)).unwrap_or(0)),
        failure: columns.text("failure")?.to_owned(),
    })
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

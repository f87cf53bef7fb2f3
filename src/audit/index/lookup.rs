//! Searching in the index: in which bundles something may be, and how often what was used.

use std::ops::Range;

use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool, Transaction, sqlite::SqliteRow};

use super::{
    Bounds, IndexError, RECORDS,
    list::Candidates,
    pass::TermKind,
    plan::Criterion,
    query::{Match, Page, Query},
    uses::{Tally, Use, UseKey, UsePage, Uses},
    write::{outcome_rank, ranked_outcome, signed},
};

/// The blocks that are looked up at once at most. It begins with one, and goes on with four times as many each time.
const WINDOW_BLOCKS_MAX: u64 = 64;

/// The uses of so many objects are summed up at once at first; and at most, four times as many each time.
const OBJECTS_MIN: u32 = 16;
const OBJECTS_MAX: u32 = 4096;

/// The index as it is at one moment.
pub(super) struct Snapshot {
    transaction: Transaction<'static, Sqlite>,
    /// How many records are in it.
    pub(super) indexed: u64,
    bounds: Bounds,
}

impl Snapshot {
    pub(super) async fn open(readers: &SqlitePool, bounds: Bounds) -> Result<Self, IndexError> {
        let mut transaction = readers.begin().await?;
        let indexed: i64 = sqlx::query_scalar("SELECT indexed FROM meta").fetch_one(&mut *transaction).await?;
        Ok(Self { transaction, indexed: u64::try_from(indexed).map_err(|_| IndexError::Unfit)?, bounds })
    }

    /// The bundles that may have records that are asked for, in the order of the page.
    pub(super) async fn candidates(
        &mut self,
        criteria: &[Criterion],
        query: &Query,
        readable: u64,
        page: &Page,
    ) -> Result<Candidates, IndexError> {
        let mut candidates = Candidates::none(page.order, self.bounds);
        let bundles = page.bundles(readable);
        let split = (self.indexed / RECORDS).clamp(bundles.start, bundles.end);
        let (mut left, tail) = (bundles.start..split, split..bundles.end);
        if candidates.is_newest_first() {
            candidates.take(tail.clone());
        }
        let mut blocks = 1;
        while !left.is_empty() && !candidates.is_full() {
            let window = candidates.next_window(&mut left, blocks * self.bounds.block);
            let found = self.window(criteria, query, window.clone()).await?;
            candidates.take_those(window, |bundle| found.has(bundle));
            blocks = (blocks * 4).min(WINDOW_BLOCKS_MAX);
        }
        if !candidates.is_newest_first() {
            candidates.take(tail);
        }
        Ok(candidates)
    }

    async fn window(
        &mut self,
        criteria: &[Criterion],
        query: &Query,
        window: Range<u64>,
    ) -> Result<Bundles, IndexError> {
        let block = self.bounds.block;
        let mut found = Bundles::new(&window, block);
        if query.is_at_any_time() {
            found.fill();
        } else {
            self.add_times(&mut found, query).await?;
        }
        for criterion in criteria {
            let mut with = Bundles::new(&window, block);
            self.add_postings(&mut with, criterion).await?;
            found.keep(&with);
        }
        self.add_postings(&mut found, &Criterion::Term(TermKind::Unseen, String::new())).await?;
        Ok(found)
    }

    async fn add_postings(&mut self, found: &mut Bundles, criterion: &Criterion) -> Result<(), IndexError> {
        let mut select = QueryBuilder::<Sqlite>::new(
            "SELECT first, offsets FROM postings WHERE term IN (SELECT id FROM terms WHERE ",
        );
        match criterion {
            Criterion::Term(kind, text) => {
                select.push("kind = ").push_bind(*kind as i64).push(" AND text = ").push_bind(text.clone());
            }
            Criterion::Objects(text) => {
                push_within(&mut select, text);
            }
        }
        select.push(") AND first >= ").push_bind(signed(found.base));
        select.push(" AND first < ").push_bind(signed(found.end));
        for row in select.build().fetch_all(&mut *self.transaction).await? {
            let (first, offsets): (u64, &[u8]) = (number(&row, 0)?, row.try_get(1)?);
            let (offsets, rest) = offsets.as_chunks();
            if !rest.is_empty() {
                return Err(IndexError::Unfit);
            }
            offsets.iter().for_each(|offset| found.set(first + u64::from(u16::from_be_bytes(*offset))));
        }
        Ok(())
    }

    async fn add_times(&mut self, found: &mut Bundles, query: &Query) -> Result<(), IndexError> {
        let (from, until) = (query.from.map_or(i64::MIN, |from| from.0), query.until.map(|until| until.0));
        let is_touched = |min: i64, max: i64| from <= max && until.is_none_or(|until| min < until);
        let select = "SELECT first, time_min, time_max, times FROM times WHERE first >= ?1 AND first < ?2";
        let select = sqlx::query(select).bind(signed(found.base)).bind(signed(found.end));
        for row in select.fetch_all(&mut *self.transaction).await? {
            let (first, times): (u64, &[u8]) = (number(&row, 0)?, row.try_get(3)?);
            if !is_touched(row.try_get(1)?, row.try_get(2)?) {
                continue;
            }
            let (times, rest) = times.as_chunks::<8>();
            let (pairs, odd) = times.as_chunks::<2>();
            if !rest.is_empty() || !odd.is_empty() {
                return Err(IndexError::Unfit);
            }
            for (bundle, [min, max]) in (first..).zip(pairs) {
                if is_touched(i64::from_be_bytes(*min), i64::from_be_bytes(*max)) {
                    found.set(bundle);
                }
            }
        }
        Ok(())
    }

    /// The rows of a page: of what is in the index.
    pub(super) async fn uses(&mut self, query: &Query, page: &UsePage) -> Result<Uses, IndexError> {
        let mut uses: Vec<Use> = Vec::new();
        let mut from = page.after.as_ref().map_or_else(String::new, |after| after.object.clone());
        let mut objects = OBJECTS_MIN;
        loop {
            // Who asks for a principal is answered from the index by principals, at once.
            let until =
                if query.principal.is_some() { None } else { self.object_behind(query, &from, objects).await? };
            let mut select = uses_query(query, page, &from, until.as_deref());
            let rows = select.build().fetch_all(&mut *self.transaction).await?;
            for row in &rows {
                uses.push(decode_use(row)?);
            }
            match until {
                Some(until) if uses.len() < page.limit() => from = until,
                _ => break,
            }
            objects = (objects * 4).min(OBJECTS_MAX);
        }
        uses.truncate(page.limit());
        let is_full = uses.len() == page.limit();
        let next = uses.last().filter(|_| is_full).map(|row| row.key.clone());
        Ok(Uses { uses, next, unseen: self.unseen().await? })
    }

    /// The object so many behind that one, of those that are asked for.
    async fn object_behind(&mut self, query: &Query, from: &str, count: u32) -> Result<Option<String>, IndexError> {
        let mut select = QueryBuilder::<Sqlite>::new("SELECT text FROM terms WHERE ");
        push_objects(&mut select, query);
        select.push(" AND text >= ").push_bind(from.to_owned());
        select.push(" ORDER BY text LIMIT 1 OFFSET ").push_bind(i64::from(count));
        let row = select.build().fetch_optional(&mut *self.transaction).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// How many records were pruned before they were looked at.
    async fn unseen(&mut self) -> Result<u64, IndexError> {
        let select = "SELECT COALESCE(SUM(LENGTH(offsets)) / 2, 0) FROM postings \
            WHERE term IN (SELECT id FROM terms WHERE kind = ?1)";
        let select = sqlx::query(select).bind(TermKind::Unseen as i64);
        Ok(number(&select.fetch_one(&mut *self.transaction).await?, 0)? * RECORDS)
    }
}

/// Which terms are objects of that name, or lie within it.
fn push_within(select: &mut QueryBuilder<Sqlite>, text: &str) {
    // '0' is what comes behind '/'.
    select.push("kind = ").push_bind(TermKind::Object as i64).push(" AND (text = ").push_bind(text.to_owned());
    select.push(" OR (text >= ").push_bind(format!("{text}/")).push(" AND text < ").push_bind(format!("{text}0"));
    select.push("))");
}

/// Which terms are objects that are asked for.
fn push_objects(select: &mut QueryBuilder<Sqlite>, query: &Query) {
    match query.named() {
        None => {
            select.push("kind = ").push_bind(TermKind::Object as i64);
        }
        Some((Match::Within, name)) => push_within(select, name.text()),
        Some((Match::Exactly, name)) => push_term(select, TermKind::Object, name.text()),
    }
}

/// The rows of the objects from one name to before another.
fn uses_query(query: &Query, page: &UsePage, from: &str, until: Option<&str>) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new(
        "SELECT o.text, p.text, a.text, outcome, count, first_index, last_index, first_time, last_time FROM \
         (SELECT object, principal, operation, outcome, SUM(count) AS count, MIN(first_index) AS first_index, \
         MAX(last_index) AS last_index, MIN(first_time) AS first_time, MAX(last_time) AS last_time \
         FROM uses WHERE day >= ",
    );
    let days = query.days();
    select.push_bind(*days.start()).push(" AND day <= ").push_bind(*days.end());
    // Without it, the rows of a principal are found by the index for that.
    if query.resource.is_some() || query.principal.is_none() {
        select.push(" AND object IN (SELECT id FROM terms WHERE ");
        push_objects(&mut select, query);
        select.push(" AND text >= ").push_bind(from.to_owned());
        if let Some(until) = until {
            select.push(" AND text < ").push_bind(until.to_owned());
        }
        select.push(")");
    }
    for (column, kind, text) in
        [("principal", TermKind::Principal, &query.principal), ("operation", TermKind::Operation, &query.operation)]
    {
        if let Some(text) = text {
            select.push(format_args!(" AND {column} = (SELECT id FROM terms WHERE "));
            push_term(&mut select, kind, text);
            select.push(")");
        }
    }
    if let Some(outcome) = query.outcome {
        select.push(" AND outcome = ").push_bind(outcome_rank(outcome));
    }
    select.push(
        " GROUP BY object, principal, operation, outcome) JOIN terms o ON o.id = object \
         JOIN terms p ON p.id = principal JOIN terms a ON a.id = operation",
    );
    if let Some(UseKey { object, principal, operation, outcome }) = &page.after {
        select.push(" WHERE (o.text, p.text, a.text, outcome) > (").push_bind(object.clone()).push(", ");
        select.push_bind(principal.clone()).push(", ").push_bind(operation.clone()).push(", ");
        select.push_bind(outcome_rank(*outcome)).push(")");
    }
    select.push(" ORDER BY o.text, p.text, a.text, outcome LIMIT ").push_bind(signed(page.limit() as u64));
    select
}

fn push_term(select: &mut QueryBuilder<Sqlite>, kind: TermKind, text: &str) {
    select.push("kind = ").push_bind(kind as i64).push(" AND text = ").push_bind(text.to_owned());
}

fn decode_use(row: &SqliteRow) -> Result<Use, IndexError> {
    let key = UseKey {
        object: row.try_get(0)?,
        principal: row.try_get(1)?,
        operation: row.try_get(2)?,
        outcome: ranked_outcome(row.try_get(3)?).ok_or(IndexError::Unfit)?,
    };
    let tally = Tally {
        count: number(row, 4)?,
        first_index: number(row, 5)?,
        last_index: number(row, 6)?,
        first_time: row.try_get(7)?,
        last_time: row.try_get(8)?,
    };
    Ok(Use { key, tally })
}

/// A number of our own: never negative.
fn number(row: &SqliteRow, column: usize) -> Result<u64, IndexError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| IndexError::Unfit)
}

/// Some of the bundles of a window.
struct Bundles {
    /// A bit for each, from the beginning of the block that the window begins in.
    bits: Vec<u64>,
    base: u64,
    end: u64,
}

impl Bundles {
    fn new(window: &Range<u64>, block: u64) -> Self {
        let base = window.start - window.start % block;
        let words = usize::try_from((window.end - base).div_ceil(64)).unwrap_or_default();
        Self { bits: vec![0; words], base, end: window.end }
    }

    fn fill(&mut self) {
        self.bits.fill(u64::MAX);
    }

    fn place(&self, bundle: u64) -> Option<(usize, u64)> {
        let place = bundle.checked_sub(self.base)?;
        Some((usize::try_from(place / 64).ok()?, 1 << (place % 64)))
    }

    /// What lies behind the window may be in a row that begins in it.
    fn set(&mut self, bundle: u64) {
        if let Some((word, bit)) = self.place(bundle)
            && let Some(word) = self.bits.get_mut(word)
        {
            *word |= bit;
        }
    }

    fn has(&self, bundle: u64) -> bool {
        self.place(bundle).is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|word| word & bit != 0))
    }

    fn keep(&mut self, others: &Self) {
        self.bits.iter_mut().zip(&others.bits).for_each(|(mine, other)| *mine &= other);
    }
}

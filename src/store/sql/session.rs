//! A connection that is lent for one read or one transaction, whatever database it leads to; statements, the values
//! they carry and the records they bring.
//!
//! A session that is dropped before it was committed has changed nothing.

use sqlx::{
    Postgres, Sqlite, Transaction,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::store::postgres;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One statement that reads.
    Read,
    /// Several that read, all of them at one moment.
    ReadAtOnce,
    /// A transaction that writes.
    Write,
    /// One that writes what may be lost in a crash.
    WriteLoosely,
}

/// A connection, lent.
#[derive(Debug)]
pub struct Session {
    lent: Lent,
    is_filling: bool,
}

/// How a session wrote before [`Session::fill`].
pub(super) struct Before {
    is_filling: bool,
}

#[derive(Debug)]
enum Lent {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTransaction(Transaction<'static, Sqlite>),
    Postgres(postgres::Lent),
}

/// One value of a statement.
#[derive(Clone, Debug)]
pub(in crate::store) enum Value {
    Bytes(Vec<u8>),
    Text(String),
    Integer(i64),
    OptionalInteger(Option<i64>),
    OptionalBytes(Option<Vec<u8>>),
    Flag(bool),
}

/// One row that was read, of which nothing is believed: [`super::columns`].
pub(in crate::store) enum Record {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A statement with its values. The text is one for every database, or one for each.
#[derive(Debug)]
pub(super) struct Query {
    text: Text,
    values: Vec<Value>,
}

/// A statement that the databases do not understand alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self { sqlite: text, postgres: text }
    }
}

/// A statement without its values.
pub(super) fn query(text: impl Into<Text>) -> Query {
    Query { text: text.into(), values: Vec::new() }
}

impl Query {
    /// Adds the next value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(super) async fn fetch_all(self, session: &mut Session) -> Result<Vec<Record>, sqlx::Error> {
        let found = match &mut session.lent {
            Lent::Sqlite(connection) => self.of_sqlite().fetch_all(&mut **connection).await?,
            Lent::SqliteTransaction(transaction) => self.of_sqlite().fetch_all(&mut **transaction).await?,
            Lent::Postgres(lent) => {
                let rows = lent.fetch_all(|| self.of_postgres()).await?;
                return Ok(rows.into_iter().map(Record::Postgres).collect());
            }
        };
        Ok(found.into_iter().map(Record::Sqlite).collect())
    }

    /// The first record. Only for what reads: an error that comes after the record is not seen.
    pub(super) async fn fetch_optional(self, session: &mut Session) -> Result<Option<Record>, sqlx::Error> {
        let found = match &mut session.lent {
            Lent::Sqlite(connection) => self.of_sqlite().fetch_optional(&mut **connection).await?,
            Lent::SqliteTransaction(transaction) => self.of_sqlite().fetch_optional(&mut **transaction).await?,
            Lent::Postgres(lent) => {
                return Ok(lent.fetch_all(|| self.of_postgres()).await?.into_iter().next().map(Record::Postgres));
            }
        };
        Ok(found.map(Record::Sqlite))
    }

    /// Says how many rows were written.
    pub(super) async fn execute(self, session: &mut Session) -> Result<u64, sqlx::Error> {
        let done = match &mut session.lent {
            Lent::Sqlite(connection) => self.of_sqlite().execute(&mut **connection).await?,
            Lent::SqliteTransaction(transaction) => self.of_sqlite().execute(&mut **transaction).await?,
            Lent::Postgres(lent) => return lent.execute(self.of_postgres()).await,
        };
        Ok(done.rows_affected())
    }

    fn of_sqlite(self) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
        self.values.into_iter().fold(sqlx::query(self.text.sqlite), |query, value| match value {
            Value::Bytes(bytes) => query.bind(bytes),
            Value::Text(text) => query.bind(text),
            Value::Integer(number) => query.bind(number),
            Value::OptionalInteger(number) => query.bind(number),
            Value::OptionalBytes(bytes) => query.bind(bytes),
            Value::Flag(flag) => query.bind(flag),
        })
    }

    fn of_postgres(&self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        self.values.iter().fold(sqlx::query(self.text.postgres), |query, value| match value.clone() {
            Value::Bytes(bytes) => query.bind(bytes),
            Value::Text(text) => query.bind(text),
            Value::Integer(number) => query.bind(number),
            Value::OptionalInteger(number) => query.bind(number),
            Value::OptionalBytes(bytes) => query.bind(bytes),
            Value::Flag(flag) => query.bind(flag),
        })
    }
}

impl Session {
    const fn of(lent: Lent) -> Self {
        Self { lent, is_filling: false }
    }

    /// From now on every row is a new one, whatever its revision. Says how it was before.
    pub(super) const fn fill(&mut self) -> Before {
        Before { is_filling: std::mem::replace(&mut self.is_filling, true) }
    }

    /// Goes on as before.
    pub(super) const fn go_on(&mut self, before: Before) {
        self.is_filling = before.is_filling;
    }

    /// The statement that writes a row: of revision 1 it is inserted, any other replaces the one before.
    pub(super) fn put(&self, revision: u64, insert: &'static str, update: &'static str) -> Query {
        query(if self.inserts(revision) { insert } else { update })
    }

    /// Whether a row of that revision is a new one.
    pub(super) const fn inserts(&self, revision: u64) -> bool {
        revision == 1 || self.is_filling
    }

    pub(in crate::store) const fn sqlite(connection: PoolConnection<Sqlite>) -> Self {
        Self::of(Lent::Sqlite(connection))
    }

    pub(in crate::store) const fn sqlite_transaction(transaction: Transaction<'static, Sqlite>) -> Self {
        Self::of(Lent::SqliteTransaction(transaction))
    }

    pub(in crate::store) const fn postgres(lent: postgres::Lent) -> Self {
        Self::of(Lent::Postgres(lent))
    }

    /// Makes what was written durable. After an error nobody knows whether it is.
    pub(in crate::store) async fn commit(self) -> Result<(), sqlx::Error> {
        match self.lent {
            Lent::Sqlite(_) => Ok(()),
            Lent::SqliteTransaction(transaction) => transaction.commit().await,
            Lent::Postgres(lent) => lent.commit().await,
        }
    }

    /// Ends a transaction that has only read.
    pub(in crate::store) async fn finish(self) -> Result<(), sqlx::Error> {
        match self.lent {
            Lent::Sqlite(_) => Ok(()),
            Lent::SqliteTransaction(transaction) => transaction.rollback().await,
            Lent::Postgres(lent) => lent.commit().await,
        }
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::OptionalInteger(number)
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::OptionalBytes(bytes)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

//! The clock of destruction.

use super::{
    columns::{Columns, integer},
    commit::{exists_is_conflict, write_one},
    error::{Failure, fault},
    session::{Session, query},
};
use crate::{
    model::{ClockRow, Uptime},
    store::{Sealed, StoreError},
};

const TABLE: &str = "clock";
const READ: &str = "SELECT * FROM clock";
const INSERT: &str =
    "INSERT INTO clock (singleton, revision, seal, at, boot, elapsed_s) VALUES (1, $1, $2, $3, $4, $5)";
const UPDATE: &str =
    "UPDATE clock SET revision = $1, seal = $2, at = $3, boot = $4, elapsed_s = $5 WHERE revision = $1 - 1";

pub(super) async fn read(session: &mut Session) -> Result<Option<Sealed<ClockRow>>, StoreError> {
    let row = query(READ).fetch_optional(session).await.map_err(fault)?;
    let decode = |row| {
        let columns = Columns::of(TABLE, &row);
        let uptime = Uptime { boot: columns.array("boot")?, seconds: columns.number("elapsed_s")? };
        columns.sealed(ClockRow { time: columns.time("at")?, uptime, revision: columns.revision()? })
    };
    row.map(decode).transpose()
}

/// Sets it, if nobody else has since.
pub(super) async fn write(session: &mut Session, sealed: &Sealed<ClockRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.time.0)
        .bind(row.uptime.boot.to_vec())
        .bind(integer(row.uptime.seconds, TABLE, "elapsed_s")?);
    write_one(session, query).await.map_err(exists_is_conflict)
}

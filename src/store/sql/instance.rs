//! The service's own row.

use strongroom_hsm::protocol::{Kek, ServiceKeys};

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{
        Escrow, InstanceRow, LogKeys, Renewal,
        renewal::{escrow_form, root_form},
    },
    store::{Sealed, StoreError},
};

const TABLE: &str = "instance";
const READ: &str = "SELECT * FROM instance";
const INSERT: &str = "INSERT INTO instance (singleton, id, revision, seal, created_at, development, token_label, \
    token_serial, unwrap_template, sealing_key, data_key, canary, log_public, escrow, root, renewal, log_keys) \
    VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const UPDATE: &str = "UPDATE instance SET revision = $2, seal = $3, created_at = $4, development = $5, \
    token_label = $6, token_serial = $7, unwrap_template = $8, sealing_key = $9, data_key = $10, canary = $11, \
    log_public = $12, escrow = $13, root = $14, renewal = $15, log_keys = $16 WHERE id = $1 AND revision = $2 - 1";

pub(super) async fn read(session: &mut Session) -> Result<Option<Sealed<InstanceRow>>, StoreError> {
    let row = query(READ).fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<InstanceRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.created.0)
        .bind(row.development)
        .bind(row.token_label.clone())
        .bind(row.token_serial.clone())
        .bind(row.unwrap_template)
        .bind(row.service_keys.sealing.to_vec())
        .bind(row.service_keys.data.to_vec())
        .bind(row.service_keys.canary.to_vec())
        .bind(row.service_keys.log_public.to_vec())
        .bind(escrow_form(&row.escrow))
        .bind(row.service_keys.root.as_ref().map(|root| root_form(Some(root))))
        .bind(row.renewal.as_ref().map(|renewal| serde_json::to_vec(renewal).expect("plain fields are JSON")))
        .bind(
            (row.log_keys != LogKeys::default())
                .then(|| serde_json::to_vec(&row.log_keys).expect("plain fields are JSON")),
        );
    write_one(session, query).await
}

fn decode(row: &Record) -> Result<Sealed<InstanceRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(InstanceRow {
        id: columns.array("id")?,
        created: columns.time("created_at")?,
        development: columns.flag("development")?,
        token_label: columns.text("token_label")?.to_owned(),
        token_serial: columns.text("token_serial")?.to_owned(),
        unwrap_template: columns.flag("unwrap_template")?,
        service_keys: ServiceKeys {
            sealing: columns.bytes("sealing_key")?.to_vec().into(),
            data: columns.bytes("data_key")?.to_vec().into(),
            canary: columns.bytes("canary")?.to_vec().into(),
            log_public: columns.bytes("log_public")?.to_vec().into(),
            root: decode_root(&columns)?,
            other: None,
            log_id: None,
            other_log: None,
        },
        escrow: decode_escrow(columns.bytes("escrow")?).ok_or_else(|| columns.wrong("escrow"))?,
        renewal: decode_renewal(&columns)?,
        log_keys: decode_log_keys(&columns)?,
        revision: columns.revision()?,
    })
}

fn decode_root(columns: &Columns<'_>) -> Result<Option<Kek>, StoreError> {
    let Some(bytes) = columns.optional_bytes("root")? else { return Ok(None) };
    let parts = || {
        let (id, rest) = bytes.split_first_chunk()?;
        let (blob, rest) = rest.split_first_chunk()?;
        Some(Kek { id: *id, blob: *blob, mark: rest.try_into().ok()? })
    };
    parts().map(Some).ok_or_else(|| columns.wrong("root"))
}

/// Whatever is not exactly what encoding gives would not match the row's seal.
fn decode_renewal(columns: &Columns<'_>) -> Result<Option<Renewal>, StoreError> {
    let text = columns.optional_bytes("renewal")?;
    text.map(|text| serde_json::from_slice(text).map_err(|_| columns.wrong("renewal"))).transpose()
}

/// None: no log key was ever replaced.
fn decode_log_keys(columns: &Columns<'_>) -> Result<LogKeys, StoreError> {
    let Some(text) = columns.optional_bytes("log_keys")? else { return Ok(LogKeys::default()) };
    serde_json::from_slice(text).map_err(|_| columns.wrong("log_keys"))
}

fn decode_escrow(mut bytes: &[u8]) -> Option<Vec<Escrow>> {
    let mut escrows = Vec::new();
    while !bytes.is_empty() {
        let (recovery_key, rest) = bytes.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (blob, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        escrows.push(Escrow { recovery_key: *recovery_key, blob: blob.to_vec() });
        bytes = rest;
    }
    Some(escrows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escrow_comes_back_and_nothing_panics(
            blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let escrows: Vec<_> = blobs.into_iter().map(|blob| Escrow { recovery_key: [7; 32], blob }).collect();
            let bytes = escrow_form(&escrows);
            prop_assert_eq!(decode_escrow(&bytes), Some(escrows));
            if let Some(read) = decode_escrow(&noise) {
                prop_assert_eq!(escrow_form(&read), noise);
            }
        }
    }
}

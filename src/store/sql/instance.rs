//! The service's own row.

use strongroom_hsm::protocol::ServiceKeys;

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{Escrow, InstanceRow},
    store::{Sealed, StoreError},
};

const TABLE: &str = "instance";
const READ: &str = "SELECT * FROM instance";
const INSERT: &str = "INSERT INTO instance (singleton, id, revision, seal, created_at, development, token_label, \
    token_serial, unwrap_template, sealing_key, data_key, canary, log_public, escrow) \
    VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const UPDATE: &str = "UPDATE instance SET revision = $2, seal = $3, created_at = $4, development = $5, \
    token_label = $6, token_serial = $7, unwrap_template = $8, sealing_key = $9, data_key = $10, canary = $11, \
    log_public = $12, escrow = $13 WHERE id = $1 AND revision = $2 - 1";

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
        .bind(encode_escrow(&row.escrow)?);
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
        },
        escrow: decode_escrow(columns.bytes("escrow")?).ok_or_else(|| columns.wrong("escrow"))?,
        revision: columns.revision()?,
    })
}

/// `( SHA-256 of the recovery key, 32 bytes | length u32 big-endian | blob )*`
fn encode_escrow(escrows: &[Escrow]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    for escrow in escrows {
        let length = u32::try_from(escrow.blob.len())
            .map_err(|_| StoreError::Inconsistent { table: TABLE, column: "escrow" })?;
        bytes.extend_from_slice(&escrow.recovery_key);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&escrow.blob);
    }
    Ok(bytes)
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
            let bytes = encode_escrow(&escrows).expect("short");
            prop_assert_eq!(decode_escrow(&bytes), Some(escrows));
            if let Some(read) = decode_escrow(&noise) {
                prop_assert_eq!(encode_escrow(&read).expect("short"), noise);
            }
        }
    }
}

//! `strongroom.v1.AuditLog`.

use std::sync::Arc;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use strongroom_proto::v1::{
    AuditCheckpoint, AuditFilter, AuditOutcome, AuditReceipt, AuditRecord, AuditUse, GetAuditCheckpointRequest,
    GetAuditReceiptRequest, GetAuditRecordRequest, ListAuditRecordsRequest, ListAuditRecordsResponse,
    ListAuditUsesRequest, ListAuditUsesResponse, StreamAuditRecordsRequest, audit_log_server,
};

use self::stream::Records;
use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    audit::{
        Kind, Outcome,
        index::{FoundRecord, Order, Page, Query, Resource, Use, UseKey, UsePage},
    },
    model::Timestamp,
    service::{Caller, Problem, Service, ServiceError, audit::record_name},
};

mod stream;

/// The size of a page that is asked for without one.
const PAGE_DEFAULT: u32 = 50;
/// The longest text of a filter: a record may name a principal of 2048 bytes within a resource.
const TEXT_BYTES_MAX: usize = 4096;

serve!(audit_log_server::AuditLog {
    list_audit_records(ListAuditRecordsRequest) -> ListAuditRecordsResponse;
    get_audit_record(GetAuditRecordRequest) -> AuditRecord;
    list_audit_uses(ListAuditUsesRequest) -> ListAuditUsesResponse;
    get_audit_checkpoint(GetAuditCheckpointRequest) -> AuditCheckpoint;
    get_audit_receipt(GetAuditReceiptRequest) -> AuditReceipt;
} {
    type StreamAuditRecordsStream = Records;

    async fn stream_audit_records(
        &self,
        request: tonic::Request<StreamAuditRecordsRequest>,
    ) -> Result<tonic::Response<Records>, tonic::Status> {
        stream::open(&self.service, request).await.map(tonic::Response::new)
    }
});

async fn list_audit_records(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListAuditRecordsRequest,
) -> Result<ListAuditRecordsResponse, ServiceError> {
    let parent = binding(message.filter.as_ref(), message.oldest_first);
    let list = List { kind: "auditRecords", parent: &parent, deleted: false };
    let asked = list.page_of(PAGE_DEFAULT, message.page_size, &message.page_token, |last| last.parse().ok())?;
    let query = query(message.filter)?;
    let order = if message.oldest_first { Order::OldestFirst } else { Order::NewestFirst };
    let page = Page { order, after: asked.after, limit: usize::try_from(asked.size).unwrap_or(usize::MAX) };
    let listed = service.list_audit_records(caller, &query, &page).await?;
    let next = listed.found.next;
    Ok(ListAuditRecordsResponse {
        records: listed.found.records.into_iter().map(record).collect(),
        next_page_token: list.next(next.is_some(), next.map(|last| last.to_string())),
        readable: listed.readable,
        pruned_bundles: listed.found.pruned,
    })
}

async fn get_audit_record(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetAuditRecordRequest,
) -> Result<AuditRecord, ServiceError> {
    let index = names::audit_record("name", &message.name)?;
    Ok(record(service.get_audit_record(caller, index).await?))
}

async fn list_audit_uses(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListAuditUsesRequest,
) -> Result<ListAuditUsesResponse, ServiceError> {
    let parent = binding(message.filter.as_ref(), false);
    let list = List { kind: "auditUses", parent: &parent, deleted: false };
    let asked = list.page_of(PAGE_DEFAULT, message.page_size, &message.page_token, read_key)?;
    let page = UsePage { after: asked.after, limit: usize::try_from(asked.size).unwrap_or(usize::MAX) };
    let counted = service.list_audit_uses(caller, &query(message.filter)?, &page).await?;
    let next = counted.uses.next.as_ref().map(key_text);
    Ok(ListAuditUsesResponse {
        next_page_token: list.next(next.is_some(), next),
        uses: counted.uses.uses.into_iter().map(used).collect(),
        readable: counted.readable,
        uncounted: counted.uses.unseen,
    })
}

async fn get_audit_checkpoint(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetAuditCheckpointRequest,
) -> Result<AuditCheckpoint, ServiceError> {
    let signed = service.audit_checkpoint(caller, message.old_size).await?;
    Ok(AuditCheckpoint {
        note: signed.extension.note,
        consistency_proof: signed.extension.proof.iter().map(|hash| hash.to_vec()).collect(),
        verifier_keys: signed.keys,
        handovers: signed.handovers,
    })
}

async fn get_audit_receipt(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetAuditReceiptRequest,
) -> Result<AuditReceipt, ServiceError> {
    let index = names::audit_record("name", &message.name)?;
    let proved = service.audit_receipt(caller, index).await?;
    Ok(AuditReceipt { entry: proved.entry, proof: proved.receipt.to_string() })
}

/// What binds a page token to what was asked for. Text, for tokens are bound to the names of parents.
fn binding(filter: Option<&AuditFilter>, oldest_first: bool) -> String {
    let mut hash = Sha256::new();
    hash.update([u8::from(oldest_first)]);
    hash.update(filter.cloned().unwrap_or_default().encode_to_vec());
    base16ct::lower::encode_string(&hash.finalize())
}

/// What a filter asks for.
pub(crate) fn query(filter: Option<AuditFilter>) -> Result<Query, Problem> {
    let filter = filter.unwrap_or_default();
    let outcome = match AuditOutcome::try_from(filter.outcome) {
        Ok(AuditOutcome::Unspecified) => None,
        Ok(AuditOutcome::Pending) => Some(Outcome::Pending),
        Ok(AuditOutcome::Done) => Some(Outcome::Done),
        Ok(AuditOutcome::Refused) => Some(Outcome::Refused),
        Ok(AuditOutcome::Failed) => Some(Outcome::Failed),
        Err(_) => {
            let why = format!("{} is no AuditOutcome", filter.outcome);
            return Err(Problem::Invalid { field: "filter.outcome", why });
        }
    };
    Ok(Query {
        resource: text("filter.resource", filter.resource)?.map(Resource::Within),
        principal: text("filter.principal", filter.principal)?,
        operation: text("filter.operation", filter.operation)?,
        outcome,
        from: decode::time("filter.start_time", filter.start_time)?,
        until: decode::time("filter.end_time", filter.end_time)?,
    })
}

fn text(field: &'static str, text: String) -> Result<Option<String>, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let why = format!("{} bytes; at most {TEXT_BYTES_MAX} are looked for", text.len());
        return Err(Problem::Invalid { field, why });
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A record as it is shown.
pub(crate) fn record(found: FoundRecord) -> AuditRecord {
    let FoundRecord { index, record, entry } = found;
    AuditRecord {
        name: record_name(index),
        index,
        time: Some(encode::time(Timestamp(record.time))),
        kind: kind(record.kind).to_owned(),
        operation: record.operation,
        principal: record.principal.unwrap_or_default(),
        source: record.source.unwrap_or_default(),
        resource: record.resource.unwrap_or_default(),
        outcome: outcome(record.outcome).into(),
        reason: record.reason.unwrap_or_default(),
        request_id: record.request.unwrap_or_default(),
        entry,
    }
}

fn used(found: Use) -> AuditUse {
    let Use { key, tally } = found;
    AuditUse {
        resource: key.object,
        principal: key.principal,
        operation: key.operation,
        outcome: outcome(key.outcome).into(),
        count: tally.count,
        first_time: Some(encode::time(Timestamp(tally.first_time))),
        last_time: Some(encode::time(Timestamp(tally.last_time))),
        first_index: tally.first_index,
        last_index: tally.last_index,
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Intent => "intent",
        Kind::Outcome => "outcome",
        Kind::Operation => "operation",
        Kind::Event => "event",
    }
}

const fn outcome(outcome: Outcome) -> AuditOutcome {
    match outcome {
        Outcome::Pending => AuditOutcome::Pending,
        Outcome::Done => AuditOutcome::Done,
        Outcome::Refused => AuditOutcome::Refused,
        Outcome::Failed => AuditOutcome::Failed,
    }
}

/// The key of a row of counts as a page token holds it: no part of it has a zero byte.
fn key_text(key: &UseKey) -> String {
    let outcome = i32::from(outcome(key.outcome));
    format!("{}\0{}\0{}\0{outcome}", key.object, key.principal, key.operation)
}

fn read_key(text: &str) -> Option<UseKey> {
    let mut parts = text.split('\0');
    let (object, principal, operation) = (parts.next()?, parts.next()?, parts.next()?);
    let outcome = match AuditOutcome::try_from(parts.next()?.parse::<i32>().ok()?).ok()? {
        AuditOutcome::Pending => Outcome::Pending,
        AuditOutcome::Done => Outcome::Done,
        AuditOutcome::Refused => Outcome::Refused,
        AuditOutcome::Failed => Outcome::Failed,
        AuditOutcome::Unspecified => return None,
    };
    let (object, principal, operation) = (object.to_owned(), principal.to_owned(), operation.to_owned());
    parts.next().is_none().then_some(UseKey { object, principal, operation, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_what_it_says_and_nothing_else() {
        assert_eq!(query(None).expect("a query"), Query::default());
        let filter = AuditFilter {
            resource: "vaults/dev".into(),
            outcome: AuditOutcome::Refused.into(),
            start_time: Some(prost_types::Timestamp { seconds: 7, nanos: 0 }),
            ..Default::default()
        };
        let expected = Query {
            resource: Some(Resource::Within("vaults/dev".into())),
            outcome: Some(Outcome::Refused),
            from: Some(Timestamp(7)),
            ..Query::default()
        };
        assert_eq!(query(Some(filter)).expect("a query"), expected);
        for wrong in [
            AuditFilter { outcome: 9, ..Default::default() },
            AuditFilter { principal: "x".repeat(TEXT_BYTES_MAX + 1), ..Default::default() },
            AuditFilter { end_time: Some(prost_types::Timestamp { seconds: 7, nanos: 1 }), ..Default::default() },
        ] {
            assert!(query(Some(wrong.clone())).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_of_another_filter_is_another() {
        let filter = |principal: &str| AuditFilter { principal: principal.into(), ..Default::default() };
        let bindings = [
            binding(None, false),
            binding(None, true),
            binding(Some(&filter("spiffe://a/b")), false),
            binding(Some(&filter("spiffe://a/B")), false),
        ];
        let mut sorted = bindings.to_vec();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), bindings.len());
        assert_eq!(binding(None, false), binding(Some(&AuditFilter::default()), false), "nothing said is everything");
    }

    #[test]
    fn the_key_of_a_count_comes_back() {
        for outcome in [Outcome::Pending, Outcome::Done, Outcome::Refused, Outcome::Failed] {
            let key = UseKey {
                object: "vaults/dev/keys/a".into(),
                principal: "unix:uid:0 \n".into(),
                operation: String::new(),
                outcome,
            };
            assert_eq!(read_key(&key_text(&key)), Some(key));
        }
        for wrong in ["", "a\0b\0c", "a\0b\0c\x000", "a\0b\0c\x009", "a\0b\0c\x001\0d"] {
            assert_eq!(read_key(wrong), None, "{wrong:?}");
        }
    }
}

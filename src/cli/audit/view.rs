//! Records and uses, as JSON and as tables.

use base64ct::{Base64, Encoding as _};
use serde::Serialize;
use serde_json::Value;
use strongroom_proto::v1::{AuditOutcome, AuditRecord, AuditUse};

use crate::cli::{
    output::Rows,
    view::{EnumName, enum_name, optional_time, pairs, word},
};

const OUTCOME: &str = "AUDIT_OUTCOME_";

/// `strongroom.v1.AuditRecord`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RecordView {
    name: String,
    index: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    kind: String,
    operation: String,
    principal: String,
    source: String,
    resource: String,
    outcome: EnumName,
    reason: String,
    request_id: String,
    entry: String,
    /// What the entry says, for tables.
    #[serde(skip)]
    said: Value,
}

impl From<&AuditRecord> for RecordView {
    fn from(record: &AuditRecord) -> Self {
        Self {
            name: record.name.clone(),
            index: record.index.to_string(),
            time: optional_time(record.time.as_ref()),
            kind: record.kind.clone(),
            operation: record.operation.clone(),
            principal: record.principal.clone(),
            source: record.source.clone(),
            resource: record.resource.clone(),
            outcome: enum_name!(AuditOutcome, record.outcome),
            reason: record.reason.clone(),
            request_id: record.request_id.clone(),
            entry: Base64::encode_string(&record.entry),
            said: serde_json::from_slice(&record.entry).unwrap_or_default(),
        }
    }
}

impl RecordView {
    fn time(&self) -> String {
        self.time.clone().unwrap_or_default()
    }

    /// The resource, or what a batch was of.
    fn what(&self) -> String {
        let groups = self.said["batch"]["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = groups.iter().filter_map(|group| group["resource"].as_str()).collect();
        names.dedup();
        match (self.resource.is_empty(), names.split_first()) {
            (true, Some((first, []))) => (*first).to_owned(),
            (true, Some((first, rest))) => format!("{first} and {} more", rest.len()),
            _ => self.resource.clone(),
        }
    }

    /// The record on a line, as they come.
    pub(super) fn line(&self) -> String {
        let outcome = word(&self.outcome, OUTCOME);
        let parts = [&self.index, &self.time(), &self.principal, &self.operation, &self.what(), &outcome, &self.reason];
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join("  ")
    }

    fn row(&self) -> Vec<String> {
        let outcome = word(&self.outcome, OUTCOME);
        let (principal, operation, reason) = (self.principal.clone(), self.operation.clone(), self.reason.clone());
        vec![self.index.clone(), self.time(), principal, operation, self.what(), outcome, reason]
    }
}

/// All that the record says, in its own words and order.
impl Rows for RecordView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = pairs(vec![("index", self.index.clone()), ("time", self.time())]);
        for (name, value) in self.said.as_object().into_iter().flatten().filter(|(name, _)| *name != "time") {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            rows.push(vec![name.clone(), text]);
        }
        rows
    }
}

/// Several of them.
#[derive(Debug, Serialize)]
pub(super) struct RecordList(pub(super) Vec<RecordView>);

impl Rows for RecordList {
    fn head(&self) -> Vec<&'static str> {
        vec!["INDEX", "TIME", "PRINCIPAL", "OPERATION", "RESOURCE", "OUTCOME", "REASON"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().map(RecordView::row).collect()
    }
}

/// `strongroom.v1.AuditUse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct UsedView {
    resource: String,
    principal: String,
    operation: String,
    outcome: EnumName,
    count: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_time: Option<String>,
    first_index: String,
    last_index: String,
}

impl From<&AuditUse> for UsedView {
    fn from(used: &AuditUse) -> Self {
        Self {
            resource: used.resource.clone(),
            principal: used.principal.clone(),
            operation: used.operation.clone(),
            outcome: enum_name!(AuditOutcome, used.outcome),
            count: used.count.to_string(),
            first_time: optional_time(used.first_time.as_ref()),
            last_time: optional_time(used.last_time.as_ref()),
            first_index: used.first_index.to_string(),
            last_index: used.last_index.to_string(),
        }
    }
}

/// Several of them.
#[derive(Debug, Serialize)]
pub(super) struct UsedList(pub(super) Vec<UsedView>);

impl Rows for UsedList {
    fn head(&self) -> Vec<&'static str> {
        vec!["RESOURCE", "PRINCIPAL", "OPERATION", "OUTCOME", "COUNT", "FIRST", "LAST"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |used: &UsedView| {
            let time = |time: &Option<String>| time.clone().unwrap_or_default();
            let outcome = word(&used.outcome, OUTCOME);
            let (resource, principal) = (used.resource.clone(), used.principal.clone());
            let (first, last) = (time(&used.first_time), time(&used.last_time));
            vec![resource, principal, used.operation.clone(), outcome, used.count.clone(), first, last]
        };
        self.0.iter().map(row).collect()
    }
}

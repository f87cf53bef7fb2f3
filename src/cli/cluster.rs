//! `strongroom cluster …`: the replicas that serve one instance.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;
use strongroom_proto::v1;

use super::{
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, FormatArgs, Rows},
    view::optional_time,
};

pub(super) const AFTER_HELP: &str = "\
A replica is `serving` while it gives signs of life, `closed` when it was stopped in order, `silent` when it was killed \
or is cut off from the store. The audit log of one that is silent may have records after LOG RECORDS that only its own \
disk has: that is a gap until it comes back.";

/// `cluster …`.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Show every replica: whether it serves, how far it has heard, its audit log, its HSM
    #[command(after_help = AFTER_HELP)]
    Status(FormatArgs),
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: ClusterCommand) -> anyhow::Result<ExitCode> {
    let ClusterCommand::Status(args) = command;
    let client = connection.connect().await?;
    let action = Action { what: "list the replicas".into(), noun: Noun::Cluster, scope: "/".into(), request_id: None };
    let found = client.call(&action, client.api.list_replicas()).await?;
    output::show(args.format, &ClusterView::from(&found))?;
    Ok(ExitCode::SUCCESS)
}

/// Replicas as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterView {
    pub(super) replicas: Vec<ReplicaView>,
    pub(super) leases: Vec<LeaseView>,
    heard_ago: String,
    store: String,
}

/// One replica.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplicaView {
    name: String,
    ordinal: i32,
    state: &'static str,
    version: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_for: Option<String>,
    behind: bool,
    log_records: String,
    log_closed: bool,
    trouble: String,
    answers: bool,
}

/// Who does a piece of scheduled work.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseView {
    work: String,
    replica: String,
    left: String,
    token: String,
}

impl From<&v1::ListReplicasResponse> for ClusterView {
    fn from(found: &v1::ListReplicasResponse) -> Self {
        Self {
            replicas: found.replicas.iter().map(ReplicaView::from).collect(),
            leases: found.leases.iter().map(LeaseView::from).collect(),
            heard_ago: seconds(found.heard_ago.as_ref()).unwrap_or_else(|| "0s".to_owned()),
            store: found.store.clone(),
        }
    }
}

impl From<&v1::Replica> for ReplicaView {
    fn from(replica: &v1::Replica) -> Self {
        Self {
            name: replica.name.clone(),
            ordinal: replica.ordinal,
            state: replica.state().as_str_name(),
            version: replica.version.clone(),
            address: replica.address.clone(),
            create_time: optional_time(replica.create_time.as_ref()),
            silent_for: seconds(replica.silent_for.as_ref()),
            behind: replica.behind,
            log_records: replica.log_records.to_string(),
            log_closed: replica.log_closed,
            trouble: replica.trouble.clone(),
            answers: replica.answers,
        }
    }
}

impl From<&v1::WorkLease> for LeaseView {
    fn from(lease: &v1::WorkLease) -> Self {
        Self {
            work: lease.work.clone(),
            replica: lease.replica.clone(),
            left: seconds(lease.left.as_ref()).unwrap_or_else(|| "0s".to_owned()),
            token: lease.token.to_string(),
        }
    }
}

/// A duration as the protobuf JSON form has it, to the millisecond.
fn seconds(duration: Option<&prost_types::Duration>) -> Option<String> {
    let duration = duration?;
    let millis = duration.nanos / 1_000_000;
    Some(if millis == 0 { format!("{}s", duration.seconds) } else { format!("{}.{millis:03}s", duration.seconds) })
}

impl ReplicaView {
    fn row(&self) -> Vec<String> {
        let state = self.state.trim_start_matches("REPLICA_STATE_").to_lowercase();
        let heard = match (state.as_str(), self.behind) {
            ("serving", true) => "behind",
            ("serving", false) => "all",
            _ => "",
        };
        let log = match (state.as_str(), self.log_closed) {
            ("silent", _) => format!("{}, then a gap", self.log_records),
            (_, true) => format!("{}, closed", self.log_records),
            (_, false) => self.log_records.clone(),
        };
        let name = self.name.trim_start_matches("replicas/");
        let name = if self.answers { format!("{name} *") } else { name.to_owned() };
        let trouble = if self.trouble.is_empty() { "none".to_owned() } else { self.trouble.clone() };
        let silent_for = self.silent_for.clone().unwrap_or_default();
        vec![name, state, self.version.clone(), self.address.clone(), silent_for, heard.to_owned(), log, trouble]
    }
}

impl Rows for ClusterView {
    fn head(&self) -> Vec<&'static str> {
        vec!["REPLICA", "STATE", "RELEASE", "ADDRESS", "LAST SIGN", "HEARD", "LOG RECORDS", "TROUBLE"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.replicas.iter().map(ReplicaView::row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_replica_is_shown_with_its_gap() {
        let replica = |name: &str, state: v1::ReplicaState| v1::Replica {
            name: format!("replicas/{name}"),
            state: state.into(),
            log_records: 7,
            silent_for: Some(prost_types::Duration { seconds: 61, nanos: 5_000_000 }),
            ..Default::default()
        };
        let found = v1::ListReplicasResponse {
            replicas: vec![replica("a", v1::ReplicaState::Silent), replica("b", v1::ReplicaState::Serving)],
            ..Default::default()
        };
        let rows = ClusterView::from(&found).rows();
        assert_eq!(rows[0], ["a", "silent", "", "", "61.005s", "", "7, then a gap", "none"]);
        assert_eq!(rows[1], ["b", "serving", "", "", "61.005s", "all", "7", "none"]);
    }
}

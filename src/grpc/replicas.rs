//! `strongroom.v1.Replicas`.

use std::{sync::Arc, time::Duration};

use strongroom_proto::v1::{
    ListReplicasRequest, ListReplicasResponse, Replica, ReplicaState, WorkLease, replicas_server,
};

use super::{call::serve, encode};
use crate::service::{
    Caller, Service, ServiceError,
    replicas::{ReplicaView, Standing},
};

serve!(replicas_server::Replicas {
    list_replicas(ListReplicasRequest) -> ListReplicasResponse;
});

async fn list_replicas(
    service: &Arc<Service>,
    caller: &Caller,
    _: ListReplicasRequest,
) -> Result<ListReplicasResponse, ServiceError> {
    let found = service.list_replicas(caller).await?;
    let leases = found.leases.into_iter().map(|(lease, holder, left)| WorkLease {
        work: lease.name,
        replica: format!("replicas/{holder}"),
        left: Some(duration(left)),
        token: i64::try_from(lease.token).unwrap_or(i64::MAX),
    });
    Ok(ListReplicasResponse {
        replicas: found.replicas.into_iter().map(replica).collect(),
        leases: leases.collect(),
        heard_ago: Some(duration(found.heard_ago)),
        store: found.store.to_owned(),
    })
}

fn replica(view: ReplicaView) -> Replica {
    let state = match view.standing {
        Standing::Serving => ReplicaState::Serving,
        Standing::Closed => ReplicaState::Closed,
        Standing::Silent => ReplicaState::Silent,
    };
    let row = view.row;
    Replica {
        name: format!("replicas/{}", row.name),
        ordinal: i32::try_from(row.ordinal.get()).unwrap_or(i32::MAX),
        state: state.into(),
        version: view.version,
        address: view.address,
        create_time: Some(encode::time(row.created)),
        silent_for: view.silent_for.map(duration),
        behind: view.behind,
        log_records: i64::try_from(row.log_size).unwrap_or(i64::MAX),
        log_closed: row.closed,
        trouble: view.trouble,
        answers: view.answers,
    }
}

fn duration(of: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(of.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(of.subsec_nanos()).unwrap_or_default(),
    }
}

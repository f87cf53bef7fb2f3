//! `strongroom.v1.AuditLog/StreamAuditRecords`: the log as it grows.
//!
//! Whoever takes a message drives the stream: nothing is read ahead, so a slow reader is waited for and costs nothing.
//! It ends when its right is taken away, its caller's identity holds no more, or the server ends.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::unfold;
use strongroom_hsm::protocol::Moment;
use strongroom_proto::v1::{StreamAuditRecordsRequest, StreamAuditRecordsResponse};
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Code, Request, Status};

use super::{query, record};
use crate::{
    grpc::{
        errors,
        front::over,
        stream::{End, Terms, end},
    },
    service::{
        Caller, Problem, Service, ServiceError,
        audit::{Following, Portion},
    },
};

/// How often the log is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A stream says something at least so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The messages of one stream.
pub(in crate::grpc) type Records = Pin<Box<dyn Stream<Item = Result<StreamAuditRecordsResponse, Status>> + Send>>;

/// Opens a stream.
pub(super) async fn open(
    service: &Arc<Service>,
    request: Request<StreamAuditRecordsRequest>,
) -> Result<Records, Status> {
    let (_, mut extensions, message) = request.into_parts();
    // The front puts them there; a route that it does not stand before must not be served.
    let caller = extensions.remove::<Caller>().zip(extensions.remove::<Terms>());
    let (caller, terms) = caller.ok_or_else(|| errors::of_problem(&Problem::Internal, ""))?;
    let begun = async {
        let query = query(message.filter)?;
        service.follow_audit_log(&caller, query, message.start_index).await
    };
    let following = begun.await.map_err(|error| errors::status(&error, &caller.request))?;
    let reading = Reading {
        following,
        follow: message.follow,
        end: Box::pin(end(terms.clone())),
        over: Box::pin(over(caller.identity.lease().clone())),
        said: Moment::now(),
        told: None,
        caller,
        terms,
    };
    Ok(Box::pin(unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        match reading.next().await? {
            Ok(message) => Some((Ok(message), Some(reading))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

struct Reading {
    following: Following,
    caller: Caller,
    terms: Terms,
    follow: bool,
    /// Ends it before its caller does.
    end: Pin<Box<dyn Future<Output = End> + Send>>,
    /// Comes when its caller's identity holds no more.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When the last message was given.
    said: Moment,
    /// The `next_index` of the last message.
    told: Option<u64>,
}

impl Reading {
    /// The next message; none when all that was there has been said.
    async fn next(&mut self) -> Option<Result<StreamAuditRecordsResponse, Status>> {
        let Self { following, caller, terms, follow, end, over, said, told } = self;
        let request = caller.request.clone();
        let portion = tokio::select! {
            biased;
            () = over => return Some(Err(errors::identity_over(&request))),
            end = end => return Some(Err(ended(end, &request))),
            portion = portion(following, caller, terms, Progress { follow: *follow, said: *said, told: *told }) => portion,
        };
        match portion {
            Ok(None) => None,
            Ok(Some(Portion { records, next })) => {
                (*said, *told) = (Moment::now(), Some(next));
                let records = records.into_iter().map(record).collect();
                Some(Ok(StreamAuditRecordsResponse { records, next_index: next }))
            }
            Err(error) => Some(Err(errors::status(&error, &request))),
        }
    }
}

/// What a reader was told so far.
struct Progress {
    follow: bool,
    said: Moment,
    told: Option<u64>,
}

/// What is to be said next; nothing at the end of what is there.
async fn portion(
    following: &mut Following,
    caller: &Caller,
    terms: &Terms,
    progress: Progress,
) -> Result<Option<Portion>, ServiceError> {
    loop {
        following.check()?;
        let is_behind = following.is_behind();
        let found = if is_behind {
            let Some(_place) = terms.room.bulk_place(&caller.identity) else {
                // Those who use keys go first; what waits here is in the log.
                sleep(LOOK_EVERY).await;
                continue;
            };
            following.more().await?
        } else {
            Portion { records: Vec::new(), next: following.next() }
        };
        let is_silent = Moment::now().since(progress.said) >= SAY_EVERY;
        match (found.records.is_empty(), is_behind, progress.follow) {
            (false, ..) => return Ok(Some(found)),
            _ if is_silent => return Ok(Some(found)),
            (true, true, _) => {}
            (true, false, false) if progress.told == Some(found.next) => return Ok(None),
            (true, false, false) => return Ok(Some(found)),
            (true, false, true) => sleep(LOOK_EVERY).await,
        }
    }
}

/// The status of a stream that is ended.
fn ended(end: End, request: &str) -> Status {
    let message = match end {
        End::Server => "the server ends: go on at the last next_index",
        End::Connection => "this connection has had its time: go on at the last next_index, on another",
        End::Deadline => return errors::of_problem(&Problem::DeadlineExceeded, request),
    };
    errors::refusal(Code::Unavailable, "ENDING", message, request)
}

//! `strongroom.v1.Events`.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::unfold;
use strongroom_hsm::protocol::Moment;
use strongroom_proto::v1::{
    DeadLetter, ListDeadLettersRequest, ListDeadLettersResponse, ListWebhooksRequest, ListWebhooksResponse,
    ReplayDeadLettersRequest, ReplayDeadLettersResponse, WatchEventsRequest, WatchEventsResponse, Webhook,
    events_server,
};
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Code, Request, Status};

use super::{
    call::serve,
    encode, errors,
    front::over,
    names,
    pages::List,
    stream::{End, Terms, end},
};
use crate::{
    model::{EventType, Timestamp},
    service::{
        Caller, Problem, Service, ServiceError,
        events::{EventFilter, From, Portion, Watch},
    },
    store::{self, EventPlace},
};

/// How often it is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A stream says something at least so often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// More types than there are.
const TYPES_MAX: usize = 64;

/// The messages of one stream.
type Told = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

serve!(events_server::Events {
    list_webhooks(ListWebhooksRequest) -> ListWebhooksResponse;
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse;
    replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse;
} {
    type WatchEventsStream = Told;

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Result<tonic::Response<Told>, Status> {
        open(&self.service, request).await.map(tonic::Response::new)
    }
});

async fn list_webhooks(
    service: &Arc<Service>,
    caller: &Caller,
    _: ListWebhooksRequest,
) -> Result<ListWebhooksResponse, ServiceError> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let webhooks = service.list_webhooks(caller).await?.into_iter().map(|webhook| Webhook {
        name: format!("webhooks/{}", webhook.name),
        pending: count(webhook.pending),
        dead_letters: count(webhook.dead),
    });
    Ok(ListWebhooksResponse { webhooks: webhooks.collect() })
}

async fn list_dead_letters(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListDeadLettersRequest,
) -> Result<ListDeadLettersResponse, ServiceError> {
    let webhook = names::webhook("parent", &message.parent)?;
    let list = List { kind: "deadLetters", parent: &webhook, deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse::<EventPlace>().ok())?;
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let after = page.after.unwrap_or_default();
    let mut found = service.list_dead_letters(caller, &webhook, after, page.size + 1).await?;
    let more = found.len() > size;
    found.truncate(size);
    let next_page_token = list.next(more, found.last().map(|letter| letter.place.to_string()));
    let now = service.now();
    let dead_letters = found.iter().map(|letter| dead_letter(&webhook, letter, now)).collect();
    Ok(ListDeadLettersResponse { dead_letters, next_page_token })
}

fn dead_letter(webhook: &str, letter: &store::DeadLetter, now: Timestamp) -> DeadLetter {
    // Nobody acts on what is shown here: it is checked again before it is delivered.
    let event = letter.event.unchecked();
    let age = i64::try_from(letter.age.as_secs()).unwrap_or(i64::MAX);
    DeadLetter {
        name: format!("webhooks/{webhook}/deadLetters/{}", encode::event_id(event.id)),
        event: Some(encode::event(event)),
        attempts: i32::try_from(letter.attempts).unwrap_or(i32::MAX),
        last_attempt_time: Some(encode::time(Timestamp(now.0.saturating_sub(age)))),
        failure: letter.failure.clone(),
    }
}

async fn replay_dead_letters(
    service: &Arc<Service>,
    caller: &Caller,
    message: ReplayDeadLettersRequest,
) -> Result<ReplayDeadLettersResponse, ServiceError> {
    let (webhook, event) = names::dead_letters("name", &message.name)?;
    let queued = service.replay_dead_letters(caller, &webhook, event).await?;
    Ok(ReplayDeadLettersResponse { queued: i64::try_from(queued).unwrap_or(i64::MAX) })
}

/// What is to be told, and from where on.
fn asked(message: &WatchEventsRequest) -> Result<(EventFilter, From), Problem> {
    let vault = if message.parent.is_empty() { None } else { Some(names::vault("parent", &message.parent)?) };
    if message.types.len() > TYPES_MAX {
        return Err(Problem::Invalid { field: "types", why: format!("are more than {TYPES_MAX}") });
    }
    let kind = |name: &String| {
        EventType::from_name(name).ok_or_else(|| {
            let known: Vec<&str> = EventType::ALL.into_iter().map(EventType::name).collect();
            Problem::Invalid {
                field: "types",
                why: format!("there is no type {name:?}; there are {}", known.join(", ")),
            }
        })
    };
    let types = message.types.iter().map(kind).collect::<Result<_, _>>()?;
    let from = match message.resume_token.as_str() {
        "" if message.from_beginning => From::Beginning,
        "" => From::Now,
        _ if message.from_beginning => {
            let why = "is not said beside a resume_token".to_owned();
            return Err(Problem::Invalid { field: "from_beginning", why });
        }
        token => From::After(token.parse().map_err(|error| names::invalid("resume_token", &error))?),
    };
    Ok((EventFilter { vault, types }, from))
}

async fn open(service: &Arc<Service>, request: Request<WatchEventsRequest>) -> Result<Told, Status> {
    let (_, mut extensions, message) = request.into_parts();
    // The front puts them there; a route that it does not stand before must not be served.
    let caller = extensions.remove::<Caller>().zip(extensions.remove::<Terms>());
    let (caller, terms) = caller.ok_or_else(|| errors::of_problem(&Problem::Internal, ""))?;
    let begun = async {
        let (filter, from) = asked(&message)?;
        service.watch_events(&caller, filter, from).await
    };
    let watch = begun.await.map_err(|error| errors::status(&error, &caller.request))?;
    let watching = Watching {
        watch,
        follows: !message.no_follow,
        end: Box::pin(end(terms.clone())),
        over: Box::pin(over(caller.identity.lease().clone())),
        // The place that it begins at is told at once: who is cut off then misses nothing.
        said: None,
        is_done: false,
        caller,
        terms,
    };
    Ok(Box::pin(unfold(Some(watching), |watching| async {
        let mut watching = watching?;
        match watching.next().await? {
            Ok(message) => Some((Ok(message), Some(watching))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

/// One who watches: nothing is read ahead, so a slow reader is waited for and costs nothing.
struct Watching {
    watch: Watch,
    caller: Caller,
    terms: Terms,
    follows: bool,
    /// Ends it before its caller does.
    end: Pin<Box<dyn Future<Output = End> + Send>>,
    /// Comes when its caller's identity holds no more.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When the last message was given.
    said: Option<Moment>,
    /// All was told that was there.
    is_done: bool,
}

impl Watching {
    /// The next message; none when all that was there has been told.
    async fn next(&mut self) -> Option<Result<WatchEventsResponse, Status>> {
        if self.is_done {
            return None;
        }
        let Self { watch, caller, terms, follows, end, over, said, .. } = self;
        let request = caller.request.clone();
        let portion = tokio::select! {
            biased;
            () = over => return Some(Err(errors::identity_over(&request))),
            end = end => return Some(Err(ended(end, &request))),
            portion = portion(watch, caller, terms, (*follows, *said)) => portion,
        };
        match portion {
            Ok(Portion { events, place, is_all }) => {
                self.said = Some(Moment::now());
                self.is_done = is_all && !self.follows;
                let events = events.iter().map(encode::event).collect();
                Some(Ok(WatchEventsResponse { events, resume_token: place.to_string() }))
            }
            Err(error) => Some(Err(errors::status(&error, &request))),
        }
    }
}

/// What is to be told next.
async fn portion(
    watch: &mut Watch,
    caller: &Caller,
    terms: &Terms,
    (follows, said): (bool, Option<Moment>),
) -> Result<Portion, ServiceError> {
    loop {
        watch.check()?;
        let Some(place) = terms.room.bulk_place(&caller.identity) else {
            // Those who use keys go first; what waits here is kept.
            sleep(LOOK_EVERY).await;
            continue;
        };
        let portion = watch.more().await?;
        drop(place);
        let is_silent = said.is_none_or(|said| Moment::now().since(said) >= SAY_EVERY);
        if !portion.events.is_empty() || is_silent || (portion.is_all && !follows) {
            return Ok(portion);
        }
        if portion.is_all {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// The status of a stream that is ended.
fn ended(end: End, request: &str) -> Status {
    let message = match end {
        End::Server => "the server ends: go on at the last resume_token",
        End::Connection => "this connection has had its time: go on at the last resume_token, on another",
        End::Deadline => return errors::of_problem(&Problem::DeadlineExceeded, request),
    };
    errors::refusal(Code::Unavailable, "ENDING", message, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_told_and_nothing_that_cannot_be() {
        let (filter, from) = asked(&WatchEventsRequest::default()).expect("everything from now on");
        assert!(filter == EventFilter::default() && from == From::Now);
        let said = WatchEventsRequest {
            parent: "vaults/dev".to_owned(),
            types: vec!["strongroom.v1.KeyDeleted".to_owned()],
            resume_token: "7.1".to_owned(),
            ..Default::default()
        };
        let (filter, from) = asked(&said).expect("right");
        assert_eq!(filter.types, [EventType::KeyDeleted]);
        assert!(filter.vault.is_some() && matches!(from, From::After(place) if place.number == 1));
        for wrong in [
            WatchEventsRequest { parent: "dev".to_owned(), ..Default::default() },
            WatchEventsRequest { types: vec!["KeyDeleted".to_owned()], ..Default::default() },
            WatchEventsRequest { resume_token: "x".to_owned(), ..Default::default() },
            WatchEventsRequest { from_beginning: true, ..said },
        ] {
            assert!(asked(&wrong).is_err(), "{wrong:?}");
        }
    }
}

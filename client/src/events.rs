//! Events, and what waits for webhooks.

use strongroom_proto::v1::{
    DeadLetter, ListDeadLettersRequest, ListWebhooksRequest, ReplayDeadLettersRequest, WatchEventsRequest,
    WatchEventsResponse, Webhook,
};
use tonic::{Request, Streaming};

use crate::{Client, Error};

/// Events as they come. Opened by [`Client::watch_events`]; dropped, it ends.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    messages: Streaming<WatchEventsResponse>,
}

impl EventStream {
    /// Some events; there may be none in a message, which is a sign of life. `None` when all that was there has been told,
    /// which is never so where the stream follows.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::Unavailable`] open another at the last `resume_token`.
    pub async fn next(&mut self) -> Result<Option<WatchEventsResponse>, Error> {
        self.messages.message().await.map_err(|status| self.client.refused(&status))
    }
}

impl Client {
    /// Events from a place on, oldest first. The client's time is for opening the stream; with one deadline for all calls
    /// ([`Client::until`]) the stream ends then.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn watch_events(&self, request: WatchEventsRequest) -> Result<EventStream, Error> {
        let open = |mut request: Request<WatchEventsRequest>| async move {
            if !self.has_one_deadline() {
                // It was for opening; the stream has none.
                request.metadata_mut().remove("grpc-timeout");
            }
            self.events().watch_events(request).await
        };
        let messages = self.call(|| request.clone(), open).await?;
        Ok(EventStream { client: self.clone(), messages })
    }

    /// Every webhook that events were ever queued for.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_webhooks(&self) -> Result<Vec<Webhook>, Error> {
        let send = |request| async { self.events().list_webhooks(request).await };
        Ok(self.call(|| ListWebhooksRequest {}, send).await?.webhooks)
    }

    /// Deliveries that were given up, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_dead_letters(&self, mut request: ListDeadLettersRequest) -> Result<Vec<DeadLetter>, Error> {
        let mut letters = Vec::new();
        loop {
            let send = |request| async { self.events().list_dead_letters(request).await };
            let page = self.call(|| request.clone(), send).await?;
            letters.extend(page.dead_letters);
            if page.next_page_token.is_empty() {
                return Ok(letters);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Queues dead letters again: `webhooks/{webhook}`, or one of them by its name. Says how many.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn replay_dead_letters(&self, name: &str) -> Result<i64, Error> {
        let request = || ReplayDeadLettersRequest { name: name.to_owned() };
        let send = |request| async { self.events().replay_dead_letters(request).await };
        Ok(self.call(request, send).await?.queued)
    }
}

//! What generated stubs send on: each request says to which server it goes.

use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    transport,
};

use super::Endpoints;
use crate::methods::{Repetition, repetition};

/// The way of one attempt, in the extensions of its request.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) at: usize,
    /// What its method allows: known once it is sent.
    pub(crate) repetition: Arc<OnceLock<Option<Repetition>>>,
}

impl Way {
    pub(crate) fn to(at: usize) -> Self {
        Self { at, repetition: Arc::default() }
    }
}

/// Sends each request to its server.
#[derive(Clone, Debug)]
pub(crate) struct Wire(pub(crate) Arc<Endpoints>);

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = transport::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // That of the channel it will be is not known yet.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut channel = match request.extensions().get::<Way>() {
            Some(way) => {
                // Set once: a request is sent once.
                let _ = way.repetition.set(repetition(request.uri().path()));
                self.0.channel(way.at)
            }
            None => self.0.any_channel(),
        };
        Box::pin(async move {
            poll_fn(|cx| channel.poll_ready(cx)).await?;
            channel.call(request).await
        })
    }
}

//! An answer's body that keeps what its request holds until it has been taken: its place, and its ticket, which
//! is told the code that comes in the trailers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::front::{Place, Ticket, code};

/// A body and what is kept with it.
pub(super) struct Kept {
    body: Body,
    ticket: Option<Ticket>,
    _place: Option<Place>,
}

impl Kept {
    /// Keeps both with the body.
    pub(super) fn new(body: Body, ticket: Ticket, place: Option<Place>) -> Self {
        Self { body, ticket: Some(ticket), _place: place }
    }
}

impl hyper::body::Body for Kept {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
            && let Some(ticket) = self.ticket.take()
        {
            ticket.end(code(trailers));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

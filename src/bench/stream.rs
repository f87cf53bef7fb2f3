//! A caller that keeps many operations under way on one stream.

use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    call::said,
    load::{Caller, Seen},
};

/// How many operations are under way on one stream.
pub const UNDER_WAY: usize = 64;

/// A method that streams both ways.
pub trait Method: Send + 'static {
    /// What is sent.
    type Request: Send + 'static;
    /// What comes.
    type Response: Send + 'static;
    /// What is in it.
    type Answer: Send + 'static;

    /// Opens a stream.
    fn open(
        &mut self,
        requests: ReceiverStream<Self::Request>,
    ) -> impl Future<Output = Result<Streaming<Self::Response>, Status>> + Send;

    /// A request with that id.
    fn request(&self, id: u64) -> Self::Request;

    /// The id of a response, and what is in it.
    fn answer(response: Self::Response) -> (u64, Result<Self::Answer, String>);
}

/// Keeps [`UNDER_WAY`] operations under way: each answer is followed by a request.
pub struct Pump<M>(pub M);

impl<M: Method> Caller for Pump<M> {
    type Answer = M::Answer;

    async fn work(self, seen: &mut Seen<M::Answer>) -> Result<(), String> {
        let Self(mut method) = self;
        let (sender, receiver) = mpsc::channel(UNDER_WAY);
        // By id: an id is free again once it was answered.
        let mut begun = vec![Instant::now(); UNDER_WAY];
        for id in 0..UNDER_WAY as u64 {
            let request = method.request(id);
            sender.send(request).await.map_err(|_| ENDED.to_owned())?;
        }
        let mut responses = method.open(ReceiverStream::new(receiver)).await.map_err(|status| said(&status))?;
        let mut sender = Some(sender);
        while let Some(response) = responses.message().await.map_err(|status| said(&status))? {
            let (id, answer) = M::answer(response);
            let ended = Instant::now();
            let slot = usize::try_from(id).ok().and_then(|at| begun.get_mut(at)).ok_or("an id that was not sent")?;
            seen.record(*slot, ended, 1, answer?);
            *slot = ended;
            if seen.is_over(ended) {
                // The server ends the stream when what is under way is answered.
                sender = None;
            } else if let Some(sender) = &sender {
                let request = method.request(id);
                sender.send(request).await.map_err(|_| ENDED.to_owned())?;
            }
        }
        if sender.is_some() { Err(ENDED.to_owned()) } else { Ok(()) }
    }
}

const ENDED: &str = "the server has ended the stream";

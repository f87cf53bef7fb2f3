//! Operations as they come, each answered when it is ready.
//!
//! A task of its own takes the answers and gives each, checked, to the call that waits for its id. When the stream
//! ends it says how, and every call that still waits ends with that. It holds nothing that callers hold: when the last
//! handle is gone it goes too, and the server withdraws what is under way.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prost::Message as _;
use secrecy::SecretSlice;
use strongroom_proto::v1::{StreamRequest, StreamResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    Algorithm, Cause, Ciphertext, Client, DataKey, DataKeyLength, Encryption, Error, Input, Operation, Outcome,
    Plaintext, Sealed, Signature, UnwrappedKey, Verdict, WrappedDataKey, WrappedKey,
    operation::{Wanted, another_kind},
};

/// The most operations under way: with more the server would read no further.
const OPERATIONS_MAX: usize = 256;
/// The longest message. The server ends the stream at a longer one, and with it the other operations.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most messages that wait to be written to the connection.
const MESSAGES_MAX: usize = 16;

/// A stream of operations. It has the methods of [`Client`] that use a key, with the same results.
///
/// ```no_run
/// # use strongroom_client::{Algorithm, Client, Error, Input};
/// # async fn example(client: Client, messages: Vec<Vec<u8>>) -> Result<(), Error> {
/// let stream = client.stream().await?;
/// let mut signing = tokio::task::JoinSet::new();
/// for message in messages {
///     let stream = stream.clone();
///     signing.spawn(async move {
///         stream.sign("vaults/dev/keys/release", &Algorithm::ES256, Input::Message(&message)).await
///     });
/// }
/// for signed in signing.join_all().await {
///     println!("{} bytes", signed?.signature.len());
/// }
/// stream.close().await
/// # }
/// ```
///
/// * At most 256 operations are under way; the next call waits until one is answered. A call that waits holds no
///   copy of its input.
/// * A call ends: by its answer, by an error of its own, by its deadline, or when the stream ends, with the cause.
///   Nothing is repeated; repeating is safe. So whose call has ended with an error has no answer, and every other has.
///   A stream is one server's: where there are several, the error names it ([`Error::Connection`]), and another stream
///   goes to another.
/// * A call that is dropped before it was sent is not sent. One that was sent is done, its answer is dropped, and
///   until then it keeps its place among the 256. No other call notices.
/// * The server ends streams when it ends itself ([`Error::Unavailable`], reason `ENDING`): open another.
///
/// Cheap to clone: clones share the stream. With the last one it ends, and what is under way is withdrawn; to wait
/// for it, [`close`](Self::close). Opened and used on a tokio runtime.
#[derive(Clone)]
pub struct OperationStream {
    client: Client,
    line: Arc<Line>,
}

/// The end of the stream that callers hold.
struct Line {
    room: Arc<Semaphore>,
    /// `None` is the last message.
    outgoing: mpsc::Sender<Option<StreamRequest>>,
    waiting: Arc<Waiting>,
    end: watch::Receiver<Option<End>>,
    /// Which server it is of.
    at: usize,
}

/// Calls that were sent and not answered, by id.
#[derive(Default)]
struct Waiting(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    last_id: u64,
    by_id: HashMap<u64, Call>,
}

/// A call that was sent.
struct Call {
    wanted: Wanted,
    /// Whoever waits may have gone.
    caller: oneshot::Sender<Result<Outcome, Error>>,
    /// Taken until the answer comes, whoever waits for it.
    _room: OwnedSemaphorePermit,
}

/// How a stream has ended.
#[derive(Clone, Debug)]
enum End {
    /// Well: nothing more was to be answered.
    Closed,
    /// By the server's word, or below gRPC.
    Failed(Status),
    /// With an answer to nothing.
    Strange,
}

impl Client {
    /// Opens a stream for operations as they come. Its calls have this client's time: each by itself, or all
    /// together ([`Client::until`]), and then the server ends the stream with it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stream(&self) -> Result<OperationStream, Error> {
        let open = |mut request: Request<()>| async move {
            if !self.has_one_deadline() {
                // It was for opening; the stream has none.
                request.metadata_mut().remove("grpc-timeout");
            }
            let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
            let messages = ReceiverStream::new(messages).map_while(|message| message);
            let answers = self.crypto().stream(request.map(|()| messages)).await;
            answers.map(|answers| answers.map(|answers| (outgoing, answers)))
        };
        let ((outgoing, answers), at) = self.call_somewhere(|| (), open).await?;
        let waiting = Arc::new(Waiting::default());
        let (ending, end) = watch::channel(None);
        tokio::spawn(listen((self.clone(), at), answers, Arc::clone(&waiting), ending));
        let line = Line { room: Arc::new(Semaphore::new(OPERATIONS_MAX)), outgoing, waiting, end, at };
        Ok(OperationStream { client: self.clone(), line: Arc::new(line) })
    }
}

/// Gives answers to those who wait for them, until the stream ends or nobody is left.
async fn listen(
    (client, at): (Client, usize),
    mut answers: Streaming<StreamResponse>,
    waiting: Arc<Waiting>,
    ending: watch::Sender<Option<End>>,
) {
    let end = loop {
        let answer = tokio::select! {
            answer = answers.message() => answer,
            // To drop the answers is to withdraw what is under way.
            () = ending.closed() => return,
        };
        match answer {
            Ok(Some(answer)) => {
                let Some(call) = waiting.take(answer.id) else { break End::Strange };
                let outcome = client.outcome(call.wanted, answer.result.unwrap_or_default());
                // Nobody waits for it any more: it is wiped.
                drop(call.caller.send(outcome));
            }
            Ok(None) => break End::Closed,
            Err(status) => {
                if let Some(cause) = below_grpc(&status) {
                    client.lost(at, cause);
                }
                break End::Failed(status);
            }
        }
    };
    ending.send_replace(Some(end));
}

impl Waiting {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of a call that is sent now.
    fn add(&self, call: Call) -> u64 {
        let mut calls = self.calls();
        calls.last_id += 1;
        let id = calls.last_id;
        calls.by_id.insert(id, call);
        id
    }

    fn take(&self, id: u64) -> Option<Call> {
        self.calls().by_id.remove(&id)
    }
}

impl OperationStream {
    /// Any operation.
    ///
    /// # Errors
    /// As the method of its name; [`Error::Closed`] after [`OperationStream::close`]; the cause when the stream
    /// has ended.
    pub async fn operate(&self, operation: Operation<'_>) -> Result<Outcome, Error> {
        let exchange = async {
            tokio::select! {
                // What has come is taken, even if it is the last.
                biased;
                outcome = self.exchange(operation) => outcome,
                ended = self.ended() => ended,
            }
        };
        self.client.in_time(self.client.deadline(), exchange).await
    }

    /// Sends it when there is room, and waits for its answer.
    async fn exchange(&self, operation: Operation<'_>) -> Result<Outcome, Error> {
        let room = Arc::clone(&self.line.room).acquire_owned().await.map_err(|_| self.over())?;
        let Ok(place) = self.line.outgoing.reserve().await else { return self.ended().await };
        let (caller, outcome) = oneshot::channel();
        let message = StreamRequest { id: u64::MAX, operation: Some(operation.request()) };
        if message.encoded_len() > MESSAGE_BYTES_MAX {
            return Err(self.client.refused(&too_large()));
        }
        // From here to the sending nothing waits, so no call is half begun.
        let call = Call { wanted: operation.wanted(), caller, _room: room };
        let id = self.line.waiting.add(call);
        place.send(Some(StreamRequest { id, ..message }));
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => self.ended().await,
        }
    }

    /// Waits for the cause, which comes after its first signs.
    async fn ended<T>(&self) -> Result<T, Error> {
        let mut end = self.line.end.clone();
        drop(end.wait_for(Option::is_some).await);
        Err(self.over())
    }

    /// Takes no more operations, of any clone, waits until all that are under way are answered, and ends the stream.
    ///
    /// # Errors
    /// What ended it before; [`Error::TimedOut`].
    pub async fn close(self) -> Result<(), Error> {
        self.line.room.close();
        let ending = async {
            // When it has ended already there is nobody to tell.
            drop(self.line.outgoing.send(None).await);
            match self.ended().await {
                Err(Error::Closed) => Ok(()),
                ended => ended,
            }
        };
        self.client.in_time(self.client.deadline(), ending).await
    }

    /// Why there is no answer.
    fn over(&self) -> Error {
        match &*self.line.end.borrow() {
            None | Some(End::Closed) => Error::Closed,
            Some(End::Strange) => Error::Unexpected("an answer to an operation that was not sent".to_owned()),
            Some(End::Failed(status)) if status.code() == Code::DeadlineExceeded => self.client.late(),
            Some(End::Failed(status)) => match below_grpc(status) {
                Some(cause) => self.client.broken(self.line.at, cause),
                None => self.client.refused(status),
            },
        }
    }

    /// See [`Client::sign`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn sign(&self, name: &str, algorithm: &Algorithm, input: Input<'_>) -> Result<Signature, Error> {
        match self.operate(Operation::Sign(name, algorithm, input)).await? {
            Outcome::Signature(signature) => Ok(signature),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::verify`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn verify(
        &self,
        name: &str,
        algorithm: &Algorithm,
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<Verdict, Error> {
        match self.operate(Operation::Verify(name, algorithm, input, signature)).await? {
            Outcome::Verdict(verdict) => Ok(verdict),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::encrypt`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn encrypt(&self, name: &str, algorithm: &Algorithm, data: Encryption<'_>) -> Result<Ciphertext, Error> {
        match self.operate(Operation::Encrypt(name, algorithm, data)).await? {
            Outcome::Ciphertext(ciphertext) => Ok(ciphertext),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::decrypt`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn decrypt(&self, name: &str, algorithm: &Algorithm, data: Sealed<'_>) -> Result<Plaintext, Error> {
        match self.operate(Operation::Decrypt(name, algorithm, data)).await? {
            Outcome::Plaintext(plaintext) => Ok(plaintext),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::wrap_key`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn wrap_key(&self, name: &str, algorithm: &Algorithm, key: &[u8]) -> Result<WrappedKey, Error> {
        match self.operate(Operation::WrapKey(name, algorithm, key)).await? {
            Outcome::WrappedKey(wrapped) => Ok(wrapped),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::unwrap_key`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn unwrap_key(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wrapped_key: &[u8],
    ) -> Result<UnwrappedKey, Error> {
        match self.operate(Operation::UnwrapKey(name, algorithm, wrapped_key)).await? {
            Outcome::UnwrappedKey(key) => Ok(key),
            _ => Err(another_kind()),
        }
    }

    /// 1 to 1024 random bytes.
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn random_bytes(&self, length: u16) -> Result<SecretSlice<u8>, Error> {
        match self.operate(Operation::RandomBytes(length)).await? {
            Outcome::RandomBytes(bytes) => Ok(bytes),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::generate_data_key`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn generate_data_key(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wanted: DataKeyLength<'_>,
    ) -> Result<DataKey, Error> {
        match self.operate(Operation::DataKey(name, algorithm, wanted)).await? {
            Outcome::DataKey(made) => Ok(made),
            _ => Err(another_kind()),
        }
    }

    /// See [`Client::generate_data_key_without_plaintext`].
    ///
    /// # Errors
    /// As [`OperationStream::operate`].
    pub async fn generate_data_key_without_plaintext(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wanted: DataKeyLength<'_>,
    ) -> Result<WrappedDataKey, Error> {
        match self.operate(Operation::WrappedDataKey(name, algorithm, wanted)).await? {
            Outcome::WrappedDataKey(made) => Ok(made),
            _ => Err(another_kind()),
        }
    }
}

impl fmt::Debug for OperationStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under_way = self.line.waiting.calls().by_id.len();
        f.debug_struct("OperationStream").field("under_way", &under_way).finish_non_exhaustive()
    }
}

/// Why the connection ended, if it did: what the server says has no source; what has one came from below.
fn below_grpc(status: &Status) -> Option<Cause> {
    std::error::Error::source(status).map(|_| Cause::of(status).unwrap_or(Cause::Broken))
}

/// What the server would say, and then end the stream.
fn too_large() -> Status {
    let details = ErrorDetails::with_error_info("REQUEST_TOO_LARGE", "strongroom.v1", []);
    Status::with_error_details(Code::InvalidArgument, "an operation of a stream is at most 1 MiB long", details)
}

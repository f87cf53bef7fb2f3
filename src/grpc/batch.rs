//! `strongroom.v1.Crypto/Batch`. It has a route of its own because it alone takes messages of 4 MiB, and
//! because its messages are cut before they are read: a few bytes on the wire make an operation in memory, and
//! 4 MiB of them would make hundreds.

use std::{convert::Infallible, sync::Arc};

use bytes::Buf as _;
use prost::{
    Message as _,
    encoding::{DecodeContext, decode_key, skip_field},
};
use strongroom_proto::v1::{
    BatchRequest, BatchResponse, OperationRequest, OperationResponse, crypto_server::Crypto as _, operation_request,
    operation_response,
};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::Grpc,
};
use tower::service_fn;

use super::{BATCH_BYTES_MAX, Face, crypto, decode, errors, front};
use crate::{
    observe::metrics::OPERATIONS,
    service::{
        Caller, Problem, Service, ServiceError,
        asked::Asked,
        batch::{Done, ITEMS_MAX, Item},
    },
};

/// Puts the route before those of its service.
pub(super) fn route(router: axum::Router, face: Face) -> axum::Router {
    let answer = move |request: http::Request<axum::body::Body>| {
        let face = face.clone();
        let method = service_fn(move |request| {
            let face = face.clone();
            async move { face.batch(request).await }
        });
        async move {
            let mut grpc = Grpc::new(BatchCodec).apply_max_message_size_config(Some(BATCH_BYTES_MAX), None);
            Ok::<_, Infallible>(grpc.unary(method, request).await)
        }
    };
    router.route_service(front::BATCH, service_fn(answer))
}

struct BatchCodec;

impl Codec for BatchCodec {
    type Encode = BatchResponse;
    type Decode = BatchRequest;
    type Encoder = BatchEncoder;
    type Decoder = BatchDecoder;

    fn encoder(&mut self) -> BatchEncoder {
        BatchEncoder
    }

    fn decoder(&mut self) -> BatchDecoder {
        BatchDecoder
    }
}

/// Takes the room for a whole answer at once: growing a buffer of 8 KiB to hundreds copies it over and over.
struct BatchEncoder;

impl Encoder for BatchEncoder {
    type Item = BatchResponse;
    type Error = Status;

    fn encode(&mut self, message: BatchResponse, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Reads no more operations than it takes to know that there are too many.
struct BatchDecoder;

impl Decoder for BatchDecoder {
    type Item = BatchRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<BatchRequest>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        let message = message.slice(..cut(&message));
        // What tonic says of a message that cannot be read: the front knows it.
        BatchRequest::decode(message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Where the first field after those that are allowed ends, or the message.
fn cut(message: &[u8]) -> usize {
    let mut rest = message;
    for _ in 0..=ITEMS_MAX {
        if rest.is_empty() {
            break;
        }
        let field = decode_key(&mut rest);
        let skipped = field.and_then(|(tag, wire)| skip_field(wire, tag, &mut rest, DecodeContext::default()));
        if skipped.is_err() {
            // The reader will find the same.
            return message.len();
        }
    }
    message.len() - rest.len()
}

/// The operations, each read by itself: one that cannot be is its own result.
pub(super) async fn batch(
    service: &Arc<Service>,
    caller: &Caller,
    message: BatchRequest,
) -> Result<BatchResponse, ServiceError> {
    let labels: Vec<_> = message.operations.iter().map(label).collect();
    let items = message.operations.into_iter().map(|operation| read(operation).map_err(ServiceError::from)).collect();
    let results = service.batch(caller, items).await?;
    let mut ends = Ends::default();
    let mut shown = Vec::with_capacity(results.len());
    for (result, label) in results.into_iter().zip(labels) {
        let result = show(result, caller);
        ends.note(label, &result);
        shown.push(OperationResponse { result: Some(result) });
    }
    ends.count("batch");
    Ok(BatchResponse { results: shown })
}

fn read(message: OperationRequest) -> Result<Item, Problem> {
    use operation_request::Operation;
    Ok(match decode::required("operation", message.operation)? {
        Operation::Sign(message) => {
            let (name, algorithm, input) = crypto::read_sign(message)?;
            Item::Sign(name, Asked::sign(algorithm, input))
        }
        Operation::Verify(message) => {
            let (name, algorithm, input, signature) = crypto::read_verify(message)?;
            Item::Verify(name, Asked::verify(algorithm, input, signature))
        }
        Operation::Encrypt(message) => {
            let (name, algorithm, plaintext, iv, additional_data) = crypto::read_encrypt(message)?;
            Item::Encrypt(name, Asked::encrypt(algorithm, plaintext, iv, additional_data))
        }
        Operation::Decrypt(message) => {
            let (name, algorithm, input) = crypto::read_decrypt(message)?;
            Item::Decrypt(name, Asked::decrypt(algorithm, input))
        }
        Operation::WrapKey(message) => {
            let (name, algorithm, key) = crypto::read_wrap_key(message)?;
            Item::Wrap(name, Asked::wrap(algorithm, key))
        }
        Operation::UnwrapKey(message) => {
            let (name, algorithm, input) = crypto::read_unwrap_key(message)?;
            Item::Unwrap(name, Asked::unwrap(algorithm, input))
        }
        Operation::GenerateDataKey(message) => {
            let (name, new) = crypto::read_data_key(message)?;
            Item::DataKey(name, Asked::data_key(new))
        }
        Operation::GenerateDataKeyWithoutPlaintext(message) => {
            let (name, new) = crypto::read_wrapped_data_key(message)?;
            Item::WrappedDataKey(name, Asked::wrapped_data_key(new))
        }
        Operation::GenerateRandomBytes(message) => Item::Random(crypto::read_length(&message)),
        Operation::ReEncrypt(message) => {
            let (name, algorithm, input, to) = crypto::read_re_encrypt(message)?;
            Item::ReEncrypt(name, Asked::decrypt(algorithm, input), to)
        }
        Operation::RewrapKey(message) => {
            let (name, algorithm, input, to) = crypto::read_rewrap_key(message)?;
            Item::Rewrap(name, Asked::unwrap(algorithm, input), to)
        }
    })
}

fn show(result: Result<Done, ServiceError>, caller: &Caller) -> operation_response::Result {
    use operation_response::Result as Answer;
    match result {
        Ok(Done::Signed(done)) => Answer::Sign(crypto::signed(done)),
        Ok(Done::Verified(done)) => Answer::Verify(crypto::verified(done)),
        Ok(Done::Encrypted(done)) => Answer::Encrypt(crypto::encrypted(done)),
        Ok(Done::Decrypted(done)) => Answer::Decrypt(crypto::decrypted(done)),
        Ok(Done::Wrapped(done)) => Answer::WrapKey(crypto::wrapped(done)),
        Ok(Done::Unwrapped(done)) => Answer::UnwrapKey(crypto::unwrapped(done)),
        Ok(Done::DataKey(done)) => Answer::GenerateDataKey(crypto::data_key(done)),
        Ok(Done::WrappedDataKey(done)) => Answer::GenerateDataKeyWithoutPlaintext(crypto::wrapped_data_key(done)),
        Ok(Done::Random(done)) => Answer::GenerateRandomBytes(crypto::random(done)),
        Ok(Done::ReEncrypted(source, done)) => Answer::ReEncrypt(crypto::re_encrypted(&source, done)),
        Ok(Done::Rewrapped(source, done)) => Answer::RewrapKey(crypto::rewrapped(&source, done)),
        Err(error) => failed(&error, &caller.request),
    }
}

/// An operation that has no result: the status that it would have had alone.
pub(super) fn failed(error: &ServiceError, request: &str) -> operation_response::Result {
    operation_response::Result::Error(errors::embedded(&errors::status(error, request)))
}

/// The name of an operation, as metrics have it.
pub(super) fn label(message: &OperationRequest) -> &'static str {
    use operation_request::Operation;
    match message.operation {
        Some(Operation::Sign(_)) => "Sign",
        Some(Operation::Verify(_)) => "Verify",
        Some(Operation::Encrypt(_)) => "Encrypt",
        Some(Operation::Decrypt(_)) => "Decrypt",
        Some(Operation::WrapKey(_)) => "WrapKey",
        Some(Operation::UnwrapKey(_)) => "UnwrapKey",
        Some(Operation::GenerateDataKey(_)) => "GenerateDataKey",
        Some(Operation::GenerateDataKeyWithoutPlaintext(_)) => "GenerateDataKeyWithoutPlaintext",
        Some(Operation::GenerateRandomBytes(_)) => "GenerateRandomBytes",
        Some(Operation::ReEncrypt(_)) => "ReEncrypt",
        Some(Operation::RewrapKey(_)) => "RewrapKey",
        None => "none",
    }
}

/// How many operations of each kind have ended how.
#[derive(Default)]
pub(super) struct Ends(Vec<(&'static str, Code, u64)>);

impl Ends {
    /// One more.
    pub(super) fn note(&mut self, label: &'static str, result: &operation_response::Result) {
        let code = match result {
            operation_response::Result::Error(status) => Code::from(status.code),
            _ => Code::Ok,
        };
        match self.0.iter_mut().find(|(known, ended, _)| (*known, *ended) == (label, code)) {
            Some((.., count)) => *count += 1,
            None => self.0.push((label, code, 1)),
        }
    }

    /// Adds them to the metrics.
    pub(super) fn count(self, form: &'static str) {
        for (label, code, count) in self.0 {
            let code = front::name(code);
            metrics::counter!(OPERATIONS, "form" => form, "operation" => label, "code" => code).increment(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strongroom_proto::v1::GenerateRandomBytesRequest;

    use super::*;

    fn random(length_bytes: i32) -> OperationRequest {
        let operation = operation_request::Operation::GenerateRandomBytes(GenerateRandomBytesRequest { length_bytes });
        OperationRequest { operation: Some(operation) }
    }

    fn decoded(message: &[u8]) -> usize {
        BatchRequest::decode(&message[..cut(message)]).expect("a batch").operations.len()
    }

    #[test]
    fn no_more_is_read_than_shows_that_there_are_too_many() {
        for (count, read) in
            [(0, 0), (1, 1), (ITEMS_MAX, ITEMS_MAX), (ITEMS_MAX + 1, ITEMS_MAX + 1), (5000, ITEMS_MAX + 1)]
        {
            let operations = (0..count).map(|n| random(i32::try_from(n).expect("small"))).collect();
            assert_eq!(decoded(&BatchRequest { operations }.encode_to_vec()), read);
        }
        // The shortest operations there are: 4 MiB of them are two million.
        assert_eq!(decoded(&[0x0a, 0].repeat(1 << 21)), ITEMS_MAX + 1);
    }

    proptest! {
        #[test]
        fn a_message_that_is_not_cut_is_whole(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = BatchRequest::decode(&*bytes);
            let cut = BatchRequest::decode(&bytes[..cut(&bytes)]);
            prop_assert_eq!(whole.is_ok(), cut.is_ok());
        }
    }
}

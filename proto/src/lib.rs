//! The wire contract of Strongroom, generated from `strongroom/v1/*.proto`, and nothing else.
//!
//! Messages that carry secrets print as their type's name only.

/// The package `strongroom.v1`.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("strongroom.v1");
}

/// The encoded `FileDescriptorSet`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

macro_rules! redacted {
    ($($message:ident),* $(,)?) => {$(
        impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), " { [redacted] }"))
            }
        }
    )*};
}

redacted!(EncryptRequest, DecryptResponse, SignRequest, WrapKeyRequest, UnwrapKeyResponse, GenerateRandomBytesResponse,);

//! The wire contract of Strongroom, generated from `strongroom/v1/*.proto`, and nothing else.
//!
//! Messages that carry secrets print as their type's name only.

/// The package `strongroom.v1`.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("strongroom.v1");
}

/// The sources, comments and all: each file's path as others import it, and its text. Other languages
/// generate from them.
pub const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The encoded `FileDescriptorSet`, with all that is imported: for server reflection, and for tools that take no
/// sources.
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

redacted!(
    EncryptRequest,
    DecryptResponse,
    SignRequest,
    VerifyRequest,
    WrapKeyRequest,
    UnwrapKeyResponse,
    GenerateRandomBytesResponse,
    GenerateDataKeyResponse,
    ImportKeyRequest,
    CreateTokenResponse,
    SetSecretRequest,
    GetSecretValueResponse,
);

#[cfg(test)]
mod tests {
    use super::{SOURCES, v1};

    #[test]
    fn the_sources_are_there_with_their_comments() {
        let crypto = SOURCES.iter().find(|(path, _)| *path == "strongroom/v1/crypto.proto").expect("a source").1;
        assert!(crypto.contains("// Signs a digest or a message."), "comments are what people read");
        let imported = SOURCES
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter_map(|line| line.strip_prefix("import \"")?.strip_suffix("\";"));
        for path in imported.filter(|path| !path.starts_with("google/protobuf/")) {
            assert!(SOURCES.iter().any(|(known, _)| *known == path), "{path} is imported and not published");
        }
    }

    #[test]
    fn messages_that_carry_keys_or_secrets_show_none_of_them() {
        let secret = vec![0x5a; 32];
        let oct = Some(v1::import_key_request::Material::Oct(secret.clone()));
        let import = v1::ImportKeyRequest { material: oct, ..Default::default() };
        let set = v1::SetSecretRequest { value: secret.clone(), ..Default::default() };
        let read = v1::GetSecretValueResponse { value: secret.clone(), ..Default::default() };
        let data_key = v1::GenerateDataKeyResponse { key: secret, ..Default::default() };
        // What is signed may be confidential, and is the same when it is verified; also among other operations.
        let message = Some(v1::verify_request::Input::Message(data_key.key.clone()));
        let verify = v1::VerifyRequest { input: message, ..Default::default() };
        let operation = Some(v1::operation_request::Operation::Verify(verify.clone()));
        let batch = v1::BatchRequest { operations: vec![v1::OperationRequest { operation }] };
        let secrets = [format!("{set:?}"), format!("{read:?}")];
        let others = [format!("{import:?}"), format!("{data_key:#?}"), format!("{verify:?}"), format!("{batch:?}")];
        for shown in secrets.into_iter().chain(others) {
            assert!(shown.contains("redacted") && !shown.contains("90") && !shown.contains("5a"), "{shown}");
        }
    }
}

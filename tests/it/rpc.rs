//! gRPC itself: identities, deadlines, repetition, paging, checks, limits; and what goes wrong, with its
//! code and its details.

use std::time::Duration;

use strongroom_proto::v1::{
    CreateKeyRequest, CreateRoleAssignmentRequest, CreateVaultRequest, DecryptRequest, DeleteKeyRequest,
    DeleteRoleAssignmentRequest, EncryptRequest, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest,
    GenerateRandomBytesRequest, GetKeyRequest, GetPublicKeysRequest, ImportKeyRequest, Key, KeyVersion,
    ListKeysRequest, NetworkRules, RoleAssignment, SignRequest, UnwrapKeyRequest, UpdateKeyVersionRequest,
    UpdateVaultRequest, Vault, crypto_client::CryptoClient, import_key_request, keys_client::KeysClient,
    role_assignments_client::RoleAssignmentsClient, sign_request, vaults_client::VaultsClient,
};
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use crate::dev::Dev;

/// The role Key Vault Crypto User.
pub(crate) const CRYPTO_USER: &str = "roleDefinitions/12338af00e694776bea757ae8d297424";

fn read(path: String) -> Vec<u8> {
    std::fs::read(path).expect("reads")
}

fn endpoint(dev: &Dev) -> Endpoint {
    Channel::from_shared(dev.variable("STRONGROOM_ENDPOINT")).expect("a URI").timeout(Duration::from_secs(60))
}

fn ca(dev: &Dev) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(dev.variable("STRONGROOM_CA"))))
}

/// A connection as the development administrator.
pub(crate) async fn connect(dev: &Dev) -> Channel {
    let identity = Identity::from_pem(read(dev.variable("STRONGROOM_CERT")), read(dev.variable("STRONGROOM_KEY")));
    let endpoint = endpoint(dev).tls_config(ca(dev).identity(identity)).expect("TLS");
    endpoint.connect().await.expect("connects")
}

/// Certificate and key (PEM) of somebody else whom the development CA knows by that URI.
pub(crate) fn identity(dev: &Dev, uri: &str) -> (String, String) {
    let ca_pem = String::from_utf8(read(dev.variable("STRONGROOM_CA"))).expect("text");
    let ca_key = String::from_utf8(read(dev.data().join("tls/ca.key").display().to_string())).expect("text");
    let ca_key = rcgen::KeyPair::from_pem(&ca_key).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca_pem, ca_key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::default();
    parameters.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("ASCII"))];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = parameters.signed_by(&key, &issuer).expect("signs");
    (certificate.pem(), key.serialize_pem())
}

/// A connection as somebody else.
pub(crate) async fn connect_as(dev: &Dev, uri: &str) -> Channel {
    let (certificate, key) = identity(dev, uri);
    let identity = Identity::from_pem(certificate, key);
    endpoint(dev).tls_config(ca(dev).identity(identity)).expect("TLS").connect().await.expect("connects")
}

pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

pub(crate) fn ec(name: &str) -> CreateKeyRequest {
    CreateKeyRequest {
        parent: "vaults/dev".to_owned(),
        key_id: name.to_owned(),
        version: Some(KeyVersion { key_type: 2, ..KeyVersion::default() }),
        ..CreateKeyRequest::default()
    }
}

pub(crate) fn sign(name: &str) -> SignRequest {
    SignRequest {
        name: name.to_owned(),
        algorithm: "ES256".to_owned(),
        input: Some(sign_request::Input::Digest(vec![1; 32])),
        input_crc32c: None,
    }
}

pub(crate) async fn made(channel: &Channel, name: &str) -> Key {
    KeysClient::new(channel.clone()).create_key(ec(name)).await.expect("made").into_inner()
}

#[tokio::test]
async fn without_a_certificate_nothing_is_said() {
    let dev = Dev::new();
    let channel = endpoint(&dev).tls_config(ca(&dev)).expect("TLS").connect().await;
    // Refused at the handshake or with a status: never served.
    if let Ok(channel) = channel {
        let status = CryptoClient::new(channel).sign(sign("vaults/dev/keys/k")).await.expect_err("refused");
        assert!(matches!(status.code(), Code::Unauthenticated | Code::Unavailable | Code::Unknown), "{status:?}");
    }
}

#[tokio::test]
async fn without_a_role_what_exists_and_what_does_not_look_alike() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "secret").await;
    let stranger = connect_as(&dev, "spiffe://dev.strongroom.invalid/stranger").await;
    let mut texts = Vec::new();
    for name in ["vaults/dev/keys/secret", "vaults/dev/keys/nothing"] {
        let status = CryptoClient::new(stranger.clone()).sign(sign(name)).await.expect_err("denied");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
        texts.push(status.message().replace(name, "it"));
    }
    assert_eq!(texts[0], texts[1]);
    let status = CryptoClient::new(stranger.clone()).sign(sign("vaults/other/keys/k")).await.expect_err("denied");
    assert_eq!(status.code(), Code::PermissionDenied);
    let (mut keys, mut crypto) = (KeysClient::new(stranger.clone()), CryptoClient::new(stranger));
    let (name, algorithm) = ("vaults/dev/keys/secret".to_owned(), "A256KW".to_owned());
    let import = ImportKeyRequest {
        parent: "vaults/dev".to_owned(),
        key_id: "mine".to_owned(),
        material: Some(import_key_request::Material::Oct(vec![1; 32])),
        ..ImportKeyRequest::default()
    };
    let data_key = GenerateDataKeyRequest { name: name.clone(), algorithm: algorithm.clone(), ..Default::default() };
    let wrapped = GenerateDataKeyWithoutPlaintextRequest { name: name.clone(), algorithm, ..Default::default() };
    let public = GetPublicKeysRequest { name, ..Default::default() };
    for (refused, action) in [
        (keys.import_key(import).await.err(), "keys.import"),
        (keys.get_public_keys(public).await.err(), "keys.read"),
        (crypto.generate_data_key(data_key).await.err(), "dataKeys.generate "),
        (crypto.generate_data_key_without_plaintext(wrapped).await.err(), "dataKeys.generateWrapped"),
    ] {
        let status = refused.expect(action);
        assert_eq!(status.code(), Code::PermissionDenied, "{action}");
        assert!(status.message().contains(action), "{}", status.message());
    }
}

#[tokio::test]
async fn a_role_is_in_force_when_it_is_answered_and_gone_when_it_is_taken() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "k").await;
    let who = "spiffe://dev.strongroom.invalid/ci";
    let user = connect_as(&dev, who).await;
    let mut roles = RoleAssignmentsClient::new(admin.clone());
    let assignment = RoleAssignment {
        principal: who.to_owned(),
        role: CRYPTO_USER.to_owned(),
        scope: "vaults/dev".to_owned(),
        ..Default::default()
    };
    let request = CreateRoleAssignmentRequest { role_assignment: Some(assignment), ..Default::default() };
    let given = roles.create_role_assignment(request.clone()).await.expect("assigned").into_inner();
    let mut crypto = CryptoClient::new(user.clone());
    crypto.sign(sign("vaults/dev/keys/k")).await.expect("permitted");
    let vault = CreateVaultRequest { vault_id: "mine".to_owned(), vault: Some(Vault::default()), ..Default::default() };
    let status = VaultsClient::new(user).create_vault(vault).await.expect_err("users make no vaults");
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = roles.create_role_assignment(request).await.expect_err("it exists");
    assert_eq!(status.code(), Code::AlreadyExists);
    let request = DeleteRoleAssignmentRequest { name: given.name, ..Default::default() };
    roles.delete_role_assignment(request).await.expect("taken");
    let status = crypto.sign(sign("vaults/dev/keys/k")).await.expect_err("gone");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let dev = Dev::new();
    let mut roles = RoleAssignmentsClient::new(connect(&dev).await);
    let listed = roles.list_role_assignments(strongroom_proto::v1::ListRoleAssignmentsRequest::default()).await;
    let only = listed.expect("listed").into_inner().role_assignments.pop().expect("one");
    let request = DeleteRoleAssignmentRequest { name: only.name, ..Default::default() };
    let status = roles.delete_role_assignment(request).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "LAST_ADMINISTRATOR"));
}

#[tokio::test]
async fn a_repeated_request_id_makes_one_version() {
    let dev = Dev::new();
    let mut keys = KeysClient::new(connect(&dev).await);
    let request = CreateKeyRequest { request_id: "7d4f3e52-3b3f-4f3a-9f0e-000000000001".to_owned(), ..ec("once") };
    let first = keys.create_key(request.clone()).await.expect("made").into_inner();
    let second = keys.create_key(request.clone()).await.expect("the same").into_inner();
    assert_eq!(first, second);
    let other = CreateKeyRequest { key_id: "other".to_owned(), ..request };
    let status = keys.create_key(other).await.expect_err("another request");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn validate_only_changes_nothing() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let mut keys = KeysClient::new(channel);
    let shown =
        keys.create_key(CreateKeyRequest { validate_only: true, ..ec("no") }).await.expect("valid").into_inner();
    assert_eq!(shown.name, "vaults/dev/keys/no");
    let status = keys.get_key(GetKeyRequest { name: shown.name }).await.expect_err("not made");
    assert_eq!(status.code(), Code::NotFound);
    let wrong = KeyVersion { key_type: 2, key_operations: vec![1], ..KeyVersion::default() };
    let wrong = CreateKeyRequest { validate_only: true, version: Some(wrong), ..ec("no") };
    assert_eq!(keys.create_key(wrong).await.expect_err("EC does not encrypt").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn etags_and_masks_are_kept() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let key = made(&channel, "k").await;
    let mut keys = KeysClient::new(channel);
    let version = key.version.expect("a version");
    let update = |etag: &str, paths: &[&str]| UpdateKeyVersionRequest {
        version: Some(KeyVersion { enabled: Some(false), etag: etag.to_owned(), ..version.clone() }),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..UpdateKeyVersionRequest::default()
    };
    let status = keys.update_key_version(update("0000000000000000", &["enabled"])).await.expect_err("another state");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let status = keys.update_key_version(update("", &["public_key"])).await.expect_err("output only");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = keys.update_key_version(update("", &[])).await.expect_err("nothing named");
    assert_eq!(status.code(), Code::InvalidArgument);
    let changed = keys.update_key_version(update(&version.etag, &["enabled"])).await.expect("changed").into_inner();
    assert_eq!(changed.enabled, Some(false));
    assert_ne!(changed.etag, version.etag);
    assert_eq!(changed.key_operations, version.key_operations);
}

#[tokio::test]
async fn pages_are_complete_and_in_order() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    for n in 0..7 {
        made(&channel, &format!("key-{n}")).await;
    }
    let mut keys = KeysClient::new(channel);
    let list = |page_size: i32, page_token: String| ListKeysRequest {
        parent: "vaults/dev".to_owned(),
        page_size,
        page_token,
        show_deleted: false,
        filter: None,
    };
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = keys.list_keys(list(3, token.clone())).await.expect("listed").into_inner();
        assert!(page.keys.len() <= 3);
        names.extend(page.keys.into_iter().map(|key| key.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..7).map(|n| format!("vaults/dev/keys/key-{n}")).collect::<Vec<_>>());
    for (size, token) in [(-1, ""), (1001, ""), (3, "bm9uc2Vuc2U"), (3, "!!")] {
        let status = keys.list_keys(list(size, token.to_owned())).await.expect_err("wrong");
        assert_eq!(status.code(), Code::InvalidArgument, "{size} {token}");
    }
}

#[tokio::test]
async fn a_deadline_is_honoured() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let mut request = Request::new(CreateKeyRequest {
        version: Some(KeyVersion { key_type: 1, key_size: 4096, ..KeyVersion::default() }),
        ..ec("slow")
    });
    request.set_timeout(Duration::from_millis(2));
    let status = KeysClient::new(channel.clone()).create_key(request).await.expect_err("too late");
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    made(&channel, "served").await;
}

#[tokio::test]
async fn damage_on_the_way_is_found() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    made(&channel, "k").await;
    let mut crypto = CryptoClient::new(channel);
    let request = SignRequest { input_crc32c: Some(1), ..sign("vaults/dev/keys/k") };
    assert_eq!(crypto.sign(request).await.expect_err("damaged").code(), Code::InvalidArgument);
    let right = crc32c::crc32c(&[1; 32]);
    let request = SignRequest { input_crc32c: Some(right), ..sign("vaults/dev/keys/k") };
    let signed = crypto.sign(request).await.expect("whole").into_inner();
    assert_eq!(signed.signature_crc32c, crc32c::crc32c(&signed.signature));
}

#[tokio::test]
async fn wrong_requests_get_the_right_code_and_the_server_stays_up() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    made(&channel, "k").await;
    let mut crypto = CryptoClient::new(channel.clone());
    let name = "vaults/dev/keys/k".to_owned();
    let digest = |bytes: usize| SignRequest {
        input: Some(sign_request::Input::Digest(vec![1; bytes])),
        ..sign("vaults/dev/keys/k")
    };
    for (request, code) in [
        (digest(31), Code::InvalidArgument),
        (digest(0), Code::InvalidArgument),
        (SignRequest { input: None, ..digest(32) }, Code::InvalidArgument),
        (SignRequest { name: "keys/k".to_owned(), ..digest(32) }, Code::InvalidArgument),
        (SignRequest { name: "vaults/dev/keys/nobody".to_owned(), ..digest(32) }, Code::NotFound),
        (SignRequest { algorithm: "RS256".to_owned(), ..digest(32) }, Code::InvalidArgument),
        (SignRequest { algorithm: "none".to_owned(), ..digest(32) }, Code::InvalidArgument),
        (
            SignRequest { input: Some(sign_request::Input::Message(vec![0; 65_537])), ..digest(32) },
            Code::InvalidArgument,
        ),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(crypto.sign(request).await.expect_err("wrong").code(), code, "{shown}");
    }
    let huge =
        EncryptRequest { name, algorithm: "A256GCM".to_owned(), plaintext: vec![0; 2 << 20], ..Default::default() };
    let status = crypto.encrypt(huge).await.expect_err("too large");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument), "{status:?}");
    let unknown = CreateKeyRequest { version: Some(KeyVersion { key_type: 99, ..Default::default() }), ..ec("x") };
    let status = KeysClient::new(channel).create_key(unknown).await.expect_err("unknown enum");
    assert_eq!(status.code(), Code::InvalidArgument);
    crypto.sign(sign("vaults/dev/keys/k")).await.expect("the server is up");
}

fn of_key(name: &str, algorithm: &str) -> DecryptRequest {
    DecryptRequest { name: name.to_owned(), algorithm: algorithm.to_owned(), ..DecryptRequest::default() }
}

fn allowing(allowed: bool) -> UpdateVaultRequest {
    let vault = Vault { name: "vaults/strict".to_owned(), padding_decryption_allowed: allowed, ..Vault::default() };
    let paths = vec!["padding_decryption_allowed".to_owned()];
    let update_mask = Some(prost_types::FieldMask { paths });
    UpdateVaultRequest { vault: Some(vault), update_mask, ..UpdateVaultRequest::default() }
}

#[tokio::test]
async fn padded_decryption_is_refused_until_the_vault_allows_it() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let mut vaults = VaultsClient::new(channel.clone());
    let vault =
        CreateVaultRequest { vault_id: "strict".to_owned(), vault: Some(Vault::default()), ..Default::default() };
    assert!(!vaults.create_vault(vault).await.expect("made").into_inner().padding_decryption_allowed);
    for (name, key_type) in [("rsa", 1), ("aes", 3)] {
        let version = Some(KeyVersion { key_type, ..KeyVersion::default() });
        let request = CreateKeyRequest { parent: "vaults/strict".to_owned(), version, ..ec(name) };
        KeysClient::new(channel.clone()).create_key(request).await.expect("made");
    }
    let mut crypto = CryptoClient::new(channel);
    let mut requests = Vec::new();
    for (key, algorithm, iv) in [("rsa", "RSA1_5", 0), ("aes", "A256CBCPAD", 16), ("aes", "A256CBC", 16)] {
        let asked = of_key(&format!("vaults/strict/keys/{key}"), algorithm);
        let request = EncryptRequest {
            name: asked.name.clone(),
            algorithm: asked.algorithm.clone(),
            plaintext: vec![5; 16],
            iv: vec![7; iv],
            ..EncryptRequest::default()
        };
        let made = crypto.encrypt(request).await.expect("encrypting is no oracle").into_inner();
        requests.push(DecryptRequest { ciphertext: made.ciphertext, iv: made.iv, ..asked });
    }
    crypto.decrypt(requests.pop().expect("A256CBC")).await.expect("has no padding to tell of");
    let unwrap = UnwrapKeyRequest {
        name: requests[0].name.clone(),
        algorithm: "RSA1_5".to_owned(),
        wrapped_key: requests[0].ciphertext.clone(),
        ..UnwrapKeyRequest::default()
    };
    for allowed in [false, true, false] {
        vaults.update_vault(allowing(allowed)).await.expect("changed");
        let mut answers = vec![crypto.unwrap_key(unwrap.clone()).await.map(|answer| answer.into_inner().key)];
        for request in &requests {
            answers.push(crypto.decrypt(request.clone()).await.map(|answer| answer.into_inner().plaintext));
        }
        for answer in answers {
            match answer {
                Ok(plaintext) => assert!(allowed && plaintext == [5; 16]),
                Err(status) => {
                    let found = (status.code(), reason(&status));
                    assert_eq!(found, (Code::FailedPrecondition, "PADDING_DECRYPTION_OFF".to_owned()));
                    assert!(!allowed && status.message().contains("padding_decryption_allowed"), "{status:?}");
                }
            }
        }
    }
    let log: String = std::fs::read_dir(dev.data().join("audit/journal"))
        .expect("a log")
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default())
        .collect();
    assert!(log.contains("padding_decryption_allowed=true") && log.contains("PADDING_DECRYPTION_OFF"));
}

fn network(public: bool, ranges: &[&str]) -> UpdateVaultRequest {
    let allowed_ranges = ranges.iter().map(|range| (*range).to_owned()).collect();
    let network = NetworkRules { public_access: Some(public), allowed_ranges, local_access: None };
    let vault = Vault { name: "vaults/dev".to_owned(), network: Some(network), ..Vault::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["network".to_owned()] });
    UpdateVaultRequest { vault: Some(vault), update_mask, ..UpdateVaultRequest::default() }
}

#[tokio::test]
async fn a_vault_is_used_from_where_it_says() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let mut vaults = VaultsClient::new(channel.clone());
    KeysClient::new(channel.clone()).create_key(ec("k")).await.expect("made");
    let mut crypto = CryptoClient::new(channel);
    for (public, ranges, admitted) in [
        (true, &[][..], true),
        (false, &["10.0.0.0/8"][..], false),
        (false, &["10.0.0.0/8", "127.0.0.1"][..], true),
        (false, &[][..], false),
    ] {
        let vault = vaults.update_vault(network(public, ranges)).await.expect("changed").into_inner();
        let rules = vault.network.expect("always there");
        assert_eq!((rules.public_access(), rules.local_access()), (public, true));
        let answer = crypto.sign(sign("vaults/dev/keys/k")).await;
        match answer {
            Ok(_) => assert!(admitted, "{ranges:?}"),
            Err(status) => {
                let found = (status.code(), reason(&status));
                assert_eq!(found, (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
                assert!(!admitted, "{ranges:?}");
            }
        }
    }
    for (public, ranges) in [(true, "10.0.0.0/8"), (false, "10.0.0.1/8"), (false, "all")] {
        let status = vaults.update_vault(network(public, &[ranges])).await.expect_err("wrong");
        let details = status.get_error_details();
        let field = details.bad_request().map(|wrong| wrong.field_violations[0].field.clone());
        assert_eq!(field.as_deref(), Some("vault.network.allowed_ranges"), "{status:?}");
    }
}

#[tokio::test]
async fn a_version_tells_of_a_hundred_wrong_paddings_and_no_more() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let version = Some(KeyVersion { key_type: 1, ..KeyVersion::default() });
    let made = || CreateKeyRequest { version: version.clone(), ..ec("old") };
    let mut keys = KeysClient::new(channel.clone());
    let first = keys.create_key(made()).await.expect("made").into_inner().version.expect("a version").name;
    let mut crypto = CryptoClient::new(channel);
    let encrypted = |algorithm: &str| EncryptRequest {
        name: first.clone(),
        algorithm: algorithm.to_owned(),
        plaintext: b"x".to_vec(),
        ..EncryptRequest::default()
    };
    let right = crypto.encrypt(encrypted("RSA1_5")).await.expect("encrypts").into_inner().ciphertext;
    let oaep = crypto.encrypt(encrypted("RSA-OAEP-256")).await.expect("encrypts").into_inner().ciphertext;
    let with =
        |name: &str, ciphertext: &[u8]| DecryptRequest { ciphertext: ciphertext.to_vec(), ..of_key(name, "RSA1_5") };
    for n in 0..100 {
        crypto.decrypt(with(&first, &right)).await.expect("what is right is no failure");
        let status = crypto.decrypt(with(&first, &oaep)).await.expect_err("another padding");
        assert_eq!(reason(&status), "DECRYPTION_FAILED", "{n}");
    }
    for ciphertext in [&oaep, &right] {
        let status = crypto.decrypt(with(&first, ciphertext)).await.expect_err("refused, right or wrong");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "PADDING_FAILURES"));
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a delay").as_secs();
        assert!((3000..=3600).contains(&delay), "{delay}");
    }
    crypto.encrypt(encrypted("RSA1_5")).await.expect("encrypts still");
    let request = DecryptRequest { ciphertext: oaep.clone(), ..of_key(&first, "RSA-OAEP-256") };
    crypto.decrypt(request).await.expect("another algorithm is not concerned");
    let second = keys.create_key(made()).await.expect("made").into_inner().version.expect("a version").name;
    let status = crypto.decrypt(with(&second, &right)).await.expect_err("of another key");
    assert_eq!(reason(&status), "DECRYPTION_FAILED", "another version has its own budget");
}

#[tokio::test]
async fn ivs_are_the_callers_for_cbc_only() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let version = Some(KeyVersion { key_type: 3, ..KeyVersion::default() });
    KeysClient::new(channel.clone()).create_key(CreateKeyRequest { version, ..ec("aes") }).await.expect("made");
    let mut crypto = CryptoClient::new(channel);
    for (algorithm, iv, length) in
        [("A256CBC", 0, 16), ("A256CBC", 12, 16), ("A256CBC", 16, 17), ("A256CBC", 16, 0), ("A256GCM", 12, 16)]
    {
        let request = EncryptRequest {
            name: "vaults/dev/keys/aes".to_owned(),
            algorithm: algorithm.to_owned(),
            plaintext: vec![1; length],
            iv: vec![1; iv],
            ..EncryptRequest::default()
        };
        let status = crypto.encrypt(request).await.expect_err("wrong");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_LENGTH"), "{algorithm}");
    }
}

#[tokio::test]
async fn random_bytes_come_in_the_asked_length_and_differ() {
    let dev = Dev::new();
    let mut crypto = CryptoClient::new(connect(&dev).await);
    let mut seen = Vec::new();
    for length_bytes in [1, 32, 1024, 1024] {
        let answer =
            crypto.generate_random_bytes(GenerateRandomBytesRequest { length_bytes }).await.expect("made").into_inner();
        assert_eq!(i32::try_from(answer.data.len()), Ok(length_bytes));
        assert!(!seen.contains(&answer.data) || length_bytes == 1);
        seen.push(answer.data);
    }
    for length_bytes in [-1, 0, 1025] {
        let status =
            crypto.generate_random_bytes(GenerateRandomBytesRequest { length_bytes }).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn the_newest_version_is_used_and_older_ones_stay() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let first = made(&channel, "k").await.version.expect("a version").name;
    let second = made(&channel, "k").await.version.expect("a version").name;
    let mut crypto = CryptoClient::new(channel.clone());
    assert_eq!(crypto.sign(sign("vaults/dev/keys/k")).await.expect("signs").into_inner().name, second);
    assert_eq!(crypto.sign(sign(&first)).await.expect("signs").into_inner().name, first);
    let mut keys = KeysClient::new(channel);
    let request = DeleteKeyRequest { name: "vaults/dev/keys/k".to_owned(), ..Default::default() };
    let deleted = keys.delete_key(request).await.expect("deleted").into_inner();
    assert_eq!(deleted.state, 2);
    let change = deleted.change.expect("a change");
    let (gone, purged) = (change.delete_time.expect("a time").seconds, change.purge_time.expect("a time").seconds);
    assert_eq!(purged - gone, 90 * 86_400);
    let status = crypto.sign(sign(&first)).await.expect_err("deleted");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "DELETED"));
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let status = health.check(request).await.expect("answers").into_inner().status;
    assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    let mut reflection = tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([request])).await.expect("answers").into_inner();
    let shown = format!("{:?}", answers.message().await.expect("a message"));
    for service in
        ["strongroom.v1.Keys", "strongroom.v1.Crypto", "strongroom.v1.Vaults", "strongroom.v1.RoleAssignments"]
    {
        assert!(shown.contains(service), "{service} in {shown}");
    }
}

//! Keys from outside and data keys at the front door, with OpenSSL on the other side.

use std::{
    fs,
    path::{Path, PathBuf},
};

use strongroom_proto::v1::{
    GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, ImportKeyRequest, KeyVersion,
    crypto_client::CryptoClient, import_key_request::Material, keys_client::KeysClient,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    dev::{Dev, openssl, text},
    rpc::connect,
};

const CURVES: [(&str, &str, &str); 4] = [
    ("prime256v1", "ES256", "sha256"),
    ("secp384r1", "ES384", "sha384"),
    ("secp521r1", "ES512", "sha512"),
    ("secp256k1", "ES256K", "sha256"),
];

/// A key pair of OpenSSL's: its private and its public file.
fn pair(dev: &Dev, name: &str, options: &[&str]) -> (PathBuf, PathBuf) {
    let (private, public) = (dev.path(&format!("{name}.key")), dev.path(&format!("{name}.pub")));
    openssl(&[&["genpkey", "-quiet", "-out", text(&private)][..], options].concat());
    openssl(&["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]);
    (private, public)
}

fn rsa(dev: &Dev, bits: &str) -> (PathBuf, PathBuf) {
    pair(dev, &format!("rsa-{bits}"), &["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
}

fn ec(dev: &Dev, curve: &str) -> (PathBuf, PathBuf) {
    pair(dev, curve, &["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")])
}

fn shown(dev: &Dev, name: &str, format: &str) -> serde_json::Value {
    serde_json::from_str(&dev.ok(&["key", "show", name, "-o", format])).expect("JSON")
}

#[test]
fn public_halves_verify_what_openssl_signed() {
    let dev = Dev::new();
    let (file, sig) = (dev.file("message", [0x5a; 10_000]), dev.path("sig"));
    for (curve, algorithm, digest) in CURVES {
        let (private, public) = ec(&dev, curve);
        dev.ok(&["key", "import", curve, "--public-key", text(&public)]);
        assert_eq!(
            dev.ok(&["key", "show", curve, "-o", "pem"]).trim(),
            fs::read_to_string(&public).expect("reads").trim()
        );
        openssl(&["dgst", &format!("-{digest}"), "-sign", text(&private), "-out", text(&sig), text(&file)]);
        let verify =
            ["key", "verify", curve, "--algorithm", algorithm, "--in", text(&file), "--signature", text(&sig), "--der"];
        dev.ok(&verify);
        let other = dev.file("other", "another message");
        let wrong = [
            "key",
            "verify",
            curve,
            "--algorithm",
            algorithm,
            "--in",
            text(&other),
            "--signature",
            text(&sig),
            "--der",
        ];
        assert_eq!(dev.run(&wrong).status.code(), Some(1));
    }
    let (private, public) = rsa(&dev, "2048");
    dev.ok(&["key", "import", "rsa", "--public-key", text(&public)]);
    for (algorithm, padding) in [("RS256", "pkcs1"), ("PS256", "pss")] {
        let padding = format!("rsa_padding_mode:{padding}");
        let salt: &[&str] = if algorithm == "PS256" { &["-sigopt", "rsa_pss_saltlen:digest"] } else { &[] };
        let sign = ["dgst", "-sha256", "-sign", text(&private), "-out", text(&sig), "-sigopt", &padding];
        openssl(&[&sign[..], salt, &[text(&file)]].concat());
        dev.ok(&["key", "verify", "rsa", "--algorithm", algorithm, "--in", text(&file), "--signature", text(&sig)]);
    }
    let view = shown(&dev, "rsa", "json");
    assert_eq!(view["version"]["residency"], "RESIDENCY_PUBLIC");
    let refused = dev.fails(&["key", "sign", "rsa", "--algorithm", "RS256", "--in", text(&file), "--out", text(&sig)]);
    assert!(refused.contains("only its public half is known here"), "{refused}");
}

#[test]
fn an_ed25519_public_half_verifies_what_openssl_signed() {
    let dev = Dev::new();
    let (file, sig) = (dev.file("message", [0x5a; 1000]), dev.path("sig"));
    let (private, public) = pair(&dev, "ed25519", &["-algorithm", "ED25519"]);
    dev.ok(&["key", "import", "ed", "--public-key", text(&public)]);
    openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", text(&private), "-in", text(&file), "-out", text(&sig)]);
    let verify = ["key", "verify", "ed", "--algorithm", "EdDSA", "--signature", text(&sig), "--in"];
    dev.ok(&[&verify[..], &[text(&file)]].concat());
    let other = dev.file("other", "another message");
    assert_eq!(dev.run(&[&verify[..], &[text(&other)]].concat()).status.code(), Some(1));
    assert_eq!(shown(&dev, "ed", "jwks")["keys"][0]["crv"], "Ed25519");
}

#[test]
fn imported_hmac_keys_make_the_macs_of_openssl() {
    let dev = Dev::new();
    let (file, mac) = (dev.file("message", [0x5a; 1000]), dev.path("mac"));
    for (bytes, residency) in [(1, "wrapped"), (20, "wrapped"), (32, "token"), (64, "wrapped")] {
        let secret: Vec<u8> = (0..bytes).map(|n| n as u8 ^ 0x91).collect();
        let (name, key) = (format!("hmac-{bytes}"), dev.file("secret", &secret));
        dev.ok(&["key", "import", &name, "--oct", text(&key), "--ops", "sign,verify", "--residency", residency]);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        for (algorithm, digest) in [("HS256", "-sha256"), ("HS384", "-sha384"), ("HS512", "-sha512")] {
            let key = format!("hexkey:{hex}");
            let made = openssl(&["dgst", digest, "-mac", "HMAC", "-macopt", &key, "-binary", text(&file)]);
            dev.ok(&["key", "sign", &name, "--algorithm", algorithm, "--in", text(&file), "--out", text(&mac)]);
            assert_eq!(fs::read(&mac).expect("reads"), made, "{algorithm} {bytes}");
            dev.ok(&["key", "verify", &name, "--algorithm", algorithm, "--in", text(&file), "--signature", text(&mac)]);
        }
    }
    let long = dev.file("long", [1; 64]);
    assert!(dev.fails(&["key", "import", "no", "--oct", text(&long)]).contains("AES keys have 16, 24 or 32"));
    let empty = dev.file("empty", "");
    let refused = dev.fails(&["key", "import", "no", "--oct", text(&empty), "--ops", "sign"]);
    assert!(refused.contains("has 0 bytes; HMAC keys of 1 to 64 bytes"), "{refused}");
    let mixed = dev.fails(&["key", "import", "no", "--oct", text(&long), "--ops", "sign,encrypt"]);
    assert!(mixed.contains("either signs and verifies (HMAC), or"), "{mixed}");
}

/// OpenSSL decrypts RSA-OAEP.
fn openssl_decrypts(private: &Path, ciphertext: &Path, hash: &str) -> Vec<u8> {
    let (oaep, mgf1) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
    let options = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &oaep, "-pkeyopt", &mgf1];
    openssl(&[&["pkeyutl", "-decrypt", "-inkey", text(private), "-in", text(ciphertext)][..], &options].concat())
}

#[test]
fn openssl_decrypts_what_public_halves_encrypted_and_wrapped() {
    let dev = Dev::new();
    let (plain, raw) = (dev.file("plain", "for the partner only"), dev.path("raw"));
    for bits in ["2048", "3072", "4096"] {
        let (private, public) = rsa(&dev, bits);
        // DER is taken as well as PEM.
        let der = dev.path("public.der");
        openssl(&["pkey", "-pubin", "-in", text(&public), "-outform", "DER", "-out", text(&der)]);
        let name = format!("partner-{bits}");
        dev.ok(&["key", "import", &name, "--public-key", text(&der)]);
        for (algorithm, hash) in [("RSA-OAEP", "sha1"), ("RSA-OAEP-256", "sha256")] {
            dev.ok(&[
                "key",
                "wrap",
                &name,
                "--algorithm",
                algorithm,
                "--in",
                text(&plain),
                "--out",
                text(&raw),
                "--raw",
            ]);
            assert_eq!(openssl_decrypts(&private, &raw, hash), b"for the partner only");
        }
        let (key, wrapped) = (dev.path("data.key"), dev.path("data.key.wrapped"));
        let files = ["--out", text(&key), "--wrapped-out", text(&wrapped)];
        dev.ok(&[&["key", "generate-data-key", &name, "--algorithm", "RSA-OAEP-256"][..], &files].concat());
        fs::write(&raw, wrapped_key(&wrapped)).expect("writes");
        assert_eq!(openssl_decrypts(&private, &raw, "sha256"), fs::read(&key).expect("reads"));
        let refused = dev.fails(&["key", "unwrap", &name, "--in", text(&wrapped), "--out", text(&key)]);
        assert!(refused.contains("only its public half is known here"), "{refused}");
    }
}

/// The bytes in a file that `key wrap` or `generate-data-key` wrote.
fn wrapped_key(file: &PathBuf) -> Vec<u8> {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let file: serde_json::Value = serde_json::from_slice(&fs::read(file).expect("reads")).expect("JSON");
    Base64UrlUnpadded::decode_vec(file["wrapped_key"].as_str().expect("text")).expect("base64url")
}

#[test]
fn openssl_wraps_and_unwraps_with_an_imported_aes_key() {
    let dev = Dev::new();
    let (key, raw, again) = (dev.file("key", [0x37; 40]), dev.path("raw"), dev.path("again"));
    for (bytes, residency) in [(16, "wrapped"), (24, "wrapped"), (32, "wrapped"), (32, "token")] {
        let secret: Vec<u8> = (0..bytes).map(|n| n as u8 ^ 0x91).collect();
        let (name, file) = (format!("aes-{bytes}-{residency}"), dev.file("secret", &secret));
        dev.ok(&["key", "import", &name, "--oct", text(&file), "--residency", residency]);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let (algorithm, cipher) = (format!("A{}KW", 8 * bytes), format!("-id-aes{}-wrap", 8 * bytes));
        dev.ok(&["key", "wrap", &name, "--algorithm", &algorithm, "--in", text(&key), "--out", text(&raw), "--raw"]);
        let iv = "A6A6A6A6A6A6A6A6";
        let opened = openssl(&["enc", "-d", &cipher, "-K", &hex, "-iv", iv, "-in", text(&raw)]);
        assert_eq!(opened, [0x37; 40]);
        let wrapped = openssl(&["enc", &cipher, "-K", &hex, "-iv", iv, "-in", text(&key)]);
        fs::write(&raw, wrapped).expect("writes");
        let version = shown(&dev, &name, "json")["version"]["name"].as_str().expect("text").to_owned();
        let open =
            ["key", "unwrap", &version, "--algorithm", &algorithm, "--raw", "--in", text(&raw), "--out", text(&again)];
        dev.ok(&open);
        assert_eq!(fs::read(&again).expect("reads"), [0x37; 40]);
    }
}

#[test]
fn data_keys_come_back_by_unwrap_and_decrypt() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    dev.ok(&["key", "create", "rsa", "--type", "RSA"]);
    let (key, wrapped, again) = (dev.path("key"), dev.path("wrapped"), dev.path("again"));
    for (name, algorithm, back) in [
        ("aes", "A256KW", "unwrap"),
        ("aes", "A256KWP", "unwrap"),
        ("rsa", "RSA-OAEP-256", "unwrap"),
        ("rsa", "RSA-OAEP", "unwrap"),
        ("aes", "A256GCM", "decrypt"),
    ] {
        for bytes in ["16", "24", "32", "64"] {
            let make = ["key", "generate-data-key", name, "--algorithm", algorithm, "--bytes", bytes];
            let open = ["key", back, name, "--in", text(&wrapped), "--out", text(&again)];
            let said = dev.ok(&[&make[..], &["--out", text(&key), "--wrapped-out", text(&wrapped)]].concat());
            assert!(said.contains(&format!("vaults/dev/keys/{name}/versions/")), "{said}");
            dev.ok(&open);
            let first = fs::read(&key).expect("reads");
            assert_eq!(first.len().to_string(), bytes);
            assert_eq!(fs::read(&again).expect("reads"), first, "{algorithm}");
            dev.ok(&[&make[..], &["--wrapped-only", "--wrapped-out", text(&wrapped)]].concat());
            dev.ok(&open);
            let second = fs::read(&again).expect("reads");
            assert!(second.len() == first.len() && second != first, "{algorithm}");
        }
    }
    let aad = dev.file("aad", "context");
    let make = ["key", "generate-data-key", "aes", "--algorithm", "A256GCM", "--aad", text(&aad)];
    dev.ok(&[&make[..], &["--out", text(&key), "--wrapped-out", text(&wrapped)]].concat());
    let open = ["key", "decrypt", "aes", "--in", text(&wrapped), "--out", text(&again)];
    assert!(dev.fails(&open).contains("--aad"));
    dev.ok(&[&open[..], &["--aad", text(&aad)]].concat());
    assert_eq!(fs::read(&again).expect("reads"), fs::read(&key).expect("reads"));
}

#[test]
fn a_key_set_holds_every_enabled_version_as_openssl_would_read_it() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "release", "--type", "EC"]);
    dev.ok(&["key", "create", "release", "--type", "RSA"]);
    dev.ok(&["key", "create", "release", "--type", "EC", "--curve", "P-521"]);
    let set = shown(&dev, "release", "jwks");
    let keys = set["keys"].as_array().expect("an array").clone();
    let types: Vec<&str> = keys.iter().map(|jwk| jwk["kty"].as_str().expect("text")).collect();
    assert_eq!(types, ["EC", "RSA", "EC"], "newest first");
    assert_eq!(keys[0], shown(&dev, "release", "jwk"), "one view of one key");
    assert_eq!(keys[1]["key_ops"], serde_json::json!(["verify", "encrypt", "wrapKey"]));
    let version = keys[1]["kid"].as_str().expect("text");
    let pem = dev.file("pem", dev.ok(&["key", "show", version, "-o", "pem"]));
    let modulus = openssl(&["rsa", "-pubin", "-in", text(&pem), "-noout", "-modulus"]);
    let modulus = String::from_utf8(modulus).expect("text").trim().trim_start_matches("Modulus=").to_ascii_lowercase();
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let n = Base64UrlUnpadded::decode_vec(keys[1]["n"].as_str().expect("text")).expect("base64url");
    assert_eq!(n.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), modulus);
    dev.ok(&["key", "update", version, "--disable"]);
    let kids = |set: &serde_json::Value| set["keys"].as_array().expect("an array").len();
    assert_eq!(kids(&shown(&dev, "release", "jwks")), 2);
    dev.ok(&["key", "create", "secret", "--type", "oct"]);
    assert!(dev.fails(&["key", "show", "secret", "-o", "jwks"]).contains("no enabled version with a public half"));
}

#[test]
fn public_keys_that_are_none_are_refused_with_the_reason() {
    let dev = Dev::new();
    let import = |file: &PathBuf| dev.fails(&["key", "import", "bad", "--public-key", text(file)]);
    let (private, _) = rsa(&dev, "1024");
    let small = import(&dev.path("rsa-1024.pub"));
    assert!(small.contains("has a modulus of 1024 bits; 2048, 3072 or 4096 are taken"), "{small}");
    assert!(import(&private).contains("holds a PRIVATE KEY"));
    let (_, curve) = ec(&dev, "secp224r1");
    assert!(import(&curve).contains("is not a key of a kind that is taken"));
    let exponent = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"];
    let (_, three) = pair(&dev, "three", &exponent);
    assert!(import(&three).contains("public exponent"));
    let (_, x25519) = pair(&dev, "x25519", &["-algorithm", "X25519"]);
    assert!(import(&x25519).contains("is not a key of a kind that is taken"));
    let (_, good) = ec(&dev, "prime256v1");
    let der = dev.path("der");
    openssl(&["pkey", "-pubin", "-in", text(&good), "-outform", "DER", "-out", text(&der)]);
    let mut bytes = fs::read(&der).expect("reads");
    *bytes.last_mut().expect("bytes") ^= 1;
    assert!(import(&dev.file("off", &bytes)).contains("is not an uncompressed point of its curve"));
    bytes.truncate(40);
    assert!(import(&dev.file("cut", &bytes)).contains("is not a SubjectPublicKeyInfo"));
    openssl(&["pkey", "-pubin", "-in", text(&good), "-ec_conv_form", "compressed", "-pubout", "-out", text(&der)]);
    assert!(import(&der).contains("uncompressed point"));
    let odd = dev.file("odd", [1; 17]);
    assert!(
        dev.fails(&["key", "import", "bad", "--oct", text(&odd)]).contains("has 17 bytes; AES keys have 16, 24 or 32")
    );
    assert!(dev.fails(&["key", "show", "bad"]).contains("does not exist"));
}

fn oct(name: &str, bytes: &[u8]) -> ImportKeyRequest {
    ImportKeyRequest {
        parent: "vaults/dev".to_owned(),
        key_id: name.to_owned(),
        material: Some(Material::Oct(bytes.to_vec())),
        ..ImportKeyRequest::default()
    }
}

#[tokio::test]
async fn wrong_imports_get_the_right_code_and_field() {
    let dev = Dev::new();
    let mut keys = KeysClient::new(connect(&dev).await);
    let version = |version: KeyVersion| ImportKeyRequest { version: Some(version), ..oct("k", &[1; 32]) };
    for (request, field) in [
        (ImportKeyRequest { material: None, ..oct("k", &[]) }, "material"),
        (oct("k", &[1; 15]), "oct"),
        (oct("", &[1; 32]), "key_id"),
        (ImportKeyRequest { material_crc32c: Some(1), ..oct("k", &[1; 32]) }, "material_crc32c"),
        (ImportKeyRequest { material: Some(Material::PublicKey(vec![1; 32])), ..oct("k", &[]) }, "public_key"),
        (version(KeyVersion { key_type: 1, ..KeyVersion::default() }), "version.key_type"),
        (version(KeyVersion { key_type: 3, key_size: 128, ..KeyVersion::default() }), "version.key_size"),
        (version(KeyVersion { residency: 3, ..KeyVersion::default() }), "version.residency"),
        (version(KeyVersion { residency: 9, ..KeyVersion::default() }), "version.residency"),
    ] {
        let status = keys.import_key(request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        let violations = status.get_details_bad_request().expect("a field").field_violations;
        assert_eq!(violations[0].field, field);
        assert!(!format!("{status:?}").contains("[1, 1"), "{status:?}");
    }
    let request =
        ImportKeyRequest { request_id: "7d4f3e52-3b3f-4f3a-9f0e-000000000009".to_owned(), ..oct("k", &[1; 32]) };
    let first = keys.import_key(request.clone()).await.expect("imported").into_inner();
    assert_eq!(keys.import_key(request.clone()).await.expect("the same").into_inner(), first);
    let other = ImportKeyRequest { material: Some(Material::Oct(vec![2; 32])), ..request };
    let status = keys.import_key(other).await.expect_err("other material");
    assert_eq!(status.get_details_error_info().map(|info| info.reason).as_deref(), Some("REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn data_keys_have_their_checksums_and_limits() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    let mut keys = KeysClient::new(channel.clone());
    keys.import_key(oct("k", &[1; 32])).await.expect("imported");
    let mut crypto = CryptoClient::new(channel);
    let request = |algorithm: &str, length_bytes: i32| GenerateDataKeyRequest {
        name: "vaults/dev/keys/k".to_owned(),
        algorithm: algorithm.to_owned(),
        length_bytes,
        ..GenerateDataKeyRequest::default()
    };
    let made = crypto.generate_data_key(request("A256KW", 0)).await.expect("made").into_inner();
    assert_eq!((made.key.len(), made.wrapped_key.len(), made.iv.len()), (32, 40, 0));
    assert_eq!(made.key_crc32c, crc32c::crc32c(&made.key));
    assert_eq!(made.wrapped_key_crc32c, crc32c::crc32c(&made.wrapped_key));
    let made = crypto.generate_data_key(request("A256GCM", 64)).await.expect("made").into_inner();
    assert_eq!((made.key.len(), made.wrapped_key.len(), made.iv.len(), made.tag.len()), (64, 64, 12, 16));
    let with_aad = GenerateDataKeyRequest { additional_data: vec![1; 16 * 1024 + 1], ..request("A256GCM", 32) };
    for request in [request("A256KW", -1), request("A256KW", 33), request("ES256", 32), request("none", 32), with_aad] {
        let shown = format!("{} {}", request.algorithm, request.length_bytes);
        assert_eq!(
            crypto.generate_data_key(request).await.expect_err("wrong").code(),
            Code::InvalidArgument,
            "{shown}"
        );
    }
    let damaged = GenerateDataKeyWithoutPlaintextRequest {
        name: "vaults/dev/keys/k".to_owned(),
        algorithm: "A256GCM".to_owned(),
        additional_data: vec![1],
        additional_data_crc32c: Some(1),
        ..GenerateDataKeyWithoutPlaintextRequest::default()
    };
    let status = crypto.generate_data_key_without_plaintext(damaged).await.expect_err("damaged");
    assert_eq!(status.code(), Code::InvalidArgument);
}

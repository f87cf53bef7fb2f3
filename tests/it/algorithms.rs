//! Every algorithm at the front door, in each residency, with OpenSSL on the other side. Both directions
//! of every algorithm against other implementations are in `hsm/tests/operations.rs`.

use std::fs;

use base64ct::{Base64UrlUnpadded, Encoding as _};

use crate::dev::{Dev, openssl, text};

const RESIDENCIES: [&str; 2] = ["wrapped", "token"];

/// What OpenSSL calls a signature algorithm.
fn openssl_options(algorithm: &str) -> (String, Vec<&'static str>) {
    let bits = &algorithm[2..5];
    let padding = if algorithm.starts_with("PS") {
        vec!["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]
    } else {
        vec![]
    };
    (format!("-sha{bits}"), padding)
}

fn signs_for_openssl(dev: &Dev, key: &str, algorithms: &[&str]) {
    let (file, pem, sig) = (dev.file("message", [0x5a; 100_000]), dev.path("pem"), dev.path("sig"));
    fs::write(&pem, dev.ok(&["key", "show", key, "-o", "pem"])).expect("writes");
    for algorithm in algorithms {
        // ECDSA has two forms; OpenSSL takes the one in DER.
        let form: &[&str] = if algorithm.starts_with("ES") { &["--der"] } else { &[] };
        let files = ["--in", text(&file), "--out", text(&sig)];
        dev.ok(&[&["key", "sign", key, "--algorithm", algorithm][..], &files, form].concat());
        let (digest, padding) = openssl_options(algorithm);
        let common = ["dgst", &digest, "-verify", text(&pem), "-signature", text(&sig)];
        openssl(&[&common[..], &padding, &[text(&file)]].concat());
        let files = ["--in", text(&file), "--signature", text(&sig)];
        dev.ok(&[&["key", "verify", key, "--algorithm", algorithm][..], &files, form].concat());
    }
}

#[test]
fn ec_signatures_verify_in_openssl() {
    let dev = Dev::new();
    for residency in RESIDENCIES {
        for (curve, algorithm) in [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("P-256K", "ES256K")] {
            let name = format!("{curve}-{residency}");
            dev.ok(&["key", "create", &name, "--type", "EC", "--curve", curve, "--residency", residency]);
            signs_for_openssl(&dev, &name, &[algorithm]);
        }
    }
}

#[test]
fn rsa_signatures_verify_in_openssl_and_its_ciphertexts_decrypt() {
    let dev = Dev::new();
    for residency in RESIDENCIES {
        let name = format!("rsa-{residency}");
        dev.ok(&["key", "create", &name, "--type", "RSA", "--residency", residency]);
        signs_for_openssl(&dev, &name, &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
        for (algorithm, hash) in [("RSA-OAEP", "sha1"), ("RSA-OAEP-256", "sha256")] {
            openssl_encrypts(&dev, &name, algorithm, hash);
        }
    }
}

/// OpenSSL encrypts with the public key; the service decrypts.
fn openssl_encrypts(dev: &Dev, key: &str, algorithm: &str, hash: &str) {
    let (plain, raw, pem) = (dev.file("plain", "for the key only"), dev.path("raw"), dev.path("pem"));
    let (envelope, out) = (dev.path("envelope"), dev.path("decrypted"));
    fs::write(&pem, dev.ok(&["key", "show", key, "-o", "pem"])).expect("writes");
    let (oaep, mgf1) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
    let options = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &oaep, "-pkeyopt", &mgf1];
    let files = ["-pubin", "-inkey", text(&pem), "-in", text(&plain), "-out", text(&raw)];
    openssl(&[&["pkeyutl", "-encrypt"][..], &files, &options].concat());
    let shown: serde_json::Value = serde_json::from_str(&dev.ok(&["key", "show", key, "-o", "json"])).expect("JSON");
    let ciphertext = Base64UrlUnpadded::encode_string(&fs::read(&raw).expect("reads"));
    let content = serde_json::json!({
        "format": "strongroom.ciphertext.v1", "name": shown["version"]["name"], "algorithm": algorithm, "ciphertext": ciphertext,
    });
    fs::write(&envelope, content.to_string()).expect("writes");
    dev.ok(&["key", "decrypt", key, "--algorithm", algorithm, "--in", text(&envelope), "--out", text(&out)]);
    assert_eq!(fs::read(&out).expect("reads"), b"for the key only");
}

#[test]
fn large_rsa_keys_sign_too() {
    let dev = Dev::new();
    for size in ["3072", "4096"] {
        let name = format!("rsa-{size}");
        dev.ok(&["key", "create", &name, "--type", "RSA", "--size", size]);
        signs_for_openssl(&dev, &name, &["RS256", "PS512"]);
    }
}

#[test]
fn symmetric_keys_encrypt_and_wrap_in_each_size_and_residency() {
    let dev = Dev::new();
    let (file, key, aad) = (dev.file("file", [3; 1000]), dev.file("key", [4; 40]), dev.file("aad", "context"));
    let (sealed, opened) = (dev.path("sealed"), dev.path("opened"));
    for residency in RESIDENCIES {
        for size in ["128", "192", "256"] {
            let name = format!("aes-{size}-{residency}");
            dev.ok(&["key", "create", &name, "--type", "oct", "--size", size, "--residency", residency]);
            let (gcm, kw) = (format!("A{size}GCM"), format!("A{size}KW"));
            let encryption = ["--algorithm", &gcm, "--aad", text(&aad)];
            let there = ["--in", text(&file), "--out", text(&sealed)];
            let back = ["--in", text(&sealed), "--out", text(&opened)];
            dev.ok(&[&["key", "encrypt", &name][..], &encryption, &there].concat());
            dev.ok(&[&["key", "decrypt", &name][..], &encryption, &back].concat());
            assert_eq!(fs::read(&opened).expect("reads"), [3; 1000]);
            let there = ["--in", text(&key), "--out", text(&sealed)];
            dev.ok(&[&["key", "wrap", &name, "--algorithm", &kw][..], &there].concat());
            dev.ok(&[&["key", "unwrap", &name, "--algorithm", &kw][..], &back].concat());
            assert_eq!(fs::read(&opened).expect("reads"), [4; 40]);
        }
    }
}

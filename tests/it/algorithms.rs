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
fn ed25519_signatures_verify_in_openssl() {
    let dev = Dev::new();
    let said = dev.fails(&["key", "create", "ed", "--type", "OKP"]);
    assert!(said.contains("Ed25519") && said.contains("--residency token"), "{said}");
    dev.ok(&["key", "create", "ed", "--type", "OKP", "--curve", "Ed25519", "--residency", "token"]);
    let (file, pem, sig) = (dev.file("message", [0x5a; 65_536]), dev.path("pem"), dev.path("sig"));
    fs::write(&pem, dev.ok(&["key", "show", "ed", "-o", "pem"])).expect("writes");
    let files = ["--in", text(&file), "--out", text(&sig)];
    dev.ok(&[&["key", "sign", "ed", "--algorithm", "EdDSA"][..], &files].concat());
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", text(&pem), "-rawin", "-in", text(&file)];
    openssl(&[&verify[..], &["-sigfile", text(&sig)]].concat());
    let verify = ["key", "verify", "ed", "--algorithm", "EdDSA", "--signature", text(&sig), "--in"];
    dev.ok(&[&verify[..], &[text(&file)]].concat());
    let other = dev.file("other", "text");
    assert_eq!(dev.run(&[&verify[..], &[text(&other)]].concat()).status.code(), Some(1));
    let jwk: serde_json::Value = serde_json::from_str(&dev.ok(&["key", "show", "ed", "-o", "jwk"])).expect("JSON");
    assert_eq!((jwk["kty"].as_str(), jwk["crv"].as_str()), (Some("OKP"), Some("Ed25519")));

    let long = dev.file("long", [0; 65_537]);
    let said =
        dev.fails(&[&["key", "sign", "ed", "--algorithm", "EdDSA", "--out", "-", "--in"][..], &[text(&long)]].concat());
    assert!(said.contains("65536") && said.contains("digest"), "{said}");
    let said = dev.fails(&[&["key", "sign", "ed", "--algorithm", "EdDSA", "--digest"][..], &files].concat());
    assert!(said.contains("--digest is for"), "{said}");
}

#[test]
fn macs_are_made_and_verified_in_each_size_and_residency() {
    let dev = Dev::new();
    let (file, other, mac) = (dev.file("file", [7; 40_000]), dev.file("other", "text"), dev.path("mac"));
    for residency in RESIDENCIES {
        for (size, algorithms) in
            [("256", &["HS256"][..]), ("384", &["HS256", "HS384"]), ("512", &["HS256", "HS384", "HS512"])]
        {
            let name = format!("hmac-{size}-{residency}");
            let kind = ["--type", "oct", "--ops", "sign,verify", "--size", size, "--residency", residency];
            let made = dev.ok(&[&["key", "create", &name, "-o", "json"][..], &kind].concat());
            let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
            assert_eq!(made["version"]["algorithms"], serde_json::json!(algorithms));
            for algorithm in algorithms {
                let sign = ["key", "sign", &name, "--algorithm", algorithm, "--in", text(&file), "--out", text(&mac)];
                dev.ok(&sign);
                let bits: usize = algorithm[2..].parse().expect("a number");
                assert_eq!(fs::read(&mac).expect("reads").len(), bits / 8);
                let verify = ["key", "verify", &name, "--algorithm", algorithm, "--signature", text(&mac), "--in"];
                dev.ok(&[&verify[..], &[text(&file)]].concat());
                assert_eq!(dev.run(&[&verify[..], &[text(&other)]].concat()).status.code(), Some(1));
            }
        }
    }
    let short = ["key", "sign", "hmac-256-token", "--algorithm", "HS512", "--in", text(&file), "--out", "-"];
    assert!(dev.fails(&short).contains("takes HS256"));
}

#[test]
fn rsa_signatures_verify_in_openssl_and_its_ciphertexts_decrypt() {
    let dev = Dev::new();
    for residency in RESIDENCIES {
        let name = format!("rsa-{residency}");
        dev.ok(&["key", "create", &name, "--type", "RSA", "--residency", residency]);
        signs_for_openssl(&dev, &name, &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
        for (algorithm, hash) in [("RSA-OAEP", "sha1"), ("RSA-OAEP-256", "sha256")] {
            let (oaep, mgf1) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
            openssl_encrypts(&dev, &name, algorithm, &["rsa_padding_mode:oaep", &oaep, &mgf1]);
        }
        openssl_encrypts(&dev, &name, "RSA1_5", &["rsa_padding_mode:pkcs1"]);
    }
}

/// OpenSSL encrypts with the public key; the service decrypts.
fn openssl_encrypts(dev: &Dev, key: &str, algorithm: &str, options: &[&str]) {
    let (plain, raw, pem) = (dev.file("plain", "for the key only"), dev.path("raw"), dev.path("pem"));
    let (envelope, out) = (dev.path("envelope"), dev.path("decrypted"));
    fs::write(&pem, dev.ok(&["key", "show", key, "-o", "pem"])).expect("writes");
    let options: Vec<&str> = options.iter().flat_map(|option| ["-pkeyopt", option]).collect();
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
            for (cbc, length) in [(format!("A{size}CBC"), 992), (format!("A{size}CBCPAD"), 1000)] {
                let file = dev.file("blocks", vec![5; length]);
                let there = ["--in", text(&file), "--out", text(&sealed)];
                dev.ok(&[&["key", "encrypt", &name, "--algorithm", &cbc][..], &there].concat());
                dev.ok(&[&["key", "decrypt", &name][..], &back].concat());
                assert_eq!(fs::read(&opened).expect("reads"), vec![5; length], "{cbc}");
            }
            let there = ["--in", text(&key), "--out", text(&sealed)];
            dev.ok(&[&["key", "wrap", &name, "--algorithm", &kw][..], &there].concat());
            dev.ok(&[&["key", "unwrap", &name, "--algorithm", &kw][..], &back].concat());
            assert_eq!(fs::read(&opened).expect("reads"), [4; 40]);
            let odd = dev.file("odd", [6; 41]);
            let there = ["--in", text(&odd), "--out", text(&sealed)];
            dev.ok(&[&["key", "wrap", &name, "--algorithm", &format!("A{size}KWP")][..], &there].concat());
            dev.ok(&[&["key", "unwrap", &name][..], &back].concat());
            assert_eq!(fs::read(&opened).expect("reads"), [6; 41]);
        }
    }
}

#[test]
fn a_chosen_iv_is_used_and_a_random_one_else() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    let (file, sealed) = (dev.file("file", [3; 32]), dev.path("sealed"));
    let encrypt = |algorithm: &str, more: &[&str]| {
        let files = ["--in", text(&file), "--out", text(&sealed)];
        dev.ok(&[&["key", "encrypt", "aes", "--algorithm", algorithm][..], &files, more].concat());
        let envelope: serde_json::Value = serde_json::from_slice(&fs::read(&sealed).expect("reads")).expect("JSON");
        assert!(envelope.get("tag").is_none());
        let iv = Base64UrlUnpadded::decode_vec(envelope["iv"].as_str().expect("an IV")).expect("base64url");
        (iv, envelope["ciphertext"].as_str().expect("a ciphertext").to_owned())
    };
    let chosen = ["--iv", "000102030405060708090a0b0c0d0e0f"];
    let (iv, ciphertext) = encrypt("A256CBC", &chosen);
    assert_eq!(iv, (0..16).collect::<Vec<u8>>());
    assert_eq!(encrypt("A256CBC", &chosen).1, ciphertext, "the same key, IV and text");
    // Padding adds a block, and leaves those before as they are.
    assert!(encrypt("A256CBCPAD", &chosen).1.starts_with(&ciphertext[..42]));
    assert_ne!(encrypt("A256CBC", &[]).0, encrypt("A256CBC", &[]).0);
    let gcm = ["key", "encrypt", "aes", "--algorithm", "A256GCM", "--in", text(&file), "--out", text(&sealed)];
    let said = dev.fails(&[&gcm[..], &chosen].concat());
    assert!(said.contains("--iv is for A*CBC"), "{said}");
}

//! Keys that come in with their private halves: wrapped by OpenSSL as another HSM does it, by our own command, and in the
//! clear. What they sign here, OpenSSL verifies with the public half that it had before.

use std::{
    fs,
    path::{Path, PathBuf},
};

use strongroom::model::ByokFile;

use crate::dev::{Dev, openssl, text};

const AES: &str = "4242424242424242424242424242424242424242424242424242424242424242";

/// A private key of OpenSSL's (PKCS#8, PEM) and its public half.
fn pair(dev: &Dev, name: &str, options: &[&str]) -> (PathBuf, PathBuf) {
    let (private, public) = (dev.path(&format!("{name}.key")), dev.path(&format!("{name}.pub")));
    openssl(&[&["genpkey", "-quiet", "-out", text(&private)][..], options].concat());
    openssl(&["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]);
    (private, public)
}

pub(crate) fn ec(dev: &Dev, curve: &str) -> (PathBuf, PathBuf) {
    pair(dev, curve, &["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")])
}

pub(crate) fn rsa(dev: &Dev) -> (PathBuf, PathBuf) {
    pair(dev, "rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
}

fn der(dev: &Dev, private: &Path) -> Vec<u8> {
    let out = dev.path("der");
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", text(private), "-outform", "DER", "-out", text(&out)]);
    fs::read(out).expect("reads")
}

/// CKM_RSA_AES_KEY_WRAP by OpenSSL, with that hash in its OAEP.
fn wrap(dev: &Dev, kek: &Path, hash: &str, target: &[u8]) -> Vec<u8> {
    let aes: Vec<u8> =
        (0..AES.len()).step_by(2).map(|at| u8::from_str_radix(&AES[at..at + 2], 16).expect("hex")).collect();
    let aes = dev.file("aes", aes);
    let (md, mgf1) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
    let envelope = openssl(&[
        "pkeyutl",
        "-encrypt",
        "-pubin",
        "-inkey",
        text(kek),
        "-in",
        text(&aes),
        "-pkeyopt",
        "rsa_padding_mode:oaep",
        "-pkeyopt",
        &md,
        "-pkeyopt",
        &mgf1,
    ]);
    let target = dev.file("target", target);
    let wrapped = openssl(&["enc", "-id-aes256-wrap-pad", "-K", AES, "-iv", "A65959A6", "-in", text(&target)]);
    [envelope, wrapped].concat()
}

/// A private key's encoding, and a file with what OpenSSL wraps of it.
pub(crate) fn wrapped_by_openssl(dev: &Dev, kek: &Path, private: &Path) -> (Vec<u8>, PathBuf) {
    let der = der(dev, private);
    let blob = dev.file("blob", wrap(dev, kek, "sha1", &der));
    (der, blob)
}

/// The KEK `kek` and its public half.
pub(crate) fn kek(dev: &Dev) -> PathBuf {
    dev.ok(&["key", "create", "kek", "--type", "RSA", "--ops", "import"]);
    dev.file("kek.pub", dev.ok(&["key", "show", "kek", "-o", "pem"]))
}

fn signs_for(dev: &Dev, name: &str, algorithm: &str, public: &Path) {
    let (file, sig) = (dev.file("message", [0x5a; 10_000]), dev.path("sig"));
    let der: &[&str] = if algorithm.starts_with("ES") { &["--der"] } else { &[] };
    let sign = ["key", "sign", name, "--algorithm", algorithm, "--in", text(&file), "--out", text(&sig)];
    dev.ok(&[&sign[..], der].concat());
    let digest = format!("-sha{}", &algorithm[2..5]);
    openssl(&["dgst", &digest, "-verify", text(public), "-signature", text(&sig), text(&file)]);
}

#[test]
fn keys_that_openssl_wrapped_are_the_same_keys_here() {
    let dev = Dev::new();
    let kek = kek(&dev);
    for (curve, name, algorithm) in
        [("prime256v1", "P-256", "ES256"), ("secp384r1", "P-384", "ES384"), ("secp521r1", "P-521", "ES512")]
    {
        let (private, public) = ec(&dev, curve);
        let blob = dev.file("blob", wrap(&dev, &kek, "sha1", &der(&dev, &private)));
        let import = ["key", "import", curve, "--byok", text(&blob), "--kek", "kek", "--type", "EC", "--curve", name];
        dev.ok(&[&import[..], &["--check"]].concat());
        assert!(dev.fails(&["key", "show", curve]).contains("does not exist"), "a check imports nothing");
        dev.ok(&import);
        assert_eq!(
            dev.ok(&["key", "show", curve, "-o", "pem"]).trim(),
            fs::read_to_string(&public).expect("reads").trim()
        );
        signs_for(&dev, curve, algorithm, &public);
    }
    let (private, public) = rsa(&dev);
    let ciphertext = wrap(&dev, &kek, "sha1", &der(&dev, &private));
    // As Azure's tools name it.
    let file = ByokFile { kid: "https://v.vault.azure.net/keys/kek".into(), ciphertext, generator: "OpenSSL".into() };
    let blob = dev.file("blob.byok", file.to_json());
    dev.ok(&["key", "import", "rsa", "--byok", text(&blob), "--type", "RSA", "--residency", "token"]);
    signs_for(&dev, "rsa", "RS256", &public);
    // A secret does what the same one does that came in the clear.
    let secret = [0x77; 32];
    let (blob, plain) = (dev.file("blob", wrap(&dev, &kek, "sha1", &secret)), dev.file("plain", secret));
    dev.ok(&["key", "import", "wrapped", "--byok", text(&blob), "--kek", "kek", "--type", "oct"]);
    dev.ok(&["key", "import", "plain", "--oct", text(&plain)]);
    let encrypted = |name: &str| {
        let (file, out) = (dev.file("block", [9; 32]), dev.path("encrypted"));
        let iv = "00112233445566778899aabbccddeeff";
        let encrypt = ["key", "encrypt", name, "--algorithm", "A256CBC", "--iv", iv, "--in", text(&file), "--out"];
        dev.ok(&[&encrypt[..], &[text(&out)]].concat());
        let json: serde_json::Value = serde_json::from_slice(&fs::read(out).expect("reads")).expect("JSON");
        json["ciphertext"].as_str().expect("text").to_owned()
    };
    assert_eq!(encrypted("wrapped"), encrypted("plain"));
    let journal = fs::read_dir(dev.data().join("audit/journal")).expect("reads");
    let log: String = journal.map(|file| fs::read_to_string(file.expect("an entry").path()).expect("text")).collect();
    assert!(log.contains("wrapped import by vaults/dev/keys/kek") && log.contains("plain import"), "{log}");
}

#[test]
fn a_check_says_which_layer_is_wrong() {
    let dev = Dev::new();
    let kek = kek(&dev);
    let (private, _) = ec(&dev, "prime256v1");
    let target = der(&dev, &private);
    let right = wrap(&dev, &kek, "sha1", &target);
    let altered = |at: usize| {
        let mut blob = right.clone();
        blob[at] ^= 1;
        blob
    };
    let check = |blob: &[u8], kind: &[&str]| {
        let blob = dev.file("blob", blob);
        let import = ["key", "import", "k", "--check", "--byok", text(&blob), "--kek", "kek"];
        dev.fails(&[&import[..], kind].concat())
    };
    let ec = ["--type", "EC"];
    for (blob, kind, says) in [
        (wrap(&dev, &kek, "sha256", &target), &ec[..], "made with SHA-256"),
        (altered(7), &ec, "no RSA-OAEP block of SHA-1"),
        (altered(300), &ec, "is not wrapped by AES-KWP"),
        (wrap(&dev, &kek, "sha1", &target[..target.len() - 5]), &ec, "holds no key in the encoding"),
        (right.clone(), &["--type", "RSA"], "holds a key of type EC"),
        (right.clone(), &["--type", "EC", "--curve", "P-384"], "holds a key of kind P-256"),
        (right[..100].to_vec(), &ec, "has 100 bytes"),
        (right.clone(), &["--type", "oct"], "AES-256 has 32"),
    ] {
        let said = check(&blob, kind);
        assert!(said.contains(says), "{says}: {said}");
    }
    let nonsense = dev.file("nonsense", "{\"a\":1}");
    let said = dev.fails(&["key", "import", "k", "--byok", text(&nonsense), "--type", "EC"]);
    assert!(said.contains("is no .byok file"), "{said}");
    // Nothing came of all that, and the right one is right.
    assert!(dev.fails(&["key", "show", "k"]).contains("does not exist"));
    let blob = dev.file("blob", &right);
    dev.ok(&["key", "import", "k", "--byok", text(&blob), "--kek", "kek", "--type", "EC"]);
}

#[test]
fn a_key_that_brings_others_in_does_nothing_else_and_stays_so() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "kek", "--type", "RSA", "--ops", "import"]);
    dev.ok(&["key", "create", "other", "--type", "RSA"]);
    let refused = dev.fails(&["key", "create", "wide", "--type", "RSA", "--ops", "import,decrypt"]);
    assert!(refused.contains("import stands alone"), "{refused}");
    let refused = dev.fails(&["key", "create", "ec", "--type", "EC", "--ops", "import"]);
    assert!(refused.contains("import stands alone"), "{refused}");
    let refused = dev.fails(&["key", "update", "kek", "--ops", "decrypt"]);
    assert!(refused.contains("import is fixed"), "{refused}");
    let refused = dev.fails(&["key", "update", "other", "--ops", "import"]);
    assert!(refused.contains("import is fixed"), "{refused}");
    // Nor does it follow, or is followed by, a version that can decrypt, nor come from where somebody knows it.
    for (name, ops) in [("kek", "decrypt"), ("other", "import")] {
        let refused = dev.fails(&["key", "create", name, "--type", "RSA", "--ops", ops]);
        assert!(refused.contains("IMPORT_STANDS_ALONE"), "{refused}");
    }
    let known = rsa(&dev).0;
    let refused = dev.fails(&["key", "import", "known", "--private-key", text(&known), "--ops", "import"]);
    assert!(refused.contains("is made here"), "{refused}");
    let (private, public) = ec(&dev, "prime256v1");
    let byok = dev.path("k.byok");
    let make = ["key", "make-byok", "--private-key", text(&private), "--out", text(&byok)];
    let refused = dev.fails(&[&make[..], &["other"]].concat());
    assert!(refused.contains("is not a key that brings others in"), "{refused}");
    dev.ok(&[&make[..], &["kek"]].concat());
    // The next version does not open what was made for this one, and this one goes on opening it.
    dev.ok(&["key", "rotate", "kek"]);
    dev.ok(&["key", "import", "k", "--byok", text(&byok), "--type", "EC"]);
    signs_for(&dev, "k", "ES256", &public);
    let said = dev.fails(&["key", "import", "n", "--byok", text(&byok), "--kek", "kek", "--type", "EC"]);
    assert!(said.contains("no RSA-OAEP block"), "{said}");
    let said = dev.fails(&["key", "import", "n", "--byok", text(&byok), "--kek", "other", "--type", "EC"]);
    assert!(said.contains("import"), "{said}");
    let versions = dev.ok(&["key", "versions", "kek", "-o", "json"]);
    let versions: serde_json::Value = serde_json::from_str(&versions).expect("JSON");
    let first = versions[1]["name"].as_str().expect("a name").rsplit('/').next().expect("a version").to_owned();
    dev.ok(&["key", "update", "kek", "--version", &first, "--disable"]);
    let said = dev.fails(&["key", "import", "n", "--byok", text(&byok), "--type", "EC"]);
    assert!(said.contains("disabled"), "{said}");
}

#[test]
fn private_keys_come_in_as_every_file_holds_them() {
    let dev = Dev::new();
    let (private, public) = ec(&dev, "secp384r1");
    let sec1 = dev.path("sec1.pem");
    openssl(&["ec", "-in", text(&private), "-out", text(&sec1)]);
    let der = dev.file("k.der", der(&dev, &private));
    for (name, file) in [("pem", &private), ("sec1", &sec1), ("der", &der)] {
        dev.ok(&["key", "import", name, "--private-key", text(file)]);
        signs_for(&dev, name, "ES384", &public);
    }
    let (private, public) = rsa(&dev);
    let pkcs1 = dev.path("pkcs1.pem");
    openssl(&["rsa", "-in", text(&private), "-traditional", "-out", text(&pkcs1)]);
    for (name, residency) in [("pkcs1", "wrapped"), ("on-token", "token")] {
        dev.ok(&["key", "import", name, "--private-key", text(&pkcs1), "--residency", residency]);
        signs_for(&dev, name, "RS256", &public);
    }
    let shown: serde_json::Value =
        serde_json::from_str(&dev.ok(&["key", "show", "pkcs1", "-o", "json"])).expect("JSON");
    assert_eq!(shown["version"]["imported"], true);
    // RFC 7517 appendix A.2.
    let jwk = dev.file(
        "k.jwk",
        r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#,
    );
    dev.ok(&["key", "import", "jwk", "--private-key", text(&jwk)]);
    let jwks: serde_json::Value = serde_json::from_str(&dev.ok(&["key", "show", "jwk", "-o", "jwks"])).expect("JSON");
    assert_eq!(jwks["keys"][0]["x"], "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4");
    // What is not taken says why.
    let encrypted = dev.path("encrypted.pem");
    openssl(&["pkcs8", "-topk8", "-in", text(&private), "-passout", "pass:x", "-out", text(&encrypted)]);
    assert!(dev.fails(&["key", "import", "n", "--private-key", text(&encrypted)]).contains("encrypted private key"));
    assert!(dev.fails(&["key", "import", "n", "--private-key", text(&public)]).contains("holds a PUBLIC KEY"));
    let small = pair(&dev, "small", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]).0;
    assert!(dev.fails(&["key", "import", "n", "--private-key", text(&small)]).contains("modulus of 1024 bits"));
    // What was generated here is not followed by what was known elsewhere.
    dev.ok(&["key", "create", "own", "--type", "RSA"]);
    assert!(dev.fails(&["key", "import", "own", "--private-key", text(&private)]).contains("was generated in the HSM"));
}

//! Operations with keys, and random bytes. Inputs are secrets from the moment they are read.

use serde::{Deserialize, Serialize};

use super::{
    address::Flavour,
    bundle::kid,
    call::{Answer, Bytes, Call, required, shown},
    fault::Fault,
};
use crate::{
    model::{Algorithm, VersionRow, base64},
    service::{Ciphertext, Encrypted},
};

/// The most random bytes in one request.
const RANDOM_BYTES_MAX: u32 = 128;

#[derive(Deserialize)]
struct Asked {
    alg: Option<String>,
    value: Option<Bytes>,
    #[serde(default)]
    digest: Option<Bytes>,
    #[serde(default)]
    iv: Option<Bytes>,
    #[serde(default)]
    aad: Option<Bytes>,
    #[serde(default)]
    tag: Option<Bytes>,
}

#[derive(Deserialize)]
struct Random {
    count: Option<u32>,
}

/// What an operation gives.
#[derive(Serialize)]
struct Given<'a> {
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<&'a str>,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aad: Option<String>,
}

impl<'a> Given<'a> {
    fn new(call: &Call<'_>, version: &VersionRow, alg: &'a str, value: &'a str) -> Self {
        let alg = Some(alg).filter(|_| call.flavour == Flavour::ManagedHsm);
        Self { kid: kid(call, &version.key, version), alg, value, iv: None, tag: None, aad: None }
    }

    fn answer(&self) -> Result<Answer, Fault> {
        let parts = [&self.iv, &self.tag, &self.aad].into_iter().flatten().map(String::len).sum::<usize>();
        Answer::secret(self, self.value.len() + parts)
    }
}

/// An algorithm of a key of one size, or one that is of any.
#[derive(Clone, Copy)]
enum Named {
    One(Algorithm),
    OfAnySize(Algorithm),
}

fn named(alg: &str) -> Result<Named, Fault> {
    if let Some(algorithm) = Algorithm::from_name(alg) {
        return Ok(Named::One(algorithm));
    }
    match alg {
        "CKM_AES_KEY_WRAP" => Ok(Named::OfAnySize(Algorithm::A256Kw)),
        "CKM_AES_KEY_WRAP_PAD" => Ok(Named::OfAnySize(Algorithm::A256Kwp)),
        _ => Err(Fault::property("alg", "there is no such algorithm here")),
    }
}

fn one(alg: &str) -> Result<Algorithm, Fault> {
    match named(alg)? {
        Named::One(algorithm) => Ok(algorithm),
        Named::OfAnySize(_) => Err(Fault::property("alg", "it wraps and unwraps only")),
    }
}

fn bytes(bytes: Option<Bytes>) -> Vec<u8> {
    bytes.map(Bytes::public).unwrap_or_default()
}

pub(super) async fn encrypt(call: &Call<'_>) -> Result<Answer, Fault> {
    let Asked { alg, value, iv, aad, .. } = call.json()?;
    let alg = required("alg", alg)?;
    let algorithm = one(&alg)?;
    let (value, iv, aad) = (required("value", value)?.secret(), bytes(iv), bytes(aad));
    let echoed = (!aad.is_empty()).then(|| base64::encode(&aad));
    let made = call.service.encrypt(call.caller, &call.key()?, algorithm, value, iv, aad).await;
    sealed(call, &alg, call.done(made)?, echoed)
}

fn sealed(call: &Call<'_>, alg: &str, made: Encrypted, aad: Option<String>) -> Result<Answer, Fault> {
    let text = |bytes: &[u8]| (!bytes.is_empty()).then(|| base64::encode(bytes));
    let value = base64::encode(&made.ciphertext);
    let given = Given::new(call, &made.version, alg, &value);
    Given { iv: text(&made.iv), tag: text(&made.tag), aad, ..given }.answer()
}

pub(super) async fn decrypt(call: &Call<'_>) -> Result<Answer, Fault> {
    let Asked { alg, value, iv, aad, tag, .. } = call.json()?;
    let alg = required("alg", alg)?;
    let ciphertext = required("value", value)?.public();
    let input = Ciphertext { ciphertext, iv: bytes(iv), tag: bytes(tag), additional_data: bytes(aad) };
    let (version, plaintext) = call.done(call.service.decrypt(call.caller, &call.key()?, one(&alg)?, input).await)?;
    Given::new(call, &version, &alg, &shown(&plaintext)).answer()
}

pub(super) async fn wrap(call: &Call<'_>) -> Result<Answer, Fault> {
    let Asked { alg, value, .. } = call.json()?;
    let alg = required("alg", alg)?;
    let (name, key) = (call.key()?, required("value", value)?.secret());
    let made = match named(&alg)? {
        Named::One(algorithm) => call.service.wrap_key(call.caller, &name, algorithm, key).await,
        Named::OfAnySize(algorithm) => call.service.wrap_key_of_any_size(call.caller, &name, algorithm, key).await,
    };
    sealed(call, &alg, call.done(made)?, None)
}

pub(super) async fn unwrap(call: &Call<'_>) -> Result<Answer, Fault> {
    let Asked { alg, value, .. } = call.json()?;
    let alg = required("alg", alg)?;
    let (name, ciphertext) = (call.key()?, required("value", value)?.public());
    let input = Ciphertext { ciphertext, iv: Vec::new(), tag: Vec::new(), additional_data: Vec::new() };
    let made = match named(&alg)? {
        Named::One(algorithm) => call.service.unwrap_key(call.caller, &name, algorithm, input).await,
        Named::OfAnySize(algorithm) => call.service.unwrap_key_of_any_size(call.caller, &name, algorithm, input).await,
    };
    let (version, key) = call.done(made)?;
    Given::new(call, &version, &alg, &shown(&key)).answer()
}

pub(super) async fn sign(call: &Call<'_>) -> Result<Answer, Fault> {
    let Asked { alg, value, .. } = call.json()?;
    let alg = required("alg", alg)?;
    let input = required("value", value)?.secret();
    let made = call.done(call.service.sign(call.caller, &call.key()?, one(&alg)?, input).await)?;
    let value = base64::encode(&made.signature);
    Given::new(call, &made.version, &alg, &value).answer()
}

pub(super) async fn verify(call: &Call<'_>) -> Result<Answer, Fault> {
    let Asked { alg, value, digest, .. } = call.json()?;
    let algorithm = one(&required("alg", alg)?)?;
    let (input, signature) = (required("digest", digest)?.secret(), required("value", value)?.public());
    let verdict = call.service.verify(call.caller, &call.key()?, algorithm, input, signature).await;
    let (_, is_right) = call.done(verdict)?;
    Ok(Answer::ok(&serde_json::json!({ "value": is_right })))
}

pub(super) async fn random(call: &Call<'_>) -> Result<Answer, Fault> {
    let Random { count } = call.json()?;
    let count = count
        .filter(|count| (1..=RANDOM_BYTES_MAX).contains(count))
        .ok_or_else(|| Fault::bad("GetRandomBytesRequest: count cannot be greater than 128 or less than 1"))?;
    let made = call.done(call.service.random(call.caller, count).await)?;
    Answer::secret(&std::collections::BTreeMap::from([("value", shown(&made).as_str())]), 0)
}

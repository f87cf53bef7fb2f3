//! A key from outside: as a JWK with its private members, or wrapped by another HSM (`key_hsm`, a `.byok` file).

use serde::Deserialize;
use strongroom_hsm::{Material, SecretBytes};

use super::{
    call::{Answer, Bytes, Call, required},
    fault::Fault,
    keys::{About, Kty, makes_macs, ops, spec_of_curve},
};
use crate::{
    model::{ByokFile, KeyOps, KeySpec, PrivateJwk, PrivateKey},
    service::{ChangeOptions, KeyRef},
};

#[derive(Deserialize)]
struct Import {
    #[serde(default, rename = "Hsm", alias = "hsm")]
    hsm: Option<bool>,
    key: Option<Head>,
    #[serde(flatten)]
    about: About,
}

/// What a JWK says beside its numbers.
#[derive(Deserialize)]
struct Head {
    kty: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    key_hsm: Option<Bytes>,
}

/// The numbers of the JWK: read apart, so that they go into memory that is wiped and nowhere else.
#[derive(Deserialize)]
struct Numbers {
    key: PrivateJwk,
}

pub(super) async fn import(call: &Call<'_>) -> Result<Answer, Fault> {
    let Import { hsm, key, about } = call.json()?;
    let Head { kty, crv, key_ops, key_hsm } = required("key", key)?;
    let kty = required("key.kty", kty)?;
    let kty = Kty::new(&kty).or_of_hsm(hsm);
    let ops = ops(key_ops.as_deref())?;
    if let Some(file) = key_hsm {
        return wrapped(call, &kty, crv.as_deref(), file, about, ops).await;
    }
    let Numbers { key } = call.json()?;
    let key = PrivateKey::of_jwk(&key).map_err(|why| Fault::property("key", &why.to_string()))?;
    let material = match key {
        PrivateKey::Oct(mut bytes) => {
            let bytes = SecretBytes::new(std::mem::take(&mut *bytes));
            if makes_macs(ops)? { Material::hmac(bytes) } else { Material::aes(bytes) }
        }
        PrivateKey::Pkcs8(mut bytes) => Material::private(SecretBytes::new(std::mem::take(&mut *bytes))),
    };
    let (spec, material) = material.map_err(|why| Fault::property("key", &why.to_string()))?;
    let new = about.new_key(call, &kty, spec, ops)?;
    call.made(call.service.import_key(call.caller, new, material, ChangeOptions::default()).await)
}

async fn wrapped(
    call: &Call<'_>,
    kty: &Kty<'_>,
    curve: Option<&str>,
    file: Bytes,
    about: About,
    ops: Option<KeyOps>,
) -> Result<Answer, Fault> {
    let wrong = |why: String| Fault::property("key.key_hsm", &why);
    let file = ByokFile::from_json(&file.public()).map_err(|why| wrong(why.to_string()))?;
    let spec = spec(kty, curve, file.ciphertext.len(), ops)?;
    let (name, version) = file.key().ok_or_else(|| wrong("its kid names no key".to_owned()))?;
    // Whatever host stands in it: the key that it was wrapped for is looked for in this vault, and in no other.
    let kek = KeyRef {
        vault: call.vault.clone(),
        key: name.parse().map_err(|_| wrong("its kid names no key".to_owned()))?,
        version: match version {
            Some(version) => Some(version.parse().map_err(|_| wrong("its kid names no version".to_owned()))?),
            None => None,
        },
    };
    let new = about.new_key(call, kty, spec, ops)?;
    let made = call.service.import_wrapped_key(call.caller, new, kek, file.ciphertext, ChangeOptions::default()).await;
    call.made(made)
}

/// What kind of key is inside. Azure's request does not say how large it is, and only the HSM can look; but the length of what
/// is wrapped tells: RSA-OAEP gives 256, 384 or 512 bytes, and behind it AES-KWP adds 8 to the key, rounded up to 8.
fn spec(kty: &Kty<'_>, curve: Option<&str>, bytes: usize, ops: Option<KeyOps>) -> Result<KeySpec, Fault> {
    let wrong = || Fault::property("key.key_hsm", "what is wrapped has not the length of such a key");
    match kty.plain {
        "EC" => spec_of_curve(curve.ok_or_else(|| Fault::property("key.crv", "it is missing"))?),
        // Each of the three is a multiple of 128, so the rest is that of the key.
        "oct" => match (bytes % 128, makes_macs(ops)?) {
            (24, false) => Ok(KeySpec::Aes128),
            (32, false) => Ok(KeySpec::Aes192),
            (40, false) => Ok(KeySpec::Aes256),
            (40, true) => Ok(KeySpec::Hmac256),
            (56, true) => Ok(KeySpec::Hmac384),
            (72, true) => Ok(KeySpec::Hmac512),
            _ => Err(wrong()),
        },
        // PKCS#8 of such keys has about 1218, 1794 and 2374 bytes: far enough apart for all three in front of them.
        "RSA" => match bytes {
            1400..=1850 => Ok(KeySpec::Rsa2048),
            1950..=2400 => Ok(KeySpec::Rsa3072),
            2500..=3000 => Ok(KeySpec::Rsa4096),
            _ => Err(wrong()),
        },
        _ => Err(Fault::property("key.kty", "RSA-HSM, EC-HSM and oct-HSM are taken")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_what_is_wrapped_tells_its_kind() {
        let of = |kty: &str, bytes: usize| spec(&Kty::new(kty), Some("P-384"), bytes, None).ok();
        for kek in [256, 384, 512] {
            assert_eq!(of("oct-HSM", kek + 24), Some(KeySpec::Aes128));
            assert_eq!(of("oct-HSM", kek + 40), Some(KeySpec::Aes256));
            for (pkcs8, expected) in [(1216, KeySpec::Rsa2048), (1794, KeySpec::Rsa3072), (2376, KeySpec::Rsa4096)] {
                assert_eq!(of("RSA-HSM", kek + pkcs8 + 8), Some(expected), "{kek}");
            }
        }
        assert_eq!(of("EC-HSM", 1), Some(KeySpec::P384));
        assert_eq!((of("oct", 7), of("RSA", 7), of("DSA", 7)), (None, None, None));
    }
}

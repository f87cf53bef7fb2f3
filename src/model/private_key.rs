//! Private and secret keys as files hold them: PEM (RFC 7468), DER and JWK (RFC 7517), all brought to PKCS#8 (RFC 5958) or
//! to the bytes of a secret. What is read and made here is wiped.

use const_oid::ObjectIdentifier;
use der::{
    Decode as _, Encode as _, SecretDocument,
    asn1::{AnyRef, OctetStringRef, UintRef},
    pem::PemLabel as _,
};
use pkcs1::RsaPrivateKey;
use pkcs8::PrivateKeyInfoRef;
use sec1::{EcParameters, EcPrivateKey};
use serde::Deserialize;
use spki::AlgorithmIdentifier;
use zeroize::Zeroizing;

use super::{
    base64,
    jwk::{CURVES, EC_PUBLIC_KEY, ED25519, RSA_ENCRYPTION},
};

/// A key out of a file.
pub enum PrivateKey {
    /// PrivateKeyInfo (PKCS#8), DER.
    Pkcs8(Zeroizing<Vec<u8>>),
    /// The bytes of a secret.
    Oct(Zeroizing<Vec<u8>>),
}

/// Why a file holds no key that can be taken. The texts follow the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPrivateKey {
    /// PEM of something else.
    #[error("holds a {0}, not a private key")]
    Label(String),
    /// An encrypted one.
    #[error("holds an encrypted private key: `openssl pkey -in FILE -out KEY` asks for its password and takes it off")]
    Encrypted,
    /// Neither PEM nor DER of a kind that is known.
    #[error("is no private key as PEM or DER (PKCS#8, PKCS#1, SEC1) nor as a JWK")]
    Unknown,
    /// SEC1 without its curve.
    #[error("does not say its curve: openssl pkcs8 -topk8 -nocrypt makes a key that does")]
    NoCurve,
    /// A JWK that lacks something.
    #[error("is a JWK without `{0}`")]
    Lacks(&'static str),
    /// A JWK with something that is not as it is to be.
    #[error("is a JWK whose `{0}` is not what it is to be (RFC 7518)")]
    Wrong(&'static str),
}

impl PrivateKey {
    /// Out of a file: PEM, DER or JWK.
    ///
    /// # Errors
    /// [`NotAPrivateKey`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, NotAPrivateKey> {
        let text = bytes.trim_ascii_start();
        if text.starts_with(b"{") {
            return Self::from_jwk(text);
        }
        if !text.starts_with(b"-----") {
            return Self::from_der(bytes);
        }
        let text = std::str::from_utf8(text).map_err(|_| NotAPrivateKey::Unknown)?;
        // OpenSSL writes the curve before an EC key (`-----BEGIN EC PARAMETERS`).
        let text = text.split_once("-----END EC PARAMETERS-----").map_or(text, |(_, rest)| rest.trim_start());
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| NotAPrivateKey::Unknown)?;
        let der = document.as_bytes();
        match label {
            PrivateKeyInfoRef::PEM_LABEL => pkcs8(der),
            RsaPrivateKey::<UintRef<'_>>::PEM_LABEL => rsa(der),
            EcPrivateKey::PEM_LABEL => ec(der),
            label if label.starts_with("ENCRYPTED ") => Err(NotAPrivateKey::Encrypted),
            other => Err(NotAPrivateKey::Label(other.to_owned())),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, NotAPrivateKey> {
        pkcs8(der).or_else(|_| rsa(der)).or_else(|_| ec(der))
    }

    /// Out of a JWK with its private members.
    ///
    /// # Errors
    /// [`NotAPrivateKey`].
    pub fn from_jwk(json: &[u8]) -> Result<Self, NotAPrivateKey> {
        let jwk: PrivateJwk = serde_json::from_slice(json).map_err(|_| NotAPrivateKey::Unknown)?;
        Self::of_jwk(&jwk)
    }

    /// Out of a JWK that was read.
    ///
    /// # Errors
    /// [`NotAPrivateKey`].
    pub fn of_jwk(jwk: &PrivateJwk) -> Result<Self, NotAPrivateKey> {
        match jwk.kty.as_str() {
            // Azure's `-HSM` says where a key is, not what it is.
            "RSA" | "RSA-HSM" => jwk.rsa(),
            "EC" | "EC-HSM" => jwk.ec(),
            "OKP" | "OKP-HSM" => jwk.okp(),
            "oct" | "oct-HSM" => Ok(Self::Oct(number("k", jwk.k.as_ref())?)),
            _ => Err(NotAPrivateKey::Wrong("kty")),
        }
    }
}

fn pkcs8(der: &[u8]) -> Result<PrivateKey, NotAPrivateKey> {
    PrivateKeyInfoRef::from_der(der).map_err(|_| NotAPrivateKey::Unknown)?;
    Ok(PrivateKey::Pkcs8(Zeroizing::new(der.to_vec())))
}

fn rsa(der: &[u8]) -> Result<PrivateKey, NotAPrivateKey> {
    RsaPrivateKey::<UintRef<'_>>::from_der(der).map_err(|_| NotAPrivateKey::Unknown)?;
    info(RSA_ENCRYPTION, Some(AnyRef::NULL), der)
}

fn ec(der: &[u8]) -> Result<PrivateKey, NotAPrivateKey> {
    let key = EcPrivateKey::from_der(der).map_err(|_| NotAPrivateKey::Unknown)?;
    let curve = key.parameters.and_then(EcParameters::named_curve).ok_or(NotAPrivateKey::NoCurve)?;
    info(EC_PUBLIC_KEY, Some((&curve).into()), der)
}

/// PrivateKeyInfo around an encoded key.
fn info(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, inner: &[u8]) -> Result<PrivateKey, NotAPrivateKey> {
    let inner = OctetStringRef::new(inner).map_err(|_| NotAPrivateKey::Unknown)?;
    let info = PrivateKeyInfoRef::new(AlgorithmIdentifier { oid, parameters }, inner);
    let document = SecretDocument::encode_msg(&info).map_err(|_| NotAPrivateKey::Unknown)?;
    Ok(PrivateKey::Pkcs8(document.to_bytes()))
}

type Member = Option<Zeroizing<String>>;

/// The members of a JWK that are read; others are not looked at, as RFC 7517 says. They are wiped.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct PrivateJwk {
    kty: String,
    crv: Option<String>,
    n: Member,
    e: Member,
    d: Member,
    p: Member,
    q: Member,
    dp: Member,
    dq: Member,
    qi: Member,
    oth: Option<serde_json::Value>,
    k: Member,
}

/// The bytes of a member.
fn number(name: &'static str, member: Option<&Zeroizing<String>>) -> Result<Zeroizing<Vec<u8>>, NotAPrivateKey> {
    let text = member.ok_or(NotAPrivateKey::Lacks(name))?;
    // Some writers pad, some use the other alphabet.
    base64::decode(text).filter(|bytes| !bytes.is_empty()).ok_or(NotAPrivateKey::Wrong(name))
}

impl PrivateJwk {
    fn rsa(&self) -> Result<PrivateKey, NotAPrivateKey> {
        if self.oth.is_some() {
            return Err(NotAPrivateKey::Wrong("oth"));
        }
        let members = [
            ("n", &self.n),
            ("e", &self.e),
            ("d", &self.d),
            ("p", &self.p),
            ("q", &self.q),
            ("dp", &self.dp),
            ("dq", &self.dq),
            ("qi", &self.qi),
        ];
        let mut numbers = Vec::with_capacity(members.len());
        for (name, member) in members {
            numbers.push(number(name, member.as_ref())?);
        }
        let at = |index: usize| UintRef::new(&numbers[index]).map_err(|_| NotAPrivateKey::Wrong(members[index].0));
        let key = RsaPrivateKey {
            modulus: at(0)?,
            public_exponent: at(1)?,
            private_exponent: at(2)?,
            prime1: at(3)?,
            prime2: at(4)?,
            exponent1: at(5)?,
            exponent2: at(6)?,
            coefficient: at(7)?,
            other_prime_infos: None,
        };
        let der = Zeroizing::new(key.to_der().map_err(|_| NotAPrivateKey::Unknown)?);
        info(RSA_ENCRYPTION, Some(AnyRef::NULL), &der)
    }

    fn ec(&self) -> Result<PrivateKey, NotAPrivateKey> {
        let name = self.crv.as_deref().ok_or(NotAPrivateKey::Lacks("crv"))?;
        // RFC 8812 calls P-256K secp256k1; Azure does not.
        let named = |(_, jose, _): &&(_, &str, _)| *jose == name || (*jose == "secp256k1" && name == "P-256K");
        let (curve, _, width) = CURVES.iter().find(named).ok_or(NotAPrivateKey::Wrong("crv"))?;
        let d = number("d", self.d.as_ref())?;
        // As wide as the field (RFC 7518 section 6.2.2.1); writers that strip zeros are borne.
        let mut private_key = Zeroizing::new(vec![0; *width]);
        let start = width.checked_sub(d.len()).ok_or(NotAPrivateKey::Wrong("d"))?;
        private_key[start..].copy_from_slice(&d);
        let key = EcPrivateKey { private_key: &private_key, parameters: None, public_key: None };
        let der = Zeroizing::new(key.to_der().map_err(|_| NotAPrivateKey::Unknown)?);
        info(EC_PUBLIC_KEY, Some(curve.into()), &der)
    }

    fn okp(&self) -> Result<PrivateKey, NotAPrivateKey> {
        match self.crv.as_deref() {
            Some("Ed25519") => {}
            Some(_) => return Err(NotAPrivateKey::Wrong("crv")),
            None => return Err(NotAPrivateKey::Lacks("crv")),
        }
        let d = number("d", self.d.as_ref())?;
        let seed = OctetStringRef::new(&d).ok().filter(|_| d.len() == 32).ok_or(NotAPrivateKey::Wrong("d"))?;
        let der = Zeroizing::new(seed.to_der().map_err(|_| NotAPrivateKey::Unknown)?);
        info(ED25519, None, &der)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> NotAPrivateKey {
        PrivateKey::from_file(bytes).err().expect("refused")
    }

    fn pkcs8_of(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        match PrivateKey::from_file(bytes).expect("taken") {
            PrivateKey::Pkcs8(der) => der,
            PrivateKey::Oct(_) => panic!("a private key"),
        }
    }

    #[test]
    fn a_jwk_becomes_pkcs8_or_bytes() {
        // RFC 8037 appendix A.1 and RFC 8410 section 10.3 with another seed.
        let jwk = br#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"ignored"}"#;
        let der = pkcs8_of(jwk);
        assert_eq!((der.len(), &der[..5]), (48, &[0x30, 0x2e, 2, 1, 0][..]));
        // RFC 7517 appendix A.2, the first key.
        let jwk = br#"{"kty":"EC","crv":"P-256","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;
        let der = pkcs8_of(jwk);
        let (spec, _) = strongroom_hsm::Material::private(der.to_vec().into()).expect("sound");
        assert_eq!(spec, strongroom_hsm::KeySpec::P256);
        let PrivateKey::Oct(bytes) = PrivateKey::from_file(br#" {"kty":"oct","k":"AAECAw=="}"#).expect("taken") else {
            panic!("a secret")
        };
        assert_eq!(*bytes, [0, 1, 2, 3]);
    }

    #[test]
    fn what_a_jwk_lacks_is_named() {
        for (jwk, error) in [
            (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, NotAPrivateKey::Lacks("d")),
            (r#"{"kty":"EC","d":"AQ"}"#, NotAPrivateKey::Lacks("crv")),
            (r#"{"kty":"EC","crv":"P-255","d":"AQ"}"#, NotAPrivateKey::Wrong("crv")),
            (r#"{"kty":"oct"}"#, NotAPrivateKey::Lacks("k")),
            (r#"{"kty":"oct","k":"+/"}"#, NotAPrivateKey::Wrong("k")),
            (r#"{"kty":"OKP","crv":"Ed25519","d":"AQ"}"#, NotAPrivateKey::Wrong("d")),
            (r#"{"kty":"X"}"#, NotAPrivateKey::Wrong("kty")),
            (r#"{"kty":"#, NotAPrivateKey::Unknown),
        ] {
            assert_eq!(refused(jwk.as_bytes()), error, "{jwk}");
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(refused(public.as_bytes()), NotAPrivateKey::Label("PUBLIC KEY".to_owned()));
        assert_eq!(refused(b"-----BEGIN NONSENSE"), NotAPrivateKey::Unknown);
        assert_eq!(refused(b"nonsense"), NotAPrivateKey::Unknown);
        assert_eq!(refused(b""), NotAPrivateKey::Unknown);
    }
}

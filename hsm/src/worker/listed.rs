//! What a module says that it can do: its list of mechanisms, held against what the service uses. Asking
//! needs no login and changes nothing, and proves nothing either: [`super::probe`] tries.

use cryptoki_sys::{self as sys, CK_FLAGS, CK_MECHANISM_INFO, CK_MECHANISM_TYPE};

use super::{engine::Trouble, token::Token};
use crate::{
    algorithms::{Algorithm, Digest, KeySpec, KeyType, Scheme},
    protocol::{Capability, Cell, Fault, HIERARCHY},
    statement::Residency,
};

/// A mechanism with its name in PKCS#11, and what it must be good for.
#[derive(Clone, Copy)]
struct Wanted {
    number: CK_MECHANISM_TYPE,
    name: &'static str,
    flags: CK_FLAGS,
}

macro_rules! wanted {
    ($mechanism:ident, $($flag:ident)|+) => {
        Wanted { number: sys::$mechanism, name: stringify!($mechanism), flags: $(sys::$flag)|+ }
    };
}

const KEY_WRAP_KWP: Wanted = wanted!(CKM_AES_KEY_WRAP_KWP, CKF_WRAP | CKF_UNWRAP);
const KEY_WRAP_PAD: Wanted = wanted!(CKM_AES_KEY_WRAP_PAD, CKF_WRAP | CKF_UNWRAP);
const KEY_WRAP: Wanted = wanted!(CKM_AES_KEY_WRAP, CKF_WRAP | CKF_UNWRAP);
const GENERATE_SECRET: Wanted = wanted!(CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE);
const HMAC_SHA1: Wanted = wanted!(CKM_SHA_1_HMAC, CKF_SIGN);
const HMAC: Wanted = wanted!(CKM_SHA256_HMAC, CKF_SIGN);
const HMAC_SHA384: Wanted = wanted!(CKM_SHA384_HMAC, CKF_SIGN);
const HMAC_SHA512: Wanted = wanted!(CKM_SHA512_HMAC, CKF_SIGN);
const GENERATE_AES: Wanted = wanted!(CKM_AES_KEY_GEN, CKF_GENERATE);
const GCM: Wanted = wanted!(CKM_AES_GCM, CKF_ENCRYPT | CKF_DECRYPT);
const CBC: Wanted = wanted!(CKM_AES_CBC, CKF_ENCRYPT | CKF_DECRYPT);
const ECB: Wanted = wanted!(CKM_AES_ECB, CKF_ENCRYPT | CKF_DECRYPT);
const EDDSA: Wanted = wanted!(CKM_EDDSA, CKF_SIGN);
const ECDSA: Wanted = wanted!(CKM_ECDSA, CKF_SIGN | CKF_VERIFY);
const GENERATE_EC: Wanted = wanted!(CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR);
const GENERATE_EDWARDS: Wanted = wanted!(CKM_EC_EDWARDS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR);
const GENERATE_RSA: Wanted = wanted!(CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR);
const RSA_PKCS: Wanted = wanted!(CKM_RSA_PKCS, CKF_SIGN | CKF_VERIFY);
const RSA_PSS: Wanted = wanted!(CKM_RSA_PKCS_PSS, CKF_SIGN | CKF_VERIFY);
const RSA_OAEP: Wanted = wanted!(CKM_RSA_PKCS_OAEP, CKF_ENCRYPT | CKF_DECRYPT);
const RSA_RAW: Wanted = wanted!(CKM_RSA_X_509, CKF_ENCRYPT | CKF_DECRYPT);
const RSA_ESCROW: Wanted = wanted!(CKM_RSA_PKCS_OAEP, CKF_WRAP | CKF_UNWRAP);

/// Something that the service's own keys need, and the mechanisms of which any one gives it (ADR 0001).
struct Need {
    what: &'static str,
    by: &'static str,
    any_of: &'static [Wanted],
}

/// Without any one of these there is no hierarchy, and so no service.
const NEEDS: [Need; 7] = [
    Need { what: "AES keys", by: "the root and the key of stored secrets", any_of: &[GENERATE_AES] },
    Need {
        what: "AES key wrap with padding, RFC 5649",
        by: "the root, which wraps by it",
        any_of: &[KEY_WRAP_KWP, KEY_WRAP_PAD],
    },
    Need { what: "AES key wrap, RFC 3394", by: "the root, which enters the token by it", any_of: &[KEY_WRAP] },
    Need { what: "generic secrets", by: "the sealing key and the canary", any_of: &[GENERATE_SECRET] },
    Need { what: "HMAC-SHA256", by: "seals and the canary", any_of: &[HMAC] },
    Need { what: "AES-GCM", by: "stored secrets", any_of: &[GCM] },
    Need { what: "Ed25519 or ECDSA", by: "the key of the log", any_of: &[EDDSA, ECDSA] },
];

/// Needed only where a recovery key is named.
const ESCROW: Need = Need { what: "RSA-OAEP that wraps", by: "the root's escrow", any_of: &[RSA_ESCROW] };

/// What is said of a module that lacks none of them.
pub(crate) const CARRIES: &str = "has all that the service's own keys need";

/// Refuses a module that lists no mechanism for something that the service's own keys need.
///
/// # Errors
/// [`Fault::Unsupported`], naming all that is missing; or the module does not answer.
pub(crate) fn carries(token: &mut dyn Token) -> Result<(), Trouble> {
    let listed = token.mechanisms()?;
    lacks_nothing(|wanted| listed.contains(&wanted.number)).map_err(|why| Fault::Unsupported(why).into())
}

/// Says all that is missing.
fn lacks_nothing(has: impl Fn(&Wanted) -> bool) -> Result<(), String> {
    let missing: Vec<String> = NEEDS.iter().filter(|need| !need.any_of.iter().any(&has)).map(Need::missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("it cannot carry the service's own keys: it lacks {}", missing.join("; ")))
}

impl Need {
    /// What is missing, and the mechanisms that would have given it.
    fn missing(&self) -> String {
        let names: Vec<&str> = self.any_of.iter().map(|wanted| wanted.name).collect();
        format!("{} for {} ({})", self.what, self.by, names.join(" or "))
    }
}

/// The mechanisms of a slot, with what the module says of each.
pub(crate) struct Listed {
    mechanisms: Vec<(CK_MECHANISM_TYPE, CK_MECHANISM_INFO)>,
    is_writable: bool,
}

impl Listed {
    /// From what the module has answered.
    pub(crate) fn new(mechanisms: Vec<(CK_MECHANISM_TYPE, CK_MECHANISM_INFO)>, is_writable: bool) -> Self {
        Self { mechanisms, is_writable }
    }

    /// A line for each thing that the service uses.
    pub(crate) fn lines(&self) -> Vec<Capability> {
        let carries = if self.is_writable {
            lacks_nothing(|wanted| self.info(*wanted).is_some()).map(|()| CARRIES.to_owned())
        } else {
            Err("nothing can be kept on it: it is write-protected".to_owned())
        };
        let mut lines = vec![line(HIERARCHY.to_owned(), None, carries)];
        let needed = NEEDS.iter().chain([&ESCROW]).map(|need| {
            let found = self.any(need.any_of).map(|name| format!("{name}, for {}", need.by));
            line(need.what.to_owned(), None, found)
        });
        lines.extend(needed);
        let wrapped = self.any(&[KEY_WRAP_KWP, KEY_WRAP_PAD]);
        for spec in KeySpec::ALL {
            lines.extend(self.kind(spec, Residency::Wrapped, &wrapped));
            lines.extend(self.kind(spec, Residency::Token, &Ok(String::new())));
        }
        lines
    }

    fn kind(&self, spec: KeySpec, residency: Residency, resides: &Result<String, String>) -> Vec<Capability> {
        let cell = |algorithm| Some(Cell { spec, residency, algorithm });
        let name = format!("{} {}", spec.name(), residency.name());
        let made = resides.clone().and_then(|_| self.sized(generation(spec), spec));
        let mut lines = vec![line(name.clone(), cell(None), made.clone())];
        if made.is_ok() {
            lines.extend(spec.algorithms().map(|algorithm| {
                let what = format!("{name} {}", algorithm.name());
                line(what, cell(Some(algorithm)), self.sized(mechanism(algorithm), spec))
            }));
        }
        lines
    }

    /// The name of the first of them that is listed and good for what it is wanted for.
    fn any(&self, any_of: &[Wanted]) -> Result<String, String> {
        let found = any_of.iter().find(|wanted| self.info(**wanted).is_some());
        found.map(|wanted| wanted.name.to_owned()).ok_or_else(|| {
            let names: Vec<&str> = any_of.iter().map(|wanted| wanted.name).collect();
            format!("{} is not listed", names.join(" or "))
        })
    }

    fn info(&self, wanted: Wanted) -> Option<CK_MECHANISM_INFO> {
        let (_, info) = self.mechanisms.iter().find(|(number, _)| *number == wanted.number)?;
        (info.flags & wanted.flags == wanted.flags).then_some(*info)
    }

    /// That a mechanism is listed for keys of that size. Sizes of secret keys are in bits in some modules and
    /// in bytes in others, those of Ed25519 are 255 or 256: they are not looked at.
    fn sized(&self, wanted: Wanted, spec: KeySpec) -> Result<String, String> {
        let name = wanted.name;
        let info = self.info(wanted).ok_or_else(|| format!("{name} is not listed"))?;
        let bits = u64::try_from(spec.bits()).unwrap_or(u64::MAX);
        let (least, most) = (info.ulMinKeySize, info.ulMaxKeySize);
        if !matches!(spec.key_type(), KeyType::Rsa | KeyType::Ec) || (least..=most).contains(&bits) {
            Ok(name.to_owned())
        } else {
            Err(format!("{name} is listed for keys of {least} to {most} bits"))
        }
    }
}

/// What makes a key of that kind.
const fn generation(spec: KeySpec) -> Wanted {
    match spec.key_type() {
        KeyType::Rsa => GENERATE_RSA,
        KeyType::Ec => GENERATE_EC,
        KeyType::Okp => GENERATE_EDWARDS,
        KeyType::Aes => GENERATE_AES,
        KeyType::Hmac => GENERATE_SECRET,
    }
}

/// What an algorithm runs on.
fn mechanism(algorithm: Algorithm) -> Wanted {
    match algorithm.scheme() {
        Scheme::RsaPkcs1(_) => RSA_PKCS,
        Scheme::RsaPss(_) => RSA_PSS,
        Scheme::RsaOaep(Digest::Sha1) => RSA_OAEP,
        Scheme::RsaOaep(_) | Scheme::RsaEs15 => RSA_RAW,
        Scheme::Ecdsa(_) => ECDSA,
        Scheme::Eddsa => EDDSA,
        Scheme::Hmac(Digest::Sha1) => HMAC_SHA1,
        Scheme::Hmac(Digest::Sha256) => HMAC,
        Scheme::Hmac(Digest::Sha384) => HMAC_SHA384,
        Scheme::Hmac(Digest::Sha512) => HMAC_SHA512,
        Scheme::AesGcm => GCM,
        Scheme::AesCbc | Scheme::AesCbcPad => CBC,
        Scheme::AesKw | Scheme::AesKwp => ECB,
    }
}

fn line(what: String, cell: Option<Cell>, found: Result<String, String>) -> Capability {
    let works = found.is_ok();
    Capability { what, cell, works, note: found.unwrap_or_else(|why| why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: CK_MECHANISM_INFO = CK_MECHANISM_INFO { ulMinKeySize: 0, ulMaxKeySize: 4096, flags: CK_FLAGS::MAX };

    fn of(lines: &[Capability], what: &str) -> (bool, String) {
        let line = lines.iter().find(|line| line.what == what).unwrap_or_else(|| panic!("a line for {what}"));
        (line.works, line.note.clone())
    }

    #[test]
    fn what_is_not_listed_does_not_work() {
        let lines = Listed::new(vec![(sys::CKM_RSA_PKCS_KEY_PAIR_GEN, ANY), (sys::CKM_RSA_PKCS, ANY)], true).lines();
        assert_eq!(of(&lines, "RSA-2048 token RS256"), (true, "CKM_RSA_PKCS".to_owned()));
        assert_eq!(of(&lines, "RSA-2048 token PS256"), (false, "CKM_RSA_PKCS_PSS is not listed".to_owned()));
        assert_eq!(of(&lines, "P-256 token"), (false, "CKM_EC_KEY_PAIR_GEN is not listed".to_owned()));
        let unwrappable = (false, "CKM_AES_KEY_WRAP_KWP or CKM_AES_KEY_WRAP_PAD is not listed".to_owned());
        assert_eq!(of(&lines, "RSA-2048 wrapped"), unwrappable);
        assert!(!lines.iter().any(|line| line.what == "RSA-2048 wrapped RS256"), "no key, no algorithm");
    }

    #[test]
    fn flags_and_sizes_count() {
        let signs = CK_MECHANISM_INFO { flags: sys::CKF_SIGN, ..ANY };
        let small = CK_MECHANISM_INFO { ulMaxKeySize: 2048, ..ANY };
        let lines =
            Listed::new(vec![(sys::CKM_RSA_PKCS_KEY_PAIR_GEN, small), (sys::CKM_RSA_PKCS, signs)], true).lines();
        assert_eq!(of(&lines, "RSA-2048 token RS256"), (false, "CKM_RSA_PKCS is not listed".to_owned()));
        let range = "CKM_RSA_PKCS_KEY_PAIR_GEN is listed for keys of 0 to 2048 bits".to_owned();
        assert_eq!(of(&lines, "RSA-3072 token"), (false, range));
    }
}

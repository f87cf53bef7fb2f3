//! One request of somebody who is known: what was asked, of which vault, and what is answered.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use strongroom_hsm::SecretBytes;
use zeroize::Zeroizing;

use super::{
    address::{Address, Flavour, Settings},
    fault::Fault,
    route::Route,
    target::Target,
};
use crate::{
    model::{ObjectName, VaultName, VersionId, base64},
    service::{Caller, KeyRef, Service},
};

/// A request.
pub(super) struct Call<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) caller: &'a Caller,
    pub(super) settings: &'a Settings,
    pub(super) address: &'a Address,
    pub(super) vault: VaultName,
    pub(super) flavour: Flavour,
    pub(super) route: Route,
    pub(super) target: Target,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Wiped, once it is sent: it may hold what was decrypted.
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// What was asked for.
    pub(super) fn ok(body: &Value) -> Self {
        Self::with(StatusCode::OK, body)
    }

    pub(super) fn with(status: StatusCode, body: &Value) -> Self {
        Self { status, body: Zeroizing::new(body.to_string().into_bytes()) }
    }

    /// What was asked for, with a secret of so many bytes in it: written once, into memory that does not grow.
    pub(super) fn secret(body: &impl Serialize, room: usize) -> Result<Self, Fault> {
        const REST_BYTES: usize = 16 * 1024;
        let mut written = Zeroizing::new(Vec::with_capacity(room + REST_BYTES));
        serde_json::to_writer(&mut *written, body)
            .map_err(|_| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "an internal error"))?;
        Ok(Self { status: StatusCode::OK, body: written })
    }

    /// Done, and there is nothing to say.
    pub(super) fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Zeroizing::default() }
    }
}

impl Call<'_> {
    /// The body as what the operation takes. What is wrong is told by its place: what stands there may be secret.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        if self.body.is_empty() {
            return Err(Fault::bad("The request has no body, and this operation takes one in JSON."));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Data => "not what this operation takes",
                _ => "not JSON",
            };
            Fault::bad(format!("The request body is {what}: line {}, column {}.", error.line(), error.column()))
        })
    }

    /// The object of the path.
    pub(super) fn object_name(&self) -> Result<ObjectName, Fault> {
        let name = &self.route.name;
        name.parse().map_err(|_| {
            let name: String = name.chars().take(130).collect();
            Fault::bad(format!("The request URI contains an invalid name: {name}"))
        })
    }

    /// The key of the path, with its version, if one is named.
    pub(super) fn key(&self) -> Result<KeyRef, Fault> {
        Ok(KeyRef { version: self.version()?, ..self.whole_key()? })
    }

    /// The version of the path, if one is named.
    pub(super) fn version(&self) -> Result<Option<VersionId>, Fault> {
        self.route.version.as_deref().map(version).transpose()
    }

    /// The key of the path, whatever version is named.
    pub(super) fn whole_key(&self) -> Result<KeyRef, Fault> {
        Ok(KeyRef { vault: self.vault.clone(), key: self.object_name()?, version: None })
    }

    /// A URL here.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address.origin())
    }
}

fn version(text: &str) -> Result<VersionId, Fault> {
    text.to_ascii_lowercase().parse().map_err(|_| {
        let text: String = text.chars().take(40).collect();
        Fault::bad(format!("The request URI contains an invalid version: {text}"))
    })
}

/// Bytes in JSON, in base64 of any kind; wiped. JSON's `null` is none.
pub(super) struct Bytes(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::<String>::deserialize(deserializer)?;
        base64::decode(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not base64"))
    }
}

impl Bytes {
    /// A secret.
    pub(super) fn secret(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut *self.0))
    }

    /// No secret.
    pub(super) fn public(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }
}

/// A secret in an answer.
pub(super) fn shown(secret: &SecretBytes) -> Zeroizing<String> {
    Zeroizing::new(base64::encode(secret.expose_secret()))
}

/// A member that must be there.
pub(super) fn required<T>(name: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::property(name, "it is missing"))
}

//! Values, each asked for once however often it is needed: every read is a record in the audit log.

use strongroom_client::{SecretValue, secrecy::ExposeSecret as _};

use super::reading;
use crate::{
    cli::{client::Client, failure::Failure},
    service::secrets::SecretRef,
};

/// Values that were read. They are wiped when this is dropped.
pub(super) struct Values {
    client: Client,
    read: Vec<(SecretRef, SecretValue)>,
}

impl Values {
    /// None yet.
    pub(super) const fn of(client: Client) -> Self {
        Self { client, read: Vec::new() }
    }

    /// The value of a secret.
    pub(super) async fn get(&mut self, secret: &SecretRef) -> Result<&[u8], Failure> {
        let at = match self.read.iter().position(|(known, _)| known == secret) {
            Some(at) => at,
            None => {
                let call = self.client.api.get_secret_value(&secret.to_string()).await;
                let value = call.map_err(|error| self.client.explain(&error, &reading("read", secret)))?;
                self.read.push((secret.clone(), value));
                self.read.len() - 1
            }
        };
        Ok(exposed(&self.read[at].1))
    }
}

/// The bytes themselves: the one place of these commands.
pub(super) fn exposed(value: &SecretValue) -> &[u8] {
    value.value.expose_secret()
}

//! Who has signed a checkpoint, as it is shown.

use serde::Serialize;

use crate::{audit::tlog::Signer, model::Timestamp};

/// A key that has signed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SignerView {
    /// The name it signs under.
    pub(in crate::cli) name: String,
    /// The verifier key.
    pub(in crate::cli) key: String,
    /// When, if it is a witness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) time: Option<String>,
}

impl From<&Signer<'_>> for SignerView {
    fn from(signer: &Signer<'_>) -> Self {
        let time = signer.time.map(|time| Timestamp(i64::try_from(time).unwrap_or(i64::MAX)).to_string());
        Self { name: signer.key.name().to_owned(), key: signer.key.to_string(), time }
    }
}

impl SignerView {
    /// For people.
    pub(super) fn text(&self) -> String {
        match &self.time {
            Some(time) => format!("{} (witness, at {time})", self.name),
            None => self.name.clone(),
        }
    }
}

/// All of them in one line.
pub(super) fn text(signers: &[SignerView]) -> String {
    signers.iter().map(SignerView::text).collect::<Vec<_>>().join(", ")
}

//! The root, and how another takes its place (docs/own-keys.md).
//!
//! ```text
//! init ──> one root ──> Prepared: the next one is on the token, and every worker knows it
//!              ^        Renewing: new keys and seals are of the next one, and what is there is carried over
//!              └─────── Retiring: nothing is under the old one any more, and it is destroyed
//! ```

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    KekId,
    protocol::{Kek, OtherKeys, ServiceKeys},
    statement::Canonical,
};

use super::{rows::InstanceRow, time::Timestamp};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The next root is on the token. Nothing is made with it until every worker of every replica knows it.
    Prepared,
    /// The next root is the root: new keys and seals are of it, and what is under the old one is carried over.
    Renewing,
    /// Nothing is under the old one any more. It is destroyed once no worker knows it.
    Retiring,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 3] = [Self::Prepared, Self::Renewing, Self::Retiring];

    /// The name, as recorded and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Renewing => "renewing",
            Self::Retiring => "retiring",
        }
    }
}

/// The root under one recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrow {
    /// SHA-256 of the recovery key's SubjectPublicKeyInfo.
    pub recovery_key: [u8; 32],
    /// RSA-OAEP (SHA-1) of the root.
    pub blob: Vec<u8>,
}

/// A root with what is under it of the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Which; none: the one of `init`.
    pub root: Option<Kek>,
    /// The sealing key under it, AES-KWP.
    pub sealing: Vec<u8>,
    /// The key of stored secrets under it, AES-KWP.
    pub data: Vec<u8>,
    /// It under each recovery key.
    pub escrow: Vec<Escrow>,
    /// Whether it carries the unwrap template.
    pub unwrap_template: bool,
}

impl Generation {
    /// The root's CKA_ID, if it has one.
    #[must_use]
    pub fn root_id(&self) -> Option<KekId> {
        self.root.map(|root| root.id)
    }
}

/// A root that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// How far it has come.
    pub stage: Stage,
    /// `Prepared`: the next one. From then on: the old one.
    pub other: Generation,
    /// Since when.
    pub begun: Timestamp,
}

impl Renewal {
    /// What is sealed of it.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.renewal.v1")
            .number(1, 1 + self.stage as u64)
            .field(2, &root_form(self.other.root.as_ref()))
            .field(3, &self.other.sealing)
            .field(4, &self.other.data)
            .field(5, &escrow_form(&self.other.escrow))
            .number(6, u64::from(self.other.unwrap_template))
            .optional_number(7, Some(self.begun.0))
            .finish()
    }
}

/// What is sealed of a root that was made in place of another: CKA_ID, blob and mark of its proof, one behind the other.
#[must_use]
pub fn root_form(root: Option<&Kek>) -> Vec<u8> {
    root.map(|root| [root.id.as_slice(), &root.blob, &root.mark].concat()).unwrap_or_default()
}

/// What is sealed of escrows: `( SHA-256 of the recovery key, 32 bytes | length u32 big-endian | blob )*`
#[must_use]
pub fn escrow_form(escrow: &[Escrow]) -> Vec<u8> {
    let one = |escrow: &Escrow| {
        let length = u32::try_from(escrow.blob.len()).expect("blobs are short").to_be_bytes();
        [&escrow.recovery_key[..], &length, &escrow.blob].concat()
    };
    escrow.iter().flat_map(one).collect()
}

impl InstanceRow {
    /// The keys that workers are started with: another root and sealing key among them, while one takes the other's place.
    #[must_use]
    pub fn worker_keys(&self) -> ServiceKeys {
        let other = self.renewal.as_ref().filter(|renewal| renewal.stage != Stage::Retiring);
        let other =
            other.map(|renewal| OtherKeys { root: renewal.other.root, sealing: renewal.other.sealing.clone().into() });
        ServiceKeys { other, log_id: self.log_keys.id, other_log: self.other_log(), ..self.service_keys.clone() }
    }

    /// The root of now, with what is under it.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation {
            root: self.service_keys.root,
            sealing: self.service_keys.sealing.to_vec(),
            data: self.service_keys.data.to_vec(),
            escrow: self.escrow.clone(),
            unwrap_template: self.unwrap_template,
        }
    }

    /// The same instance on that root.
    #[must_use]
    pub fn on(&self, generation: Generation) -> Self {
        let Generation { root, sealing, data, escrow, unwrap_template } = generation;
        let service_keys =
            ServiceKeys { root, sealing: sealing.into(), data: data.into(), ..self.service_keys.clone() };
        Self { service_keys, escrow, unwrap_template, ..self.clone() }
    }

    /// A name for the root of now that says nothing of it: SHA-256 over the sealing key's blob, which no other root has.
    #[must_use]
    pub fn root_name(&self) -> [u8; 16] {
        let digest =
            Sha256::new().chain_update(b"strongroom.root\0").chain_update(&self.service_keys.sealing).finalize();
        digest[..16].try_into().expect("a digest has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogKeys;
    use crate::store::contract::fixtures::instance;

    fn generation(n: u8) -> Generation {
        Generation {
            root: Some(Kek { id: [n; 16], blob: [n; 24], mark: [n; 16] }),
            sealing: vec![n; 40],
            data: vec![n + 1; 40],
            escrow: vec![Escrow { recovery_key: [n; 32], blob: vec![n; 384] }],
            unwrap_template: true,
        }
    }

    #[test]
    fn the_other_one_is_known_to_workers_until_it_is_to_go() {
        for (stage, is_known) in [(Stage::Prepared, true), (Stage::Renewing, true), (Stage::Retiring, false)] {
            let renewal = Some(Renewal { stage, other: generation(1), begun: Timestamp(1) });
            let row = InstanceRow { renewal, ..instance() };
            assert_eq!(row.worker_keys().other.is_some(), is_known, "{}", stage.name());
            assert_eq!(row.service_keys.other, None, "it is never stored there");
        }
        let row = InstanceRow { renewal: None, log_keys: LogKeys::default(), ..instance() };
        assert_eq!(row.worker_keys(), row.service_keys);
    }

    #[test]
    fn one_root_stands_in_the_place_of_the_other_and_all_else_stays() {
        let row = instance();
        let next = row.on(generation(7));
        assert_eq!(next.generation(), generation(7));
        assert_eq!(next.on(row.generation()), row);
        assert_ne!(next.root_name(), row.root_name());
        assert_eq!((next.service_keys.canary, next.id), (row.service_keys.canary, row.id));
    }

    #[test]
    fn everything_of_it_is_sealed() {
        let renewal = |stage, other| Renewal { stage, other, begun: Timestamp(1) };
        let mut forms: Vec<_> = Stage::ALL.map(|stage| renewal(stage, generation(1)).canonical()).into();
        let mut other = generation(1);
        other.escrow.clear();
        forms.push(renewal(Stage::Prepared, other).canonical());
        forms.push(renewal(Stage::Prepared, Generation { root: None, ..generation(1) }).canonical());
        forms.push(renewal(Stage::Prepared, Generation { unwrap_template: false, ..generation(1) }).canonical());
        forms.push(Renewal { begun: Timestamp(2), ..renewal(Stage::Prepared, generation(1)) }.canonical());
        let unique: std::collections::HashSet<_> = forms.iter().collect();
        assert_eq!(unique.len(), forms.len());
    }
}

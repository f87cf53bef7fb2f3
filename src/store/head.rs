//! Heads: what makes an old row, or a missing one, be found (ADR 0002).
//!
//! A scope (the service, or one vault) has a head: a revision that grows by one with every change, and a
//! digest of the *set* of its rows. The digest is a lattice hash (LtHash16: 1024 sums modulo 2^16; Lewi,
//! Kim, Maykov, Weis, "Securing Update Propagation with Homomorphic Hashing", IACR ePrint 2019/227), so
//! that a change costs the rows it touches and not the scope:
//!
//! ```text
//! H(set) = sum over rows of BLAKE3-XOF-2048(kind | id | revision | seal)      component-wise, mod 2^16
//! ```
//!
//! The head is sealed like any row. Its short digest goes into the audit record of the change, so the
//! newest head is known outside the database too.

use strongroom_hsm::{Seal, statement::Canonical};

use crate::model::{Row, RowId, RowKind};

const LANES: usize = 1024;

/// A digest of a set of rows that can be changed row by row.
#[derive(Clone, PartialEq, Eq)]
pub struct SetDigest(Box<[u16; LANES]>);

impl Default for SetDigest {
    /// The digest of no rows.
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl std::fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetDigest({})", blake3::Hash::from_bytes(self.short()))
    }
}

impl SetDigest {
    /// The length of its bytes.
    pub const BYTES: usize = LANES * 2;

    /// Adds a row to the set.
    pub fn insert(&mut self, id: &RowId, revision: u64, seal: &Seal) {
        for (sum, element) in self.0.iter_mut().zip(element(id, revision, seal)) {
            *sum = sum.wrapping_add(element);
        }
    }

    /// Takes a row out of the set.
    pub fn remove(&mut self, id: &RowId, revision: u64, seal: &Seal) {
        for (sum, element) in self.0.iter_mut().zip(element(id, revision, seal)) {
            *sum = sum.wrapping_sub(element);
        }
    }

    /// The sums, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let mut digest = Self::default();
        for (sum, pair) in digest.0.iter_mut().zip(bytes.chunks_exact(2)) {
            *sum = u16::from_le_bytes([pair[0], pair[1]]);
        }
        Some(digest)
    }

    /// BLAKE3 of the sums: what the audit log records.
    #[must_use]
    pub fn short(&self) -> [u8; 32] {
        *blake3::hash(&self.to_bytes()).as_bytes()
    }
}

fn element(id: &RowId, revision: u64, seal: &Seal) -> [u16; LANES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[id.kind.code()]);
    hasher.update(&id.id);
    hasher.update(&revision.to_be_bytes());
    hasher.update(seal);
    let mut bytes = [0; SetDigest::BYTES];
    hasher.finalize_xof().fill(&mut bytes);
    let mut element = [0; LANES];
    for (lane, pair) in element.iter_mut().zip(bytes.chunks_exact(2)) {
        *lane = u16::from_le_bytes([pair[0], pair[1]]);
    }
    element
}

/// What a head covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeadScope {
    /// The instance, vaults, role definitions, role assignments, access policies, tokens and the keys that sign them.
    Service,
    /// The keys, versions and usage counters of the vault with that id.
    Vault([u8; 16]),
}

impl HeadScope {
    /// The scope's id: all zero for the service.
    #[must_use]
    pub const fn id(self) -> [u8; 16] {
        match self {
            Self::Service => [0; 16],
            Self::Vault(id) => id,
        }
    }

    /// The scope of that id.
    #[must_use]
    pub const fn from_id(id: [u8; 16]) -> Self {
        if u128::from_be_bytes(id) == 0 { Self::Service } else { Self::Vault(id) }
    }
}

impl std::str::FromStr for HeadScope {
    type Err = ();

    /// Reads what [`std::fmt::Display`] wrote.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut id = [0; 16];
        match base16ct::lower::decode(text, &mut id) {
            Ok(bytes) if bytes.len() == 16 => Ok(Self::from_id(id)),
            _ => Err(()),
        }
    }
}

impl std::fmt::Display for HeadScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.id()))
    }
}

/// The head of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRow {
    /// What it covers.
    pub scope: HeadScope,
    /// Grows by one with every change of the scope.
    pub revision: u64,
    /// How many rows.
    pub rows: u64,
    /// The largest index of an intent whose change this head or one before it covers: a log that ends
    /// before it is older than the store.
    pub intent: u64,
    /// The set of rows.
    pub digest: SetDigest,
}

impl Row for HeadRow {
    fn row_id(&self) -> RowId {
        // A head is not a member of any head; its kind is only for its entity tag, which nobody asks for.
        RowId { kind: RowKind::Instance, id: self.scope.id() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.head.v1")
            .field(1, &self.scope.id())
            .number(2, self.revision)
            .number(3, self.rows)
            .field(4, &self.digest.to_bytes())
            .number(5, self.intent)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(n: u8) -> RowId {
        RowId { kind: RowKind::Version, id: [n; 16] }
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_removal_undoes(ids in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut forward = SetDigest::default();
            let mut backward = SetDigest::default();
            for n in &ids {
                forward.insert(&row(*n), 1, &[*n; 32]);
            }
            for n in ids.iter().rev() {
                backward.insert(&row(*n), 1, &[*n; 32]);
            }
            prop_assert_eq!(&forward, &backward);
            for n in &ids {
                forward.remove(&row(*n), 1, &[*n; 32]);
            }
            prop_assert_eq!(forward, SetDigest::default());
        }
    }

    #[test]
    fn revision_seal_and_kind_all_count() {
        let of = |id: &RowId, revision, seal| {
            let mut digest = SetDigest::default();
            digest.insert(id, revision, &[seal; 32]);
            digest.short()
        };
        let base = of(&row(1), 1, 1);
        assert_ne!(base, of(&row(1), 2, 1));
        assert_ne!(base, of(&row(1), 1, 2));
        assert_ne!(base, of(&RowId { kind: RowKind::Key, id: [1; 16] }, 1, 1));
    }
}

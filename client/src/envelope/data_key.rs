//! Data keys: AES-256-GCM, the nonces, and how long a key is kept.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand,
};
use secrecy::SecretSlice;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    EnvelopeError, Limits,
    format::{NONCE_BYTES, Parts, TAG_BYTES},
};

const KEY_BYTES: usize = 32;

/// A new key.
pub(super) fn random() -> Result<Zeroizing<[u8; KEY_BYTES]>, EnvelopeError> {
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *secret).map_err(|_| EnvelopeError::NoRandomness)?;
    Ok(secret)
}

/// A key with its header. AWS-LC wipes the key when it frees it.
pub(super) struct Sealer {
    key: LessSafeKey,
    header: Vec<u8>,
}

impl Sealer {
    pub(super) fn new(secret: &[u8], header: Vec<u8>) -> Result<Self, EnvelopeError> {
        let key = UnboundKey::new(&AES_256_GCM, secret)
            .map_err(|_| EnvelopeError::NotAnEnvelope("its data key has another length than 32 bytes"))?;
        Ok(Self { key: LessSafeKey::new(key), header })
    }

    fn authenticated(&self, associated: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([&self.header, associated].concat())
    }

    /// header ‖ nonce ‖ AES-256-GCM(nonce, plaintext, header ‖ associated)
    fn seal(&self, nonce: [u8; NONCE_BYTES], plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let begin = self.header.len() + NONCE_BYTES;
        // One allocation: growing would leave plaintext behind.
        let mut sealed = Vec::with_capacity(begin + plaintext.len() + TAG_BYTES);
        sealed.extend_from_slice(&self.header);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.authenticated(associated),
                &mut sealed[begin..],
            )
            .map_err(|_| EnvelopeError::TooLong(plaintext.len()))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    pub(super) fn open(&self, parts: &Parts<'_>, associated: &[u8]) -> Result<SecretSlice<u8>, EnvelopeError> {
        let mut plaintext = Zeroizing::new(vec![0; parts.ciphertext.len()]);
        self.key
            .open_separate_gather(
                Nonce::assume_unique_for_key(parts.nonce),
                self.authenticated(associated),
                parts.ciphertext,
                parts.tag,
                &mut plaintext,
            )
            .map_err(|_| EnvelopeError::Altered)?;
        Ok(std::mem::take(&mut *plaintext).into())
    }
}

/// What is left of a key's life.
struct Budget {
    uses: u32,
    bytes: u64,
    until: Instant,
}

impl Budget {
    fn new(limits: Limits, now: Instant) -> Self {
        Self { uses: limits.uses_max, bytes: limits.bytes_max, until: now + limits.age_max }
    }

    /// Takes one use of so many bytes; whether there was room.
    fn take(&mut self, length: usize, now: Instant) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if self.uses == 0 || self.bytes < length || self.until <= now {
            return false;
        }
        self.uses -= 1;
        self.bytes -= length;
        true
    }
}

/// One use of a key: the key, and a nonce that nobody else has.
pub(super) struct Ticket {
    sealer: Arc<Sealer>,
    nonce: [u8; NONCE_BYTES],
}

impl Ticket {
    pub(super) fn seal(self, plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.sealer.seal(self.nonce, plaintext, associated)
    }
}

/// The key that encrypts.
pub(super) struct DataKey {
    sealer: Arc<Sealer>,
    budget: Budget,
    /// How many nonces there were.
    nonces: u32,
}

impl DataKey {
    pub(super) fn new(sealer: Sealer, limits: Limits, now: Instant) -> Self {
        Self { sealer: Arc::new(sealer), budget: Budget::new(limits, now), nonces: 0 }
    }

    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.budget.until <= now
    }

    /// One more use; `None` when there is none left.
    pub(super) fn ticket(&mut self, length: usize, now: Instant) -> Result<Option<Ticket>, EnvelopeError> {
        if !self.budget.take(length, now) {
            return Ok(None);
        }
        Ok(Some(Ticket { sealer: Arc::clone(&self.sealer), nonce: self.nonce()? }))
    }

    /// The first use of a new key, which is given in any case.
    pub(super) fn first_ticket(&mut self, length: usize) -> Result<Ticket, EnvelopeError> {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.budget.uses -= 1;
        self.budget.bytes = self.budget.bytes.saturating_sub(length);
        Ok(Ticket { sealer: Arc::clone(&self.sealer), nonce: self.nonce()? })
    }

    /// A counter and random bytes.
    fn nonce(&mut self) -> Result<[u8; NONCE_BYTES], EnvelopeError> {
        let mut nonce = [0; NONCE_BYTES];
        let (counter, random) = nonce.split_at_mut(size_of::<u32>());
        counter.copy_from_slice(&self.nonces.to_be_bytes());
        rand::fill(random).map_err(|_| EnvelopeError::NoRandomness)?;
        self.nonces += 1;
        Ok(nonce)
    }
}

/// Keys that decrypt, by the header of their envelopes.
pub(super) struct Opened {
    limits: Limits,
    entries: HashMap<Vec<u8>, Entry>,
    /// Counts the uses of all, to know the entry that was used longest ago.
    clock: u64,
}

struct Entry {
    sealer: Arc<Sealer>,
    budget: Budget,
    used: u64,
}

impl Opened {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, entries: HashMap::new(), clock: 0 }
    }

    pub(super) fn find(&mut self, header: &[u8], length: usize, now: Instant) -> Option<Arc<Sealer>> {
        let entry = self.entries.get_mut(header)?;
        if !entry.budget.take(length, now) {
            self.entries.remove(header);
            return None;
        }
        self.clock += 1;
        entry.used = self.clock;
        Some(Arc::clone(&entry.sealer))
    }

    /// Keeps a key that was just unwrapped for a message of this length.
    pub(super) fn keep(&mut self, sealer: Arc<Sealer>, length: usize, now: Instant) {
        let mut budget = Budget::new(self.limits, now);
        if self.limits.opened_max == 0 || !budget.take(length, now) {
            return;
        }
        if self.entries.len() >= self.limits.opened_max {
            self.forget_one();
        }
        self.clock += 1;
        let used = self.clock;
        self.entries.insert(sealer.header.clone(), Entry { sealer, budget, used });
    }

    fn forget_one(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(header, _)| header.clone());
        oldest.and_then(|header| self.entries.remove(&header));
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.budget.until > now);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    const LIMITS: Limits = Limits { uses_max: 3, bytes_max: 100, age_max: Duration::from_secs(60), opened_max: 2 };

    fn sealer(header: u8) -> Sealer {
        Sealer::new(&[7; KEY_BYTES], vec![header]).expect("32 bytes")
    }

    #[test]
    fn a_key_ends_by_uses_bytes_or_age() {
        let now = Instant::now();
        let fresh = || DataKey::new(sealer(0), LIMITS, now);
        let took = |key: &mut DataKey, length, at| key.ticket(length, at).expect("random bytes").is_some();
        let mut key = fresh();
        assert!((0..3).all(|_| took(&mut key, 1, now)) && !took(&mut key, 1, now), "three uses");
        let mut key = fresh();
        assert!(took(&mut key, 99, now) && !took(&mut key, 2, now) && took(&mut key, 1, now), "a hundred bytes");
        let mut key = fresh();
        let end = now + LIMITS.age_max;
        assert!(took(&mut key, 1, end - Duration::from_millis(1)) && !took(&mut key, 1, end), "a minute");
    }

    #[test]
    fn no_nonce_comes_twice() {
        let limits = Limits { uses_max: 100_000, bytes_max: u64::MAX, ..LIMITS };
        let mut key = DataKey::new(sealer(0), limits, Instant::now());
        let mut seen = HashSet::new();
        while let Some(Ticket { nonce, .. }) = key.ticket(0, Instant::now()).expect("random bytes") {
            assert_eq!(nonce[..4], u32::try_from(seen.len()).expect("few").to_be_bytes());
            assert!(seen.insert(nonce));
        }
        assert_eq!(seen.len(), 100_000);
        let random: HashSet<&[u8]> = seen.iter().map(|nonce| &nonce[4..]).collect();
        assert!(random.len() > 99_990, "the rest is random");
    }

    #[test]
    fn the_key_used_longest_ago_makes_room() {
        let now = Instant::now();
        let mut opened = Opened::new(LIMITS);
        opened.keep(Arc::new(sealer(1)), 1, now);
        opened.keep(Arc::new(sealer(2)), 1, now);
        assert!(opened.find(&[1], 1, now).is_some());
        opened.keep(Arc::new(sealer(3)), 1, now);
        assert!(opened.find(&[2], 1, now).is_none());
        assert!(opened.find(&[1], 1, now).is_some() && opened.find(&[3], 1, now).is_some());
        assert!(opened.find(&[1], 1, now).is_none(), "three uses, the first of them when it was kept");
        opened.forget_old(now + LIMITS.age_max);
        assert!(opened.entries.is_empty());
    }

    #[test]
    fn known_bytes_come_out() {
        let sealed = sealer(0).seal([1; NONCE_BYTES], b"text", b"ad").expect("sealed");
        assert_eq!(sealed[..13], [&[0][..], &[1; 12]].concat());
        assert_eq!(sealed.len(), 13 + 4 + 16);
        assert_eq!(sealed[13..], KNOWN);
    }

    /// OpenSSL's AES-256-GCM: key 07…, nonce 01…, "text", additional data 00 "ad".
    const KNOWN: [u8; 20] =
        [2, 132, 241, 195, 215, 100, 215, 212, 51, 184, 2, 70, 135, 220, 187, 27, 226, 162, 190, 217];
}

//! Many operations in one request. Those with one key and one operation are a *group*: authorised once,
//! granted once, counted together, brought to the HSM's lanes together. Each has its own result; one that is
//! wrong is no reason to refuse another.
//!
//! All of it leaves one record, which is in the log before anything is answered. A group without a right is
//! recorded as every such refusal is; when no group has one there is no other record, so that whoever has
//! no rights cannot fill the disk with batches.

use std::{future::Future, pin::Pin, sync::Arc};

use futures_util::future::join_all;
use strongroom_hsm::SecretBytes;

use super::{
    Caller, DataKey, Encrypted, KeyRef, Service, Signed,
    asked::{self, Asked, KeyOp},
    catalog::VersionEntry,
    crypto::check_random,
    door::{Note, ending},
    error::{Problem, ServiceError},
    quota::{Bill, ITEM_US, REQUEST_US},
    usage::{Counted, budget},
};
use crate::{
    access::{Action, Denied, Grant, Op as _, Rights, Where, ops},
    audit::{Batch, BatchGroup, BatchItem, Durability, Kind, Outcome, Record},
    model::{Algorithm, Residency, Scope, VersionRow},
};

/// The most operations in one batch.
pub const ITEMS_MAX: usize = 256;

/// The operation of a batch's record.
pub(crate) const OPERATION: &str = "keys.batch";
/// What a batch is refused under.
const RESOURCE: &str = "batch";
/// What random bytes are recorded under.
const RANDOM: &str = "random";

/// One operation of a batch.
pub enum Item {
    /// See [`Service::sign`].
    Sign(KeyRef, Asked<ops::KeysSign>),
    /// See [`Service::verify`].
    Verify(KeyRef, Asked<ops::KeysVerify>),
    /// See [`Service::encrypt`].
    Encrypt(KeyRef, Asked<ops::KeysEncrypt>),
    /// See [`Service::decrypt`].
    Decrypt(KeyRef, Asked<ops::KeysDecrypt>),
    /// See [`Service::wrap_key`].
    Wrap(KeyRef, Asked<ops::KeysWrap>),
    /// See [`Service::unwrap_key`].
    Unwrap(KeyRef, Asked<ops::KeysUnwrap>),
    /// See [`Service::generate_data_key`].
    DataKey(KeyRef, Asked<ops::DataKeysGenerate>),
    /// See [`Service::generate_wrapped_data_key`].
    WrappedDataKey(KeyRef, Asked<ops::DataKeysGenerateWrapped>),
    /// See [`Service::random`].
    Random(u32),
    /// Decrypts, and encrypts elsewhere what that gives.
    ReEncrypt(KeyRef, Asked<ops::KeysDecrypt>, Destination),
    /// Unwraps, and wraps elsewhere what that gives.
    Rewrap(KeyRef, Asked<ops::KeysUnwrap>, Destination),
}

/// Under what something is put anew.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Which key or version.
    pub name: KeyRef,
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// A*CBC, A*CBCPAD: 16 bytes; else empty.
    pub iv: Vec<u8>,
    /// A*GCM only.
    pub additional_data: Vec<u8>,
}

/// What one operation of a batch gives.
#[derive(Debug)]
pub enum Done {
    /// To [`Item::Sign`].
    Signed(Signed),
    /// To [`Item::Verify`].
    Verified((Arc<VersionRow>, bool)),
    /// To [`Item::Encrypt`].
    Encrypted(Encrypted),
    /// To [`Item::Decrypt`].
    Decrypted((Arc<VersionRow>, SecretBytes)),
    /// To [`Item::Wrap`].
    Wrapped(Encrypted),
    /// To [`Item::Unwrap`].
    Unwrapped((Arc<VersionRow>, SecretBytes)),
    /// To [`Item::DataKey`].
    DataKey(DataKey),
    /// To [`Item::WrappedDataKey`].
    WrappedDataKey(Encrypted),
    /// To [`Item::Random`].
    Random(SecretBytes),
    /// To [`Item::ReEncrypt`]: the version that decrypted, and what the other made.
    ReEncrypted(Arc<VersionRow>, Encrypted),
    /// To [`Item::Rewrap`].
    Rewrapped(Arc<VersionRow>, Encrypted),
}

/// The items of one operation with one key, each with its place in the batch.
struct Group<O: KeyOp> {
    name: KeyRef,
    items: Vec<(usize, Asked<O>)>,
}

/// Every group of a batch.
#[derive(Default)]
struct Groups {
    sign: Vec<Group<ops::KeysSign>>,
    verify: Vec<Group<ops::KeysVerify>>,
    encrypt: Vec<Group<ops::KeysEncrypt>>,
    decrypt: Vec<Group<ops::KeysDecrypt>>,
    wrap: Vec<Group<ops::KeysWrap>>,
    unwrap: Vec<Group<ops::KeysUnwrap>>,
    data_key: Vec<Group<ops::DataKeysGenerate>>,
    wrapped_data_key: Vec<Group<ops::DataKeysGenerateWrapped>>,
    random: Vec<(usize, u32)>,
}

impl Groups {
    fn put(&mut self, place: usize, item: Item) {
        match item {
            Item::Sign(name, asked) => put(&mut self.sign, name, place, asked),
            Item::Verify(name, asked) => put(&mut self.verify, name, place, asked),
            Item::Encrypt(name, asked) => put(&mut self.encrypt, name, place, asked),
            Item::Decrypt(name, asked) => put(&mut self.decrypt, name, place, asked),
            Item::Wrap(name, asked) => put(&mut self.wrap, name, place, asked),
            Item::Unwrap(name, asked) => put(&mut self.unwrap, name, place, asked),
            Item::DataKey(name, asked) => put(&mut self.data_key, name, place, asked),
            Item::WrappedDataKey(name, asked) => put(&mut self.wrapped_data_key, name, place, asked),
            Item::Random(length) => self.random.push((place, length)),
            Item::ReEncrypt(name, asked, _) => put(&mut self.decrypt, name, place, asked),
            Item::Rewrap(name, asked, _) => put(&mut self.unwrap, name, place, asked),
        }
    }
}

fn put<O: KeyOp>(groups: &mut Vec<Group<O>>, name: KeyRef, place: usize, asked: Asked<O>) {
    // From the newest: most batches are of one key, and the others of few.
    match groups.iter_mut().rev().find(|group| group.name == name) {
        Some(group) => group.items.push((place, asked)),
        None => groups.push(Group { name, items: vec![(place, asked)] }),
    }
}

/// What has become of a group.
struct Part {
    action: Action,
    /// The version that was used, or the name that was asked for.
    resource: String,
    residency: Option<Residency>,
    /// Unless none of it was permitted, what is said instead of what the caller may not know.
    permitted: Option<Denied>,
    ends: Vec<End>,
}

impl Part {
    /// Whether it gives away a secret that was made here: then the record is on the disk first (D5).
    fn releases_secret(&self) -> bool {
        self.action.releases_secret() && self.ends.iter().any(|end| end.result.is_ok())
    }
}

/// What is kept of an item while it is in the HSM.
struct Mark {
    place: usize,
    algorithm: Algorithm,
    unpads: bool,
    given: Option<[u8; 32]>,
}

impl Mark {
    fn of<O: KeyOp>(place: usize, asked: &Asked<O>) -> Self {
        Self { place, algorithm: asked.algorithm(), unpads: asked.unpads(), given: asked.given() }
    }
}

/// What has become of one item.
struct End {
    place: usize,
    algorithm: Option<Algorithm>,
    /// Whether the HSM was asked.
    ran: bool,
    digest: Option<[u8; 32]>,
    result: Result<Done, ServiceError>,
}

impl End {
    /// Of an item that did not come to the HSM.
    fn before(place: usize, algorithm: Option<Algorithm>, digest: Option<[u8; 32]>, error: ServiceError) -> Self {
        Self { place, algorithm, ran: false, digest, result: Err(error) }
    }
}

type Parts<'a> = Vec<Pin<Box<dyn Future<Output = Part> + Send + 'a>>>;

impl Service {
    /// Does many operations: one result for each item, in order. Items that a face could not read are their
    /// own results.
    ///
    /// # Errors
    /// When there are none or more than [`ITEMS_MAX`], or when it cannot be recorded.
    pub async fn batch(
        self: &Arc<Self>,
        caller: &Caller,
        items: Vec<Result<Item, ServiceError>>,
    ) -> Result<Vec<Result<Done, ServiceError>>, ServiceError> {
        let mut step = caller.trace.operation(OPERATION, &Where::Anywhere, &caller.request);
        step.count(items.len());
        // All calls of a batch are told together, not one by one.
        let result = match caller.trace.gathering() {
            None => self.batch_in_turn(caller, items).await,
            Some(trace) => self.batch_in_turn(&Caller { trace, ..caller.clone() }, items).await,
        };
        step.conclude(ending(result.as_ref().err()));
        result
    }

    /// What is to be put elsewhere is opened with all others, and then sealed: two batches, each with its record.
    async fn batch_in_turn(
        self: &Arc<Self>,
        caller: &Caller,
        items: Vec<Result<Item, ServiceError>>,
    ) -> Result<Vec<Result<Done, ServiceError>>, ServiceError> {
        let destination = |item: &Result<Item, ServiceError>| match item {
            Ok(Item::ReEncrypt(.., to) | Item::Rewrap(.., to)) => Some(to.clone()),
            _ => None,
        };
        let destinations: Vec<Option<Destination>> = items.iter().map(destination).collect();
        let mut results = self.batch_untraced(caller, items).await?;
        let (mut second, mut places) = (Vec::new(), Vec::new());
        for (place, (to, result)) in destinations.into_iter().zip(&mut results).enumerate() {
            let Some(to) = to else { continue };
            let opened = std::mem::replace(result, Err(Problem::Internal.into()));
            match opened {
                Ok(Done::Decrypted((source, plaintext))) => {
                    let asked = Asked::encrypt(to.algorithm, plaintext, to.iv, to.additional_data);
                    second.push(Ok(Item::Encrypt(to.name, asked)));
                    places.push((place, source));
                }
                Ok(Done::Unwrapped((source, key))) => {
                    second.push(Ok(Item::Wrap(to.name, Asked::wrap(to.algorithm, key))));
                    places.push((place, source));
                }
                other => *result = other,
            }
        }
        if second.is_empty() {
            return Ok(results);
        }
        let sealed = match self.batch_untraced(caller, second).await {
            Ok(sealed) => sealed,
            // The others are done, and recorded.
            Err(error) => copies(error, places.len()).map(Err).collect(),
        };
        for ((place, source), sealed) in places.into_iter().zip(sealed) {
            results[place] = sealed.and_then(|done| match done {
                Done::Encrypted(sealed) => Ok(Done::ReEncrypted(source, sealed)),
                Done::Wrapped(sealed) => Ok(Done::Rewrapped(source, sealed)),
                _ => Err(Problem::Internal.into()),
            });
        }
        Ok(results)
    }

    async fn batch_untraced(
        self: &Arc<Self>,
        caller: &Caller,
        items: Vec<Result<Item, ServiceError>>,
    ) -> Result<Vec<Result<Done, ServiceError>>, ServiceError> {
        if !(1..=ITEMS_MAX).contains(&items.len()) {
            let why = format!("{} operations; 1 to {ITEMS_MAX} are allowed", items.len());
            return Err(Problem::Invalid { field: "operations", why }.into());
        }
        let bill = match self.quotas.open(caller, REQUEST_US + ITEM_US * items.len() as u64) {
            Ok(bill) => bill,
            Err(problem) => return Err(self.refused(caller, RESOURCE.to_owned(), OPERATION, problem).await),
        };
        let mut groups = Groups::default();
        let mut results: Vec<Option<Result<Done, ServiceError>>> = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            results.push(match item {
                Ok(item) => {
                    groups.put(place, item);
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        let parts = self.run(caller, &bill, groups).await;
        if parts.iter().any(|part| part.permitted.is_some()) {
            let durability =
                if parts.iter().any(Part::releases_secret) { Durability::Fsync } else { self.durability() };
            for some in in_one_record(&parts) {
                self.append(caller, self.batch_record(caller, some), durability).await?;
            }
        }
        for part in parts {
            for end in part.ends {
                results[end.place] = Some(match (&part.permitted, end.result) {
                    (Some(untold), Err(error)) => Err(self.told(caller, untold.clone(), error)),
                    (_, result) => result,
                });
            }
        }
        Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(Problem::Internal.into()))).collect())
    }

    /// Runs every group at once: each is in its lane before the first is waited for, as long as its rows are
    /// at hand.
    async fn run(self: &Arc<Self>, caller: &Caller, bill: &Bill, groups: Groups) -> Vec<Part> {
        let mut parts: Parts<'_> = Vec::new();
        self.begin(&mut parts, (caller, bill), groups.sign, Done::Signed);
        self.begin(&mut parts, (caller, bill), groups.verify, Done::Verified);
        self.begin(&mut parts, (caller, bill), groups.encrypt, Done::Encrypted);
        self.begin(&mut parts, (caller, bill), groups.decrypt, Done::Decrypted);
        self.begin(&mut parts, (caller, bill), groups.wrap, Done::Wrapped);
        self.begin(&mut parts, (caller, bill), groups.unwrap, Done::Unwrapped);
        self.begin(&mut parts, (caller, bill), groups.data_key, Done::DataKey);
        self.begin(&mut parts, (caller, bill), groups.wrapped_data_key, Done::WrappedDataKey);
        if !groups.random.is_empty() {
            parts.push(Box::pin(self.random_part(caller, groups.random)));
        }
        join_all(parts).await
    }

    fn begin<'a, O: KeyOp>(
        self: &'a Arc<Self>,
        parts: &mut Parts<'a>,
        (caller, bill): (&'a Caller, &'a Bill),
        groups: Vec<Group<O>>,
        done: fn(O::Out) -> Done,
    ) {
        for group in groups {
            parts.push(Box::pin(self.part(caller, bill, group, done)));
        }
    }

    /// One group: authorised, its state checked, granted, done.
    async fn part<O: KeyOp>(
        self: &Arc<Self>,
        caller: &Caller,
        bill: &Bill,
        Group { name, items }: Group<O>,
        done: fn(O::Out) -> Done,
    ) -> Part {
        let note = Note::default();
        let scope = Scope::key(&name.vault, &name.key);
        let place = Where::At(scope);
        if let Err(error) = self.catch_up(&place, caller.deadline).await {
            let ends = all(items, error);
            return Part { action: O::ACTION, resource: name.to_string(), residency: None, permitted: None, ends };
        }
        let (permitted, ends) = match self.policy.permit::<O>(&caller.identity, caller.origin, place) {
            Err(denied) => (None, all(items, self.denied(caller, name.to_string(), denied).await)),
            Ok(permit) => match self.quotas.in_vault(bill.clone(), permit.vault(), ITEM_US * items.len() as u64) {
                Err(problem) => {
                    let action = O::ACTION.name();
                    (None, all(items, self.refused(caller, name.to_string(), action, problem).await))
                }
                Ok(bill) => {
                    note.pays(bill);
                    let untold = permit.untold();
                    let ends = match self.granted(permit, caller, &name, &note).await {
                        Err(error) => all(items, error),
                        Ok(grant) => self.act_all(caller, &note, &grant, items, done).await,
                    };
                    (Some(untold), ends)
                }
            },
        };
        let (resource, residency) = match note.version() {
            Some((name, residency)) => (name.clone(), Some(*residency)),
            None => (name.to_string(), None),
        };
        Part { action: O::ACTION, resource, residency, permitted, ends }
    }

    /// Does with one grant what is right of a group.
    async fn act_all<O: KeyOp>(
        self: &Arc<Self>,
        caller: &Caller,
        note: &Note,
        grant: &Grant<O, VersionEntry>,
        items: Vec<(usize, Asked<O>)>,
        done: fn(O::Out) -> Done,
    ) -> Vec<End> {
        let entry = grant.target();
        let mut ends = Vec::with_capacity(items.len());
        let mut right = Vec::with_capacity(items.len());
        let mut needs = Rights::NONE;
        for (place, asked) in items {
            match self.check(grant, &asked) {
                Ok(also) => {
                    needs = needs.union(also);
                    right.push((place, asked));
                }
                Err(error) => ends.push(End::before(place, Some(asked.algorithm()), asked.given(), error)),
            }
        }
        let grant = &grant.demanding(needs);
        let right = self.counted(caller, grant, right, &mut ends).await;
        note.charge(right.iter().map(|(_, asked)| asked.cost_us(entry.version.row.spec)).sum());
        let marks: Vec<Mark> = right.iter().map(|(place, asked)| Mark::of(*place, asked)).collect();
        let right = right.into_iter().map(|(_, asked)| asked).collect();
        let outputs = self.hands.operate_all(grant, right, caller).await;
        let mut used = 0;
        for (mark, mut output) in marks.into_iter().zip(outputs) {
            if mark.unpads {
                output = self.unpadded(entry, mark.algorithm, caller.deadline, output).await;
            }
            let digest = mark.given.or_else(|| output.as_ref().ok().and_then(asked::made));
            let result = output.and_then(|output| O::answer(Arc::clone(&entry.version.row), output)).map(done);
            used += u64::from(result.is_ok());
            ends.push(End { place: mark.place, algorithm: Some(mark.algorithm), ran: true, digest, result });
        }
        self.activities.note(&entry.activity, self.clock.now(), used);
        ends
    }

    /// Takes what the items need out of the version's budgets, for all of them at once. For
    /// which of them there is none left is an end; the others are given back.
    async fn counted<O: KeyOp>(
        self: &Arc<Self>,
        caller: &Caller,
        grant: &Grant<O, VersionEntry>,
        mut items: Vec<(usize, Asked<O>)>,
        ends: &mut Vec<End>,
    ) -> Vec<(usize, Asked<O>)> {
        let entry = grant.target();
        for counted in [budget(entry), Some(Counted::Encryptions)].into_iter().flatten() {
            let takes = |asked: &Asked<O>| self.counted_by(entry, asked).any(|other| other == counted);
            let wanted = items.iter().filter(|(_, asked)| takes(asked)).count() as u64;
            let (mut taken, mut refusal) = (0, None);
            while taken < wanted && refusal.is_none() {
                match self.count(entry, counted, wanted - taken, caller.deadline).await {
                    Ok(more) => taken += more,
                    Err(error) => refusal = Some(error),
                }
            }
            let Some(refusal) = refusal else { continue };
            let mut count = 0;
            let (paid, unpaid): (Vec<_>, Vec<_>) = items.into_iter().partition(|(_, asked)| {
                count += u64::from(takes(asked));
                !takes(asked) || count <= taken
            });
            ends.extend(all(unpaid, refusal));
            items = paid;
        }
        items
    }

    async fn random_part(self: &Arc<Self>, caller: &Caller, items: Vec<(usize, u32)>) -> Part {
        let mut part = Part {
            action: ops::RandomGenerate::ACTION,
            resource: RANDOM.to_owned(),
            residency: None,
            permitted: None,
            ends: Vec::with_capacity(items.len()),
        };
        if let Err(error) = self.catch_up(&Where::Anywhere, caller.deadline).await {
            let errors = copies(error, items.len());
            let ends = items.iter().zip(errors).map(|((place, _), error)| End::before(*place, None, None, error));
            part.ends.extend(ends);
            return part;
        }
        let permit = self.policy.permit::<ops::RandomGenerate>(&caller.identity, caller.origin, Where::Anywhere);
        let permit = match permit {
            Ok(permit) => permit,
            Err(denied) => {
                let error = self.denied(caller, RANDOM.to_owned(), denied).await;
                let errors = copies(error, items.len());
                let ends = items.into_iter().zip(errors);
                part.ends.extend(ends.map(|((place, _), error)| End::before(place, None, None, error)));
                return part;
            }
        };
        part.permitted = Some(permit.untold());
        let mut right = Vec::with_capacity(items.len());
        for (place, length) in items {
            match check_random(length) {
                Ok(()) => right.push((place, length)),
                Err(problem) => part.ends.push(End::before(place, None, None, problem.into())),
            }
        }
        let lengths = right.iter().map(|(_, length)| *length).collect();
        let made = self.hands.random_all(&permit, lengths, caller).await;
        part.ends.extend(right.into_iter().zip(made).map(|((place, _), made)| {
            let result = made.map(Done::Random);
            End { place, algorithm: None, ran: true, digest: None, result }
        }));
        part
    }

    fn batch_record(&self, caller: &Caller, parts: &[Part]) -> Record {
        let mut batch = Batch { groups: Vec::new(), items: Vec::new() };
        for part in parts {
            // No two parts have a group that is equal.
            let mut known: Vec<(Kin, u64)> = Vec::new();
            for end in &part.ends {
                let kin = Kin::of(end);
                let found = known.iter().find(|(other, _)| *other == kin).map(|(_, group)| *group);
                let group = found.unwrap_or_else(|| {
                    batch.groups.push(kin.group(part));
                    let group = batch.groups.len() as u64 - 1;
                    known.push((kin, group));
                    group
                });
                batch.groups[group as usize].count += 1;
                let digest = end.digest.as_ref().map(|digest| base16ct::lower::encode_string(digest));
                batch.items.push(BatchItem { place: end.place as u64, group, digest });
            }
        }
        batch.items.sort_unstable_by_key(|item| item.place);
        let has = |outcome| batch.groups.iter().any(|group| group.outcome == outcome);
        let outcome = [Outcome::Done, Outcome::Failed].into_iter().find(|outcome| has(*outcome));
        let outcome = outcome.unwrap_or(Outcome::Refused);
        Record {
            principal: Some(caller.principal().as_str().to_owned()),
            source: Some(caller.source.clone()),
            request: Some(caller.request.clone()),
            batch: Some(batch),
            ..Record::new(self.clock.now(), Kind::Operation, OPERATION, outcome)
        }
    }
}

/// What one record has room for, in bytes, beside what every record has (an entry of the log has at most 65,535).
const RECORD_BYTES: usize = 56_000;
/// The longest that an item is in a record.
const ITEM_BYTES: usize = 112;
/// The longest that a group is: the name of a version is at most 206 bytes.
const GROUP_BYTES: usize = 448;
/// The most groups that one part can have: its algorithms, each with the ways in which an operation ends.
const GROUPS_MAX: usize = 48;

/// Parts, as many as go into one record. Only a batch over more than some hundred keys takes a second.
fn in_one_record(parts: &[Part]) -> impl Iterator<Item = &[Part]> {
    let mut rest = parts;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |part: &&Part| {
            bytes += part.ends.len() * ITEM_BYTES + part.ends.len().min(GROUPS_MAX) * GROUP_BYTES;
            bytes <= RECORD_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (some, others) = rest.split_at(count);
        rest = others;
        (!some.is_empty()).then_some(some)
    })
}

/// What makes items of one part equal in a record.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kin {
    algorithm: Option<Algorithm>,
    ran: bool,
    outcome: Outcome,
    reason: Option<&'static str>,
}

impl Kin {
    fn of(end: &End) -> Self {
        let (outcome, reason) = ending(end.result.as_ref().err());
        Self { algorithm: end.algorithm, ran: end.ran, outcome, reason }
    }

    /// A group of none.
    fn group(self, part: &Part) -> BatchGroup {
        BatchGroup {
            operation: part.action.name().to_owned(),
            resource: part.resource.clone(),
            residency: part.residency.map(|residency| residency.name().to_owned()),
            algorithm: self.algorithm.map(|algorithm| algorithm.name().to_owned()),
            ran: self.ran.then(|| "hsm".to_owned()),
            outcome: self.outcome,
            reason: self.reason.map(str::to_owned),
            count: 0,
        }
    }
}

/// One error for all items.
fn all<O: KeyOp>(items: Vec<(usize, Asked<O>)>, error: ServiceError) -> Vec<End> {
    let errors = copies(error, items.len());
    let ends = items.into_iter().zip(errors);
    ends.map(|((place, asked), error)| End::before(place, Some(asked.algorithm()), asked.given(), error)).collect()
}

/// So many of an error; its cause goes with the first, which is enough for the log.
fn copies(error: ServiceError, count: usize) -> impl Iterator<Item = ServiceError> {
    let problem = error.problem.clone();
    let others = std::iter::repeat_with(move || ServiceError::from(problem.clone()));
    std::iter::once(error).chain(others).take(count)
}

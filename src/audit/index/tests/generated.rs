//! Whatever is logged, asked, and done to the index: it answers as one does who reads everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::Timestamp;

/// Small numbers from a seed, which shrink with it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(all.len() as u64)).unwrap()]
    }
}

const RESOURCES: [&str; 12] = [
    "vaults/dev",
    "vaults/dev/keys",
    "vaults/dev/keys/Release",
    "vaults/dev/keys/release/versions/00ff",
    "vaults/dev/keys/release-2/versions/00ff",
    "vaults/dev/keys/RELEASE/versions/00aa",
    "vaults/dev/accessPolicies/spiffe://example.org/CI",
    "vaults/dev-2/keys/release",
    "vaults/dev/secrets/release",
    "roleAssignments/00ff",
    "roleAssignments",
    "spiffe://example.org/ci keys.sign at vaults/dev",
];
const RARE: [&str; 3] = ["vaults/dev/keys/seldom/versions/01", "tokens/77", "vaults/other/keys/release"];
const ASKED: [&str; 10] = [
    "vaults",
    "vaults/",
    "",
    "VAULTS/dev",
    "vaults/DEV/keys/RELEASE/",
    "roleAssignments/",
    "vaults/dev/keys/seldom",
    "vaults/dev/accessPolicies",
    "spiffe:",
    "vaults/dev/accessPolicies/spiffe://example.org/ci",
];
const PRINCIPALS: [Option<&str>; 5] =
    [None, Some("spiffe://example.org/ci"), Some("spiffe://example.org/CI"), Some("x509:ä"), Some("a\0b\"")];
const OPERATIONS: [&str; 4] = ["keys.sign", "keys.create", "keys.batch", "log.refusals"];
const OUTCOMES: [Outcome; 4] = [Outcome::Pending, Outcome::Done, Outcome::Refused, Outcome::Failed];

fn resource(dice: &mut Dice, n: u64) -> &'static str {
    // Seldom, and only now and then: so that there are bundles without.
    if n / 500 % 3 == 1 && dice.roll(200) == 0 {
        dice.one_of(&RARE)
    } else {
        dice.one_of(&RESOURCES[..1 + usize::try_from(n / 300 % 12).unwrap()])
    }
}

fn record(dice: &mut Dice, n: u64) -> Record {
    let time = START + i64::try_from(n).unwrap() * 60 - if dice.roll(50) == 0 { 40_000 } else { 0 };
    let mut record = Record::new(Timestamp(time), Kind::Operation, dice.one_of(&OPERATIONS), dice.one_of(&OUTCOMES));
    record.principal = dice.one_of(&PRINCIPALS[..1 + usize::try_from(n / 700 % 5).unwrap()]).map(str::to_owned);
    record.resource = Some(resource(dice, n).to_owned()).filter(|_| dice.roll(9) > 0);
    record.repeated = if dice.roll(10) == 0 { dice.roll(1000) } else { 0 };
    if dice.roll(20) == 0 {
        let groups = (0..dice.roll(4)).map(|_| {
            let (operation, outcome) = (dice.one_of(&OPERATIONS), dice.one_of(&OUTCOMES));
            group(operation, resource(dice, n), outcome, dice.roll(5))
        });
        record.batch = Some(Batch { groups: groups.collect(), items: Vec::new() });
    }
    record
}

fn query(dice: &mut Dice, records: u64) -> Query {
    let text = |dice: &mut Dice| match dice.roll(3) {
        0 => dice.one_of(&ASKED),
        1 => dice.one_of(&RARE),
        _ => dice.one_of(&RESOURCES),
    };
    let time = |dice: &mut Dice| {
        Some(Timestamp(START - 50_000 + i64::try_from(dice.roll(records + 1000)).unwrap() * 60))
            .filter(|_| dice.0.is_multiple_of(3))
    };
    let resource = match dice.roll(3) {
        0 => None,
        1 => Some(Resource::Exactly(text(dice).to_owned())),
        _ => Some(Resource::Within(text(dice).to_owned())),
    };
    Query {
        resource,
        principal: Some(dice.one_of(&PRINCIPALS).unwrap_or_default().to_owned()).filter(|_| dice.roll(3) == 0),
        operation: Some(dice.one_of(&OPERATIONS).to_owned()).filter(|_| dice.roll(3) == 0),
        outcome: Some(dice.one_of(&OUTCOMES)).filter(|_| dice.roll(3) == 0),
        from: time(dice),
        until: time(dice),
    }
}

/// As the documents say it, and not as the program does it.
fn plain_name(resource: &str) -> String {
    let mut parts: Vec<String> = resource.split('/').map(str::to_owned).collect();
    if parts[0] == "vaults" {
        let is_object = parts.len() > 3 && ["keys", "secrets", "certificates"].contains(&parts[2].as_str());
        for part in [1, 3] {
            if let Some(part) = parts.get_mut(part).filter(|_| part == 1 || is_object) {
                *part = part.to_ascii_lowercase();
            }
        }
    }
    parts.join("/")
}

fn plain_object(resource: &str) -> String {
    let name = plain_name(resource);
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["vaults", vault, kind @ ("keys" | "secrets" | "certificates"), object, ..] => {
            format!("vaults/{vault}/{kind}/{object}")
        }
        _ => name,
    }
}

fn is_wanted(wanted: &Option<Resource>, resource: &str) -> bool {
    let name = plain_name(resource);
    match wanted {
        None => true,
        Some(Resource::Exactly(wanted)) => name == plain_name(wanted),
        Some(Resource::Within(wanted)) => {
            let wanted = plain_name(wanted.trim_end_matches('/'));
            wanted.is_empty() || name == wanted || name.starts_with(&format!("{wanted}/"))
        }
    }
}

/// What a record says: operation, resource, outcome and how often; first of itself.
fn said(record: &Record) -> Vec<(&str, &str, Outcome, u64)> {
    let resource = record.resource.as_deref().unwrap_or_default();
    let own = (record.operation.as_str(), resource, record.outcome, record.repeated + 1);
    let groups = record.batch.iter().flat_map(|batch| &batch.groups);
    let groups = groups.map(|group| (group.operation.as_str(), group.resource.as_str(), group.outcome, group.count));
    std::iter::once(own).chain(groups).collect()
}

fn is_found(query: &Query, record: &Record) -> bool {
    query.from.is_none_or(|from| record.time >= from.0)
        && query.until.is_none_or(|until| record.time < until.0)
        && query.principal.as_ref().is_none_or(|by| by == record.principal.as_deref().unwrap_or_default())
        && said(record).into_iter().any(|(operation, resource, outcome, _)| {
            query.operation.as_ref().is_none_or(|wanted| wanted == operation)
                && query.outcome.is_none_or(|wanted| wanted == outcome)
                && is_wanted(&query.resource, resource)
        })
}

fn counted(query: &Query, records: &[Record]) -> BTreeMap<UseKey, Tally> {
    let mut all: BTreeMap<UseKey, Tally> = BTreeMap::new();
    let is_empty = matches!((query.from, query.until), (Some(from), Some(until)) if until <= from);
    let day = |time: i64| time.div_euclid(86_400);
    for (record, index) in records.iter().zip(0..).filter(|_| !is_empty) {
        if query.from.is_some_and(|from| day(record.time) < day(from.0))
            || query.until.is_some_and(|until| day(record.time) > day(until.0 - 1))
            || query.principal.as_ref().is_some_and(|by| by != record.principal.as_deref().unwrap_or_default())
        {
            continue;
        }
        let mut said = said(record);
        if said.len() > 1 {
            said.remove(0);
        }
        for (operation, resource, outcome, count) in said {
            if outcome != Outcome::Pending
                && query.operation.as_ref().is_none_or(|wanted| wanted == operation)
                && query.outcome.is_none_or(|wanted| wanted == outcome)
                && is_wanted(&query.resource, &plain_object(resource))
            {
                let key = UseKey {
                    object: plain_object(resource),
                    principal: record.principal.clone().unwrap_or_default(),
                    operation: operation.to_owned(),
                    outcome,
                };
                let tally = all.entry(key).or_insert(Tally {
                    count: 0,
                    first_index: index,
                    last_index: index,
                    first_time: record.time,
                    last_time: record.time,
                });
                tally.count += count;
                tally.last_index = index;
                tally.first_time = tally.first_time.min(record.time);
                tally.last_time = tally.last_time.max(record.time);
            }
        }
    }
    all
}

/// What happens between two questions.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Feed,
    /// A pass that is given up after so many microseconds.
    Interrupted(u64),
    /// The process was killed.
    Lost,
    Closed,
    /// So many bytes of its beginning are something else.
    Garbage(usize),
    Truncated(usize),
    Removed,
    Pruned(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..900).prop_map(Step::Append),
        6 => Just(Step::Feed),
        2 => (0_u64..4000).prop_map(Step::Interrupted),
        1 => Just(Step::Lost),
        1 => Just(Step::Closed),
        1 => (100_usize..20_000).prop_map(Step::Garbage),
        1 => (0_usize..20_000).prop_map(Step::Truncated),
        1 => Just(Step::Removed),
        1 => (0_u64..12).prop_map(Step::Pruned),
    ]
}

struct Case {
    made: Made,
    index: Index,
    dice: Dice,
    pruned: BTreeSet<u64>,
}

impl Case {
    async fn run(&mut self, step: &Step) {
        match step {
            Step::Append(count) => {
                let first = self.made.readable();
                let records: Vec<Record> = (first..first + count).map(|n| record(&mut self.dice, n)).collect();
                self.made.append(records);
            }
            Step::Feed => self.feed().await,
            Step::Interrupted(micros) => {
                let within = std::time::Duration::from_micros(*micros);
                let _ = tokio::time::timeout(within, self.feed()).await;
            }
            Step::Lost => self.index = self.made.index(),
            Step::Closed => self.index.close().await,
            Step::Garbage(bytes) => {
                self.index.close().await;
                if let Ok(mut file) = std::fs::read(self.made.file()) {
                    let end = file.len().min(*bytes);
                    file[..end].fill(0xa5);
                    std::fs::write(self.made.file(), file).unwrap();
                }
            }
            Step::Truncated(bytes) => {
                self.index.close().await;
                if let Ok(file) = std::fs::read(self.made.file()) {
                    std::fs::write(self.made.file(), &file[..file.len().min(*bytes)]).unwrap();
                }
            }
            Step::Removed => {
                self.index.close().await;
                db::remove(&self.made.file()).unwrap();
            }
            Step::Pruned(bundle) => {
                if *bundle < self.made.readable() / RECORDS && self.pruned.insert(*bundle) {
                    self.made.prune(*bundle);
                }
            }
        }
    }

    /// What is wrong with the file is found by a pass sooner or later, and the next one makes another.
    async fn feed(&self) {
        for _ in 0..3 {
            match self.index.feed(self.made.readable()).await {
                Ok(_) => return,
                Err(error) => assert!(error.is_unfit(), "{error:?}"),
            }
        }
        panic!("the index cannot be made anew");
    }

    async fn ask(&mut self) {
        let query = query(&mut self.dice, self.made.readable());
        let order = self.dice.one_of(&[Order::NewestFirst, Order::OldestFirst]);
        let limit = self.dice.one_of(&[30, 300, 1000]);
        let wanted = self
            .made
            .records
            .iter()
            .zip(0..)
            .filter(|(record, index)| !self.pruned.contains(&(index / RECORDS)) && is_found(&query, record));
        let mut wanted: Vec<u64> = wanted.map(|(_, index)| index).collect();
        if order == Order::NewestFirst {
            wanted.reverse();
        }
        let page = Page { order, after: None, limit };
        let (found, _) = find_all(&self.index, self.made.readable(), &query, page.clone()).await;
        assert_eq!(found, wanted, "{query:?} {page:?}");
        let reader = Reader::new(self.made.dir());
        let scanned = scan(&reader, self.made.readable(), &query, &page).unwrap();
        let scanned: Vec<u64> = scanned.records.iter().map(|found| found.index).collect();
        assert_eq!(scanned, wanted[..wanted.len().min(limit)]);
        if self.pruned.is_empty() && super::super::uses::check(&query).is_ok() {
            let wanted = counted(&query, &self.made.records);
            let limit = self.dice.one_of(&[5, 40, 1000]);
            // A damaged page may be met here first.
            if let Err(error) = self.index.uses(self.made.readable(), &query, &UsePage { after: None, limit }).await {
                assert!(error.is_unfit(), "{error:?}");
                self.feed().await;
            }
            assert_eq!(uses_all(&self.index, self.made.readable(), &query, limit).await, wanted, "{query:?} {limit}");
            assert_eq!(tally(&reader, 0..self.made.readable(), &query).unwrap(), wanted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_reading_everything_does(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let made = Made::new([]);
            let index = made.index();
            let mut case = Case { made, index, dice: Dice(seed), pruned: BTreeSet::new() };
            case.run(&Step::Append(700)).await;
            for step in &steps {
                case.run(step).await;
                case.ask().await;
            }
        });
    }
}

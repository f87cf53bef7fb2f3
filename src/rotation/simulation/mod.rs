//! Ten years of keys in seconds: replicas that claim, make, prove and promote, owners who change everything, clocks
//! that are set forth and back, and a crash or a stall between any two steps. An oracle that reckons by itself is told
//! of everything that happens.
//!
//! What must hold: nothing lost, doubled, early; no version promoted that was not proved; no key purged before its
//! date; an event for everything. That the simulation would find the opposite is tested too, with stores and replicas
//! that each have one weakness.
//!
//! A hundred thousand keys:
//!
//! ```text
//! cargo test --release --lib rotation::simulation::ten_years_of_a_hundred_thousand_keys -- --ignored
//! ```

mod clocks;
mod oracle;
mod policies;
mod random;
mod store;
mod world;

use proptest::prelude::*;

use oracle::Violation;
use world::World;

#[derive(Clone, Copy)]
struct Settings {
    seed: u64,
    keys: usize,
    years: i64,
    /// Crashes, stalls, an HSM that fails, clocks that are set.
    faults: bool,
    /// Owners change their keys.
    owners: bool,
    weakness: Option<Weakness>,
}

/// A way to write store or replica wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    /// A replica that lost its claim may go on, and promotes whatever the current version is.
    StaleWriters,
    /// A version is promoted without proof.
    Unproved,
    /// What is destroyed is decided by the wall clock.
    PurgeByWallClock,
    /// The event is written after the change, not with it.
    EventApart,
    /// Nobody looks at a key that a dead replica had claimed.
    NobodyLooks,
}

const SMALL: Settings = Settings { seed: 7, keys: 300, years: 10, faults: true, owners: true, weakness: None };

fn run(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.run();
    world
}

fn violations(settings: Settings) -> Vec<Violation> {
    run(settings).oracle.violations
}

#[test]
fn ten_years_of_three_hundred_keys() {
    let oracle = run(SMALL).oracle;
    assert_eq!(oracle.violations, []);
    let counts = oracle.counts;
    assert!(counts.rotations > 3_000 && counts.notices > 300 && counts.purges > 10, "{counts:?}");
    assert!(counts.crashes > 100 && counts.refused > 100 && counts.finished_by_another > 10, "{counts:?}");
}

#[test]
fn without_faults_everything_is_done_within_a_minute() {
    let oracle = run(Settings { faults: false, owners: false, ..SMALL }).oracle;
    assert_eq!((oracle.violations, oracle.counts.refused), (vec![], 0));
    assert!(oracle.counts.latest_s < 60, "{:?}", oracle.counts);
}

#[test]
fn stale_writers_are_found() {
    let found = violations(Settings { weakness: Some(Weakness::StaleWriters), ..SMALL });
    assert!(found.iter().any(|violation| matches!(violation, Violation::Doubled(..))), "{found:?}");
}

#[test]
fn promotion_without_proof_is_found() {
    let found = violations(Settings { weakness: Some(Weakness::Unproved), years: 1, ..SMALL });
    assert!(found.iter().any(|violation| matches!(violation, Violation::Unproved(..))), "{found:?}");
}

#[test]
fn a_purge_by_the_wall_clock_is_found() {
    let found = violations(Settings { weakness: Some(Weakness::PurgeByWallClock), ..SMALL });
    assert!(found.iter().any(|violation| matches!(violation, Violation::PurgedEarly(..))), "{found:?}");
}

#[test]
fn an_event_that_is_written_apart_is_found() {
    let found = violations(Settings { weakness: Some(Weakness::EventApart), ..SMALL });
    assert!(found.iter().any(|violation| matches!(violation, Violation::EventsLost(..))), "{found:?}");
}

#[test]
fn work_that_nobody_takes_over_is_found() {
    let found = violations(Settings { weakness: Some(Weakness::NobodyLooks), ..SMALL });
    assert!(found.iter().any(|violation| matches!(violation, Violation::Lost(..))), "{found:?}");
}

#[test]
#[ignore = "takes a minute; the command is at the head of the file"]
fn ten_years_of_a_hundred_thousand_keys() {
    let oracle = run(Settings { keys: 100_000, ..SMALL }).oracle;
    assert_eq!(oracle.violations, [], "{:?}", oracle.counts);
    assert!(oracle.counts.rotations > 1_000_000, "{:?}", oracle.counts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_the_seed_three_years_of_thirty_keys(seed in any::<u64>()) {
        prop_assert_eq!(violations(Settings { seed, keys: 30, years: 3, ..SMALL }), vec![]);
    }
}

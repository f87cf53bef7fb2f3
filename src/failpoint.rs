//! Fail-points: named places where a test stops, slows or fails the real program.
//!
//! A build without the feature `failpoints` has none of this: [`hit`] is an inlined `false`. With it,
//! `STRONGROOM_FAILPOINTS` is read once, at the first hit:
//!
//! ```text
//! STRONGROOM_FAILPOINTS = entry *( ";" entry )
//! entry                 = name "=" action [ "@" n ]      the n-th hit of that name, from 1; 1 if not said
//! action                = "kill" | "error" | "sleep:" milliseconds
//! ```
//!
//! `kill` is SIGKILL to this process: nothing is flushed, dropped or said. A name may have several
//! entries. An unknown name or action panics: a test that mistypes one would otherwise pass by testing
//! nothing.

/// A change's intent is durable, nothing has been done.
pub const SERVICE_AFTER_INTENT: &str = "service.after_intent";
/// The HSM has made the key, no row holds it yet.
pub const SERVICE_AFTER_GENERATE: &str = "service.after_generate";
/// The change is committed, its outcome is not recorded.
pub const SERVICE_BEFORE_OUTCOME: &str = "service.before_outcome";
/// A record is about to be written.
pub const AUDIT_BEFORE_WRITE: &str = "audit.before_write";
/// A record is in the kernel, not yet on the disk.
pub const AUDIT_AFTER_WRITE: &str = "audit.after_write";
/// A record is on the disk, nobody has been told.
pub const AUDIT_AFTER_SYNC: &str = "audit.after_sync";
/// Tiles and bundles are written; no checkpoint covers them yet.
pub const AUDIT_AFTER_TILES: &str = "audit.after_tiles";
/// The checkpoint is kept; the journal still has what it covers.
pub const AUDIT_AFTER_CHECKPOINT: &str = "audit.after_checkpoint";
/// Records are about to be taken into the index.
pub const AUDIT_BEFORE_INDEX: &str = "audit.before_index";
/// Everything of a change is written, nothing committed.
pub const STORE_BEFORE_COMMIT: &str = "store.before_commit";
/// A change is durable, nobody has been told.
pub const STORE_AFTER_COMMIT: &str = "store.after_commit";

/// A notice is recorded, and not yet noted in its key's row.
pub const ROTATION_AFTER_NOTICE: &str = "rotation.after_notice";

/// The rows of something that is purged are gone, its objects on the token are not.
pub const PURGE_BEFORE_REAP: &str = "purge.before_reap";

/// All of a backup is written, and it has not its name yet.
pub const BACKUP_BEFORE_RENAME: &str = "backup.before_rename";

/// Every fail-point, for tests that go through all of them.
pub const ALL: [&str; 14] = [
    SERVICE_AFTER_INTENT,
    SERVICE_AFTER_GENERATE,
    SERVICE_BEFORE_OUTCOME,
    AUDIT_BEFORE_WRITE,
    AUDIT_AFTER_WRITE,
    AUDIT_AFTER_SYNC,
    AUDIT_AFTER_TILES,
    AUDIT_AFTER_CHECKPOINT,
    AUDIT_BEFORE_INDEX,
    STORE_BEFORE_COMMIT,
    STORE_AFTER_COMMIT,
    ROTATION_AFTER_NOTICE,
    PURGE_BEFORE_REAP,
    BACKUP_BEFORE_RENAME,
];

/// Passes the fail-point of that name. `true` asks the caller to fail as if the next step had failed;
/// a caller that cannot fail there ignores it.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn hit(_name: &str) -> bool {
    false
}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    //! The armed half.

    use std::{
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::ALL;

    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        let text = std::env::var("STRONGROOM_FAILPOINTS").unwrap_or_default();
        Plan::parse(&text).unwrap_or_else(|wrong| panic!("STRONGROOM_FAILPOINTS: {wrong:?} is not a fail-point entry"))
    });

    /// Passes the fail-point of that name. `true` asks the caller to fail as if the next step had
    /// failed; a caller that cannot fail there ignores it.
    ///
    /// # Panics
    /// When the name is not in [`ALL`], or the environment's plan cannot be read.
    pub fn hit(name: &str) -> bool {
        PLAN.actions(name).fold(false, |fail, action| match action {
            Action::Kill => kill(),
            Action::Sleep(time) => {
                std::thread::sleep(time);
                fail
            }
            Action::Error => true,
        })
    }

    fn kill() -> ! {
        // Nothing can be done about a failure, and none is possible: a process may always signal itself.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Sleep(Duration),
        Error,
    }

    #[derive(Debug, Default)]
    struct Plan {
        entries: Vec<Entry>,
        hits: [AtomicU64; ALL.len()],
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Entry {
        point: usize,
        action: Action,
        at: u64,
    }

    impl Plan {
        fn parse(text: &str) -> Result<Self, &str> {
            let entries = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
            let entries = entries.map(|entry| Entry::parse(entry).ok_or(entry)).collect::<Result<_, _>>()?;
            Ok(Self { entries, ..Self::default() })
        }

        /// Counts a hit and gives what is planned for it.
        fn actions(&self, name: &str) -> impl Iterator<Item = Action> {
            let point = point(name).expect("every fail-point is in ALL");
            let hit = self.hits[point].fetch_add(1, Ordering::Relaxed) + 1;
            self.entries.iter().filter(move |entry| entry.point == point && entry.at == hit).map(|entry| entry.action)
        }
    }

    impl Entry {
        fn parse(entry: &str) -> Option<Self> {
            let (name, action) = entry.split_once('=')?;
            let (action, at) = match action.split_once('@') {
                Some((action, at)) => (action, at.parse().ok().filter(|at| *at > 0)?),
                None => (action, 1),
            };
            let action = match action.split_once(':') {
                Some(("sleep", milliseconds)) => Action::Sleep(Duration::from_millis(milliseconds.parse().ok()?)),
                None if action == "kill" => Action::Kill,
                None if action == "error" => Action::Error,
                _ => return None,
            };
            Some(Self { point: point(name)?, action, at })
        }
    }

    fn point(name: &str) -> Option<usize> {
        ALL.iter().position(|known| *known == name)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::failpoint::{AUDIT_AFTER_SYNC, STORE_BEFORE_COMMIT};

        #[test]
        fn a_plan_acts_at_its_hit_and_at_no_other() {
            let plan = Plan::parse("store.before_commit=error@2; store.before_commit=sleep:5@3").expect("a plan");
            let next = || plan.actions(STORE_BEFORE_COMMIT).collect::<Vec<_>>();
            assert_eq!(next(), []);
            assert_eq!(next(), [Action::Error]);
            assert_eq!(plan.actions(AUDIT_AFTER_SYNC).count(), 0);
            assert_eq!(next(), [Action::Sleep(Duration::from_millis(5))]);
            assert_eq!(next(), []);
        }

        #[test]
        fn without_a_number_it_is_the_first_hit() {
            for name in ALL {
                let text = format!("{name}=kill");
                assert_eq!(Plan::parse(&text).map(|plan| plan.entries[0].at), Ok(1));
            }
        }

        #[test]
        fn a_mistyped_plan_is_refused() {
            for wrong in
                ["store.commit=kill", "store.before_commit", "store.before_commit=kil", "audit.after_sync=kill@0"]
            {
                assert_eq!(Plan::parse(wrong).map(|plan| plan.entries), Err(wrong));
            }
            assert!(Plan::parse("audit.after_sync=sleep:x").is_err());
            assert!(Plan::parse("").is_ok_and(|plan| plan.entries.is_empty()));
        }
    }
}

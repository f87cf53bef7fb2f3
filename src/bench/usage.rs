//! What CPU time it took, as the kernel counts it.
//!
//! The scheduler's own nanoseconds (`/proc/PID/task/*/schedstat`), not the ticks of `/proc/PID/stat`, a hundredth
//! of a second each. Threads that end between two looks are not in the difference; what is measured here keeps
//! its threads.

use std::{
    fs,
    ops::{AddAssign, Sub},
    time::{Duration, Instant},
};

/// CPU time so far, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The process that faces the network.
    pub server: Duration,
    /// Its workers, or those of the raw form.
    pub workers: Duration,
    /// The callers: this process.
    pub client: Duration,
    /// The whole machine, whoever used it.
    pub machine: Duration,
}

impl Cpu {
    /// What we used ourselves.
    #[must_use]
    pub fn ours(&self) -> Duration {
        self.server + self.workers + self.client
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            server: self.server.saturating_sub(earlier.server),
            workers: self.workers.saturating_sub(earlier.workers),
            client: self.client.saturating_sub(earlier.client),
            machine: self.machine.saturating_sub(earlier.machine),
        }
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, more: Self) {
        self.server += more.server;
        self.workers += more.workers;
        self.client += more.client;
        self.machine += more.machine;
    }
}

/// Whose time is looked at.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// The server, if there is one.
    pub server: Option<u32>,
    /// Its workers.
    pub workers: Vec<u32>,
}

impl Processes {
    /// A server and its workers: all of its children.
    #[must_use]
    pub fn of_server(server: u32) -> Self {
        Self { server: Some(server), workers: children(server) }
    }

    /// Looks.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        Cpu {
            server: self.server.map(|server| of_process(&server.to_string())).unwrap_or_default(),
            workers: self.workers.iter().map(|worker| of_process(&worker.to_string())).sum(),
            client: of_process("self"),
            machine: of_machine(),
        }
    }
}

/// The cores of this machine that we may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The time of a process, all its threads together; zero when it is gone.
fn of_process(id: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| first_number(&fs::read_to_string(task.path().join("schedstat")).ok()?)).sum()
}

/// `schedstat`: nanoseconds on a core, nanoseconds of waiting for one, times it got one.
fn first_number(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn of_machine() -> Duration {
    fs::read_to_string("/proc/stat").ok().and_then(|stat| busy(&stat)).unwrap_or_default()
}

/// `/proc/stat`, its first line, in hundredths of a second: user, nice, system, idle, iowait, irq, softirq, steal.
/// What a hypervisor gave to others (steal) is not time that anybody had here.
fn busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].into_iter().map(|at| ticks.get(at).copied()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(busy * 10))
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let ids: String = lists.collect::<Vec<_>>().join(" ");
    ids.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// What the clocks of this machine are worth.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The smallest step of the monotonic clock that was seen.
    pub step: Duration,
    /// What it costs to read it.
    pub cost: Duration,
    begun: Instant,
    wall: std::time::SystemTime,
}

impl Clocks {
    const READS: u32 = 10_000;

    /// Looks at the clocks, and begins to compare them.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock itself is what is looked at")]
    pub fn look() -> Self {
        let (wall, begun) = (std::time::SystemTime::now(), Instant::now());
        let (mut last, mut step) = (begun, Duration::MAX);
        for _ in 0..Self::READS {
            let now = Instant::now();
            let passed = now.duration_since(last);
            if !passed.is_zero() {
                step = step.min(passed);
            }
            last = now;
        }
        Self { step, cost: last.duration_since(begun) / Self::READS, begun, wall }
    }

    /// By how much wall clock and monotonic clock have gone apart since, and the time that has passed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock itself is what is looked at")]
    pub fn drift(&self) -> (Duration, Duration) {
        let passed = self.begun.elapsed();
        let by_wall = std::time::SystemTime::now().duration_since(self.wall).unwrap_or_default();
        (passed.abs_diff(by_wall), passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_used_is_seen() {
        let processes = Processes { server: None, workers: vec![std::process::id()] };
        let look = || {
            let before = processes.cpu();
            let begun = Instant::now();
            let mut sum = 0_u64;
            while begun.elapsed() < Duration::from_millis(50) {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
            processes.cpu() - before
        };
        let is_seen = |used: &Cpu| used.client > Duration::from_millis(5) && used.workers > Duration::from_millis(5);
        // Threads of other tests that end meanwhile take what they had used with them: not every look can show it.
        let seen = (0..20).map(|_| look()).inspect(|used| assert_eq!(used.server, Duration::ZERO)).find(is_seen);
        assert!(seen.is_some());
    }

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(first_number("1500000 22 3\n"), Some(Duration::from_micros(1500)));
        assert_eq!(busy("cpu  10 20 30 1000 5 1 2 7 0 0\ncpu0 1"), Some(Duration::from_millis(630)));
        assert_eq!(busy("cpu 1 2"), None);
        assert!(of_machine() > Duration::ZERO);
        assert_eq!(of_process("0"), Duration::ZERO);
    }

    #[test]
    fn a_child_is_found() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().expect("runs");
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().expect("ends");
        child.wait().expect("ended");
    }

    #[test]
    fn the_monotonic_clock_goes_in_small_steps() {
        let clocks = Clocks::look();
        assert!(clocks.step > Duration::ZERO && clocks.cost < Duration::from_millis(1), "{clocks:?}");
        assert!(clocks.drift().1 > Duration::ZERO);
    }
}

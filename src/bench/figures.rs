//! The arithmetic: from what was counted to what is shown.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use strongroom_hsm::algorithms::Lane;

use super::usage::Cpu;

/// Latencies in nanoseconds, to three digits, up to ten minutes.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        const LONGEST_NS: u64 = 600_000_000_000;
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("these bounds are right");
        histogram.auto(false);
        Self(histogram)
    }
}

impl Latencies {
    /// One more.
    pub fn record(&mut self, latency: Duration) {
        self.record_many(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    fn record_many(&mut self, nanoseconds: u64, count: u64) {
        self.0.saturating_record_n(nanoseconds, count);
    }

    /// All of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// As pairs of nanoseconds and count, for another process.
    #[must_use]
    pub fn pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    /// From [`Self::pairs`].
    #[must_use]
    pub fn from_pairs(pairs: &[(u64, u64)]) -> Self {
        let mut latencies = Self::default();
        pairs.iter().for_each(|(nanoseconds, count)| latencies.record_many(*nanoseconds, *count));
        latencies
    }

    /// The latency that `share` (0 to 1) of all calls did not exceed, in microseconds.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
}

/// What was counted of one form of a case, in all its rounds.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Operations per second of each round.
    pub rounds: Vec<f64>,
    /// Of each call.
    pub latencies: Latencies,
    /// Operations.
    pub operations: u64,
    /// How long the rounds took.
    pub elapsed: Duration,
    /// What CPU time they took.
    pub cpu: Cpu,
    /// Answers that were looked at and right.
    pub right: u64,
    /// Answers that were looked at and wrong.
    pub wrong: u64,
    /// Calls that failed.
    pub failed: u64,
    /// What the first of them said.
    pub error: Option<String>,
}

impl Counted {
    /// One more round.
    pub fn add(&mut self, round: Self) {
        self.rounds.extend(round.rounds);
        self.latencies.add(&round.latencies);
        self.operations += round.operations;
        self.elapsed += round.elapsed;
        self.cpu += round.cpu;
        self.right += round.right;
        self.wrong += round.wrong;
        self.failed += round.failed;
        self.error = self.error.take().or(round.error);
    }

    /// Operations per second: the median of the rounds.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        median(&self.rounds)
    }

    /// How far the rounds lie apart, as a share of their median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let (least, most) =
            self.rounds.iter().fold((f64::MAX, 0.0_f64), |(least, most), round| (least.min(*round), most.max(*round)));
        ratio(most - least, median(&self.rounds))
    }

    /// CPU time for each operation, in microseconds.
    #[must_use]
    pub fn each_us(&self, time: Duration) -> f64 {
        ratio(time.as_secs_f64() * 1e6, self.operations as f64)
    }

    /// The share of the cores that we kept busy.
    #[must_use]
    pub fn busy(&self, cores: usize) -> f64 {
        ratio(self.cpu.ours().as_secs_f64(), self.elapsed.as_secs_f64() * cores as f64)
    }

    /// The share of the cores that others kept busy meanwhile.
    #[must_use]
    pub fn foreign(&self, cores: usize) -> f64 {
        let others = self.cpu.machine.saturating_sub(self.cpu.ours());
        ratio(others.as_secs_f64(), self.elapsed.as_secs_f64() * cores as f64)
    }
}

/// The composite ceiling: what the cores could do if an operation cost its PKCS#11 call and its gRPC call,
/// and nothing else. C = cores / (raw CPU + echo CPU).
#[must_use]
pub fn ceiling(cores: usize, raw_us: f64, echo_us: f64) -> f64 {
    ratio(cores as f64 * 1e6, raw_us + echo_us)
}

/// `part / whole`, and 0 where there is no whole.
#[must_use]
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The middle one; of two, their mean; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (_, middle) => sorted[middle],
    }
}

/// What was measured of an operation of a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneFigures {
    /// The lane.
    pub lane: Lane,
    /// Operations per second of one raw process.
    pub one: f64,
    /// Of two.
    pub two: f64,
    /// The composite ceiling of its operation in unary calls.
    pub ceiling: f64,
}

/// The most workers that are proposed for a lane.
const WORKERS_MAX: usize = 32;
/// A second process that adds less than this is not worth its memory and its session.
const GAIN_MIN: f64 = 1.3;

impl LaneFigures {
    /// How many workers this operation can use.
    ///
    /// As many as it takes to do in the HSM what the cores can bring to it over gRPC: ceiling / throughput of
    /// one worker, rounded up. One, where a second process does not add at least three tenths, because the
    /// module or the HSM behind it lets them wait for each other. In lane `long` half of that: its operations
    /// keep a core for milliseconds, and the others are to find one free.
    fn workers(&self) -> usize {
        if ratio(self.two, self.one) < GAIN_MIN {
            return 1;
        }
        // From 1 to 32, so the cast loses nothing.
        let wanted = ratio(self.ceiling, self.one).ceil().clamp(1.0, WORKERS_MAX as f64) as usize;
        if self.lane == Lane::Long { wanted.div_ceil(2) } else { wanted }
    }
}

/// How many workers each measured lane can use: as many as the operation that can use most.
#[must_use]
pub fn propose(figures: &[LaneFigures]) -> BTreeMap<Lane, usize> {
    let mut workers = BTreeMap::new();
    for figures in figures {
        let most = workers.entry(figures.lane).or_insert(1);
        *most = figures.workers().max(*most);
    }
    workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[4.0, 1.0]), median(&[9.0, 1.0, 5.0])], [0.0, 3.0, 2.5, 5.0]);
        let counted = Counted { rounds: vec![90.0, 100.0, 120.0], ..Counted::default() };
        assert!((counted.spread() - 0.3).abs() < 1e-9 && (counted.per_second() - 100.0).abs() < 1e-9);
        assert_eq!(Counted::default().spread(), 0.0);
    }

    #[test]
    fn the_ceiling_is_that_of_the_method() {
        // 6.4 us of PKCS#11 and 30.8 us of gRPC on two cores.
        assert!((ceiling(2, 6.4, 30.8) - 53_763.0).abs() < 1.0);
        assert_eq!(ceiling(2, 0.0, 0.0), 0.0);
    }

    #[test]
    fn quantiles_survive_the_way_between_processes() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|n| latencies.record(Duration::from_micros(n)));
        let again = Latencies::from_pairs(&latencies.pairs());
        for (share, wanted) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            assert!((latencies.quantile_us(share) / wanted - 1.0_f64).abs() < 0.002, "{share}");
            assert_eq!(latencies.quantile_us(share), again.quantile_us(share));
        }
        latencies.record(Duration::from_secs(100_000));
        assert!(latencies.quantile_us(1.0) > 5e8, "what is beyond the bounds counts as the longest");
    }

    #[test]
    fn rounds_add_up() {
        let second = Duration::from_secs(1);
        let round = |per_second: f64, error: Option<&str>| Counted {
            rounds: vec![per_second],
            operations: 100,
            elapsed: second,
            cpu: Cpu { server: second / 2, workers: second / 4, client: second / 4, machine: second * 3 / 2 },
            right: 2,
            error: error.map(str::to_owned),
            ..Counted::default()
        };
        let mut counted = round(100.0, None);
        counted.add(round(200.0, Some("first")));
        counted.add(round(300.0, Some("second")));
        assert_eq!((counted.operations, counted.right, counted.error.as_deref()), (300, 6, Some("first")));
        assert!((counted.busy(2) - 0.5).abs() < 1e-9 && (counted.foreign(2) - 0.25).abs() < 1e-9);
        assert!((counted.each_us(counted.cpu.server) - 5000.0).abs() < 1e-9);
    }

    #[test]
    fn lanes_get_as_many_workers_as_grpc_can_keep_busy() {
        let of = |lane, one, two, ceiling| LaneFigures { lane, one, two, ceiling };
        // The figures of SoftHSM on two cores.
        let workers = propose(&[
            of(Lane::Short, 157_000.0, 310_000.0, 53_900.0),
            of(Lane::Medium, 35_900.0, 70_000.0, 34_000.0),
            of(Lane::Medium, 2_400.0, 4_800.0, 4_600.0),
            of(Lane::Long, 250.0, 500.0, 495.0),
        ]);
        assert_eq!(workers, BTreeMap::from([(Lane::Short, 1), (Lane::Medium, 2), (Lane::Long, 1)]));
        // An HSM that answers after a millisecond, and answers many at once.
        assert_eq!(propose(&[of(Lane::Medium, 1000.0, 2000.0, 20_000.0)])[&Lane::Medium], 20);
        // One that does one at a time.
        assert_eq!(propose(&[of(Lane::Medium, 1000.0, 1010.0, 20_000.0)])[&Lane::Medium], 1);
        assert!(propose(&[]).is_empty());
    }
}

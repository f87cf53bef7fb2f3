//! Durations by the calendar: ISO 8601 `PnYnMnWnDTnHnMnS` of whole numbers.
//!
//! A month has no length: 31 January and a month is the last day of February. So a duration is kept as it was given,
//! units and all, and becomes seconds only beside a date. Everything is in UTC, where every day has 86,400 seconds.
//!
//! Both directions take the largest units first: years and months together, the day of the month cut to the last
//! there is; then weeks and days; then the time. [`CalendarDuration::before`] is therefore not the inverse of
//! [`CalendarDuration::after`]: 31 January and a month is 28 February, and a month before that is 28 January. Whoever
//! needs both keeps the date that was reckoned from.

use std::{fmt, str::FromStr};

use jiff::{Span, SpanFieldwise, tz::Offset};

use super::Timestamp;

/// The shortest there can be, in seconds: `PT1M`.
pub const SHORTEST_S: i64 = 60;
/// The longest there can be, in seconds: `P100Y`, when 25 of its years are leap years.
pub const LONGEST_S: i64 = 36_525 * DAY_S;

const DAY_S: i64 = 86_400;
/// As many months as can be in [`LONGEST_S`].
const MONTHS_MAX: i64 = 1_200;
/// What of a refused text is shown.
const SHOWN_CHARACTERS_MAX: usize = 40;

const ACCEPTED: &str = "give whole years, months, weeks and days and, after a T, hours, minutes and seconds, from PT1M \
                        to P100Y, for example P90D, P1Y6M or PT12H";

/// A duration by the calendar, from `PT1M` to `P100Y`. `P1Y` and `P12M` are as long and not equal: it stays as it was
/// given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CalendarDuration {
    span: SpanFieldwise,
    shortest_s: i64,
    longest_s: i64,
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is something else, or one of its numbers is far too large.
    #[error("{0:?} is not a duration: {ACCEPTED}")]
    Shape(String),
    /// It has a sign.
    #[error("the duration {0:?} has a sign: {ACCEPTED}")]
    Signed(String),
    /// It has a fraction.
    #[error("the duration {0:?} has a fraction: {ACCEPTED}")]
    Fraction(String),
    /// Its letters are small.
    #[error("the duration {0:?} has small letters: {ACCEPTED}")]
    SmallLetters(String),
    /// It is shorter than a minute.
    #[error("the duration {0:?} is too short: {ACCEPTED}")]
    TooShort(String),
    /// It is longer than a hundred years.
    #[error("the duration {0:?} is too long: {ACCEPTED}")]
    TooLong(String),
}

impl CalendarDuration {
    /// That much later. Never earlier than `from`, and at most [`Timestamp::MAX`].
    #[must_use]
    pub fn after(&self, from: Timestamp) -> Timestamp {
        walk(from, self.span.0).unwrap_or(Timestamp::MAX)
    }

    /// That much earlier. Never later than `until`, and at least 1970.
    #[must_use]
    pub fn before(&self, until: Timestamp) -> Timestamp {
        walk(until, -self.span.0).unwrap_or(Timestamp(0))
    }

    /// The shortest it can be in seconds, from whatever date and in either direction.
    #[must_use]
    pub const fn shortest_s(&self) -> i64 {
        self.shortest_s
    }

    /// The longest it can be in seconds, from whatever date and in either direction.
    #[must_use]
    pub const fn longest_s(&self) -> i64 {
        self.longest_s
    }

    /// Whether it and `margin_s` seconds more are over when `other` is, from whatever date both begin.
    ///
    /// Says no where it cannot be sure.
    #[must_use]
    pub fn fits_within(&self, other: &Self, margin_s: i64) -> bool {
        let apart = self.longest_s + margin_s <= other.shortest_s;
        let ((months, rest_s), (other_months, other_rest_s)) = (parts(self.span.0), parts(other.span.0));
        // From one date more months never lead to an earlier one, nor does a longer rest.
        let by_parts = months <= other_months && rest_s + margin_s <= other_rest_s;
        apart || by_parts
    }

    /// Whether both lead from every date to the same one.
    #[must_use]
    pub fn is_as_long_as(&self, other: &Self) -> bool {
        parts(self.span.0) == parts(other.span.0)
    }

    /// Whether it has no hours, minutes or seconds.
    #[must_use]
    pub fn is_whole_days(&self) -> bool {
        let span = self.span.0;
        (span.get_hours(), span.get_minutes(), span.get_seconds()) == (0, 0, 0)
    }
}

/// Years and months in months, and all else in seconds. Cannot overflow: `jiff` keeps each unit below 10^12 seconds.
fn parts(span: Span) -> (i64, i64) {
    let months = i64::from(span.get_years()) * 12 + i64::from(span.get_months());
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let time_s = i64::from(span.get_hours()) * 3_600 + span.get_minutes() * 60 + span.get_seconds();
    (months, days * DAY_S + time_s)
}

/// From a time along the calendar; `None` when that leaves what `jiff` can reckon with.
fn walk(from: Timestamp, span: Span) -> Option<Timestamp> {
    let from = from.0.clamp(0, Timestamp::MAX.0);
    let from = jiff::Timestamp::from_second(from).expect("every time from 1970 to 9999 is one");
    let there = Offset::UTC.to_datetime(from).checked_add(span).ok()?;
    let there = Offset::UTC.to_timestamp(there).ok()?;
    Some(Timestamp(there.as_second().clamp(0, Timestamp::MAX.0)))
}

/// The fewest and the most days that so many months in a row have. A walk that is cut to the end of a month is as long
/// as the same number of months one further on, so this holds for every walk.
fn days_of_months(months: i64) -> (i64, i64) {
    // The calendar repeats after 400 years.
    const CYCLE: i64 = 4_800;
    let mut days: i64 = (0..months).map(days_of_month).sum();
    let (mut fewest, mut most) = (days, days);
    for month in 0..if months == 0 { 0 } else { CYCLE } {
        days += days_of_month(month + months) - days_of_month(month);
        fewest = fewest.min(days);
        most = most.max(days);
    }
    (fewest, most)
}

/// The days of a month, counted from January 2000.
fn days_of_month(month: i64) -> i64 {
    let year = 2_000 + month / 12;
    match month % 12 {
        1 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

impl FromStr for CalendarDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let shown = || text.chars().take(SHOWN_CHARACTERS_MAX).collect();
        if !text.trim_start_matches(['+', '-']).starts_with(['P', 'p']) {
            return Err(DurationError::Shape(shown()));
        }
        if text.contains(['+', '-']) {
            return Err(DurationError::Signed(shown()));
        }
        if text.contains(['.', ',']) {
            return Err(DurationError::Fraction(shown()));
        }
        if text.contains(|c: char| c.is_ascii_lowercase()) {
            return Err(DurationError::SmallLetters(shown()));
        }
        let span: Span = text.parse().map_err(|_| DurationError::Shape(shown()))?;
        let (months, rest_s) = parts(span);
        if months > MONTHS_MAX {
            return Err(DurationError::TooLong(shown()));
        }
        let (fewest_days, most_days) = days_of_months(months);
        let (shortest_s, longest_s) = (fewest_days * DAY_S + rest_s, most_days * DAY_S + rest_s);
        if longest_s > LONGEST_S {
            return Err(DurationError::TooLong(shown()));
        }
        if shortest_s < SHORTEST_S {
            return Err(DurationError::TooShort(shown()));
        }
        Ok(Self { span: SpanFieldwise(span), shortest_s, longest_s })
    }
}

/// What [`FromStr`] reads, without units that are zero.
impl fmt::Display for CalendarDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.span.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rotation::fixtures::{any_duration, duration, time};

    #[test]
    fn a_duration_stays_as_it_was_given() {
        for text in ["P1Y", "P12M", "P52W", "P365D", "PT60M", "PT90S", "P1Y2M3W4DT5H6M7S", "PT8760H", "P100Y", "PT1M"] {
            assert_eq!(duration(text).to_string(), text);
        }
        for (given, shown) in [("P1Y0M", "P1Y"), ("P01Y", "P1Y"), ("P0Y0M1DT0H", "P1D")] {
            assert_eq!(duration(given).to_string(), shown);
        }
        assert_ne!(duration("P1Y"), duration("P12M"));
        assert!(duration("P1Y").is_as_long_as(&duration("P12M")));
        assert!(!duration("P30D").is_as_long_as(&duration("P1M")));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_is_wrong() {
        use DurationError::{Fraction, Shape, Signed, SmallLetters, TooLong, TooShort};
        type Wrong = fn(String) -> DurationError;
        let cases: [(&str, Wrong); 34] = [
            ("", Shape),
            ("P", Shape),
            ("PT", Shape),
            ("P1YT", Shape),
            ("1Y", Shape),
            ("1 year", Shape),
            ("P1", Shape),
            ("P1X", Shape),
            ("PY", Shape),
            ("P1M1Y", Shape),
            ("P1Y1Y", Shape),
            ("P1H", Shape),
            ("PT1D", Shape),
            (" P1D", Shape),
            ("P1D ", Shape),
            ("P 1D", Shape),
            ("P\u{661}D", Shape),
            ("2026-01-01", Shape),
            ("P99999999999999999999Y", Shape),
            ("-P1D", Signed),
            ("+P1D", Signed),
            ("P-1D", Signed),
            ("P1.5D", Fraction),
            ("PT1,5S", Fraction),
            ("p1d", SmallLetters),
            ("P1d", SmallLetters),
            ("P1DT1h", SmallLetters),
            ("P0D", TooShort),
            ("PT59S", TooShort),
            ("PT0H", TooShort),
            ("P101Y", TooLong),
            ("P1201M", TooLong),
            ("P36526D", TooLong),
            ("P100YT1S", TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<CalendarDuration>(), Err(error(text.to_owned())), "{text:?}");
        }
        for text in ["PT60S", "P1200M", "P36525D"] {
            assert!(text.parse::<CalendarDuration>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_accepted_with_an_example_and_not_all_of_a_long_text() {
        let error = "P1.5D".parse::<CalendarDuration>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the duration \"P1.5D\" has a fraction: give whole years, months, weeks and days and, after a T, hours, \
             minutes and seconds, from PT1M to P100Y, for example P90D, P1Y6M or PT12H"
        );
        assert!("P".repeat(10_000).parse::<CalendarDuration>().unwrap_err().to_string().len() < 250);
    }

    #[test]
    fn months_are_reckoned_by_the_calendar_and_cut_to_the_last_day() {
        for (from, by, to) in [
            ("2026-01-31T12:30:00Z", "P1M", "2026-02-28T12:30:00Z"),
            ("2028-01-31T00:00:00Z", "P1M", "2028-02-29T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "P1Y", "2025-02-28T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "P4Y", "2028-02-29T00:00:00Z"),
            ("2026-01-31T00:00:00Z", "P1M1D", "2026-03-01T00:00:00Z"),
            ("2026-12-31T23:59:30Z", "PT1M", "2027-01-01T00:00:30Z"),
            ("2026-03-28T00:00:00Z", "P1W", "2026-04-04T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "P1Y1M1W1DT1H1M1S", "2027-02-09T01:01:01Z"),
        ] {
            assert_eq!(duration(by).after(time(from)), time(to), "{from} and {by}");
        }
        for (until, by, to) in [
            ("2026-03-31T00:00:00Z", "P1M", "2026-02-28T00:00:00Z"),
            ("2026-02-28T00:00:00Z", "P1M", "2026-01-28T00:00:00Z"),
            ("2026-03-31T00:00:00Z", "P1M1D", "2026-02-27T00:00:00Z"),
        ] {
            assert_eq!(duration(by).before(time(until)), time(to), "{by} before {until}");
        }
    }

    #[test]
    fn before_is_not_the_inverse_of_after() {
        let month = duration("P1M");
        assert_eq!(month.before(month.after(time("2026-01-31T00:00:00Z"))), time("2026-01-28T00:00:00Z"));
    }

    #[test]
    fn a_walk_ends_where_time_does() {
        let century = duration("P100Y");
        assert_eq!(century.after(time("9950-01-01T00:00:00Z")), Timestamp::MAX);
        assert_eq!(century.after(Timestamp(i64::MAX)), Timestamp::MAX);
        assert_eq!(century.before(time("1980-01-01T00:00:00Z")), Timestamp(0));
        assert_eq!(century.before(Timestamp(i64::MIN)), Timestamp(0));
        assert_eq!(duration("PT1M").after(Timestamp(i64::MIN)), Timestamp(60));
    }

    #[test]
    fn bounds_are_what_the_calendar_can_make_of_it() {
        for (text, shortest_days, longest_days) in [
            ("P1M", 28, 31),
            ("P2M", 59, 62),
            ("P6M", 181, 184),
            ("P1Y", 365, 366),
            ("P4Y", 1_460, 1_461),
            ("P18M", 546, 550),
            ("P100Y", 36_524, 36_525),
            ("P1M1W", 35, 38),
            ("P90D", 90, 90),
        ] {
            let found = (duration(text).shortest_s() / DAY_S, duration(text).longest_s() / DAY_S);
            assert_eq!(found, (shortest_days, longest_days), "{text}");
        }
    }

    #[test]
    fn one_fits_within_another_only_if_it_does_from_every_date() {
        for (inner, outer, margin_days, fits) in [
            ("P30D", "P1M", 0, false),
            ("P28D", "P1M", 0, true),
            ("P1Y", "P1Y1D", 1, true),
            ("P1Y", "P12M", 0, true),
            ("P1Y", "P1Y", 1, false),
            ("P11M", "P1Y", 7, true),
            ("P1M", "P35D", 7, false),
            ("P1M", "P38D", 7, true),
        ] {
            assert_eq!(duration(inner).fits_within(&duration(outer), margin_days * DAY_S), fits, "{inner} in {outer}");
        }
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        // Up to 9800, so that nothing is cut at the end of time.
        prop_oneof![0..247_000_000_000_i64, (0..900_i64).prop_map(|month| 86_399 + month * 2_629_746)]
            .prop_map(Timestamp)
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(duration in any_duration()) {
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[P0-9YMWDTHSpymwd.+-]{0,20}") {
            let _ = text.parse::<CalendarDuration>();
        }

        #[test]
        fn a_later_start_never_ends_earlier(duration in any_duration(), a in any_time(), b in any_time()) {
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(duration.after(a) <= duration.after(b));
            prop_assert!(duration.before(a) <= duration.before(b));
        }

        #[test]
        fn every_walk_is_within_the_bounds(duration in any_duration(), from in any_time()) {
            let bounds = duration.shortest_s()..=duration.longest_s();
            prop_assert!(bounds.contains(&(duration.after(from).0 - from.0)));
            let until = Timestamp(from.0 + LONGEST_S);
            prop_assert!(bounds.contains(&(until.0 - duration.before(until).0)));
        }

        #[test]
        fn what_fits_ends_before(a in any_duration(), b in any_duration(), from in any_time(), margin in 0..1_000_000_i64) {
            if a.fits_within(&b, margin) {
                prop_assert!(a.after(from).0 + margin <= b.after(from).0);
            }
        }
    }
}

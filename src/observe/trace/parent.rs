//! `traceparent` (W3C Trace Context, level 1, section 3.2): the span from which a request comes.
//!
//! ```text
//! 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//! version, trace, span, flags
//! ```
//!
//! What is not exactly that is passed over: a header of a caller's library is no reason to refuse a request.

use http::HeaderMap;

/// The length of version 00, and of what later versions begin with.
const LENGTH: usize = 55;
/// The bit of the flags by which the caller says that it follows this trace.
const SAMPLED: u8 = 1;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    /// Never 0.
    pub(super) trace: u128,
    /// Never 0.
    pub(super) span: u64,
    pub(super) sampled: bool,
}

impl Parent {
    /// That of a request, if it has exactly one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut sent = headers.get_all("traceparent").iter();
        let (header, None) = (sent.next()?, sent.next()) else { return None };
        Self::parse(header.as_bytes())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let [version, trace, span, flags] = [0..2, 3..35, 36..52, 53..55].map(|range| hex(&known[range]));
        let version = version.filter(|version| *version != 0xff)?;
        if [2, 35, 52].iter().any(|dash| known[*dash] != b'-') {
            return None;
        }
        // A later version may have more fields; this one has none.
        if !rest.is_empty() && (version == 0 || rest[0] != b'-') {
            return None;
        }
        let trace = trace.filter(|trace| *trace != 0)?;
        let span = u64::try_from(span?).ok().filter(|span| *span != 0)?;
        let flags = u8::try_from(flags?).ok()?;
        Some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }
}

/// Lower case only, as the recommendation has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(text: &str) -> Option<Parent> {
        Parent::parse(text.as_bytes())
    }

    #[test]
    fn the_example_of_the_recommendation_is_read() {
        let parent = parse(GOOD).expect("is one");
        assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span, parent.sampled), (0xb7ad_6b71_6920_3331, true));
        assert!(!parse(&GOOD.replace("-01", "-00")).expect("is one").sampled);
        // Other flags are for later versions, and do not matter.
        assert!(parse(&GOOD.replace("-01", "-ff")).expect("is one").sampled);
        assert!(!parse(&GOOD.replace("-01", "-fe")).expect("is one").sampled);
    }

    #[test]
    fn what_is_not_one_is_passed_over() {
        let upper = GOOD.to_uppercase();
        let wrong = [
            "",
            "00",
            &upper,
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}-00"),
            &format!("{GOOD} "),
            &format!(" {GOOD}"),
            &GOOD.replace("00-0a", "ff-0a"),
            &GOOD.replace("00-0a", "0x-0a"),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        ];
        for text in wrong {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_later_version_may_have_more() {
        for later in [GOOD.replacen("00", "01", 1), format!("{}-what-comes", GOOD.replacen("00", "cc", 1))] {
            assert_eq!(parse(&later), parse(GOOD), "{later}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(Parent::of(&headers), None);
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert!(Parent::of(&headers).is_some());
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert_eq!(Parent::of(&headers), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_writes_back_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            // Must not panic, and what is read of version 00 is exactly what was written.
            if let Some(parent) = Parent::parse(&bytes) && bytes.starts_with(b"00") {
                let front = format!("00-{:032x}-{:016x}-", parent.trace, parent.span);
                prop_assert!(bytes.starts_with(front.as_bytes()) && bytes.len() == LENGTH);
            }
        }

        #[test]
        fn every_right_one_is_read(trace in 1_u128.., span in 1_u64.., flags in any::<u8>()) {
            let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let sampled = flags & 1 == 1;
            prop_assert_eq!(Parent::parse(text.as_bytes()), Some(Parent { trace, span, sampled }));
        }

        #[test]
        fn one_byte_that_is_wrong_is_enough(at in 0_usize..55, byte in any::<u8>()) {
            let mut bytes = GOOD.as_bytes().to_vec();
            let is_dash = bytes[at] == b'-';
            bytes[at] = byte;
            let right = if is_dash { byte == b'-' } else { matches!(byte, b'0'..=b'9' | b'a'..=b'f') };
            // 0f and the like are later versions; ff is none.
            prop_assert_eq!(Parent::parse(&bytes).is_some(), right);
        }
    }
}

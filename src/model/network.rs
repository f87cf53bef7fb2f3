//! From where a vault may be used: from any address, from some ranges of addresses, from this machine.
//!
//! Fail-safe by its shape: ranges say who may come *although* public access is off, so taking the last one away
//! shuts a vault and never opens it, and ranges beside public access, which would mean nothing, are refused.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{NameError, Origin};

/// The most ranges of one vault (Azure Key Vault's bound).
pub const RANGES_MAX: usize = 1000;

/// A block of addresses: those whose first bits are these (CIDR: RFC 4632, RFC 4291 section 2.3). IPv4 addresses
/// are IPv4 ranges' alone, also where they are written as IPv6 (`::ffff:192.0.2.1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.first <= address && address <= self.last()
    }

    /// The last address; the ranges of the other family are before or behind all of it.
    fn last(self) -> IpAddr {
        let prefix = u32::from(self.prefix);
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | mask_v4(prefix)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | mask_v6(prefix)).into(),
        }
    }

    /// Appends what is sealed of it: the length of its prefix, whose family is told by the octets' number.
    fn seal_into(self, form: &mut Vec<u8>) {
        match self.first {
            IpAddr::V4(first) => {
                form.extend([4, self.prefix]);
                form.extend(first.octets());
            }
            IpAddr::V6(first) => {
                form.extend([6, self.prefix]);
                form.extend(first.octets());
            }
        }
    }
}

/// The bits behind a prefix.
fn mask_v4(prefix: u32) -> u32 {
    u32::MAX.checked_shr(prefix).unwrap_or(0)
}

fn mask_v6(prefix: u32) -> u128 {
    u128::MAX.checked_shr(prefix).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "an address, or a range like 10.0.0.0/8 or 2001:db8::/32, with zeros behind its prefix";
        let wrong = || NameError { what: "range of addresses", rule: RULE, found: text.chars().take(200).collect() };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(number(prefix).ok_or_else(wrong)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest {
            return Err(wrong());
        }
        let range = match address {
            // A range of mapped addresses is one of IPv4 addresses.
            IpAddr::V6(mapped) if prefix >= 96 && mapped.to_ipv4_mapped().is_some() => {
                Self { first: address.to_canonical(), prefix: prefix - 96 }
            }
            _ => Self { first: address, prefix },
        };
        let rest_is_zero = match range.first {
            IpAddr::V4(first) => first.to_bits() & mask_v4(u32::from(range.prefix)) == 0,
            IpAddr::V6(first) => first.to_bits() & mask_v6(u32::from(range.prefix)) == 0,
        };
        if rest_is_zero { Ok(range) } else { Err(wrong()) }
    }
}

/// A number without signs and leading zeros.
fn number(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// From where a vault may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRules {
    public_access: bool,
    local_access: bool,
    ranges: Box<[AddressRange]>,
    /// What the ranges cover, in order and apart from each other.
    covered: Box<[(IpAddr, IpAddr)]>,
}

/// Rules that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRulesError {
    /// Too many ranges.
    #[error("{0} ranges; at most {RANGES_MAX} are allowed")]
    TooMany(usize),
    /// Ranges that would mean nothing.
    #[error("ranges say who may come although public access is off: switch it off, or name no ranges")]
    Idle,
}

impl Default for NetworkRules {
    /// Anybody, from anywhere.
    fn default() -> Self {
        Self { public_access: true, local_access: true, ranges: Box::default(), covered: Box::default() }
    }
}

impl NetworkRules {
    /// Rules. `public_access`: any address may come; else those in the ranges. `local_access`: Unix sockets of this
    /// machine may. The order of the ranges and repetitions among them say nothing.
    ///
    /// # Errors
    /// When there are too many ranges, or ranges beside public access.
    pub fn new(
        public_access: bool,
        local_access: bool,
        mut ranges: Vec<AddressRange>,
    ) -> Result<Self, NetworkRulesError> {
        if ranges.len() > RANGES_MAX {
            return Err(NetworkRulesError::TooMany(ranges.len()));
        }
        if public_access && !ranges.is_empty() {
            return Err(NetworkRulesError::Idle);
        }
        ranges.sort_unstable();
        ranges.dedup();
        let covered = covered(&ranges);
        Ok(Self { public_access, local_access, ranges: ranges.into(), covered })
    }

    /// Whether any address may come.
    #[must_use]
    pub const fn public_access(&self) -> bool {
        self.public_access
    }

    /// Whether Unix sockets of this machine may.
    #[must_use]
    pub const fn local_access(&self) -> bool {
        self.local_access
    }

    /// Which addresses may come although public access is off; in order.
    #[must_use]
    pub fn ranges(&self) -> &[AddressRange] {
        &self.ranges
    }

    /// Whether whoever comes from there may go on. A loopback address is one like any other: whatever passes on
    /// connections on this machine gives its own loopback address to callers from everywhere.
    #[must_use]
    pub fn admits(&self, origin: Origin) -> bool {
        match origin {
            Origin::Local => self.local_access,
            Origin::Address(_) if self.public_access => true,
            Origin::Address(address) => {
                let address = address.to_canonical();
                let begun = self.covered.partition_point(|(first, _)| *first <= address);
                self.covered[..begun].last().is_some_and(|(_, last)| address <= *last)
            }
        }
    }

    /// What is sealed of the ranges; nothing when there are none.
    #[must_use]
    pub fn sealed_ranges(&self) -> Vec<u8> {
        let mut form = Vec::new();
        self.ranges.iter().for_each(|range| range.seal_into(&mut form));
        form
    }
}

/// What ranges in their order cover. Two of them lie one in the other or apart, and the wider comes first.
fn covered(ranges: &[AddressRange]) -> Box<[(IpAddr, IpAddr)]> {
    let mut covered: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if covered.last().is_none_or(|(_, last)| *last < range.first) {
            covered.push((range.first, range.last()));
        }
    }
    covered.into()
}

/// What to change of network rules; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct NetworkPatch {
    /// Whether any address may come.
    pub public_access: Option<bool>,
    /// Whether Unix sockets of this machine may.
    pub local_access: Option<bool>,
    /// Replaces all ranges.
    pub ranges: Option<Vec<AddressRange>>,
}

impl NetworkPatch {
    /// The rules with this change.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn apply(&self, rules: &NetworkRules) -> Result<NetworkRules, NetworkRulesError> {
        NetworkRules::new(
            self.public_access.unwrap_or(rules.public_access),
            self.local_access.unwrap_or(rules.local_access),
            self.ranges.clone().unwrap_or_else(|| rules.ranges.to_vec()),
        )
    }
}

/// How many ranges a record names.
const SHOWN_MAX: usize = 20;

impl fmt::Display for NetworkPatch {
    /// What is changed, for the record. Of many ranges the first and their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges.as_ref().map(|ranges| {
            let shown: Vec<String> = ranges.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
            let more = ranges.len() - shown.len();
            let more = if more == 0 { String::new() } else { format!(",+{more}") };
            format!("allowed_ranges={}{more}", if shown.is_empty() { "none".to_owned() } else { shown.join(",") })
        });
        let fields = [
            self.public_access.map(|on| format!("public_access={on}")),
            self.local_access.map(|on| format!("local_access={on}")),
            ranges,
        ];
        let fields: Vec<String> = fields.into_iter().flatten().collect();
        f.write_str(&fields.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().expect("a range")
    }

    fn at(text: &str) -> Origin {
        Origin::Address(text.parse().expect("an address"))
    }

    fn only(ranges: &[&str]) -> NetworkRules {
        NetworkRules::new(false, true, ranges.iter().map(|text| range(text)).collect()).expect("right")
    }

    #[test]
    fn ranges_are_read_strictly_and_shown_in_one_form() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(range(text).to_string(), shown);
            assert_eq!(range(shown), range(text));
        }
        for wrong in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "::/129",
            "10.0.0.1/8",
            "2001:db8::1/32",
            "::ffff:10.0.0.1/104",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0 /8",
            "host",
            "10.0.0.0/255.0.0.0",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.1-10.0.0.9",
        ] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn everybody_may_come_until_it_is_said_otherwise() {
        let rules = NetworkRules::default();
        for origin in [at("192.0.2.1"), at("2001:db8::1"), at("127.0.0.1"), Origin::Local] {
            assert!(rules.admits(origin), "{origin:?}");
        }
    }

    #[test]
    fn without_public_access_only_the_ranges_and_this_machines_sockets_may() {
        let rules = only(&["10.1.0.0/16", "10.1.2.0/24", "192.0.2.7", "2001:db8::/32"]);
        for admitted in ["10.1.0.0", "10.1.2.3", "10.1.255.255", "192.0.2.7", "2001:db8:ffff::1", "::ffff:10.1.2.3"] {
            assert!(rules.admits(at(admitted)), "{admitted}");
        }
        for refused in ["10.0.255.255", "10.2.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "127.0.0.1", "::1", "::"] {
            assert!(!rules.admits(at(refused)), "{refused}");
        }
        assert!(rules.admits(Origin::Local));
        let none = only(&[]);
        assert!(none.admits(Origin::Local) && !none.admits(at("127.0.0.1")) && !none.admits(at("192.0.2.7")));
    }

    #[test]
    fn all_of_ipv6_holds_no_ipv4_address() {
        let rules = only(&["::/0"]);
        assert!(rules.admits(at("2001:db8::1")));
        assert!(!rules.admits(at("192.0.2.1")) && !rules.admits(at("::ffff:192.0.2.1")));
        assert!(only(&["0.0.0.0/0"]).admits(at("::ffff:192.0.2.1")));
    }

    #[test]
    fn this_machines_sockets_can_be_shut_out_alone() {
        let rules = NetworkRules::new(true, false, Vec::new()).expect("right");
        assert!(rules.admits(at("127.0.0.1")) && !rules.admits(Origin::Local));
    }

    #[test]
    fn ranges_beside_public_access_and_too_many_are_refused() {
        assert_eq!(NetworkRules::new(true, true, vec![range("10.0.0.0/8")]), Err(NetworkRulesError::Idle));
        let many: Vec<AddressRange> = (0..=1000_u32).map(|n| range(&Ipv4Addr::from_bits(n).to_string())).collect();
        assert!(NetworkRules::new(false, true, many[1..].to_vec()).is_ok());
        assert_eq!(NetworkRules::new(false, true, many), Err(NetworkRulesError::TooMany(1001)));
    }

    #[test]
    fn a_patch_leaves_what_it_does_not_name() {
        let rules = only(&["10.0.0.0/8"]);
        assert_eq!(NetworkPatch::default().apply(&rules), Ok(rules.clone()));
        let open = NetworkPatch { public_access: Some(true), ranges: Some(Vec::new()), ..NetworkPatch::default() };
        assert_eq!(open.apply(&rules), Ok(NetworkRules::default()));
        assert_eq!(open.to_string(), "public_access=true allowed_ranges=none");
        let shut = NetworkPatch { ranges: Some(Vec::new()), ..NetworkPatch::default() };
        assert!(!shut.apply(&rules).expect("right").admits(at("10.0.0.1")), "the last range that goes shuts it");
        let many = NetworkPatch { ranges: Some(vec![range("10.0.0.0/8"); 22]), ..NetworkPatch::default() };
        assert!(many.to_string().ends_with("10.0.0.0/8,+2"), "{many}");
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few different ones, so that they meet.
        prop_oneof![
            (0..64_u32).prop_map(|n| Ipv4Addr::from_bits(n << 26 | n).into()),
            (0..64_u128).prop_map(|n| Ipv6Addr::from_bits(n << 122 | n).into()),
            any::<u32>().prop_map(|n| Ipv4Addr::from_bits(n).to_ipv6_mapped().into()),
        ]
    }

    fn any_range() -> impl Strategy<Value = AddressRange> {
        (address(), 0..=128_u8).prop_map(|(address, prefix)| match address.to_canonical() {
            IpAddr::V4(first) => {
                let prefix = prefix % 33;
                AddressRange { first: Ipv4Addr::from_bits(first.to_bits() & !mask_v4(prefix.into())).into(), prefix }
            }
            IpAddr::V6(first) => {
                AddressRange { first: Ipv6Addr::from_bits(first.to_bits() & !mask_v6(prefix.into())).into(), prefix }
            }
        })
    }

    proptest! {
        #[test]
        fn rules_admit_what_one_of_their_ranges_contains(
            ranges in proptest::collection::vec(any_range(), 0..12),
            addresses in proptest::collection::vec(address(), 1..40),
        ) {
            let rules = NetworkRules::new(false, true, ranges.clone()).expect("right");
            for address in addresses {
                let contained = ranges.iter().any(|range| range.contains(address));
                prop_assert_eq!(rules.admits(Origin::Address(address)), contained);
            }
            for range in ranges {
                prop_assert_eq!(range.to_string().parse::<AddressRange>().expect("a range"), range);
            }
        }
    }
}

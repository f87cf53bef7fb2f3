//! Roles: patterns of actions under an id. What the patterns come to is for `access` to say.

use std::{fmt, str::FromStr};

use super::names::{NameError, VersionId};

/// The id of a role assignment.
pub type AssignmentId = VersionId;

/// The id of a role definition: for built-in roles of Azure's the GUID that they have there.
pub type RoleId = VersionId;

/// The built-in role that may do everything. It is kept by its name, every other role by its id.
pub const ADMINISTRATOR: RoleId = RoleId::from_bytes(0x9f4b_8d3a_52c6_4e17_a0de_6b1f_37c2_58e4_u128.to_be_bytes());

/// The built-in role of whoever was made administrator at the console, with the HSM's PIN.
pub const BREAK_GLASS: RoleId = RoleId::from_bytes(0x6c1e_07b5_d94a_43f8_8f27_b0c3_e95d_146a_u128.to_be_bytes());

/// What an assignment stores of [`ADMINISTRATOR`].
const ADMINISTRATOR_STORED: &str = "administrator";

/// A role id as an assignment stores it and as it is sealed.
#[must_use]
pub fn stored_role(id: RoleId) -> String {
    if id == ADMINISTRATOR { ADMINISTRATOR_STORED.to_owned() } else { id.to_string() }
}

/// Reads what [`stored_role`] wrote, and nothing else.
#[must_use]
pub fn role_from_stored(text: &str) -> Option<RoleId> {
    let id = if text == ADMINISTRATOR_STORED { Some(ADMINISTRATOR) } else { text.parse().ok() };
    id.filter(|id| stored_role(*id) == text)
}

/// A pattern of action names, ours or Azure's: `*` stands for any number of characters. Letters match without
/// regard to case, as in Azure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionPattern(String);

impl ActionPattern {
    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is one of those that the pattern means.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut read) = (0, 0);
        // Where the last `*` stands, and what of the name was left when it was met.
        let mut star = None;
        while read < name.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, read));
                at += 1;
            } else if pattern.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&name[read])) {
                (at, read) = (at + 1, read + 1);
            } else if let Some((place, taken)) = star {
                (at, read) = (place + 1, taken + 1);
                star = Some((place, taken + 1));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for ActionPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let right =
            (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./*-_".contains(&b));
        if right {
            return Ok(Self(text.to_owned()));
        }
        let rule = "1 to 256 of 0-9, A-Z, a-z, `.`, `/`, `-`, `_` and `*`";
        Err(NameError { what: "pattern of actions", rule, found: text.chars().take(200).collect() })
    }
}

impl fmt::Display for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a role permits, in Azure's shape: of the actions that administer, and of those that use what is in a
/// vault, the ones that a pattern means and none of the patterns beside it takes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolePatterns {
    /// Of actions that administer.
    pub actions: Vec<ActionPattern>,
    /// Of those, taken back.
    pub not_actions: Vec<ActionPattern>,
    /// Of actions that use what is in a vault.
    pub data_actions: Vec<ActionPattern>,
    /// Of those, taken back.
    pub not_data_actions: Vec<ActionPattern>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ActionPattern {
        text.parse().expect("a pattern")
    }

    #[test]
    fn a_star_stands_for_any_number_of_characters() {
        for (text, name) in [
            ("*", "keys.sign"),
            ("*", ""),
            ("keys.*", "keys.sign"),
            ("keys.*", "keys."),
            ("KEYS.Sign", "keys.sign"),
            ("Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/keys/read"),
            ("a*b*c", "aXbbYc"),
            ("**a", "a"),
        ] {
            assert!(pattern(text).matches(name), "{text} {name}");
        }
        for (text, name) in [
            ("keys.*", "keys"),
            ("keys.sign", "keys.signs"),
            ("keys.signs", "keys.sign"),
            ("*.sign", "keys.verify"),
            ("Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/read"),
            ("a*b*c", "acb"),
        ] {
            assert!(!pattern(text).matches(name), "{text} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_it_is_long() {
        let began = std::time::Instant::now();
        assert!(!pattern(&format!("{}*b", "*a".repeat(127))).matches(&"a".repeat(255)));
        assert!(began.elapsed() < std::time::Duration::from_secs(1));
        for bad in ["", "a b", "keys\n", &"x".repeat(257)] {
            assert!(bad.parse::<ActionPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_are_stored_by_id_but_for_the_administrator() {
        for id in [ADMINISTRATOR, RoleId::from_bytes([7; 16])] {
            assert_eq!(role_from_stored(&stored_role(id)), Some(id));
        }
        for other in ["user", "Administrator", "", &ADMINISTRATOR.to_string()] {
            assert_eq!(role_from_stored(other), None, "{other}");
        }
    }
}

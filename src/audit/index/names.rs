//! The names of resources, as far as a search tells them apart.
//!
//! ```text
//! vaults/dev/keys/Release/versions/0a1b…
//! ~~~~~~~~~~ root
//! ~~~~~~~~~~~~~~~~~~~~~~~ object
//! ```

use std::borrow::Cow;

use crate::model::ObjectType;

/// Where the names of vaults begin.
pub(super) const VAULTS: &str = "vaults";

/// A resource's name in the form that names are compared by: those of vaults and their objects differ in more than
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    text: Cow<'a, str>,
    root: usize,
    object: Option<usize>,
}

impl<'a> Name<'a> {
    pub(super) fn of(resource: &'a str) -> Self {
        let mut ends = resource.match_indices('/').map(|(at, _)| at).chain(std::iter::repeat(resource.len()));
        let mut end = || ends.next().unwrap_or(resource.len());
        let first = end();
        if &resource[..first] != VAULTS {
            return Self { text: Cow::Borrowed(resource), root: first, object: None };
        }
        let (root, kind, object) = (end(), end(), end());
        let is_kind = |name: &str| ObjectType::ALL.iter().any(|kind| kind.name() == name);
        let is_object = kind < object && resource.get(root + 1..kind).is_some_and(is_kind);
        let folded = if is_object { object } else { root };
        Self { text: fold(resource, folded), root, object: is_object.then_some(object) }
    }

    /// All of it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The vault that it is or lies in; for what is in no vault, its first part.
    pub(super) fn root(&self) -> &str {
        &self.text[..self.root]
    }

    /// The key, secret or certificate that it is or lies in; for what is none, all of it.
    pub(super) fn object(&self) -> &str {
        &self.text[..self.object.unwrap_or(self.text.len())]
    }

    /// Whether it is a key, secret or certificate, or lies in one.
    pub(super) const fn is_object(&self) -> bool {
        self.object.is_some()
    }

    /// Whether it is the other one, or that lies within it.
    pub(super) fn contains(&self, other: &Name<'_>) -> bool {
        let rest = other.text.strip_prefix(self.text());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// For longer than what it was made of.
    pub(super) fn into_owned(self) -> Name<'static> {
        Name { text: Cow::Owned(self.text.into_owned()), root: self.root, object: self.object }
    }
}

/// The first so many bytes in lower case.
fn fold(text: &str, bytes: usize) -> Cow<'_, str> {
    if !text.as_bytes()[..bytes].iter().any(u8::is_ascii_uppercase) {
        return Cow::Borrowed(text);
    }
    let mut folded = text.to_owned();
    folded[..bytes].make_ascii_lowercase();
    Cow::Owned(folded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_belongs_to_its_key_and_its_vault() {
        let name = Name::of("vaults/Dev/keys/Release-1/versions/0A");
        assert_eq!(name.text(), "vaults/dev/keys/release-1/versions/0A");
        assert_eq!((name.root(), name.object()), ("vaults/dev", "vaults/dev/keys/release-1"));
        assert!(Name::of("vaults/dev/keys/RELEASE-1").contains(&name));
        assert!(Name::of("vaults/dev").contains(&name));
        assert!(Name::of("vaults/dev/keys").contains(&name));
        assert!(!Name::of("vaults/dev/keys/release").contains(&name));
        assert!(!Name::of("vaults/de").contains(&name));
    }

    #[test]
    fn names_of_principals_keep_their_case_and_their_slashes() {
        let name = Name::of("vaults/dev/accessPolicies/spiffe://example.org/CI");
        assert_eq!((name.root(), name.object()), ("vaults/dev", "vaults/dev/accessPolicies/spiffe://example.org/CI"));
        assert!(!name.is_object());
    }

    #[test]
    fn what_is_in_no_vault_has_its_first_part_for_a_root() {
        for (resource, root) in
            [("roleAssignments/00ff", "roleAssignments"), ("random", "random"), ("vaults", "vaults"), ("", "")]
        {
            assert_eq!((Name::of(resource).root(), Name::of(resource).object()), (root, resource));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart(text in "(vaults)?(/?(keys|ä|/|[A-Za-z])*){0,6}") {
            let name = Name::of(&text);
            prop_assert!(name.text().eq_ignore_ascii_case(&text));
            prop_assert!(name.object().starts_with(name.root()));
            prop_assert!(name.contains(&name));
            let again = Name::of(name.text());
            prop_assert_eq!(again.text(), name.text());
        }
    }
}

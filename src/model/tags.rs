//! Tags: free text that owners put on vaults and versions.

use std::collections::BTreeMap;

/// At most this many tags on one thing.
pub const TAGS_MAX: usize = 15;
/// The longest key or value, in characters.
pub const TAG_CHARACTERS_MAX: usize = 256;

/// Checked tags, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<String, String>);

/// Tags that break their rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    /// Too many.
    #[error("{0} tags; at most {TAGS_MAX} are allowed")]
    TooMany(usize),
    /// A key is empty or too long.
    #[error("the tag key {0:?} has not 1 to {TAG_CHARACTERS_MAX} characters")]
    Key(String),
    /// A value is too long.
    #[error("the value of tag {0:?} has more than {TAG_CHARACTERS_MAX} characters")]
    Value(String),
}

impl Tags {
    /// Checks tags.
    ///
    /// # Errors
    /// When there are more than 15, or a key or value has the wrong length.
    pub fn new(tags: impl IntoIterator<Item = (String, String)>) -> Result<Self, TagsError> {
        let tags: BTreeMap<String, String> = tags.into_iter().collect();
        if tags.len() > TAGS_MAX {
            return Err(TagsError::TooMany(tags.len()));
        }
        for (key, value) in &tags {
            if !(1..=TAG_CHARACTERS_MAX).contains(&key.chars().count()) {
                return Err(TagsError::Key(key.chars().take(40).collect()));
            }
            if value.chars().count() > TAG_CHARACTERS_MAX {
                return Err(TagsError::Value(key.clone()));
            }
        }
        Ok(Self(tags))
    }

    /// Each tag, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// One line of JSON, as stored and sealed: keys in order.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("a map of text is always JSON")
    }

    /// Reads what [`Self::to_json`] wrote.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        let tags: BTreeMap<String, String> = serde_json::from_str(json).ok()?;
        Self::new(tags).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(n: usize) -> Vec<(String, String)> {
        (0..n).map(|i| (format!("k{i}"), String::new())).collect()
    }

    #[test]
    fn limits_hold_at_their_edges() {
        assert!(Tags::new(tags(15)).is_ok());
        assert_eq!(Tags::new(tags(16)), Err(TagsError::TooMany(16)));
        assert!(Tags::new([("é".repeat(256), "é".repeat(256))]).is_ok());
        assert!(Tags::new([("k".repeat(257), String::new())]).is_err());
        assert!(Tags::new([(String::new(), String::new())]).is_err());
        assert!(Tags::new([("k".to_owned(), "v".repeat(257))]).is_err());
    }

    #[test]
    fn json_comes_back() {
        let tags = Tags::new([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "\"1".to_owned())]).expect("right");
        assert_eq!(Tags::from_json(&tags.to_json()), Some(tags));
    }
}

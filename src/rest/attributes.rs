//! What keys and secrets have in common: whether they are enabled, from when until when, and their tags.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use crate::model::{Tags, Timestamp, VaultRow};

/// What clients may say of a version. What they only read (`created`) is passed over, as Azure does.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    pub(super) enabled: Option<bool>,
    pub(super) nbf: Option<i64>,
    pub(super) exp: Option<i64>,
    pub(super) exportable: Option<bool>,
    pub(super) external_key: Option<Value>,
}

impl Attributes {
    /// From when on.
    pub(super) fn not_before(&self) -> Result<Option<Timestamp>, Fault> {
        time("attributes.nbf", self.nbf)
    }

    /// Until when.
    pub(super) fn expires(&self) -> Result<Option<Timestamp>, Fault> {
        time("attributes.exp", self.exp)
    }
}

fn time(name: &str, seconds: Option<i64>) -> Result<Option<Timestamp>, Fault> {
    match seconds {
        Some(seconds) if !(0..=Timestamp::MAX.0).contains(&seconds) => {
            Err(Fault::property(name, "it is no number of seconds between the years 1970 and 9999"))
        }
        seconds => Ok(seconds.map(Timestamp)),
    }
}

/// Tags, if they are said.
pub(super) fn tags(said: Option<BTreeMap<String, String>>) -> Result<Option<Tags>, Fault> {
    let tags = said.map(Tags::new).transpose();
    tags.map_err(|error| Fault::property("tags", &error.to_string()))
}

/// What there is to say of a version.
pub(super) struct Known {
    pub(super) enabled: bool,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) expires: Option<Timestamp>,
}

impl Known {
    /// As it is shown.
    pub(super) fn shown(&self, vault: &VaultRow) -> Map<String, Value> {
        let mut shown = Map::new();
        shown.insert("enabled".to_owned(), self.enabled.into());
        for (name, time) in [("nbf", self.not_before), ("exp", self.expires)] {
            if let Some(time) = time {
                shown.insert(name.to_owned(), time.0.into());
            }
        }
        shown.insert("created".to_owned(), self.created.0.into());
        shown.insert("updated".to_owned(), self.updated.0.into());
        shown.insert("recoveryLevel".to_owned(), vault.recovery_level().into());
        shown.insert("recoverableDays".to_owned(), json!(vault.retention_days));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_of_our_era() {
        let of = |exp: i64| Attributes { exp: Some(exp), ..Attributes::default() }.expires();
        assert_eq!(of(2_209_086_245).expect("right"), Some(Timestamp(2_209_086_245)));
        // A client with 32 bits writes dates after 2038 so.
        assert!(of(-2_086_975_451).is_err() && of(i64::MAX).is_err());
        assert_eq!(Attributes::default().not_before().expect("none"), None);
    }
}

//! JSON objects of others, read strictly: a name that stands twice in an object, at any depth, is refused. Two
//! readers of such an object may each believe another of the two (RFC 7519 section 4 leaves it open).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The object in these bytes, if they are one and nothing else. `serde_json` bounds its depth.
#[must_use]
pub(super) fn object(bytes: &[u8]) -> Option<Object> {
    match serde_json::from_slice::<Strict>(bytes).ok()?.0 {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(name) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_stand_twice_are_refused_at_any_depth() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"\u0062":2}]}"#] {
            assert!(serde_json::from_str::<Value>(twice).is_ok() && object(twice.as_bytes()).is_none(), "{twice}");
        }
        assert!(object(br#"{"a":{"b":1},"b":[{"b":2},{"b":2}]}"#).is_some());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for wrong in ["", "[]", "1", "{", "{}{}", "{} x", "{\"a\":1e999}", "{\"a\":\"\u{1}\"}", "\u{feff}{}"] {
            assert!(object(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(object(format!("{{\"a\":{deep}}}").as_bytes()).is_none());
        assert!(object(b"{\"a\":\"\xff\"}").is_none(), "text is UTF-8");
    }

    proptest! {
        #[test]
        fn what_has_no_name_twice_is_read_as_serde_json_reads_it(text in r#"[{}\[\]":,a-c0-2 ]{0,40}"#) {
            if let Some(found) = object(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), Value::Object(found));
            }
        }
    }
}

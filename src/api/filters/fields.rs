//! The fields of a JSON body: each is taken once, by name, and what is left is an error.
//!
//! A misspelt `sl` must not become an order without a stop, so unknown and repeated fields are
//! refused.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::body::{Body, read_json};
use super::moment::Moment;
use super::query::Parameter;
use crate::api::authorized::AuthorizedRequest;
use crate::api::context::shorten;
use crate::api::problem::Problem;
use crate::mt5::{Filling, Lots, OrderTime, OrderType, Ticket};

/// The fields of an object.
#[derive(Debug)]
pub struct Fields {
    given: BTreeMap<String, Value>,
    known: Vec<&'static str>,
}

/// A type that a field's value is read as.
pub trait Field: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;
    /// Reads the value.
    fn read(value: &Value) -> Option<Self>;
    /// What to write instead of a value that cannot be read, if that can be told.
    fn hint(_value: &Value) -> Option<String> {
        None
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut given = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let name = shorten(&name);
                    if given.contains_key(&name) {
                        let fault = format!("field `{name}` is given more than once");
                        return Err(A::Error::custom(fault));
                    }
                    given.insert(name, value);
                }
                Ok(Fields { given, known: vec![] })
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// 413, 415, or 400 if it is no object or repeats a field.
    pub async fn of(call: &AuthorizedRequest, body: Body) -> Result<Fields, Problem> {
        read_json(call, body).await
    }

    /// Whether the body has no fields.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.given.remove(name)
    }

    /// Takes a field; `null` counts as missing.
    ///
    /// # Errors
    /// 400 if it cannot be read.
    pub fn optional<T: Field>(&mut self, name: &'static str) -> Result<Option<T>, Problem> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::read(&value) {
                Some(read) => Ok(Some(read)),
                None => {
                    let hint = T::hint(&value).map_or_else(String::new, |hint| format!("; {hint}"));
                    let (expected, got) = (T::EXPECTED, shorten(&value.to_string()));
                    Err(Problem::invalid(format!(
                        "field `{name}`: expected {expected}, got {got}{hint}"
                    )))
                }
            },
        }
    }

    /// Takes a field; `null` gives `clear`.
    ///
    /// # Errors
    /// 400 if it cannot be read.
    pub fn clearable<T: Field>(
        &mut self,
        name: &'static str,
        clear: T,
    ) -> Result<Option<T>, Problem> {
        if self.given.get(name) == Some(&Value::Null) {
            self.take(name);
            return Ok(Some(clear));
        }
        self.optional(name)
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// 400 if it is missing or cannot be read.
    pub fn required<T: Field>(&mut self, name: &'static str) -> Result<T, Problem> {
        self.optional(name)?.ok_or_else(|| {
            Problem::invalid(format!("field `{name}` is missing: expected {}", T::EXPECTED))
        })
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// 400 if a field was not taken.
    pub fn finish(self) -> Result<(), Problem> {
        match self.given.keys().next() {
            None => Ok(()),
            Some(name) => {
                let known = self.known.join(", ");
                Err(Problem::invalid(format!("field `{name}` is unknown; the body takes {known}")))
            }
        }
    }
}

impl Field for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &Value) -> Option<Self> {
        value.as_f64().filter(|number| number.is_finite())
    }
}

impl Field for u64 {
    const EXPECTED: &'static str = "a whole number from 0 up";

    fn read(value: &Value) -> Option<Self> {
        value.as_u64().or_else(|| u64::try_from(whole(value)?).ok())
    }
}

impl Field for Ticket {
    const EXPECTED: &'static str = <u64 as Field>::EXPECTED;

    fn read(value: &Value) -> Option<Self> {
        u64::read(value).map(Ticket::new)
    }
}

impl Field for Lots {
    const EXPECTED: &'static str = <f64 as Field>::EXPECTED;

    fn read(value: &Value) -> Option<Self> {
        f64::read(value).map(Lots::new)
    }
}

impl Field for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn read(value: &Value) -> Option<Self> {
        value.as_i64().or_else(|| whole(value))
    }
}

/// A whole number with a fraction of zero, such as `20.0`: JSON does not distinguish it from `20`,
/// and some languages write it so. Doubles are exact up to 2^53.
fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_f64().filter(|_| value.is_f64())?;
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}

impl Field for String {
    const EXPECTED: &'static str = "a text without control characters";

    fn read(value: &Value) -> Option<Self> {
        <String as Parameter>::parse(value.as_str()?)
    }
}

impl Field for Moment {
    const EXPECTED: &'static str = <Moment as Parameter>::EXPECTED;

    fn read(value: &Value) -> Option<Self> {
        written(value).and_then(|text| <Moment as Parameter>::parse(&text))
    }

    fn hint(value: &Value) -> Option<String> {
        written(value).and_then(|text| <Moment as Parameter>::hint(&text))
    }
}

/// A name, or an integer as text.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) => i64::read(value).map(|number| number.to_string()),
        _ => None,
    }
}

impl Field for OrderType {
    const EXPECTED: &'static str = "BUY, SELL, BUY_LIMIT, SELL_LIMIT, BUY_STOP, SELL_STOP, \
        BUY_STOP_LIMIT, SELL_STOP_LIMIT, with or without ORDER_TYPE_, or MT5's integer";

    fn read(value: &Value) -> Option<Self> {
        written(value).and_then(|text| OrderType::parse(&text))
    }
}

impl Field for Filling {
    const EXPECTED: &'static str =
        "FOK, IOC, RETURN, BOC, with or without ORDER_FILLING_, or MT5's integer";

    fn read(value: &Value) -> Option<Self> {
        written(value).and_then(|text| Filling::parse(&text))
    }
}

impl Field for OrderTime {
    const EXPECTED: &'static str =
        "GTC, DAY, SPECIFIED, SPECIFIED_DAY, with or without ORDER_TIME_, or MT5's integer";

    fn read(value: &Value) -> Option<Self> {
        written(value).and_then(|text| OrderTime::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        for (value, unsigned, signed) in [
            (json!(20), Some(20), Some(20)),
            (json!(20.0), Some(20), Some(20)),
            (json!(-1.0), None, Some(-1)),
            (json!(20.5), None, None),
            (json!(1e300), None, None),
            // It may have been the next number, which has no fraction of its own.
            (json!(9_007_199_254_740_992.0), None, None),
            (json!(u64::MAX), Some(u64::MAX), None),
            (json!("20"), None, None),
        ] {
            assert_eq!((u64::read(&value), i64::read(&value)), (unsigned, signed), "{value}");
        }
        assert_eq!(Filling::read(&json!(1.0)), Some(Filling::Ioc));
        assert_eq!(Filling::read(&json!(1.5)), None);
    }

    proptest::proptest! {
        #[test]
        fn a_price_is_read_as_it_was_written(bits: u64) {
            let price = f64::from_bits(bits);
            proptest::prop_assume!(price.is_finite());
            let read: serde_json::Value = serde_json::from_str(&json!(price).to_string()).unwrap();
            proptest::prop_assert_eq!(f64::read(&read).map(f64::to_bits), Some(bits));
        }
    }
}

//! Decodes records with odd fields: a `None`, a text that is not UTF-8, a number of
//! another type or sign than documented.
//!
//! A field has to hold what its type can represent, and one odd field must hide neither
//! its record nor the rest of the list. So a field is given a value of its type whatever
//! it holds:
//!
//! | type | taken as it is | marks what cannot be represented |
//! |---|---|---|
//! | text | UTF-8; other bytes become U+FFFD one by one | U+FFFD |
//! | integer | whole numbers; of the other sign, their 64 (or 32) bits | 0 |
//! | float | numbers | NaN, which JSON shows as `null` |
//! | flag | flags, and numbers by whether they are 0 | false |
//!
//! A field that is missing is an error all the same: then the package does not fit the
//! gateway, and no mark would say so.

use std::collections::BTreeSet;
use std::iter::Enumerate;
use std::sync::Mutex;
use std::vec::IntoIter;

use rmpv::Value;
use rmpv::decode::value::read_value_with_max_depth;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use tracing::warn;

use crate::mt5::Method;

/// What stands for a text that cannot be represented.
const UNKNOWN_TEXT: &str = "\u{fffd}";

/// How deep values may nest. Records need four levels; the stack has room for more than this.
const MAX_DEPTH: usize = 32;

/// Decodes one record.
///
/// # Errors
/// What is wrong with it: it is no record, or lacks a field.
pub fn record<T: DeserializeOwned>(mut payload: &[u8], method: Method) -> Result<T, String> {
    read(&mut payload, At { method, field: None })
}

/// Decodes a list of records, each by itself.
///
/// # Errors
/// What is wrong with it: it is no list, or one of its records lacks a field.
pub fn list<T: DeserializeOwned>(mut payload: &[u8], method: Method) -> Result<Vec<T>, String> {
    let length = rmp::decode::read_array_len(&mut payload).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    for _ in 0..length {
        let mut rest = payload;
        let usual: Result<T, rmp_serde::decode::Error> =
            serde::Deserialize::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
        let record = match usual {
            Ok(record) => record,
            Err(_) => {
                rest = payload;
                read(&mut rest, At { method, field: Some("record") })?
            }
        };
        records.push(record);
        payload = rest;
    }
    Ok(records)
}

fn read<T: DeserializeOwned>(payload: &mut &[u8], at: At) -> Result<T, String> {
    let value = read_value_with_max_depth(payload, MAX_DEPTH).map_err(|error| error.to_string())?;
    serde::Deserialize::deserialize(Lenient { at, value }).map_err(|error: Error| error.to_string())
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct At {
    method: Method,
    /// `None`: it is the whole answer. Nothing would be left of it beside the mark.
    field: Option<&'static str>,
}

impl At {
    fn inside(self, name: &'static str) -> At {
        At { field: Some(name), ..self }
    }

    /// Logs that a value was not what its type says. Once for each method and field, because
    /// the same records are read again and again.
    fn repaired(self) {
        static LOGGED: Mutex<BTreeSet<(Method, &str)>> = Mutex::new(BTreeSet::new());

        let field = self.field.unwrap_or("answer");
        if LOGGED.lock().expect("no panic under this lock").insert((self.method, field)) {
            warn!(method = self.method.name(), field, "field repaired");
        }
    }
}

/// Gives a type what it asks for, whatever the value is.
struct Lenient {
    at: At,
    value: Value,
}

impl Lenient {
    /// The value as an integer. `other_sign` gives the integer with the bits of one that is
    /// in the range of the type with the other sign only: bridges confuse the two.
    fn integer<T: TryFrom<i128> + Default>(&self, other_sign: impl FnOnce(i128) -> Option<T>) -> T {
        let whole = whole(&self.value);
        let fitting = whole.and_then(|whole| T::try_from(whole).ok());
        match (&self.value, fitting) {
            (Value::Integer(_), Some(integer)) => integer,
            (_, fitting) => {
                self.at.repaired();
                fitting.or_else(|| whole.and_then(other_sign)).unwrap_or_default()
            }
        }
    }
}

/// The number that a value is, if that is a whole one.
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(integer) => {
            integer.as_i64().map(i128::from).or_else(|| integer.as_u64().map(i128::from))
        }
        Value::Boolean(flag) => Some(i128::from(*flag)),
        Value::F32(real) => whole_real(f64::from(*real)),
        Value::F64(real) => whole_real(*real),
        _ => None,
    }
}

/// One beyond the range of an `i128` becomes its end, which is beyond that of every field.
fn whole_real(real: f64) -> Option<i128> {
    (real.fract() == 0.0).then_some(real as i128)
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.integer(|whole| u64::try_from(whole).ok().map(u64::cast_signed)))
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.integer(|whole| i64::try_from(whole).ok().map(i64::cast_unsigned)))
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u32(self.integer(|whole| i32::try_from(whole).ok().map(i32::cast_unsigned)))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(match self.value {
            Value::F64(real) => real,
            Value::F32(real) => f64::from(real),
            Value::Integer(integer) => integer.as_f64().unwrap_or(f64::NAN),
            _ => {
                self.at.repaired();
                f64::NAN
            }
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(match &self.value {
            Value::Boolean(flag) => *flag,
            other => {
                self.at.repaired();
                whole(other).is_some_and(|whole| whole != 0)
            }
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let bytes = match self.value {
            Value::String(text) => Some(text.into_bytes()),
            Value::Binary(bytes) => Some(bytes),
            _ => None,
        };
        visitor.visit_string(match bytes.map(String::from_utf8) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                self.at.repaired();
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            None => {
                self.at.repaired();
                UNKNOWN_TEXT.to_owned()
            }
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items::new(self.at, &[], items)),
            _ => Err(Error::custom("it is no list")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Map(entries) => visitor.visit_map(Fields::new(self.at, fields, entries)),
            // The last tick comes without names.
            Value::Array(items) if items.len() >= fields.len() => {
                visitor.visit_seq(Items::new(self.at, fields, items))
            }
            _ if self.at.field.is_some() => {
                self.at.repaired();
                let marks = vec![Value::Nil; fields.len()];
                visitor.visit_seq(Items::new(self.at, fields, marks))
            }
            _ => Err(Error::custom("it is no record")),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("records have no fields of this type"))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char str bytes byte_buf option unit unit_struct
        newtype_struct seq tuple_struct map enum identifier ignored_any
    }
}

/// The fields of a record that come with their names, less those that its type does not have.
struct Fields {
    at: At,
    fields: &'static [&'static str],
    entries: Enumerate<IntoIter<(Value, Value)>>,
    /// The field whose name was read last.
    current: Option<Lenient>,
}

impl Fields {
    fn new(at: At, fields: &'static [&'static str], entries: Vec<(Value, Value)>) -> Fields {
        Fields { at, fields, entries: entries.into_iter().enumerate(), current: None }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let fields = self.fields;
        for (index, (name, value)) in self.entries.by_ref() {
            let Some(name) = name.as_str() else { continue };
            // Nearly always they come in the order of the type.
            let expected = fields.get(index).copied().filter(|field| *field == name);
            let field = expected.or_else(|| fields.iter().copied().find(|field| *field == name));
            let Some(field) = field else { continue };
            self.current = Some(Lenient { at: self.at.inside(field), value });
            return seed.deserialize(StrDeserializer::<Error>::new(field)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.current.take().ok_or_else(|| Error::custom("a value has no name"))?;
        seed.deserialize(value)
    }
}

/// The fields of a record in the order of its type, or the items of a tuple.
struct Items {
    at: At,
    names: &'static [&'static str],
    items: Enumerate<IntoIter<Value>>,
}

impl Items {
    fn new(at: At, names: &'static [&'static str], items: Vec<Value>) -> Items {
        Items { at, names, items: items.into_iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let name = self.names.get(index).copied().unwrap_or("item");
        seed.deserialize(Lenient { at: self.at.inside(name), value }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::decode::read_value;
    use rmpv::encode::write_value;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::mt5::{AccountInfo, OrderSendResult, Position, SymbolInfo, Tick};

    fn packed(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_value(&mut bytes, value).unwrap();
        bytes
    }

    /// A record as the worker packs it.
    fn fields<T: Serialize>(record: &T) -> Vec<(Value, Value)> {
        let bytes = rmp_serde::to_vec_named(record).unwrap();
        match read_value(&mut &bytes[..]).unwrap() {
            Value::Map(fields) => fields,
            other => panic!("a record is no map: {other}"),
        }
    }

    /// The same with one field replaced.
    fn with<T: Serialize>(record: &T, name: &str, value: Value) -> Value {
        let mut fields = fields(record);
        let field = fields.iter_mut().find(|(known, _)| known.as_str() == Some(name)).unwrap();
        field.1 = value;
        Value::Map(fields)
    }

    #[derive(Deserialize)]
    struct One<T> {
        field: T,
    }

    /// What a field of this type makes of a value.
    fn field<T: DeserializeOwned>(value: &Value) -> T {
        let record = Value::Map(vec![("field".into(), value.clone())]);
        super::record::<One<T>>(&packed(&record), Method::PositionsGet).unwrap().field
    }

    #[test]
    fn signed_integers_keep_their_bits_or_are_zero() {
        for (value, expected) in [
            (Value::from(i64::MIN), i64::MIN),
            (Value::from(i64::MAX), i64::MAX),
            (Value::from(u64::MAX), -1),
            (Value::from(1_u64 << 63), i64::MIN),
            (Value::F64(7.0), 7),
            (Value::F32(-7.0), -7),
            (Value::F64(2_f64.powi(63)), i64::MIN),
            (Value::Boolean(true), 1),
            (Value::F64(7.5), 0),
            (Value::F64(1e300), 0),
            (Value::F64(f64::NAN), 0),
            (Value::F64(f64::NEG_INFINITY), 0),
            (Value::Nil, 0),
            (Value::from("7"), 0),
            (Value::Array(vec![]), 0),
        ] {
            assert_eq!(field::<i64>(&value), expected, "{value}");
        }
    }

    #[test]
    fn unsigned_integers_keep_their_bits_or_are_zero() {
        for (value, expected) in [
            (Value::from(u64::MAX), u64::MAX),
            (Value::from(-1_i64), u64::MAX),
            (Value::from(i64::MIN), 1 << 63),
            (Value::F64(7.0), 7),
            (Value::F64(-1.0), u64::MAX),
            (Value::Boolean(false), 0),
            (Value::F64(2_f64.powi(64)), 0),
            (Value::Nil, 0),
        ] {
            assert_eq!(field::<u64>(&value), expected, "{value}");
        }
        for (value, expected) in [
            (Value::from(u32::MAX), u32::MAX),
            (Value::from(-1_i64), u32::MAX),
            (Value::from(u64::MAX), 0),
            (Value::F64(6.0), 6),
            (Value::Nil, 0),
        ] {
            assert_eq!(field::<u32>(&value), expected, "{value}");
        }
    }

    #[test]
    fn floats_are_numbers_or_nan() {
        for (value, expected) in [
            (Value::F64(0.5), "0.5"),
            (Value::F32(0.5), "0.5"),
            (Value::F64(f64::INFINITY), "inf"),
            (Value::from(7), "7"),
            (Value::from(-7), "-7"),
            (Value::from(u64::MAX), "18446744073709552000"),
            (Value::Nil, "NaN"),
            (Value::from("0.5"), "NaN"),
            (Value::Boolean(true), "NaN"),
        ] {
            assert_eq!(field::<f64>(&value).to_string(), expected, "{value}");
        }
    }

    #[test]
    fn flags_are_numbers_other_than_zero() {
        for (value, expected) in [
            (Value::Boolean(true), true),
            (Value::from(1), true),
            (Value::F64(1.0), true),
            (Value::from(0), false),
            (Value::F64(0.0), false),
            (Value::Nil, false),
            (Value::from("true"), false),
        ] {
            assert_eq!(field::<bool>(&value), expected, "{value}");
        }
    }

    #[test]
    fn texts_are_marked_where_they_cannot_be_represented() {
        for (value, expected) in [
            (Value::from("naïve ☃"), "naïve ☃"),
            (Value::from(""), ""),
            (Value::Binary(b"ab\xffc".to_vec()), "ab\u{fffd}c"),
            (Value::Nil, "\u{fffd}"),
            (Value::from(7), "\u{fffd}"),
            (Value::Ext(1, vec![2]), "\u{fffd}"),
        ] {
            assert_eq!(field::<String>(&value), expected, "{value}");
        }
        // A text that holds half a surrogate pair, as UTF-8 would write it.
        let bytes = b"\x81\xa5field\xa5x\xed\xa0\x80y";
        let one: One<String> = record(bytes, Method::PositionsGet).unwrap();
        assert_eq!(one.field, "x\u{fffd}\u{fffd}\u{fffd}y");
    }

    #[test]
    fn an_odd_record_leaves_the_rest_of_its_list() {
        let position = |ticket| Position { ticket, ..Position::default() };
        let records = Value::Array(vec![
            Value::Map(fields(&position(1))),
            with(&position(2), "comment", Value::Nil),
            with(&position(3), "magic", Value::from(u64::MAX)),
            Value::Nil,
            Value::Map(fields(&position(5))),
        ]);
        let positions: Vec<Position> = list(&packed(&records), Method::PositionsGet).unwrap();
        let tickets: Vec<u64> = positions.iter().map(|position| position.ticket).collect();
        assert_eq!(tickets, [1, 2, 3, 0, 5]);
        assert_eq!(positions[0], position(1));
        assert_eq!(positions[1], Position { comment: "\u{fffd}".to_owned(), ..position(2) });
        assert_eq!(positions[2], Position { magic: -1, ..position(3) });
        assert_eq!(positions[3].symbol, "\u{fffd}");
    }

    #[test]
    fn single_records_and_those_inside_them_are_repaired() {
        let result = OrderSendResult { retcode: 10009, order: 7, ..OrderSendResult::default() };
        for (name, value) in [("comment", Value::Nil), ("request", Value::Nil)] {
            let bytes = packed(&with(&result, name, value));
            let read: OrderSendResult = record(&bytes, Method::OrderSend).unwrap();
            assert_eq!((read.retcode, read.order), (10009, 7), "{name}");
        }
        let bytes = packed(&with(&AccountInfo::default(), "name", Value::from(7)));
        let account: Box<AccountInfo> = record(&bytes, Method::AccountInfo).unwrap();
        assert_eq!(account.name, "\u{fffd}");
        let bytes = packed(&with(&SymbolInfo::default(), "select", Value::from(1)));
        let symbol: SymbolInfo = record(&bytes, Method::SymbolInfo).unwrap();
        assert!(symbol.select);
        // The last tick has no names.
        let mut values: Vec<Value> = (1..=8).map(Value::from).collect();
        values[3] = Value::Nil;
        let bytes = packed(&Value::Array(values));
        let tick: Tick = record(&bytes, Method::SymbolInfoTick).unwrap();
        assert_eq!((tick.time, tick.bid, tick.volume, tick.flags), (1, 2.0, 5, 7));
        assert!(tick.last.is_nan());
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_new_passed_over() {
        let mut fields = fields(&Position::default());
        fields.push((Value::from("added"), Value::Nil));
        fields.insert(0, (Value::Nil, Value::Nil));
        let newer = packed(&Value::Array(vec![Value::Map(fields.clone())]));
        let positions: Vec<Position> = list(&newer, Method::PositionsGet).unwrap();
        assert_eq!(positions, [Position::default()]);

        fields.retain(|(name, _)| name.as_str() != Some("comment"));
        let older = packed(&Value::Array(vec![Value::Map(fields)]));
        let error = list::<Position>(&older, Method::PositionsGet).unwrap_err();
        assert!(error.contains("`comment`"), "{error}");
    }

    #[test]
    fn an_answer_that_is_no_record_is_an_error() {
        for value in [Value::Nil, Value::from(7), Value::Array(vec![])] {
            assert!(record::<Position>(&packed(&value), Method::PositionsGet).is_err(), "{value}");
        }
        assert!(list::<Position>(&packed(&Value::Nil), Method::PositionsGet).is_err());
        let deep = [0x91; 1000];
        assert!(record::<Position>(&deep, Method::PositionsGet).is_err());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::MAX)].prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Binary),
            Just(Value::Ext(1, vec![2])),
            Just(Value::Array(vec![Value::Nil])),
            Just(Value::Map(vec![(Value::Nil, Value::Nil)])),
        ]
    }

    proptest! {
        #[test]
        fn no_value_of_a_field_hides_its_record(
            values in proptest::collection::vec(any_value(), 0..20),
        ) {
            let mut position = fields(&Position::default());
            for (field, value) in position.iter_mut().zip(values) {
                field.1 = value;
            }
            let records = packed(&Value::Array(vec![Value::Map(position)]));
            let read = list::<Position>(&records, Method::PositionsGet);
            prop_assert_eq!(read.map(|positions| positions.len()), Ok(1));
        }

        #[test]
        fn no_broken_byte_panics_the_decoder(at: proptest::sample::Index, byte: u8) {
            let record = Value::Map(fields(&Position::default()));
            let mut bytes = packed(&Value::Array(vec![record.clone(), record]));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = list::<Position>(&bytes, Method::PositionsGet);
        }
    }
}

//! Where each field of a record stands in a terminal's reply.
//!
//! `terminal-double/layouts.json` was found from outside, by changing one byte of a reply after another and
//! looking which field of the package's record changed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The layouts by name.
pub struct Layouts(BTreeMap<String, Layout>);

#[derive(Deserialize)]
struct Layout {
    /// Bytes of a record.
    size: usize,
    fields: Vec<Field>,
}

/// Name, type, offset and length in bytes. Bytes that belong to no field are zero.
#[derive(Deserialize)]
struct Field(String, FieldType, usize, usize);

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FieldType {
    Bool,
    I32,
    I64,
    F64,
    /// UTF-16, and the last unit stays zero.
    Text,
}

impl Layouts {
    pub fn load() -> Layouts {
        Layouts(serde_json::from_str(include_str!("../terminal-double/layouts.json")).unwrap())
    }

    /// A record as the package expects it. Texts are cut to their place.
    pub fn encode(&self, name: &str, record: &Map<String, Value>) -> Vec<u8> {
        let layout = &self.0[name];
        let mut bytes = vec![0; layout.size];
        for Field(field, field_type, offset, length) in &layout.fields {
            let value = record.get(field).unwrap_or_else(|| panic!("{name}.{field} is missing"));
            let place = &mut bytes[*offset..][..*length];
            match field_type {
                FieldType::Bool => place[0] = u8::from(value.as_bool().unwrap()),
                FieldType::I32 | FieldType::I64 => {
                    let unsigned = || value.as_u64().map(u64::cast_signed);
                    let integer = value.as_i64().or_else(unsigned).unwrap();
                    place.copy_from_slice(&integer.to_le_bytes()[..*length]);
                }
                // Not finite numbers are null in JSON.
                FieldType::F64 => {
                    place.copy_from_slice(&value.as_f64().unwrap_or(f64::NAN).to_le_bytes());
                }
                FieldType::Text => {
                    let units = value.as_str().unwrap().encode_utf16().take(length / 2 - 1);
                    for (place, unit) in place.chunks_exact_mut(2).zip(units) {
                        place.copy_from_slice(&unit.to_le_bytes());
                    }
                }
            }
        }
        bytes
    }
}

//! What follows for a schema from the tables in the code: how integers and words are called, what
//! may be `null`, what is always there, and what a body may not have.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::operations::Refusal;
use crate::actor::Role;
use crate::api::routes::STATUS_OK;
use crate::mt5::names::{self, Names};
use crate::mt5::{CopyTicks, ErrorType, Filling, OrderTime, OrderType, Retcode, Timeframe};
use crate::streams;
use crate::trading::TradeState;

/// Answers whose numbers come from a terminal, which may have no number to give.
const FROM_TERMINALS: [&str; 15] = [
    "AccountInfo",
    "BookEntry",
    "Deal",
    "Margin",
    "Order",
    "OrderCheckResult",
    "Position",
    "Profit",
    "Rate",
    "SymbolInfo",
    "TerminalInfo",
    "Tick",
    "TradeRequest",
    "TradeResult",
    "Traded",
];

/// Completes each schema from the tables in the code.
pub fn complete(document: &mut Value) {
    let bodies = bodies(document);
    let schemas = &mut document["components"]["schemas"];
    if let Some(schemas) = schemas.as_object_mut() {
        for (name, schema) in schemas.iter_mut() {
            if bodies.contains(name) {
                close(schema);
                bound_fields(schema);
            } else if name != "Problem" {
                require_all(schema);
            }
            if FROM_TERMINALS.contains(&name.as_str()) {
                allow_null_numbers(schema);
            }
        }
    }
    for (record, field, names) in names::FIELDS {
        name_integers(schemas, record, field, names);
    }
    name_codes(schemas);
    name_words(schemas);
    name_inputs(schemas);
    name_parameters(&mut document["paths"]);
    unsign(document);
}

/// Integers without a sign are as large as 64 bits without a sign.
fn unsign(within: &mut Value) {
    match within {
        Value::Object(fields) => {
            let unsigned = fields.get("minimum").is_some_and(|least| least == 0);
            if unsigned && fields.get("format").is_some_and(|format| format == "int64") {
                fields.insert("format".to_owned(), "uint64".into());
            }
            fields.values_mut().for_each(unsign);
        }
        Value::Array(items) => items.iter_mut().for_each(unsign),
        _ => {}
    }
}

/// The schemas of request bodies, those that they refer to included.
fn bodies(document: &Value) -> BTreeSet<String> {
    let operations = document["paths"].as_object().into_iter().flat_map(|paths| paths.values());
    let operations = operations.filter_map(Value::as_object).flat_map(|item| item.values());
    let mut found = BTreeSet::new();
    for operation in operations {
        references(document, &operation["requestBody"], &mut found);
    }
    found
}

fn references(document: &Value, within: &Value, found: &mut BTreeSet<String>) {
    match within {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            if let Some(name) = name.and_then(|name| name.strip_prefix("#/components/schemas/"))
                && found.insert(name.to_owned())
            {
                references(document, &document["components"]["schemas"][name], found);
            }
            fields.values().for_each(|value| references(document, value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(document, item, found)),
        _ => {}
    }
}

/// The objects that a schema consists of: itself, and the parts that it is composed of.
fn parts(schema: &mut Value) -> Vec<&mut Value> {
    if schema.get("allOf").is_some() {
        schema["allOf"].as_array_mut().into_iter().flatten().flat_map(parts).collect()
    } else {
        vec![schema]
    }
}

/// A body with a field that is not described is refused.
fn close(schema: &mut Value) {
    if schema.get("properties").is_some() {
        schema["additionalProperties"] = false.into();
    }
}

/// What is answered always has all its fields.
fn require_all(schema: &mut Value) {
    for part in parts(schema) {
        if let Some(properties) = part.get("properties").and_then(Value::as_object) {
            part["required"] = properties.keys().cloned().collect();
        }
    }
}

/// JSON has no word for numbers that are none.
fn allow_null_numbers(schema: &mut Value) {
    for part in parts(schema) {
        let properties = part.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
            if property.get("type").is_some_and(|kind| kind == "number") {
                property["type"] = json!(["number", "null"]);
            }
        }
    }
}

/// A field of a schema, or of a part that it is composed of.
fn field<'a>(schemas: &'a mut Value, schema: &str, name: &str) -> Option<&'a mut Value> {
    parts(schemas.get_mut(schema)?)
        .into_iter()
        .find_map(|part| part.get_mut("properties")?.get_mut(name))
}

fn describe(field: &mut Value, more: &str) {
    let before = field["description"].as_str().map_or(String::new(), |text| format!("{text} "));
    field["description"] = format!("{before}{more}").into();
}

/// States what the integers of a field are called.
fn name_integers(schemas: &mut Value, record: &str, name: &str, names: &Names) {
    let listed = list(names.short());
    if names.are_bits {
        if let Some(field) = field(schemas, record, name) {
            describe(field, &format!("A sum of `{}`: {listed}.", names.prefix));
        }
        return;
    }
    let described = format!("`{}`: {listed}.", names.prefix);
    schemas[names.name] = enumeration(&described, names.short());
    open(field(schemas, record, name), &[names.name]);
}

/// MT5's error codes, and the return codes of trades.
fn name_codes(schemas: &mut Value) {
    let known = Retcode::ALL.iter().filter(|retcode| **retcode != Retcode::Other);
    let retcodes: Vec<(i64, String)> =
        known.map(|retcode| (retcode.code(), retcode.name().to_uppercase())).collect();
    let described = format!("`TRADE_RETCODE_`: {}.", list(named(&retcodes)));
    schemas["Retcode"] = enumeration(&described, named(&retcodes));
    let known = ErrorType::ALL.iter().filter(|error| **error != ErrorType::Other);
    let errors = known.map(|error| (error.code(), error.name().to_uppercase()));
    let errors: Vec<(i64, String)> =
        std::iter::once((1, "SUCCESS".to_owned())).chain(errors).collect();
    let described = format!("What `last_error()` says: {}.", list(named(&errors)));
    schemas["ErrorCode"] = enumeration(&described, named(&errors));
    open(field(schemas, "TradeResult", "retcode"), &["Retcode"]);
    open(field(schemas, "LastError", "code"), &["ErrorCode"]);
    open(field(schemas, "Mt5Error", "code"), &["ErrorCode", "Retcode"]);
    if let Some(field) = field(schemas, "OrderCheckResult", "retcode") {
        // It is 0 for a trade that would be taken.
        describe(field, "0: it would be taken; else as in a trade's result.");
    }
}

/// The closed sets of words.
fn name_words(schemas: &mut Value) {
    let retcodes: Vec<&str> = Retcode::ALL.iter().map(|retcode| retcode.name()).collect();
    let checked: Vec<&str> = std::iter::once("ok").chain(retcodes.iter().copied()).collect();
    let roles: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
    // The HTTP service is no actor, and has events of its own.
    let sources: Vec<&str> = roles.iter().copied().chain(["http"]).collect();
    let words: [(&str, &str, &[&str]); 9] = [
        ("TradeResult", "retcode_name", &retcodes),
        ("Checked", "retcode_name", &checked),
        ("ResolvedAsExecuted", "state", &[TradeState::Executed.name()]),
        ("ResolvedAsNotFound", "state", &[TradeState::NotFound.name()]),
        ("LoginReport", "outcome", &["success", "failure"]),
        ("Noted", "actor", &sources),
        ("Noted", "level", &["ERROR", "WARN", "INFO"]),
        ("Pong", "status", &[STATUS_OK]),
        ("Health", "status", &[STATUS_OK]),
    ];
    for (schema, name, words) in words {
        if let Some(field) = field(schemas, schema, name) {
            field["enum"] = words.into();
        }
    }
    // A later version may have more kinds.
    let kinds: Vec<String> =
        Refusal::all().iter().map(|refusal| format!("/problems/{}", refusal.slug)).collect();
    schemas["ProblemType"] = json!({
        "type": "string",
        "description": "Kinds of problem, described in `docs/errors.md`",
        "enum": kinds,
    });
    if let Some(field) = field(schemas, "Problem", "type") {
        *field = json!({
            "description": field["description"],
            "example": field["example"],
            "anyOf": [{ "$ref": "#/components/schemas/ProblemType" }, { "type": "string" }],
        });
    }
}

/// The names that bodies take for MT5's integers.
fn name_inputs(schemas: &mut Value) {
    let order_types: &[(&str, &str)] = &[("NewOrder", "type"), ("CloseBy", "type")];
    let fillings = &[("NewOrder", "type_filling"), ("PositionClose", "type_filling")];
    let lifetimes = &[("NewOrder", "type_time"), ("OrderChange", "type_time")];
    for (name, names, fields) in [
        ("OrderTypeName", OrderType::NAMES, order_types),
        ("FillingName", Filling::NAMES, fillings),
        ("OrderTimeName", OrderTime::NAMES, lifetimes),
    ] {
        let words: Vec<&str> = names.short().map(|(_, word)| word).collect();
        schemas[name] = json!({
            "type": "string",
            "description": format!("A name, in any case, with or without `{}`", names.prefix),
            "enum": words,
        });
        let last = names.values.last().map_or(0, |(value, _)| *value);
        for (schema, name_of_field) in fields {
            let Some(field) = field(schemas, schema, name_of_field) else {
                continue;
            };
            let mut choices = vec![
                json!({ "$ref": format!("#/components/schemas/{name}") }),
                json!({
                    "type": "integer", "minimum": 0, "maximum": last,
                    "description": list(names.short()),
                }),
            ];
            if field["type"].as_array().is_some_and(|types| types.contains(&"null".into())) {
                choices.push(json!({ "type": "null" }));
            }
            *field = json!({ "description": field["description"], "anyOf": choices });
        }
    }
}

/// What texts may hold: no control characters.
const PLAIN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// Bodies take plain text, and integers as large as they are.
fn bound_fields(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
        bound(property);
    }
}

fn bound(schema: &mut Value) {
    let is = |kind: &str| match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    };
    if is("string") && schema.get("enum").is_none() {
        schema["pattern"] = PLAIN.into();
    } else if is("integer") && schema["format"] == "int64" {
        if schema.get("minimum").is_some_and(|least| least == 0) {
            schema["maximum"] = u64::MAX.into();
        } else if schema.get("minimum").is_none() {
            schema["minimum"] = i64::MIN.into();
            schema["maximum"] = i64::MAX.into();
        }
    }
}

/// The names that queries take.
fn name_parameters(paths: &mut Value) {
    let timeframes: Vec<&str> = Timeframe::ALL.iter().map(|timeframe| timeframe.name()).collect();
    let ticks: Vec<&str> = CopyTicks::ALL.iter().map(|ticks| ticks.name()).collect();
    let states: Vec<&str> = TradeState::ALL.iter().map(|state| state.name()).collect();
    let sides = ["BUY", "SELL"];
    let kinds = streams::EventKind::NAMES.join("|");
    let events = format!("^ *({kinds}) *(, *({kinds}) *)*$");
    let words: [(&str, &[&str]); 4] =
        [("timeframe", &timeframes), ("flags", &ticks), ("state", &states), ("action", &sides)];
    let items = paths.as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = items.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut());
    for operation in operations {
        for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
            if let Some((_, words)) = words.iter().find(|(name, _)| parameter["name"] == *name) {
                parameter["schema"]["enum"] = (*words).into();
            }
            if parameter["name"] == "events" {
                parameter["schema"]["pattern"] = events.as_str().into();
            } else if parameter["in"] == "query" {
                bound(&mut parameter["schema"]);
            }
        }
    }
}

fn named(values: &[(i64, String)]) -> impl Iterator<Item = (i64, &str)> {
    values.iter().map(|(value, name)| (*value, name.as_str()))
}

fn list<'a>(values: impl Iterator<Item = (i64, &'a str)>) -> String {
    values.map(|(value, name)| format!("{value} {name}")).collect::<Vec<_>>().join(", ")
}

fn enumeration<'a>(described: &str, values: impl Iterator<Item = (i64, &'a str)>) -> Value {
    let (values, names): (Vec<i64>, Vec<&str>) = values.unzip();
    json!({
        "type": "integer",
        "format": "int64",
        "description": described,
        "enum": values,
        "x-enum-varnames": names,
    })
}

/// Lets a field be one of some enumerations, or an integer that a newer terminal has added.
fn open(field: Option<&mut Value>, enumerations: &[&str]) {
    let Some(field) = field else {
        return;
    };
    let known =
        enumerations.iter().map(|name| json!({ "$ref": format!("#/components/schemas/{name}") }));
    let choices: Vec<Value> =
        known.chain([json!({ "type": "integer", "format": "int64" })]).collect();
    let mut opened = json!({ "anyOf": choices });
    for kept in ["description", "example"] {
        if let Some(value) = field.get(kept) {
            opened[kept] = value.clone();
        }
    }
    *field = opened;
}

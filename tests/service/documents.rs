//! The documents that other people rely on.

use std::collections::BTreeSet;
use std::path::Path;

use mt5_gateway::api::{ProblemType, openapi_document};
use mt5_gateway::metrics::catalog::FAMILIES;
use mt5_gateway::mt5::names::FIELDS;
use mt5_gateway::pool::SessionState;
use mt5_gateway::terminal::Mode;
use mt5_gateway::trading::{Operation, TradeState};
use serde::Serialize;
use serde_json::{Value, json};

use crate::common::Gateway;

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn openapi_is_the_document_that_was_reviewed() {
    insta::assert_snapshot!("openapi", openapi_document());
}

#[test]
fn the_families_are_those_that_were_reviewed() {
    let lines = FAMILIES.iter().map(|family| {
        format!("{} {} [{}]: {}\n", family.kind, family.name, family.labels.join(", "), family.help)
    });
    insta::assert_snapshot!("families", lines.collect::<String>());
}

#[test]
fn every_route_of_openapi_answers_and_swagger_ui_shows_it() {
    let gateway = Gateway::ready("");
    let document = gateway.get("/openapi.json").json();
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = template
            .replace("{account}", "demo")
            .replace("{symbol}", "EURUSD")
            .replace("{ticket}", "1")
            .replace("{trade_id}", "1");
        for (method, operation) in item.as_object().unwrap() {
            let path = path.clone() + &required_query(operation);
            let body = operation.get("requestBody").map(|body| example(&document, body));
            let reply = gateway.send(method, &path, body.as_ref());
            // A ticket and a trade that do not exist are found to be so by their routes.
            let unrouted = reply.status == 404 && !path.contains("/1");
            let broken = unrouted || reply.status == 405 || reply.status >= 500;
            assert!(!broken, "{method} {template}: {} {}", reply.status, reply.text());
            if template.ends_with("/restart") {
                gateway.eventually("the session is ready again", || {
                    (gateway.get("/readyz").status == 200).then_some(())
                });
            }
        }
    }
    let page = gateway.get("/docs/").text();
    for reference in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert!(page.contains(reference));
        assert_eq!(gateway.get(&format!("/docs/{reference}")).status, 200);
    }
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert!(gateway.get("/docs/swagger-initializer.js").text().contains("/openapi.json"));
}

/// The example that a body's schema gives, whole or by its fields.
fn example(document: &Value, body: &Value) -> Value {
    let schema = &body["content"]["application/json"]["schema"]["$ref"];
    let mut schema = component(document, schema);
    if let Some(first) = schema.pointer("/oneOf/0/$ref") {
        schema = component(document, first);
    }
    if let Some(whole) = schema.get("example") {
        return whole.clone();
    }
    let fields = schema["properties"].as_object().unwrap().iter();
    fields.map(|(field, schema)| (field.clone(), schema["example"].clone())).collect()
}

fn component<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    document.pointer(&reference.as_str().unwrap()[1..]).unwrap()
}

/// That the words of an enumeration are those that the wire has.
fn assert_words<T: Serialize>(document: &Value, name: &str, all: &[T]) {
    let written: Vec<Value> = all.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    assert_eq!(document["components"]["schemas"][name]["enum"], json!(written), "{name}");
}

#[test]
fn enumerations_are_described_as_they_are_serialised() {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    assert_words(&document, "State", TradeState::ALL);
    assert_words(&document, "Operation", Operation::ALL);
    assert_words(&document, "SessionState", SessionState::ALL);
    assert_words(&document, "Mode", &[Mode::Live, Mode::Simulated]);
    // What the journal keeps is what the wire says.
    for state in TradeState::ALL {
        assert_eq!(json!(state), state.name());
    }
    for operation in Operation::ALL {
        assert_eq!(json!(operation), operation.name());
    }
    for state in SessionState::ALL {
        assert_eq!(json!(state), state.name());
    }
}

#[test]
fn integers_of_mt5_are_described_with_their_names() {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let schemas = &document["components"]["schemas"];
    for (record, field, names) in FIELDS {
        let described = &schemas[record]["properties"][field];
        assert!(described.is_object(), "there is no field {field} in {record}");
        let text = if names.are_bits {
            described["description"].as_str().unwrap()
        } else {
            let known = component(&document, &described["anyOf"][0]["$ref"]);
            let (values, short): (Vec<i64>, Vec<&str>) = names.short().unzip();
            assert_eq!(
                (&known["enum"], &known["x-enum-varnames"]),
                (&json!(values), &json!(short))
            );
            assert_eq!(described["anyOf"][1]["type"], "integer", "newer terminals give others");
            known["description"].as_str().unwrap()
        };
        for (value, name) in names.short() {
            assert!(text.contains(&format!("{value} {name}")), "{record}.{field}: {text}");
        }
    }
}

fn required_query(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let query: Vec<String> = parameters
        .iter()
        .filter(|parameter| parameter["in"] == "query" && parameter["required"] == true)
        .map(|parameter| {
            let name = parameter["name"].as_str().unwrap();
            let value = match parameter.get("example") {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None if name == "timeframe" => "H1&count=1".to_owned(),
                None => "2020-01-01".to_owned(),
            };
            format!("{name}={value}")
        })
        .collect();
    if !query.is_empty() {
        return format!("?{}", query.join("&"));
    }
    match operation["operationId"].as_str().unwrap_or_default() {
        "ticks" => "?count=1".to_owned(),
        name if name.starts_with("history_") => "?from=2020-01-01".to_owned(),
        _ => String::new(),
    }
}

#[test]
fn a_problem_is_written_as_reviewed() {
    let gateway = Gateway::ready("");
    let reply =
        gateway.get_with("/api/v1/accounts/demo/symbols/NOPE/tick", &[("x-request-id", "mine-1")]);
    insta::assert_snapshot!("problem", reply.text());
    gateway.logs("request_id=\"mine-1\"");
}

#[test]
fn every_problem_and_every_family_is_documented() {
    let errors = text("docs/errors.md");
    for kind in ProblemType::ALL {
        let row = format!("| `{}` | {} |", kind.slug(), kind.status().as_u16());
        assert!(errors.contains(&row), "docs/errors.md lacks {row}");
    }
    let monitoring = text("docs/operations/monitoring.md");
    let documented: BTreeSet<&str> =
        monitoring.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let families: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(documented, families);
}

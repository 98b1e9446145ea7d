use std::collections::BTreeSet;

use serde_json::Value;

use super::operations::Refusal;

fn document() -> Value {
    serde_json::from_str(&crate::api::openapi_document()).unwrap()
}

/// Method, path and description of each operation.
fn described(document: &Value) -> Vec<(String, &str, &Value)> {
    let items = document["paths"].as_object().unwrap().iter();
    let operations = items.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    });
    operations.collect()
}

#[test]
fn every_kind_of_problem_is_described_with_its_status() {
    let document = document();
    // Some are answered before an operation is looked for.
    let general = document["info"]["description"].as_str().unwrap();
    let is_general =
        |refusal: &Refusal| general.contains(&format!("{} `{}`", refusal.status, refusal.slug));
    let mut answered: BTreeSet<Refusal> = Refusal::all().into_iter().filter(is_general).collect();
    for (method, path, operation) in described(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let Some(reference) = answer["$ref"].as_str() else {
                assert!(status.starts_with(['1', '2', '3']), "{method} {path}: {status}");
                continue;
            };
            let answer = document.pointer(&reference[1..]).unwrap();
            assert!(answer["content"]["application/problem+json"].is_object());
            let described = answer["description"].as_str().unwrap();
            for refusal in Refusal::all() {
                if described.contains(&format!("`{}`: {}.", refusal.slug, refusal.title)) {
                    assert_eq!(refusal.status.to_string(), *status, "{method} {path}");
                    answered.insert(refusal);
                }
            }
        }
    }
    assert_eq!(answered, Refusal::all().into_iter().collect());
}

#[test]
fn what_is_shared_is_referred_to_and_nothing_else_is_kept() {
    let document = document();
    let text = document.to_string();
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
            let reference = format!("\"#/components/{kind}/{name}\"");
            assert!(text.contains(&reference), "nothing refers to {reference}");
        }
    }
}

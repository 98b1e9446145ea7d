//! The OpenAPI document: the handlers' own descriptions, and what is derived from the code.
//!
//! A handler describes its query, its body and its answer. [`operations`] adds what follows from the
//! routes and the types of problem: keys, scopes, headers, refusals. [`schemas`] adds what
//! follows from MT5's tables: names of integers, enumerations, what may be `null`. Neither can drift
//! from the code that answers, and the tests call each operation and compare.

mod components;
mod operations;
mod problem;
mod schemas;
pub mod time;

use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use utoipa::OpenApi;

use super::filters::route::Operation;
use super::routes;

/// The document, which never changes while a process runs.
pub static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi_document().into());

#[derive(OpenApi)]
#[openapi(
    info(title = "mt5-gateway", description = include_str!("description.md")),
    servers((url = "/", description = "The gateway that serves this document")),
    tags(
        (name = "accounts", description = "The configured accounts and their terminals"),
        (name = "terminal", description = "What a terminal says about itself and its account"),
        (name = "symbols", description = "Symbols and their present prices"),
        (name = "history", description = "Bars, ticks, and the orders and deals of the past"),
        (name = "streams", description = "Changes as they happen"),
        (name = "positions", description = "Open positions"),
        (name = "orders", description = "Pending orders"),
        (name = "trading", description = "Trades, and what became of them"),
        (name = "halt", description = "The red button: nothing is opened any more"),
        (name = "health", description = "For those who watch the gateway"),
    ),
    components(schemas(problem::ProblemBody)),
)]
struct Document;

/// The parts in the order in which they are read.
#[derive(Serialize)]
struct Ordered {
    openapi: Value,
    info: Value,
    servers: Value,
    tags: Value,
    paths: Value,
    components: Value,
}

/// The OpenAPI document as JSON.
pub fn openapi_document() -> String {
    let (_, routes) = routes::chain(&DOCUMENT);
    let operations = routes.operations();
    let mut document = Document::openapi();
    for operation in operations {
        (operation.describe)(&mut document);
    }
    let described = serde_json::to_value(document).unwrap_or_default();
    serde_json::to_string_pretty(&completed(described, operations)).unwrap_or_default()
}

fn completed(mut document: Value, operations: &[Operation]) -> Ordered {
    operations::complete(&mut document, operations);
    schemas::complete(&mut document);
    let mut take = |part: &str| document[part].take();
    Ordered {
        openapi: take("openapi"),
        info: take("info"),
        servers: take("servers"),
        tags: take("tags"),
        paths: take("paths"),
        components: take("components"),
    }
}

#[cfg(test)]
mod tests;

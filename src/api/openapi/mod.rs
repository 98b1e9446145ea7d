//! The OpenAPI document: the handlers' own descriptions, and what is derived from the code.
//!
//! A handler states its query, its body and its answer. [`operations`] adds what follows from the
//! table of routes and the kinds of problem: keys, scopes, headers, refusals. [`schemas`] adds what
//! follows from MT5's tables: names of integers, enumerations, what may be `null`. Neither can drift
//! from the code that answers, and the tests call each operation and compare.

mod operations;
mod schemas;

use serde::Serialize;
use serde_json::Value;
use utoipa::OpenApi;

use super::routes;

pub use self::schemas::TimeBody;

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
        (name = "health", description = "For those who watch the gateway"),
    ),
    paths(
        routes::list, routes::one, routes::restart,
        routes::ping, routes::error, routes::version, routes::terminal, routes::account,
        routes::symbols, routes::symbols_total, routes::symbol, routes::tick, routes::book, routes::select,
        routes::rates, routes::ticks, routes::stream,
        routes::positions, routes::positions_total, routes::position,
        routes::orders, routes::orders_total, routes::order,
        routes::history_orders, routes::history_orders_total,
        routes::history_deals, routes::history_deals_total,
        routes::place_order, routes::check_order, routes::modify_order, routes::cancel_order,
        routes::modify_position, routes::close_position, routes::close_position_with,
        routes::calc_margin, routes::calc_profit, routes::trades, routes::trade, routes::resolve_trade,
        routes::root, routes::console, routes::livez, routes::readyz, routes::metrics,
    ),
    components(schemas(schemas::ProblemBody)),
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

/// The document as JSON.
pub fn document() -> String {
    let described = serde_json::to_value(Document::openapi()).unwrap_or_default();
    serde_json::to_string_pretty(&completed(described)).unwrap_or_default()
}

fn completed(mut document: Value) -> Ordered {
    operations::complete(&mut document, &routes::operations());
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

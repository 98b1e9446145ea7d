//! What operations refer to instead of repeating it: parameters, and the headers of answers.

use serde_json::{Value, json};

use crate::api::export::Format;

/// The parameters that operations share.
pub fn parameters() -> Value {
    let formats: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    let ticket =
        json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX });
    json!({
        "account": {
            "name": "account", "in": "path", "required": true,
            "description": "Name of a configured account",
            "schema": { "type": "string" }, "example": "demo",
        },
        "symbol": {
            "name": "symbol", "in": "path", "required": true,
            "description": "Name of a symbol",
            "schema": { "type": "string" }, "example": "EURUSD",
        },
        "ticket": {
            "name": "ticket", "in": "path", "required": true,
            "description": "Ticket of the order or position",
            "schema": ticket, "example": 1,
        },
        "trade_id": {
            "name": "trade_id", "in": "path", "required": true,
            "description": "Id from the answer to a trade",
            "schema": { "type": "string" },
        },
        "format": {
            "name": "format", "in": "query",
            "description": "Format of the rows; unless given, the header `Accept` chooses",
            "schema": { "type": "string", "enum": formats },
        },
        "Request-Timeout": {
            "name": "Request-Timeout", "in": "header",
            "description": "How long to wait for the answer, in seconds above 0; at most and unless \
                given `server.request_timeout`. It ends the wait, not a trade.",
            "schema": { "type": "number", "exclusiveMinimum": 0 }, "example": 10,
        },
        "X-Request-Id": {
            "name": "X-Request-Id", "in": "header",
            "description": "Name of the request in the answer and in the gateway's log: 1 to 128 \
                visible ASCII characters. Anything else is replaced.",
            "schema": { "type": "string" },
        },
        "If-None-Match": {
            "name": "If-None-Match", "in": "header",
            "description": "The `ETag` of an earlier answer: 304 without rows if they are the same",
            "schema": { "type": "string" },
        },
        "Idempotency-Key": {
            "name": "Idempotency-Key", "in": "header",
            "description": "Names the trade: 1 to 255 visible ASCII characters, with or without quotes. \
                A repetition with the same key and body answers what became of the first and never \
                trades again.",
            "schema": {
                "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$",
            },
        },
        "Send-Within": {
            "name": "Send-Within", "in": "header",
            "description": "Seconds from its arrival within which the trade is sent or withdrawn; at \
                most and unless given the account's `send_within`, for what only reduces risk \
                `send_within_close`",
            "schema": { "type": "number", "exclusiveMinimum": 0 }, "example": 2.5,
        },
        "Last-Event-ID": {
            "name": "Last-Event-ID", "in": "header",
            "description": "Id of the event to go on after",
            "schema": { "type": "string" },
        },
    })
}

/// The headers of answers.
pub fn headers() -> Value {
    let text =
        |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let seconds = |description: &str, least: u8| json!({ "description": description, "schema": { "type": "integer", "minimum": least } });
    json!({
        "X-Request-Id": text("Name of the request, also in the gateway's log"),
        "ETag": text("Names the rows of a past that does not change any more; for `If-None-Match`"),
        "Age": seconds("Seconds since the rows were read from the terminal, if they come from memory", 0),
        "History-Window": text(
            "The dates that were applied, `FROM/TO` in unix seconds of the server's clock, `*` where \
             open; only where the zone of that clock is not known"
        ),
        "Location": text("Path of what was made, or of what to look at instead"),
        "Idempotent-Replayed": {
            "description": "There if the answer is about an earlier request with this `Idempotency-Key`",
            "schema": { "type": "string", "const": "true" },
        },
        "Retry-After": seconds("Seconds after which the request may go better", 1),
        "WWW-Authenticate": text("`Bearer`"),
        "Allow": text("The methods that the path has"),
    })
}

//! The body that sets an account.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::context::shorten;

/// The settings of an account, as `[accounts.NAME]` has them. A new one needs `login`, `server` and `terminal`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "shows the shape of a body that the settings read")]
pub struct AccountSettings {
    /// Its number at its broker.
    #[schema(nullable = false)]
    login: Option<u64>,
    /// Its broker's server.
    #[schema(nullable = false)]
    server: Option<String>,
    /// Never shown again.
    #[schema(write_only, nullable = false)]
    password: Option<String>,
    /// Terminals, 1 by default.
    #[schema(nullable = false)]
    sessions: Option<u64>,
    /// Calls that may wait for each terminal.
    #[schema(nullable = false)]
    queue: Option<u64>,
    /// Whether it may trade.
    #[schema(nullable = false)]
    trade: Option<bool>,
    /// Whether it is paused.
    #[schema(nullable = false)]
    paused: Option<bool>,
    /// From a trade's arrival until it is sent, at most.
    #[schema(example = "5s", nullable = false)]
    send_within: Option<String>,
    /// The same for trades that only reduce risk.
    #[schema(example = "30s", nullable = false)]
    send_within_close: Option<String>,
    /// The zone of its server's clock.
    #[schema(example = "New_York+7", nullable = false)]
    server_time_zone: Option<String>,
    /// Its terminal.
    #[schema(nullable = false)]
    terminal: Option<AccountTerminal>,
}

/// A terminal: one of both.
#[derive(ToSchema)]
#[expect(dead_code, reason = "shows the shape of a body that the settings read")]
pub struct AccountTerminal {
    /// A `[terminal_profiles.NAME]` of the gateway's own files.
    #[schema(nullable = false)]
    profile: Option<String>,
    /// `simulator`.
    #[schema(example = "simulator", nullable = false)]
    kind: Option<String>,
}

/// The settings that a body may have, and what each is in JSON.
const FIELDS: [(&str, &str); 11] = [
    ("login", "a number"),
    ("server", "a text"),
    ("password", "a text"),
    ("sessions", "a number"),
    ("queue", "a number"),
    ("trade", "true or false"),
    ("paused", "true or false"),
    ("send_within", "a text"),
    ("send_within_close", "a text"),
    ("server_time_zone", "a text"),
    ("terminal", "an object"),
];

/// What a value is in JSON.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Makes sure that settings run no code and read no file: only those of the gateway's host decide that.
/// Their values are checked with all other settings.
pub fn check_settings(settings: &Map<String, Value>) -> Result<(), String> {
    const OF_THE_HOST: &str = "names what runs or is read on the gateway's host, which only its own \
                               files may; use a `[terminal_profiles.NAME]`";
    if settings.contains_key("password_file") {
        return Err(format!("field `password_file` {OF_THE_HOST}, or send `password`"));
    }
    for (name, value) in settings {
        let Some((_, expected)) = FIELDS.iter().find(|(field, _)| field == name) else {
            let names: Vec<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
            let (name, names) = (shorten(name), names.join(", "));
            return Err(format!("field `{name}` is unknown: expected {names}"));
        };
        if kind(value) != *expected {
            return Err(format!("field `{name}`: expected {expected}, got {}", kind(value)));
        }
    }
    let expected =
        "field `terminal`: expected {\"profile\": \"NAME\"} or {\"kind\": \"simulator\"}";
    let terminal = match settings.get("terminal") {
        None => return Ok(()),
        Some(terminal) => terminal.as_object().ok_or(expected)?,
    };
    for (name, value) in terminal {
        match (name.as_str(), value) {
            ("profile", Value::String(_)) => {}
            ("kind", Value::String(kind)) if kind == "simulator" => {}
            ("kind" | "profile", _) => return Err(expected.to_owned()),
            (other, _) => {
                let other = shorten(other);
                return Err(format!("field `terminal.{other}` {OF_THE_HOST}"));
            }
        }
    }
    if terminal.len() == 1 { Ok(()) } else { Err(expected.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_a_body_run_no_code_and_read_no_file() {
        let profile = json!({ "profile": "broker" });
        let good = [
            json!({}),
            json!({ "login": 1, "terminal": profile }),
            json!({ "terminal": { "kind": "simulator" } }),
        ];
        for settings in good {
            assert_eq!(check_settings(settings.as_object().unwrap()), Ok(()), "{settings}");
        }
        for (settings, field) in [
            (json!({ "password_file": "x" }), "password_file"),
            (json!({ "nonsense": 1 }), "nonsense"),
            (json!({ "terminal.python": "sh" }), "terminal.python"),
            (json!({ "login": null }), "login"),
            (json!({ "login": "7" }), "login"),
            (json!({ "trade": 1 }), "trade"),
            (json!({ "password": ["p"] }), "password"),
            (json!({ "terminal": null }), "terminal"),
            (json!({ "terminal": "simulator" }), "terminal"),
            (json!({ "terminal": {} }), "terminal"),
            (json!({ "terminal": { "kind": "worker" } }), "terminal"),
            (json!({ "terminal": { "profile": 1 } }), "terminal"),
            (json!({ "terminal": { "profile": "a", "kind": "simulator" } }), "terminal"),
            (
                json!({ "terminal": { "kind": "simulator", "bars": { "EURUSD": "x" } } }),
                "terminal.bars",
            ),
            (json!({ "terminal": { "profile": "a", "python": "sh" } }), "terminal.python"),
            (json!({ "terminal": { "profile": "a", "module": "os" } }), "terminal.module"),
            (json!({ "terminal": { "profile": "a", "path": "x" } }), "terminal.path"),
            (json!({ "terminal": { "profile": "a", "template": "x" } }), "terminal.template"),
            (json!({ "terminal": { "profile": "a", "connect": {} } }), "terminal.connect"),
        ] {
            let fault = check_settings(settings.as_object().unwrap()).unwrap_err();
            assert!(fault.starts_with(&format!("field `{field}`")), "{fault}");
        }
    }
}

//! The body that sets an account.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
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
    #[schema(max_length = 63, nullable = false)]
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
    /// Whether it is paused. Without it, an account that was paused by its route is resumed.
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

/// The body as it came. Neither its fields nor those of its terminal are repeated: readers of JSON differ
/// in which one they take.
#[derive(Debug)]
pub struct SettingsBody(pub Map<String, Value>);

impl<'de> Deserialize<'de> for SettingsBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SettingsBody, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = SettingsBody;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object, and one in `terminal`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SettingsBody, A::Error> {
                let mut given = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = match name.as_str() {
                        "terminal" => Value::Object(map.next_value::<SettingsBody>()?.0),
                        _ => map.next_value()?,
                    };
                    if given.contains_key(&name) {
                        let name = shorten(&name);
                        return Err(A::Error::custom(format!(
                            "field `{name}` is given more than once"
                        )));
                    }
                    given.insert(name, value);
                }
                Ok(SettingsBody(given))
            }
        }

        deserializer.deserialize_map(Object)
    }
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

/// Faults that are told of a body, and of its terminal.
const MOST_FAULTS: usize = 32;

const OF_THE_HOST: &str = "names what runs or is read on the gateway's host, which only its own files \
                           may: name one of its `[terminal_profiles.NAME]` by `profile`";

/// Makes sure that settings run no code and read no file: only those of the gateway's host decide that.
/// Their values are checked with all other settings.
///
/// # Errors
/// Every fault, up to a number that no honest body has.
pub fn check_settings(settings: &Map<String, Value>) -> Result<(), Vec<String>> {
    let mut faults = vec![];
    for (name, value) in settings {
        if faults.len() == MOST_FAULTS {
            break;
        }
        let field = FIELDS.iter().find(|(field, _)| field == name);
        match field {
            None if name == "password_file" => {
                let message = "names a file of the gateway's host, which only its own files may: send `password`";
                faults.push(format!("field `{name}` {message}"));
            }
            None => {
                let names: Vec<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
                let (name, names) = (shorten(name), names.join(", "));
                faults.push(format!("field `{name}` is unknown: expected {names}"));
            }
            Some((_, expected)) if kind(value) != *expected => {
                faults.push(format!("field `{name}`: expected {expected}, got {}", kind(value)));
            }
            Some(_) => {}
        }
    }
    if let Some(Value::Object(terminal)) = settings.get("terminal") {
        faults.extend(terminal_faults(terminal));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn terminal_faults(terminal: &Map<String, Value>) -> Vec<String> {
    let is_known = |name: &String| matches!(name.as_str(), "profile" | "kind");
    let of_the_host = terminal.keys().filter(|name| !is_known(name));
    let mut faults: Vec<String> = of_the_host
        .take(MOST_FAULTS)
        .map(|name| format!("field `terminal.{}` {OF_THE_HOST}", shorten(name)))
        .collect();
    let is_expected = match (terminal.get("profile"), terminal.get("kind")) {
        (Some(profile), None) => profile.is_string(),
        (None, Some(kind)) => kind == "simulator",
        _ => false,
    };
    if !is_expected {
        let expected =
            "field `terminal`: expected {\"profile\": \"NAME\"} or {\"kind\": \"simulator\"}";
        faults.push(expected.to_owned());
    }
    faults
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
            let faults = check_settings(settings.as_object().unwrap()).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(&format!("field `{field}`")), "{faults:?}");
        }
    }

    #[test]
    fn a_repeated_field_is_refused() {
        let read = |text: &str| serde_json::from_str::<SettingsBody>(text);
        let SettingsBody(settings) =
            read(r#"{ "login": 1, "terminal": { "profile": "a" }, "trade": true }"#).unwrap();
        let expected = json!({ "login": 1, "terminal": { "profile": "a" }, "trade": true });
        assert_eq!(Value::Object(settings), expected);
        for (text, fault) in [
            (r#"{ "login": 1, "login": 1 }"#, "field `login` is given more than once"),
            (r#"{ "terminal": { "profile": "a", "profile": "b" } }"#, "field `profile` is given"),
            (r#"{ "terminal": {}, "terminal": {} }"#, "field `terminal` is given"),
            (r#"{ "terminal": "simulator" }"#, "expected an object, and one in `terminal`"),
            ("[]", "expected an object"),
        ] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains(fault), "{told}");
        }
    }

    #[test]
    fn every_fault_of_a_body_is_told() {
        let settings = json!({
            "login": "7", "trade": 1, "nonsense": 1, "password_file": "x",
            "terminal": { "python": "sh", "kind": "worker" },
        });
        let faults = check_settings(settings.as_object().unwrap()).unwrap_err();
        for field in ["login", "trade", "nonsense", "password_file", "terminal.python", "terminal"]
        {
            let field = format!("field `{field}`");
            assert!(faults.iter().any(|fault| fault.starts_with(&field)), "{field}: {faults:?}");
        }
        assert_eq!(faults.len(), 6, "{faults:?}");
    }
}

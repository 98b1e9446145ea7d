//! What a gateway's answer to a halt tells a person. Pure functions.

use serde_json::Value;

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// A line for each thing.
    pub text: String,
    /// Whether all that was asked for is done.
    pub is_done: bool,
}

/// What became of a halt, or of lifting one. `None`: the answer does not say it, so nothing is confirmed.
pub fn told(answer: &Value, lifted: bool) -> Option<Told> {
    let mut told = Told { text: String::new(), is_done: true };
    // That of all accounts has a list, that of one account is one.
    let one = [answer.clone()];
    let accounts = answer["accounts"].as_array();
    let standings = accounts.map_or(&one[..], Vec::as_slice);
    if standings.iter().any(|account| !account["halted"].is_boolean()) {
        return None;
    }
    if lifted {
        standings.iter().for_each(|account| told.tell_standing(account));
        return accounts.is_none_or(|_| answer.get("halt_of_all").is_some()).then_some(told);
    }
    if accounts.is_some() {
        answer["halt_of_all"]["since"].as_str()?;
        told.line(&format!("all accounts are halted{}", since(&answer["halt_of_all"])));
    } else {
        answer["halted"].as_bool().filter(|halted| *halted)?;
        told.tell_standing(answer);
    }
    told.is_done = answer["kept"].as_bool()?;
    if !told.is_done {
        told.line("the halt is not on disk, and would end with the gateway; repeat the command");
    }
    standings.iter().for_each(|account| told.tell_rest(account));
    Some(told)
}

impl Told {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn tell_standing(&mut self, account: &Value) {
        let name = text(&account["account"]);
        let standing = if account["halt"].is_object() {
            format!("is halted{}", since(&account["halt"]))
        } else if account["halt_of_all"].is_object() {
            format!("is halted with all accounts{}", since(&account["halt_of_all"]))
        } else {
            "is not halted".to_owned()
        };
        self.line(&format!("{name} {standing}"));
    }

    /// What of an account may still be opened.
    fn tell_rest(&mut self, account: &Value) {
        let name = text(&account["account"]);
        for trade in list(&account["sent"]) {
            let trade = text(trade);
            self.line(&format!("{name}: trade {trade} was sent before, and may be carried out"));
        }
        let cancelled = list(&account["cancelled"]);
        for order in list(&account["orders"]) {
            let ticket = &order["ticket"];
            let attempt = cancelled.iter().find(|attempt| attempt["ticket"] == *ticket);
            let what =
                format!("order {ticket}, {} {}", order["volume_current"], text(&order["symbol"]));
            match attempt {
                Some(attempt) if attempt["cancelled"] == true => {
                    self.line(&format!("{name}: {what}, is cancelled"));
                }
                Some(attempt) => {
                    self.is_done = false;
                    let problem = text(&attempt["problem"]);
                    let trade = match attempt["trade_id"].as_str() {
                        Some(trade) => format!(" (trade {trade})"),
                        None => String::new(),
                    };
                    self.line(&format!(
                        "{name}: {what}, was not cancelled and may be filled: {problem}{trade}; repeat the command"
                    ));
                }
                None => self.line(&format!("{name}: {what}, rests and may be filled")),
            }
        }
        if let Some(problem) = account["problem"].as_str() {
            self.is_done = false;
            self.line(&format!("{name}: {problem}; repeat the command"));
        }
    }
}

fn since(halt: &Value) -> String {
    let since = text(&halt["since"]);
    match halt["api_key"].as_str() {
        Some(key) => format!(" since {since}, by {key}"),
        None => format!(" since {since}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_may_still_be_opened_is_told() {
        let order = json!({ "ticket": 7, "volume_current": 0.1, "symbol": "EURUSD" });
        let account = json!({
            "account": "demo", "halted": true, "kept": true, "halt": null, "sent": ["a"],
            "orders": [order, { "ticket": 8, "volume_current": 1.0, "symbol": "X" }],
            "cancelled": [
                { "ticket": 7, "cancelled": true },
                { "ticket": 8, "cancelled": false, "problem": "no money", "trade_id": "t" },
            ],
            "problem": null,
        });
        let halt = json!({ "since": "2026-11-30T08:00:00Z", "api_key": "ops" });
        let hangs = json!({ "account": "main", "halted": true, "sent": [], "orders": null, "cancelled": [],
            "problem": "its terminal hangs" });
        let told = told(
            &json!({ "halt_of_all": halt, "kept": true, "accounts": [account, hangs] }),
            false,
        );
        let expected = "all accounts are halted since 2026-11-30T08:00:00Z, by ops\n\
            demo: trade a was sent before, and may be carried out\n\
            demo: order 7, 0.1 EURUSD, is cancelled\n\
            demo: order 8, 1.0 X, was not cancelled and may be filled: no money (trade t); repeat the \
             command\n\
            main: its terminal hangs; repeat the command\n";
        assert_eq!(told, Some(Told { text: expected.to_owned(), is_done: false }));
    }

    #[test]
    fn one_account_is_told_by_its_name() {
        let halt = json!({ "since": "2026-11-30T08:00:00Z", "api_key": null });
        let order = json!({ "ticket": 7, "volume_current": 0.1, "symbol": "EURUSD" });
        let answer = json!({ "account": "demo", "halted": true, "kept": true, "halt": halt,
            "sent": [], "orders": [order], "cancelled": [], "problem": null });
        let expected = "demo is halted since 2026-11-30T08:00:00Z\n\
            demo: order 7, 0.1 EURUSD, rests and may be filled\n";
        assert_eq!(told(&answer, false), Some(Told { text: expected.to_owned(), is_done: true }));
        let lifted = json!({ "account": "demo", "halted": false, "halt": null });
        let expected = Told { text: "demo is not halted\n".to_owned(), is_done: true };
        assert_eq!(told(&lifted, true), Some(expected));
    }

    #[test]
    fn what_does_not_say_it_confirms_nothing() {
        let lifted = json!({ "account": "demo", "halted": false, "halt": null });
        for answer in [Value::Null, json!("page"), json!({ "accounts": [] }), lifted] {
            assert_eq!(told(&answer, false), None, "{answer}");
        }
        for answer in [Value::Null, json!({ "accounts": [] }), json!({ "accounts": [{}] })] {
            assert_eq!(told(&answer, true), None, "{answer}");
        }
        let halt = json!({ "since": "2026-11-30T08:00:00Z", "api_key": null });
        let lost =
            told(&json!({ "halt_of_all": halt, "kept": false, "accounts": [] }), false).unwrap();
        assert!(!lost.is_done && lost.text.contains("not on disk"), "{lost:?}");
    }
}

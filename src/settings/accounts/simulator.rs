//! A simulated terminal: `terminal.kind = "simulator"`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::mt5::{Error, Method, Retcode};
use crate::settings::limits::{HOUR, choice, duration, required_choice};
use crate::settings::reader::Reader;
use crate::settings::types::Setting;
use crate::terminal::simulator::{self, FaultKind, InjectedFault, MarginMode, Replay};

/// Simulated calls before a trade is carried out, each of which takes `latency`: two reads that
/// prepare it, the check of the login, and `order_send` itself.
const CALLS_BEFORE_SENDING: u32 = 4;

pub fn options(
    reader: &mut Reader,
    section: &str,
    login: u64,
    server: String,
) -> simulator::Options {
    let field = |field: &str| format!("{section}.{field}");
    let balance = reader.value(&field("balance"), 10_000.0);
    if balance < 0.0 {
        reader.fault(&field("balance"), "expected an amount from 0 up");
    }
    let commission = reader.value(&field("commission"), 0.0);
    if commission < 0.0 {
        reader.fault(&field("commission"), "expected an amount from 0 up");
    }
    let margin_mode = choice(
        reader,
        &field("margin_mode"),
        &[("hedging", MarginMode::Hedging), ("netting", MarginMode::Netting)],
    );
    simulator::Options {
        login,
        server,
        seed: reader.value(&field("seed"), 1),
        balance,
        margin_mode,
        commission,
        bars: bars(reader, &field("bars")),
        latency: duration(reader, &field("latency"), Duration::ZERO, HOUR),
        faults: faults(reader, &field("faults")),
    }
}

fn bars(reader: &mut Reader, section: &str) -> BTreeMap<String, Arc<Replay>> {
    let mut bars = BTreeMap::new();
    for name in reader.rest(section) {
        let key = format!("{section}.{name}");
        // Names from the environment come in lower case.
        let symbol = simulator::symbols().find(|symbol| symbol.eq_ignore_ascii_case(&name));
        let Some(path) = reader.file(&key) else {
            continue;
        };
        let Some(symbol) = symbol else {
            let known: Vec<&str> = simulator::symbols().collect();
            reader.fault(&key, format!("expected a simulated symbol: {}", known.join(", ")));
            continue;
        };
        match Replay::load(&path) {
            Ok(replay) => {
                bars.insert(symbol.to_owned(), Arc::new(replay));
            }
            Err(fault) => reader.fault(&key, fault),
        }
    }
    bars
}

fn faults(reader: &mut Reader, section: &str) -> BTreeMap<Method, InjectedFault> {
    let mut faults = BTreeMap::new();
    for name in reader.names(section) {
        let field = |field: &str| format!("{section}.{name}.{field}");
        let every = reader.value(&field("every"), 1u64);
        if every == 0 {
            reader.fault(&field("every"), format!("expected {} above 0", u64::EXPECTED));
        }
        let kinds = ["code", "hang", "exit", "retcode"].map(|kind| (kind, kind));
        let kind = match required_choice(reader, &field("kind"), &kinds) {
            None => {
                reader.skip(&format!("{section}.{name}"));
                continue;
            }
            Some("hang") => FaultKind::Hang,
            Some("exit") => FaultKind::Exit,
            Some("retcode") => {
                let code: Option<i64> = reader.required(&field("code"));
                let retcode = Retcode::from_code(code.unwrap_or_default());
                let fits = name == Method::OrderSend.name() && retcode != Retcode::Other;
                if code.is_some() && !fits {
                    reader.fault(
                        &field("code"),
                        "expected a return code of the trade server, such as 10018, for order_send",
                    );
                }
                FaultKind::Retcode(retcode)
            }
            Some(_) => {
                let code: i64 = reader.value(&field("code"), -1);
                let message = reader.value(&field("message"), "simulated fault".to_owned());
                FaultKind::Error(Error::new(code, message))
            }
        };
        let when = [("before", false), ("after", true)];
        let after = choice(reader, &field("when"), &when);
        match Method::from_name(&name) {
            Some(method) => {
                faults.insert(method, InjectedFault { kind, every: every.max(1), after });
            }
            None => reader.fault(&field("kind"), format!("there is no MT5 method `{name}`")),
        }
    }
    faults
}

/// Warns that a simulated terminal is too slow for trades: if each call before a trade takes
/// `latency`, no trade is sent within `send_within` of its arrival.
pub fn latency_warning(send_within: Duration, latency: Duration) -> Option<String> {
    let before_sending = latency.saturating_mul(CALLS_BEFORE_SENDING);
    if before_sending < send_within {
        return None;
    }
    let limit = (send_within / CALLS_BEFORE_SENDING).as_millis();
    let limit = Duration::from_millis(u64::try_from(limit).unwrap_or(u64::MAX));
    Some(format!(
        "no trade can be sent in time: {CALLS_BEFORE_SENDING} calls before it take {}, and it must \
         be sent within {}; write less than {}",
        before_sending.show(),
        send_within.show(),
        limit.show(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_warning_is_about_four_calls_that_take_as_long_as_a_trade_has() {
        let milliseconds = Duration::from_millis;
        let cases = [
            (5_000, 0, false),
            (5_000, 1_249, false),
            (5_000, 1_250, true),
            (3_000, 749, false),
            (3_000, 750, true),
            (60_000, 5_000, false),
        ];
        for (send_within, latency, warns) in cases {
            let warning = latency_warning(milliseconds(send_within), milliseconds(latency));
            assert_eq!(warning.is_some(), warns, "{send_within} {latency}");
        }
        assert_eq!(
            latency_warning(milliseconds(3_000), milliseconds(1_500)).unwrap(),
            "no trade can be sent in time: 4 calls before it take \"6s\", and it must be sent \
             within \"3s\"; write less than \"750ms\""
        );
        assert!(latency_warning(Duration::from_secs(5), Duration::MAX).is_some());
    }
}

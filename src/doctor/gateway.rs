//! Asks a gateway about its accounts.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::ipc::reader::StreamReader;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::shown::{MarketWatch, QuoteShown, ReadyShown, Shown, Status, TerminalShown};
use crate::account_name::AccountName;
use crate::control::{Remote, Unanswered};
use crate::mt5::{ClockVerdict, ServerClock, Tick, TickLook, UtcTime, judge, seconds_ahead};

/// How long an answer is waited for: longer than a gateway waits for its terminals unless it was told to.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// How long the questions about an account may take together. Accounts are asked for at the same time, so
/// this is how long those of all accounts take, too.
pub const LOOK_WITHIN: Duration = Duration::from_secs(90);

/// How long a program may take to say whether it is a gateway.
const KNOCK_WITHIN: Duration = Duration::from_secs(10);

/// From one look at the newest ticks to the next, and how often they are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOKS: usize = 5;

/// How many symbols are looked at.
const LOOKED_AT: usize = 3;

/// What answers where a gateway is expected.
pub enum Knock {
    /// A gateway.
    Gateway,
    /// Something else.
    Other,
    /// Somebody takes connections, and does not answer as HTTP does.
    Silent(String),
    /// Nobody.
    Nobody(String),
}

/// Finds out whether a gateway is there, without a key.
pub async fn knock(remote: &Remote) -> Knock {
    match tokio::time::timeout(KNOCK_WITHIN, remote.ask(Method::GET, "/readyz")).await {
        Err(_) => Knock::Silent(format!("for {KNOCK_WITHIN:?}")),
        Ok(Err(Unanswered::NotListening { fault, .. })) => Knock::Nobody(fault),
        Ok(Err(Unanswered::NoHttp { fault, .. } | Unanswered::NoRequest(fault))) => {
            Knock::Silent(fault)
        }
        Ok(Ok((_, body))) => {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            let is_problem =
                answer["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/"));
            if answer["accounts"].is_object() || is_problem { Knock::Gateway } else { Knock::Other }
        }
    }
}

/// Why a gateway does not show its accounts.
#[derive(Debug)]
pub enum NotShown {
    /// It wants a key, or another one. Its words.
    Key(String),
    /// Another reason.
    Other(String),
}

/// Every account that the gateway shows, by name.
///
/// # Errors
/// Why it shows none.
pub async fn accounts(remote: &Remote) -> Result<BTreeMap<String, Status>, NotShown> {
    let (status, body) = ask(remote, "/api/v1/accounts").await.map_err(NotShown::Other)?;
    match status {
        StatusCode::OK => {
            let accounts: Vec<Status> = read(&body).map_err(NotShown::Other)?;
            Ok(accounts.into_iter().map(|account| (account.name.clone(), account)).collect())
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NotShown::Key(detail(&body))),
        _ => Err(NotShown::Other(detail(&body))),
    }
}

/// The accounts that a gateway shows without a key, and why each may not trade.
pub async fn ready_accounts(remote: &Remote) -> BTreeMap<String, ReadyShown> {
    let Ok((_, body)) = ask(remote, "/readyz").await else {
        return BTreeMap::new();
    };
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let accounts = answer["accounts"].as_object().cloned().unwrap_or_default();
    let count = |of: &Value| usize::try_from(of.as_u64().unwrap_or_default()).unwrap_or_default();
    let shown = accounts.into_iter().map(async |(name, account)| {
        let reasons = reasons_against_trading(remote, &name).await;
        let (ready, sessions) = (count(&account["ready"]), count(&account["sessions"]));
        (name, ReadyShown { ready, sessions, reasons })
    });
    join_all(shown).await.into_iter().collect()
}

/// Why an account may not trade, asked for this account alone: of several the gateway names reasons only
/// if none may. `None`: it was not said.
async fn reasons_against_trading(remote: &Remote, name: &str) -> Option<Vec<String>> {
    let name = AccountName::parse(name)?;
    let (status, body) = ask(remote, &format!("/readyz?account={name}&for=trade")).await.ok()?;
    if status == StatusCode::OK {
        return Some(vec![]);
    }
    let answer: Value = serde_json::from_slice(&body).ok()?;
    let reasons = answer["reasons"][name.as_str()].as_array()?.iter();
    Some(reasons.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// What a gateway shows of an account, whose terminal is asked if it is ready.
pub async fn look(remote: &Remote, status: Status, is_own: bool) -> Shown {
    let terminal = if status.ready && !status.paused {
        let questions = Questions { remote, until: Instant::now() + LOOK_WITHIN };
        Some(look_at_terminal(&questions, &status).await)
    } else {
        None
    };
    Shown { status, is_own, terminal }
}

async fn look_at_terminal(questions: &Questions<'_>, status: &Status) -> TerminalShown {
    let of_account = format!("/api/v1/accounts/{}", status.name);
    let account = questions.get(&format!("{of_account}/account")).await;
    let version = questions.get(&format!("{of_account}/version")).await;
    let table = questions.get_bytes(&format!("{of_account}/symbols?format=arrow")).await;
    let symbols = table.and_then(|table| market_watch(&table));
    let newest: Vec<String> = match &symbols {
        Ok(watch) => {
            watch.quotes().iter().take(LOOKED_AT).map(|quote| quote.symbol.clone()).collect()
        }
        Err(_) => vec![],
    };
    let clock = status.server_time_zone.as_deref().and_then(|zone| ServerClock::parse(zone).ok());
    let looks = look_at_ticks(questions, &of_account, &newest, &clock.unwrap_or_default()).await;
    TerminalShown { version, account, symbols, looks }
}

/// Looks at the newest ticks of symbols, until they say how far the server's clock is ahead.
async fn look_at_ticks(
    questions: &Questions<'_>,
    of_account: &str,
    symbols: &[String],
    clock: &ServerClock,
) -> BTreeMap<String, Vec<TickLook>> {
    let mut looks: BTreeMap<String, Vec<TickLook>> = BTreeMap::new();
    for round in 0..LOOKS {
        if round > 0 && !symbols.is_empty() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        for symbol in symbols {
            let encoded = utf8_percent_encode(symbol, NON_ALPHANUMERIC);
            let tick = questions.get(&format!("{of_account}/symbols/{encoded}/tick")).await;
            let at_msc = Timestamp::now().as_millisecond();
            let Ok(Tick { time, time_msc, .. }) = tick else {
                continue;
            };
            // The gateway gives UTC if it knows the zone.
            let ahead = clock.show(UtcTime::from_seconds(time)).seconds() - time;
            let tick_msc = time_msc.max(time.saturating_mul(1000)) + ahead * 1000;
            looks.entry(symbol.clone()).or_default().push(TickLook { tick_msc, at_msc });
        }
        let says = |looks: &Vec<TickLook>| {
            seconds_ahead(looks).is_some() || (judge(clock, looks) == ClockVerdict::Fits)
        };
        if looks.values().any(says) {
            break;
        }
    }
    looks
}

/// The symbols of a table in Arrow's format.
fn market_watch(table: &[u8]) -> Result<MarketWatch, String> {
    let text = |fault: arrow::error::ArrowError| fault.to_string();
    let mut watch = MarketWatch { known: 0, shown: vec![] };
    for batch in StreamReader::try_new(Cursor::new(table), None).map_err(text)? {
        let batch = batch.map_err(text)?;
        watch.known += batch.num_rows();
        let shown = quotes(&batch).ok_or("the table of symbols lacks a column")?;
        watch.shown.extend(shown);
    }
    Ok(watch)
}

fn quotes(batch: &RecordBatch) -> Option<Vec<QuoteShown>> {
    let column = |name: &str| batch.column_by_name(name);
    let (names, select) = (column("name")?, column("select")?.as_boolean_opt()?);
    let name = |row: usize| match names.as_string_opt::<i64>() {
        Some(names) => Some(names.value(row).to_owned()),
        None => Some(names.as_string_opt::<i32>()?.value(row).to_owned()),
    };
    let bids = column("bid")?.as_primitive_opt::<Float64Type>()?;
    let asks = column("ask")?.as_primitive_opt::<Float64Type>()?;
    let times = seconds(column("time")?)?;
    let shown = (0..batch.num_rows()).filter(|row| select.value(*row));
    let quote = |row: usize| {
        let (bid, ask, time) = (bids.value(row), asks.value(row), times[row]);
        Some(QuoteShown { symbol: name(row)?, bid, ask, time })
    };
    shown.map(quote).collect()
}

/// A column of times in seconds.
fn seconds(times: &dyn Array) -> Option<Vec<i64>> {
    if let Some(times) = times.as_primitive_opt::<Int64Type>() {
        return Some(times.values().to_vec());
    }
    let times = times.as_primitive_opt::<arrow::datatypes::TimestampMillisecondType>()?;
    Some(times.values().iter().map(|milliseconds| milliseconds.div_euclid(1000)).collect())
}

/// The questions about an account.
struct Questions<'a> {
    remote: &'a Remote,
    /// When they are given up.
    until: Instant,
}

impl Questions<'_> {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        read(&self.get_bytes(path).await?)
    }

    async fn get_bytes(&self, path: &str) -> Result<bytes::Bytes, String> {
        let asked = tokio::time::timeout_at(self.until, ask(self.remote, path)).await;
        let too_late =
            |_| Err(format!("the questions about the account have taken {LOOK_WITHIN:?} together"));
        let (status, body) = asked.unwrap_or_else(too_late)?;
        if status == StatusCode::OK { Ok(body) } else { Err(detail(&body)) }
    }
}

async fn ask(remote: &Remote, path: &str) -> Result<(StatusCode, bytes::Bytes), String> {
    match tokio::time::timeout(ANSWER_WITHIN, remote.ask(Method::GET, path)).await {
        Ok(answered) => answered.map_err(|unanswered| unanswered.to_string()),
        Err(_) => Err(format!("the gateway gave no answer within {ANSWER_WITHIN:?}")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|fault| format!("the gateway's answer is that of another version: {fault}"))
}

/// What a problem says.
fn detail(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    problem["detail"].as_str().unwrap_or("something that is no mt5-gateway answered").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc;

    use super::*;

    /// A gateway that answers this to `GET /readyz`, and nothing to anything else.
    fn hanging(ready: Value) -> Remote {
        let (sender, mut connections) = mpsc::unbounded_channel::<DuplexStream>();
        tokio::spawn(async move {
            while let Some(mut connection) = connections.recv().await {
                let body = ready.to_string();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let length = connection.read(&mut request).await.unwrap();
                    if request[..length].starts_with(b"GET /readyz HTTP") {
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                        connection.write_all((head + &body).as_bytes()).await.unwrap();
                    }
                    // Held open.
                    let _ = connection.read(&mut request).await;
                });
            }
        });
        Remote::within(sender)
    }

    #[tokio::test(start_paused = true)]
    async fn many_accounts_that_hang_take_no_longer_than_one() {
        let sessions = json!({ "ready": 1, "sessions": 1 });
        let accounts: serde_json::Map<String, Value> =
            (0..100).map(|index| (format!("account_{index}"), sessions.clone())).collect();
        let begun = Instant::now();
        let shown = ready_accounts(&hanging(json!({ "accounts": accounts }))).await;
        assert_eq!(shown.len(), 100);
        assert!(shown.values().all(|account| account.reasons.is_none()));
        assert!(begun.elapsed() < 2 * ANSWER_WITHIN, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_questions_about_an_account_have_a_limit_together() {
        let status = json!({
            "name": "main", "trade": true, "paused": false, "ready": true, "server_time_zone": null,
            "sessions": [], "trading": { "open": { "reasons": [] } },
        });
        let begun = Instant::now();
        let remote = hanging(json!({}));
        let shown = look(&remote, serde_json::from_value(status).unwrap(), false).await;
        let elapsed = begun.elapsed();
        assert!((LOOK_WITHIN..2 * LOOK_WITHIN).contains(&elapsed), "{elapsed:?}");
        let terminal = shown.terminal.unwrap();
        assert!(terminal.account.unwrap_err().contains("no answer within"));
        assert!(terminal.symbols.unwrap_err().contains("taken 90s together"));
    }
}

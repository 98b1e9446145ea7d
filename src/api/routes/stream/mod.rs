//! Streams of changes, as Server-Sent Events and over WebSocket.
//!
//! Both are written by a task of their own that takes from a [`Subscriber`](crate::streams::Subscriber) no
//! faster than the client reads; what a client is too slow for is told as a gap.

mod events;
mod server_sent;
mod web_socket;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, UPGRADE};
use warp::Filter;
use warp::ws::Ws;

use crate::api::authorized::{AccountRequest, symbol};
use crate::api::filters::headers;
use crate::api::filters::path::last;
use crate::api::filters::query::Parameter;
use crate::api::filters::route::{Answers, Outcome, Routes, upgradable};
use crate::api::problem::{Problem, ProblemType};
use crate::mt5::calls;
use crate::streams::{EventKind, Topic};

/// Symbols that one stream may have.
const MOST_SYMBOLS: usize = 100;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `/api/v1/accounts/{account}/stream`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    last("stream").and(upgradable!(routes: get Read stream))
}

/// The kinds of event that are asked for.
struct Kinds(BTreeSet<EventKind>);

impl Parameter for Kinds {
    const EXPECTED: &'static str = "some of ticks, book, positions, orders, account, with commas";

    fn parse(text: &str) -> Option<Self> {
        let known =
            |name: &str| EventKind::ALL.iter().copied().find(|kind| kind.name() == name.trim());
        text.split(',').map(known).collect::<Option<_>>().map(Kinds)
    }
}

/// Changes as they happen.
///
/// As Server-Sent Events, or over a WebSocket if the request is for one.
/// Each event has an `id`. `Last-Event-ID` (or `last_event_id`) goes on after it; what is no longer
/// kept, and what the client was too slow for, is told by an event `gap`. `ticks` has every
/// tick of each symbol, the last one first; `book`, `positions`, `orders` and `account` tell how things stand, at
/// first and whenever they have changed. `problem` says that the terminal cannot be asked, once until it can.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/stream", tag = "streams",
    params(
        ("symbols" = Option<String>, Query, description = "Names with commas, at most 100; for `ticks` and `book`", example = "EURUSD,XAUUSD"),
        ("events" = Option<String>, Query, description = "Some of ticks (default), book, positions, orders, account, with commas"),
        ("last_event_id" = Option<String>, Query, description = "As the header `Last-Event-ID`, for clients that cannot send it"),
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 101, description = "The events follow as WebSocket messages: `{\"id\", \"event\", \"data\"}`"),
    )
)]
pub async fn stream(request: AccountRequest, upgrade: Option<Ws>) -> Outcome {
    let mut parameters = request.parameters()?;
    let symbols = parameters.optional::<String>("symbols")?.unwrap_or_default();
    let kinds = parameters.optional::<Kinds>("events")?;
    let kinds = kinds.map_or_else(|| BTreeSet::from([EventKind::Ticks]), |Kinds(kinds)| kinds);
    let last_event_id = parameters.optional::<String>("last_event_id")?;
    parameters.finish()?;
    if upgrade.is_none() {
        if request.context.headers.contains(&UPGRADE) {
            let detail = "the handshake of the WebSocket lacks `Sec-WebSocket-Version: 13`, \
                          `Sec-WebSocket-Key`, or `Connection: upgrade`";
            return Err(Problem::invalid(detail));
        }
        request.accepts("text/event-stream")?;
    }
    let header = headers::value(&request.context.headers, &LAST_EVENT_ID)?.map(str::to_owned);
    let last_event_id = header.or(last_event_id).filter(|id| !id.is_empty());

    let symbols = symbols_of(&request, &symbols, &kinds).await?;
    let topics = kinds.iter().flat_map(|kind| {
        let of_symbol = symbols.iter().filter(|_| kind.needs_symbol());
        let of_symbol = of_symbol.map(|symbol| Topic { kind: *kind, symbol: Some(symbol.clone()) });
        let alone = (!kind.needs_symbol()).then_some(Topic { kind: *kind, symbol: None });
        of_symbol.chain(alone)
    });
    let streams = &request.app().streams;
    let admission = streams.admit().ok_or_else(|| {
        let detail = format!("{} streams are open, as many as `streams.max`", streams.options.max);
        Problem::new(ProblemType::TooManyStreams, detail).retry_after(streams.options.heartbeat)
    })?;
    let subscribing =
        streams.subscribe(&request.account.name, topics.collect(), last_event_id, admission);
    let deadline = request.call_context().deadline;
    let subscribed = tokio::time::timeout_at(deadline, subscribing).await.ok().flatten();
    let Some(subscriber) = subscribed else {
        request.check_standing()?;
        let detail = "the streams of the account are being restarted";
        return Err(Problem::new(ProblemType::NotReady, detail).retry_after(Duration::from_secs(1)));
    };
    request.context.begin_stream();
    Ok(match upgrade {
        Some(upgrade) => web_socket::answer(request, upgrade, subscriber),
        None => server_sent::answer(&request, subscriber),
    })
}

/// The symbols of a stream, each known to the terminal.
async fn symbols_of(
    request: &AccountRequest,
    symbols: &str,
    kinds: &BTreeSet<EventKind>,
) -> Result<Vec<Arc<str>>, Problem> {
    let names: BTreeSet<&str> =
        symbols.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let needed = kinds.iter().find(|kind| kind.needs_symbol());
    match needed {
        Some(kind) if names.is_empty() => {
            let detail =
                format!("parameter `symbols` is missing: events `{}` need one", kind.name());
            return Err(Problem::invalid(detail));
        }
        None if !names.is_empty() => {
            return Err(Problem::invalid(
                "parameter `symbols`: only the events `ticks` and `book` are of symbols",
            ));
        }
        _ if names.len() > MOST_SYMBOLS => {
            let detail = format!(
                "parameter `symbols`: expected at most {MOST_SYMBOLS}, got {}; open more streams",
                names.len()
            );
            return Err(Problem::invalid(detail));
        }
        _ => {}
    }
    let mut known = Vec::with_capacity(names.len());
    for name in names {
        request.ask(calls::SymbolInfo { symbol: symbol(name)? }).await?;
        known.push(Arc::from(name));
    }
    Ok(known)
}

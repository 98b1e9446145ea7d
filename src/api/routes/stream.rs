//! Streams of changes, as Server-Sent Events and over WebSocket.
//!
//! Both are written by a task of their own that takes from a [`Subscriber`] no
//! faster than the client reads; what a client is too slow for is told as a gap.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, UPGRADE};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;
use warp::sse::Event;
use warp::ws::{Message, WebSocket, Ws};
use warp::{Filter, Reply, path};

use crate::api::auth::EXPIRED;
use crate::api::authorized::{AccountRequest, symbol};
use crate::api::filters::query::Parameter;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::mt5::calls;
use crate::streams::{Content, EventKind, Item, Subscriber, Topic};

/// Symbols that one stream may have.
const MOST_SYMBOLS: usize = 100;

/// Bytes of a message that a client may send. It has nothing to say.
const MOST_SENT: usize = 4_096;

/// Events that are written ahead of the connection.
const WRITTEN_AHEAD: usize = 16;

/// How long a browser waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// Pings, one at each heartbeat, that a client may leave without an answer.
const UNANSWERED_PINGS: u32 = 3;

/// How long a client may take to take the end of its stream.
const GOODBYE: Duration = Duration::from_secs(1);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The status codes of RFC 6455, 7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const POLICY_VIOLATION: u16 = 1008;
const TOO_LARGE: u16 = 1009;

/// `/api/v1/accounts/{account}/stream`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    path!("stream").and(resource!(routes: get_or_upgrade Read stream))
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
        if request.context.headers.contains_key(UPGRADE) {
            let detail = "the handshake of the WebSocket lacks `Sec-WebSocket-Version: 13`, \
                          `Sec-WebSocket-Key`, or `Connection: upgrade`";
            return Err(Problem::invalid(detail));
        }
        request.accepts("text/event-stream")?;
    }
    let header = request.context.header(&LAST_EVENT_ID)?.map(str::to_owned);
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
    let subscriber = subscribed.ok_or_else(|| {
        let detail = "the streams of the account are being restarted";
        Problem::new(ProblemType::NotReady, detail).retry_after(Duration::from_secs(1))
    })?;
    request.context.begin_stream();
    Ok(match upgrade {
        Some(upgrade) => upgraded(request, upgrade, subscriber),
        None => server_sent(&request, subscriber),
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

/// An event as clients get it.
struct ClientEvent {
    id: String,
    event: &'static str,
    /// JSON, on one line.
    data: Bytes,
}

/// The same as a message.
#[derive(Serialize)]
struct Framed<'a> {
    id: &'a str,
    event: &'static str,
    data: Option<&'a RawValue>,
}

fn client_event(subscriber: &Subscriber, item: Item, request_id: &str) -> ClientEvent {
    match item {
        Item::Event(event) => {
            let id = subscriber.id(Some(event.sequence));
            let (kind, symbol) = (event.topic.kind.name(), event.topic.symbol.as_deref());
            let problem = |problem: Problem| {
                let problem = problem.with("events", kind.into()).with("symbol", symbol.into());
                ("problem", Bytes::from(problem.body(request_id)))
            };
            let (event, data) = match &event.content {
                Content::Data(data) => (kind, data.clone()),
                Content::Failed(error) => problem(error.clone().into()),
                Content::PollPanicked => {
                    let detail =
                        format!("the gateway failed to read `{kind}` and tries again by itself");
                    problem(Problem::new(ProblemType::Internal, detail))
                }
                Content::Gap => {
                    let data = json!({ "from": null, "to": id, "events": kind, "symbol": symbol });
                    ("gap", data.to_string().into())
                }
            };
            ClientEvent { id, event, data }
        }
        Item::Gap { from, to } => {
            let id = subscriber.id(Some(to));
            let from = from.map(|from| subscriber.id(Some(from)));
            let data = json!({ "from": from, "to": id }).to_string();
            ClientEvent { id, event: "gap", data: data.into() }
        }
    }
}

/// What happens next on a stream.
enum Next {
    Event(ClientEvent),
    /// Nothing happened for a while.
    Quiet,
    /// The gateway stops.
    Stopping,
    /// The client's key has expired. The problem is the last event that the client gets.
    Expired(ClientEvent),
}

async fn next(
    request: &AccountRequest,
    subscriber: &mut Subscriber,
    stopping: &CancellationToken,
) -> Next {
    let heartbeat = request.app().streams.options.heartbeat;
    let request_id = &request.context.request_id;
    tokio::select! {
        biased;
        () = stopping.cancelled() => Next::Stopping,
        () = request.key_expired() => {
            let data = Problem::unauthorized(EXPIRED).body(request_id).into();
            Next::Expired(ClientEvent { id: subscriber.id(None), event: "problem", data })
        }
        item = tokio::time::timeout(heartbeat, subscriber.next()) => match item {
            Ok(item) => Next::Event(client_event(subscriber, item, request_id)),
            Err(_) => Next::Quiet,
        },
    }
}

impl ClientEvent {
    /// As a Server-Sent Event.
    fn server_sent(&self) -> Event {
        let data = String::from_utf8_lossy(&self.data);
        Event::default().id(spaced(&self.id)).event(spaced(self.event)).data(spaced(&data))
    }

    /// As a message of a WebSocket.
    fn message(&self) -> Message {
        let data = serde_json::from_slice(&self.data).ok();
        let framed = Framed { id: &self.id, event: self.event, data };
        Message::text(serde_json::to_string(&framed).unwrap_or_default())
    }
}

/// A value behind the space that the format allows after a field's colon. warp writes none, and many
/// a client looks for `data: `.
fn spaced(value: &str) -> String {
    format!(" {value}")
}

fn server_sent(request: &AccountRequest, mut subscriber: Subscriber) -> Response {
    let (events, mut arriving) = mpsc::channel::<Result<Event, Infallible>>(WRITTEN_AHEAD);
    let stopping = request.app().streams.stopping();
    request.app().streams.spawn({
        let request = request.clone();
        async move {
            // Browsers come back after this time, and say which id they had last.
            let mut event = Event::default().retry(RETRY).id(spaced(&subscriber.id(None)));
            let mut over = false;
            loop {
                let sending = events.send(Ok(event));
                if over {
                    let _ = tokio::time::timeout(GOODBYE, sending).await;
                    return;
                }
                let sent = tokio::select! {
                    sent = sending => sent.is_ok(),
                    () = stopping.cancelled() => true,
                };
                if !sent {
                    return;
                }
                event = tokio::select! {
                    next = next(&request, &mut subscriber, &stopping) => match next {
                        Next::Event(event) => event.server_sent(),
                        // Clients remember an id without data, and it is no event to them.
                        Next::Quiet => Event::default().comment(" quiet").id(spaced(&subscriber.id(None))),
                        Next::Stopping => {
                            over = true;
                            let reason = r#"{"reason":"the gateway stops"}"#;
                            Event::default().event(spaced("end")).data(spaced(reason))
                        }
                        Next::Expired(event) => {
                            over = true;
                            event.server_sent()
                        }
                    },
                    () = events.closed() => return,
                };
            }
        }
    });
    let events = futures_util::stream::poll_fn(move |context| arriving.poll_recv(context));
    let mut response = warp::sse::reply(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would keep events until its buffer is full.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn upgraded(request: AccountRequest, upgrade: Ws, subscriber: Subscriber) -> Response {
    upgrade
        .max_message_size(MOST_SENT)
        .max_frame_size(MOST_SENT)
        .on_upgrade(move |socket| async move {
            let app = request.app().clone();
            app.streams.spawn(converse(request, socket, subscriber));
        })
        .into_response()
}

/// Writes events to a WebSocket until one side ends it.
async fn converse(request: AccountRequest, socket: WebSocket, mut subscriber: Subscriber) {
    let (mut sink, mut source) = socket.split();
    let stopping = request.app().streams.stopping();
    let heartbeat = request.app().streams.options.heartbeat;
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + heartbeat, heartbeat);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Pings that nothing has come after.
    let mut unanswered = 0;
    let mut closing = None;
    while closing.is_none() {
        let message = tokio::select! {
            next = next(&request, &mut subscriber, &stopping) => match next {
                Next::Event(event) => event.message(),
                Next::Quiet => continue,
                Next::Stopping => {
                    closing = Some((GOING_AWAY, "the gateway stops"));
                    continue;
                }
                Next::Expired(event) => {
                    closing = Some((POLICY_VIOLATION, EXPIRED));
                    event.message()
                }
            },
            _ = pings.tick() => {
                if unanswered == UNANSWERED_PINGS {
                    closing = Some((POLICY_VIOLATION, "pings are not answered"));
                    continue;
                }
                unanswered += 1;
                Message::ping(Bytes::new())
            }
            received = source.next() => {
                unanswered = 0;
                match received {
                    // The answer to a ping has to leave before the next one is read: a client that
                    // pings and never reads would fill the memory with answers.
                    Some(Ok(message)) if message.is_ping() => {
                        let flushed = tokio::select! {
                            biased;
                            flushed = sink.flush() => flushed,
                            () = stopping.cancelled() => return,
                        };
                        if flushed.is_err() {
                            return;
                        }
                        continue;
                    }
                    Some(Ok(message)) if message.is_pong() => continue,
                    Some(Ok(message)) if message.is_close() => break,
                    Some(Ok(_)) => closing = Some((POLICY_VIOLATION, "this stream takes no messages")),
                    Some(Err(fault)) => match violation(&fault) {
                        Some(code) => closing = Some((code, "the frame is not valid")),
                        None => return,
                    },
                    None => return,
                }
                continue;
            }
        };
        // A client that reads nothing is cut by the limit on writing.
        let sent = tokio::select! {
            biased;
            sent = sink.send(message) => sent,
            () = stopping.cancelled() => return,
        };
        if sent.is_err() {
            return;
        }
    }
    let goodbye = async {
        if let Some((code, reason)) = closing {
            let _ = sink.send(Message::close_with(code, reason)).await;
        }
        let _ = sink.close().await;
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}

/// The code with which a client's offence against the protocol is answered; `None` if it just left.
fn violation(fault: &warp::Error) -> Option<u16> {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError;
    match fault.source()?.downcast_ref::<Error>()? {
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ) => None,
        Error::Protocol(_) => Some(PROTOCOL_ERROR),
        Error::Utf8(_) => Some(INVALID_DATA),
        Error::Capacity(_) => Some(TOO_LARGE),
        _ => None,
    }
}

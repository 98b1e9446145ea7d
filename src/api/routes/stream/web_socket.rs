//! A stream over a WebSocket.

use std::error::Error as _;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;
use warp::Reply;
use warp::reply::Response;
use warp::ws::{Message, WebSocket, Ws};

use super::events::{ClientEvent, GOODBYE, Next, next};
use crate::api::authorized::AccountRequest;
use crate::streams::Subscriber;

/// Bytes of a message that a client may send. It has nothing to say.
const MOST_SENT: usize = 4_096;

/// Pings, one at each heartbeat, that a client may leave without an answer.
const UNANSWERED_PINGS: u32 = 3;

/// The status codes of RFC 6455, 7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const POLICY_VIOLATION: u16 = 1008;
const TOO_LARGE: u16 = 1009;

/// Answers with the upgrade, and then writes the events of a subscriber.
pub fn answer(request: AccountRequest, upgrade: Ws, subscriber: Subscriber) -> Response {
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
    let ended = subscriber.ended().clone();
    let heartbeat = request.app().streams.options.heartbeat;
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + heartbeat, heartbeat);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Pings that nothing has come after.
    let mut unanswered = 0;
    let mut closing = None;
    while closing.is_none() {
        let messages = tokio::select! {
            next = next(&request, &mut subscriber, &stopping) => match next {
                Next::Events(events) => events.iter().map(ClientEvent::message).collect(),
                Next::Quiet => continue,
                Next::End(reason) => {
                    closing = Some((GOING_AWAY, reason));
                    continue;
                }
                Next::Expired(reason, event) => {
                    closing = Some((POLICY_VIOLATION, reason));
                    vec![event.message()]
                }
            },
            _ = pings.tick() => {
                if unanswered == UNANSWERED_PINGS {
                    closing = Some((POLICY_VIOLATION, "pings are not answered"));
                    continue;
                }
                unanswered += 1;
                vec![Message::ping(Bytes::new())]
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
                            () = ended.cancelled() => return,
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
        let sending = async {
            for message in messages {
                sink.feed(message).await?;
            }
            sink.flush().await
        };
        // A client that reads nothing is cut by the limit on writing.
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            () = stopping.cancelled() => return,
            () = ended.cancelled() => return,
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

/// An event as a message.
#[derive(Serialize)]
struct Framed<'a> {
    id: &'a str,
    event: &'static str,
    data: Option<&'a RawValue>,
}

impl ClientEvent {
    /// As a message of a WebSocket.
    fn message(&self) -> Message {
        let data = serde_json::from_slice(&self.data).ok();
        let framed = Framed { id: &self.id, event: self.event, data };
        Message::text(serde_json::to_string(&framed).unwrap_or_default())
    }
}

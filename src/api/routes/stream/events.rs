//! What happens on a stream, whatever carries it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::auth::{EXPIRED, REVOKED};
use crate::api::authorized::AccountRequest;
use crate::api::problem::{Problem, ProblemType};
use crate::pool::Standing;
use crate::streams::{Content, Item, Subscriber};

/// How long a client may take to take the end of its stream.
pub const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes of data that are taken at once, if there are as many.
const TAKEN_AT_ONCE: usize = 16_384;

/// An event as clients get it.
pub struct ClientEvent {
    pub id: String,
    pub event: &'static str,
    /// JSON, on one line.
    pub data: Bytes,
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
pub enum Next {
    Events(Vec<ClientEvent>),
    /// Nothing happened for a while.
    Quiet,
    /// The gateway stops, or the account does not serve any more: the reason, for the client.
    End(&'static str),
    /// The client's key has expired or was revoked: the reason, and the problem. The problem is the last event that the client gets.
    Expired(&'static str, ClientEvent),
}

/// Waits for what happens next.
pub async fn next(
    request: &AccountRequest,
    subscriber: &mut Subscriber,
    stopping: &CancellationToken,
) -> Next {
    let heartbeat = request.app().streams.options.heartbeat;
    let request_id = &request.context.request_id;
    let ended = subscriber.ended().clone();
    tokio::select! {
        biased;
        () = stopping.cancelled() => Next::End("the gateway stops"),
        () = ended.cancelled() => Next::End(match request.account.door.standing() {
            Standing::Leaving => "the account is removed",
            Standing::Changing => "the account's settings change",
            Standing::Paused | Standing::Serving => "the account is paused",
        }),
        () = request.key_ended() => {
            let reason = if request.is_key_expired() { EXPIRED } else { REVOKED };
            let data = Problem::unauthorized(reason).body(request_id).into();
            Next::Expired(reason, ClientEvent { id: subscriber.id(None), event: "problem", data })
        }
        item = tokio::time::timeout(heartbeat, subscriber.next()) => match item {
            Ok(first) => {
                let mut events = vec![client_event(subscriber, first, request_id)];
                let mut taken = events[0].data.len();
                // What came together leaves in one write, which costs more than the event itself.
                while taken < TAKEN_AT_ONCE
                    && let Some(item) = subscriber.try_next()
                {
                    let event = client_event(subscriber, item, request_id);
                    taken += event.data.len();
                    events.push(event);
                }
                Next::Events(events)
            }
            Err(_) => Next::Quiet,
        },
    }
}

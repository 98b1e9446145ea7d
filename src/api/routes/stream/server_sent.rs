//! A stream as Server-Sent Events.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::json;
use tokio::sync::mpsc;
use warp::Reply;
use warp::reply::Response;

use super::events::{ClientEvent, GOODBYE, Next, next};
use crate::api::authorized::AccountRequest;
use crate::streams::Subscriber;

/// Writes, of one or more events, that wait for the connection.
const WRITTEN_AHEAD: usize = 2;

/// How long a browser waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// Answers with the events of a subscriber.
pub fn answer(request: &AccountRequest, mut subscriber: Subscriber) -> Response {
    let (events, mut arriving) = mpsc::channel::<Result<Bytes, Infallible>>(WRITTEN_AHEAD);
    let stopping = request.app().streams.stopping();
    let ended = subscriber.ended().clone();
    request.app().streams.spawn({
        let request = request.clone();
        async move {
            // Browsers come back after this time, and say which id they had last.
            let mut text = format!("id: {}\nretry:{}\n\n", subscriber.id(None), RETRY.as_millis());
            let mut over = false;
            loop {
                let sending = events.send(Ok(text.into()));
                if over {
                    let _ = tokio::time::timeout(GOODBYE, sending).await;
                    return;
                }
                let sent = tokio::select! {
                    sent = sending => sent.is_ok(),
                    () = stopping.cancelled() => true,
                    () = ended.cancelled() => true,
                };
                if !sent {
                    return;
                }
                text = tokio::select! {
                    next = next(&request, &mut subscriber, &stopping) => match next {
                        Next::Events(events) => {
                            let mut text = String::new();
                            for event in &events {
                                event.write_to(&mut text);
                            }
                            text
                        }
                        // Clients remember an id without data, and it is no event to them.
                        Next::Quiet => format!(": quiet\nid: {}\n\n", subscriber.id(None)),
                        Next::End(reason) => {
                            over = true;
                            format!("event: end\ndata: {}\n\n", json!({ "reason": reason }))
                        }
                        Next::Expired(_, event) => {
                            over = true;
                            let mut text = String::new();
                            event.write_to(&mut text);
                            text
                        }
                    },
                    () = events.closed() => return,
                };
            }
        }
    });
    let events = futures_util::stream::poll_fn(move |context| arriving.poll_recv(context));
    let mut response = warp::reply::stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would keep events until its buffer is full.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

impl ClientEvent {
    /// Writes it as a Server-Sent Event. Its data is one line. The space behind a colon is optional, but
    /// many a client looks for `data: `.
    fn write_to(&self, text: &mut String) {
        let data = String::from_utf8_lossy(&self.data);
        for part in ["event: ", self.event, "\ndata: ", &data, "\nid: ", &self.id, "\n\n"] {
            text.push_str(part);
        }
    }
}

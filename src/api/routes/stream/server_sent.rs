//! A stream as Server-Sent Events.

use std::convert::Infallible;
use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use warp::Reply;
use warp::reply::Response;
use warp::sse::Event;

use super::events::{ClientEvent, GOODBYE, Next, next};
use crate::api::authorized::AccountRequest;
use crate::streams::Subscriber;

/// Events that are written ahead of the connection.
const WRITTEN_AHEAD: usize = 16;

/// How long a browser waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// Answers with the events of a subscriber.
pub fn answer(request: &AccountRequest, mut subscriber: Subscriber) -> Response {
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

impl ClientEvent {
    /// As a Server-Sent Event.
    fn server_sent(&self) -> Event {
        let data = String::from_utf8_lossy(&self.data);
        Event::default().id(spaced(&self.id)).event(spaced(self.event)).data(spaced(&data))
    }
}

/// A value behind the space that the format allows after a field's colon. warp writes none, and many
/// a client looks for `data: `.
fn spaced(value: &str) -> String {
    format!(" {value}")
}

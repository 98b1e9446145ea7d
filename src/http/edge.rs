//! The outermost layer: gives each request an id and a deadline's beginning,
//! turns problems into bodies, counts bytes, and leaves one log line and one
//! set of measurements when the response has ended, also for clients that left.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower_service::Service;
use tracing::{error, info};

use super::App;
use super::forwarded::client_address;
use super::problem::{Kind, OnSent, Problem};
use super::request::{Exchange, Route};
use crate::metrics::http::Ended;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The status that is recorded for a client that left before its answer, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// The layer, on one connection.
pub struct Edge<S> {
    app: Arc<App>,
    /// What requests that match no route are called.
    unmatched: Arc<Route>,
    peer: IpAddr,
    inner: S,
}

impl<S> Edge<S> {
    pub fn new(app: Arc<App>, unmatched: Arc<Route>, peer: IpAddr, inner: S) -> Edge<S> {
        Edge { app, unmatched, peer, inner }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B> hyper::service::Service<Request<Incoming>> for Edge<S>
where
    S: Service<Request<Received>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: std::fmt::Display,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Sent<Either<Full<Bytes>, B>>>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let exchange = Arc::new(Exchange::new(
            request_id(&parts.headers),
            client_address(self.peer, &parts.headers, &self.app.options.trusted_proxies),
            parts.method.clone(),
            parts.uri.clone(),
            parts.headers.clone(),
        ));
        let mut record = Record {
            app: self.app.clone(),
            unmatched: self.unmatched.clone(),
            exchange: exchange.clone(),
            status: StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST),
            sent: 0,
            is_whole: false,
            on_sent: None,
        };
        let refused = refuse(&self.app, &parts);
        let answer = if refused.is_none() {
            parts.extensions.insert(exchange.clone());
            let body = Received { body, exchange: exchange.clone() };
            // The layers below are always ready.
            Some(self.inner.clone().call(Request::from_parts(parts, body)))
        } else {
            None
        };
        Box::pin(async move {
            let response = match (refused, answer) {
                (Some(problem), _) => Err(problem),
                (None, None) => Err(Kind::Internal.into()),
                (None, Some(answer)) => {
                    match std::panic::AssertUnwindSafe(answer).catch_unwind().await {
                        Ok(Ok(response)) if is_refused_encoding(&response) => {
                            let detail =
                                "header `Accept-Encoding`: expected one of identity, gzip, zstd";
                            Err(Problem::new(Kind::NotAcceptable, detail))
                        }
                        Ok(Ok(response)) => Ok(response),
                        Ok(Err(fault)) => {
                            error!(request_id = %exchange.request_id, %fault, "service failed");
                            Err(Kind::Internal.into())
                        }
                        Err(_) => {
                            error!(request_id = %exchange.request_id, "handler panicked");
                            Err(Kind::Internal.into())
                        }
                    }
                }
            };
            let (mut parts, body) = match response {
                Ok(response) => {
                    let (mut parts, body) = response.into_parts();
                    match parts.extensions.remove::<Problem>() {
                        None => (parts, Either::Right(body)),
                        Some(mut problem) => {
                            record.on_sent = problem.take_on_sent();
                            let body = problem.render(&mut parts, &exchange.request_id);
                            (parts, Either::Left(Full::from(body)))
                        }
                    }
                }
                Err(problem) => {
                    let (mut parts, _) = problem.clone().into_response().into_parts();
                    let body = problem.render(&mut parts, &exchange.request_id);
                    (parts, Either::Left(Full::from(body)))
                }
            };
            if let Ok(value) = HeaderValue::from_str(&exchange.request_id) {
                parts.headers.insert(REQUEST_ID, value);
            }
            record.status = parts.status;
            Ok(Response::from_parts(parts, Sent { body, record }))
        })
    }
}

/// Whether the compression below found that the client takes no encoding of an answer. It says so by
/// the status alone; what handlers refuse is a problem.
fn is_refused_encoding<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::NOT_ACCEPTABLE
        && response.extensions().get::<Problem>().is_none()
}

/// What is refused before any route is looked for.
fn refuse(app: &App, parts: &http::request::Parts) -> Option<Problem> {
    // A CONNECT's authority and the `*` of OPTIONS are no paths.
    if parts.method == Method::CONNECT || !parts.uri.path().starts_with('/') {
        return Some(Problem::method_not_allowed(&[Method::GET, Method::HEAD]));
    }
    let declared = parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    let limit = app.options.max_body;
    (declared > limit).then(|| Problem::body_too_large(limit))
}

/// The client's own id if it is short and plain, else a new one.
fn request_id(headers: &http::HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match given {
        Some(id) => id.into(),
        None => Arc::from(&*uuid::Uuid::now_v7().simple().encode_lower(&mut [0; 32])),
    }
}

/// What is recorded when a response has ended, or its client has left.
pub struct Record {
    app: Arc<App>,
    unmatched: Arc<Route>,
    exchange: Arc<Exchange>,
    status: StatusCode,
    sent: u64,
    /// Whether the body was given to the connection to its end.
    is_whole: bool,
    on_sent: Option<OnSent>,
}

impl Drop for Record {
    fn drop(&mut self) {
        if let (true, Some(on_sent)) = (self.is_whole, self.on_sent.take()) {
            on_sent();
        }
        let exchange = &self.exchange;
        let route = exchange.route().unwrap_or(&self.unmatched);
        let received = exchange.received.load(Ordering::Relaxed);
        if let Some(http) = &self.app.instruments {
            let ended = Ended {
                status: self.status,
                duration: exchange.duration(),
                request_bytes: received,
                response_bytes: self.sent,
            };
            route.instruments.end(http, &exchange.method, ended);
        }
        if self.app.options.access_log {
            info!(
                target: "mt5_gateway::access",
                method = log_method(&exchange.method),
                route = route.template,
                status = self.status.as_u16(),
                duration_ms = exchange.arrived.elapsed().as_micros() as f64 / 1000.0,
                bytes = self.sent,
                request_id = %exchange.request_id,
                account = exchange.account(),
                client = %exchange.peer,
                "request"
            );
        }
    }
}

/// Made-up methods may be long.
fn log_method(method: &Method) -> &str {
    let name = method.as_str();
    if name.len() <= 16 { name } else { "other" }
}

/// A request's body, counted as it is read.
pub struct Received {
    body: Incoming,
    exchange: Arc<Exchange>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.exchange.note_received(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project_lite::pin_project! {
    /// A response's body, counted as it is sent; the record is made when it is dropped.
    pub struct Sent<B> {
        #[pin]
        body: B,
        record: Record,
    }
}

impl<B: Body> Body for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = std::task::ready!(this.body.as_mut().poll_frame(context));
        this.record.is_whole = this.body.is_end_stream();
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.record.sent += data.remaining() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The outermost layer: gives each request an id and a deadline's beginning,
//! turns problems into bodies, counts bytes, and leaves one log line and one
//! set of measurements when the response has ended, also for clients that left
//! and for heads that could not be read.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower_service::Service;
use tracing::info;

use super::App;
use super::admission::{Admission, is_for_any_host};
use super::connection::{Activity, Part, UnderWay, Waiting};
use super::context::{RequestContext, Route};
use super::forwarded::client_address;
use super::problem::{OnSent, Problem, ProblemType};
use crate::metrics::requests::Ended;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The status that is recorded for a client that left before its answer, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// The method that stands in the log for a head that could not be read.
const UNREADABLE: &[u8] = b"-";

/// The layer, on one connection.
pub struct RequestLog<S, C> {
    pub app: Arc<App>,
    /// What requests that match no route are called.
    pub unmatched: Arc<Route>,
    pub peer: IpAddr,
    pub activity: Arc<Activity>,
    pub admission: Arc<Admission>,
    /// Answers what is for any host.
    pub inner: S,
    /// Answers everything else, with CORS.
    pub with_cors: C,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, C, B> hyper::service::Service<Request<Incoming>> for RequestLog<S, C>
where
    S: Service<Request<Received>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
    C: Service<Request<Received>, Response = Response<B>, Error = Infallible> + Clone,
    C::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Default + Send + 'static,
{
    type Response = Response<Sent<Recorded<Either<Full<Bytes>, B>>>>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let client = client_address(self.peer, &parts.headers, &self.app.options.trusted_proxies);
        let peer = match client {
            Ok(client) => client,
            Err(problem) => {
                // Refused below, where CORS sees it.
                parts.extensions.insert(problem);
                self.peer
            }
        };
        let context = Arc::new(RequestContext::new(
            request_id(&parts.headers),
            peer,
            parts.method.clone(),
            parts.uri.clone(),
            parts.headers.clone(),
        ));
        let record = RequestRecord {
            app: self.app.clone(),
            unmatched: self.unmatched.clone(),
            context: context.clone(),
            status: StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST),
            sent: 0,
            is_whole: false,
            on_sent: None,
        };
        let (version, under_way) = (parts.version, self.activity.begin());
        // CORS answers a preflight before anything below it could refuse it.
        let refused_preflight = parts.method == Method::OPTIONS
            && (parts.extensions.get::<Problem>().is_some()
                || self.admission.check(&parts).is_err());
        parts.extensions.insert(context.clone());
        let without_cors = refused_preflight || is_for_any_host(parts.uri.path());
        if body.is_end_stream() {
            context.note_received_whole();
        }
        let body = Received { body, context: context.clone() };
        let request = Request::from_parts(parts, body);
        // The layers below are always ready.
        let answer = if without_cors {
            futures_util::future::Either::Left(self.inner.clone().call(request))
        } else {
            futures_util::future::Either::Right(self.with_cors.clone().call(request))
        };
        Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            let response = if version < http::Version::HTTP_11 && has_open_end(&context, &response)
            {
                let detail = "HTTP/1.0 cannot tell a whole answer from one that breaks off: ask for \
                              this one with HTTP/1.1";
                Problem::invalid(detail).into_response_of()
            } else {
                response
            };
            let mut response = finish(response, &context, record);
            if version <= http::Version::HTTP_11 && !context.is_received_whole() {
                // hyper closes the connection unless the rest of the body happens to be there already.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let is_http_2 = version == http::Version::HTTP_2;
            let waiting = is_http_2.then(|| under_way.wait());
            Ok(response.map(|body| Sent { body, is_http_2, waiting, under_way }))
        })
    }
}

/// Whether a response's end is told by nothing but the end of the connection in HTTP/1.0. Only reads
/// have such answers; events of a stream are whole by themselves.
fn has_open_end<B: Body>(context: &RequestContext, response: &Response<B>) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    context.method == Method::GET
        && response.body().size_hint().exact().is_none()
        && content_type != Some(b"text/event-stream")
}

/// Gives a response its id, and its body if it is a problem.
fn finish<B: Body<Data = Bytes, Error: Into<BoxError>>>(
    response: Response<B>,
    context: &RequestContext,
    mut record: RequestRecord,
) -> Response<Recorded<Either<Full<Bytes>, B>>> {
    let (mut parts, body) = response.into_parts();
    let mut body = match parts.extensions.remove::<Problem>() {
        None => Either::Right(body),
        Some(mut problem) => {
            record.on_sent = problem.take_on_sent();
            let body = problem.render(&mut parts, &context.request_id);
            Either::Left(Full::from(body))
        }
    };
    if context.method == Method::HEAD {
        // The length is that of the answer to GET. hyper leaves the body out in HTTP/1 only.
        if let Some(length) = body.size_hint().exact()
            && length > 0
        {
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        body = Either::Left(Full::default());
    }
    if let Ok(value) = HeaderValue::from_str(&context.request_id) {
        parts.headers.insert(REQUEST_ID, value);
    }
    record.status = parts.status;
    Response::from_parts(parts, Recorded { body, record })
}

/// The answer to a head that hyper cannot read: its request id, and its body.
pub fn refuse_head(
    app: &Arc<App>,
    unmatched: &Arc<Route>,
    peer: IpAddr,
    status: StatusCode,
) -> (Arc<str>, Vec<u8>) {
    let problem = match status {
        StatusCode::URI_TOO_LONG => {
            let detail = "the request's target is too long: send less in the query";
            Problem::new(ProblemType::UriTooLong, detail)
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::header_too_large(),
        _ => Problem::invalid("the request's head is not HTTP"),
    };
    let method = Method::from_bytes(UNREADABLE).unwrap_or_default();
    let headers = http::HeaderMap::new();
    let context =
        RequestContext::new(request_id(&headers), peer, method, http::Uri::default(), headers);
    let request_id = context.request_id.clone();
    let body = problem.body(&request_id);
    drop(RequestRecord {
        app: app.clone(),
        unmatched: unmatched.clone(),
        context: Arc::new(context),
        status,
        sent: body.len() as u64,
        is_whole: true,
        on_sent: None,
    });
    (request_id, body)
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
pub struct RequestRecord {
    app: Arc<App>,
    unmatched: Arc<Route>,
    context: Arc<RequestContext>,
    status: StatusCode,
    sent: u64,
    /// Whether the body was given to the connection to its end.
    is_whole: bool,
    on_sent: Option<OnSent>,
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if let (true, Some(on_sent)) = (self.is_whole, self.on_sent.take()) {
            on_sent();
        }
        let context = &self.context;
        let route = context.route().unwrap_or(&self.unmatched);
        let received = context.received.load(Ordering::Relaxed);
        if let Some(http) = &self.app.instruments {
            let ended = Ended {
                status: self.status,
                duration: context.duration(),
                request_bytes: received,
                response_bytes: self.sent,
            };
            route.instruments.end(http, &context.method, ended);
        }
        if self.app.options.access_log {
            info!(
                target: "mt5_gateway::access",
                method = log_method(&context.method),
                route = route.template,
                status = self.status.as_u16(),
                duration_ms = context.arrived.elapsed().as_micros() as f64 / 1000.0,
                bytes = self.sent,
                request_id = &*context.request_id,
                account = context.account(),
                api_key = context.api_key(),
                client = %context.peer,
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
    context: Arc<RequestContext>,
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
            self.context.note_received(data.len());
        }
        if frame.is_none() || self.body.is_end_stream() {
            self.context.note_received_whole();
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
    pub struct Recorded<B> {
        #[pin]
        body: B,
        record: RequestRecord,
    }
}

impl<B: Body> Body for Recorded<B> {
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

pin_project_lite::pin_project! {
    /// A response's body whose parts count as under way until they are written.
    pub struct Sent<B> {
        #[pin]
        body: B,
        // HTTP/1 writes to the connection alone, which knows whether it is blocked.
        is_http_2: bool,
        // From when the body gave something until it is asked for more: what HTTP/2 does only once
        // the client takes more.
        waiting: Option<Arc<Waiting>>,
        under_way: UnderWay,
    }
}

impl<B: Body> Body for Sent<B> {
    type Data = Part<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        *this.waiting = None;
        let frame = std::task::ready!(this.body.poll_frame(context));
        *this.waiting = this.is_http_2.then(|| this.under_way.wait());
        Poll::Ready(frame.map(|frame| {
            let waiting = this.waiting.clone();
            frame.map(|frame| frame.map_data(|data| this.under_way.part(data, waiting)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The outermost layer.
//!
//! It gives each request its id and its [`RequestContext`], turns problems into bodies, and leaves
//! one [`RequestRecord`] when the response has ended, also for clients that left and for heads that
//! could not be read.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use tower_service::Service;
use uuid::{Builder, Uuid};

use super::admission::{Admission, check_size, choose_coding, is_for_any_host};
use super::bodies::{RecordedBody, TrackedBody};
use super::client_address::client_address;
use super::compression::{Compressed, compress};
use super::request_record::RequestRecord;
use crate::api::App;
use crate::api::connection::Activity;
use crate::api::context::{RequestContext, Route};
use crate::api::problem::{Problem, ProblemType};
use crate::api::request_headers::RequestHeaders;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The method that stands in the log for a head that could not be read.
const UNREADABLE: &[u8] = b"-";

/// The layer on one connection.
pub struct RequestLog<S, C> {
    pub app: Arc<App>,
    /// The route of requests that match none.
    pub unmatched: Arc<Route>,
    pub peer: IpAddr,
    pub activity: Arc<Activity>,
    pub admission: Arc<Admission>,
    /// Answers requests.
    pub inner: S,
    /// Answers them with CORS, if it is configured.
    pub with_cors: Option<C>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the routes see of a request's body, which its handler finds in the context.
pub type NoBody = Empty<Bytes>;

/// The body of a problem, or of an answer.
type AnswerBody<B> = Either<Full<Bytes>, Compressed<B>>;

impl<S, C, B> hyper::service::Service<Request<Incoming>> for RequestLog<S, C>
where
    S: Service<Request<NoBody>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
    C: Service<Request<NoBody>, Response = Response<B>, Error = Infallible> + Clone,
    C::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Default + Send + 'static,
{
    type Response = Response<TrackedBody<RecordedBody<AnswerBody<B>>>>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let headers = std::mem::take(&mut head.headers);
        let sized = check_size(&headers);
        let headers = RequestHeaders::new(headers);
        let trusted = &self.app.options.trusted_proxies;
        let client = sized.and_then(|()| client_address(self.peer, &headers, trusted));
        let peer = *client.as_ref().unwrap_or(&self.peer);
        let admitted = client.and_then(|_| self.admission.check(&head, &headers));
        let admitted = admitted.and_then(|()| choose_coding(head.version, &headers));

        // CORS answers a preflight before anything below it could refuse it.
        let is_refused_preflight = head.method == Method::OPTIONS && admitted.is_err();
        let without_cors = is_refused_preflight || is_for_any_host(head.uri.path());
        let cors = self.with_cors.as_ref().filter(|_| !without_cors);
        if cors.is_some() || headers.contains(&UPGRADE) {
            head.headers = headers.as_map().clone();
        }
        let coding = admitted.unwrap_or_else(|problem| {
            head.extensions.insert(problem);
            None
        });
        let (version, under_way) = (head.version, self.activity.begin());
        let body_is_whole = body.is_end_stream();
        let context = Arc::new(RequestContext::new(
            self.app.clone(),
            request_id(&headers),
            peer,
            head.method.clone(),
            head.uri.clone(),
            headers,
            Some(body),
        ));
        if body_is_whole {
            context.note_received_whole();
        }
        let record = RequestRecord::new(self.app.clone(), self.unmatched.clone(), context.clone());
        let request = Request::from_parts(head, Empty::new());
        // The layers below are always ready.
        let answer = match cors {
            None => futures_util::future::Either::Left(self.inner.clone().call(request)),
            Some(cors) => futures_util::future::Either::Right(cors.clone().call(request)),
        };
        // Not an async block: it would have room for the future twice.
        Box::pin(context.clone().scope(answer).map(move |answer| {
            let response = answer.unwrap_or_else(|never| match never {});
            // Nobody reads what has not arrived. Until now hyper watched for a client that leaves.
            drop(context.take_body());
            let response = compress(response, coding);
            let response = if version < Version::HTTP_11 && has_open_end(&context, &response) {
                let detail = "HTTP/1.0 cannot tell a whole answer from one that breaks off: ask for \
                              this one with HTTP/1.1";
                Problem::invalid(detail).into_response_of().map(Either::Left)
            } else {
                response
            };
            let mut response = finish(response, &context, record);
            if version <= Version::HTTP_11 && !context.is_received_whole() {
                // hyper closes the connection unless the rest of the body has arrived already.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let is_http_2 = version == Version::HTTP_2;
            Ok(response.map(|body| TrackedBody::new(body, is_http_2, under_way)))
        }))
    }
}

/// Whether nothing but the end of the connection would tell the response's end in HTTP/1.0. Only
/// reads have such responses; each event of a stream is whole by itself.
fn has_open_end<B: Body>(context: &RequestContext, response: &Response<B>) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    context.method == Method::GET
        && response.body().size_hint().exact().is_none()
        && content_type != Some(b"text/event-stream")
}

/// Gives a response its id, and its body if it is a problem.
fn finish<B: Body<Data = Bytes, Error: Into<BoxError>>>(
    response: Response<Compressed<B>>,
    context: &RequestContext,
    mut record: RequestRecord,
) -> Response<RecordedBody<AnswerBody<B>>> {
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
        // The length is that of the response to GET. hyper leaves the body out in HTTP/1 only.
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
    Response::from_parts(parts, RecordedBody::new(body, record))
}

/// The problem of a head that hyper cannot read: its request id and its body.
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
    let headers = RequestHeaders::default();
    let context = RequestContext::new(
        app.clone(),
        request_id(&headers),
        peer,
        method,
        Uri::default(),
        headers,
        None,
    );
    let request_id = context.request_id.clone();
    let body = problem.body(&request_id);
    let mut record = RequestRecord::new(app.clone(), unmatched.clone(), Arc::new(context));
    record.status = status;
    record.sent = body.len() as u64;
    record.is_whole = true;
    drop(record);
    (request_id, body)
}

/// The client's own id if it is short and plain, else a new one.
fn request_id(headers: &RequestHeaders) -> Arc<str> {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match given {
        Some(id) => id.into(),
        None => Arc::from(&*new_id().simple().encode_lower(&mut [0; 32])),
    }
}

/// A UUID of version 7. The crate's own source of them also keeps those of one millisecond in order,
/// with a lock that all connections would share.
fn new_id() -> Uuid {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let [random @ .., _, _, _, _, _, _] = rand::random::<u128>().to_le_bytes();
    Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

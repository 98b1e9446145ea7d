//! The outermost layer.
//!
//! It gives each request its id and its [`RequestContext`], turns problems into bodies, and leaves
//! one [`RequestRecord`] when the response has ended, also for clients that left and for heads that
//! could not be read.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower_service::Service;

use super::admission::{Admission, check_size, is_for_any_host};
use super::bodies::{RecordedBody, RequestBody, TrackedBody};
use super::client_address::client_address;
use super::request_record::RequestRecord;
use crate::api::App;
use crate::api::connection::Activity;
use crate::api::context::{RequestContext, Route};
use crate::api::problem::{Problem, ProblemType};

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
    /// Answers paths that are for any host.
    pub inner: S,
    /// Answers everything else, with CORS.
    pub with_cors: C,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, C, B> hyper::service::Service<Request<Incoming>> for RequestLog<S, C>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
    C: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone,
    C::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Default + Send + 'static,
{
    type Response = Response<TrackedBody<RecordedBody<Either<Full<Bytes>, B>>>>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let trusted = &self.app.options.trusted_proxies;
        let client = check_size(&parts.headers)
            .and_then(|()| client_address(self.peer, &parts.headers, trusted));
        let (peer, headers) = match client {
            Ok(client) => (client, parts.headers.clone()),
            Err(problem) => {
                // `AdmissionService` answers it, below CORS. Nobody reads these headers.
                parts.extensions.insert(problem);
                (self.peer, HeaderMap::new())
            }
        };
        let context = Arc::new(RequestContext::new(
            self.app.clone(),
            request_id(&parts.headers),
            peer,
            parts.method.clone(),
            parts.uri.clone(),
            headers,
        ));
        let record = RequestRecord::new(self.app.clone(), self.unmatched.clone(), context.clone());
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
        let body = RequestBody::new(body, context.clone());
        let request = Request::from_parts(parts, body);
        // The layers below are always ready.
        let answer = if without_cors {
            futures_util::future::Either::Left(self.inner.clone().call(request))
        } else {
            futures_util::future::Either::Right(self.with_cors.clone().call(request))
        };
        Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            let response = if version < Version::HTTP_11 && has_open_end(&context, &response) {
                let detail = "HTTP/1.0 cannot tell a whole answer from one that breaks off: ask for \
                              this one with HTTP/1.1";
                Problem::invalid(detail).into_response_of()
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
        })
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
    response: Response<B>,
    context: &RequestContext,
    mut record: RequestRecord,
) -> Response<RecordedBody<Either<Full<Bytes>, B>>> {
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
    let headers = HeaderMap::new();
    let context = RequestContext::new(
        app.clone(),
        request_id(&headers),
        peer,
        method,
        Uri::default(),
        headers,
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
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match given {
        Some(id) => id.into(),
        None => Arc::from(&*uuid::Uuid::now_v7().simple().encode_lower(&mut [0; 32])),
    }
}

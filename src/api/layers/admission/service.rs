//! The layer that asks [`Admission`] and catches panics.

use std::convert::Infallible;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::error;

use super::coding::{choose_coding, with_etag_of_encoding};
use super::head::Admission;
use crate::api::context::RequestContext;
use crate::api::problem::{Problem, ProblemType};

/// Refuses requests by their head, and passes the others on.
#[derive(Clone)]
pub struct AdmissionService<S> {
    pub admission: Arc<Admission>,
    pub inner: S,
}

pin_project! {
    /// A refusal, or the answer of the layers below.
    #[project = AdmissionProjection]
    pub enum AdmissionFuture<F> {
        Refused { problem: Option<Problem> },
        Admitted {
            #[pin]
            answer: CatchUnwind<AssertUnwindSafe<F>>,
            request_id: Option<Arc<str>>,
        },
    }
}

// === impl AdmissionService ===

impl<S, Q, B> Service<Request<Q>> for AdmissionService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: Display,
    B: Default,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = AdmissionFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The layers below are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let context = head.extensions.get::<Arc<RequestContext>>();
        let request_id = context.map(|context| context.request_id.clone());
        // What an outer layer found comes first.
        let found = head.extensions.remove::<Problem>();
        let checked = found.map_or_else(|| self.admission.check(&head), Err);
        if let Err(problem) = checked.and_then(|()| choose_coding(&mut head)) {
            return AdmissionFuture::Refused { problem: Some(problem) };
        }
        let answer = self.inner.call(Request::from_parts(head, body));
        AdmissionFuture::Admitted { answer: AssertUnwindSafe(answer).catch_unwind(), request_id }
    }
}

// === impl AdmissionFuture ===

impl<F, B, E> Future for AdmissionFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Display,
    B: Default,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project() {
            AdmissionProjection::Refused { problem } => {
                let problem = problem.take().unwrap_or_else(|| ProblemType::Internal.into());
                problem.into_response_of()
            }
            AdmissionProjection::Admitted { answer, request_id } => {
                match ready!(answer.poll(context)) {
                    Ok(Ok(response)) => with_etag_of_encoding(response),
                    Ok(Err(fault)) => {
                        error!(request_id = request_id.as_deref(), %fault, "service failed");
                        Problem::from(ProblemType::Internal).into_response_of()
                    }
                    Err(_) => {
                        error!(request_id = request_id.as_deref(), "handler panicked");
                        Problem::from(ProblemType::Internal).into_response_of()
                    }
                }
            }
        };
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::api::Options;

    /// Answers 200, fails, or panics, as the path says.
    #[derive(Clone)]
    struct Handler;

    impl Service<Request<()>> for Handler {
        type Response = Response<()>;
        type Error = &'static str;
        type Future = futures_util::future::BoxFuture<'static, Result<Response<()>, &'static str>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            let path = request.uri().path().to_owned();
            Box::pin(async move {
                match path.as_str() {
                    "/panics" => panic!("as the test wants it"),
                    "/fails" => Err("as the test wants it"),
                    _ => Ok(Response::new(())),
                }
            })
        }
    }

    #[tokio::test]
    async fn refusals_failures_and_panics_are_problems() {
        let options = Options {
            request_timeout: std::time::Duration::from_secs(1),
            write_timeout: std::time::Duration::from_secs(1),
            max_body: 10,
            allowed_hosts: vec![],
            cors_origins: vec![],
            trusted_proxies: vec![],
            access_log: false,
            scrape_rate: std::num::NonZeroU32::MIN,
            scrape_burst: std::num::NonZeroU32::MIN,
        };
        let admission = Arc::new(Admission::new(&options, None));
        let mut service = AdmissionService { admission, inner: Handler };
        for (path, host, status) in [
            ("/", "localhost", 200),
            ("/", "evil.example", 421),
            ("/fails", "localhost", 500),
            ("/panics", "localhost", 500),
        ] {
            let request = Request::get(path).header("host", host).body(()).unwrap();
            let response = service.call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{path} {host}");
            assert_eq!(response.extensions().get::<Problem>().is_some(), status != 200);
        }
        let mut found = Request::get("/").header("host", "localhost").body(()).unwrap();
        found.extensions_mut().insert(Problem::header_too_large());
        assert_eq!(service.call(found).await.unwrap().status(), 431);
    }
}

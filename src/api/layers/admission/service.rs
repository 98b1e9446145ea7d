//! The layer that refuses what was not admitted, and catches panics.

use std::convert::Infallible;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::error;

use crate::api::context::RequestContext;
use crate::api::problem::{Problem, ProblemType};

/// Answers requests that were refused with the problem in their extensions, and passes the others on.
#[derive(Clone)]
pub struct AdmissionService<S> {
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

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        if let Some(problem) = request.extensions_mut().remove::<Problem>() {
            return AdmissionFuture::Refused { problem: Some(problem) };
        }
        let answer = self.inner.call(request);
        AdmissionFuture::Admitted { answer: AssertUnwindSafe(answer).catch_unwind() }
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
            AdmissionProjection::Admitted { answer } => match ready!(answer.poll(context)) {
                Ok(Ok(response)) => response,
                Ok(Err(fault)) => {
                    let request_id = RequestContext::current_id();
                    error!(request_id = request_id.as_deref(), %fault, "service failed");
                    Problem::from(ProblemType::Internal).into_response_of()
                }
                Err(_) => {
                    let request_id = RequestContext::current_id();
                    error!(request_id = request_id.as_deref(), "handler panicked");
                    Problem::from(ProblemType::Internal).into_response_of()
                }
            },
        };
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use http::StatusCode;

    use super::*;

    /// Answers 200, fails, or panics, as the path says.
    #[derive(Clone)]
    struct Handler;

    impl Service<Request<()>> for Handler {
        type Response = Response<()>;
        type Error = &'static str;
        type Future = BoxFuture<'static, Result<Response<()>, &'static str>>;

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
        let mut service = AdmissionService { inner: Handler };
        for (path, status) in [("/", 200), ("/fails", 500), ("/panics", 500)] {
            let request = Request::get(path).body(()).unwrap();
            let response = service.call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{path}");
            assert_eq!(response.extensions().get::<Problem>().is_some(), status != 200);
        }
        let mut refused = Request::get("/panics").body(()).unwrap();
        refused.extensions_mut().insert(Problem::header_too_large());
        assert_eq!(service.call(refused).await.unwrap().status(), 431);
    }
}

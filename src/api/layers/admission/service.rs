//! The layer that asks [`Admission`] and catches panics.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::{Request, Response};
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

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, Q, B> Service<Request<Q>> for AdmissionService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: std::fmt::Display,
    S::Future: Send + 'static,
    B: Default + Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<B>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
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
            return Box::pin(std::future::ready(Ok(problem.into_response_of())));
        }
        let answer = self.inner.call(Request::from_parts(head, body));
        Box::pin(async move {
            Ok(match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => with_etag_of_encoding(response),
                Ok(Err(fault)) => {
                    error!(request_id = request_id.as_deref(), %fault, "service failed");
                    Problem::from(ProblemType::Internal).into_response_of()
                }
                Err(_) => {
                    error!(request_id = request_id.as_deref(), "handler panicked");
                    Problem::from(ProblemType::Internal).into_response_of()
                }
            })
        })
    }
}

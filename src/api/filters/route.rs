//! The end of the chain: a path has matched, and the handler of the request's method answers.
//!
//! [`resource!`] states the methods of a path, each with the scope that it needs and its handler. The handler's
//! `#[utoipa::path]` states the method and the template, so the chain and the OpenAPI document are built from
//! the same list. The filter of a resource is `Copy`, and owns nothing: a handler is a function, and the
//! application travels in the request's context.
//!
//! All resources have one type of filter, although each handler has a type of its own: handlers are kept as function
//! pointers. A type of filter for each handler would make the chain one type that the compiler needs minutes for.
//!
//! A resource never rejects. A rejection would let later filters try a request whose path was found already,
//! and `recover` could not tell a wrong method from an unknown path.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Method;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::{HttpMethod, OpenApi};
use warp::reply::Response;
use warp::ws::Ws;
use warp::{Filter, Rejection};

use super::body::Body;
use crate::api::auth::Scope;
use crate::api::authorized::{Admitted, AuthorizedRequest};
use crate::api::context::{RequestContext, Route};
use crate::api::problem::Problem;
use crate::api::reply::JSON;

/// What a handler returns.
pub type Outcome = Result<Response, Problem>;

/// A response to come. A handler's future has a box, once its path and method have matched.
pub type ResponseFuture = BoxFuture<'static, Response>;

/// The operations of the API, collected while the chain is built.
#[derive(Default)]
pub struct Routes {
    operations: Vec<Operation>,
    pages: Vec<&'static str>,
}

/// One method of a path: what its route and its handler say about it.
#[derive(Debug, Clone)]
pub struct Operation {
    pub method: Method,
    pub template: &'static str,
    /// `None`: no key is asked for.
    pub scope: Option<Scope>,
    /// Adds the handler's description to the OpenAPI document.
    pub describe: fn(&mut OpenApi),
    handler: Handler,
}

/// The handler of an operation.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// It only reads.
    Read(fn(Arc<RequestContext>, Option<Scope>) -> ResponseFuture),
    /// It changes something, and takes a body.
    Change(fn(Arc<RequestContext>, Option<Scope>, Body) -> ResponseFuture),
    /// It only reads, and answers over a WebSocket if the request is for one.
    Upgrade(fn(Arc<RequestContext>, Option<Scope>, Option<Ws>) -> ResponseFuture),
}

/// A filter that finds who answers, or rejects because the path is another one. The response itself is
/// waited for outside of the chain, so that it does not move through every filter on its way.
pub trait Answers:
    Filter<Extract = (ResponseFuture,), Error = Rejection> + Copy + Send + Sync + 'static
{
}

impl<F> Answers for F where
    F: Filter<Extract = (ResponseFuture,), Error = Rejection> + Copy + Send + Sync + 'static
{
}

/// What stands behind a path that has matched: it never rejects.
pub trait AlwaysAnswers:
    Filter<Extract = (ResponseFuture,), Error = Infallible> + Copy + Send + Sync + 'static
{
}

impl<F> AlwaysAnswers for F where
    F: Filter<Extract = (ResponseFuture,), Error = Infallible> + Copy + Send + Sync + 'static
{
}

/// A path that was found, and the methods that it has. Lives as long as the process: the chain is built once, and
/// its filters, which are copied for each request, have a reference.
pub struct Resource {
    route: Route,
    operations: Vec<Operation>,
    /// For `Allow`.
    allowed: Vec<Method>,
}

/// The methods of a path, each with its scope and its handler:
/// `resource!(routes: get Read orders, post Trade place_order)`. The scope is `Anyone` where no key is
/// asked for. `upgradable!` is the same for a handler that may answer over a WebSocket.
macro_rules! resource {
    ($routes:ident: $($method:ident $scope:ident $handler:ident),+) => {
        $crate::api::filters::route::answer($routes.resource(vec![
            $($crate::api::filters::route::operation!($method $method $scope $handler)),+
        ]))
    };
}

macro_rules! upgradable {
    ($routes:ident: get $scope:ident $handler:ident) => {
        $crate::api::filters::route::answer_or_upgrade($routes.resource(vec![
            $crate::api::filters::route::operation!(get upgrade $scope $handler)
        ]))
    };
}

/// The operation of a handler.
macro_rules! operation {
    ($method:ident $kind:ident $scope:ident $handler:ident) => {
        pastey::paste! {
            $crate::api::filters::route::Operation::of::<[<__path_ $handler>]>(
                http::Method::[<$method:upper>],
                $crate::api::filters::route::scope!($scope),
                $crate::api::filters::route::handler!($kind $handler),
            )
        }
    };
}

/// A handler as a function pointer.
macro_rules! handler {
    (get $handler:ident) => {
        $crate::api::filters::route::Handler::Read(|context, scope| {
            $crate::api::filters::route::read(context, scope, $handler)
        })
    };
    (upgrade $handler:ident) => {
        $crate::api::filters::route::Handler::Upgrade(|context, scope, upgrade| {
            $crate::api::filters::route::upgrade(context, scope, upgrade, $handler)
        })
    };
    (post $handler:ident) => {
        $crate::api::filters::route::handler!(change $handler)
    };
    (put $handler:ident) => {
        $crate::api::filters::route::handler!(change $handler)
    };
    (delete $handler:ident) => {
        $crate::api::filters::route::handler!(change $handler)
    };
    (change $handler:ident) => {
        $crate::api::filters::route::Handler::Change(|context, scope, body| {
            $crate::api::filters::route::change(context, scope, body, $handler)
        })
    };
}

/// The scope of a name in [`resource!`].
macro_rules! scope {
    (Anyone) => {
        None
    };
    ($scope:ident) => {
        Some($crate::api::auth::Scope::$scope)
    };
}

pub(crate) use {handler, operation, resource, scope, upgradable};

// === impl Operation ===

impl Operation {
    /// The operation of a handler, which describes it.
    ///
    /// # Panics
    /// If the handler describes another method, so that the chain and the document would differ.
    pub fn of<P>(method: Method, scope: Option<Scope>, handler: Handler) -> Operation
    where
        P: utoipa::Path + Tags<'static> + SchemaReferences,
    {
        let described = P::methods().iter().map(http_method).collect::<Vec<_>>();
        assert_eq!(described, [Some(method.clone())], "the method of {} is described", P::path());
        // A chain is built once in the life of a process.
        Operation { method, template: P::path().leak(), scope, describe: describe::<P>, handler }
    }
}

fn http_method(described: &HttpMethod) -> Option<Method> {
    match described {
        HttpMethod::Get => Some(Method::GET),
        HttpMethod::Post => Some(Method::POST),
        HttpMethod::Put => Some(Method::PUT),
        HttpMethod::Delete => Some(Method::DELETE),
        _ => None,
    }
}

fn describe<P>(document: &mut OpenApi)
where
    P: utoipa::Path + Tags<'static> + SchemaReferences,
{
    let mut operation = P::operation();
    let tags = P::tags().into_iter().map(str::to_owned);
    operation.tags.get_or_insert_default().extend(tags);
    document.paths.add_path_operation(P::path(), P::methods(), operation);
    let mut schemas = vec![];
    P::schemas(&mut schemas);
    document.components.get_or_insert_default().schemas.extend(schemas);
}

// === impl Routes ===

impl Routes {
    /// Adds the operations of a path.
    pub fn resource(&mut self, operations: Vec<Operation>) -> &'static Resource {
        let template = operations[0].template;
        assert!(
            operations.iter().all(|operation| operation.template == template),
            "the operations of a resource have one path, {template} has others",
        );
        self.operations.extend(operations.iter().cloned());
        let allowed: Vec<Method> =
            operations.iter().map(|operation| operation.method.clone()).collect();
        let distinct: HashSet<&Method> = allowed.iter().collect();
        assert_eq!(distinct.len(), allowed.len(), "a method of {template} is stated twice");
        Resource::new(template, operations, allowed)
    }

    /// Adds a page for browsers, of which the document says nothing.
    pub fn page(&mut self, template: &'static str) -> &'static Resource {
        self.pages.push(template);
        Resource::new(template, vec![], vec![Method::GET])
    }

    /// The operations that the document describes.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The templates of the pages for browsers.
    #[cfg(test)]
    pub fn pages(&self) -> &[&'static str] {
        &self.pages
    }
}

// === impl Resource ===

impl Resource {
    fn new(
        template: &'static str,
        operations: Vec<Operation>,
        mut allowed: Vec<Method>,
    ) -> &'static Resource {
        if allowed.contains(&Method::GET) {
            allowed.push(Method::HEAD);
        }
        Box::leak(Box::new(Resource { route: Route::new(template), operations, allowed }))
    }

    /// The operation of a method. HEAD is GET, whose body is not sent.
    fn operation(&self, method: &Method) -> Option<&Operation> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.operations.iter().find(|operation| operation.method == *method)
    }

    fn method_not_allowed(&self) -> ResponseFuture {
        let problem = Problem::method_not_allowed(&self.allowed);
        Box::pin(std::future::ready(problem.into_response()))
    }
}

// === filters ===

/// Answers the methods of a resource, and every other method with 405.
pub fn answer(resource: &'static Resource) -> impl AlwaysAnswers {
    warp::any().map(move || begin(resource, None))
}

/// The same, over a WebSocket if the request is for one.
pub fn answer_or_upgrade(resource: &'static Resource) -> impl AlwaysAnswers {
    let upgrade = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    upgrade.map(move |upgrade| begin(resource, upgrade))
}

/// Notes the route, before anything can fail, and begins to answer.
fn begin(resource: &'static Resource, upgrade: Option<Ws>) -> ResponseFuture {
    let context = RequestContext::current();
    context.note_route(&resource.route);
    let Some(operation) = resource.operation(&context.method) else {
        return resource.method_not_allowed();
    };
    match operation.handler {
        Handler::Read(run) => run(context, operation.scope),
        Handler::Change(run) => {
            let body = Body::of(context.clone());
            run(context, operation.scope, body)
        }
        Handler::Upgrade(run) => run(context, operation.scope, upgrade),
    }
}

/// Answers GET with a page for browsers, for which no key is asked.
pub fn page<R, F>(
    resource: &'static Resource,
    handler: impl Fn(R) -> F + Copy + Send + Sync + 'static,
) -> impl AlwaysAnswers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    warp::any().map(move || {
        let context = RequestContext::current();
        context.note_route(&resource.route);
        if resource.allowed.contains(&context.method) {
            read(context, None, handler)
        } else {
            resource.method_not_allowed()
        }
    })
}

// === handlers ===

/// Runs a handler of a request that only reads.
pub fn read<R, F>(
    context: Arc<RequestContext>,
    scope: Option<Scope>,
    handler: impl Fn(R) -> F + Send + 'static,
) -> ResponseFuture
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let request = AuthorizedRequest::authorize(context, scope).and_then(R::admit);
    respond(async move { handler(request?).await })
}

/// Runs a handler that may answer over a WebSocket.
pub fn upgrade<R, F>(
    context: Arc<RequestContext>,
    scope: Option<Scope>,
    upgrade: Option<Ws>,
    handler: impl Fn(R, Option<Ws>) -> F + Send + 'static,
) -> ResponseFuture
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let request = AuthorizedRequest::authorize(context, scope).and_then(R::admit);
    respond(async move { handler(request?, upgrade).await })
}

/// Runs a handler of a request that changes something. A client that takes no JSON hears of it
/// before anything is done.
pub fn change<R, F>(
    context: Arc<RequestContext>,
    scope: Option<Scope>,
    body: Body,
    handler: impl Fn(R, Body) -> F + Send + 'static,
) -> ResponseFuture
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let request = AuthorizedRequest::authorize(context, scope).and_then(|request| {
        request.accepts(JSON)?;
        R::admit(request)
    });
    respond(async move { handler(request?, body).await })
}

fn respond(outcome: impl Future<Output = Outcome> + Send + 'static) -> ResponseFuture {
    // Not an async block: it would have room for the future twice.
    Box::pin(outcome.map(|outcome| outcome.unwrap_or_else(Problem::into_response)))
}

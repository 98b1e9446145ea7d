//! The end of the chain: a path has matched, and one of its methods answers.
//!
//! [`resource!`] states the methods of a path, each with the scope that it needs and its handler. The handler's
//! `#[utoipa::path]` states the method and the template, so the chain and the OpenAPI document are built from
//! the same list. What a resource is made of is `Copy`, and owns nothing: a handler is a function, and the
//! application travels in the request's context.
//!
//! A resource never rejects. A rejection would let later filters try a request whose path was found already,
//! and `recover` could not tell a wrong method from an unknown path.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::{HttpMethod, OpenApi};
use warp::reply::Response;
use warp::ws::Ws;
use warp::{Filter, Rejection};

use super::body::{Body, body};
use super::path::context;
use crate::api::auth::Scope;
use crate::api::authorized::{Admitted, AuthorizedRequest};
use crate::api::context::{RequestContext, Route};
use crate::api::problem::Problem;
use crate::api::reply::JSON;

/// What a handler returns.
pub type Outcome = Result<Response, Problem>;

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
}

/// A filter that answers, or rejects because path or method are others.
pub trait Answers:
    Filter<Extract = (Response,), Error = Rejection> + Copy + Send + Sync + 'static
{
}

impl<F> Answers for F where
    F: Filter<Extract = (Response,), Error = Rejection> + Copy + Send + Sync + 'static
{
}

/// A path that was found, and the methods that it has.
#[derive(Clone, Copy)]
pub struct Resource {
    route: &'static Route,
    allowed: &'static [Method],
}

/// The methods of a path, each with its scope and its handler:
/// `resource!(routes: get Read orders, post Trade place_order)`. The scope is `Anyone` where no key is
/// asked for.
macro_rules! resource {
    ($routes:ident: $($method:ident $scope:ident $handler:ident),+) => {
        pastey::paste! {{
            use warp::Filter as _;
            use $crate::api::filters::route;
            let resource = $routes.resource(vec![
                $(route::Operation::of::<[<__path_ $handler>]>(route::scope!($scope))),+
            ]);
            route::resource!(@first resource $($method $scope $handler),+)
        }}
    };
    (@first $resource:ident $method:ident $scope:ident $handler:ident
        $(, $methods:ident $scopes:ident $handlers:ident)*
    ) => {
        route::$method($resource, route::scope!($scope), $handler)
            $(.or(route::$methods($resource, route::scope!($scopes), $handlers)).unify())*
            .or(route::method_not_allowed($resource))
            .unify()
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

pub(crate) use {resource, scope};

// === impl Operation ===

impl Operation {
    /// The operation that a handler describes.
    pub fn of<P>(scope: Option<Scope>) -> Operation
    where
        P: utoipa::Path + Tags<'static> + SchemaReferences,
    {
        let [method] = &*P::methods() else {
            panic!("{} has one handler for each method", P::path());
        };
        let method = match method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Delete => Method::DELETE,
            _ => panic!("no filter takes the method of {}", P::path()),
        };
        // A chain is built once in the life of a process.
        Operation { method, template: P::path().leak(), scope, describe: describe::<P> }
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
    pub fn resource(&mut self, operations: Vec<Operation>) -> Resource {
        let template = operations[0].template;
        assert!(
            operations.iter().all(|operation| operation.template == template),
            "the operations of a resource have one path, {template} has others",
        );
        let allowed = operations.iter().map(|operation| operation.method.clone()).collect();
        self.operations.extend(operations);
        Resource::new(template, allowed)
    }

    /// Adds a page for browsers, of which the document says nothing.
    pub fn page(&mut self, template: &'static str) -> Resource {
        self.pages.push(template);
        Resource::new(template, vec![Method::GET])
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
    /// Notes the route, before anything can fail, and admits the request to it.
    fn admit<R: Admitted>(
        self,
        context: Arc<RequestContext>,
        scope: Option<Scope>,
    ) -> Result<R, Problem> {
        context.note_route(self.route);
        AuthorizedRequest::authorize(context, scope).and_then(R::admit)
    }

    /// The same for a request that changes something. A client that takes no JSON hears of it before
    /// anything is done.
    fn admit_change<R: Admitted>(
        self,
        context: Arc<RequestContext>,
        scope: Option<Scope>,
    ) -> Result<R, Problem> {
        context.note_route(self.route);
        let request = AuthorizedRequest::authorize(context, scope)?;
        request.accepts(JSON)?;
        R::admit(request)
    }

    fn new(template: &'static str, mut allowed: Vec<Method>) -> Resource {
        if allowed.contains(&Method::GET) {
            allowed.push(Method::HEAD);
        }
        // Filters are copied for each request, and a chain is built once in the life of a process.
        Resource { route: Box::leak(Box::new(Route::new(template))), allowed: allowed.leak() }
    }
}

/// Answers GET, and HEAD as GET whose body is not sent.
pub fn get<R, F>(
    resource: Resource,
    scope: Option<Scope>,
    handler: impl Fn(R) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    get_or_head().and(context()).then(move |context: Arc<RequestContext>| {
        let request = resource.admit(context, scope);
        respond(async move { handler(request?).await })
    })
}

/// Answers GET, over a WebSocket if the request is for one.
pub fn get_or_upgrade<R, F>(
    resource: Resource,
    scope: Option<Scope>,
    handler: impl Fn(R, Option<Ws>) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let upgrade = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    get_or_head().and(context()).and(upgrade).then(
        move |context: Arc<RequestContext>, upgrade: Option<Ws>| {
            let request = resource.admit(context, scope);
            respond(async move { handler(request?, upgrade).await })
        },
    )
}

/// Answers POST.
pub fn post<R, F>(
    resource: Resource,
    scope: Option<Scope>,
    handler: impl Fn(R, Body) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    change(warp::post(), resource, scope, handler)
}

/// Answers PUT.
pub fn put<R, F>(
    resource: Resource,
    scope: Option<Scope>,
    handler: impl Fn(R, Body) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    change(warp::put(), resource, scope, handler)
}

/// Answers DELETE.
pub fn delete<R, F>(
    resource: Resource,
    scope: Option<Scope>,
    handler: impl Fn(R, Body) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    change(warp::delete(), resource, scope, handler)
}

/// Answers a method that changes something.
fn change<R, F>(
    method: impl Filter<Extract = (), Error = Rejection> + Copy + Send + Sync + 'static,
    resource: Resource,
    scope: Option<Scope>,
    handler: impl Fn(R, Body) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    method.and(context()).and(body()).then(move |context: Arc<RequestContext>, body: Body| {
        let request = resource.admit_change(context, scope);
        respond(async move { handler(request?, body).await })
    })
}

/// Answers GET with a page for browsers, for which no key is asked.
pub fn page<R, F>(
    resource: Resource,
    handler: impl Fn(R) -> F + Copy + Send + Sync + 'static,
) -> impl Answers
where
    R: Admitted + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    get(resource, None, handler).or(method_not_allowed(resource)).unify()
}

/// Answers every method that the filters before it did not take.
pub fn method_not_allowed(resource: Resource) -> impl Answers {
    context().map(move |context: Arc<RequestContext>| {
        context.note_route(resource.route);
        Problem::method_not_allowed(resource.allowed).into_response()
    })
}

fn get_or_head() -> impl Filter<Extract = (), Error = Rejection> + Copy + Send + Sync + 'static {
    warp::get().or(warp::head()).unify()
}

/// Runs a handler. Handlers' futures differ in size by a lot, and filters move theirs from hand to hand, so a
/// handler's future has a box, once its path and method have matched.
fn respond(
    outcome: impl Future<Output = Outcome> + Send + 'static,
) -> BoxFuture<'static, Response> {
    Box::pin(async { outcome.await.unwrap_or_else(Problem::into_response) })
}

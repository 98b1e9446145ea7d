//! The routes, one file an area. Each area adds its path templates with what
//! answers them to a [`Table`]; one warp filter looks a request's path up in it.
//! `docs/architecture.md` follows a request through; `/openapi.json` lists them.

mod accounts;
mod console;
mod docs;
mod health;
mod history;
mod orders;
mod rates;
mod stream;
mod symbols;
mod terminal;
mod trades;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use http::Method;
use http::header::UPGRADE;
use matchit::{Params, Router};
use percent_encoding::percent_decode_str;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::ws::Ws;

use super::App;
use super::auth::Scope;
use super::context::{AuthorizedRequest, RequestContext, Route};
use super::filters::body::Body;
use super::problem::Problem;
use super::reply::JSON;

pub use self::accounts::{__path_list, __path_one, __path_restart};
pub use self::console::__path_console;
pub use self::docs::__path_root;
pub use self::health::{__path_livez, __path_metrics, __path_readyz, ReadySessions, STATUS_OK};
pub use self::history::HISTORY_WINDOW;
pub use self::history::{
    __path_history_deals, __path_history_deals_total, __path_history_orders,
    __path_history_orders_total,
};
pub use self::orders::{
    __path_order, __path_orders, __path_orders_total, __path_position, __path_positions,
    __path_positions_total,
};
pub use self::rates::{__path_rates, __path_ticks};
pub use self::stream::__path_stream;
pub use self::symbols::{
    __path_book, __path_select, __path_symbol, __path_symbols, __path_symbols_total, __path_tick,
};
pub use self::terminal::{
    __path_account, __path_error, __path_ping, __path_terminal, __path_version,
};
pub use self::trades::REPLAYED;
pub use self::trades::{
    __path_calc_margin, __path_calc_profit, __path_cancel_order, __path_check_order,
    __path_close_position, __path_close_position_with, __path_modify_order, __path_modify_position,
    __path_place_order, __path_resolve_trade, __path_trade, __path_trades, PresentBody, Traded,
};

/// What a handler gives back.
type Outcome = Result<Response, Problem>;

/// Every route, and the problem for what is none.
pub fn all(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let (app, router) = (app.clone(), Arc::new(table().router()));

    // What asks for no other protocol need not be asked what it would take for one.
    let plain = warp::ext::get::<Arc<RequestContext>>().and_then(|context: Arc<RequestContext>| {
        let plain = !context.headers.contains_key(UPGRADE);
        std::future::ready(if plain { Ok((context, None)) } else { Err(warp::reject()) })
    });
    let upgrade = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    let upgrade =
        warp::ext::get::<Arc<RequestContext>>().and(upgrade).map(|context, ws| (context, ws));
    let body = warp::body::stream()
        .map(|body| StreamExt::map(body, |piece: Result<_, _>| piece.map(take_all)).boxed());
    plain
        .or(upgrade)
        .unify()
        .untuple_one()
        .and(body)
        .then(move |context, upgrade, body| {
            let (app, router) = (app.clone(), router.clone());
            async move {
                let outcome = answer(app, &router, context, upgrade, body).await;
                outcome.unwrap_or_else(Problem::into_response)
            }
        })
        .boxed()
}

fn table() -> Table {
    let mut table = Table::default();
    accounts::add(&mut table);
    symbols::add(&mut table);
    rates::add(&mut table);
    terminal::add(&mut table);
    orders::add(&mut table);
    trades::add(&mut table);
    history::add(&mut table);
    stream::add(&mut table);
    console::add(&mut table);
    health::add(&mut table);
    docs::add(&mut table);
    table
}

/// An operation as the table of routes has it.
#[derive(Debug)]
pub struct Described {
    pub template: &'static str,
    pub method: Method,
    /// `None`: no key is asked for.
    pub scope: Option<Scope>,
}

/// The operations of every route.
pub fn operations() -> Vec<Described> {
    let resources = table().0.into_iter();
    let operations = resources.flat_map(|(template, resource)| {
        resource.operations.into_iter().map(move |operation| Described {
            template,
            method: operation.method,
            scope: operation.scope,
        })
    });
    operations.collect()
}

/// Finds the route of a request and lets its handler answer.
async fn answer(
    app: Arc<App>,
    router: &Router<Resource>,
    context: Arc<RequestContext>,
    upgrade: Option<Ws>,
    body: Body,
) -> Outcome {
    let path = context.path();
    let found =
        router
            .at(path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path))
            .map_err(|_| Problem::not_found("there is no such route; /openapi.json lists them"))?;
    context.matched(&app, &found.value.route);
    let operation = found.value.operation(&context.method)?;
    let segments = Segments::decode(&found.params);
    let call = AuthorizedRequest::admit(app, context.clone(), operation.scope)?;
    if operation.method != Method::GET {
        // A client that takes no JSON hears of it before anything is done.
        call.accepts(JSON)?;
    }
    (operation.handler)(call, segments, body, upgrade).await
}

fn take_all(mut piece: impl Buf) -> Bytes {
    piece.copy_to_bytes(piece.remaining())
}

/// The path templates, and what answers them.
#[derive(Default)]
struct Table(BTreeMap<&'static str, Resource>);

/// What stands behind one path template.
struct Resource {
    route: Arc<Route>,
    operations: Vec<Operation>,
}

/// What answers one method.
struct Operation {
    method: Method,
    /// `None`: no key is asked for.
    scope: Option<Scope>,
    handler: Handler,
}

type Handler = Box<
    dyn Fn(AuthorizedRequest, Segments, Body, Option<Ws>) -> BoxFuture<'static, Outcome>
        + Send
        + Sync,
>;

impl Table {
    /// Reads with the scope `read`.
    fn get<T, F>(
        &mut self,
        template: &'static str,
        handler: impl Fn(AuthorizedRequest, T) -> F + Send + Sync + 'static,
    ) where
        T: From<Segments>,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let handler = move |call, path, _, _| handler(call, path);
        self.add(Method::GET, template, Some(Scope::Read), handler);
    }

    /// Reads without a key.
    fn open<T, F>(
        &mut self,
        template: &'static str,
        handler: impl Fn(AuthorizedRequest, T) -> F + Send + Sync + 'static,
    ) where
        T: From<Segments>,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let handler = move |call, path, _, _| handler(call, path);
        self.add(Method::GET, template, None, handler);
    }

    /// Takes a body.
    fn send<T, F>(
        &mut self,
        method: Method,
        template: &'static str,
        scope: Scope,
        handler: impl Fn(AuthorizedRequest, T, Body) -> F + Send + Sync + 'static,
    ) where
        T: From<Segments>,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let handler = move |call, path, body, _| handler(call, path, body);
        self.add(method, template, Some(scope), handler);
    }

    fn add<T, F>(
        &mut self,
        method: Method,
        template: &'static str,
        scope: Option<Scope>,
        handler: impl Fn(AuthorizedRequest, T, Body, Option<Ws>) -> F + Send + Sync + 'static,
    ) where
        T: From<Segments>,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let handler: Handler = Box::new(move |call, segments, body, upgrade| {
            handler(call, segments.into(), body, upgrade).boxed()
        });
        let resource = self.0.entry(template).or_insert_with(|| Resource {
            route: Arc::new(Route::new(template)),
            operations: vec![],
        });
        resource.operations.push(Operation { method, scope, handler });
    }

    fn router(self) -> Router<Resource> {
        let mut router = Router::new();
        for (template, resource) in self.0 {
            router.insert(template, resource).expect("the templates above are well-formed");
        }
        router
    }
}

impl Resource {
    /// What answers a method. HEAD is GET whose body is not sent.
    fn operation(&self, method: &Method) -> Result<&Operation, Problem> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let found = self.operations.iter().find(|operation| operation.method == *wanted);
        found.ok_or_else(|| {
            let mut allowed: Vec<Method> =
                self.operations.iter().map(|operation| operation.method.clone()).collect();
            if allowed.contains(&Method::GET) {
                allowed.push(Method::HEAD);
            }
            Problem::method_not_allowed(&allowed)
        })
    }
}

/// The variable segments of a path, decoded, in the order of its template.
struct Segments(std::vec::IntoIter<String>);

impl Segments {
    fn decode(params: &Params<'_, '_>) -> Segments {
        let decode = |raw| percent_decode_str(raw).decode_utf8_lossy().into_owned();
        Segments(params.iter().map(|(_, raw)| decode(raw)).collect::<Vec<_>>().into_iter())
    }

    /// The next one; the template has as many as its handler takes.
    fn take(&mut self) -> String {
        self.0.next().unwrap_or_default()
    }
}

impl From<Segments> for () {
    fn from(_: Segments) {}
}

impl From<Segments> for String {
    fn from(mut segments: Segments) -> String {
        segments.take()
    }
}

impl From<Segments> for (String, String) {
    fn from(mut segments: Segments) -> (String, String) {
        (segments.take(), segments.take())
    }
}

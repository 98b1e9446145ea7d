//! The routes, one file an area. `docs/architecture.md` follows a request
//! through them; `/openapi.json` lists them.

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

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::Method;
use percent_encoding::percent_decode_str;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::App;
use super::auth::Scope;
use super::problem::Problem;
use super::request::{Call, Exchange, Route};

pub use self::accounts::{__path_list, __path_one, __path_restart};
pub use self::console::__path_console;
pub use self::health::{__path_livez, __path_metrics, __path_readyz};
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
pub use self::trades::{
    __path_calc_margin, __path_calc_profit, __path_cancel_order, __path_check_order,
    __path_close_position, __path_modify_order, __path_modify_position, __path_place_order,
    __path_trade, __path_trades,
};

/// What a handler gives back.
type Outcome = Result<Response, Problem>;

/// What a group of routes is.
type Routes = BoxedFilter<(Response,)>;

/// A body as it arrives.
pub type Body = BoxStream<'static, Result<Bytes, warp::Error>>;

/// Every route, and the problem for what is none.
pub fn all(app: &Arc<App>) -> Routes {
    let v1 = warp::path("api").and(warp::path("v1"));
    let unmatched = warp::ext::get::<Arc<Exchange>>()
        .map(|exchange: Arc<Exchange>| exchange.unmatched().into_response());
    let accounts = v1.and(warp::path("accounts")).and(accounts::routes(app)).boxed();
    let console = v1.and(warp::path("console")).and(console::data(app)).boxed();
    first_of([
        accounts,
        health::routes(app),
        docs::routes(app),
        console::routes(app),
        console,
        unmatched.boxed(),
    ])
}

/// The first of these routes that takes a request: one level deep for the first, one deeper for
/// each that follows, so what is asked for most comes first.
fn first_of<const N: usize>(routes: [Routes; N]) -> Routes {
    let nested = |later: Routes, earlier: Routes| earlier.or(later).unify().boxed();
    routes.into_iter().rev().reduce(nested).expect("a group has routes")
}

/// A piece of the path, decoded.
fn segment() -> impl Filter<Extract = (String,), Error = Rejection> + Copy {
    warp::path::param().map(|raw: String| percent_decode_str(&raw).decode_utf8_lossy().into_owned())
}

/// A route and who may use it.
struct Endpoint<'a> {
    app: &'a Arc<App>,
    method: Method,
    template: &'static str,
    scope: Option<Scope>,
}

impl<'a> Endpoint<'a> {
    /// Reads with the scope `read`.
    fn get(app: &'a Arc<App>, template: &'static str) -> Self {
        Endpoint { app, method: Method::GET, template, scope: Some(Scope::Read) }
    }

    /// Reads without a key.
    fn open(app: &'a Arc<App>, template: &'static str) -> Self {
        Endpoint { app, method: Method::GET, template, scope: None }
    }

    fn post(app: &'a Arc<App>, template: &'static str, scope: Scope) -> Self {
        Endpoint { app, method: Method::POST, template, scope: Some(scope) }
    }

    /// Trades with the scope `trade`.
    fn trade(app: &'a Arc<App>, method: Method, template: &'static str) -> Self {
        Endpoint { app, method, template, scope: Some(Scope::Trade) }
    }

    /// Answers requests for `path` by `handler`.
    fn to<P, T, H, F>(self, path: P, handler: H) -> Routes
    where
        P: Filter<Extract = (T,), Error = Rejection> + Clone + Send + Sync + 'static,
        T: Send + 'static,
        H: Fn(Call, T) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send,
    {
        let (app, scope) = (self.app.clone(), self.scope);
        self.matched(path)
            .then(move |path: T, exchange: Arc<Exchange>| {
                let call = Call::admit(app.clone(), exchange, scope);
                let handler = handler.clone();
                async move { respond(async { handler(call?, path).await }.await) }
            })
            .boxed()
    }

    /// Answers requests for `path`, which may have a body, by `handler`.
    fn with_body<P, T, H, F>(self, path: P, handler: H) -> Routes
    where
        P: Filter<Extract = (T,), Error = Rejection> + Clone + Send + Sync + 'static,
        T: Send + 'static,
        H: Fn(Call, T, Body) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send,
    {
        let (app, scope) = (self.app.clone(), self.scope);
        let body = warp::body::stream()
            .map(|body| StreamExt::map(body, |piece: Result<_, _>| piece.map(take_all)).boxed());
        self.matched(path)
            .and(body)
            .then(move |path: T, exchange: Arc<Exchange>, body: Body| {
                let call = Call::admit(app.clone(), exchange, scope);
                let handler = handler.clone();
                async move { respond(async { handler(call?, path, body).await }.await) }
            })
            .boxed()
    }

    /// Passes requests whose path and method match, and tells their exchange
    /// the route; notes what the path would take for those whose method does not.
    fn matched<P, T>(
        self,
        path: P,
    ) -> impl Filter<Extract = (T, Arc<Exchange>), Error = Rejection> + Clone + Send + Sync + 'static
    where
        P: Filter<Extract = (T,), Error = Rejection> + Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let (app, method) = (self.app.clone(), self.method);
        let route = Arc::new(Route::new(self.template));
        path.and(warp::path::end())
            .and(warp::ext::get::<Arc<Exchange>>())
            .and_then(move |path: T, exchange: Arc<Exchange>| {
                exchange.matched(&app, &route);
                let head = method == Method::GET && exchange.method == Method::HEAD;
                let takes = exchange.method == method || head;
                if !takes {
                    exchange.allow(std::slice::from_ref(&method));
                    if method == Method::GET {
                        exchange.allow(&[Method::HEAD]);
                    }
                }
                std::future::ready(if takes { Ok((path, exchange)) } else { Err(warp::reject()) })
            })
            .untuple_one()
    }
}

fn take_all(mut piece: impl Buf) -> Bytes {
    piece.copy_to_bytes(piece.remaining())
}

fn respond(outcome: Outcome) -> Response {
    outcome.unwrap_or_else(Problem::into_response)
}

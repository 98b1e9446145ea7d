//! The API's table of contents: a chain of warp filters, one file for each resource.
//!
//! The chain is made of areas, each behind the prefix that its paths share. `docs/architecture.md` follows a
//! request through it, and [`filters::route`](super::filters::route) says what stands behind a path.

mod account_settings;
mod accounts;
mod calc;
mod console;
mod docs;
mod execute;
mod halt;
mod health;
mod history;
mod orders;
mod positions;
mod rates;
mod reload;
mod selection;
mod stream;
mod symbols;
mod terminal;
mod trades;

use std::convert::Infallible;
use std::sync::LazyLock;

use bytes::Bytes;
use warp::reply::Response;
use warp::{Filter, Rejection, path};

use super::filters::path::account;
use super::filters::route::{ResponseFuture, Routes};
use super::problem::Problem;

pub use self::execute::{ExecutedTrade, PresentBody};
pub use self::health::{ReadySessions, STATUS_OK};
pub use self::history::HISTORY_WINDOW;

/// The chain, and the routes that it serves. `document` is the OpenAPI document, which is made from these routes.
pub fn chain(
    document: &'static LazyLock<Bytes>,
) -> (impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static, Routes)
{
    let mut routes = Routes::default();

    // Clients ask for prices most, so they are tried first. Everything after them is one box, because a
    // filter that is tried has cloned what comes after it.
    let symbols = path("symbols").and(symbols::area(&mut routes));
    let others = path("positions")
        .and(positions::area(&mut routes).boxed())
        .or(path("orders").and(orders::area(&mut routes).boxed()))
        .unify()
        .or(path("trades").and(trades::area(&mut routes).boxed()))
        .unify()
        .or(path("history").and(history::area(&mut routes).boxed()))
        .unify()
        .or(path("calc").and(calc::area(&mut routes).boxed()))
        .unify()
        .or(stream::area(&mut routes).boxed())
        .unify()
        .or(terminal::area(&mut routes).boxed())
        .unify()
        .or(halt::of_account(&mut routes).boxed())
        .unify()
        .or(accounts::area(&mut routes).boxed())
        .unify();
    let of_account = symbols.or(others.boxed()).unify();
    let accounts = account().and(of_account).or(accounts::collection(&mut routes)).unify();
    let api = path("accounts").and(accounts).or(console::figures(&mut routes)).unify();
    let api = api.or(reload::area(&mut routes)).unify().or(halt::area(&mut routes)).unify();

    let others = health::area(&mut routes)
        .boxed()
        .or(path("console").and(console::pages(&mut routes).boxed()))
        .unify()
        .or(path("docs").and(docs::pages(&mut routes).boxed()))
        .unify()
        .or(docs::area(&mut routes, document).boxed())
        .unify();
    let chain = path("api")
        .and(path("v1"))
        .and(api)
        .or(others.boxed())
        .unify()
        .then(|response: ResponseFuture| response)
        .recover(no_such_route)
        .unify();
    (chain, routes)
}

/// Answers what no filter took. A path that matches never rejects, so every rejection means an unknown path.
async fn no_such_route(_: Rejection) -> Result<Response, Infallible> {
    let problem = Problem::not_found("there is no such route; /openapi.json lists them");
    Ok(problem.into_response())
}

#[cfg(test)]
mod tests;

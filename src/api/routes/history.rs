//! Orders and deals of the past.

use http::{HeaderName, HeaderValue};
use utoipa::IntoParams;
use warp::path::end;
use warp::reply::Response;
use warp::{Filter, path};

use crate::api::authorized::AccountRequest;
use crate::api::export::{self, Facts, Format};
use crate::api::filters::history_filter::{Historic, HistoryFilter};
use crate::api::filters::path::last;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::openapi::time::TimeBody;
use crate::api::problem::Problem;
use crate::api::reply::json;
use crate::mt5::{Deal, Mt5Call, Order, Selection, ServerTime, calls};
use crate::pool::Account;

/// The dates that were applied, `FROM/TO`, where the zone of the server's clock is not known: what
/// a client that thinks in UTC does not find lies outside of them.
pub const HISTORY_WINDOW: HeaderName = HeaderName::from_static("history-window");

/// `/api/v1/accounts/{account}/history`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let orders = end()
        .and(resource!(routes: get Read history_orders))
        .or(last("total").and(resource!(routes: get Read history_orders_total)))
        .unify();
    let deals = end()
        .and(resource!(routes: get Read history_deals))
        .or(last("total").and(resource!(routes: get Read history_deals_total)))
        .unify();
    path("orders").and(orders).or(path("deals").and(deals)).unify()
}

/// The calls that read a kind of history.
trait HistoryCalls: Historic + Sized {
    type Get: Mt5Call<Reply = Vec<Self>>;
    type Total: Mt5Call<Reply = u64>;

    fn get(dates: (ServerTime, ServerTime), selection: Selection) -> Self::Get;
    fn total(dates: (ServerTime, ServerTime)) -> Self::Total;
}

impl HistoryCalls for Order {
    type Get = calls::HistoryOrdersGet;
    type Total = calls::HistoryOrdersTotal;

    fn get((date_from, date_to): (ServerTime, ServerTime), selection: Selection) -> Self::Get {
        calls::HistoryOrdersGet { date_from, date_to, selection }
    }

    fn total((date_from, date_to): (ServerTime, ServerTime)) -> Self::Total {
        calls::HistoryOrdersTotal { date_from, date_to }
    }
}

impl HistoryCalls for Deal {
    type Get = calls::HistoryDealsGet;
    type Total = calls::HistoryDealsTotal;

    fn get((date_from, date_to): (ServerTime, ServerTime), selection: Selection) -> Self::Get {
        calls::HistoryDealsGet { date_from, date_to, selection }
    }

    fn total((date_from, date_to): (ServerTime, ServerTime)) -> Self::Total {
        calls::HistoryDealsTotal { date_from, date_to }
    }
}

async fn history_of<T: HistoryCalls>(
    request: &AccountRequest,
    filtered: &HistoryFilter,
) -> Result<Vec<T>, Problem> {
    let dates = filtered.server_dates(&request.account);
    let mut found = request.ask(T::get(dates, filtered.selection())).await?;
    filtered.apply(&mut found);
    Ok(found)
}

async fn list<T>(request: AccountRequest) -> Outcome
where
    T: HistoryCalls,
    Vec<T>: export::Table,
{
    let account = &request.account;
    let mut parameters = request.parameters()?;
    let filtered = HistoryFilter::take(&mut parameters, account)?;
    let format = Format::take(&request, &mut parameters)?;
    parameters.finish()?;
    let closed = filtered.to.is_some_and(|to| account.is_past(to.ceil_seconds()));
    let facts = Facts { utc: account.is_utc(), closed };
    let found: Vec<T> = history_of(&request, &filtered).await?;
    let response = export::answer(&request, format, facts, found).await?;
    Ok(with_window(response, account, &filtered))
}

async fn total<T: HistoryCalls>(request: AccountRequest) -> Outcome {
    let account = &request.account;
    let mut parameters = request.parameters()?;
    let filtered = HistoryFilter::take(&mut parameters, account)?;
    parameters.finish()?;
    let total = if filtered.is_whole() {
        request.ask(T::total(filtered.server_dates(account))).await?
    } else {
        history_of::<T>(&request, &filtered).await?.len() as u64
    };
    Ok(with_window(json(&request, &total)?, account, &filtered))
}

/// Tells which dates were applied, unless these are in UTC and so need no explanation.
fn with_window(mut response: Response, account: &Account, filtered: &HistoryFilter) -> Response {
    if !account.is_utc()
        && let Ok(window) = HeaderValue::from_str(&filtered.window())
    {
        response.headers_mut().insert(HISTORY_WINDOW, window);
    }
    response
}

/// The filters of orders that are done.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `HistoryFilter` takes")]
struct OrderFilterParameters {
    /// Where it begins; may be left out with `ticket` or `position`
    from: Option<TimeBody>,
    /// As `from`; included; without it the history has no end
    to: Option<TimeBody>,
    /// Only those whose symbol passes, such as `*USD*,!EUR*`
    group: Option<String>,
    /// Only those of this symbol
    symbol: Option<String>,
    /// Only those with this magic number
    magic: Option<i64>,
    /// Only the order with this ticket
    ticket: Option<u64>,
    /// Only those of this position
    position: Option<u64>,
}

/// The filters of deals.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `HistoryFilter` takes")]
struct DealFilterParameters {
    /// Where it begins; may be left out with `ticket` or `position`
    from: Option<TimeBody>,
    /// As `from`; included; without it the history has no end
    to: Option<TimeBody>,
    /// Only those whose symbol passes, such as `*USD*,!EUR*`
    group: Option<String>,
    /// Only those of this symbol
    symbol: Option<String>,
    /// Only those with this magic number
    magic: Option<i64>,
    /// Only those of the order with this ticket
    ticket: Option<u64>,
    /// Only those of this position
    position: Option<u64>,
}

/// Orders that are done.
///
/// Dates are applied to when they were done, and in addition to `ticket` or `position`.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/orders", tag = "history",
    params(
        OrderFilterParameters,
        ("format" = Option<String>, Query),
    ),
    responses((status = 200, description = "The orders", body = [Order]))
)]
pub async fn history_orders(request: AccountRequest) -> Outcome {
    list::<Order>(request).await
}

/// Number of orders that are done.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/orders/total", tag = "history",
    params(OrderFilterParameters),
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn history_orders_total(request: AccountRequest) -> Outcome {
    total::<Order>(request).await
}

/// Deals.
///
/// Dates are applied in addition to `ticket` or `position`.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/deals", tag = "history",
    params(
        DealFilterParameters,
        ("format" = Option<String>, Query),
    ),
    responses((status = 200, description = "The deals", body = [Deal]))
)]
pub async fn history_deals(request: AccountRequest) -> Outcome {
    list::<Deal>(request).await
}

/// Number of deals.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/deals/total", tag = "history",
    params(DealFilterParameters),
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn history_deals_total(request: AccountRequest) -> Outcome {
    total::<Deal>(request).await
}

//! Bars and ticks.

use warp::Filter;

use crate::api::authorized::AccountRequest;
use crate::api::export::{self, Facts, Format};
use crate::api::filters::history_span::HistorySpan;
use crate::api::filters::moment::ResolvedMoment;
use crate::api::filters::path::last;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::openapi::time::TimeBody;
use crate::mt5::{CopyTicks, Rate, Tick, Timeframe, calls};
use crate::pool::history::{self, RateRange, TickRange};

/// `/api/v1/accounts/{account}/symbols/{symbol}`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let rates = last("rates").and(resource!(routes: get Read rates));
    let ticks = last("ticks").and(resource!(routes: get Read ticks));
    rates.or(ticks).unify()
}

/// Bars, oldest first.
///
/// `count` above 0 counts forward from `from`, or gives the last bars without
/// it; below 0 it counts back from `from`. `from` and `to` together are a range
/// of opening times, both included. Parts of seconds are rounded inwards.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}/rates", tag = "history",
    params(
        ("timeframe" = String, Query, description = "Period of the bars; MT5's integer is taken too", example = "H1"),
        ("count" = Option<i64>, Query, description = "Bars; not 0", minimum = -100_000, maximum = 100_000),
        ("from" = Option<TimeBody>, Query, description = "Where it begins"),
        ("to" = Option<TimeBody>, Query, description = "As `from`, which it needs; excludes `count`"),
        ("format" = Option<String>, Query),
    ),
    responses((status = 200, description = "The bars", body = [Rate]))
)]
pub async fn rates(request: AccountRequest) -> Outcome {
    let account = &request.account;
    let mut parameters = request.parameters()?;
    let timeframe: Timeframe = parameters.required("timeframe")?;
    let stretch = HistorySpan::take(&mut parameters, account)?;
    let format = Format::take(&request, &mut parameters)?;
    parameters.finish()?;
    let symbol = request.symbol()?;
    let context = request.call_context();
    let facts = Facts { utc: account.is_utc(), closed: false };
    let rows = match stretch {
        HistorySpan::Range(from, to) => {
            let (from, to) = (from.ceil_seconds(), to.floor_seconds());
            let facts = Facts { closed: account.has_closed(to, timeframe), ..facts };
            let range = RateRange::new(account.clone(), symbol, timeframe, from, to);
            return export::stream(&request, format, facts, range).await;
        }
        HistorySpan::Backward(None, count) => {
            let call = calls::CopyRatesFromPos { symbol, timeframe, start_pos: 0, count };
            account.rates(call, context).await?
        }
        HistorySpan::Backward(Some(from), count) => {
            let date_from = account.utc_to_server(from.floor_seconds());
            let call = calls::CopyRatesFrom { symbol, timeframe, date_from, count };
            account.rates(call, context).await?
        }
        HistorySpan::Forward(from, count) => {
            let from = from.ceil_seconds();
            history::rates_forward(account, context, &symbol, timeframe, from, count).await?
        }
    };
    export::answer(&request, format, facts, rows).await
}

/// Ticks, oldest first.
///
/// `count`, `from` and `to` as for bars, to the millisecond.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}/ticks", tag = "history",
    params(
        ("count" = Option<i64>, Query, description = "Ticks; not 0; back at most a year", minimum = -100_000, maximum = 100_000),
        ("from" = Option<TimeBody>, Query, description = "Where it begins"),
        ("to" = Option<TimeBody>, Query, description = "As `from`, which it needs; excludes `count`"),
        ("flags" = Option<String>, Query, description = "Which ticks: all of them unless given, changes of bid or ask, or trades"),
        ("format" = Option<String>, Query),
    ),
    responses((status = 200, description = "The ticks", body = [Tick]))
)]
pub async fn ticks(request: AccountRequest) -> Outcome {
    let account = &request.account;
    let mut parameters = request.parameters()?;
    let stretch = HistorySpan::take(&mut parameters, account)?;
    let flags = parameters.optional("flags")?.unwrap_or(CopyTicks::All);
    let format = Format::take(&request, &mut parameters)?;
    parameters.finish()?;
    let symbol = request.symbol()?;
    let context = request.call_context();
    let facts = Facts { utc: account.is_utc(), closed: false };
    let rows = match stretch {
        HistorySpan::Range(from, to) => {
            let facts = Facts { closed: account.is_past(to.ceil_seconds()), ..facts };
            let (from, to) = (from.milliseconds(), to.milliseconds());
            let range = TickRange::new(account.clone(), symbol, flags, from, to);
            return export::stream(&request, format, facts, range).await;
        }
        HistorySpan::Forward(from, count) => {
            let from = from.milliseconds();
            history::ticks_forward(account, context, &symbol, from, count, flags).await?
        }
        HistorySpan::Backward(to, count) => {
            let to = to.map(ResolvedMoment::milliseconds);
            history::ticks_backward(account, context, &symbol, to, count, flags).await?
        }
    };
    export::answer(&request, format, facts, rows).await
}

//! Bars and ticks.

use super::symbols::SymbolPath;
use super::{Outcome, Table};
use crate::http::openapi::TimeBody;
use crate::http::parameters::{Parameters, ResolvedMoment, Stretch};
use crate::http::request::Call;
use crate::http::table::{self, Facts, Format};
use crate::mt5::{CopyTicks, Rate, Request, Tick, Timeframe};
use crate::pool::bars::{self, RateRange, TickRange};

pub fn add(table: &mut Table) {
    table.get("/api/v1/accounts/{account}/symbols/{symbol}/rates", rates);
    table.get("/api/v1/accounts/{account}/symbols/{symbol}/ticks", ticks);
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
pub async fn rates(call: Call, path: SymbolPath) -> Outcome {
    let account = call.account(&path.account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let timeframe: Timeframe = parameters.required("timeframe")?;
    let stretch = Stretch::take(&mut parameters, account)?;
    let format = Format::take(&call, &mut parameters)?;
    parameters.finish()?;
    let symbol = path.name()?;
    let context = call.context();
    let facts = Facts { utc: account.is_utc(), closed: false };
    let rows = match stretch {
        Stretch::Range(from, to) => {
            let (from, to) = (from.ceil_seconds(), to.floor_seconds());
            let facts = Facts { closed: account.has_closed(to, timeframe), ..facts };
            let range = RateRange::new(account.clone(), symbol, timeframe, from, to);
            return table::stream(&call, format, facts, range).await;
        }
        Stretch::Backward(None, count) => {
            let request = Request::CopyRatesFromPos { symbol, timeframe, start_pos: 0, count };
            account.rates(request, context).await?
        }
        Stretch::Backward(Some(from), count) => {
            let date_from = from.floor_seconds();
            let request = Request::CopyRatesFrom { symbol, timeframe, date_from, count };
            account.rates(request, context).await?
        }
        Stretch::Forward(from, count) => {
            let from = from.ceil_seconds();
            bars::rates_forward(account, context, &symbol, timeframe, from, count).await?
        }
    };
    table::answer(&call, format, facts, rows).await
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
pub async fn ticks(call: Call, path: SymbolPath) -> Outcome {
    let account = call.account(&path.account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let stretch = Stretch::take(&mut parameters, account)?;
    let flags = parameters.optional("flags")?.unwrap_or(CopyTicks::All);
    let format = Format::take(&call, &mut parameters)?;
    parameters.finish()?;
    let symbol = path.name()?;
    let context = call.context();
    let facts = Facts { utc: account.is_utc(), closed: false };
    let rows = match stretch {
        Stretch::Range(from, to) => {
            let facts = Facts { closed: account.is_past(to.ceil_seconds()), ..facts };
            let (from, to) = (from.milliseconds(), to.milliseconds());
            let range = TickRange::new(account.clone(), symbol, flags, from, to);
            return table::stream(&call, format, facts, range).await;
        }
        Stretch::Forward(from, count) => {
            let from = from.milliseconds();
            bars::ticks_forward(account, context, &symbol, from, count, flags).await?
        }
        Stretch::Backward(to, count) => {
            let to = to.map(ResolvedMoment::milliseconds);
            bars::ticks_backward(account, context, &symbol, to, count, flags).await?
        }
    };
    table::answer(&call, format, facts, rows).await
}

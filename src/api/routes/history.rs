//! Orders and deals of the past.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use warp::path::end;
use warp::reply::Response;
use warp::{Filter, path};

use crate::api::authorized::AccountRequest;
use crate::api::export::{self, Facts, Format};
use crate::api::filters::history_span::reversed;
use crate::api::filters::moment::{Moment, ResolvedMoment};
use crate::api::filters::query::{Parameter, Parameters};
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::openapi::time::TimeBody;
use crate::api::problem::Problem;
use crate::api::reply::json;
use crate::mt5::{Deal, Group, Mt5Call, Order, Selection, ServerTime, UtcTime, calls};
use crate::pool::Account;

/// The dates that were applied, `FROM/TO`, where the zone of the server's clock is not known: what
/// a client that thinks in UTC does not find lies outside of them.
pub const HISTORY_WINDOW: HeaderName = HeaderName::from_static("history-window");

/// How far beyond the present a history without an end is asked for, seconds. A server whose clock
/// is ahead of UTC dates its last deals into the future.
const AHEAD: i64 = 2 * 86_400;

/// `/api/v1/accounts/{account}/history`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let orders = end()
        .and(resource!(routes: get Read history_orders))
        .or(path!("total").and(resource!(routes: get Read history_orders_total)))
        .unify();
    let deals = end()
        .and(resource!(routes: get Read history_deals))
        .or(path!("total").and(resource!(routes: get Read history_deals_total)))
        .unify();
    path!("orders" / ..).and(orders).or(path!("deals" / ..).and(deals)).unify()
}

/// What part of the history is asked for.
#[derive(Debug, Default)]
struct Filtered {
    /// `None`: from the beginning on.
    from: Option<ResolvedMoment>,
    /// `None`: to the end. A whole second is included as a whole.
    to: Option<ResolvedMoment>,
    group: Option<String>,
    symbol: Option<String>,
    magic: Option<i64>,
    ticket: Option<u64>,
    position: Option<u64>,
}

/// What the filters look at in an order or a deal.
struct Entry<'a> {
    symbol: &'a str,
    magic: i64,
    /// An order's own ticket, or the one of a deal's order.
    ticket: u64,
    /// Unix milliseconds.
    at: i64,
}

impl Filtered {
    fn take(parameters: &mut Parameters, account: &Account) -> Result<Filtered, Problem> {
        let from: Option<Moment> = parameters.optional("from")?;
        let to: Option<Moment> = parameters.optional("to")?;
        let filtered = Filtered {
            from: from.map(|from| from.resolve(account)),
            to: to.map(|to| to.resolve(account)),
            group: parameters.optional("group")?,
            symbol: parameters.optional("symbol")?,
            magic: parameters.optional("magic")?,
            ticket: parameters.optional("ticket")?,
            position: parameters.optional("position")?,
        };
        match (filtered.from, filtered.to) {
            (None, _) if !filtered.is_by_ticket() => Err(Problem::invalid(format!(
                "parameter `from` is missing: expected {}; it may be left out with `ticket` or \
                 `position`",
                Moment::EXPECTED
            ))),
            (Some(from), Some(to)) if from > to => Err(reversed(from, to)),
            _ => Ok(filtered),
        }
    }

    /// Whether the terminal is asked for a ticket or a position, and so without dates.
    fn is_by_ticket(&self) -> bool {
        self.ticket.is_some() || self.position.is_some()
    }

    /// Whether one of its ends lies within a second, which the terminal cannot be asked for.
    fn has_fraction(&self) -> bool {
        [self.from, self.to].into_iter().flatten().any(ResolvedMoment::has_fraction)
    }

    /// Whether the terminal can count what passes.
    fn is_whole(&self) -> bool {
        self.group.is_none()
            && self.symbol.is_none()
            && self.magic.is_none()
            && !self.is_by_ticket()
            && !self.has_fraction()
    }

    /// What the terminal is asked: the package takes one filter at a time, and
    /// a ticket or a position only without dates.
    fn selection(&self) -> Selection {
        match (self.position, self.ticket, &self.group) {
            (Some(position), _, _) => Selection::Position(position),
            (None, Some(ticket), _) => Selection::Ticket(ticket),
            (None, None, Some(group)) => Selection::Group(group.clone()),
            (None, None, None) => Selection::All,
        }
    }

    /// The dates that the terminal is asked for, both included. Not sent where it is asked for a
    /// ticket or a position.
    fn dates(&self, now: UtcTime) -> (UtcTime, UtcTime) {
        let from = self.from.map_or_else(UtcTime::default, ResolvedMoment::floor_seconds);
        let to = self.to.map_or(now + AHEAD, ResolvedMoment::ceil_seconds);
        (from, to.max(from))
    }

    /// The same on the clock of the account's server.
    fn server_dates(&self, account: &Account) -> (ServerTime, ServerTime) {
        let now = UtcTime::from_seconds(Timestamp::now().as_second());
        let (from, to) = self.dates(now);
        (account.utc_to_server(from), account.utc_to_server(to))
    }

    /// Applies to the terminal's answer what it was not asked for.
    fn apply<T: Historic>(&self, found: &mut Vec<T>) {
        let group = self.group.as_deref().map(Group::parse);
        let group = group.as_ref().filter(|_| self.is_by_ticket());
        found.retain(|one| self.passes(group, &one.entry()));
    }

    /// Whether an order or a deal passes. `group`: where the terminal did not apply it.
    fn passes(&self, group: Option<&Group>, entry: &Entry<'_>) -> bool {
        self.symbol.as_deref().is_none_or(|symbol| symbol == entry.symbol)
            && self.magic.is_none_or(|magic| magic == entry.magic)
            && self.ticket.is_none_or(|ticket| ticket == entry.ticket)
            && group.is_none_or(|group| group.matches(entry.symbol))
            && self.has_time(entry.at)
    }

    /// Whether a time, unix milliseconds, lies within the dates. Whole seconds are compared by
    /// the terminal where it is asked for dates, and by its own rule.
    fn has_time(&self, at: i64) -> bool {
        if !self.is_by_ticket() && !self.has_fraction() {
            return true;
        }
        let end_of = |to: ResolvedMoment| {
            if to.has_fraction() { to.milliseconds() } else { to.milliseconds() + 999 }
        };
        self.from.is_none_or(|from| from.milliseconds() <= at)
            && self.to.is_none_or(|to| at <= end_of(to))
    }

    /// The dates as the header has them: `FROM/TO`, unix seconds, `*` where there is no end.
    fn window(&self) -> String {
        let shown = |end: Option<ResolvedMoment>| {
            end.map_or_else(|| "*".to_owned(), |moment| moment.to_string())
        };
        format!("{}/{}", shown(self.from), shown(self.to))
    }
}

/// A time in unix milliseconds. Some terminals leave the milliseconds at 0.
fn exact(seconds: i64, milliseconds: i64) -> i64 {
    if milliseconds.div_euclid(1000) == seconds { milliseconds } else { seconds * 1000 }
}

/// What a history has: orders or deals.
trait Historic: Sized {
    type Get: Mt5Call<Reply = Vec<Self>>;
    type Total: Mt5Call<Reply = u64>;

    fn get(dates: (ServerTime, ServerTime), selection: Selection) -> Self::Get;
    fn total(dates: (ServerTime, ServerTime)) -> Self::Total;
    fn entry(&self) -> Entry<'_>;
}

impl Historic for Order {
    type Get = calls::HistoryOrdersGet;
    type Total = calls::HistoryOrdersTotal;

    fn get((date_from, date_to): (ServerTime, ServerTime), selection: Selection) -> Self::Get {
        calls::HistoryOrdersGet { date_from, date_to, selection }
    }

    fn total((date_from, date_to): (ServerTime, ServerTime)) -> Self::Total {
        calls::HistoryOrdersTotal { date_from, date_to }
    }

    fn entry(&self) -> Entry<'_> {
        // An order is in the history from when it was done.
        let (seconds, milliseconds) = match self.time_done {
            0 => (self.time_setup, self.time_setup_msc),
            done => (done, self.time_done_msc),
        };
        Entry {
            symbol: &self.symbol,
            magic: self.magic,
            ticket: self.ticket,
            at: exact(seconds, milliseconds),
        }
    }
}

impl Historic for Deal {
    type Get = calls::HistoryDealsGet;
    type Total = calls::HistoryDealsTotal;

    fn get((date_from, date_to): (ServerTime, ServerTime), selection: Selection) -> Self::Get {
        calls::HistoryDealsGet { date_from, date_to, selection }
    }

    fn total((date_from, date_to): (ServerTime, ServerTime)) -> Self::Total {
        calls::HistoryDealsTotal { date_from, date_to }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            symbol: &self.symbol,
            magic: self.magic,
            ticket: self.order,
            at: exact(self.time, self.time_msc),
        }
    }
}

async fn history_of<T: Historic>(
    request: &AccountRequest,
    filtered: &Filtered,
) -> Result<Vec<T>, Problem> {
    let dates = filtered.server_dates(&request.account);
    let mut found = request.ask(T::get(dates, filtered.selection())).await?;
    filtered.apply(&mut found);
    Ok(found)
}

async fn list<T>(request: AccountRequest) -> Outcome
where
    T: Historic,
    Vec<T>: export::Table,
{
    let account = &request.account;
    let mut parameters = request.parameters()?;
    let filtered = Filtered::take(&mut parameters, account)?;
    let format = Format::take(&request, &mut parameters)?;
    parameters.finish()?;
    let closed = filtered.to.is_some_and(|to| account.is_past(to.ceil_seconds()));
    let facts = Facts { utc: account.is_utc(), closed };
    let found: Vec<T> = history_of(&request, &filtered).await?;
    let response = export::answer(&request, format, facts, found).await?;
    Ok(with_window(response, account, &filtered))
}

async fn total<T: Historic>(request: AccountRequest) -> Outcome {
    let account = &request.account;
    let mut parameters = request.parameters()?;
    let filtered = Filtered::take(&mut parameters, account)?;
    parameters.finish()?;
    let total = if filtered.is_whole() {
        request.ask(T::total(filtered.server_dates(account))).await?
    } else {
        history_of::<T>(&request, &filtered).await?.len() as u64
    };
    Ok(with_window(json(&request, &total)?, account, &filtered))
}

/// Tells which dates were applied, unless these are in UTC and so need no explanation.
fn with_window(mut response: Response, account: &Account, filtered: &Filtered) -> Response {
    if !account.is_utc()
        && let Ok(window) = HeaderValue::from_str(&filtered.window())
    {
        response.headers_mut().insert(HISTORY_WINDOW, window);
    }
    response
}

/// Orders that are done.
///
/// Dates are applied to when they were done, and in addition to `ticket` or `position`.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/orders", tag = "history",
    params(
        ("from" = Option<TimeBody>, Query, description = "Where it begins; may be left out with `ticket` or `position`"),
        ("to" = Option<TimeBody>, Query, description = "As `from`; included; without it the history has no end"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("symbol" = Option<String>, Query, description = "Only those of this symbol"),
        ("magic" = Option<i64>, Query, description = "Only those with this magic number"),
        ("ticket" = Option<u64>, Query, description = "Only the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
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
    params(
        ("from" = Option<TimeBody>, Query, description = "Where it begins; may be left out with `ticket` or `position`"),
        ("to" = Option<TimeBody>, Query, description = "As `from`; included; without it the history has no end"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("symbol" = Option<String>, Query, description = "Only those of this symbol"),
        ("magic" = Option<i64>, Query, description = "Only those with this magic number"),
        ("ticket" = Option<u64>, Query, description = "Only the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
    ),
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
        ("from" = Option<TimeBody>, Query, description = "Where it begins; may be left out with `ticket` or `position`"),
        ("to" = Option<TimeBody>, Query, description = "As `from`; included; without it the history has no end"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("symbol" = Option<String>, Query, description = "Only those of this symbol"),
        ("magic" = Option<i64>, Query, description = "Only those with this magic number"),
        ("ticket" = Option<u64>, Query, description = "Only those of the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
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
    params(
        ("from" = Option<TimeBody>, Query, description = "Where it begins; may be left out with `ticket` or `position`"),
        ("to" = Option<TimeBody>, Query, description = "As `from`; included; without it the history has no end"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("symbol" = Option<String>, Query, description = "Only those of this symbol"),
        ("magic" = Option<i64>, Query, description = "Only those with this magic number"),
        ("ticket" = Option<u64>, Query, description = "Only those of the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
    ),
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn history_deals_total(request: AccountRequest) -> Outcome {
    total::<Deal>(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn moment(milliseconds: i64) -> Option<ResolvedMoment> {
        Some(ResolvedMoment::from_milliseconds(milliseconds))
    }

    fn deal(ticket: u64, symbol: &str, magic: i64, time_msc: i64) -> Deal {
        let time = time_msc.div_euclid(1000);
        let symbol = symbol.to_owned();
        Deal { ticket, order: ticket + 100, symbol, magic, time, time_msc, ..Deal::default() }
    }

    /// The tickets of the deals that pass.
    fn passing(filtered: &Filtered, deals: &[Deal]) -> Vec<u64> {
        let mut deals = deals.to_vec();
        filtered.apply(&mut deals);
        deals.iter().map(|deal| deal.ticket).collect()
    }

    #[test]
    fn apply_filters_what_the_terminal_was_not_asked_for() {
        let deals = [
            deal(1, "EURUSD", 7, 10_000),
            deal(2, "EURUSD", 0, 10_500),
            deal(3, "GBPUSD", 7, 11_000),
            deal(4, "", 0, 11_999),
        ];
        let text = |text: &str| Some(text.to_owned());
        let position = || Filtered { position: Some(9), ..Filtered::default() };
        let cases: [(Filtered, &[u64]); 14] = [
            (Filtered::default(), &[1, 2, 3, 4]),
            (Filtered { symbol: text("EURUSD"), ..Filtered::default() }, &[1, 2]),
            (Filtered { magic: Some(7), ..Filtered::default() }, &[1, 3]),
            (Filtered { symbol: text("EURUSD"), magic: Some(7), ..Filtered::default() }, &[1]),
            // The terminal applies a group and whole seconds to what it is asked for by date.
            (Filtered { group: text("GBP*"), ..Filtered::default() }, &[1, 2, 3, 4]),
            (Filtered { from: moment(11_000), ..Filtered::default() }, &[1, 2, 3, 4]),
            // It is asked for a position alone.
            (Filtered { group: text("GBP*"), ..position() }, &[3]),
            (Filtered { from: moment(11_000), ..position() }, &[3, 4]),
            (Filtered { to: moment(10_000), ..position() }, &[1, 2]),
            (Filtered { to: moment(11_000), ..position() }, &[1, 2, 3, 4]),
            (Filtered { ticket: Some(103), ..position() }, &[3]),
            // It knows no parts of seconds.
            (Filtered { from: moment(10_001), ..Filtered::default() }, &[2, 3, 4]),
            (Filtered { to: moment(10_499), ..Filtered::default() }, &[1]),
            (Filtered { from: moment(10_500), to: moment(11_998), ..Filtered::default() }, &[2, 3]),
        ];
        for (filtered, expected) in cases {
            assert_eq!(passing(&filtered, &deals), expected, "{filtered:?}");
        }
    }

    #[test]
    fn the_terminal_is_asked_for_whole_seconds_and_to_after_now_without_an_end() {
        let cases = [
            (moment(10_000), moment(20_000), (10, 20), "10/20"),
            (moment(10_500), moment(20_500), (10, 21), "10.500/20.500"),
            (moment(10_000), None, (10, NOW + AHEAD), "10/*"),
            (None, None, (0, NOW + AHEAD), "*/*"),
            (None, moment(20_000), (0, 20), "*/20"),
            // Later than the end that is not given.
            (moment(2 * NOW * 1000), None, (2 * NOW, 2 * NOW), "3400000000/*"),
        ];
        for (from, to, dates, window) in cases {
            let filtered = Filtered { from, to, ..Filtered::default() };
            let (from, to) = filtered.dates(UtcTime::from_seconds(NOW));
            assert_eq!((from.seconds(), to.seconds()), dates, "{window}");
            assert_eq!(filtered.window(), window);
        }
    }

    #[test]
    fn a_time_without_milliseconds_is_its_second() {
        assert_eq!(exact(10, 10_123), 10_123);
        assert_eq!(exact(10, 0), 10_000);
    }
}

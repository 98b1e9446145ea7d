//! The part of the history of orders or deals that a client asks for, and what of it the terminal is asked for.
//!
//! The package takes one filter at a time, and whole seconds. The gateway applies the rest to the answer.

use jiff::Timestamp;

use super::history_span::reversed;
use super::moment::{Moment, ResolvedMoment};
use super::query::{Parameter, Parameters};
use crate::api::problem::Problem;
use crate::mt5::{Deal, Group, Order, Selection, ServerTime, Ticket, UtcTime};
use crate::pool::Account;

/// How far beyond the present a history without an end is asked for, seconds. A server whose clock
/// is ahead of UTC dates its last deals into the future.
const AHEAD: i64 = 2 * 86_400;

/// What part of the history is asked for.
#[derive(Debug, Default)]
pub struct HistoryFilter {
    /// `None`: from the beginning on.
    from: Option<ResolvedMoment>,
    /// `None`: to the end. A whole second is included as a whole.
    pub to: Option<ResolvedMoment>,
    group: Option<String>,
    symbol: Option<String>,
    magic: Option<i64>,
    ticket: Option<Ticket>,
    position: Option<Ticket>,
}

/// What the filters look at in an order or a deal.
pub struct HistoryEntry<'a> {
    pub symbol: &'a str,
    pub magic: i64,
    /// An order's own ticket, or the one of a deal's order.
    pub ticket: u64,
    /// Unix milliseconds.
    pub at: i64,
}

impl HistoryFilter {
    /// Takes `from`, `to`, `group`, `symbol`, `magic`, `ticket` and `position`.
    ///
    /// # Errors
    /// 400 if one cannot be parsed, or `from` is missing or after `to`.
    pub fn take(parameters: &mut Parameters, account: &Account) -> Result<HistoryFilter, Problem> {
        let from: Option<Moment> = parameters.optional("from")?;
        let to: Option<Moment> = parameters.optional("to")?;
        let filtered = HistoryFilter {
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
    pub fn is_whole(&self) -> bool {
        self.group.is_none()
            && self.symbol.is_none()
            && self.magic.is_none()
            && !self.is_by_ticket()
            && !self.has_fraction()
    }

    /// What the terminal is asked: the package takes one filter at a time, and
    /// a ticket or a position only without dates.
    pub fn selection(&self) -> Selection {
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
    pub fn server_dates(&self, account: &Account) -> (ServerTime, ServerTime) {
        let now = UtcTime::from_seconds(Timestamp::now().as_second());
        let (from, to) = self.dates(now);
        (account.utc_to_server(from), account.utc_to_server(to))
    }

    /// Applies to the terminal's answer what it was not asked for.
    pub fn apply<T: Historic>(&self, found: &mut Vec<T>) {
        let group = self.group.as_deref().map(Group::parse);
        let group = group.as_ref().filter(|_| self.is_by_ticket());
        found.retain(|one| self.passes(group, &one.entry()));
    }

    /// Whether an order or a deal passes. `group`: where the terminal did not apply it.
    fn passes(&self, group: Option<&Group>, entry: &HistoryEntry<'_>) -> bool {
        self.symbol.as_deref().is_none_or(|symbol| symbol == entry.symbol)
            && self.magic.is_none_or(|magic| magic == entry.magic)
            && self.ticket.is_none_or(|ticket| ticket.get() == entry.ticket)
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
    pub fn window(&self) -> String {
        let shown = |end: Option<ResolvedMoment>| {
            end.map_or_else(|| "*".to_owned(), |moment| moment.to_string())
        };
        format!("{}/{}", shown(self.from), shown(self.to))
    }
}

/// What a history has: an order or a deal.
pub trait Historic {
    /// What the filters look at.
    fn entry(&self) -> HistoryEntry<'_>;
}

impl Historic for Order {
    fn entry(&self) -> HistoryEntry<'_> {
        // An order is in the history from when it was done.
        let (seconds, milliseconds) = match self.time_done {
            0 => (self.time_setup, self.time_setup_msc),
            done => (done, self.time_done_msc),
        };
        HistoryEntry {
            symbol: &self.symbol,
            magic: self.magic,
            ticket: self.ticket,
            at: exact(seconds, milliseconds),
        }
    }
}

impl Historic for Deal {
    fn entry(&self) -> HistoryEntry<'_> {
        HistoryEntry {
            symbol: &self.symbol,
            magic: self.magic,
            ticket: self.order,
            at: exact(self.time, self.time_msc),
        }
    }
}

/// A time in unix milliseconds. Some terminals leave the milliseconds at 0.
fn exact(seconds: i64, milliseconds: i64) -> i64 {
    if milliseconds.div_euclid(1000) == seconds { milliseconds } else { seconds * 1000 }
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
    fn passing(filtered: &HistoryFilter, deals: &[Deal]) -> Vec<u64> {
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
        let position =
            || HistoryFilter { position: Some(Ticket::new(9)), ..HistoryFilter::default() };
        let cases: [(HistoryFilter, &[u64]); 14] = [
            (HistoryFilter::default(), &[1, 2, 3, 4]),
            (HistoryFilter { symbol: text("EURUSD"), ..HistoryFilter::default() }, &[1, 2]),
            (HistoryFilter { magic: Some(7), ..HistoryFilter::default() }, &[1, 3]),
            (
                HistoryFilter {
                    symbol: text("EURUSD"),
                    magic: Some(7),
                    ..HistoryFilter::default()
                },
                &[1],
            ),
            // The terminal applies a group and whole seconds to what it is asked for by date.
            (HistoryFilter { group: text("GBP*"), ..HistoryFilter::default() }, &[1, 2, 3, 4]),
            (HistoryFilter { from: moment(11_000), ..HistoryFilter::default() }, &[1, 2, 3, 4]),
            // It is asked for a position alone.
            (HistoryFilter { group: text("GBP*"), ..position() }, &[3]),
            (HistoryFilter { from: moment(11_000), ..position() }, &[3, 4]),
            (HistoryFilter { to: moment(10_000), ..position() }, &[1, 2]),
            (HistoryFilter { to: moment(11_000), ..position() }, &[1, 2, 3, 4]),
            (HistoryFilter { ticket: Some(Ticket::new(103)), ..position() }, &[3]),
            // It knows no parts of seconds.
            (HistoryFilter { from: moment(10_001), ..HistoryFilter::default() }, &[2, 3, 4]),
            (HistoryFilter { to: moment(10_499), ..HistoryFilter::default() }, &[1]),
            (
                HistoryFilter {
                    from: moment(10_500),
                    to: moment(11_998),
                    ..HistoryFilter::default()
                },
                &[2, 3],
            ),
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
            let filtered = HistoryFilter { from, to, ..HistoryFilter::default() };
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

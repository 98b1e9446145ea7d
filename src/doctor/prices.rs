//! Market Watch, a quote, and the server's clock: what a terminal shows of them, and the lines that this
//! leads to.

use std::collections::BTreeMap;

use super::report::{Check, Finding, skip, unanswered};
use super::shown::{MarketWatch, QuoteShown, Status, TerminalShown};
use crate::mt5::{
    ClockVerdict, ServerClock, TickLook, UtcTime, fitting_zone, judge, offset, seconds_ahead,
    to_quarter,
};

/// A quote that is older is not a present price, seconds.
const OLD_QUOTE: i64 = 3600;

/// What needs a symbol.
const REST: [Check; 2] = [Check::Quote, Check::Clock];

/// Market Watch, a quote, and the clock.
pub fn prices(terminal: &TerminalShown, status: &Status, is_own: bool, now: i64) -> Vec<Finding> {
    let zone = status.server_time_zone.as_deref();
    let watch = match &terminal.symbols {
        Ok(watch) => watch,
        Err(fault) => {
            let failed = unanswered(Check::MarketWatch, fault, is_own);
            return [failed].into_iter().chain(skip(&REST, "no symbol is known", None)).collect();
        }
    };
    let (known, shown) = (watch.known, watch.shown.len());
    if known == 0 || shown == 0 {
        let found = if known == 0 {
            "the terminal knows no symbol".to_owned()
        } else {
            format!("Market Watch is empty, of {known} symbols none is shown")
        };
        let remedy = if known == 0 {
            "wait a minute for the broker's list; if none comes, log in by hand once"
        } else {
            "show the symbols that you need; the gateway shows a symbol on first use"
        };
        let finding = match known {
            0 => Finding::failure(Check::MarketWatch, found, remedy),
            _ => Finding::warning(Check::MarketWatch, found, remedy),
        };
        return [finding].into_iter().chain(skip(&REST, "no symbol is shown", None)).collect();
    }
    let watched = Finding::ok(Check::MarketWatch, format!("{shown} of {known} symbols are shown"));
    vec![watched, quote(watch, &terminal.looks, zone, now), clock(&terminal.looks, status, now)]
}

fn quote(
    watch: &MarketWatch,
    looks: &BTreeMap<String, Vec<TickLook>>,
    zone: Option<&str>,
    now: i64,
) -> Finding {
    let check = Check::Quote;
    let Some(newest) = watch.quotes().first().copied() else {
        let found = "no symbol in Market Watch has a price";
        let remedy =
            "wait until the market opens; if none comes then, ask the broker for market data";
        return Finding::failure(check, found, remedy);
    };
    let QuoteShown { symbol, bid, ask, time } = newest;
    let found = format!("{symbol} {bid} / {ask}");
    let moves = |looks: &Vec<TickLook>| {
        looks.first().zip(looks.last()).is_some_and(|(first, last)| last.tick_msc > first.tick_msc)
    };
    if looks.values().any(moves) {
        return Finding::ok(check, format!("{found}, and prices move"));
    }
    // Without a zone nobody knows how old it is.
    let age = zone.map(|_| now - time).filter(|age| *age > OLD_QUOTE);
    match age {
        Some(age) => Finding::warning(
            check,
            format!("{found} is the newest, from {} h ago", age / 3600),
            "the market is closed, or the terminal gets no prices: look again when it is open",
        ),
        None => Finding::ok(check, found),
    }
}

fn clock(looks: &BTreeMap<String, Vec<TickLook>>, status: &Status, now: i64) -> Finding {
    let check = Check::Clock;
    let zone = status.server_time_zone.as_deref();
    let clock = zone.and_then(|zone| ServerClock::parse(zone).ok()).unwrap_or(ServerClock::RAW);
    let Some(zone) = zone else {
        let ahead = looks.values().find_map(|looks| seconds_ahead(looks)).and_then(to_quarter);
        let Some(ahead) = ahead else {
            return Finding::ok(
                check,
                "no `server_time_zone`: times are passed on as the server's",
            );
        };
        let fitting = fitting_zone(ahead, UtcTime::from_seconds(now));
        let advice =
            fitting.map(|zone| format!("; `server_time_zone = \"{zone}\"` would make them UTC"));
        return Finding::ok(
            check,
            format!(
                "the server's clock shows {}, and times are passed on unchanged{}",
                offset(ahead),
                advice.unwrap_or_default()
            ),
        );
    };
    let verdicts: Vec<ClockVerdict> = looks.values().map(|looks| judge(&clock, looks)).collect();
    let contradiction = verdicts.iter().filter_map(|verdict| match verdict {
        ClockVerdict::Contradicts(contradiction) => Some(contradiction),
        ClockVerdict::Silent | ClockVerdict::Fits => None,
    });
    // An exact one first.
    if let Some(contradiction) = contradiction.min_by_key(|contradiction| contradiction.at_least) {
        return Finding::warning(check, contradiction.to_string(), contradiction.remedy());
    }
    if verdicts.contains(&ClockVerdict::Fits) {
        return Finding::ok(
            check,
            format!("the server's clock fits `server_time_zone = \"{zone}\"`"),
        );
    }
    // Before doctor came.
    if let Some((found, remedy)) =
        status.server_time_warning.as_deref().and_then(|warning| warning.split_once(": "))
    {
        return Finding::warning(check, found, remedy);
    }
    let remedy = "look again while the market is open";
    Finding::skipped(check, "no price moved, so the server's clock cannot be told", Some(remedy))
}

//! What evidence of an account leads to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::doctor::report::Outcome;
use crate::doctor::shown::{MarketWatch, QuoteShown, Status, TerminalShown};
use crate::mt5::TickLook;
use crate::settings::PauseOrigin;

/// 2023-11-15 12:00 UTC.
const NOON: i64 = 1_700_049_600;

fn status(sessions: Value, more: Value) -> Status {
    let mut status = json!({
        "name": "main", "trade": true, "paused": false, "ready": true, "server_time_zone": null,
        "sessions": sessions, "trading": { "open": { "reasons": [] } },
    });
    let given = more.as_object().cloned().unwrap_or_default();
    status.as_object_mut().unwrap().extend(given);
    serde_json::from_value(status).unwrap()
}

fn session(state: &str, more: Value) -> Value {
    let mut session = json!({
        "state": state, "since": "2023-11-15T11:00:00Z", "last_login": null, "last_error": null,
    });
    session.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    session
}

fn failed(message: &str, login: Option<(&str, &str)>) -> Value {
    let login = login.map(|(outcome, at)| json!({ "outcome": outcome, "at": at }));
    let error = json!({ "message": message, "at": "2023-11-15T11:00:00.5Z" });
    session("quarantined", json!({ "last_login": login, "last_error": error }))
}

fn quote_of(symbol: &str, bid: f64, time: i64) -> QuoteShown {
    QuoteShown { symbol: symbol.to_owned(), bid, ask: bid, time }
}

/// A terminal that is well: two symbols, one of which moves on a clock this many hours ahead of UTC.
fn terminal(hours: i64) -> TerminalShown {
    let look = |second: i64| TickLook {
        tick_msc: (NOON + second + hours * 3600) * 1000,
        at_msc: (NOON + second) * 1000,
    };
    TerminalShown {
        version: Ok(Version { version: 500, build: 5260, release_date: String::new() }),
        account: Ok(AccountInfo {
            login: 7,
            server: "S".to_owned(),
            trade_mode: 2,
            ..AccountInfo::default()
        }),
        symbols: Ok(MarketWatch {
            known: 9,
            shown: vec![quote_of("OLD", 2.0, NOON - 86_400), quote_of("NEW", 1.5, NOON)],
        }),
        looks: BTreeMap::from([("NEW".to_owned(), vec![look(0), look(1), look(2)])]),
    }
}

fn lines_of(
    configured: Option<Configured>,
    status: Status,
    is_own: bool,
    terminal: Option<TerminalShown>,
) -> Vec<Finding> {
    let shown = Shown { status, is_own, terminal };
    findings("main", configured.as_ref(), &Reached::Unknown, &Sight::Shown(Box::new(shown)), NOON)
}

/// Those of a running gateway's account.
fn running(status: Status, terminal: Option<TerminalShown>) -> Vec<Finding> {
    lines_of(None, status, false, terminal)
}

/// A check that is not well, and a part of what it says.
type Wrong<'a> = (Check, Outcome, &'a str);

/// How checks ended, in their order, with those that are well left out.
#[track_caller]
fn assert_wrong(found: &[Finding], expected: &[Wrong<'_>]) {
    let wrong: Vec<&Finding> = found.iter().filter(|of| of.result != Outcome::Ok).collect();
    assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
    for (finding, (check, result, text)) in wrong.iter().zip(expected) {
        let told =
            format!("{} -> {}", finding.found, finding.remedy.as_deref().unwrap_or_default());
        assert_eq!((finding.check, finding.result), (*check, *result), "{finding:#?}");
        assert!(told.contains(text), "{text}: {told}");
        assert_eq!(finding.account.as_deref(), Some("main"));
        assert!(*result == Outcome::Skipped || finding.remedy.is_some(), "{finding:#?}");
    }
}

use Check::{Broker, Clock, Identity, Login, Quote, Start, TradePermission};
use Outcome::{Failure, Skipped, Warning};

#[test]
fn an_account_that_is_well_has_a_line_for_each_check() {
    let two = json!([session("ready", json!({})), session("ready", json!({}))]);
    let found = running(status(two, json!({})), Some(terminal(2)));
    assert_wrong(&found, &[]);
    let checks: Vec<Check> = found.iter().map(|finding| finding.check).collect();
    let twice = [Start, Start, Login, Login, Broker, Broker];
    assert_eq!(checks[..6], twice);
    assert_eq!(checks[6..], ALL[3..]);
    assert_eq!(found[1].session, Some(1));
    let texts: Vec<&str> = found.iter().map(|finding| finding.found.as_str()).collect();
    assert_eq!(texts[0], "it runs, terminal build 5260");
    assert_eq!(texts[6], "7 on S, real account");
    assert_eq!(texts[8], "2 of 9 symbols are shown");
    assert_eq!(texts[9], "NEW 1.5 / 1.5, and prices move");
    assert!(texts[10].contains("shows UTC+2") && texts[10].contains("\"New_York+7\""), "{texts:?}");
}

#[test]
fn a_session_that_is_not_ready_says_at_which_step_it_is() {
    let nothing = "no session of the account is ready";
    let cases: Vec<(Value, Vec<Wrong<'_>>)> = vec![
        (
            session("starting", json!({})),
            vec![
                (Start, Failure, "since 2023-11-15T11:00:00Z"),
                (Login, Skipped, "not started"),
                (Broker, Skipped, "not started"),
                (Identity, Skipped, nothing),
            ],
        ),
        (
            session("logging_in", json!({})),
            vec![
                (Login, Failure, "a dialog may wait"),
                (Broker, Skipped, "the login is not over"),
                (Identity, Skipped, nothing),
            ],
        ),
        (
            session("disconnected", json!({})),
            vec![
                (Broker, Failure, "does not hear its broker -> check this machine's network"),
                (Identity, Skipped, nothing),
            ],
        ),
        (
            failed("the worker command `py` cannot be started: no", None),
            vec![
                (Start, Failure, "`terminal.python`"),
                (Login, Skipped, "does not run"),
                (Broker, Skipped, "does not run"),
                (Identity, Skipped, nothing),
            ],
        ),
        (
            // It ran, and died later.
            failed("the worker ended", Some(("success", "2023-11-15T10:00:00Z"))),
            vec![
                (Start, Failure, "the worker ended"),
                (Login, Skipped, "does not run"),
                (Broker, Skipped, "does not run"),
                (Identity, Skipped, nothing),
            ],
        ),
        (
            failed("MT5 error -6 (auth_failed): no", Some(("failure", "2023-11-15T11:00:00Z"))),
            vec![
                (Login, Failure, "(auth_failed): no -> correct `login`, `password` and `server`"),
                (Broker, Skipped, "it is not logged in"),
                (Identity, Skipped, nothing),
            ],
        ),
        (
            failed(
                "the terminal is logged in to account 8 instead of 7",
                Some(("failure", "2023-11-15T11:00:00Z")),
            ),
            vec![
                (Broker, Skipped, "another account"),
                (Identity, Failure, "account 8 instead of 7 -> log"),
            ],
        ),
    ];
    for (mut session, mut expected) in cases {
        expected.extend(ALL[4..].iter().map(|check| (*check, Skipped, nothing)));
        let mut states = vec![session["state"].clone()];
        if !session["last_error"].is_null() {
            // It is tried again and again, and why it fails is still what matters.
            states.extend([json!("starting"), json!("logging_in")]);
        }
        for state in states {
            session["state"] = state;
            let found = running(status(json!([session]), json!({ "ready": false })), None);
            assert_wrong(&found, &expected);
        }
    }
}

#[test]
fn a_terminal_that_is_being_copied_is_no_hanging_one() {
    let mut status = status(json!([session("starting", json!({}))]), json!({ "ready": false }));
    let starts = |status: &Status, is_own| {
        let shown = Shown { status: status.clone(), is_own, terminal: None };
        let sight = Sight::Shown(Box::new(shown));
        let found = findings("main", None, &Reached::Copied(Ok(())), &sight, NOON);
        format!("{} -> {}", found[0].found, found[0].remedy.as_deref().unwrap_or_default())
    };
    assert!(starts(&status, false).contains("until the gateway's log says"));
    status.sessions[0].is_being_copied = true;
    assert!(starts(&status, true).contains("is being copied from its template"));
}

#[test]
fn a_template_without_a_terminal_is_told_once() {
    let fault = "the template t has no terminal64.exe: set it";
    let shown = |message: &str| Shown {
        status: status(json!([failed(message, None)]), json!({ "ready": false })),
        is_own: false,
        terminal: None,
    };
    let reached = Reached::Copied(Err(fault.to_owned()));
    let found = |message: &str| {
        findings("main", None, &reached, &Sight::Shown(Box::new(shown(message))), NOON)
    };
    let failures = |message: &str| found(message).iter().filter(|of| of.result == Failure).count();
    assert_eq!((failures(fault), failures("another")), (0, 1));
    assert!(found(fault)[0].found.contains("cannot be copied"));
}

#[test]
fn every_reason_against_trading_is_a_line_with_a_remedy() {
    let ready = || json!([session("ready", json!({}))]);
    let with = |more: Value| status(ready(), more);
    let blocked = |reasons: &[&str]| json!({ "trading": { "open": { "reasons": reasons } } });
    for (reason, result, expected) in [
        ("autotrading_off", Failure, "(autotrading_off) -> switch it on"),
        ("api_trading_off", Failure, "-> clear"),
        ("investor_login", Failure, "trading password"),
        ("account_trade_disabled", Failure, "-> ask the broker"),
        ("experts_disabled", Failure, "-> ask the broker"),
        ("journal", Failure, "(journal) -> "),
        ("reconciling", Warning, "-> look again"),
        ("unheard_of", Failure, "unheard_of -> see"),
    ] {
        let found = running(with(blocked(&[reason])), Some(terminal(0)));
        assert_wrong(&found, &[(TradePermission, result, expected)]);
    }
    let both = running(with(blocked(&["autotrading_off", "investor_login"])), Some(terminal(0)));
    assert_wrong(&both, &[(TradePermission, Failure, ""), (TradePermission, Failure, "")]);
    // An account that is not to trade is well.
    let still =
        json!({ "trade": false, "trading": { "open": { "reasons": ["account_setting"] } } });
    assert_wrong(&running(with(still.clone()), Some(terminal(0))), &[]);
    let paused = running(with(json!({ "paused": true })), None);
    let why = "nothing is asked of its terminals";
    let mut expected = vec![(Identity, Skipped, why)];
    expected.push((TradePermission, Warning, "paused -> let it serve again: `DELETE"));
    expected.extend(ALL[5..].iter().map(|check| (*check, Skipped, why)));
    assert_wrong(&paused, &expected);

    // What doctor has started itself may not trade, whatever the settings say.
    let own = |trade, is_paused: bool| {
        let pause = is_paused.then(|| PauseOrigin::Source("main.toml".to_owned()));
        let mut of_own = still.clone();
        let reasons = json!(["account_setting", "autotrading_off"]);
        of_own["trading"]["open"]["reasons"] = reasons;
        lines_of(Some(Configured { trade, pause }), with(of_own), true, Some(terminal(0)))
    };
    assert_wrong(&own(true, false), &[(TradePermission, Failure, "(autotrading_off)")]);
    assert_wrong(&own(false, false), &[]);
    assert_wrong(&own(true, true), &[(TradePermission, Warning, "in main.toml")]);
}

#[test]
fn symbols_quotes_and_the_clock_are_judged_by_what_the_terminal_shows() {
    let found = |zone: Option<&str>, terminal: TerminalShown| {
        let ready = json!([session("ready", json!({}))]);
        running(status(ready, json!({ "server_time_zone": zone })), Some(terminal))
    };
    let watch =
        |known, shown| TerminalShown { symbols: Ok(MarketWatch { known, shown }), ..terminal(2) };
    let none = "no symbol is shown";
    assert_wrong(
        &found(None, watch(0, vec![])),
        &[
            (Check::MarketWatch, Failure, "knows no symbol"),
            (Quote, Skipped, none),
            (Clock, Skipped, none),
        ],
    );
    assert_wrong(
        &found(None, watch(9, vec![])),
        &[
            (Check::MarketWatch, Warning, "of 9 symbols none is shown -> show the symbols"),
            (Quote, Skipped, none),
            (Clock, Skipped, none),
        ],
    );
    let broken = TerminalShown { symbols: Err("it failed".to_owned()), ..terminal(2) };
    assert_wrong(
        &found(None, broken),
        &[
            (Check::MarketWatch, Failure, "it failed"),
            (Quote, Skipped, "no symbol is known"),
            (Clock, Skipped, "no symbol is known"),
        ],
    );
    let broken = TerminalShown { account: Err("it failed".to_owned()), ..terminal(2) };
    assert_wrong(&found(None, broken), &[(Identity, Failure, "it failed")]);
    let priceless = watch(9, vec![quote_of("A", 0.0, 0), quote_of("B", 0.0, NOON)]);
    assert_wrong(&found(None, priceless), &[(Quote, Failure, "has a price")]);

    // Nothing moves: without a zone nobody knows how old the newest price is.
    let still = || TerminalShown {
        looks: BTreeMap::new(),
        ..watch(9, vec![quote_of("A", 1.0, NOON - 7300)])
    };
    assert_wrong(&found(None, still()), &[]);
    assert_wrong(
        &found(Some("UTC"), still()),
        &[
            (Quote, Warning, "A 1 / 1 is the newest, from 2 h ago"),
            (Clock, Skipped, "no price moved"),
        ],
    );
    assert_wrong(&found(Some("New_York+7"), terminal(2)), &[]);
    assert_wrong(
        &found(Some("UTC"), terminal(2)),
        &[(
            Clock,
            Warning,
            "shows UTC+2, its configured zone UTC -> set `server_time_zone = \"New_York+7\"`",
        )],
    );
    // What the gateway has seen before.
    let ready = json!([session("ready", json!({}))]);
    let warning = "the clock shows UTC+2: set it";
    let warned = json!({ "server_time_zone": "UTC", "server_time_warning": warning });
    let expected = [(Quote, Warning, ""), (Clock, Warning, "the clock shows UTC+2 -> set it")];
    assert_wrong(&running(status(ready, warned), Some(still())), &expected);
    // One look at a tick of the future is enough to see that something is wrong.
    let mut once = terminal(3);
    once.looks.values_mut().for_each(|looks| looks.truncate(1));
    assert_wrong(&found(Some("UTC"), once), &[(Clock, Warning, "at least UTC+3")]);
}

#[test]
fn an_account_that_nobody_shows_is_absent_or_unseen() {
    let absent = findings("main", None, &Reached::Unknown, &Sight::Absent, NOON);
    assert_eq!((absent[0].check, absent[0].result), (Start, Failure));
    assert!(absent[1..].iter().all(|finding| finding.result == Skipped));
    let unseen = Sight::Unseen { why: "so".to_owned(), remedy: Some("do".to_owned()) };
    let unseen = findings("main", None, &Reached::Unknown, &unseen, NOON);
    let checks: Vec<Check> = unseen.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ALL);

    let public = |ready, reasons: &[&str]| {
        let reasons = Some(reasons.iter().map(|reason| (*reason).to_owned()).collect());
        findings(
            "main",
            None,
            &Reached::Unknown,
            &Sight::Public(ReadyShown { ready, sessions: 2, reasons }),
            NOON,
        )
    };
    let skipped = |found: &[Finding]| found.iter().filter(|of| of.result == Skipped).count();
    for (found, failures) in [
        (public(2, &[]), 0),
        (public(2, &["account_setting"]), 0),
        (public(2, &["autotrading_off"]), 1),
        (public(1, &[]), 1),
        (public(0, &["not_connected"]), 2),
    ] {
        let failed = found.iter().filter(|of| of.result == Failure).count();
        assert_eq!((found.len(), skipped(&found), failed), (8, 6, failures), "{found:#?}");
    }
    let reasons = Some(vec!["account_setting".to_owned()]);
    let paused = Sight::Public(ReadyShown { ready: 2, sessions: 2, reasons });
    let configured = Configured { trade: true, pause: Some(PauseOrigin::Store) };
    let paused = findings("main", Some(&configured), &Reached::Unknown, &paused, NOON);
    assert!(paused.iter().any(|finding| finding.result == Warning), "{paused:#?}");
    let unsaid = Sight::Public(ReadyShown { ready: 2, sessions: 2, reasons: None });
    let unsaid = findings("main", None, &Reached::Unknown, &unsaid, NOON);
    assert_eq!((unsaid.len(), skipped(&unsaid)), (8, 7), "{unsaid:#?}");
}

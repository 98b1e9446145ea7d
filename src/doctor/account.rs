//! The lines that lead from what a gateway shows of an account.

use std::str::FromStr;

use super::prices::prices;
use super::remedy;
use super::report::{Check, Finding, skip, unanswered};
use super::shown::{Configured, Reached, ReadyShown, SessionShown, Shown, Sight};
use crate::mt5::{AccountInfo, Version, is_other_account};
use crate::pool::TradeBlock;

/// What an account is like. `now`: unix seconds.
pub fn findings(
    name: &str,
    configured: Option<&Configured>,
    reached: &Reached,
    sight: &Sight,
    now: i64,
) -> Vec<Finding> {
    let findings = match sight {
        Sight::Shown(shown) => of_shown(configured, reached, shown, now),
        Sight::Public(ready) => of_public(name, configured, ready),
        Sight::Absent => {
            let failure = Finding::failure(
                Check::Start,
                "the gateway that runs does not serve this account, or the key may not see it",
                "`mt5-gateway reload`, or give a key for this account by --key-file",
            );
            let why = "the gateway does not show the account";
            [failure].into_iter().chain(skip(&ALL[1..], why, None)).collect()
        }
        Sight::Unseen { why, remedy } => skip(&ALL, why, remedy.as_deref()),
    };
    findings.into_iter().map(|finding| finding.of(name)).collect()
}

const ALL: [Check; 8] = [
    Check::Start,
    Check::Login,
    Check::Broker,
    Check::Identity,
    Check::TradePermission,
    Check::MarketWatch,
    Check::Quote,
    Check::Clock,
];

fn of_public(name: &str, configured: Option<&Configured>, look: &ReadyShown) -> Vec<Finding> {
    let ReadyShown { ready, sessions, reasons } = look;
    let key = "give a key with the scope `read` by --key-file";
    let found = format!("{ready} of {sessions} sessions are ready");
    let mut findings = vec![];
    // A session is ready once it has shown the account and hears its broker.
    if ready == sessions {
        findings.push(Finding::ok(Check::Start, found));
    } else {
        findings.push(Finding::failure(Check::Start, found, format!("{key} to see why")));
    }
    let why = "the gateway says more with a key only";
    findings.extend(skip(&ALL[1..4], why, Some(key)));
    match reasons {
        None => findings.extend(skip(&[Check::TradePermission], why, Some(key))),
        Some(reasons) if reasons.iter().any(|of| of == TradeBlock::AccountSetting.name()) => {
            if let Some(pause) = configured.and_then(|of| of.pause.as_ref()) {
                let remedy = remedy::of_pause(name, Some(Some(pause)), true);
                findings.push(paused(&remedy));
            } else {
                findings
                    .push(Finding::ok(Check::TradePermission, "it does not trade, or is paused"));
            }
        }
        Some(reasons) => findings.extend(permission(reasons.iter().map(String::as_str))),
    }
    findings.extend(skip(&ALL[5..], why, Some(key)));
    findings
}

fn of_shown(
    configured: Option<&Configured>,
    reached: &Reached,
    shown: &Shown,
    now: i64,
) -> Vec<Finding> {
    let Shown { status, is_own, terminal } = shown;
    let build = terminal.as_ref().and_then(|terminal| terminal.version.as_ref().ok());
    let sessions = status.sessions.iter().enumerate();
    let mut findings: Vec<Finding> = sessions
        .flat_map(|(index, session)| {
            of_session(session, build, reached, *is_own)
                .into_iter()
                .map(move |finding| finding.in_session(index))
        })
        .collect();
    findings.sort_by_key(|finding| ALL.iter().position(|check| *check == finding.check));
    let trade = match configured {
        Some(Configured { trade, .. }) if *is_own => *trade,
        _ => status.trade,
    };
    let pause = configured.map(|of| of.pause.as_ref());
    let is_paused = if *is_own { pause.flatten().is_some() } else { status.paused };
    let is_paused = is_paused.then(|| paused(&remedy::of_pause(&status.name, pause, !is_own)));
    let Some(terminal) = terminal else {
        let known = findings.iter().any(|finding| finding.check == Check::Identity);
        let mut rest = if known { &ALL[4..] } else { &ALL[3..] };
        let why = match is_paused {
            Some(paused) => {
                let why = "the account is paused, so nothing is asked of its terminals";
                if !known {
                    findings.extend(skip(&[Check::Identity], why, None));
                }
                findings.push(paused);
                rest = &ALL[5..];
                why
            }
            None => "no session of the account is ready",
        };
        findings.extend(skip(rest, why, None));
        return findings;
    };
    findings.push(match &terminal.account {
        Ok(info) => Finding::ok(Check::Identity, identity(info)),
        Err(fault) => unanswered(Check::Identity, fault, *is_own),
    });
    if let Some(paused) = is_paused {
        findings.push(paused);
    } else if !trade {
        let found = "`trade = false`: no order of this account is sent";
        findings.push(Finding::ok(Check::TradePermission, found));
    } else {
        // Where doctor has started the terminals, these are its own doing.
        let ours = [TradeBlock::AccountSetting, TradeBlock::Journal, TradeBlock::Reconciling];
        let is_ours = |reason: &&str| *is_own && ours.iter().any(|block| block.name() == *reason);
        let reasons = status.trading.open.reasons.iter().map(String::as_str);
        findings.extend(permission(reasons.filter(|reason| !is_ours(reason))));
    }
    findings.extend(prices(terminal, status, *is_own, now));
    findings
}

fn paused(remedy: &str) -> Finding {
    Finding::warning(Check::TradePermission, "the account is paused", remedy)
}

fn identity(info: &AccountInfo) -> String {
    let AccountInfo { login, server, .. } = info;
    let kind = match info.trade_mode {
        0 => "demo account",
        1 => "contest account",
        2 => "real account",
        _ => "account of an unknown kind",
    };
    format!("{login} on {server}, {kind}")
}

/// From the start of a session's terminal to its broker.
fn of_session(
    session: &SessionShown,
    build: Option<&Version>,
    reached: &Reached,
    is_own: bool,
) -> Vec<Finding> {
    let started = || {
        let build = build.map(|version| format!(", terminal build {}", version.build));
        Finding::ok(Check::Start, format!("it runs{}", build.unwrap_or_default()))
    };
    let logged_in = || Finding::ok(Check::Login, "it succeeded");
    let since = &session.since;
    match session.state.as_str() {
        // It is tried again, and what it failed by last says more than that.
        "starting" | "logging_in" if session.has_failed() => {
            of_failed(session, reached, is_own, started(), logged_in())
        }
        "ready" => vec![started(), logged_in(), Finding::ok(Check::Broker, "it is connected")],
        "disconnected" => {
            let remedy = "check this machine's network, and whether the broker's server is up; the terminal \
                          connects again by itself";
            let lost =
                Finding::failure(Check::Broker, "the terminal does not hear its broker", remedy);
            vec![started(), logged_in(), lost]
        }
        "logging_in" => {
            let found = format!("the terminal has not answered since {since}");
            let remedy = "look at the terminal's window: a dialog may wait for an answer";
            let waits = Finding::failure(Check::Login, found, remedy);
            let rest = skip(&ALL[2..3], "the login is not over", None);
            [started(), waits].into_iter().chain(rest).collect()
        }
        "starting" if session.is_being_copied => {
            let found = format!("the terminal is being copied from its template since {since}");
            let remedy = "start the gateway, which waits for the copy as long as it takes: doctor gives up \
                          after ten minutes, and begins anew";
            let copied = Finding::failure(Check::Start, found, remedy);
            [copied].into_iter().chain(skip(&ALL[1..3], "it has not started", None)).collect()
        }
        "starting" => {
            let found = format!("the terminal has been starting since {since}");
            let remedy = if matches!(reached, Reached::Copied(_)) {
                "wait until the gateway's log says that the terminal was copied from its template, and for \
                 `terminal.init_timeout` after that; then look again"
            } else {
                "wait for `terminal.init_timeout`, then look again"
            };
            let starts = Finding::failure(Check::Start, found, remedy);
            [starts].into_iter().chain(skip(&ALL[1..3], "it has not started", None)).collect()
        }
        _ => of_failed(session, reached, is_own, started(), logged_in()),
    }
}

/// A session whose terminal was given up.
fn of_failed(
    session: &SessionShown,
    reached: &Reached,
    is_own: bool,
    started: Finding,
    logged_in: Finding,
) -> Vec<Finding> {
    let message = session.last_error.as_ref().map_or("no reason is known", |error| &error.message);
    let skipped = |checks: &[Check], why| skip(checks, why, None);
    // A template that holds no terminal has a line of its own.
    if matches!(reached, Reached::Copied(Err(fault)) if fault == message) {
        return skipped(&ALL[..3], "the terminal cannot be copied");
    }
    if is_other_account(message) {
        let remedy =
            "log the terminal in to the configured account, or correct `login` and `server`";
        let other = Finding::failure(Check::Identity, message, remedy);
        return [started, logged_in, other]
            .into_iter()
            .chain(skipped(&[Check::Broker], "it shows another account"))
            .collect();
    }
    // A login that fails is noted together with the error.
    let login_failed = session.last_login.as_ref().zip(session.last_error.as_ref());
    let login_failed = login_failed.is_some_and(|(login, error)| {
        login.outcome == "failure" && error.at.duration_since(login.at).as_secs().abs() <= 1
    });
    if login_failed {
        let refused = Finding::failure(Check::Login, message, remedy::of_login(message, reached));
        let rest = skipped(&[Check::Broker], "it is not logged in");
        return [started, refused].into_iter().chain(rest).collect();
    }
    let failed = Finding::failure(Check::Start, message, remedy::of_start(message, is_own));
    [failed].into_iter().chain(skipped(&ALL[1..3], "the terminal does not run")).collect()
}

/// Whether orders can be sent, by the reasons against it.
fn permission<'a>(reasons: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let check = Check::TradePermission;
    let finding = |reason: &str| {
        let Ok(block) = TradeBlock::from_str(reason) else {
            return Finding::failure(
                check,
                reason,
                "see docs/trading.md, which explains each reason",
            );
        };
        // What is wrong, and what to do about it.
        let text = block.remedy();
        let (found, remedy) = text.split_once("; ").unwrap_or((text, "see the lines above"));
        match block {
            TradeBlock::Reconciling => Finding::warning(check, found, "look again in a minute"),
            _ => Finding::failure(check, format!("{found} ({reason})"), remedy),
        }
    };
    let findings: Vec<Finding> = reasons.map(finding).collect();
    if findings.is_empty() { vec![Finding::ok(check, "orders can be sent")] } else { findings }
}

#[cfg(test)]
mod tests;

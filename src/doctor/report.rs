//! What doctor found: its lines, for people and for programs.

use std::fmt::Write;

use serde::Serialize;
use strum::IntoStaticStr;

use super::remedy;

/// What was looked at, in the order of the way from the settings to a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The settings as they are read now.
    #[strum(serialize = "settings")]
    Settings,
    /// API keys, and the one that doctor uses.
    #[strum(serialize = "keys")]
    Keys,
    /// The address that the gateway listens on.
    #[strum(serialize = "port")]
    Port,
    /// The journal of trades.
    #[strum(serialize = "journal")]
    Journal,
    /// Free space.
    #[strum(serialize = "disk")]
    Disk,
    /// The Python that runs the worker.
    #[strum(serialize = "Python")]
    Python,
    /// The packages that the worker imports.
    #[strum(serialize = "module")]
    Module,
    /// The terminal's executable, and its folder if it is portable.
    #[strum(serialize = "terminal files")]
    TerminalFiles,
    /// Whether the worker and its terminal start.
    #[strum(serialize = "start")]
    Start,
    /// Whether the terminal logs in.
    #[strum(serialize = "login")]
    Login,
    /// Whether it shows the configured account.
    #[strum(serialize = "identity")]
    Identity,
    /// Whether it hears its broker.
    #[strum(serialize = "broker")]
    Broker,
    /// Whether orders can be sent.
    #[strum(serialize = "trade permission")]
    TradePermission,
    /// Whether symbols are shown.
    #[strum(serialize = "Market Watch")]
    MarketWatch,
    /// Whether one of them has a price.
    #[strum(serialize = "quote")]
    Quote,
    /// Whether the server's clock fits the configured zone.
    #[strum(serialize = "clock")]
    Clock,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// It could not be made, because of something else.
    Skipped,
    /// All is well.
    Ok,
    /// It works, but probably not as was meant.
    Warning,
    /// It does not work.
    Failure,
}

/// A line: what was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Of which account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Of which of its sessions, counted from 0 as in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<usize>,
    /// How it ended.
    pub result: Outcome,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: Check, result: Outcome, found: &str, remedy: Option<&str>) -> Finding {
        // Terminals, brokers and packages write several lines at times.
        let in_a_line = |text: &str| text.split(char::is_control).collect::<Vec<_>>().join(" ");
        let (found, remedy) = (in_a_line(found), remedy.map(in_a_line));
        Finding { check, account: None, session: None, result, found, remedy }
    }

    /// All is well.
    pub fn ok(check: Check, found: impl AsRef<str>) -> Finding {
        Finding::new(check, Outcome::Ok, found.as_ref(), None)
    }

    /// It works, but probably not as was meant.
    pub fn warning(check: Check, found: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
        Finding::new(check, Outcome::Warning, found.as_ref(), Some(remedy.as_ref()))
    }

    /// It does not work.
    pub fn failure(check: Check, found: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
        Finding::new(check, Outcome::Failure, found.as_ref(), Some(remedy.as_ref()))
    }

    /// It was not looked at, for this reason.
    pub fn skipped(check: Check, why: &str, remedy: Option<&str>) -> Finding {
        Finding::new(check, Outcome::Skipped, why, remedy)
    }

    /// Of an account.
    pub fn of(self, account: &str) -> Finding {
        Finding { account: Some(account.to_owned()), ..self }
    }

    /// Of one of its sessions.
    pub fn in_session(self, session: usize) -> Finding {
        Finding { session: Some(session), ..self }
    }

    /// Whether two were skipped for the same reason.
    fn is_skipped_like(&self, other: &Finding) -> bool {
        let alike = |of: &Finding| (of.account.clone(), of.found.clone(), of.remedy.clone());
        [self, other].iter().all(|finding| finding.result == Outcome::Skipped)
            && alike(self) == alike(other)
    }
}

/// Findings of checks that cannot be made.
pub fn skip(checks: &[Check], why: &str, remedy: Option<&str>) -> Vec<Finding> {
    checks.iter().map(|check| Finding::skipped(*check, why, remedy)).collect()
}

/// A question that the terminal did not answer. `is_own`: doctor has started it.
pub fn unanswered(check: Check, fault: &str, is_own: bool) -> Finding {
    Finding::failure(
        check,
        format!("the terminal was asked and gave no answer: {fault}"),
        if is_own { remedy::OWN_LOG } else { "see the gateway's log" },
    )
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the results.
    result: Outcome,
    checks: Vec<Finding>,
}

impl Report {
    /// The report of these findings.
    pub fn new(checks: Vec<Finding>) -> Report {
        let worst = checks.iter().map(|finding| finding.result).max();
        Report { result: worst.unwrap_or(Outcome::Ok).max(Outcome::Ok), checks }
    }

    /// Whether a check failed.
    pub fn has_failure(&self) -> bool {
        self.result == Outcome::Failure
    }

    /// One line per check, and one that sums up. Checks that were skipped for one reason share a line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let alike = self.checks.chunk_by(|first, next| first.is_skipped_like(next));
        for findings in alike {
            let Some(Finding { account, session, result, found, remedy, .. }) = findings.first()
            else {
                continue;
            };
            let result: &str = result.into();
            let mut checks: Vec<&str> =
                findings.iter().map(|finding| finding.check.into()).collect();
            checks.dedup();
            let whose = match (account, session) {
                (Some(account), Some(session)) => format!(" of {account}, session {session}"),
                (Some(account), None) => format!(" of {account}"),
                (None, _) => String::new(),
            };
            let remedy = remedy.as_ref().map(|remedy| format!(" -> {remedy}"));
            let (checks, remedy) = (checks.join(", "), remedy.unwrap_or_default());
            let _ = writeln!(text, "{result:8} {checks}{whose}: {found}{remedy}");
        }
        text + &self.summary()
    }

    fn summary(&self) -> String {
        let count = |outcome: Outcome| {
            self.checks.iter().filter(|finding| finding.result == outcome).count()
        };
        let named = |count: usize, name: &str| match count {
            0 => None,
            1 => Some(format!("1 {name}")),
            count => Some(format!("{count} {name}s")),
        };
        let skipped = count(Outcome::Skipped);
        let parts = [
            named(count(Outcome::Failure), "failure"),
            named(count(Outcome::Warning), "warning"),
            (skipped > 0).then(|| format!("{skipped} skipped")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let rest = if parts.is_empty() { "all is well".to_owned() } else { parts.join(", ") };
        format!("{} checks: {rest}\n", self.checks.len())
    }

    /// The same as JSON.
    pub fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::ok(Check::Port, "it is free"),
            Finding::failure(Check::Login, "no\nway", "change it").of("main").in_session(1),
            Finding::skipped(Check::Quote, "nobody", Some("wait")).of("main"),
            Finding::skipped(Check::Clock, "nobody", Some("wait")).of("main"),
            Finding::skipped(Check::Quote, "nobody", Some("wait")).of("other"),
        ])
    }

    #[test]
    fn a_line_says_how_what_of_whom_was_found_and_what_to_do() {
        let expected = "ok       port: it is free\n\
                        failure  login of main, session 1: no way -> change it\n\
                        skipped  quote, clock of main: nobody -> wait\n\
                        skipped  quote of other: nobody -> wait\n\
                        5 checks: 1 failure, 3 skipped\n";
        assert_eq!(report().text(), expected);
        assert!(report().has_failure());
        let well = Report::new(vec![Finding::skipped(Check::Port, "so", None)]);
        assert_eq!(well.text(), "skipped  port: so\n1 checks: 1 skipped\n");
        assert!(!well.has_failure());
    }

    #[test]
    fn a_program_gets_every_check_and_the_worst_result() {
        let report: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        let expected = json!({ "check": "login", "account": "main", "session": 1,
            "result": "failure", "found": "no way", "remedy": "change it" });
        assert_eq!(report["checks"][1], expected);
        assert_eq!(
            report["checks"][0],
            json!({ "check": "port", "result": "ok", "found": "it is free" })
        );
        assert_eq!(report["checks"].as_array().unwrap().len(), 5);
        assert_eq!(report["result"], "failure");
        let warned = Report::new(vec![Finding::warning(Check::Clock, "a", "b")]);
        assert!(warned.json().contains("\"result\": \"warning\""));
        assert!(Report::new(vec![]).json().contains("\"result\": \"ok\""));
    }
}

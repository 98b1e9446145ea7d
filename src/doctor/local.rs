//! What this machine has: evidence, and the lines that it leads to.

use std::path::PathBuf;

use bytesize::ByteSize;

use super::remedy;
use super::report::{Check, Finding};
use crate::settings::SettingFault;
use crate::terminal::worker::{Examination, PythonFault, TerminalFile};
use crate::trading::JournalLook;

/// Less free space than this is a failure: terminals and journal cannot go on for long.
const SPACE_NEEDED: ByteSize = ByteSize::mib(100);

/// Less free space than this is a warning.
const SPACE_WANTED: ByteSize = ByteSize::gib(1);

/// The section of keys.
const AUTH: &str = "auth";

/// What the settings are like.
pub fn settings(
    faults: &[SettingFault],
    warnings: &[SettingFault],
    accounts: &[&str],
) -> Vec<Finding> {
    let (check, mut findings) = (Check::Settings, vec![]);
    for fault in faults.iter().filter(|fault| !is_of_auth(fault)) {
        findings.push(Finding::failure(check, fault.to_string(), "correct it"));
    }
    for warning in warnings.iter().filter(|warning| !is_of_auth(warning)) {
        findings.push(Finding::warning(
            check,
            warning.to_string(),
            "correct it unless it is meant",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("accounts: {}", accounts.join(", "))));
    }
    findings
}

fn is_of_auth(fault: &SettingFault) -> bool {
    fault.key.split('.').next() == Some(AUTH)
}

/// The keys, as far as the settings say.
#[derive(Debug)]
pub struct KeysLook<'a> {
    /// `None`: the settings cannot be read.
    pub names: Option<Vec<String>>,
    pub faults: &'a [SettingFault],
    pub warnings: &'a [SettingFault],
    /// Why the key that doctor was given cannot be used.
    pub refused: Option<String>,
}

/// What the keys are like.
pub fn keys(look: &KeysLook<'_>) -> Vec<Finding> {
    let (check, mut findings) = (Check::Keys, vec![]);
    if let Some(refused) = &look.refused {
        findings.push(Finding::failure(check, refused, "give a key of the gateway by --key-file"));
    }
    for fault in look.faults.iter().filter(|fault| is_of_auth(fault)) {
        findings.push(Finding::failure(check, fault.to_string(), "correct it"));
    }
    for warning in look.warnings.iter().filter(|warning| is_of_auth(warning)) {
        findings.push(Finding::warning(
            check,
            warning.to_string(),
            "correct it unless it is meant",
        ));
    }
    if findings.is_empty() {
        findings.push(match look.names.as_deref() {
            None => Finding::skipped(check, "the settings cannot be read", None),
            Some([]) => Finding::ok(check, "none: everybody on this machine may do everything"),
            Some(names) => Finding::ok(check, names.join(", ")),
        });
    }
    findings
}

/// What is at the address of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortLook {
    /// A gateway.
    Gateway,
    /// Nobody, and it can be listened on.
    Free,
    /// Somebody who does not answer HTTP.
    Silent(String),
    /// Somebody who is no gateway.
    Other,
    /// Nobody, and it cannot be listened on.
    Unusable(String),
    /// Nobody, where doctor was told that a gateway is.
    Nobody(String),
    /// The settings take any free port.
    Any,
    /// It is not known.
    Unknown(String),
}

/// What the port is like. `at`: the address, or the URL that doctor `is_told`.
pub fn port(look: &PortLook, at: &str, is_told: bool) -> Finding {
    let check = Check::Port;
    let (choose, restart) = if is_told {
        ("correct --url", "restart the gateway there, or correct --url")
    } else {
        (
            "choose another address by `server.listen`, or end that program if nobody needs it",
            "restart it if it is a gateway; otherwise choose another address by `server.listen`",
        )
    };
    match look {
        PortLook::Gateway => Finding::ok(check, format!("a gateway runs at {at}")),
        PortLook::Free => Finding::ok(check, format!("{at} is free, no gateway runs there")),
        PortLook::Silent(fault) => Finding::failure(
            check,
            format!("what listens at {at} gives no answer ({fault})"),
            restart,
        ),
        PortLook::Other => {
            Finding::failure(check, format!("another program listens at {at}"), choose)
        }
        PortLook::Unusable(fault) => Finding::failure(
            check,
            format!("{at} cannot be listened on: {fault}"),
            "choose another address by `server.listen`",
        ),
        PortLook::Nobody(fault) => Finding::failure(
            check,
            format!("no gateway answers at {at} ({fault})"),
            "start it, or correct --url",
        ),
        PortLook::Any => Finding::ok(check, "another free port is taken at each start"),
        PortLook::Unknown(why) => {
            Finding::skipped(check, why, Some("correct the settings, or give the gateway's --url"))
        }
    }
}

/// What the journal is like. `needed`: an account may trade.
pub fn journal(look: &JournalLook, file: &str, needed: bool) -> Finding {
    let check = Check::Journal;
    match look {
        JournalLook::Missing(_) if !needed => {
            Finding::ok(check, "no account trades, so none is needed")
        }
        JournalLook::Missing(Ok(())) => {
            Finding::ok(check, format!("{file} will be made at the first start"))
        }
        JournalLook::Missing(Err(fault)) => Finding::failure(
            check,
            format!("{file} cannot be made: {fault}"),
            "give the gateway's user the folder, or set `trading.journal`",
        ),
        JournalLook::InUse => Finding::ok(check, format!("{file} is used by a gateway that runs")),
        JournalLook::Sound { version: 0, .. } => Finding::ok(check, format!("{file} is empty")),
        JournalLook::Sound { version, halts: 0 } => {
            Finding::ok(check, format!("{file} is sound, its schema has version {version}"))
        }
        JournalLook::Sound { halts, .. } => Finding::warning(
            check,
            format!("{file} is sound, and has halts ({halts}): nothing is opened there"),
            "start the gateway: `mt5-gateway halt --lift` lifts the halt of all accounts, with `--account NAME` \
             that of one",
        ),
        JournalLook::Unusable(fault) => {
            Finding::failure(check, format!("{file}: {fault}"), remedy::of_journal(fault))
        }
    }
}

/// Free bytes at a folder, or why they cannot be told.
pub type SpaceLook = (PathBuf, Result<u64, String>);

/// What the disks are like.
pub fn disk(looks: &[SpaceLook]) -> Vec<Finding> {
    let check = Check::Disk;
    let look = |(folder, free): &SpaceLook| {
        let folder = folder.display();
        match free {
            Err(fault) => Finding::warning(check, fault, "see whether the disk works"),
            Ok(free) => {
                let free = ByteSize::b(*free);
                let found = format!("{} free at {folder}", free.display().iec());
                if free < SPACE_NEEDED {
                    Finding::failure(check, found, "make room, terminals and the journal need it")
                } else if free < SPACE_WANTED {
                    Finding::warning(check, found, "make room soon")
                } else {
                    Finding::ok(check, found)
                }
            }
        }
    };
    looks.iter().map(look).collect()
}

/// What a worker would find on this machine.
pub fn worker(account: &str, look: &Examination) -> Vec<Finding> {
    let command = &look.command;
    let rest = [Check::Module, Check::TerminalFiles];
    let findings = match &look.python {
        Err(fault) => {
            let (found, remedy) = match fault {
                PythonFault::NotStarted(fault) => (
                    format!("`{command}` cannot be started: {fault}"),
                    "install it, or let `terminal.python` name a Python of 3.9 or newer with its path",
                ),
                PythonFault::Slow(limit) => (
                    format!("`{command}` has not ended within {limit:?}"),
                    "run it by hand to see what it waits for, or raise `terminal.init_timeout`",
                ),
                PythonFault::Ended(how) => (
                    format!("`{command}` gave no answer ({how})"),
                    "run it by hand, and set `terminal.python` to a Python of 3.9 or newer",
                ),
            };
            let failed = Finding::failure(Check::Python, found, remedy);
            let rest = rest.map(|check| Finding::skipped(check, "Python does not run", None));
            [failed].into_iter().chain(rest).collect()
        }
        Ok(python) => {
            let mut findings = vec![Finding::ok(
                Check::Python,
                format!("`{command}` is Python {}", python.version),
            )];
            let (missing, found): (Vec<_>, Vec<_>) =
                python.modules.iter().partition(|module| module.fault.is_some());
            for module in &missing {
                let fault = module.fault.as_deref().unwrap_or_default();
                let found = format!("`{}` cannot be imported: {fault}", module.name);
                let remedy = remedy::of_module(command, &module.name, fault, &python.platform);
                findings.push(Finding::failure(Check::Module, found, remedy));
            }
            if missing.is_empty() {
                let found: Vec<String> = found
                    .iter()
                    .map(|module| format!("{} {}", module.name, module.version))
                    .collect();
                findings.push(Finding::ok(Check::Module, found.join(", ")));
            }
            findings.push(terminal_files(look, python.terminal.as_ref()));
            findings
        }
    };
    findings.into_iter().map(|finding| finding.of(account)).collect()
}

fn terminal_files(look: &Examination, file: Option<&TerminalFile>) -> Finding {
    let check = Check::TerminalFiles;
    let path = look.path.as_deref().unwrap_or_default();
    match &look.template {
        Some(Ok(folder)) => {
            return Finding::ok(check, format!("they are copied from {folder}"));
        }
        Some(Err(fault)) => {
            let (found, remedy) = fault.split_once(": ").unwrap_or((fault, "see the settings"));
            return Finding::failure(check, found, remedy);
        }
        None => {}
    }
    match (file, &look.remote) {
        (_, Some(remote)) => Finding::skipped(
            check,
            &format!("the terminal is at {remote}, not on this machine"),
            None,
        ),
        (None, None) => {
            Finding::ok(check, "no `terminal.path`: the package finds the terminal itself")
        }
        (Some(TerminalFile::File), None) => Finding::ok(check, format!("{path} is there")),
        (Some(TerminalFile::Missing), None) => Finding::failure(
            check,
            format!("{path} does not exist, or the gateway's user may not see it"),
            "install the terminal there, or correct `terminal.path`",
        ),
        (Some(TerminalFile::Folder), None) => Finding::failure(
            check,
            format!("{path} is a folder"),
            "let `terminal.path` name the executable, such as terminal64.exe, in it",
        ),
        (Some(TerminalFile::ReadOnly { fault }), None) => Finding::failure(
            check,
            format!("the folder of {path} cannot be written: {fault}"),
            "a portable terminal keeps its data there: give the gateway's user the folder, or move the \
             terminal out of Program Files",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::report::Outcome;
    use crate::terminal::worker::{Module, Python};

    fn fault(key: &str) -> SettingFault {
        let (origin, message) = ("main.toml".to_owned(), "expected another".to_owned());
        SettingFault { key: key.to_owned(), origin, message }
    }

    /// Whether a finding ended so, names these things, and says what to do if something is wrong.
    #[track_caller]
    fn assert_finding(finding: &Finding, result: Outcome, texts: &[&str]) {
        assert_eq!(finding.result, result, "{finding:?}");
        let text = format!("{} {}", finding.found, finding.remedy.as_deref().unwrap_or_default());
        for expected in texts {
            assert!(text.contains(expected), "{expected}: {finding:?}");
        }
        let is_wrong = matches!(result, Outcome::Warning | Outcome::Failure);
        assert!(!is_wrong || finding.remedy.is_some(), "{finding:?}");
    }

    #[test]
    fn a_fault_of_the_settings_is_a_line_and_keys_have_their_own() {
        let faults = [fault("accounts.main.login"), fault("auth.keys.robot.sha256")];
        let (none, warnings) =
            ([], [fault("server.shutdown_grace"), fault("auth.keys.old.expires")]);
        let found = settings(&faults, &warnings, &["main"]);
        assert_eq!(found.len(), 2);
        assert_finding(&found[0], Outcome::Failure, &["accounts.main.login: expected another"]);
        assert_finding(&found[1], Outcome::Warning, &["server.shutdown_grace"]);
        assert_finding(&settings(&none, &none, &["a", "b"])[0], Outcome::Ok, &["a, b"]);

        let look = |names: Option<&[&str]>, faults, warnings, refused: Option<&str>| {
            let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            keys(&KeysLook { names, faults, warnings, refused: refused.map(str::to_owned) })
        };
        let found = look(Some(&["robot"]), &faults, &warnings, Some("unknown"));
        assert_finding(&found[0], Outcome::Failure, &["unknown", "--key-file"]);
        assert_finding(&found[1], Outcome::Failure, &["robot.sha256"]);
        assert_finding(&found[2], Outcome::Warning, &["old.expires"]);
        assert_finding(&look(Some(&["robot", "x"]), &[], &[], None)[0], Outcome::Ok, &["robot, x"]);
        assert_finding(&look(Some(&[]), &[], &[], None)[0], Outcome::Ok, &["everybody"]);
        assert_finding(&look(None, &[], &[], None)[0], Outcome::Skipped, &["cannot be read"]);
    }

    #[test]
    fn a_port_is_the_gateways_free_or_in_the_way() {
        let text = || "why".to_owned();
        let cases = [
            (PortLook::Gateway, Outcome::Ok, "a gateway runs at here"),
            (PortLook::Free, Outcome::Ok, "here is free"),
            (PortLook::Any, Outcome::Ok, "free port"),
            (PortLook::Silent(text()), Outcome::Failure, "gives no answer (why) restart it"),
            (PortLook::Other, Outcome::Failure, "another program listens at here choose another"),
            (PortLook::Unusable(text()), Outcome::Failure, "here cannot be listened on: why"),
            (PortLook::Nobody(text()), Outcome::Failure, "correct --url"),
            (PortLook::Unknown(text()), Outcome::Skipped, "why"),
        ];
        for (look, result, expected) in cases {
            assert_finding(&port(&look, "here", false), result, &[expected]);
        }
    }

    #[test]
    fn a_journal_is_there_can_be_made_or_is_not_needed() {
        let missing = |fault: Option<&str>| {
            JournalLook::Missing(fault.map_or(Ok(()), |fault| Err(fault.to_owned())))
        };
        let cases = [
            (missing(None), true, Outcome::Ok, "will be made"),
            (missing(Some("denied")), true, Outcome::Failure, "cannot be made: denied"),
            (missing(Some("denied")), false, Outcome::Ok, "no account trades"),
            (JournalLook::InUse, true, Outcome::Ok, "used by a gateway"),
            (JournalLook::Sound { version: 2, halts: 0 }, true, Outcome::Ok, "version 2"),
            (JournalLook::Sound { version: 3, halts: 1 }, true, Outcome::Warning, "halts (1)"),
            (JournalLook::Sound { version: 0, halts: 0 }, false, Outcome::Ok, "empty"),
            (
                JournalLook::Unusable("it is damaged".into()),
                false,
                Outcome::Failure,
                "j: it is damaged",
            ),
        ];
        for (look, needed, result, expected) in cases {
            assert_finding(&journal(&look, "j", needed), result, &[expected]);
        }
    }

    #[test]
    fn little_free_space_is_a_warning_and_less_a_failure() {
        for (free, result) in [
            (Ok(0), Outcome::Failure),
            (Ok(ByteSize::mib(99).as_u64()), Outcome::Failure),
            (Ok(ByteSize::mib(100).as_u64()), Outcome::Warning),
            (Ok(ByteSize::gib(1).as_u64() - 1), Outcome::Warning),
            (Ok(ByteSize::gib(1).as_u64()), Outcome::Ok),
            (Err("no answer about data".to_owned()), Outcome::Warning),
        ] {
            assert_finding(&disk(&[("data".into(), free)])[0], result, &["data"]);
        }
    }

    #[test]
    fn each_thing_that_a_worker_lacks_is_named_with_what_to_do() {
        let module = |name: &str, fault: Option<&str>| Module {
            name: name.to_owned(),
            version: "5.0.1".to_owned(),
            fault: fault.map(str::to_owned),
        };
        let look = |python| Examination {
            command: "py".to_owned(),
            remote: None,
            path: Some("t.exe".to_owned()),
            template: None,
            python,
        };
        let python = |fault: Option<&str>, terminal| {
            let modules = vec![module("MetaTrader5", None), module("msgpack", fault)];
            let (version, platform) = ("3.12.1".to_owned(), "linux".to_owned());
            look(Ok(Python { version, platform, modules, terminal }))
        };
        let results = |look: &Examination, expected: [(Outcome, &[&str]); 3]| {
            let found = worker("main", look);
            assert_eq!(found.len(), 3, "{found:?}");
            for (finding, (result, texts)) in found.iter().zip(expected) {
                assert_finding(finding, result, texts);
                assert_eq!(finding.account.as_deref(), Some("main"));
            }
        };
        use Outcome::{Failure, Ok as Fine, Skipped};
        let there = Some(TerminalFile::File);
        let fine: (Outcome, &[&str]) = (Fine, &["`py` is Python 3.12.1"]);
        let modules: (Outcome, &[&str]) = (Fine, &["MetaTrader5 5.0.1, msgpack 5.0.1"]);
        results(&python(None, there.clone()), [fine, modules, (Fine, &["t.exe is there"])]);
        let lacks: (Outcome, &[&str]) =
            (Failure, &["`msgpack`", "No module", "`py -m pip install msgpack`"]);
        results(&python(Some("No module named 'msgpack'"), there), [fine, lacks, (Fine, &[])]);
        let read_only = TerminalFile::ReadOnly { fault: "denied".to_owned() };
        for (terminal, result, text) in [
            (None, Fine, "finds the terminal itself"),
            (Some(TerminalFile::Missing), Failure, "t.exe does not exist"),
            (Some(TerminalFile::Folder), Failure, "t.exe is a folder"),
            (Some(read_only), Failure, "cannot be written: denied"),
        ] {
            results(&python(None, terminal), [fine, modules, (result, &[text])]);
        }
        let copied = |template| Examination { template: Some(template), ..python(None, None) };
        let template = copied(Ok("C:/template".to_owned()));
        results(&template, [fine, modules, (Fine, &["copied from C:/template"])]);
        let template = copied(Err("C:/template has no terminal64.exe: set it".to_owned()));
        results(&template, [fine, modules, (Failure, &["has no terminal64.exe", "set it"])]);
        let remote = Examination { remote: Some("h:1".to_owned()), ..python(None, None) };
        results(&remote, [fine, modules, (Skipped, &["at h:1"])]);
        for (fault, text) in [
            (PythonFault::NotStarted("not found".to_owned()), "cannot be started: not found"),
            (PythonFault::Slow(Duration::from_secs(9)), "within 9s"),
            (PythonFault::Ended("status 1".to_owned()), "gave no answer (status 1)"),
        ] {
            let skipped: (Outcome, &[&str]) = (Skipped, &["Python does not run"]);
            results(&look(Err(fault)), [(Failure, &[text]), skipped, skipped]);
        }
    }
}

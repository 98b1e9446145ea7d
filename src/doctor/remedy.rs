//! What to do about what was found, for somebody who follows it word for word.

use super::shown::Reached;
use crate::settings::PauseOrigin;

/// What to do about a pause. `origin`: what the settings have it paused by; `None`: they do not know the
/// account. `runs`: a gateway serves the account.
pub fn of_pause(account: &str, origin: Option<Option<&PauseOrigin>>, runs: bool) -> String {
    let request = format!("`DELETE /api/v1/accounts/{account}/pause`");
    let reload = if runs { ", and `mt5-gateway reload`" } else { "" };
    let what = match origin {
        None => format!("{request}; if its settings have it paused, the answer names where"),
        Some(None) => "`mt5-gateway reload`, because the settings do not have it paused".to_owned(),
        Some(Some(PauseOrigin::Store)) if runs => request,
        Some(Some(PauseOrigin::Store)) => format!("{request} once a gateway runs"),
        Some(Some(PauseOrigin::Environment)) => {
            let variable = account.to_uppercase();
            let restart = if runs { ", and restart the gateway" } else { "" };
            format!("unset MT5_GATEWAY__ACCOUNTS__{variable}__PAUSED{restart}")
        }
        Some(Some(PauseOrigin::Source(source))) => {
            format!("set `accounts.{account}.paused = false` in {source}{reload}")
        }
    };
    format!("let it serve again: {what}")
}

/// What tells more of terminals that doctor has started.
pub const OWN_LOG: &str = "run doctor once more with `--log-filter info`, which shows the log";

/// What to do about a package that cannot be imported. `platform`: what the Python is made for.
pub fn of_module(command: &str, module: &str, fault: &str, platform: &str) -> String {
    let top = |module: &str| module.split('.').next().unwrap_or_default().to_owned();
    // These are the worker's own, whatever `terminal.module` says.
    let is_configured = !["msgpack", "rpyc"].contains(&module);
    let package = top(module);
    let missing = fault.split_once("No module named '").and_then(|(_, rest)| rest.split_once('\''));
    match missing {
        Some((missing, _)) if top(missing) != package => {
            format!("`{command} -m pip install {}`, which `{package}` imports", top(missing))
        }
        Some(_) if package == "MetaTrader5" && !["win32", ""].contains(&platform) => {
            "the package is for Windows alone: let `terminal.python` run a Windows Python, here under Wine, \
             or reach a terminal elsewhere by `terminal.connect`"
                .to_owned()
        }
        Some(_) if is_configured && package != "MetaTrader5" => {
            format!("`{command} -m pip install {package}`, or correct `terminal.module`")
        }
        Some(_) => format!("`{command} -m pip install {package}`"),
        None if fault.starts_with("AttributeError") && is_configured => {
            "correct what stands behind the colon in `terminal.module`".to_owned()
        }
        None => format!(
            "`{command} -m pip install --force-reinstall {package}`; if that does not help, `{command} -c \
             \"import {package}\"` shows the whole error"
        ),
    }
}

/// What to do about a journal that cannot be used.
pub fn of_journal(fault: &str) -> &'static str {
    if fault.contains("cannot be written") {
        "give the gateway's user the file and its folder"
    } else if fault.contains("use a newer gateway") {
        "start the newer gateway that has written it; do not remove the file, which keeps orders from being \
         sent twice"
    } else if fault.contains("another program") {
        "let `trading.journal` name a file that no other program uses"
    } else {
        "keep the file as evidence, and see docs/operations/journal.md before you replace it"
    }
}

/// What to do about a login that failed, by the error of the terminal.
pub fn of_login(message: &str, reached: &Reached) -> &'static str {
    let is_copied = matches!(reached, Reached::Copied(_));
    let remedies = [
        (
            "(auth_failed)",
            "correct `login`, `password` and `server`; the terminal's own journal has the broker's words",
        ),
        (
            "(ipc_initialize)",
            match reached {
                Reached::Copied(_) => {
                    "start the terminal in the folder of `terminal.template` by hand, to see whether it runs \
                     at all"
                }
                Reached::Remote => {
                    "look whether the terminal runs where `terminal.connect` leads to; `terminal.path` is a \
                     path there"
                }
                Reached::Installed | Reached::Unknown => {
                    "let `terminal.path` name the terminal64.exe of this account"
                }
            },
        ),
        (
            "(ipc_timeout)",
            "look at the terminal's window: a dialog may wait for an answer; or raise \
             `terminal.init_timeout`",
        ),
        ("did not answer within", "look at the terminal's window: a dialog may wait for an answer"),
        (
            "(invalid_version)",
            if is_copied {
                "start the terminal in the folder of `terminal.template` by hand with /portable, and let it \
                 update itself"
            } else {
                "start the terminal by hand once, and let it update itself"
            },
        ),
        (
            "(unsupported)",
            if is_copied {
                "update the terminal in the folder of `terminal.template`, or the package MetaTrader5"
            } else {
                "update the terminal, or the package MetaTrader5"
            },
        ),
    ];
    let found = remedies.iter().find(|(text, _)| message.contains(text));
    found.map_or(
        "look at the terminal's window, and at its journal below it, which has the broker's words",
        |(_, remedy)| remedy,
    )
}

/// What to do about a terminal that does not run. `is_own`: doctor has started it.
pub fn of_start(message: &str, is_own: bool) -> &'static str {
    let remedies = [
        (
            "cannot be started",
            "install it, or let `terminal.python` name a Python of 3.9 or newer with its path",
        ),
        ("No module named", "install the package into the Python of `terminal.python`"),
        ("terminals.keep_free", "make room on the disk of `terminals.directory`"),
        (
            "changes while it is copied",
            "wait until nobody changes the folder of `terminal.template`, such as a terminal that updates \
             itself there",
        ),
        (
            "the template",
            "correct `terminal.template`; the gateway's user has to be able to read the folder",
        ),
        (
            "another gateway uses",
            "end the other gateway if there is to be one; otherwise give each a `terminals.directory` of its \
             own",
        ),
        ("RPyC", "start the RPyC server, or correct `terminal.connect`"),
        (
            "did not answer within",
            "look at the terminal's window: a dialog may wait for an answer; or raise \
             `terminal.init_timeout`",
        ),
    ];
    let found = remedies.iter().find(|(text, _)| message.contains(text));
    let unknown = if is_own {
        OWN_LOG
    } else {
        "see the gateway's log; it starts the terminal again by itself"
    };
    found.map_or(unknown, |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_lifted_where_it_was_set() {
        let store = PauseOrigin::Store;
        let file = PauseOrigin::Source("main.toml".to_owned());
        let environment = PauseOrigin::Environment;
        let request = "let it serve again: `DELETE /api/v1/accounts/main/pause`";
        for (origin, runs, expected) in [
            (None, true, request),
            (Some(Some(&store)), true, request),
            (Some(Some(&store)), false, "pause` once a gateway runs"),
            (Some(None), true, ": `mt5-gateway reload`"),
            (Some(Some(&file)), true, "false` in main.toml, and `mt5-gateway reload`"),
            (Some(Some(&file)), false, "set `accounts.main.paused = false` in main.toml"),
            (Some(Some(&environment)), true, "__MAIN__PAUSED, and restart the gateway"),
            (Some(Some(&environment)), false, "unset MT5_GATEWAY__ACCOUNTS__MAIN__PAUSED"),
        ] {
            let remedy = of_pause("main", origin, runs);
            assert!(remedy.contains(expected), "{expected}: {remedy}");
        }
    }

    #[test]
    fn login_and_start_errors_have_remedies_of_their_own() {
        for (message, expected) in [
            ("MT5 error -10003 (ipc_initialize): x64 not found", "`terminal.path`"),
            ("MT5 error -10005 (ipc_timeout): IPC timeout", "a dialog may wait"),
            ("MT5 error -5 (invalid_version): Incompatible", "update itself"),
            ("the terminal did not answer within 60s in initialize", "a dialog may wait"),
            ("something", "the broker's words"),
        ] {
            assert!(of_login(message, &Reached::Installed).contains(expected), "{message}");
        }
        for (message, expected) in [
            (
                "its last line: ModuleNotFoundError: No module named 'msgpack'",
                "install the package",
            ),
            ("its last line: the RPyC server at h:1 cannot be reached", "start the RPyC server"),
            ("the terminal did not answer within 60s in its start", "a dialog may wait"),
            ("something", "the gateway's log"),
        ] {
            assert!(of_start(message, false).contains(expected), "{message}");
        }
    }

    #[test]
    fn what_a_template_or_another_machine_needs_is_done_there() {
        let copied = Reached::Copied(Ok(()));
        for (message, reached, expected) in [
            ("(ipc_initialize)", &copied, "`terminal.template`"),
            ("(invalid_version)", &copied, "`terminal.template`"),
            ("(unsupported)", &copied, "`terminal.template`"),
            ("(ipc_initialize)", &Reached::Remote, "`terminal.connect`"),
        ] {
            let remedy = of_login(message, reached);
            assert!(remedy.contains(expected), "{message}: {remedy}");
        }
        assert!(
            of_start("the template x changes while it is copied", false).contains("wait until")
        );
        // Doctor has no log that stays, and starts nothing again.
        assert_eq!(of_start("something", true), OWN_LOG);
    }

    #[test]
    fn what_is_missing_is_installed_and_nothing_else() {
        let no = |module: &str| format!("ModuleNotFoundError: No module named '{module}'");
        for (module, fault, platform, expected) in [
            ("msgpack", no("msgpack"), "linux", "`py -m pip install msgpack`"),
            ("rpyc", no("rpyc"), "linux", "`py -m pip install rpyc`"),
            ("MetaTrader5", no("MetaTrader5"), "win32", "`py -m pip install MetaTrader5`"),
            (
                "mine.sub",
                no("mine.sub"),
                "win32",
                "`py -m pip install mine`, or correct `terminal.module`",
            ),
            (
                "MetaTrader5",
                no("numpy"),
                "win32",
                "`py -m pip install numpy`, which `MetaTrader5` imports",
            ),
        ] {
            assert_eq!(of_module("py", module, &fault, platform), expected);
        }
        for (module, fault, expected) in [
            ("MetaTrader5", no("MetaTrader5"), "for Windows alone"),
            ("mt5linux", "AttributeError: module has no X".to_owned(), "behind the colon"),
            ("msgpack", "ImportError: DLL load failed".to_owned(), "--force-reinstall msgpack"),
        ] {
            let remedy = of_module("py", module, &fault, "linux");
            assert!(remedy.contains(expected), "{module}: {remedy}");
        }
    }

    #[test]
    fn a_journal_is_kept_whatever_is_wrong_with_it() {
        for (fault, expected) in [
            ("it cannot be written: denied", "give the gateway's user"),
            (
                "its schema has version 9, this gateway knows 2: use a newer gateway",
                "newer gateway",
            ),
            ("it is a database of another program", "`trading.journal`"),
            ("file is not a database", "keep the file"),
        ] {
            assert!(of_journal(fault).contains(expected), "{fault}");
        }
    }
}

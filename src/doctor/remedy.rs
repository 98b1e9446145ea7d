//! What to do about what was found, for somebody who follows it word for word.

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

/// What to do about a login that failed, by the error of the terminal.
pub fn of_login(message: &str) -> &'static str {
    let remedies = [
        (
            "(auth_failed)",
            "correct `login`, `password` and `server`; the terminal's own journal has the broker's words",
        ),
        ("(ipc_initialize)", "let `terminal.path` name the terminal64.exe of this account"),
        (
            "(ipc_timeout)",
            "look at the terminal's window: a dialog may wait for an answer; or raise `init_timeout`",
        ),
        ("did not answer within", "look at the terminal's window: a dialog may wait for an answer"),
        ("(invalid_version)", "start the terminal by hand once, and let it update itself"),
        ("(unsupported)", "update the terminal, or the package MetaTrader5"),
    ];
    let found = remedies.iter().find(|(text, _)| message.contains(text));
    found.map_or(
        "start the terminal by hand, and log in there to see what it says",
        |(_, remedy)| remedy,
    )
}

/// What to do about a terminal that does not run.
pub fn of_start(message: &str) -> &'static str {
    let remedies = [
        ("cannot be started", "set `terminal.python` to a Python of 3.9 or newer"),
        ("No module named", "install the package into the Python of `terminal.python`"),
        ("terminals.keep_free", "make room on the disk of `terminals.directory`"),
        ("the template", "correct `terminal.template`, or wait until nobody changes the folder"),
        ("another gateway uses", "give this gateway a `terminals.directory` of its own"),
        ("RPyC", "start the RPyC server, or correct `terminal.connect`"),
        (
            "did not answer within",
            "look at the terminal's window: a dialog may wait for an answer; or raise `init_timeout`",
        ),
    ];
    let found = remedies.iter().find(|(text, _)| message.contains(text));
    found.map_or("see the gateway's log; it starts the terminal again by itself", |(_, remedy)| {
        remedy
    })
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
            ("something", "log in there"),
        ] {
            assert!(of_login(message).contains(expected), "{message}");
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
            assert!(of_start(message).contains(expected), "{message}");
        }
    }
}

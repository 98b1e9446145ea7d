//! Settings that are refused: each fault is reported once, with its key, its source and what is expected.

use super::run;

#[test]
fn every_fault_is_reported_at_once_with_key_source_and_expectation() {
    let output = run(
        &["check-config", "--config", "mine.toml"],
        &[
            ("settings/default.toml", "[server]\nrequest_timeout = 5\nlisten = \"0.0.0.0:8080\"\n"),
            (
                "mine.toml",
                "[servr]\nx = 1\n[metrics]\nduration_buckets = [2.0, 1.0]\n[accounts.Bad]\nlogin = 'x'\n",
            ),
            (".env", "MT5_GATEWAY__RESTART__BUDGET=none\n"),
        ],
        &[("MT5_GATEWAY__LOG__FORMAT", "xml"), ("MT5_GATEWAY__AUTH__KEYS__G__SHA256", "abc")],
    );
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "server.request_timeout: expected a duration in quotes, such as \"15s\", \"250ms\", \"5m\" or \"90d\" (from settings/default.toml)",
        "servr.x: there is no such setting (from mine.toml)",
        "metrics.duration_buckets: expected upper bounds",
        "restart.budget: expected a whole number from 0 up (from .env)",
        #[cfg(target_os = "linux")]
        "log.format: expected one of text, json, journald (from environment)",
        #[cfg(not(target_os = "linux"))]
        "log.format: expected one of text, json (from environment)",
        "auth.keys.g.sha256: expected the SHA-256 of the key",
        "accounts.Bad: expected a name of at most 64 lower-case letters",
        "accounts.Bad.login: expected a whole number",
        "accounts.Bad.server: is missing",
        "accounts.Bad.terminal.kind: is missing",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn durations_have_an_upper_bound() {
    let keys = [
        ("server.request_timeout", "1ms", "1h"),
        ("server.call_timeout", "1ms", "1h"),
        ("server.trade_timeout", "1ms", "1h"),
        ("server.probe_interval", "1ms", "1h"),
        ("server.write_timeout", "1ms", "1h"),
        ("server.shutdown_grace", "0s", "1d"),
        ("restart.backoff", "1ms", "1d"),
        ("restart.backoff_max", "1ms", "1d"),
        ("restart.window", "1ms", "366d"),
        ("restart.quarantine_retry", "1ms", "1d"),
        ("streams.tick_interval", "1ms", "1h"),
        ("streams.state_interval", "1ms", "1h"),
        ("streams.heartbeat", "1ms", "1h"),
        ("trading.retention", "1ms", "366d"),
        ("trading.not_found_after", "1ms", "1d"),
        ("trading.send_within", "1ms", "1h"),
        ("trading.send_within_close", "1ms", "1h"),
        ("metrics.sampler_interval", "1ms", "1h"),
        ("accounts.real.send_within", "1ms", "1h"),
        ("accounts.real.send_within_close", "1ms", "1h"),
        ("accounts.real.terminal.init_timeout", "1ms", "1h"),
        ("accounts.simulated.terminal.latency", "0s", "1h"),
    ];
    // A duration that is not in the list is in none of the files that say what there is.
    let settings = include_str!("../../../settings/default.toml");
    for (key, ..) in keys {
        assert!(settings.contains(&format!("{} = ", key.rsplit('.').next().unwrap())), "{key}");
    }
    let accounts = "accounts.real.login = 1\naccounts.real.server = 'S'\n\
         accounts.real.password = 'p'\naccounts.real.terminal.kind = 'worker'\n\
         accounts.simulated.login = 2\naccounts.simulated.server = 'S'\n\
         accounts.simulated.terminal.kind = 'simulator'\n";
    let check = |of: &dyn Fn(&str, &str) -> String| {
        let durations: String = keys
            .iter()
            .map(|(key, least, most)| format!("{key} = '{}'\n", of(least, most)))
            .collect();
        let file = format!("{accounts}{durations}");
        let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", &file)], &[]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // The last one is 292 billion years, the longest that the syntax has.
    for duration in ["367d", "31622401s", "9223372036854775807s"] {
        let (code, text) = check(&|_, _| duration.to_owned());
        assert_eq!(code, Some(2), "{duration}: {text}");
        for (key, least, most) in keys {
            let expected = format!(
                "{key}: expected a duration from \"{least}\" to \"{most}\" (from mine.toml)"
            );
            assert!(text.contains(&expected), "{expected:?} is not in\n{text}");
        }
    }
    let (code, text) = check(&|_, most| most.to_owned());
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&|_, _| "0s".to_owned());
    assert_eq!(code, Some(2));
    assert!(text.contains("restart.window: expected a duration from \"1ms\""), "{text}");
    assert!(!text.contains("shutdown_grace") && !text.contains("latency"), "{text}");
}

#[test]
fn an_account_without_settings_does_not_bring_the_demo_account() {
    let output =
        run(&["check-config", "--config", "mine.toml"], &[("mine.toml", "[accounts.main]\n")], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("accounts.main.login: is missing"));
}

#[test]
fn two_accounts_with_one_login_or_one_terminal_are_refused() {
    let account = |name: &str, login: u32, server: &str, terminal: &str| {
        format!(
            "[accounts.{name}]\nlogin = {login}\nserver = '{server}'\npassword = 'p'\n\
             [accounts.{name}.terminal]\n{terminal}\n"
        )
    };
    let check = |file: &str| {
        let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", file)], &[]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let simulator = "kind = 'simulator'";
    let (code, text) = check(
        &(account("a", 1, "Broker-Live", simulator) + &account("b", 1, " broker-live ", simulator)),
    );
    assert_eq!(code, Some(2));
    assert!(
        text.contains(
            "accounts.b.login: `accounts.a` has the same login on the same server: two accounts \
             with one login would claim each other's trades: remove one (from mine.toml)"
        ),
        "{text}"
    );
    let two = |first: &str, second: &str| {
        let worker = |terminal: &str| format!("kind = 'worker'\n{terminal}");
        let first = account("a", 1, "S", &worker(first));
        check(&(first + &account("b", 2, "S", &worker(second))))
    };
    let shared = [
        ("", ""),
        ("path = 'one.exe'", "path = 'one.exe'"),
        ("python = 'python'", "module = 'MetaTrader5'"),
        (
            "module = 'a:B'\nconnect = { host = 'h', port = 1 }",
            "module = 'a:B'\nconnect = { host = 'h', port = 1 }",
        ),
        // One folder has one terminal, however its path is written and whatever reaches it.
        (
            "path = 'C:\\MT5\\a\\terminal64.exe'",
            "path = 'c:/mt5/./A/TERMINAL64.EXE'\nportable = true",
        ),
        ("path = 'C:\\MT5\\a\\terminal64.exe'", "path = 'C:\\MT5\\b\\..\\a\\terminal.exe'"),
        ("path = 'C:\\MT5\\a\\'", "path = 'C:\\MT5\\a\\terminal64.exe'\npython = 'python3'"),
    ];
    for (first, second) in shared {
        let (code, text) = two(first, second);
        assert_eq!(code, Some(2), "{first} {second}");
        let expected = "accounts.b.terminal.path: `accounts.a` uses the same terminal, which can be \
                        logged in to one account only: set `accounts.b.terminal.path` to the \
                        executable of a terminal of its own";
        assert!(text.contains(expected), "{text}");
    }
    let (code, text) = two(
        "path = 'one.exe'\nconnect = { rpyc = 'Host:1' }",
        "path = 'two.exe'\nconnect = { rpyc = 'host:1' }",
    );
    assert_eq!(code, Some(2));
    let expected = "accounts.b.terminal.connect.rpyc: `accounts.a` uses the same terminal, which can be \
                    logged in to one account only: set `accounts.b.terminal.connect.rpyc` to the \
                    address of a server of its own";
    assert!(text.contains(expected), "{text}");
    let apart = [
        ("connect = { rpyc = 'h:1' }", "connect = { rpyc = 'h:2' }"),
        ("connect = { rpyc = 'h:1' }", ""),
        ("path = 'one.exe'", "path = 'two.exe'"),
        ("path = 'one.exe'", ""),
        ("python = 'python3'", "python = 'python'"),
        ("module = 'other'", ""),
        (
            "module = 'a:B'\nconnect = { host = 'h', port = 1 }",
            "module = 'a:B'\nconnect = { host = 'h', port = 2 }",
        ),
        ("path = 'C:\\MT5\\a\\terminal64.exe'", "path = 'C:\\MT5\\b\\terminal64.exe'"),
    ];
    for (first, second) in apart {
        let (code, text) = two(first, second);
        assert_eq!(code, Some(0), "{first} {second}: {text}");
    }
    // One login on two servers is two accounts.
    let servers = account("a", 1, "S", simulator) + &account("b", 1, "T", simulator);
    assert_eq!(check(&servers).0, Some(0));
}

#[test]
fn an_unknown_profile_is_one_fault() {
    let check = |profile: &str, profiles: &str| {
        let account =
            format!("[accounts.a]\nlogin = 1\nserver = 'S'\nterminal.profile = {profile}\n");
        let file = format!("{account}{profiles}");
        let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", &file)], &[]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (profile, profiles, expected) in [
        ("'lab'", "", "there is no such profile: expected a section [terminal_profiles.NAME]"),
        (
            "'x'",
            "terminal.balance = 'y'\n[terminal_profiles.lab]\nkind = 'simulator'\n",
            "there is no such profile: expected one of lab",
        ),
        ("1", "", "expected a text in quotes"),
    ] {
        let (code, text) = check(profile, profiles);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("accounts.a.terminal.profile: {expected}")), "{text}");
        assert_eq!(text.matches("(from ").count(), 1, "{text}");
        assert!(!text.contains("terminal.kind"), "{text}");
    }
}

#[test]
fn faults_of_a_profile_are_reported_once_whether_an_account_uses_it_or_not() {
    let profile = "[terminal_profiles.lab]\nkind = 'simulator'\nbalance = -1\nnonsense = 1\n";
    let used = "[accounts.a]\nlogin = 1\nserver = 'S'\nterminal.profile = 'lab'\n";
    let other = "[terminal_profiles.other]\nkind = 'robot'\nseed = 'x'\n\
                 [terminal_profiles.partial]\nlatency = 'x'\ninit_timeout = '0s'\nthing = 1\n\
                 recycle.memory = '1 B'\n";
    let kinds = "terminal_profiles.other.kind: expected one of simulator, worker";
    let unused = [
        kinds,
        "terminal_profiles.partial.latency: expected a duration",
        "terminal_profiles.partial.init_timeout: expected a duration",
        "terminal_profiles.partial.thing: there is no such setting",
        "terminal_profiles.partial.recycle.memory: expected a size",
    ];
    for (file, above, expected) in [
        (format!("{profile}{used}"), "accounts.a.terminal", vec![]),
        (format!("{profile}{other}"), "terminal_profiles.lab", unused.to_vec()),
    ] {
        let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", &file)], &[]);
        let text = String::from_utf8(output.stderr).unwrap();
        let own = [("balance", "expected an amount"), ("nonsense", "there is no such setting")];
        let own = own.map(|(key, fault)| format!("{above}.{key}: {fault}"));
        for expected in own.iter().map(String::as_str).chain(expected.iter().copied()) {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert_eq!(text.matches("(from mine.toml").count(), 2 + expected.len(), "{text}");
    }
}

#[test]
fn what_is_wrong_by_a_profile_names_the_profile_and_what_to_do_there() {
    let profile = "[terminal_profiles.p]\nkind = 'worker'\npath = 'one.exe'\npassword_file = 'p'\n";
    let account = |name: &str, login: u32, more: &str| {
        format!(
            "[accounts.{name}]\nlogin = {login}\nserver = 'S'\npassword = 'x'\nterminal.profile = 'p'\n{more}"
        )
    };
    let file = format!("{profile}{}{}", account("a", 1, ""), account("b", 2, ""));
    let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", &file)], &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    for expected in [
        "accounts.a.terminal.password_file: belongs to the account, not to its terminal: write \
         `accounts.a.password_file` (from mine.toml, [terminal_profiles.p])",
        "accounts.b.terminal.profile: `accounts.a` uses the same terminal, which can be logged in to one \
         account only: give `terminal_profiles.p` a `template` instead of `path`, of which each account \
         gets a copy, or name a profile with a terminal of its own",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn only_loopback_is_listened_on_without_keys() {
    let listen = [("MT5_GATEWAY__SERVER__LISTEN", "0.0.0.0:0")];
    let output = run(&[], &[], &listen);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("server.listen: without `auth.keys`"));
    let open = run(
        &["check-config"],
        &[("settings/default.toml", "[auth]\nallow_anonymous = true\n")],
        &listen,
    );
    assert_eq!(open.status.code(), Some(0));
}

//! The command line and the settings.

use std::process::Output;

use crate::common::{Gateway, command};

fn run(arguments: &[&str], files: &[(&str, &str)], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    command(directory.path()).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

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
        "log.format: expected one of text, json (from environment)",
        "auth.keys.g.sha256: expected the SHA-256 of the key",
        "accounts.Bad: expected a name of lower-case letters",
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
        "server.request_timeout",
        "server.call_timeout",
        "server.trade_timeout",
        "server.probe_interval",
        "server.write_timeout",
        "server.shutdown_grace",
        "restart.backoff",
        "restart.backoff_max",
        "restart.window",
        "restart.quarantine_retry",
        "streams.tick_interval",
        "streams.state_interval",
        "streams.heartbeat",
        "trading.retention",
        "trading.not_found_after",
        "metrics.sampler_interval",
        "accounts.real.terminal.init_timeout",
        "accounts.simulated.terminal.latency",
    ];
    let accounts = "accounts.real.login = 1\naccounts.real.server = 'S'\n\
         accounts.real.password = 'p'\naccounts.real.terminal.kind = 'worker'\n\
         accounts.simulated.login = 2\naccounts.simulated.server = 'S'\n\
         accounts.simulated.terminal.kind = 'simulator'\n";
    let check = |duration: &str| {
        let durations: String = keys.iter().map(|key| format!("{key} = '{duration}'\n")).collect();
        let file = format!("{accounts}{durations}");
        let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", &file)], &[]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // The last one is 292 billion years, the longest that the syntax has.
    for duration in ["367d", "31622401s", "9223372036854775807s"] {
        let (code, text) = check(duration);
        assert_eq!(code, Some(2), "{duration}: {text}");
        for key in keys {
            let least = match key {
                "server.shutdown_grace" | "accounts.simulated.terminal.latency" => "0s",
                _ => "1ms",
            };
            let expected = format!(
                "{key}: expected a duration from \"{least}\" to \"366d\", such as \"250ms\", \
                 \"15s\" or \"90d\" (from mine.toml)"
            );
            assert!(text.contains(&expected), "{expected:?} is not in\n{text}");
        }
    }
    let (code, text) = check("366d");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check("0s");
    assert_eq!(code, Some(2));
    assert!(text.contains("restart.window: expected a duration from \"1ms\""), "{text}");
    assert!(!text.contains("shutdown_grace") && !text.contains("latency"), "{text}");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let file = "[accounts.demo]\nlogin = 1\nserver = 'S'\nserver_time_zone = 'Etc/GMT+3'\n\
         [accounts.demo.terminal]\nkind = 'simulator'\nlatency = '2s'\n";
    let check = |file: &str| {
        let output = run(&["check-config", "--config", "mine.toml"], &[("mine.toml", file)], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("accounts.demo.login"));
        String::from_utf8(output.stderr).unwrap()
    };
    let text = check(file);
    let expected = [
        "warning: accounts.demo.server_time_zone: `Etc/GMT+3` is 3 hours BEHIND UTC; write \
         `Etc/GMT-3` or, plainer, `UTC+3` for a server 3 hours ahead, and `UTC-3` for one 3 hours \
         behind (from mine.toml)",
        "warning: accounts.demo.terminal.latency: no trade can be sent in time: 4 calls before it \
         take \"8s\", and it must be sent within \"5s\"; write less than \"1s 250ms\" (from mine.toml)",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert_eq!(check(&file.replace("Etc/GMT+3", "UTC+3").replace("2s", "1s")), "");
    // What does not trade may be slow.
    let slow = file.replace("Etc/GMT+3", "UTC+3").replace("login", "trade = false\nlogin");
    assert_eq!(check(&slow), "");
    let gateway = Gateway::start(file);
    for key in ["server_time_zone", "terminal.latency"] {
        gateway
            .logs(&format!("setting is probably not what was meant warning=accounts.demo.{key}: "));
    }
    assert!(gateway.log().contains(" WARN "));
}

#[test]
fn accounts_that_would_get_in_each_others_way_are_refused() {
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
        &(account("a", 1, "Broker-Live", simulator) + &account("b", 1, "broker-live", simulator)),
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
        ("connect = { host = 'h', port = 1 }", "connect = { host = 'h', port = 1 }"),
    ];
    for (first, second) in shared {
        let (code, text) = two(first, second);
        assert_eq!(code, Some(2), "{first} {second}");
        let expected = "accounts.b.terminal.path: `accounts.a` uses the same terminal, which can be \
                        logged in to one account only: set `accounts.b.terminal.path` to the \
                        executable of a terminal of its own";
        assert!(text.contains(expected), "{text}");
    }
    let apart = [
        ("path = 'one.exe'", "path = 'two.exe'"),
        ("path = 'one.exe'", ""),
        ("python = 'python3'", "python = 'python'"),
        ("module = 'other'", ""),
        ("connect = { host = 'h', port = 1 }", "connect = { host = 'h', port = 2 }"),
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
fn later_layers_win_and_secrets_are_hidden() {
    let output = run(
        &["check-config", "--config", "mine.toml"],
        &[
            (
                "settings/default.toml",
                "[metrics]\nsampler_interval = '1s'\nrate_limit_burst = 1\ndisks = ['/a']\n",
            ),
            (
                "mine.toml",
                "[metrics]\nsampler_interval = '2s'\nrate_limit_burst = 2\n[accounts.x]\nlogin = 7\nserver = 'S'\npassword = 'hunter2'\n[accounts.x.terminal]\nkind = 'worker'\n",
            ),
            (
                ".env",
                "MT5_GATEWAY__METRICS__RATE_LIMIT_BURST=3\nMT5_GATEWAY__METRICS__DISKS=/b,/c\n",
            ),
        ],
        &[
            ("MT5_GATEWAY__METRICS__DURATION_BUCKETS", "0.1, 0.2"),
            ("MT5_GATEWAY__ACCOUNTS__X__QUEUE", "9"),
        ],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let line = |key: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(key));
        line.unwrap_or_else(|| panic!("{key} is not in\n{text}"))
            .split_once("= ")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(line("metrics.sampler_interval"), "\"2s\"  # mine.toml");
    assert_eq!(line("metrics.rate_limit_burst"), "3  # .env");
    assert_eq!(line("metrics.disks"), "[\"/b\", \"/c\"]  # .env");
    assert_eq!(line("metrics.duration_buckets"), "[0.1, 0.2]  # environment");
    assert_eq!(line("accounts.x.queue"), "9  # environment");
    assert_eq!(line("accounts.x.password"), "(hidden)  # mine.toml");
    assert_eq!(line("accounts.x.trade"), "false  # default");
    assert_eq!(line("server.call_timeout"), "\"30s\"  # default");
    assert!(!text.contains("hunter2") && !text.contains("accounts.demo"), "{text}");
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

#[test]
fn usage_errors_are_2_and_a_taken_address_is_1() {
    assert_eq!(run(&["--nonsense"], &[], &[]).status.code(), Some(2));
    assert_eq!(run(&["check-config", "--config", "missing.toml"], &[], &[]).status.code(), Some(2));
    let gateway = Gateway::ready("");
    let taken = gateway.address.to_string();
    let output = run(&["serve"], &[], &[("MT5_GATEWAY__SERVER__LISTEN", &taken)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("set `server.listen` to a free address")
    );
}

#[test]
fn the_worker_is_printed_whole() {
    let output = run(&["worker-script"], &[], &[]);
    let source = include_str!("../../src/terminal/worker/worker.py");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), source);
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let file = include_str!("../../settings/default.toml");
    let shown = |files: &[(&str, &str)]| {
        let output = run(&["check-config"], files, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Each default is a commented assignment; sections are not commented.
    let uncommented: String = file
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = ") && !rest.starts_with(' '))
                .unwrap_or(line)
                .to_owned()
                + "\n"
        })
        .collect();
    assert_eq!(shown(&[("settings/default.toml", file)]), shown(&[]));
    assert_eq!(shown(&[("settings/default.toml", &uncommented)]), shown(&[]));
}

#[test]
fn keys_and_scopes_guard_the_api_but_not_health_and_metrics() {
    // The SHA-256 of "reader" and of "boss".
    let gateway = Gateway::start(
        "[auth.keys.reader]\nsha256 = '3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30'\nscopes = ['read']\n\
         [auth.keys.boss]\nsha256 = 'a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057'\nscopes = ['read', 'admin']\n",
    );
    gateway.eventually("it is ready", || (gateway.get("/readyz").status == 200).then_some(()));
    let accounts = "/api/v1/accounts";
    let without = gateway.get(accounts);
    assert_eq!(without.problem(), (401, "unauthorized".to_owned()));
    assert_eq!(without.header("www-authenticate"), "Bearer");
    assert_eq!(gateway.get_with(accounts, &[("x-api-key", "guess")]).problem().0, 401);
    assert_eq!(gateway.get_with(accounts, &[("x-api-key", "reader")]).status, 200);
    assert_eq!(gateway.get_with(accounts, &[("authorization", "Bearer reader")]).status, 200);
    let restart = "/api/v1/accounts/demo/restart";
    assert_eq!(
        gateway.post_with(restart, &[("x-api-key", "reader")]).problem(),
        (403, "forbidden".to_owned())
    );
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    assert_eq!(gateway.post_with(restart, &[("x-api-key", "boss")]).status, 202);
    assert!(!gateway.log().contains("guess"));
}

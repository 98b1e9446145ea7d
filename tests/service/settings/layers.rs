//! Layers of settings: which one wins, and what the defaults are.

use super::run;

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
fn the_command_line_is_the_last_layer() {
    let environment = [("MT5_GATEWAY__SERVER__LISTEN", "127.0.0.1:1")];
    let arguments = ["--listen", "127.0.0.1:2", "check-config", "--log-format", "json"];
    let output = run(&arguments, &[], &environment);
    let text = String::from_utf8(output.stdout).unwrap();
    for (key, expected) in [
        ("server.listen", "\"127.0.0.1:2\"  # command line"),
        ("log.format", "\"json\"  # command line"),
        ("log.filter", "\"info,ractor=warn\"  # default"),
    ] {
        let line = text.lines().find(|line| line.split(' ').next() == Some(key)).unwrap();
        assert_eq!(line.split_once("= ").unwrap().1, expected, "{key}");
    }
    let output = run(&["--listen", "8080", "--log-filter", "a=b=c"], &[], &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("server.listen: expected an address with a port"), "{text}");
    assert!(text.contains("log.filter: expected a filter"), "{text}");
    assert_eq!(text.matches("(from command line)").count(), 2, "{text}");
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let file = include_str!("../../../settings/default.toml");
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
fn the_accounts_store_is_a_layer_between_the_file_and_the_environment() {
    let account = "[accounts.a]\nlogin = 1\nserver = 'S'\nsessions = 2\nqueue = 2\n\
                   terminal.kind = 'simulator'\n";
    let files = [
        ("gateway.toml", account),
        ("data/accounts/a.toml", "queue = 3\nsend_within = '3s'\nsend_within_close = '3s'\n"),
        ("data/accounts/b.toml", "login = 2\nserver = 'S'\nterminal.kind = 'simulator'\n"),
        (".env", "MT5_GATEWAY__ACCOUNTS__A__SEND_WITHIN=4s\n"),
    ];
    let environment = [("MT5_GATEWAY__ACCOUNTS__A__SEND_WITHIN_CLOSE", "5s")];
    let output = run(&["--config", "gateway.toml", "check-config"], &files, &environment);
    // Windows writes a path its own way.
    let text = String::from_utf8(output.stdout).unwrap().replace('\\', "/");
    for (key, expected) in [
        ("sessions", "2  # gateway.toml"),
        ("queue", "3  # data/accounts/a.toml"),
        ("send_within", "\"4s\"  # .env"),
        ("send_within_close", "\"5s\"  # environment"),
    ] {
        let key = format!("accounts.a.{key}");
        let line = text.lines().find(|line| line.split(' ').next() == Some(&key)).unwrap();
        assert_eq!(line.split_once("= ").unwrap().1, expected, "{key}");
    }
    assert!(text.contains("accounts.b.login"), "{text}");
    assert!(!text.contains("accounts.demo"), "{text}");
}

#[test]
fn profiles_are_shown_as_they_were_given() {
    let file = "[terminal_profiles.lab]\nkind = 'simulator'\nlatency = '5ms'\n\
                [terminal_profiles.empty]\n[terminal_profiles.broker]\nkind = 'worker'\n\
                [accounts.a]\nlogin = 1\nserver = 'S'\nterminal.profile = 'lab'\n";
    let variables = [("MT5_GATEWAY__TERMINAL_PROFILES__LAB__SEED", "7")];
    let output =
        run(&["check-config", "--config", "mine.toml"], &[("mine.toml", file)], &variables);
    let text = String::from_utf8(output.stdout).unwrap();
    let shown: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| line.starts_with("terminal_profiles."))
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(key, value)| (key.trim(), value))
        .collect();
    let expected = [
        ("terminal_profiles.broker.kind", "\"worker\"  # mine.toml"),
        ("terminal_profiles.lab.kind", "\"simulator\"  # mine.toml"),
        ("terminal_profiles.lab.seed", "7  # environment"),
        ("terminal_profiles.lab.latency", "\"5ms\"  # mine.toml"),
    ];
    assert_eq!(shown, expected, "{text}");
}

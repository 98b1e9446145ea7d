//! Settings that are allowed but probably not meant.

#[cfg(unix)]
use super::set_mode;
use super::{account, key, run, write_private};
use crate::common::{Gateway, command};

#[test]
fn a_doubtful_setting_is_a_warning_in_check_config_and_in_the_log() {
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
fn each_doubtful_value_is_one_warning() {
    let cases = [
        (
            account("", "python = 'no-such-python'"),
            "accounts.a.terminal.python: \"no-such-python\" cannot be run",
        ),
        (
            account("", "python = ['folder/python', '-X']"),
            "accounts.a.terminal.python: \"folder/python\" cannot be run",
        ),
        (account("sessions = 2", ""), "accounts.a.sessions: `MetaTrader5` reaches one terminal"),
        (
            account("sessions = 2", "module = 'a:B'\nconnect = { rpyc = '[::1]:18812' }"),
            "accounts.a.sessions: the RPyC server at [::1]:18812 has one terminal",
        ),
        (account("", "template = 'none'"), "accounts.a.terminal.template: the template "),
        (
            format!(
                "[metrics]\nenabled = false\n{}",
                account("", "recycle = { memory = '1 GiB' }")
            ),
            "accounts.a.terminal.recycle.memory: does nothing, because `metrics.enabled = false`",
        ),
        (
            key("expires = '2026-01-31'"),
            "auth.keys.k.expires: the key has been invalid since 2026-02-01T00:00:00Z",
        ),
        (
            key("accounts = ['prop_*']"),
            "auth.keys.k.accounts: no configured account matches, so the key sees nothing: there is \
             demo",
        ),
        ("server.listen = '127.0.0.1:0'".to_owned(), "server.listen: another free port"),
        ("log.filter = 'info,wran'".to_owned(), "log.filter: `wran` is no level"),
        (
            "server.shutdown_grace = '5s'".to_owned(),
            "server.shutdown_grace: it is below `server.trade_timeout`",
        ),
        (
            "server.trusted_proxies = '0.0.0.0/0'".to_owned(),
            "server.trusted_proxies: every client is believed about its own address",
        ),
    ];
    for (file, expected) in cases {
        // A password in a file that others can read has a warning of its own.
        let file = file.replace("password = 'p'\n", "password_file = 'p'\n");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mine.toml"), &file).unwrap();
        write_private(&directory.path().join("p"), "p");
        let output = command(directory.path())
            .args(["check-config", "--config", "mine.toml"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(text.lines().count(), 1, "{file}\n{text}");
        assert!(text.starts_with(&format!("warning: {expected}")), "{expected}\n{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_password_that_others_can_read_is_a_warning_that_names_the_mode() {
    let real = account("password_file = 'p'", "");
    let check = |file: &str, modes: [u32; 3]| {
        let directory = tempfile::tempdir().unwrap();
        let files = [("mine.toml", file), ("p", "secret"), (".env", ENV)];
        for ((name, text), mode) in files.into_iter().zip(modes) {
            std::fs::write(directory.path().join(name), text).unwrap();
            set_mode(&directory.path().join(name), mode);
        }
        let output = command(directory.path())
            .args(["check-config", "--config", "mine.toml"])
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    const ENV: &str = "MT5_GATEWAY__ACCOUNTS__B__LOGIN=2\nMT5_GATEWAY__ACCOUNTS__B__SERVER=S\n\
                       MT5_GATEWAY__ACCOUNTS__B__PASSWORD=secret\n\
                       MT5_GATEWAY__ACCOUNTS__B__TERMINAL__KIND=simulator\n";
    assert_eq!(check(&real, [0o644, 0o600, 0o600]), "");
    assert_eq!(
        check(&real, [0o644, 0o644, 0o600]),
        "warning: accounts.a.password_file: others can read p, which has mode 0644: `chmod 600` it \
         (from mine.toml)\n"
    );
    assert!(check(&real, [0o644, 0o640, 0o600]).contains("mode 0640"));
    assert_eq!(
        check(&real, [0o644, 0o600, 0o666]),
        "warning: accounts.b.password: others can read the password, because .env has mode 0666: \
         `chmod 600` it (from .env)\n"
    );
    let inline = account("", "");
    assert_eq!(check(&inline, [0o600, 0o600, 0o600]), "");
    assert!(check(&inline, [0o604, 0o600, 0o600]).contains("because mine.toml has mode 0604"));
}

#[test]
fn a_variable_with_one_underscore_is_a_warning_unless_it_is_a_service_link() {
    let links = [
        ("MT5_GATEWAY_PORT", "tcp://10.0.0.1:8080"),
        ("MT5_GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("MT5_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("MT5_GATEWAY_SERVICE_PORT_HTTP", "8080"),
    ];
    let output = run(&["check-config"], &[], &links);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let misspelt = [("MT5_GATEWAY_METRICS__ENABLED", "S3cret")];
    let output = run(&["check-config"], &[(".env", "MT5_GATEWAY_LOG_FORMAT=json\n")], &misspelt);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let expected = [
        "warning: MT5_GATEWAY_LOG_FORMAT: is not read: two underscores separate the parts of a \
         name: write `MT5_GATEWAY__LOG__FORMAT` (from .env)",
        "warning: MT5_GATEWAY_METRICS__ENABLED: is not read: two underscores separate the parts of \
         a name: write `MT5_GATEWAY__METRICS__ENABLED` (from environment)",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn settings_that_open_the_gateway_to_strangers_are_warnings() {
    let warnings = |settings: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mine.toml"), settings).unwrap();
        let output = crate::common::command(directory.path())
            .args(["--config", "mine.toml", "check-config"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let open = "[server]\nlisten = '0.0.0.0:8080'\nallowed_hosts = ['*']\ncors_origins = ['*']\n\
                [auth]\nallow_anonymous = true\n";
    let said = warnings(open);
    for key in ["auth.allow_anonymous", "server.allowed_hosts", "server.cors_origins"] {
        assert!(said.contains(&format!("warning: {key}: ")), "{key} in {said}");
    }
    let key =
        format!("[auth.keys.k]\nsha256 = '{}'\naccounts = ['demo', 'nope']\n", "12".repeat(32));
    let said = warnings(&format!("{open}{key}"));
    assert!(said.contains("auth.allow_anonymous: it does nothing"), "{said}");
    assert!(said.contains("\"nope\" matches no configured account"), "{said}");
    assert!(!said.contains("server.allowed_hosts") && !said.contains("\"demo\""), "{said}");
}

//! The command line and the settings.

use std::path::Path;
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
    let settings = include_str!("../../settings/default.toml");
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

/// A real account, with one line more.
fn account(line: &str, terminal: &str) -> String {
    let given = |name: &str, otherwise: &str| {
        let is_given = line.starts_with(name) && line[name.len()..].starts_with(' ');
        if is_given { String::new() } else { format!("{name} = {otherwise}\n") }
    };
    let (login, server) = (given("login", "1"), given("server", "'S'"));
    let password = if line.starts_with("password") { "" } else { "password = 'p'\n" };
    let python = if terminal.contains("python = ") { "" } else { "python = 'true'\n" };
    format!(
        "[accounts.a]\n{login}{server}{password}{line}\n\
         [accounts.a.terminal]\nkind = 'worker'\n{python}{terminal}\n"
    )
}

const DIGEST: &str = "3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30";

fn key(lines: &str) -> String {
    format!("[auth.keys.k]\nsha256 = '{DIGEST}'\n{lines}\n")
}

#[test]
fn nonsense_is_one_fault_that_says_what_is_expected() {
    let simulator = "[accounts.a]\nlogin = 1\nserver = 'S'\n[accounts.a.terminal]\n";
    let cases = [
        (account("login = 0", ""), "accounts.a.login: expected the account's number"),
        (
            "[auth.keys.k]\nsha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'".to_owned(),
            "auth.keys.k.sha256: it is the digest of an empty text",
        ),
        (
            "[auth.keys.k]\nsha256 = '5ca24005b740717ba4f3f6bc48a230700e68c2a4b11ecedb96f169f4efaf1f21'".to_owned(),
            "auth.keys.k.sha256: it is the digest of the word KEY",
        ),
        (
            format!("{simulator}kind = 'simulator'\n[accounts.a.password]\nS3cret = 1"),
            "accounts.a.password.…: there is no such setting",
        ),
        (account("password = 'p'\n'pass:S3cret==' = 1", ""), "accounts.a.…: there is no such setting"),
        (account("login = -1", ""), "accounts.a.login: expected a whole number from 0 up"),
        (account("login = '007x'", ""), "accounts.a.login: expected a whole number from 0 up"),
        (account("server = ''", ""), "accounts.a.server: is empty"),
        (account("server = '  '", ""), "accounts.a.server: is empty"),
        (account("password = ''", ""), "accounts.a.password: is empty"),
        (account("password = 5", ""), "accounts.a.password: expected a text in quotes"),
        (account("password = \"a\\nb\"", ""), "accounts.a.password: has a control character"),
        (account("password_file = 'none'", ""), "accounts.a.password_file: none does not exist"),
        (
            account("password_file = 'folder'", ""),
            "accounts.a.password_file: folder is a directory, expected a file",
        ),
        (account("password_file = 'empty'", ""), "accounts.a.password_file: empty is empty"),
        (
            account("password_file = 'lines'", ""),
            "accounts.a.password_file: lines has more than one line or a control character",
        ),
        (
            account("password = 'p'\npassword_file = 'lines'", ""),
            "accounts.a.password_file: expected either `password` or `password_file`, not both",
        ),
        (account("sessions = 0", ""), "accounts.a.sessions: expected a whole number from 1 to 64"),
        (
            account("sessions = 2", "path = 'C:\\a\\terminal64.exe'\nportable = true"),
            "accounts.a.sessions: a portable terminal is one terminal",
        ),
        (account("", "path = \"C:\\new\""), "accounts.a.terminal.path: has a control character"),
        (account("", "path = ''"), "accounts.a.terminal.path: expected a path in quotes"),
        (account("", "python = []"), "accounts.a.terminal.python: expected a command"),
        (account("", "python = ''"), "accounts.a.terminal.python: expected a command"),
        (
            account("", "python = ['wine', \"C:\\new\"]"),
            "accounts.a.terminal.python: entry 2, \"C:\\new\": has a control character",
        ),
        (account("", "module = ''"), "accounts.a.terminal.module: expected a Python module"),
        (account("", "module = 'a:'"), "accounts.a.terminal.module: expected a Python module"),
        (
            account("", "module = 'a:B'\nconnect = { host = 'h' }"),
            "accounts.a.terminal.connect.port: is missing: expected a whole number",
        ),
        (
            account("", "module = 'a:B'\nconnect = { port = 1 }"),
            "accounts.a.terminal.connect.host: is missing: expected a text",
        ),
        (
            account("", "module = 'a:B'\nconnect = { host = 'h', port = 0 }"),
            "accounts.a.terminal.connect.port: expected a port from 1 to 65535",
        ),
        (
            account("", "module = 'a:B'\nconnect = { host = 'h', port = 65536 }"),
            "accounts.a.terminal.connect.port: expected a port from 1 to 65535",
        ),
        (
            account("", "module = 'a:B'\nconnect = { host = 'http://h', port = 1 }"),
            "accounts.a.terminal.connect.host: expected a host name or an address",
        ),
        (
            account("", "connect = { host = 'h', port = 1 }"),
            "accounts.a.terminal.connect.host: `accounts.a.terminal.module` names no attribute",
        ),
        (
            account("", "connect = 'h:1'"),
            "accounts.a.terminal.connect: expected a section of settings",
        ),
        (
            format!("{simulator}kind = 'metatrader'\npython = 'x'\n"),
            "accounts.a.terminal.kind: expected one of simulator, worker",
        ),
        (
            format!("{simulator}python = 'x'\n"),
            "accounts.a.terminal.kind: is missing: expected one of simulator, worker",
        ),
        (
            "[accounts.a]\nlogin = 1\nserver = 'S'\nterminal = 'worker'\n".to_owned(),
            "accounts.a.terminal: expected a section of settings, such as [accounts.a.terminal]",
        ),
        (
            format!("{simulator}kind = 'simulator'\nbalance = -1\n"),
            "accounts.a.terminal.balance: expected an amount from 0 up",
        ),
        (
            format!(
                "{simulator}kind = 'simulator'\nfaults.order_send = {{ kind = 'x', code = 1 }}\n"
            ),
            "accounts.a.terminal.faults.order_send.kind: expected one of code, hang, exit, retcode",
        ),
        (
            format!("{simulator}kind = 'simulator'\nbars = {{ EURUSD = 'folder' }}\n"),
            "accounts.a.terminal.bars.EURUSD: ",
        ),
        (key("scopes = []"), "auth.keys.k.scopes: expected at least one of read, trade, admin"),
        (
            key("scopes = ['read', 'Trade']"),
            "auth.keys.k.scopes: \"Trade\" is no scope: expected read, trade or admin",
        ),
        (key("accounts = []"), "auth.keys.k.accounts: expected at least one account"),
        (key("accounts = ['ma?n']"), "auth.keys.k.accounts: \"ma?n\" matches no account"),
        (key("expires = '31.01.2027'"), "auth.keys.k.expires: expected a last day"),
        (
            key("rate_limit_per_second = 0"),
            "auth.keys.k.rate_limit_per_second: expected a whole number from 1 to 1000000",
        ),
        (
            key("rate_limit_burst = 5"),
            "auth.keys.k.rate_limit_burst: expected `auth.keys.k.rate_limit_per_second` beside it",
        ),
        (key("cidr = []"), "auth.keys.k.cidr: expected at least one address or network"),
        (
            key("cidr = ['10.0.0.0/8', '10.0.0.0/33']"),
            "auth.keys.k.cidr: entry 2, \"10.0.0.0/33\": expected an address or a network",
        ),
        (
            format!("{}[auth.keys.l]\nsha256 = '{}'\n", key(""), DIGEST.to_uppercase()),
            "auth.keys.l.sha256: `auth.keys.k` has the same key",
        ),
        ("[auth.keys.k]\n".to_owned(), "auth.keys.k.sha256: is missing: expected the SHA-256"),
        ("auth.keys.k.sha256 = 5".to_owned(), "auth.keys.k.sha256: expected a text in quotes"),
        (
            "server.listen = '127.0.0.1'".to_owned(),
            "server.listen: expected an address with a port",
        ),
        ("server.listen = 8080".to_owned(), "server.listen: expected an address with a port"),
        ("server.max_body = '0'".to_owned(), "server.max_body: expected a size from"),
        ("server.max_body = -5".to_owned(), "server.max_body: expected a size in quotes"),
        (
            "server.trusted_proxies = ['10.0.0.1', 'nginx']".to_owned(),
            "server.trusted_proxies: entry 2, \"nginx\": expected an address or a network",
        ),
        (
            "server.trusted_proxies = [7]".to_owned(),
            "server.trusted_proxies: entry 1: expected an address or a network",
        ),
        (
            "server.allowed_hosts = ['a.example', 'b.example:80']".to_owned(),
            "server.allowed_hosts: \"b.example:80\" has a port",
        ),
        (
            "server.cors_origins = ['https://a.example/']".to_owned(),
            "server.cors_origins: \"https://a.example/\" has a path, but an origin ends after host \
             and port: write \"https://a.example\"",
        ),
        ("restart.budget = 0".to_owned(), "restart.budget: expected a whole number from 1 to"),
        ("restart.budget = -1".to_owned(), "restart.budget: expected a whole number from 0 up"),
        ("restart.backoff = '1m'".to_owned(), "restart.backoff: it is above `restart.backoff_max`"),
        (
            "streams.max = 9223372036854775807".to_owned(),
            "streams.max: expected a whole number from 0 to 1000000",
        ),
        ("trading.journal = 'folder'".to_owned(), "trading.journal: folder is a directory"),
        (
            "metrics.call_buckets = [0.1, 0.1]".to_owned(),
            "metrics.call_buckets: expected upper bounds in seconds above 0, each above",
        ),
        ("metrics.call_buckets = []".to_owned(), "metrics.call_buckets: expected upper bounds"),
        ("metrics.call_buckets = [inf]".to_owned(), "metrics.call_buckets: entry 1: expected a"),
        ("log.file = 'gateway.log'".to_owned(), "log.file: expected a section of settings"),
        ("log.file = {}".to_owned(), "log.file.path: is missing: expected a path in quotes"),
        ("log.file = { path = 'folder' }".to_owned(), "log.file.path: folder is a directory"),
        (
            "log.file = { path = 'l', max_size = '1 kB' }".to_owned(),
            "log.file.max_size: expected a size from",
        ),
        (
            "log.file = { path = 'l', keep = 0 }".to_owned(),
            "log.file.keep: expected a whole number from 1 to",
        ),
        ("[servr]\n".to_owned(), "servr: there is no such section"),
    ];
    let files = [("folder/file", ""), ("empty", "\n"), ("lines", "one\ntwo\n")];
    for (file, expected) in cases {
        let files = [files.as_slice(), &[("mine.toml", &file)]].concat();
        let output = run(&["check-config", "--config", "mine.toml"], &files, &[]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [head, fault] = lines[..] else {
            panic!("more or less than one fault of\n{file}\n{text}");
        };
        assert_eq!(head, "the settings have 1 fault:");
        assert!(fault.trim().starts_with(expected), "{expected}\n{fault}");
    }
}

#[test]
fn an_account_without_settings_is_no_demo_account() {
    let output =
        run(&["check-config", "--config", "mine.toml"], &[("mine.toml", "[accounts.main]\n")], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("accounts.main.login: is missing"));
}

#[test]
fn what_is_hardly_meant_is_one_warning() {
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

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    set_mode(path, 0o600);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) {}

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

/// The settings that a file of each kind makes: the kind, the file, and what it holds.
fn kinds() -> [(&'static str, &'static str, String); 4] {
    [
        ("default", "settings/default.toml", "[log]\nfilter = 'warn'\n".to_owned()),
        ("--config", "mine.toml", "[log]\nfilter = 'warn'\n".to_owned()),
        (".env", ".env", "MT5_GATEWAY__LOG__FILTER=warn\n".to_owned()),
        ("password", "p", "warn\n".to_owned()),
    ]
}

/// Checks settings of which one file has these bytes; `None`: it is a directory.
fn check_with(file: &str, bytes: Option<&[u8]>) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file);
    let config = account("password_file = 'p'", "");
    std::fs::create_dir_all(directory.path().join("settings")).unwrap();
    std::fs::write(directory.path().join("mine.toml"), &config).unwrap();
    std::fs::write(directory.path().join("p"), "p").unwrap();
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    match bytes {
        Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        None => std::fs::create_dir(&path).unwrap(),
    }
    let output =
        command(directory.path()).args(["check-config", "--config", "mine.toml"]).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn every_kind_of_file_is_utf_8_and_may_have_a_byte_order_mark() {
    for (kind, file, text) in kinds() {
        let marked = format!("\u{FEFF}{text}").replace('\n', "\r\n");
        let (code, shown) = check_with(file, Some(marked.as_bytes()));
        assert_eq!(code, Some(0), "{kind}: {shown}");
        let units = || std::iter::once(0xFEFF).chain(text.encode_utf16());
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for wide in [&little, &big, &little[2..].to_vec()] {
            let (code, fault) = check_with(file, Some(wide));
            assert_eq!(code, Some(2), "{kind}");
            let expected = "is UTF-16 or no text, expected UTF-8: save it as UTF-8 (Notepad:";
            assert!(fault.contains(expected), "{kind}: {fault}");
            assert_eq!(fault.lines().count(), 2, "{kind}: {fault}");
        }
        let latin_1 = text.replace("warn", "w\u{1}").into_bytes();
        let latin_1: Vec<u8> =
            latin_1.into_iter().map(|byte| if byte == 1 { 0xE4 } else { byte }).collect();
        let (code, fault) = check_with(file, Some(&latin_1));
        assert_eq!(code, Some(2), "{kind}");
        assert!(
            fault.contains("is not UTF-8 at line ") && fault.contains("(byte offset "),
            "{fault}"
        );
        assert_eq!(fault.lines().count(), 2, "{kind}: {fault}");
        let (code, fault) = check_with(file, None);
        assert_eq!(code, Some(2), "{kind}");
        assert!(fault.contains("is a directory, expected a file"), "{kind}: {fault}");
        assert!(!fault.contains("not found") && fault.lines().count() == 2, "{kind}: {fault}");
    }
}

#[test]
fn no_fault_repeats_a_secret() {
    let account = "[accounts.a]\nlogin = 1\nserver = 'S'\n";
    let cases = [
        (
            "mine.toml",
            format!("{account}password = \"S3cret\n"),
            "line 4, column 19, `password`: the closing double quote is missing",
        ),
        (
            "mine.toml",
            format!("{account}password = S3cret\n"),
            "line 4, column 12, `password`: a text must be in quotes",
        ),
        ("mine.toml", format!("{account}password = ['S3cret']\n"), "accounts.a.password: expected"),
        ("mine.toml", "[auth.keys.k]\nsha256 = 'S3cret'\n".to_owned(), "auth.keys.k.sha256: "),
        (
            ".env",
            "A=1\nMT5_GATEWAY__ACCOUNTS__A__PASSWORD=\"S3cret\n".to_owned(),
            "line 2, `MT5_GATEWAY__ACCOUNTS__A__PASSWORD`: the closing double quote is missing",
        ),
        (
            ".env",
            "MT5_GATEWAY__ACCOUNTS__A__PASSWORD='S3'cret\n".to_owned(),
            "line 1, `MT5_GATEWAY__ACCOUNTS__A__PASSWORD`: there is more after the closing quote",
        ),
        (
            ".env",
            "MT5_GATEWAY__ACCOUNTS__A__PASSWORD S3cret\n".to_owned(),
            "line 1: expected NAME=value",
        ),
        (".env", "S3cret\n".to_owned(), "line 1: expected NAME=value"),
        (".env", "S3cret='x\n".to_owned(), "line 1: the closing single quote is missing"),
        (
            ".env",
            "MT5_GATEWAY__SERVER__LISTEN=S3cret\n".to_owned(),
            "server.listen: expected an address with a port",
        ),
    ];
    for (name, text, expected) in cases {
        let files = [("mine.toml", ""), (name, text.as_str())];
        let output = run(&["check-config", "--config", "mine.toml"], &files, &[]);
        let shown = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(shown.contains(expected), "{expected}\n{shown}");
        assert!(shown.contains(&format!("(from {name})")), "{shown}");
        assert!(!shown.contains("S3") && !shown.contains("cret"), "{shown}");
    }
}

#[test]
fn nothing_else_is_checked_while_a_file_cannot_be_read() {
    let files = [
        ("mine.toml", "[auth.keys.k\nsha256 = 'x'\n[accounts.a]\nlogin = \n"),
        (".env", "MT5_GATEWAY__SERVER__LISTEN=0.0.0.0:80\nnonsense\n"),
    ];
    let output = run(&["check-config", "--config", "mine.toml"], &files, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    let places: Vec<&str> =
        text.lines().map(|line| line.split(':').next().unwrap().trim()).collect();
    let expected =
        ["the settings have 3 faults", "line 1, column 13", "line 4, column 9, `login`", "line 2"];
    assert_eq!(places, expected, "{text}");
}

#[test]
fn values_of_dot_env_are_taken_as_its_example_documents() {
    let example = include_str!("../../.env.example");
    let uncommented = example.replace("\n#MT5_GATEWAY__", "\nMT5_GATEWAY__");
    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join(".env"), &uncommented);
    let output = command(directory.path()).arg("check-config").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |key: &str, value: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} ")));
        let line = line.unwrap_or_else(|| panic!("{key} is not in\n{text}"));
        assert!(line.ends_with(&format!(" = {value}  # .env")), "{line}");
    };
    has("accounts.main.terminal.path", r#""C:\\new\\5\\terminal64.exe""#);
    has("server.allowed_hosts", r#"["mt5.example", "desk"]"#);
    has("log.filter", r#""info,ractor=warn""#);
    has("accounts.main.password", "(hidden)");
}

#[test]
fn a_comment_behind_a_value_of_dot_env_belongs_to_it_and_is_a_warning() {
    let files = [(".env", "A=b # c\nMT5_GATEWAY__TRADING__JOURNAL=a #b\n")];
    let output = run(&["check-config"], &files, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("warning: MT5_GATEWAY__TRADING__JOURNAL: line 2: the value includes"),
        "{text}"
    );
    assert!(String::from_utf8(output.stdout).unwrap().contains("= \"a #b\"  # .env"));
}

#[test]
fn a_variable_that_is_set_twice_is_a_fault() {
    let files = [(".env", "MT5_GATEWAY__LOG__FORMAT=text\nmt5_gateway__log__format=json\n")];
    let output = run(&["check-config"], &files, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let expected =
        "`mt5_gateway__log__format` is set twice as `MT5_GATEWAY__LOG__FORMAT` (from .env)";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_variable_with_one_underscore_is_a_warning_and_a_service_link_is_none() {
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

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused_and_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let value = std::ffi::OsStr::from_bytes(b"S3cr\xE4t");
    let directory = tempfile::tempdir().unwrap();
    let name = "MT5_GATEWAY__ACCOUNTS__A__PASSWORD";
    let output = command(directory.path())
        .arg("check-config")
        .envs([(name, value), ("SOMEBODY_ELSES", value)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "the settings have 1 fault:\n  the value of `{name}` is not Unicode (from environment)\n"
        )
    );
}

#[test]
fn a_file_that_is_read_is_looked_for_beside_the_file_that_names_it() {
    let bars = include_str!("../data/EURUSD_H1.csv");
    let simulator = |name: &str, login: u32| {
        format!(
            "[accounts.{name}]\nlogin = {login}\nserver = 'S'\npassword_file = 'p'\n\
             [accounts.{name}.terminal]\nkind = 'simulator'\nbars = {{ EURUSD = 'bars.csv' }}\n"
        )
    };
    let files = [
        ("conf/mine.toml", &*simulator("a", 1)),
        ("conf/p", "a"),
        ("conf/bars.csv", bars),
        ("settings/default.toml", &simulator("b", 2)),
        ("settings/p", "b"),
        ("settings/bars.csv", bars),
        (
            ".env",
            "MT5_GATEWAY__ACCOUNTS__C__LOGIN=3\nMT5_GATEWAY__ACCOUNTS__C__SERVER=S\n\
             MT5_GATEWAY__ACCOUNTS__C__PASSWORD_FILE=c.password\n\
             MT5_GATEWAY__ACCOUNTS__C__TERMINAL__KIND=simulator\n",
        ),
        ("c.password", "c"),
        ("d.password", "d"),
    ];
    let environment = [
        ("MT5_GATEWAY__ACCOUNTS__D__LOGIN", "4"),
        ("MT5_GATEWAY__ACCOUNTS__D__SERVER", "S"),
        ("MT5_GATEWAY__ACCOUNTS__D__PASSWORD_FILE", "d.password"),
        ("MT5_GATEWAY__ACCOUNTS__D__TERMINAL__KIND", "simulator"),
    ];
    let output = run(&["check-config", "--config", "conf/mine.toml"], &files, &environment);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for (key, path) in [
        ("a.password_file", "conf/p"),
        ("a.terminal.bars.EURUSD", "conf/bars.csv"),
        ("b.password_file", "settings/p"),
        ("c.password_file", "c.password"),
        ("d.password_file", "d.password"),
    ] {
        let shown = text.lines().find(|line| line.starts_with(&format!("accounts.{key} ")));
        let shown = shown.unwrap_or_else(|| panic!("{key} is not in\n{text}"));
        assert!(shown.contains(&format!(" = {path:?}  # ")), "{shown}");
    }
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
fn help_names_exit_codes_variables_and_examples() {
    let output = run(&["--help"], &[], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "--listen <ADDRESS>",
        "--log-format <FORMAT>",
        "--log-filter <FILTER>",
        "MT5_GATEWAY__SECTION__KEY",
        "  0  A clean stop",
        "  1  Failed while running",
        "  2  Wrong usage or settings",
        "mt5-gateway --config main.toml check-config",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text, String::from_utf8(run(&["-h"], &[], &[]).stdout).unwrap());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [&["check-config"][..], &["worker-script"], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let directory = tempfile::tempdir().unwrap();
        let output = command(directory.path()).args(arguments).stdout(writer).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // Faults are told where nobody listens.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let directory = tempfile::tempdir().unwrap();
    let mut nobody = command(directory.path());
    nobody.args(["check-config", "--config", "none.toml"]).stderr(writer);
    assert_eq!(nobody.status().unwrap().code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(directory.path()).arg("check-config").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("the result cannot be written: "), "{errors}");
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
    let apart = [
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
        String::from_utf8_lossy(&output.stderr).contains("choose another address with --listen")
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

#[test]
fn what_opens_the_gateway_to_strangers_is_a_warning() {
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

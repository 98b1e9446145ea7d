//! Values that make no sense, each with the one fault that it gets.

use super::{DIGEST, account, key, run};

#[test]
fn each_invalid_value_is_one_fault_with_what_is_expected() {
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
            account("", "connect = { rpyc = 'h' }"),
            "accounts.a.terminal.connect.rpyc: expected a host and a port, such as",
        ),
        (
            account("", "connect = { rpyc = '::1:18812' }"),
            "accounts.a.terminal.connect.rpyc: expected a host and a port, such as",
        ),
        (
            account("", "connect = { rpyc = 18812 }"),
            "accounts.a.terminal.connect.rpyc: expected a text in quotes",
        ),
        (
            account("", "connect = { rpyc = 'h:1', host = 'h', port = 1 }"),
            "accounts.a.terminal.connect.rpyc: expected either `rpyc`, or `host` and `port`, not both",
        ),
        (
            account("", "recycle = { zone = 'UTC' }"),
            "accounts.a.terminal.recycle: expected `memory`, `at` or both",
        ),
        (
            account("", "recycle = { memory = '1 MiB' }"),
            "accounts.a.terminal.recycle.memory: expected a size of at least",
        ),
        (
            account("", "recycle = { at = 'Saturday 3:00' }"),
            "accounts.a.terminal.recycle.at: expected a time such as \"03:00\"",
        ),
        (
            account("", "recycle = { at = '03:00', zone = 'Mars' }"),
            "accounts.a.terminal.recycle.zone: expected an IANA time zone",
        ),
        (
            account("", "template = 'x'\npath = 'y'"),
            "accounts.a.terminal.template: expected either `template`, or `path`",
        ),
        (
            account("", "template = 'x'\nportable = true"),
            "accounts.a.terminal.template: expected either `template`, or `portable`",
        ),
        (
            account("", "template = 'x'\nconnect = { rpyc = 'h:1' }"),
            "accounts.a.terminal.template: expected either `template`, or `connect`",
        ),
        (
            account("", "template = 'data/terminals/a'"),
            "accounts.a.terminal.template: expected a folder beside `terminals.directory`",
        ),
        (
            account("", "template = 'data'"),
            "accounts.a.terminal.template: expected a folder beside `terminals.directory`",
        ),
        (
            account("", "max_bars = 5000"),
            "accounts.a.terminal.max_bars: is for copies of a `template`, which is not set",
        ),
        (
            account("", "template = 'x'\nmax_bars = 5"),
            "accounts.a.terminal.max_bars: expected a whole number from 1000",
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

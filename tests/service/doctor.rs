//! `mt5-gateway doctor`: each check says so if exactly its thing is broken, and the others go on.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Gateway, command};

const ACCOUNT: &str = "[accounts.main]\nlogin = 1\nserver = 'S'\n";
const TERMINAL: &str = "[accounts.main.terminal]\nkind = 'simulator'\n";

/// Runs doctor in a directory, and gives its exit code and its document.
fn doctor(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Value) {
    let mut command = command(directory);
    command.args(["--config", "gateway.toml", "doctor", "--json"]).args(arguments);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    let code = output.status.code().unwrap();
    (code, report.unwrap_or_else(|fault| panic!("{fault}: {output:?}")))
}

/// The findings with a result, as `check account: found -> remedy`.
fn found(report: &Value, result: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |finding: &Value| {
        let [check, account, found, remedy] =
            ["check", "account", "found", "remedy"].map(|member| text(&finding[member]));
        format!("{check} {account}: {found} -> {remedy}")
    };
    checks.filter(|finding| finding["result"] == result).map(line).collect()
}

/// What is broken, and the only line that is to say so.
struct Case {
    name: &'static str,
    settings: String,
    prepare: fn(&Path),
    environment: Vec<(&'static str, String)>,
    result: &'static str,
    expected: &'static [&'static str],
    /// Whether the account is looked at all the same.
    goes_on: bool,
}

impl Case {
    fn new(
        name: &'static str,
        settings: String,
        result: &'static str,
        expected: &'static [&'static str],
    ) -> Case {
        let (prepare, environment): (fn(&Path), _) = (|_| {}, vec![]);
        Case { name, settings, prepare, environment, result, expected, goes_on: true }
    }

    fn check(&self) {
        let directory = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = format!("server.listen = '{free}'\n");
        let listen = if self.settings.contains("server.listen") { "" } else { &listen };
        std::fs::write(directory.path().join("gateway.toml"), format!("{listen}{}", self.settings))
            .unwrap();
        (self.prepare)(directory.path());
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (code, report) = doctor(directory.path(), &[], &environment);
        let is_failure = self.result == "failure";
        assert_eq!(code, i32::from(is_failure), "{}: {report:#}", self.name);
        assert_eq!(report["result"], self.result, "{}", self.name);
        let lines = found(&report, self.result);
        assert_eq!(lines.len(), 1, "{}: {report:#}", self.name);
        for expected in self.expected {
            assert!(lines[0].contains(expected), "{}, {expected}: {}", self.name, lines[0]);
        }
        let other = if is_failure { "warning" } else { "failure" };
        assert_eq!(found(&report, other), Vec::<String>::new(), "{}", self.name);
        let started = found(&report, "ok").iter().any(|line| line.starts_with("start main: "));
        assert_eq!(started, self.goes_on, "{}: {report:#}", self.name);
    }
}

/// A journal of a gateway that is newer than this one.
fn newer_journal(directory: &Path) {
    let journal = rusqlite::Connection::open(directory.join("journal.sqlite")).unwrap();
    journal.pragma_update(None, "journal_mode", "WAL").unwrap();
    journal.pragma_update(None, "application_id", 0x6d74_3567).unwrap();
    journal.pragma_update(None, "user_version", 99).unwrap();
}

#[test]
fn what_is_broken_is_the_only_line_that_says_so() {
    let with = |top: &str, account: &str, terminal: &str| {
        format!(
            "{top}\ntrading.journal = 'journal.sqlite'\n{ACCOUNT}{account}\n{TERMINAL}{terminal}\n"
        )
    };
    let fault =
        |method: &str| format!("faults.{method} = {{ kind = 'code', code = -6, message = 'no' }}");
    let key = "[auth.keys.robot]\nsha256 = 'abc'\n";
    let expired = format!("[auth.keys.robot]\nsha256 = '{:064}'\nexpires = '2020-01-01'\n", 1);
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("server.listen = '{}'", busy.local_addr().unwrap());
    let end = std::thread::spawn(move || {
        let (mut client, _) = busy.accept().unwrap();
        let mut request = [0; 1024];
        let length = client.read(&mut request).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let failure = "failure";
    let mut cases = vec![
        Case::new(
            "settings",
            with("server.port = 1", "", ""),
            failure,
            &["settings : server.port: there is no such setting"],
        ),
        Case {
            goes_on: false,
            ..Case::new(
                "an account's settings",
                with("", "queue = 0", ""),
                failure,
                &["settings : accounts.main.queue: "],
            )
        },
        Case::new("keys", with("", "", "") + key, failure, &["keys : auth.keys.robot.sha256: "]),
        Case::new(
            "an old key",
            with("", "", "") + &expired,
            "warning",
            &["keys : auth.keys.robot.expires: "],
        ),
        Case {
            goes_on: false,
            prepare: |directory| std::fs::write(directory.join("k.key"), "secret").unwrap(),
            environment: vec![("MT5_GATEWAY_KEY_FILE", "k.key".to_owned())],
            ..Case::new(
                "port",
                with(&listen, "", ""),
                failure,
                &[
                    "port : another program listens at 127.0.0.1:",
                    "-> choose another address by `server.listen`",
                ],
            )
        },
        Case {
            prepare: |directory| std::fs::write(directory.join("journal.sqlite"), "text").unwrap(),
            ..Case::new(
                "journal",
                with("", "", ""),
                failure,
                &["journal : journal.sqlite: file is not a database -> keep the file"],
            )
        },
        Case {
            prepare: newer_journal,
            ..Case::new(
                "a newer journal",
                with("", "", ""),
                failure,
                &["journal : journal.sqlite: its schema has version 99"],
            )
        },
        Case::new(
            "login",
            with("", "", &fault("initialize")),
            failure,
            &[
                "login main: MT5 error -6 (auth_failed): no -> correct `login`, `password` and `server`",
            ],
        ),
        Case::new(
            "a paused account",
            with("", "paused = true", ""),
            "warning",
            &["trade_permission main: the account is paused -> let it serve again"],
        ),
        Case::new(
            "Market Watch",
            with("", "", &fault("symbols_get")),
            failure,
            &["market_watch main: the terminal was asked", "auth_failed"],
        ),
        Case::new(
            "clock",
            with("", "server_time_zone = 'Europe/Moscow'", ""),
            "warning",
            &["clock main: the server's clock shows UTC, its configured zone UTC+3 -> set \
             `server_time_zone = \"UTC\"`"],
        ),
    ];
    cases.extend(full_disk(with("", "", "")));
    // Each waits for prices to move.
    std::thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| case.check());
        }
    });
    // What is no gateway gets no key.
    let request = end.join().unwrap().to_lowercase();
    assert!(request.contains("host: ") && !request.contains("authorization"), "{request}");
}

#[cfg(target_os = "linux")]
fn full_disk(settings: String) -> Option<Case> {
    use std::sync::OnceLock;

    static FAULTS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let faults = FAULTS.get_or_init(|| tempfile::tempdir().unwrap()).path();
    std::fs::write(faults.join("statvfs.full"), "").unwrap();
    let library = crate::sampler::faults_library().display().to_string();
    let environment = vec![("LD_PRELOAD", library), ("FAULTS", faults.display().to_string())];
    let expected = &["disk : 0 B free at . -> make room"];
    Some(Case { environment, ..Case::new("disk", settings, "failure", expected) })
}

/// Elsewhere a disk cannot be made full.
#[cfg(not(target_os = "linux"))]
fn full_disk(_settings: String) -> Option<Case> {
    None
}

#[test]
fn a_healthy_account_is_walked_to_its_quotes_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output =
        command(directory.path()).args(["--listen", "127.0.0.1:0", "doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    for expected in [
        "warning  settings: server.listen: another free port is taken at each start",
        "ok       journal: data/journal.sqlite will be made at the first start",
        "ok       start of demo, session 0: it runs, terminal build ",
        "ok       login of demo, session 0: ",
        "ok       broker of demo, session 0: ",
        "ok       identity of demo: 5001 on Demo-Server, demo account",
        "ok       trade permission of demo: orders can be sent",
        "ok       Market Watch of demo: 8 of 8 symbols are shown",
        ", and prices move",
        "ok       clock of demo: the server's clock shows UTC, and times are passed on unchanged",
        "13 checks: 1 warning",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn wrong_usage_is_2_and_looks_at_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&["--account", "none"], "there is no account \"none\": there is demo"),
        (&["--url", "gateway"], "does not begin with http://"),
        (&["--nonsense"], "unexpected argument"),
    ];
    for (arguments, expected) in cases {
        let mut command = command(directory.path());
        let output = command.args(["--listen", "127.0.0.1:0", "doctor"]).args(arguments).output();
        let output = output.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn a_faulty_file_hides_its_account_alone_and_its_fault_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = format!("[auth.keys.k]\nsha256 = '{:064}'\naccounts = ['other']\n", 1);
    // What other layers say of it is of no use without its file.
    let other = "[accounts.other]\nsessions = 2\n";
    let settings = format!("server.listen = '{listen}'\n{key}{ACCOUNT}{TERMINAL}");
    write("gateway.toml", &format!("{settings}{other}"));
    write("data/accounts/other.toml", "login = ");
    let fault = |report: &Value, of: &str| {
        let failures = found(report, "failure");
        assert!(failures.len() == 1 && failures[0].contains(of), "{report:#}");
        assert_eq!(found(report, "warning"), Vec::<String>::new());
    };
    let (code, report) = doctor(directory.path(), &["--account", "main"], &[]);
    assert_eq!(code, 1);
    fault(&report, "other.toml");
    let lines = found(&report, "ok").join("\n");
    assert!(lines.contains("start main: it runs"), "{report:#}");
    for (name, expected) in [("other", "(main)"), ("none", "(main)")] {
        let (code, report) = doctor(directory.path(), &["--account", name], &[]);
        assert_eq!(code, 1);
        fault(&report, "other.toml");
        let skipped = found(&report, "skipped");
        let expected =
            format!("start {name}: it is not among the accounts that can be read {expected}");
        assert!(skipped[0].starts_with(&expected), "{skipped:?}");
    }
    // Of the built-in account nobody speaks while another one cannot be read.
    write("gateway.toml", &format!("server.listen = '{listen}'\n"));
    let (code, report) = doctor(directory.path(), &[], &[]);
    assert_eq!(code, 1);
    assert!(!report.to_string().contains("demo"), "{report:#}");

    // A file that may hide everything.
    write("gateway.toml", "server.listen = ");
    let (code, report) = doctor(directory.path(), &["--account", "main"], &[]);
    assert_eq!(code, 1);
    assert!(found(&report, "failure")[0].contains("gateway.toml"), "{report:#}");
    assert!(
        found(&report, "skipped").iter().any(|line| line.starts_with("start main: no account"))
    );

    // What nobody answers for is not said to be missing.
    write("gateway.toml", &settings);
    std::fs::remove_file(directory.path().join("data/accounts/other.toml")).unwrap();
    let url = format!("http://{listen}");
    let (code, report) = doctor(directory.path(), &["--url", &url, "--account", "far"], &[]);
    assert_eq!(code, 1);
    assert!(found(&report, "skipped").iter().any(|line| line.starts_with("start far: no gateway")));
}

#[test]
fn a_gateway_that_runs_is_asked_with_a_key_or_as_far_as_it_says_without() {
    use sha2::Digest;

    let digest: String =
        sha2::Sha256::digest("k").iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("[auth.keys.k]\nsha256 = '{digest}'\nscopes = ['trade']\n");
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/tests/data/EURUSD_H1.csv";
    let main = format!(
        "{ACCOUNT}sessions = 2\nserver_time_zone = 'New_York+7'\n{TERMINAL}bars = {{ EURUSD = '{file}' }}\n"
    );
    let gateway = Gateway::start(&format!("{key}{main}"));
    let header = [("x-api-key", "k")];
    let path = |rest: &str| format!("/api/v1/accounts/main{rest}");
    gateway.eventually("both sessions are ready", || {
        (gateway.get("/readyz").json()["accounts"]["main"]["ready"] == 2).then_some(())
    });
    let directory = gateway.directory.path();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    let listen = gateway.address.to_string();
    let run = |arguments: &[&str]| {
        let listens = ["--listen", &listen];
        doctor(directory, &[&listens, arguments].concat(), &[])
    };

    // Without a key: what anybody is told.
    let (code, report) = run(&[]);
    assert_eq!((code, &report["result"]), (0, &json!("ok")), "{report:#}");
    let lines = found(&report, "ok").join("\n");
    for expected in [
        &*format!("port : a gateway runs at {listen}"),
        "journal : data/journal.sqlite is used by a gateway that runs",
        "start main: 2 of 2 sessions are ready",
        "trade_permission main: orders can be sent",
    ] {
        assert!(lines.contains(expected), "{expected}\n{lines}");
    }
    let skipped = found(&report, "skipped");
    assert_eq!(skipped.len(), 6, "{report:#}");
    assert!(skipped.iter().all(|line| line.contains("--key-file")), "{skipped:?}");

    // With one that it does not know, and one that cannot be read.
    write("wrong.key", "another\n");
    let (code, report) = run(&["--key-file", "wrong.key"]);
    assert_eq!(code, 1);
    let failures = found(&report, "failure");
    let expected = "keys : the gateway refuses the key: the key is unknown -> give a key";
    assert!(failures.len() == 1 && failures[0].starts_with(expected), "{failures:?}");
    let (code, report) = run(&["--key-file", "none.key"]);
    assert!(
        code == 1 && found(&report, "failure")[0].starts_with("keys : none.key "),
        "{report:#}"
    );

    // With its key, and settings that it has not read yet. Of the symbols one is left, whose prices are old.
    for symbol in gateway.get_with(&path("/symbols"), &header).json().as_array().unwrap() {
        let symbol = symbol.as_str().unwrap();
        if symbol != "EURUSD" {
            let hide = json!({ "enable": false });
            let select = path(&format!("/symbols/{symbol}/select"));
            assert_eq!(gateway.send_with("POST", &select, Some(&hide), &header).status, 200);
        }
    }
    write("right.key", "k\n");
    let new = "[accounts.new]\nlogin = 2\nserver = 'S'\nterminal.kind = 'simulator'\n";
    write("gateway.toml", &format!("{key}{main}{new}"));
    let (code, report) = run(&["--key-file", "right.key"]);
    assert_eq!(code, 1);
    let failures = found(&report, "failure");
    let expected = "start new: the gateway that runs does not serve this account";
    assert!(failures.len() == 1 && failures[0].starts_with(expected), "{failures:?}");
    let lines = found(&report, "ok").join("\n");
    let warnings = found(&report, "warning").join("\n");
    assert!(lines.contains("market_watch main: 1 of 8 symbols are shown"), "{lines}");
    assert!(warnings.contains("quote main: EURUSD "), "{report:#}");
    assert_eq!(lines.matches("start main: it runs").count(), 2, "{lines}");
    let (code, report) = run(&["--key-file", "right.key", "--account", "main"]);
    assert_eq!(code, 0, "{report:#}");
    let mut accounts = report["checks"].as_array().unwrap().iter();
    assert!(accounts.all(|finding| finding["account"] != "new"), "{report:#}");
    // Nothing was done to it.
    assert_eq!(gateway.get_with(&path(""), &header).json()["sessions"][0]["restarts"], 0);
}

#[test]
fn beside_a_gateway_that_has_the_copies_no_terminal_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!("server.listen = '{listen}'\n{ACCOUNT}{TERMINAL}");
    std::fs::write(directory.path().join("gateway.toml"), settings).unwrap();
    let terminals = directory.path().join("data/terminals");
    std::fs::create_dir_all(&terminals).unwrap();
    // What a gateway with a template holds as long as it runs.
    let lock = std::fs::File::create(terminals.join(".lock")).unwrap();
    lock.lock().unwrap();
    let (code, report) = doctor(directory.path(), &[], &[]);
    assert_eq!(code, 0, "{report:#}");
    let skipped = found(&report, "skipped").join("\n");
    assert!(skipped.contains("start main: a gateway that uses the copies"), "{skipped}");
    assert!(skipped.contains("--url"), "{skipped}");
    drop(lock);
    let (_, report) = doctor(directory.path(), &[], &[]);
    assert!(found(&report, "ok").iter().any(|line| line.starts_with("start main: it runs")));
}

#[test]
fn a_pause_is_a_warning_that_says_how_to_lift_it() {
    let paused = "[accounts.rests]\nlogin = 2\nserver = 'S'\npaused = true\n\
                  terminal.kind = 'simulator'\n";
    let store = "accounts_store.anonymous = true\n";
    let gateway = Gateway::start(&format!("{store}{ACCOUNT}{TERMINAL}{paused}"));
    let pause = "/api/v1/accounts/main/pause";
    assert_eq!(gateway.send_with("PUT", pause, None, &[]).status, 200);
    let url = gateway.url("");
    let (code, report) = doctor(gateway.directory.path(), &["--url", &url], &[]);
    assert_eq!(code, 0, "{report:#}");
    let warnings = found(&report, "warning");
    let of = |account: &str, lifts: &str| {
        let line = format!(
            "trade_permission {account}: the account is paused -> let it serve again: {lifts}"
        );
        assert!(warnings.contains(&line), "{line}: {warnings:?}");
    };
    of("main", &format!("`DELETE {pause}`"));
    of("rests", "set `accounts.rests.paused = false` in gateway.toml, and `mt5-gateway reload`");
    // What it says, works.
    assert_eq!(gateway.send_with("DELETE", pause, None, &[]).status, 200);
    let (_, report) = doctor(gateway.directory.path(), &["--url", &url, "--account", "main"], &[]);
    assert_eq!(found(&report, "warning"), Vec::<String>::new());
}

#[test]
fn without_a_key_no_account_is_said_to_trade_that_cannot() {
    let key = "[auth.keys.k]\nsha256 = \
               '8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a'\nscopes = ['read']\n";
    let account = |name: &str, login: u32, more: &str| {
        format!(
            "[accounts.{name}]\nlogin = {login}\nserver = 'S'\n{more}terminal.kind = 'simulator'\n"
        )
    };
    let settings = format!(
        "{key}{}{}{}",
        account("main", 1, ""),
        account("rests", 2, "paused = true\n"),
        account("reads", 3, "trade = false\n")
    );
    let gateway = Gateway::start(&settings);
    gateway.eventually("main may trade", || {
        (gateway.get("/readyz?account=main&for=trade").status == 200).then_some(())
    });
    let (_, report) = doctor(gateway.directory.path(), &["--url", &gateway.url("")], &[]);
    let permissions: Vec<String> = ["ok", "failure", "warning", "skipped"]
        .iter()
        .flat_map(|result| found(&report, result))
        .filter(|line| line.starts_with("trade_permission"))
        .collect();
    let can: Vec<&String> =
        permissions.iter().filter(|line| line.contains("orders can be sent")).collect();
    assert_eq!(permissions.len(), 3, "{report:#}");
    assert!(can.len() == 1 && can[0].starts_with("trade_permission main"), "{report:#}");
}

#[test]
fn an_answer_without_end_is_given_up() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.read(&mut [0; 4096]).unwrap();
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let block = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while client.write_all(&block).is_ok() {
            sent += 1;
        }
        sent
    });
    let directory = tempfile::tempdir().unwrap();
    let settings = "[accounts.main]\nlogin = 1\nserver = 'S'\nterminal.kind = 'simulator'\n";
    std::fs::write(directory.path().join("gateway.toml"), settings).unwrap();
    let (code, report) = doctor(directory.path(), &["--url", &url], &[]);
    assert_eq!(code, 1, "{report:#}");
    let failures = found(&report, "failure");
    assert!(failures[0].contains("length limit exceeded"), "{failures:?}");
    assert!(server.join().unwrap() < 200, "megabytes");
}

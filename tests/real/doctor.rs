//! `mt5-gateway doctor` with Python workers: what the simulator cannot break.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::command;
use crate::tools::{free_port, modules, python, worker, worker_of};

/// What is broken, and the only line that is to say so.
struct Case {
    name: &'static str,
    settings: String,
    /// What the broker of the account does.
    broker: Value,
    environment: Vec<(&'static str, String)>,
    /// `check: found -> remedy`, the first of them from its beginning.
    expected: Vec<String>,
    result: &'static str,
}

impl Case {
    fn new(name: &'static str, terminal: &str, broker: Value, expected: &[&str]) -> Case {
        let terminal = format!("module = 'faulty_broker'\n{terminal}");
        Case::of(name, worker("real", "trade = true", &terminal), broker, expected)
    }

    fn of(name: &'static str, settings: String, broker: Value, expected: &[&str]) -> Case {
        let expected = expected.iter().map(|text| (*text).to_owned()).collect();
        let result = "failure";
        Case { name, settings, broker, environment: vec![], expected, result }
    }

    fn check(&self) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = format!("server.listen = '{listen}'\n{}", self.settings);
        std::fs::write(path("gateway.toml"), settings).unwrap();
        set_mode(&path("gateway.toml"), 0o600);
        std::fs::write(path("control"), self.broker.to_string()).unwrap();
        let output = command(directory.path())
            .args(["--config", "gateway.toml", "doctor", "--json"])
            .env("PYTHONPATH", modules())
            .env("FAULTY_BROKER_BOOKS", path("books"))
            .env("FAULTY_BROKER_SENDS", path("sends"))
            .env("FAULTY_BROKER_CONTROL", path("control"))
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|fault| panic!("{}, {fault}: {output:?}", self.name));
        let text = format!("{}: {report:#}", self.name);
        let code = i32::from(self.result == "failure" && !self.expected.is_empty());
        assert_eq!(output.status.code(), Some(code), "{text}");
        let findings = report["checks"].as_array().unwrap().iter();
        let wrong: Vec<&Value> = findings
            .filter(|finding| !["ok", "skipped"].contains(&&*word(finding, "result")))
            .collect();
        if self.expected.is_empty() {
            assert_eq!(wrong.len(), 0, "{text}");
            return;
        }
        assert_eq!(wrong.len(), 1, "{text}");
        assert_eq!(word(wrong[0], "result"), self.result, "{text}");
        let line = ["check", "found", "remedy"].map(|member| word(wrong[0], member));
        let line = format!("{}: {} -> {}", line[0], line[1], line[2]);
        assert!(line.starts_with(&self.expected[0]), "{}: {line}", self.name);
        assert!(
            self.expected.iter().all(|expected| line.contains(expected)),
            "{}: {line}",
            self.name
        );
        // Nothing was sent to the broker.
        assert!(!path("sends").exists(), "{text}");
    }
}

fn word(finding: &Value, member: &str) -> String {
    finding[member].as_str().unwrap_or_default().to_owned()
}

fn run(cases: &[Case]) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| case.check());
        }
    });
}

#[test]
fn what_a_worker_lacks_is_named_before_a_terminal_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let terminal = file("terminal64.exe", "");
    let folder = directory.path().display().to_string();
    let none = format!("{folder}/none.exe");
    let old = file("old", "#!/bin/sh\necho 'the worker needs Python 3.9 or newer' >&2\nexit 1\n");
    set_mode(Path::new(&old), 0o700);
    let silent = format!("{folder}/modules");
    std::fs::create_dir(&silent).unwrap();
    std::fs::write(format!("{silent}/msgpack.py"), "raise ImportError('not here')").unwrap();
    let no_python = worker_of(&[format!("{folder}/python")], "real", "", "");
    let old_python = worker_of(&[old], "real", "", "");
    let slow = file("slow", "#!/bin/sh\nexec sleep 60\n");
    set_mode(Path::new(&slow), 0o700);
    let slow = worker_of(&[slow], "real", "", "init_timeout = '500ms'");
    let hides = format!("{silent}:{}", modules().display());
    let path = |path: &str, more: &str| format!("path = '{path}'\n{more}");
    let mut cases = vec![
        Case::new("nothing", &path(&terminal, "portable = true"), json!({}), &[]),
        Case::of(
            "no Python",
            no_python,
            json!({}),
            &["python: `", "cannot be started", "terminal.python"],
        ),
        Case::of(
            "an old Python",
            old_python,
            json!({}),
            &["python: `", "needs Python 3.9 or newer"],
        ),
        Case::of("a slow Python", slow, json!({}), &["python: `", "has not ended within 500ms"]),
        Case::of(
            "no module",
            worker("real", "", "module = 'no_such_module'"),
            json!({}),
            &[
                "module: `no_such_module` cannot be imported: ModuleNotFoundError",
                "-m pip install no_such_module",
            ],
        ),
        Case {
            environment: vec![("PYTHONPATH", hides)],
            ..Case::new(
                "no msgpack",
                "",
                json!({}),
                &["module: `msgpack` cannot be imported: ImportError: not here"],
            )
        },
        Case::new(
            "no terminal",
            &path(&none, ""),
            json!({}),
            &["terminal_files: ", "does not exist"],
        ),
        Case::new("a folder", &path(&folder, ""), json!({}), &["terminal_files: ", "is a folder"]),
    ];
    // Root may write everywhere but below /proc.
    let read_only = path("/proc/version", "portable = true");
    cases.push(Case::new(
        "a folder that cannot be written",
        &read_only,
        json!({}),
        &["terminal_files: the folder of /proc/version cannot be written: "],
    ));
    run(&cases);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_the_terminal_and_the_broker_do_wrong_is_the_only_line() {
    let rpyc = format!("connect = {{ rpyc = '127.0.0.1:{}' }}", free_port());
    let program = [python().display().to_string()];
    let nobody = worker_of(&program, "real", "", &rpyc);
    let warning = |case: Case| Case { result: "warning", ..case };
    let zoned = |name, broker, expected: &[&str]| {
        let account = "trade = true\nserver_time_zone = 'New_York+7'";
        Case::of(name, worker("real", account, "module = 'faulty_broker'"), broker, expected)
    };
    let far = worker("real", "server_time_zone = 'UTC+9'", "module = 'faulty_broker'");
    run(&[
        Case::of(
            "start",
            nobody,
            json!({}),
            &["start: ", "cannot be reached", "start the RPyC server"],
        ),
        Case::new(
            "another login",
            "",
            json!({ "login": 7 }),
            &["identity: the terminal is logged in to account 7 instead of 5001 -> log"],
        ),
        Case::new(
            "another server",
            "",
            json!({ "server": "Other" }),
            &["identity: the terminal is logged in to account 5001 on server \"Other\""],
        ),
        Case::new(
            "a login that hangs",
            "init_timeout = '5s'",
            json!({ "hangs": "initialize" }),
            &["login: the terminal did not answer within", "a dialog may wait"],
        ),
        Case::new(
            "no broker",
            "",
            json!({ "connected": false }),
            &["broker: the terminal does not hear its broker"],
        ),
        Case::new(
            "AutoTrading",
            "",
            json!({ "terminal": { "trade_allowed": false } }),
            &[
                "trade_permission: AutoTrading is off in the terminal (autotrading_off) -> switch it on",
            ],
        ),
        Case::new(
            "investor",
            "",
            json!({ "account": { "trade_allowed": false } }),
            &["trade_permission: ", "(investor_login) -> configure the account's trading password"],
        ),
        Case::new("Market Watch", "", json!({ "symbol": null }), &["market_watch: "]),
        Case::new(
            "quotes",
            "",
            json!({ "quiet": "never" }),
            &["quote: no symbol in Market Watch has a price"],
        ),
        warning(Case::of(
            "a wrong zone",
            far,
            json!({ "offset": 10_800 }),
            &[
                "clock: the server's clock shows UTC+3, its configured zone UTC+9 -> set `server_time_zone",
            ],
        )),
        zoned("an account of a usual broker", json!({ "offset": usual_offset() }), &[]),
    ]);
}

/// What the usual clock of brokers is ahead of UTC now, seconds.
fn usual_offset() -> i64 {
    let now = jiff::Timestamp::now();
    let new_york = jiff::tz::TimeZone::get("America/New_York").unwrap();
    i64::from(new_york.to_offset(now).seconds()) + 7 * 3600
}

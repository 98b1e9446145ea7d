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
    fn of(name: &'static str, settings: String, expected: &[&str]) -> Case {
        let expected = expected.iter().map(|text| (*text).to_owned()).collect();
        let (broker, environment, result) = (json!({}), vec![], "failure");
        Case { name, settings, broker, environment, expected, result }
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
    // Of a package that is imported in no time.
    let with_path = |path: &str, more: &str| {
        worker("real", "", &format!("module = 'json'\npath = '{path}'\n{more}"))
    };
    // Root may write everywhere but below /proc.
    let read_only = with_path("/proc/version", "portable = true");
    run(&[
        Case::of("no Python", no_python, &["python: `", "cannot be started", "terminal.python"]),
        Case::of("an old Python", old_python, &["python: `", "needs Python 3.9 or newer"]),
        Case::of("a slow Python", slow, &["python: `", "has not ended within 500ms"]),
        Case::of(
            "no module",
            worker("real", "", "module = 'no_such_module'"),
            &[
                "module: `no_such_module` cannot be imported: ModuleNotFoundError",
                "pip install no_such_module",
            ],
        ),
        Case {
            environment: vec![("PYTHONPATH", hides)],
            ..Case::of(
                "no msgpack",
                worker("real", "", "module = 'json'"),
                &["module: `msgpack` cannot be imported: ImportError: not here"],
            )
        },
        Case::of("no terminal", with_path(&none, ""), &["terminal_files: ", "does not exist"]),
        Case::of("a folder", with_path(&folder, ""), &["terminal_files: ", "is a folder"]),
        Case::of(
            "a folder that cannot be written",
            read_only,
            &["terminal_files: the folder of /proc/version cannot be written: "],
        ),
    ]);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_the_terminal_and_the_broker_do_wrong_is_the_only_line() {
    let rpyc = format!("connect = {{ rpyc = '127.0.0.1:{}' }}", free_port());
    let nobody = worker_of(&[python().display().to_string()], "real", "", &rpyc);
    let directory = tempfile::tempdir().unwrap();
    let terminal = directory.path().join("terminal64.exe");
    std::fs::write(&terminal, "").unwrap();
    let terminal = format!("path = '{}'\nportable = true", terminal.display());
    let (usual, wrong) = ("server_time_zone = 'New_York+7'", "server_time_zone = 'UTC+9'");
    let case = |name, account: &str, terminal: &str, broker: Value, expected: &[&str]| {
        let terminal = format!("module = 'faulty_broker'\n{terminal}");
        let settings = worker("real", &format!("trade = true\n{account}"), &terminal);
        Case { broker, ..Case::of(name, settings, expected) }
    };
    run(&[
        case("nothing", usual, &terminal, json!({ "offset": usual_offset() }), &[]),
        Case::of("start", nobody, &["start: ", "cannot be reached", "start the RPyC server"]),
        case(
            "another login",
            "",
            "",
            json!({ "login": 7 }),
            &["identity: the terminal is logged in to account 7 instead of 5001 -> log"],
        ),
        case(
            "no broker",
            "",
            "",
            json!({ "connected": false }),
            &["broker: the terminal does not hear its broker"],
        ),
        case(
            "AutoTrading",
            "",
            "",
            json!({ "terminal": { "trade_allowed": false } }),
            &[
                "trade_permission: AutoTrading is off in the terminal (autotrading_off) -> switch it on",
            ],
        ),
        case("Market Watch", "", "", json!({ "symbol": null }), &["market_watch: "]),
        case(
            "quotes",
            "",
            "",
            json!({ "quiet": "never" }),
            &["quote: no symbol in Market Watch has a price"],
        ),
        Case {
            result: "warning",
            ..case(
                "a wrong zone",
                wrong,
                "",
                json!({ "offset": 10_800 }),
                &["clock: the server's clock shows UTC+3, its configured zone UTC+9 -> set"],
            )
        },
    ]);
}

/// What the usual clock of brokers is ahead of UTC now, seconds.
fn usual_offset() -> i64 {
    let now = jiff::Timestamp::now();
    let new_york = jiff::tz::TimeZone::get("America/New_York").unwrap();
    i64::from(new_york.to_offset(now).seconds()) + 7 * 3600
}

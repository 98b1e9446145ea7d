//! Terminals behind RPyC classic servers of versions 5 and 6, without `mt5linux`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};
use crate::tools::{Server, free_port, modules, program, worker_of};
use crate::worker::{assert_reads, assert_repairs};

/// The folders of the versions below `target/real`.
const RPYC_5: &str = "venv";
const RPYC_6: &str = "rpyc6";

/// Settings under which a worker that ended is back soon.
const QUICK: &str = "[restart]\nbackoff = '10ms'\nbackoff_max = '100ms'\nbudget = 1000\n";

fn serve(version: &str, port: u16, environment: &[(&str, &str)], output: Stdio) -> Server {
    let server = program(&format!("{version}/bin/rpyc_classic.py"));
    serve_by(&[server.to_str().unwrap()], version, port, environment, output)
}

/// Starts the server that this program of Python is.
fn serve_by(
    server: &[&str],
    version: &str,
    port: u16,
    environment: &[(&str, &str)],
    output: Stdio,
) -> Server {
    let mut command = Command::new(program(&format!("{version}/bin/python")));
    command.args(server).args(["--host", "127.0.0.1", "-p", &port.to_string()]);
    command.env("PYTHONPATH", modules()).env("PYTHONUNBUFFERED", "1");
    Server::start_writing(command.envs(environment.iter().copied()), port, output)
}

/// The settings of an account whose worker has this version and connects to that port.
fn account(version: &str, port: u16, account: &str, terminal: &str) -> String {
    let python = program(&format!("{version}/bin/python")).display().to_string();
    let terminal = format!("connect = {{ rpyc = 'localhost:{port}' }}\n{terminal}");
    worker_of(&[python], "real", account, &terminal)
}

/// A gateway whose account shows this once its worker could not connect.
fn refused(settings: &str, environment: &[(&str, &str)], expected: &[&str]) {
    let gateway = Gateway::start_with(settings, environment);
    gateway.eventually(&format!("the account shows {expected:?}"), || {
        let account = gateway.get("/api/v1/accounts/real").text();
        expected.iter().all(|part| account.contains(part)).then_some(())
    });
}

#[test]
fn every_read_route_returns_the_same_values_through_an_rpyc_server() {
    for (version, environment) in [(RPYC_5, &[][..]), (RPYC_6, &[("FAKE_MT5_LAYOUT", "1")])] {
        let port = free_port();
        let _server = serve(version, port, environment, Stdio::null());
        // Only the server can import the package.
        assert_reads(&Gateway::ready(&account(version, port, "", "")));
    }
    // What containers run.
    let port = free_port();
    let _server = serve_by(&["-m", "mt5linux"], RPYC_5, port, &[], Stdio::null());
    assert_reads(&Gateway::ready(&account(RPYC_5, port, "", "")));
}

#[test]
fn odd_values_pass_an_rpyc_server_as_they_pass_a_pipe() {
    for version in [RPYC_5, RPYC_6] {
        let port = free_port();
        let _server = serve(version, port, &[("FAKE_MT5_ODD", "1")], Stdio::null());
        assert_repairs(&Gateway::ready(&account(version, port, "trade = true", "")));
    }
}

#[test]
fn a_call_through_an_rpyc_server_asks_it_once() {
    let port = free_port();
    let _server = serve(RPYC_6, port, &[], Stdio::null());
    let proxy = Proxy::start(port);
    let still = "[server]\nprobe_interval = '1h'\n";
    let gateway = Gateway::ready(&format!("{still}{}", account(RPYC_6, proxy.port, "", "")));
    let before = proxy.requests.load(Ordering::SeqCst);
    // Compares the account as well.
    assert_eq!(gateway.get("/api/v1/accounts/real/positions").status, 200);
    assert_eq!(proxy.requests.load(Ordering::SeqCst) - before, 1);
}

#[test]
fn versions_that_do_not_understand_each_other_are_told_what_to_install() {
    for (client, server, install) in
        [(RPYC_5, RPYC_6, "pip install 'rpyc>=6'"), (RPYC_6, RPYC_5, "pip install 'rpyc<6'")]
    {
        let port = free_port();
        let _server = serve(server, port, &[], Stdio::null());
        refused(&account(client, port, "", ""), &[], &["does not understand rpyc", install]);
    }
}

#[test]
fn what_keeps_a_worker_from_its_rpyc_server_is_shown() {
    let nobody = free_port();
    let expected = format!("the RPyC server at localhost:{nobody} cannot be reached");
    refused(&account(RPYC_5, nobody, "", ""), &[], &[&expected, "start it"]);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = account(RPYC_6, port, "", "init_timeout = '6s'");
    refused(&settings, &[], &["accepts connections, but says nothing for 2 s"]);

    let port = free_port();
    let _server = serve(RPYC_5, port, &[], Stdio::null());
    let settings = account(RPYC_5, port, "", "module = 'no_such_module'");
    refused(&settings, &[], &["No module named 'no_such_module'"]);

    // A package that cannot be imported stands for one that is not installed.
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rpyc.py"), "raise ImportError('not here')").unwrap();
    let path = directory.path().display().to_string();
    let expected = ["needs the package rpyc (not here)", "python -m pip install 'rpyc<6'"];
    refused(&account(RPYC_5, port, "", ""), &[("PYTHONPATH", &path)], &expected);
}

#[test]
fn a_call_that_hangs_in_an_rpyc_server_is_ended_by_the_gateway() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("switch");
    std::fs::write(&switch, "").unwrap();
    let port = free_port();
    let hang = [("FAKE_MT5_HANG", "version"), ("FAKE_MT5_SWITCH", switch.to_str().unwrap())];
    let _server = serve(RPYC_6, port, &hang, Stdio::null());
    let settings =
        format!("[server]\ncall_timeout = '1s'\n{QUICK}{}", account(RPYC_6, port, "", ""));
    let gateway = Gateway::ready(&settings);
    let version = || gateway.get("/api/v1/accounts/real/version");
    assert_eq!(version().problem(), (504, "terminal-timeout".to_owned()));
    gateway.wait_ready();
    assert_eq!(version().status, 200);
    assert_eq!(gateway.metric(r#"mt5_session_restarts_total{account="real",reason="hang"}"#), 1.0);
}

#[test]
fn an_rpyc_server_that_dies_in_a_read_fails_it_and_is_connected_to_again() {
    for version in [RPYC_5, RPYC_6] {
        let port = free_port();
        let server = serve(version, port, &[("FAKE_MT5_HANG", "version")], Stdio::null());
        let gateway = Gateway::ready(&format!("{QUICK}{}", account(version, port, "", "")));
        std::thread::scope(|scope| {
            let lost = scope.spawn(|| gateway.get("/api/v1/accounts/real/version"));
            let depth = r#"mt5_session_queue_depth{account="real"}"#;
            gateway.eventually("it is asked", || (gateway.metric(depth) == 1.0).then_some(()));
            drop(server);
            let lost = lost.join().unwrap();
            assert_eq!(lost.problem(), (502, "terminal-died".to_owned()));
        });
        gateway.logs("was lost in version");
        let _server = serve(version, port, &[], Stdio::null());
        gateway.wait_ready();
        assert_eq!(gateway.get("/api/v1/accounts/real/version").status, 200);
    }
}

#[test]
fn the_package_behind_an_rpyc_server_takes_a_dict_or_keywords_and_is_sent_to_once() {
    let directory = tempfile::tempdir().unwrap();
    for (version, environment) in [(RPYC_5, &[][..]), (RPYC_6, &[("FAKE_MT5_KEYWORDS", "1")])] {
        let port = free_port();
        let output = directory.path().join(version);
        let _server = serve(version, port, environment, File::create(&output).unwrap().into());
        let gateway = Gateway::ready(&account(version, port, "trade = true", ""));
        let order = json!({"symbol": "TRADED", "type": "BUY", "volume": 0.1, "magic": -7, "comment": "Ünï"});
        for _ in 0..2 {
            let placed = place(&gateway, &order);
            assert_eq!(placed.status, 201, "{}", placed.text());
            assert_eq!(placed.json()["order"], json!(9_223_372_036_854_788_153_u64));
        }
        let written = std::fs::read_to_string(output).unwrap();
        assert_eq!(written.matches("order_send received").count(), 2, "{written}");
        assert!(written.contains("'magic': 18446744073709551609"), "{written}");
    }
}

#[test]
fn a_trade_whose_rpyc_server_dies_is_found_and_never_sent_again() {
    for version in [RPYC_5, RPYC_6] {
        let broker = Broker::new(json!({"fault": "dies after"}));
        let port = free_port();
        let server = broker.serve(version, port);
        let gateway = Gateway::ready(&format!("{QUICK}{}", broker.account(version, port)));
        let lost = place(&gateway, &buy());
        assert_eq!(lost.problem(), (504, "outcome-unknown".to_owned()), "{}", lost.text());
        drop(server);
        broker.control(json!({}));
        let _server = broker.serve(version, port);
        let id = lost.json()["trade_id"].as_str().unwrap().to_owned();
        gateway.eventually("it is found", || {
            let trade = gateway.get(&format!("/api/v1/accounts/real/trades/{id}")).json();
            (trade["state"] == "executed").then_some(())
        });
        assert_eq!(broker.sends(), 1);
    }
}

/// The clock is compared where the package is, so that a slow network cannot make a trade late.
#[test]
fn a_trade_that_comes_to_the_rpyc_server_too_late_is_withdrawn_there() {
    let broker = Broker::new(json!({}));
    let port = free_port();
    let _server = broker.serve(RPYC_6, port);
    let proxy = Proxy::start(port);
    let settings = broker.account(RPYC_6, proxy.port);
    let gateway = Gateway::ready(&format!("[trading]\nsend_within = '500ms'\n{settings}"));
    proxy.holds.store(true, Ordering::SeqCst);
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| place(&gateway, &buy()));
        proxy.held.recv_timeout(Duration::from_secs(30)).unwrap();
        // Only time makes it late.
        std::thread::sleep(Duration::from_millis(600));
        proxy.release.send(()).unwrap();
        late.join().unwrap()
    });
    assert_eq!(late.problem(), (503, "trade-not-sent".to_owned()), "{}", late.text());
    assert_eq!(broker.sends(), 0);
    assert_eq!(place(&gateway, &buy()).status, 201);
    assert_eq!(broker.sends(), 1);
}

fn place(gateway: &Gateway, order: &Value) -> Reply {
    gateway.send("POST", "/api/v1/accounts/real/orders", Some(order))
}

fn buy() -> Value {
    json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1})
}

/// The broker of `faulty_broker`, whose books outlive its servers.
struct Broker(tempfile::TempDir);

impl Broker {
    fn new(control: Value) -> Broker {
        let broker = Broker(tempfile::tempdir().unwrap());
        broker.control(control);
        broker
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn control(&self, control: Value) {
        std::fs::write(self.path("control"), control.to_string()).unwrap();
    }

    fn serve(&self, version: &str, port: u16) -> Server {
        let [books, sends, control] =
            ["books", "sends", "control"].map(|name| self.path(name).display().to_string());
        let environment = [
            ("FAULTY_BROKER_BOOKS", books.as_str()),
            ("FAULTY_BROKER_SENDS", sends.as_str()),
            ("FAULTY_BROKER_CONTROL", control.as_str()),
        ];
        serve(version, port, &environment, Stdio::null())
    }

    fn account(&self, version: &str, port: u16) -> String {
        account(version, port, "trade = true", "module = 'faulty_broker'")
    }

    /// How often `order_send` was called.
    fn sends(&self) -> usize {
        std::fs::read_to_string(self.path("sends")).unwrap_or_default().lines().count()
    }
}

/// Stands between workers and their server. Each request of a worker is one write.
struct Proxy {
    port: u16,
    requests: Arc<AtomicUsize>,
    /// Whether it holds back the next `order_send`.
    holds: Arc<AtomicBool>,
    held: Receiver<()>,
    release: Sender<()>,
}

impl Proxy {
    fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, holds) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (tell, held) = channel();
        let (release, released) = channel();
        let proxy = Proxy { port, requests: requests.clone(), holds: holds.clone(), held, release };
        std::thread::spawn(move || {
            for worker in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (mut answers, mut back) =
                    (server.try_clone().unwrap(), worker.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
                pass(worker, server, |request| {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let trades = request.windows(10).any(|part| part == b"order_send");
                    if trades && holds.swap(false, Ordering::SeqCst) {
                        tell.send(()).unwrap();
                        released.recv().unwrap();
                    }
                });
            }
        });
        proxy
    }
}

/// Passes requests on until one side ends.
fn pass(mut worker: TcpStream, mut server: TcpStream, seen: impl Fn(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = worker.read(&mut buffer) {
        seen(&buffer[..length]);
        if server.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}

//! The protocol of systemd's `Type=notify`, and the journal.

#![cfg(target_os = "linux")]

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::common::{Gateway, PATIENCE};

/// What stands for systemd.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, directory }
    }

    fn start(&self, settings: &str, environment: &[(&str, &str)]) -> Gateway {
        let socket = self.directory.path().join("notify");
        let mut all = vec![("NOTIFY_SOCKET", socket.to_str().unwrap())];
        all.extend(environment);
        Gateway::start_with(settings, &all)
    }

    /// The lines of the next datagram.
    fn next(&self) -> Vec<String> {
        let mut datagram = [0; 4096];
        let length = self.socket.recv(&mut datagram).expect("the gateway tells nothing");
        String::from_utf8_lossy(&datagram[..length]).lines().map(str::to_owned).collect()
    }
}

#[test]
fn systemd_hears_when_the_gateway_listens_lives_and_stops() {
    let manager = Manager::new();
    let mut gateway = manager.start("", &[("WATCHDOG_USEC", "300000")]);
    assert_eq!(manager.next(), ["READY=1", "STATUS=listening"]);
    assert_eq!(gateway.get("/livez").status, 200);
    for _ in 0..3 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    gateway.signal("TERM");
    let stopping = std::iter::repeat_with(|| manager.next()).find(|told| told[0] != "WATCHDOG=1");
    // The default of `server.shutdown_grace`, and 15 s for the rest.
    let expected = ["STOPPING=1", "EXTEND_TIMEOUT_USEC=80000000"];
    assert_eq!(stopping.unwrap()[..2], expected);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_manager_that_reads_nothing_does_not_stop_the_gateway() {
    let manager = Manager::new();
    let mut gateway = manager.start("", &[("WATCHDOG_USEC", "30000")]);
    // Its queue is full, after some ten signs of life.
    gateway.logs("service manager cannot be told about the gateway");
    assert_eq!(gateway.get("/livez").status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn an_abstract_socket_is_one_too() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("mt5-gateway-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let _gateway = Gateway::start_with("", &[("NOTIFY_SOCKET", &format!("@{name}"))]);
    let mut datagram = [0; 4096];
    let length = socket.recv(&mut datagram).unwrap();
    assert!(datagram[..length].starts_with(b"READY=1"));
}

#[test]
fn a_gateway_that_is_suspended_sends_no_sign_of_life() {
    let manager = Manager::new();
    let gateway = manager.start("", &[("WATCHDOG_USEC", "300000")]);
    assert_eq!(manager.next()[0], "READY=1");
    assert_eq!(manager.next(), ["WATCHDOG=1"]);
    gateway.signal("STOP");
    // What it sent before it was suspended.
    let silence = Duration::from_secs(1);
    manager.socket.set_read_timeout(Some(silence)).unwrap();
    let mut datagram = [0; 4096];
    while manager.socket.recv(&mut datagram).is_ok() {}
    assert!(manager.socket.recv(&mut datagram).is_err());
    gateway.signal("CONT");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(manager.next(), ["WATCHDOG=1"]);
}

#[test]
fn a_watchdog_of_another_process_is_not_served() {
    let manager = Manager::new();
    let environment = [("WATCHDOG_USEC", "300000"), ("WATCHDOG_PID", "1")];
    let mut gateway = manager.start("", &environment);
    assert_eq!(manager.next()[0], "READY=1");
    gateway.get("/livez");
    gateway.signal("TERM");
    assert_eq!(manager.next()[0], "STOPPING=1");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_stop_may_take_as_long_as_the_grace() {
    let manager = Manager::new();
    let settings = "server.shutdown_grace = '1d'\nserver.trade_timeout = '1h'\n";
    let mut gateway = manager.start(settings, &[]);
    manager.next();
    gateway.signal("TERM");
    assert_eq!(manager.next()[..2], ["STOPPING=1", "EXTEND_TIMEOUT_USEC=86415000000"]);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_manager_that_is_gone_does_not_stop_the_gateway() {
    let mut gateway = Gateway::start_with("", &[("NOTIFY_SOCKET", "/nowhere/notify")]);
    gateway.logs("service manager cannot be told about the gateway");
    assert_eq!(gateway.get("/livez").status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn lines_for_a_journal_that_is_not_there_are_json_on_standard_error() {
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        return;
    }
    let gateway = Gateway::start("[log]\nformat = 'journald'\nfile = { path = 'log' }\n");
    gateway.logs("\"message\":\"listening\"");
    let written = std::fs::read_to_string(gateway.directory.path().join("log")).unwrap();
    let line: serde_json::Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
    assert!(line["message"].is_string());
}

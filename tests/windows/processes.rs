//! What the Windows program does with processes, and as a service.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, command};
use crate::stage::{Stage, WINE, environment, installed, is_windows_gateway, windows_path};

fn eventually(what: &str, mut passes: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !passes() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn no_worker_outlives_a_killed_gateway_and_on_windows_no_terminal() {
    let stage = Stage::ready("");
    assert!(stage.double.connections() >= 2, "a terminal and its client");
    let double = stage.kill_gateway();
    // On Linux a terminal under Wine is no descendant of the worker that had it started.
    let rest = if is_windows_gateway() { 0 } else { 1 };
    eventually("they are gone", || double.connections() <= rest);
}

/// Runs the gateway with these words and returns its exit code and what it wrote.
fn run(folder: &Path, words: &[&str]) -> (i32, String) {
    let mut command = command(folder);
    let output = command.args(words).envs(environment()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn a_service_is_installed_started_stopped_and_uninstalled() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("Program Files ü");
    std::fs::create_dir(&folder).unwrap();
    let service = |words: &[&str]| run(&folder, &[&["service"], words].concat());
    if !is_windows_gateway() {
        let (code, text) = service(&["status"]);
        assert!(code == 2 && text.contains("systemd"), "{code}: {text}");
        return;
    }
    // Wine's services end with the last program that is no service, and have the streams of the first.
    let python = windows_path(&installed("python/python.exe"));
    let mut session = Command::new(WINE)
        .args([&python, "-c", "print('up', flush=True); input()"])
        .envs(environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(session.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "up");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = |listen: &str| {
        std::fs::write(
            folder.join("gateway.toml"),
            format!("\u{feff}[server]\r\nlisten = '{listen}'\r\n"),
        )
    };
    let install = ["install", "--config", "gateway.toml", "--name", "mt5-gateway-test"];
    settings("nowhere").unwrap();
    let (code, text) = service(&install);
    assert!(code == 2 && text.contains("server.listen"), "{code}: {text}");
    settings(&format!("127.0.0.1:{port}")).unwrap();
    let named = |word: &'static str| service(&[word, "--name", "mt5-gateway-test"]);
    // Left by a test that failed.
    let _ = named("uninstall");
    let (code, text) = service(&install);
    assert_eq!(code, 0, "{text}");
    assert_eq!(named("status").0, 3);
    let (code, text) = named("start");
    assert!(code == 0 && text.contains("running"), "{code}: {text}");
    let lives = ureq::get(format!("http://127.0.0.1:{port}/livez")).call().unwrap();
    assert_eq!(lives.status(), 200);
    assert_eq!(named("status").0, 0);
    let (code, text) = named("stop");
    assert!(code == 0 && text.contains("exit code 0"), "{code}: {text}");
    assert!(folder.join("logs/gateway.log").exists());
    assert_eq!(named("uninstall").0, 0);
    assert_eq!(named("status").0, 4);
    drop(session.stdin.take());
    session.wait().unwrap();
}

//! The log file.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::Gateway;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn the_log_file_has_the_lines_of_standard_error() {
    for (format, path) in [("text", "log"), ("json", "logs/of/gateway")] {
        let mut gateway = Gateway::ready(&format!(
            "[log]\nformat = '{format}'\nfile = {{ path = '{path}' }}\nfilter = 'debug'\n"
        ));
        gateway.get_with("/nothing", &[("x-request-id", "mine-1")]);
        gateway.signal("TERM");
        assert_eq!(gateway.wait().code(), Some(0));
        gateway.logs("stopped");
        let file = gateway.directory.path().join(path);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
        let written = text(&file);
        assert_eq!(written.lines().collect::<Vec<_>>(), gateway.log().lines().collect::<Vec<_>>());
        assert!(written.contains("mine-1"));
        if format == "json" {
            let line = written.lines().last().unwrap();
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["message"], "stopped");
        }
    }
}

#[test]
fn the_log_file_has_no_colours_even_if_standard_error_has() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    // Ends at once, with an error that it logs.
    let terminal = |environment: &[(&str, &str)]| {
        let output = Command::new("script")
            .args(["-qec", env!("CARGO_BIN_EXE_mt5-gateway"), "/dev/null"])
            .current_dir(directory.path())
            .env("MT5_GATEWAY__SERVER__LISTEN", &listen)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = terminal(&[]);
    assert!(shown.contains("failed") && shown.contains('\x1b'), "{shown}");
    terminal(&[("MT5_GATEWAY__LOG__FILE__PATH", "log")]);
    let written = text(&directory.path().join("log"));
    assert!(written.contains("failed") && !written.contains('\x1b'), "{written}");
}

#[test]
fn a_full_log_file_is_rotated_and_the_configured_number_is_kept() {
    const MAX_SIZE: u64 = 64 << 10;
    let gateway = Gateway::ready("[log]\nfile = { path = 'log', max_size = '64 KiB', keep = 2 }\n");
    let at = |name: &str| gateway.directory.path().join(name);
    gateway.eventually("two files are full", || {
        (0..50).for_each(|_| drop(gateway.get("/livez")));
        at("log.2").exists().then_some(())
    });
    let oldest = text(&at("log.2"));
    gateway.eventually("another one is full", || {
        (0..50).for_each(|_| drop(gateway.get("/livez")));
        (text(&at("log.2")) != oldest).then_some(())
    });
    assert!(!at("log.3").exists());
    for name in ["log", "log.1", "log.2"] {
        let metadata = std::fs::metadata(at(name)).unwrap();
        assert!(metadata.len() <= MAX_SIZE, "{name}: {}", metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    // Whole lines, none of which is lost between two files.
    let kept: String = ["log.2", "log.1"].iter().map(|name| text(&at(name))).collect();
    gateway.eventually("standard error has them", || {
        gateway.log().contains(&kept[..kept.len() - 1]).then_some(())
    });
}

#[test]
fn a_log_file_that_cannot_be_written_does_not_stop_the_gateway() {
    let gateway = Gateway::ready("[log]\nfile = { path = '/dev/full' }\n");
    gateway.logs("log file cannot be written path=/dev/full");
    for _ in 0..10 {
        assert_eq!(gateway.get("/livez").status, 200);
    }
    gateway.logs("/livez");
    assert_eq!(gateway.log().matches("log file cannot be written").count(), 1, "told once");
}

#[test]
fn a_log_file_that_blocks_does_not_stop_the_gateway() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody reads it, so that opening it never ends.
    let made = Command::new("mkfifo").arg(directory.path().join("log")).status();
    assert!(made.unwrap().success());
    let mut gateway = Gateway::start_in(directory, "[log]\nfile = { path = 'log' }\n", &[]);
    gateway.wait_ready();
    gateway.logs("session ready");
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

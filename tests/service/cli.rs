//! The command line: help, exit codes and output.

use crate::common::{Gateway, command};
use crate::settings::run;

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
        "  3  service status: installed, and not running",
        "mt5-gateway --config main.toml check-config",
        "mt5-gateway --config main.toml doctor",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text, String::from_utf8(run(&["-h"], &[], &[]).stdout).unwrap());
}

#[test]
fn the_version_names_the_commit_and_the_target() {
    let text = String::from_utf8(run(&["--version"], &[], &[]).stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let rest = text.strip_prefix(&format!("mt5-gateway {version} (commit ")).expect(&text);
    let (commit, target) = rest.trim_end().strip_suffix(')').unwrap().split_once(", ").unwrap();
    let digits = commit.chars().all(|digit| digit.is_ascii_hexdigit());
    assert!(commit == "unknown" || digits && commit.len() >= 12, "{text}");
    assert!(target.starts_with(std::env::consts::ARCH), "{text}");
}

#[test]
fn a_closed_standard_output_is_not_a_failure() {
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
    let source = concat!(
        include_str!("../../src/terminal/worker/worker.py"),
        include_str!("../../src/terminal/worker/pipe.py")
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), source);
}

#[cfg(not(windows))]
#[test]
fn a_windows_service_is_for_windows() {
    for command in ["install", "uninstall", "start", "stop", "status"] {
        let output = run(&["service", command, "--name", "gw-2"], &[], &[]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("systemd") && errors.lines().count() == 1, "{errors}");
    }
    let output = run(&["service", "status", "--name", "a b"], &[], &[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("expected up to 80 letters"), "{errors}");
}

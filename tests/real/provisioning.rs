//! Terminals that are copied from a template.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Gateway, command};
use crate::tools::{modules, worker};

/// As long as MT5's may be, with what a file or a command line would take for something else.
const PASSWORD: &str = "\"Pä ss'=w[ö]rd; \\u0041 %PATH% $HOME =☃= 0123456789 0123456789 01";

/// A template, and the settings of an account that has copies of it.
fn stage(sessions: usize) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("Program Files/Börse");
    for (file, text) in [
        ("terminal64.exe", "#!/bin/true\n"),
        ("config/servers.dat", "servers"),
        ("config/accounts.dat", "secret"),
        ("config/common.ini", "[Experts]\nEnabled=0\nAccount=1\nApi=1\n"),
    ] {
        let file = template.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let program = template.join("terminal64.exe");
    std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    let terminal = format!("module = 'portable_terminal'\ntemplate = '{}'\n", template.display());
    let account = worker("real", &format!("sessions = {sessions}\ntrade = true"), &terminal);
    let password = toml(PASSWORD);
    let account = account.replace("'correct horse'", &password);
    (
        folder,
        format!(
            "[metrics]\nsampler_interval = '1s'\n[terminals]\ntemplate_interval = '100ms'\nkeep_free = '0 B'\n{account}"
        ),
    )
}

/// A text as TOML has it.
fn toml(text: &str) -> String {
    json!(text).to_string()
}

fn start(settings: &str) -> Gateway {
    let modules = modules().display().to_string();
    let environment = [("PYTHONPATH", modules.as_str()), ("FAKE_MT5_PASSWORD", PASSWORD)];
    Gateway::start_with(settings, &environment)
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let below = entries.flat_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => files(&entry.path()),
        false => vec![entry.path()],
    });
    below.collect()
}

#[test]
fn two_sessions_of_a_template_are_ready_to_trade_and_follow_it() {
    assert_eq!(PASSWORD.chars().count(), 64);
    let (folder, settings) = stage(2);
    let gateway = start(&settings);
    gateway.wait_ready();
    let account = || gateway.get("/api/v1/accounts/real").json();
    gateway.eventually("it may trade", || {
        (account()["trading"]["open"] == json!({ "allowed": true, "reasons": [] })).then_some(())
    });
    let terminals = gateway.directory.path().join("data/terminals");
    let copies = [0, 1].map(|session| terminals.join(format!("real/{session}")));
    for (session, copy) in copies.iter().enumerate() {
        assert!(copy.join("bases/history.hcc").exists(), "each session has a terminal of its own");
        assert!(!copy.join("config/accounts.dat").exists());
        let series = format!("mt5_terminal_disk_bytes{{account=\"real\",session=\"{session}\"}}");
        gateway.eventually("what it takes is shown", || {
            (gateway.metric(&series) >= 1_000.0).then_some(())
        });
    }
    // No password is on disk, in whichever coding, but in the settings.
    let wide: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for file in files(gateway.directory.path()) {
        let content = std::fs::read(&file).unwrap();
        let has = |password: &[u8]| content.windows(password.len()).any(|part| part == password);
        let is_settings = file.ends_with("gateway.toml");
        assert!(is_settings || !(has(PASSWORD.as_bytes()) || has(&wide)), "{}", file.display());
    }
    assert!(!gateway.log().contains(PASSWORD));

    // A new template reaches both, one at a time.
    let template = folder.path().join("Program Files/Börse/MQL5/Experts/robot.ex5");
    std::fs::create_dir_all(template.parent().unwrap()).unwrap();
    std::fs::write(&template, "new").unwrap();
    let restarts = r#"mt5_session_restarts_total{account="real",reason="template"}"#;
    gateway.eventually("both are replaced", || {
        assert_eq!(gateway.get("/readyz?account=real").status, 200, "one of them serves");
        (gateway.metric(restarts) == 2.0).then_some(())
    });
    gateway.eventually("both are ready", || {
        let sessions = account()["sessions"].clone();
        let sessions = sessions.as_array().unwrap();
        sessions.iter().all(|session| session["state"] == "ready").then_some(())
    });
    for copy in &copies {
        assert_eq!(std::fs::read(copy.join("MQL5/Experts/robot.ex5")).unwrap(), b"new");
    }
    gateway.eventually("it may trade, although the terminal had written otherwise", || {
        (account()["trading"]["open"]["allowed"] == true).then_some(())
    });
    let others: f64 = ["exit", "hang", "login", "request", "recycle", "settings"]
        .map(|reason| {
            let series =
                format!("mt5_session_restarts_total{{account=\"real\",reason=\"{reason}\"}}");
            gateway.metric(&series)
        })
        .iter()
        .sum();
    assert_eq!(others, 0.0);
}

#[test]
fn copies_go_with_their_sessions_and_accounts() {
    let (_folder, settings) = stage(2);
    let administered = "[accounts_store]\nanonymous = true\n";
    let settings = format!("{administered}{settings}");
    let gateway = start(&settings);
    gateway.wait_ready();
    let terminals = gateway.directory.path().join("data/terminals");
    let reload = |settings: &str| {
        std::fs::write(gateway.directory.path().join("gateway.toml"), settings).unwrap();
        let reply = gateway.send("POST", "/api/v1/reload", None);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    reload(&settings.replace("sessions = 2", "sessions = 1"));
    gateway.eventually("the second copy is deleted", || {
        (!terminals.join("real/1").exists()).then_some(())
    });
    assert!(terminals.join("real/0/terminal64.exe").exists());
    let restarts = r#"mt5_session_restarts_total{account="real",reason="settings"}"#;
    assert_eq!(gateway.metric(restarts), 1.0);
    gateway.wait_ready();
    let other = "[accounts.other]\nlogin = 7\nserver = 'S'\nterminal.kind = 'simulator'\n";
    reload(&format!("{administered}{other}"));
    gateway.eventually("the account's folder is deleted", || {
        (!terminals.join("real").exists()).then_some(())
    });
}

#[test]
fn doctor_tries_a_copy_and_names_a_template_without_a_terminal() {
    let (folder, settings) = stage(1);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), settings).unwrap();
    let findings = || -> Vec<(String, String)> {
        let output = command(directory.path())
            .args(["--config", "gateway.toml", "--listen", "127.0.0.1:0", "doctor", "--json"])
            .env("PYTHONPATH", modules())
            .env("FAKE_MT5_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let word = |finding: &Value, member: &str| finding[member].as_str().unwrap().to_owned();
        let checks = report["checks"].as_array().unwrap().iter();
        let terminal = checks.filter(|finding| {
            ["terminal_files", "start", "login", "trade_permission"]
                .contains(&&*word(finding, "check"))
        });
        terminal.map(|finding| (word(finding, "result"), word(finding, "found"))).collect()
    };
    let found = findings();
    assert!(found.iter().all(|(result, _)| result == "ok"), "{found:?}");
    assert!(found[0].1.starts_with("they are copied from "), "{found:?}");
    std::fs::remove_file(folder.path().join("Program Files/Börse/terminal64.exe")).unwrap();
    let found = findings();
    assert_eq!(found[0].0, "failure");
    assert!(found[0].1.ends_with("has no terminal64.exe"), "{found:?}");
    assert!(found[1..].iter().all(|(result, _)| result == "skipped"), "{found:?}");
}

#[test]
fn a_template_that_cannot_be_copied_is_told_and_a_copy_of_before_serves() {
    let (folder, settings) = stage(1);
    let template = folder.path().join("Program Files/Börse/terminal64.exe");
    let elsewhere = folder.path().join("terminal64.exe");
    std::fs::rename(&template, &elsewhere).unwrap();
    let mut gateway =
        start(&format!("[restart]\nbackoff_max = '500ms'\nbudget = 1000\n{settings}"));
    gateway.eventually("it is said", || {
        let session = gateway.get("/api/v1/accounts/real").json()["sessions"][0].clone();
        let error = session["last_error"].to_string();
        (error.contains("has no terminal64.exe") && error.contains("terminal.template"))
            .then_some(())
    });
    gateway.logs("setting is probably not what was meant");
    std::fs::rename(&elsewhere, &template).unwrap();
    gateway.wait_ready();
    std::fs::rename(&template, &elsewhere).unwrap();
    gateway.kill_and_start(&[
        ("PYTHONPATH", &modules().display().to_string()),
        ("FAKE_MT5_PASSWORD", PASSWORD),
    ]);
    gateway.wait_ready();
    gateway.logs("terminal starts as it was copied before");
}

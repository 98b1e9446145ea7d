//! A gateway, Windows Python with the package, and a terminal of ours.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Gateway, Reply};
use crate::double::Double;

pub const ACCOUNT: &str = "/api/v1/accounts/real";
pub const LOGIN: u64 = 5001;
pub const SERVER: &str = "S-real";
pub const WINE: &str = "/usr/lib/wine/wine64";

/// What `tests/windows/run` installed.
pub fn installed(path: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/windows").join(path);
    assert!(file.exists(), "{} is missing: run tests/windows/run", file.display());
    file
}

/// A path as Windows programs have it.
pub fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

/// Whether the gateway is the Windows program.
pub fn is_windows_gateway() -> bool {
    std::env::var("GATEWAY_COMMAND").is_ok_and(|command| command.ends_with(".exe"))
}

/// The command of a Python that can import the package.
fn python() -> Vec<String> {
    let python = windows_path(&installed("python/python.exe"));
    if is_windows_gateway() { vec![python] } else { vec![WINE.to_owned(), python] }
}

/// The settings of an account whose terminal is at this path.
pub fn account(name: &str, terminal: &Path, account: &str, more: &str) -> String {
    format!(
        "[accounts.{name}]\nlogin = {LOGIN}\nserver = '{SERVER}'\npassword = 'correct horse'\n{account}\n\
         [accounts.{name}.terminal]\nkind = 'worker'\npython = {:?}\npath = '{}'\n{more}\n",
        python(),
        windows_path(terminal),
    )
}

/// A path as the gateway has it.
pub fn gateway_path(path: &Path) -> String {
    if is_windows_gateway() { windows_path(path) } else { path.display().to_string() }
}

/// The settings of an account whose terminals are copies of this folder.
pub fn copied_account(name: &str, template: &Path, account: &str, password: &str) -> String {
    format!(
        "[accounts.{name}]\nlogin = {LOGIN}\nserver = '{SERVER}'\npassword = {}\n{account}\n\
         [accounts.{name}.terminal]\nkind = 'worker'\npython = {:?}\ntemplate = '{}'\ninit_timeout = '20s'\n",
        serde_json::json!(password),
        python(),
        gateway_path(template),
    )
}

/// What every Windows program of a test needs.
pub fn environment() -> Vec<(&'static str, String)> {
    let prefix = installed("prefix").display().to_string();
    let more = [("WINEDEBUG", "-all"), ("WINEDLLOVERRIDES", "pdh=n,b"), ("DISPLAY", "")];
    let more = more.map(|(name, value)| (name, value.to_owned()));
    [("WINEPREFIX", prefix)].into_iter().chain(more).collect()
}

pub fn start(settings: &str) -> Gateway {
    let environment = environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Gateway::start_with(settings, &environment)
}

/// A gateway whose account `real` is at a terminal of ours.
pub struct Stage {
    pub gateway: Gateway,
    pub double: Double,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// `change` is done before the gateway starts.
    pub fn set(settings: &str, terminal: &str, change: impl FnOnce(&Double)) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let double = Double::start(LOGIN, SERVER, 7);
        // Windows paths have spaces and umlauts.
        let program_files = folder.path().join("Program Files/Börse");
        double.install(&program_files, &installed("terminal64.exe"));
        change(&double);
        let program = program_files.join("terminal64.exe");
        let gateway =
            start(&format!("{settings}{}", account("real", &program, "trade = true", terminal)));
        Stage { gateway, double, _folder: folder }
    }

    pub fn ready(settings: &str) -> Stage {
        let stage = Stage::set(settings, "", |_| ());
        stage.gateway.wait_ready();
        stage.gateway.logs("account accepts trades");
        stage
    }

    /// Ends the gateway as a crash would.
    pub fn kill_gateway(self) -> Double {
        drop(self.gateway);
        self.double
    }

    pub fn get(&self, path: &str) -> Reply {
        self.gateway.get(&format!("{ACCOUNT}{path}"))
    }

    pub fn read(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    pub fn trade(&self, method: &str, path: &str, body: Value) -> Reply {
        self.gateway.send(method, &format!("{ACCOUNT}{path}"), (!body.is_null()).then_some(&body))
    }
}

//! The settings: what `check-config` shows, refuses and warns about.

mod faults;
mod files;
mod layers;
mod values;
mod warnings;

use std::path::Path;
use std::process::Output;

use crate::common::command;

pub fn run(arguments: &[&str], files: &[(&str, &str)], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    command(directory.path()).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// A real account, with one line more.
fn account(line: &str, terminal: &str) -> String {
    let given = |name: &str, otherwise: &str| {
        let is_given = line.starts_with(name) && line[name.len()..].starts_with(' ');
        if is_given { String::new() } else { format!("{name} = {otherwise}\n") }
    };
    let (login, server) = (given("login", "1"), given("server", "'S'"));
    let password = if line.starts_with("password") { "" } else { "password = 'p'\n" };
    let python = if terminal.contains("python = ") { "" } else { "python = 'true'\n" };
    format!(
        "[accounts.a]\n{login}{server}{password}{line}\n\
         [accounts.a.terminal]\nkind = 'worker'\n{python}{terminal}\n"
    )
}

const DIGEST: &str = "3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30";

fn key(lines: &str) -> String {
    format!("[auth.keys.k]\nsha256 = '{DIGEST}'\n{lines}\n")
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    set_mode(path, 0o600);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) {}

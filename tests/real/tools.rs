//! Where the outside programs are.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::common::PATIENCE;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program that `tests/run` installed.
pub fn program(path: &str) -> PathBuf {
    let program = root().join("target/real").join(path);
    assert!(program.exists(), "{} is missing: run tests/run", program.display());
    program
}

pub fn python() -> PathBuf {
    program("venv/bin/python")
}

/// The folder of the test module.
pub fn modules() -> PathBuf {
    root().join("tests/python")
}

/// A port that was free a moment ago.
///
/// It lies below the range from which systems take the ports of outgoing
/// connections, so that none of those sits on it before the server does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() as u16 % 10_000) + next % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server of the test's own, killed by process id when dropped.
pub struct Server(Child);

impl Server {
    pub fn start(command: &mut Command, port: u16) -> Server {
        Server::start_writing(command, port, Stdio::null())
    }

    /// Starts a server whose standard output goes there.
    pub fn start_writing(command: &mut Command, port: u16, output: Stdio) -> Server {
        let child = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        let mut server = Server(child.spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.0.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not listen: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The settings of an account behind a worker with the test module.
pub fn worker(name: &str, account: &str, terminal: &str) -> String {
    worker_of(&[python().display().to_string()], name, account, terminal)
}

pub fn worker_of(command: &[String], name: &str, account: &str, terminal: &str) -> String {
    format!(
        "[accounts.{name}]\nlogin = 5001\nserver = 'S-{name}'\npassword = 'correct horse'\n{account}\n\
         [accounts.{name}.terminal]\nkind = 'worker'\npython = {command:?}\n{terminal}\n"
    )
}

/// Whether a process lives.
pub fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
    })
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|children| {
            children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        })
        .collect()
}

//! A look at what a worker needs on this machine: Python, its packages, and the terminal's files.
//!
//! The configured Python looks in a process of its own, started as the worker's, so that it sees what the
//! worker would, under Wine too. No terminal is started.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Options;
use super::process::Process;
use super::protocol::{self, Connect};

const SCRIPT: &str = include_str!("examine.py");

/// How long a process that has answered may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What a worker needs, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The command that runs Python.
    pub command: String,
    /// Where the terminal is, if not on this machine.
    pub remote: Option<String>,
    /// The terminal's executable as it is configured.
    pub path: Option<String>,
    /// The folder that the terminal is copied from, or why it cannot be.
    pub template: Option<Result<String, String>>,
    /// What Python said.
    pub python: Result<Python, PythonFault>,
}

impl Examination {
    /// Whether a terminal can be started: Python runs, every package can be imported, and the terminal's
    /// files are as they have to be.
    pub fn is_complete(&self) -> bool {
        self.python.as_ref().is_ok_and(|python| {
            let has_modules = python.modules.iter().all(|module| module.fault.is_none());
            let has_terminal = matches!(python.terminal, None | Some(TerminalFile::File));
            has_modules && has_terminal && !matches!(self.template, Some(Err(_)))
        })
    }
}

/// What Python said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Python {
    /// Its version.
    #[serde(rename = "python")]
    pub version: String,
    /// The system that it is made for, such as `win32`, also under Wine, or `linux`.
    #[serde(default)]
    pub platform: String,
    /// The packages that the worker imports.
    pub modules: Vec<Module>,
    /// The terminal's executable. `None`: none is configured.
    pub terminal: Option<TerminalFile>,
}

/// A package that the worker imports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its version, if it can be imported.
    #[serde(default)]
    pub version: String,
    /// Why it cannot be imported.
    pub fault: Option<String>,
}

/// The terminal's executable, as Python sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum TerminalFile {
    /// It is there; if the terminal is portable, its folder can be written.
    File,
    /// It is not there.
    Missing,
    /// A folder is there.
    Folder,
    /// The folder of a portable terminal cannot be written.
    ReadOnly {
        /// Why not.
        fault: String,
    },
}

/// Why Python said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonFault {
    /// The command cannot be started.
    NotStarted(String),
    /// It did not end in time.
    Slow(Duration),
    /// It ended without an answer: its status and its last line.
    Ended(String),
}

#[derive(Serialize)]
struct Question<'a> {
    modules: Vec<(&'a str, Option<&'a str>)>,
    path: Option<&'a str>,
    portable: bool,
}

/// Looks at what a worker with these options needs. Takes as long as its `init_timeout` at most.
pub async fn examine(options: Options) -> Examination {
    let remote = options.connect.as_ref().map(|connect| match connect {
        Connect::Attribute(address) | Connect::Rpyc(address) => address.to_string(),
    });
    let path = options.path.as_ref().map(|path| path.display().to_string());
    let template = options.template.as_ref().map(|template| {
        template.fault().map_or_else(|| Ok(template.folder.display().to_string()), Err)
    });
    let asked = tokio::time::timeout(options.init_timeout, ask(&options)).await;
    let python = asked.unwrap_or(Err(PythonFault::Slow(options.init_timeout)));
    Examination { command: shown(&options.python), remote, path, template, python }
}

/// A command as it can be typed into a shell.
fn shown(command: &[String]) -> String {
    let is_plain = |letter: char| {
        let is_path = letter == '\\' && cfg!(windows);
        is_path || letter.is_alphanumeric() || "_-./:=+@,".contains(letter)
    };
    let word = |word: &String| match word {
        word if !word.is_empty() && word.chars().all(is_plain) => word.clone(),
        // No path has a quote there.
        word if cfg!(windows) => format!("\"{word}\""),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

async fn ask(options: &Options) -> Result<Python, PythonFault> {
    let module = match options.module.split_once(':') {
        Some((package, attribute)) => (package, Some(attribute)),
        None => (&*options.module, None),
    };
    // Behind RPyC the server imports the package.
    let is_rpyc = matches!(options.connect, Some(Connect::Rpyc(_)));
    let module = if is_rpyc { ("rpyc", None) } else { module };
    let path = options.path.as_ref().and_then(|path| path.to_str());
    let question = Question {
        modules: vec![module, ("msgpack", None)],
        path: path.filter(|_| options.connect.is_none()),
        portable: options.portable,
    };
    let question = serde_json::to_vec(&question).unwrap_or_default();
    let started = Process::spawn(options.python.clone()).await;
    let mut process = started.map_err(|fault| PythonFault::NotStarted(fault.to_string()))?;
    let (mut stdin, mut stdout) = process.pipes();
    let mut stderr = process.stderr();
    let told = async {
        let mut program = BytesMut::new();
        protocol::put_frame(&mut program, |frame| frame.extend_from_slice(SCRIPT.as_bytes()));
        stdin.write_all(&program).await?;
        stdin.write_all(&question).await?;
        drop(stdin);
        io::Result::Ok(())
    };
    let (mut answer, mut errors) = (vec![], vec![]);
    // What it started itself may keep its standard error open, but then it has answered.
    let (_, read) = tokio::join!(told, async {
        tokio::select! {
            read = stdout.read_to_end(&mut answer) => read,
            never = async {
                let _ = stderr.read_to_end(&mut errors).await;
                std::future::pending().await
            } => never,
        }
    });
    if let Some(python) = read.ok().and_then(|_| serde_json::from_slice(&answer).ok()) {
        process.end(Some(END_WITHIN)).await;
        return Ok(python);
    }
    let status = process.end(Some(END_WITHIN)).await;
    let _ = tokio::time::timeout(END_WITHIN, stderr.read_to_end(&mut errors)).await;
    let errors = String::from_utf8_lossy(&errors);
    let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it wrote nothing");
    Err(PythonFault::Ended(format!("{status}, its last line: {}", last.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_command_is_shown_as_a_shell_takes_it() {
        for (command, expected) in [
            (&["wine", "C:/Python/python.exe"][..], "wine C:/Python/python.exe"),
            (&["my python", "", "$HOME;"], "'my python' '' '$HOME;'"),
            (&["it's", "a\\b"], r"'it'\''s' 'a\b'"),
        ] {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(shown(&command), expected);
        }
    }
}

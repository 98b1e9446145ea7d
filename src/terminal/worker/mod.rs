//! A real terminal behind a Python worker: a child process that imports the
//! `MetaTrader5` package (or one with its API) and answers framed calls over
//! its standard input and output.
//!
//! This module owns the process: its start, its pipes, its log lines and its
//! end, also when the gateway is killed. [`protocol`] owns the frames.

mod examine;
#[cfg(windows)]
mod job;
mod process;
pub mod protocol;
mod provision;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use self::process::Process;
use self::protocol::{ClockReading, Frame};
use self::provision::Provision;
use super::provisioning::Terminals;
use super::{
    Answered, Answers, Ending, Event, EventSink, Launch, Lease, Mode, SubmittedCall, Terminal,
};
use crate::clock::BootInstant;
use crate::mt5::Method;

pub use self::examine::{Examination, Module, Python, PythonFault, TerminalFile};
pub use self::process::SCRIPT;
pub use self::protocol::{Address, Connect};

/// The largest frame that is taken: about four million rows.
const MAX_FRAME: usize = 256 << 20;

/// How long a worker may take to log out and end after its input was closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last lines of a worker that ended are waited for; what it
/// started itself may keep its standard error open.
const STDERR_TIMEOUT: Duration = Duration::from_millis(200);

/// Calls that are written together, roughly.
const BATCH: usize = 64;

/// The longest line of a worker's standard error that is logged whole.
const MAX_LOG_LINE: usize = 4096;

/// How to start the worker of an account and log it in.
#[derive(Clone)]
pub struct Options {
    /// The account's name, for the log.
    pub account: String,
    /// The account's number at its broker.
    pub login: u64,
    /// The account's password. It reaches the worker by the pipe alone.
    pub password: SecretString,
    /// The broker's server.
    pub server: String,
    /// The command that runs Python.
    pub python: Vec<String>,
    /// `module` or `package:Attribute`, which is called.
    pub module: String,
    /// Where the terminal is, if `module` does not find it on this machine.
    pub connect: Option<Connect>,
    /// The terminal's executable, for `initialize`.
    pub path: Option<PathBuf>,
    /// Whether the terminal keeps its data beside its executable.
    pub portable: bool,
    /// How long the start, and then `initialize`, may take.
    pub init_timeout: Duration,
    /// Where the terminal is copied from, with a copy for each session. Then `path` is the copy's.
    pub template: Option<Template>,
}

/// What the terminals of an account are copied from.
#[derive(Clone)]
pub struct Template {
    /// The folder with an installed terminal.
    pub folder: PathBuf,
    /// The most bars that a chart and an answer have.
    pub max_bars: u32,
    /// Where the copies are.
    pub terminals: Arc<Terminals>,
    /// How often the template is looked at for changes.
    pub interval: Duration,
}

/// Starts workers.
pub struct Launcher {
    options: Options,
    /// The sessions whose terminal is of an earlier template.
    outdated: Arc<Mutex<BTreeSet<usize>>>,
}

impl Launcher {
    /// Nothing is started yet.
    pub fn new(options: Options) -> Launcher {
        Launcher { options, outdated: Arc::default() }
    }
}

impl Launch for Launcher {
    fn launch(&self, session: usize, lease: Lease, events: EventSink) -> Box<dyn Terminal> {
        let (calls, queue) = mpsc::unbounded_channel();
        let kill = CancellationToken::new();
        let outdated = self.outdated.clone();
        let unneeded = CancellationToken::new();
        let provision = self.options.template.clone().map(|template| {
            let wanted = template.wanted(&self.options, session);
            Provision { template, wanted, outdated, unneeded: unneeded.clone() }
        });
        tokio::spawn(run(self.options.clone(), provision, lease, events, queue, kill.clone()));
        Box::new(Handle { calls, kill: Some(kill), _unneeded: unneeded.drop_guard() })
    }

    fn mode(&self) -> Mode {
        Mode::Live
    }

    fn init_timeout(&self) -> Duration {
        self.options.init_timeout
    }

    fn provides_files(&self) -> bool {
        self.options.template.is_some()
    }

    fn is_outdated(&self, session: usize) -> bool {
        locked(&self.outdated).contains(&session)
    }

    fn examine(&self) -> Option<BoxFuture<'static, Examination>> {
        Some(examine::examine(self.options.clone()).boxed())
    }
}

type Calls = mpsc::UnboundedReceiver<SubmittedCall>;

struct Handle {
    calls: mpsc::UnboundedSender<SubmittedCall>,
    kill: Option<CancellationToken>,
    /// Ends the making of the terminal's files, however the terminal is given up.
    _unneeded: DropGuard,
}

impl Terminal for Handle {
    fn submit(&mut self, call: SubmittedCall, _idle: bool) -> Option<Answered> {
        // A worker that is gone has said so; the call is accounted for there.
        let _ = self.calls.send(call);
        None
    }

    fn close(mut self: Box<Self>) {
        // Dropping `calls` closes the worker's input, which is how it is asked to end.
        self.kill = None;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(kill) = &self.kill {
            kill.cancel();
        }
    }
}

async fn run(
    mut options: Options,
    provision: Option<Provision>,
    lease: Lease,
    events: EventSink,
    calls: Calls,
    kill: CancellationToken,
) {
    let _lease = tokio::select! {
        lease = lease.lock_owned() => lease,
        () = kill.cancelled() => return,
    };
    let mut fingerprint = String::new();
    if let Some(provision) = &provision {
        match provision.provide().await {
            Ok(provided) => {
                options.path = Some(provided.program);
                options.portable = true;
                fingerprint = provided.fingerprint;
            }
            Err(detail) => return events(Event::Ended(Ending::Exit(detail))),
        }
    }
    let mut process = match Process::spawn(options.python.clone()).await {
        Ok(process) => process,
        Err(error) => {
            let command = options.python.join(" ");
            return events(Event::Ended(Ending::Exit(format!(
                "the worker command `{command}` cannot be started: {error}"
            ))));
        }
    };
    info!(account = options.account, pid = process.id(), "worker process started");
    if let Some(pid) = process.id() {
        events(Event::Process(pid));
    }
    let stderr = tokio::spawn(log_lines(options.account.clone(), process.stderr()));

    let looking = async {
        match &provision {
            Some(provision) => provision.watch(&fingerprint, &events).await,
            None => std::future::pending().await,
        }
    };
    let ending = tokio::select! {
        ending = converse(&options, &mut process, &events, calls, &kill) => ending,
        () = looking => unreachable!("it looks for ever"),
    };
    let status = process.end(ending.is_none().then_some(CLOSE_TIMEOUT)).await;
    info!(account = options.account, status, "worker process ended");
    match ending {
        Some(Ending::Exit(detail)) => {
            // The last line of a Python program that fails says why.
            let last = tokio::time::timeout(STDERR_TIMEOUT, stderr).await;
            let last = last.ok().and_then(Result::ok).unwrap_or_default();
            let detail = format!("{detail}; its status: {status}; its last line: {last}");
            events(Event::Ended(Ending::Exit(detail)));
        }
        Some(ending) => events(Event::Ended(ending)),
        None => {}
    }
}

/// Carries calls and answers until one side ends. `None`: it was our side.
async fn converse(
    options: &Options,
    process: &mut Process,
    events: &EventSink,
    calls: Calls,
    kill: &CancellationToken,
) -> Option<Ending> {
    let pending = Pending::default();
    let (stdin, stdout) = process.pipes();
    let writing = write_calls(options, stdin, calls, &pending);
    let reading = read_answers(stdout, events, &pending);
    tokio::pin!(writing, reading);
    let mut input_open = true;
    loop {
        tokio::select! {
            // Whoever kills it drops the sender of calls, too, which must not pass for a request to end.
            biased;
            () = kill.cancelled() => {
                // Before its pipes close, to which it could still react.
                process.kill();
                return Some(Ending::Exit("it was killed".to_owned()));
            }
            ending = &mut reading => return Some(ending),
            result = &mut writing, if input_open => match result {
                // The input is closed; the worker ends when it has answered.
                Ok(()) => return None,
                // It no longer reads. What it wrote before it ended is still to be read.
                Err(_) => input_open = false,
            },
        }
    }
}

/// What both directions of the conversation know.
#[derive(Default)]
struct Pending {
    /// Calls that were written and not answered, the oldest first, with the moment of their writing.
    calls: Mutex<VecDeque<(u64, Method, BootInstant)>>,
    /// What the worker's clock showed last.
    clock: Mutex<Option<ClockReading>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes calls as they come; those that wait together go in one write.
async fn write_calls(
    options: &Options,
    mut stdin: impl AsyncWrite + Unpin,
    mut calls: Calls,
    pending: &Pending,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    protocol::put_frame(&mut buffer, |frame| frame.extend_from_slice(SCRIPT.as_bytes()));
    protocol::put_hello(&mut buffer, options);
    stdin.write_all(&buffer).await?;

    let mut batch = Vec::new();
    while calls.recv_many(&mut batch, BATCH).await > 0 {
        // Whoever is about to call does so first: a write for each call would cost more than it.
        tokio::task::yield_now().await;
        while let Ok(call) = calls.try_recv() {
            batch.push(call);
        }
        buffer.clear();
        for SubmittedCall { id, request, send_by } in batch.drain(..) {
            let called = (id, request.method(), BootInstant::now());
            locked(&pending.calls).push_back(called);
            // Without a reading of the worker's clock no moment can be named on it: the trade is
            // too late by definition.
            let clock = *locked(&pending.clock);
            let send_by = send_by.map(|at| clock.map_or(0, |clock| clock.translate(at)));
            protocol::put_call(&mut buffer, id, &request, send_by);
        }
        stdin.write_all(&buffer).await?;
        stdin.flush().await?;
    }
    stdin.shutdown().await
}

/// Reads answers until the worker ends or breaks the protocol.
async fn read_answers(
    stdout: impl AsyncRead + Unpin,
    events: &EventSink,
    pending: &Pending,
) -> Ending {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
    let mut frames = FramedRead::with_capacity(stdout, codec, 64 << 10);
    let hello = match next_frame(frames.next().await) {
        Ok(frame) => protocol::read_hello(&frame),
        Err(ending) => return ending,
    };
    match hello {
        Ok(event) => events(event),
        Err(fault) => return Ending::Protocol(fault),
    }
    loop {
        let mut frame = frames.next().await;
        let mut answers = Answers::new();
        // What has come together is told together, and before what is wrong with the rest.
        let ending = loop {
            let answer = next_frame(frame).and_then(|frame| {
                let expected = locked(&pending.calls).pop_front();
                let called = expected.map(|(id, method, _)| (id, method));
                let answer = protocol::read_answer(&frame, called).map_err(Ending::Protocol);
                answer.map(|answer| (answer, expected))
            });
            match answer {
                Ok((Frame { answered, clock }, called)) => {
                    if let (Some(worker), Some((_, _, written))) = (clock, called) {
                        let reading = ClockReading { worker, written, read: BootInstant::now() };
                        *locked(&pending.clock) = Some(reading);
                    }
                    answers.push(answered);
                }
                Err(ending) => break Some(ending),
            }
            match frames.next().now_or_never() {
                Some(another) => frame = another,
                None => break None,
            }
        };
        if !answers.is_empty() {
            events(Event::Answered(answers));
        }
        if let Some(ending) = ending {
            return ending;
        }
    }
}

/// A frame, or why there is none.
fn next_frame(read: Option<io::Result<BytesMut>>) -> Result<Bytes, Ending> {
    match read {
        Some(Ok(frame)) => Ok(frame.freeze()),
        Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Ending::Protocol(format!("the worker wrote no frame: {error}")))
        }
        Some(Err(error)) => {
            Err(Ending::Exit(format!("the worker ended in the middle of a frame: {error}")))
        }
        None => Err(Ending::Exit("the worker ended".to_owned())),
    }
}

/// Turns what a worker writes to its standard error into log lines. Gives back the last.
async fn log_lines(account: String, stderr: impl AsyncRead + Unpin) -> String {
    let mut reader = BufReader::new(stderr);
    let (mut line, mut last) = (Vec::new(), String::new());
    loop {
        let available = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(available) => available,
        };
        let newline = available.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(available.len());
        let room = MAX_LOG_LINE.saturating_sub(line.len());
        line.extend_from_slice(&available[..taken.min(room)]);
        reader.consume(newline.map_or(taken, |index| index + 1));
        if newline.is_some() {
            last = String::from_utf8_lossy(&line).trim_end().to_owned();
            warn!(account, line = last, "worker wrote");
            line.clear();
        }
    }
    if !line.is_empty() {
        last = String::from_utf8_lossy(&line).trim_end().to_owned();
        warn!(account, line = last, "worker wrote");
    }
    last
}

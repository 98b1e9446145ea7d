//! The worker's process: started so that it cannot outlive the gateway.

use std::io;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::warn;
#[cfg(windows)]
use windows::Win32::System::Threading::CREATE_NO_WINDOW;

/// The Python worker, whole.
pub const SCRIPT: &str = concat!(include_str!("worker.py"), include_str!("pipe.py"));

/// The part of [`SCRIPT`] that runs beside the package, in an RPyC server if that has it.
pub const BESIDE_PACKAGE: &str = include_str!("worker.py");

/// Reads the worker from its own input and runs it, so that nothing needs to be
/// on disk and no secret on a command line. An old Python could not even parse the
/// worker, so it is told here what it lacks.
const BOOTSTRAP: &str = "import sys; sys.version_info >= (3, 9) or sys.exit('the worker needs \
    Python 3.9 or newer, this is ' + sys.version.split()[0] + ': set `terminal.python`'); \
    r = sys.stdin.buffer.read; \
    exec(compile(r(int.from_bytes(r(4), 'big')), 'worker.py', 'exec'))";

/// What the gateway's own settings begin with; they may hold passwords.
const SETTINGS_PREFIX: &str = "MT5_GATEWAY__";

/// By these systemd expects to hear from the gateway, and from nothing that it starts.
const OF_SYSTEMD: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

type Job = Box<dyn FnOnce() + Send>;

/// A thread that lasts as long as the gateway. On Linux a worker dies with the thread that started it, and
/// the runtime's own threads may end: one that blocks in place hands its work over and is let go.
static STARTER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = channel::<Job>();
    std::thread::Builder::new()
        .name("worker-starter".to_owned())
        .spawn(move || jobs.into_iter().for_each(|job| job()))
        .expect("the system has a thread more");
    sender
});

/// A worker's process. Dropping it kills it.
pub struct Process {
    child: Box<dyn ChildWrapper>,
}

impl Process {
    /// Starts `command` with the worker's bootstrap.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub async fn spawn(command: Vec<String>) -> io::Result<Process> {
        let runtime = Handle::current();
        let (told, process) = oneshot::channel();
        let job = Box::new(move || {
            let _entered = runtime.enter();
            // Whoever gave up waiting drops the process, which kills it.
            let _ = told.send(Process::start(&command));
        });
        let gone = || io::Error::other("the thread that starts workers is gone");
        STARTER.send(job).map_err(|_| gone())?;
        process.await.map_err(|_| gone())?
    }

    fn start(command: &[String]) -> io::Result<Process> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is empty"))?;
        let mut command = CommandWrap::with_new(program, |command| {
            command.args(arguments).args(["-c", BOOTSTRAP]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().to_ascii_uppercase().starts_with(SETTINGS_PREFIX) {
                    command.env_remove(name);
                }
            }
            for name in OF_SYSTEMD {
                command.env_remove(name);
            }
            end_with_parent(command);
        });
        command.wrap(KillOnDrop);
        // A group of its own: Ctrl-C in the gateway's console must not reach
        // the worker while the gateway still lets it finish its calls.
        #[cfg(unix)]
        command.wrap(process_wrap::tokio::ProcessGroup::leader());
        // A console of its own, which nobody sees: Ctrl-C and the end of the gateway's must not reach it.
        #[cfg(windows)]
        command.wrap(process_wrap::tokio::CreationFlags(CREATE_NO_WINDOW));
        // With KillOnDrop it is a job that ends with its only handle, so with the gateway too. Terminals
        // that the package starts are in it as well.
        #[cfg(windows)]
        command.wrap(process_wrap::tokio::JobObject);
        #[cfg(windows)]
        super::job::contain();
        Ok(Process { child: command.spawn()? })
    }

    /// The process id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its input and output. Once.
    pub fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let stdin = self.child.stdin().take();
        let stdout = self.child.stdout().take();
        stdin.zip(stdout).expect("both are piped and taken once")
    }

    /// Its standard error. Once.
    pub fn stderr(&mut self) -> ChildStderr {
        self.child.stderr().take().expect("it is piped and taken once")
    }

    /// Kills it without waiting until it is gone.
    pub fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            warn!(%error, "worker process cannot be killed");
        }
    }

    /// Waits until the process is gone, giving it `patience` to end by itself,
    /// and says how it ended.
    pub async fn end(mut self, patience: Option<Duration>) -> String {
        if let Some(patience) = patience
            && let Ok(Ok(status)) = tokio::time::timeout(patience, self.child.wait()).await
        {
            return status.to_string();
        }
        self.kill();
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

/// Asks the kernel to kill the child when the gateway dies, however it dies.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut tokio::process::Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let gateway = getpid();
    // SAFETY: between fork and exec only two system calls are made, which
    // allocate nothing and take no lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(gateway) {
                Ok(())
            } else {
                // The gateway died before the signal was asked for.
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            }
        });
    }
}

/// Elsewhere the job object (Windows) or the closed input ends the child.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut tokio::process::Command) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_worker_outlives_the_thread_that_asked_for_it() {
        let command = ["sh", "-c", "read line; exit 7", "worker"].map(str::to_owned).to_vec();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let asked = std::thread::spawn(move || handle.block_on(Process::spawn(command)));
        let mut process = asked.join().unwrap().unwrap();
        let status = runtime.block_on(async {
            drop(process.pipes());
            process.end(Some(Duration::from_secs(10))).await
        });
        assert_eq!(status, "exit status: 7");
    }
}

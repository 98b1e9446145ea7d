//! The service manager of Windows: installs, starts and stops the service, and runs as one.

mod event_source;
mod host;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use windows_service::Error;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceExitCode,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState,
    ServiceStatus, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_SERVICE_ACCOUNT, ERROR_SERVICE_ALREADY_RUNNING,
    ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS, ERROR_SERVICE_LOGON_FAILED,
    ERROR_SERVICE_MARKED_FOR_DELETE, ERROR_SERVICE_NOT_ACTIVE,
};

pub use self::host::{Stops, run};
use super::command::{Account, ExitCode, State, Status, Waiting, waiting};

const DESCRIPTION: &str = "A pool of MetaTrader 5 terminals as one REST service";

/// When a service that failed is started again: after its first failure, its second, and each one more.
const RESTART_AFTER: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

/// After this time without a failure the next one is the first again.
const FORGET_FAILURES_AFTER: Duration = Duration::from_secs(86_400);

/// How often a service on its way to a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a service may show no progress, if it says nothing itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// The exit code of `status` when there is no such service, as that of `systemctl status`.
const NOT_INSTALLED: u8 = 4;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What to tell.
    pub message: String,
}

type Outcome<T> = Result<T, Failure>;

fn failure(message: String) -> Failure {
    Failure { code: 1, message }
}

/// What is registered.
pub struct Plan {
    /// The name of the service.
    pub name: String,
    /// The program that the service manager starts.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Whom it runs as.
    pub account: Account,
    /// The password of this account, if it needs one.
    pub password: Option<String>,
    /// How long the end may take when the machine shuts down.
    pub stop_limit: Duration,
}

/// Registers the service and its event source. Returns what could not be configured: a service that is
/// not restarted, for example, is better than none.
///
/// # Errors
/// Why that is not possible. Nothing is registered then.
pub fn install(plan: Plan) -> Outcome<Vec<String>> {
    let name = plan.name.clone();
    let info = ServiceInfo {
        name: OsString::from(&plan.name),
        display_name: OsString::from(&plan.name),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: plan.program,
        launch_arguments: plan.arguments,
        dependencies: vec![],
        account_name: Some(OsString::from(plan.account.name)),
        account_password: plan.password.map(OsString::from),
    };
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    // To restart the service after a failure needs the right to start it.
    let rights = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::DELETE;
    let service = ServiceManager::local_computer(None::<&str>, access)
        .and_then(|manager| manager.create_service(&info, rights))
        .map_err(|error| explain(&name, "cannot be installed", &error))?;
    if let Err(fault) = event_source::register(&name) {
        let _ = service.delete();
        return Err(failure(format!("event source {name} cannot be added: {fault}")));
    }
    Ok(configure(&service, plan.stop_limit))
}

fn configure(service: &Service, stop_limit: Duration) -> Vec<String> {
    let restart = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
    let failure_actions = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGET_FAILURES_AFTER),
        reboot_msg: None,
        command: None,
        actions: Some(RESTART_AFTER.map(restart).into()),
    };
    let done = [
        ("description", service.set_description(DESCRIPTION)),
        ("delayed start", service.set_delayed_auto_start(true)),
        ("time to stop when the machine shuts down", service.set_preshutdown_timeout(stop_limit)),
        ("restart after failures", service.update_failure_actions(failure_actions)),
        // A gateway that failed reports an exit code, and does not crash.
        ("restart after exit codes", service.set_failure_actions_on_non_crash_failures(true)),
    ];
    let refused = |(what, done): (&str, Result<(), Error>)| {
        done.err().map(|error| format!("{what} cannot be configured: {}", reason(&error)))
    };
    done.into_iter().filter_map(refused).collect()
}

/// Stops the service and removes it and its event source.
///
/// # Errors
/// Why that is not possible.
pub fn uninstall(name: &str) -> Outcome<()> {
    stop(name)?;
    let service = open(name, ServiceAccess::DELETE)?;
    service.delete().map_err(|error| explain(name, "cannot be removed", &error))?;
    event_source::remove(name)
        .map_err(|fault| failure(format!("event source {name} cannot be removed: {fault}")))
}

/// Starts the service and waits until it listens. One that is running already is left alone.
///
/// # Errors
/// Why it does not run.
pub fn start(name: &str) -> Outcome<Status> {
    let service = open(name, ServiceAccess::START | ServiceAccess::QUERY_STATUS)?;
    match service.start::<&str>(&[]) {
        Err(error) if code(&error) == Some(ERROR_SERVICE_ALREADY_RUNNING) => {}
        started => started.map_err(|error| explain(name, "cannot be started", &error))?,
    }
    wait(&service, name, State::Running)
}

/// Stops the service and waits until it has ended. One that has is left alone.
///
/// # Errors
/// Why it runs on.
pub fn stop(name: &str) -> Outcome<Status> {
    let service = open(name, ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)?;
    if query(&service, name)?.0.state == State::Starting {
        // It takes no stop before it listens. If it ends instead, so much the better.
        let _ = wait(&service, name, State::Running);
    }
    if query(&service, name)?.0.state != State::Stopping {
        match service.stop() {
            Err(error) if code(&error) == Some(ERROR_SERVICE_NOT_ACTIVE) => {}
            stopped => drop(stopped.map_err(|error| explain(name, "cannot be stopped", &error))?),
        }
    }
    wait(&service, name, State::Stopped)
}

/// Looks at the service.
///
/// # Errors
/// If there is none, or nobody may look.
pub fn status(name: &str) -> Outcome<Status> {
    let service = open(name, ServiceAccess::QUERY_STATUS)?;
    Ok(query(&service, name)?.0)
}

fn open(name: &str, access: ServiceAccess) -> Outcome<Service> {
    ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .and_then(|manager| manager.open_service(name, access))
        .map_err(|error| explain(name, "cannot be opened", &error))
}

/// The status, and how far the service says that it is.
fn query(service: &Service, name: &str) -> Outcome<(Status, ServiceStatus)> {
    let raw = service.query_status().map_err(|error| explain(name, "cannot be asked", &error))?;
    let status = Status {
        state: state(raw.current_state),
        pid: raw.process_id.filter(|pid| *pid != 0),
        exit_code: match raw.exit_code {
            ServiceExitCode::Win32(error) => ExitCode::Windows(error),
            ServiceExitCode::ServiceSpecific(code) => ExitCode::Gateway(code),
        },
    };
    Ok((status, raw))
}

fn state(state: ServiceState) -> State {
    match state {
        ServiceState::StartPending => State::Starting,
        ServiceState::Running => State::Running,
        ServiceState::StopPending => State::Stopping,
        ServiceState::Stopped => State::Stopped,
        ServiceState::ContinuePending | ServiceState::PausePending | ServiceState::Paused => {
            State::Other
        }
    }
}

/// Waits until the service has come to a state, as long as it makes progress.
fn wait(service: &Service, name: &str, wanted: State) -> Outcome<Status> {
    let mut progress = None;
    let mut since = Instant::now();
    loop {
        let (status, raw) = query(service, name)?;
        match waiting(wanted, status.state) {
            Waiting::Reached => return Ok(status),
            Waiting::Missed => {
                let events = "the event log (Application) and the log file say why";
                return Err(failure(format!("service {name} has not started: {status}; {events}")));
            }
            Waiting::Pending => {}
        }
        let now = Some((status.state, raw.checkpoint));
        if now != progress {
            (progress, since) = (now, Instant::now());
        }
        if since.elapsed() > raw.wait_hint.max(PATIENCE) {
            return Err(failure(format!("service {name} makes no progress: {status}")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The number of an error of Windows.
fn code(error: &Error) -> Option<u32> {
    match error {
        Error::Winapi(error) => error.raw_os_error().and_then(|code| u32::try_from(code).ok()),
        _ => None,
    }
}

fn explain(name: &str, what: &str, error: &Error) -> Failure {
    let (exit_code, remedy) = match code(error) {
        Some(ERROR_SERVICE_DOES_NOT_EXIST) => {
            let message = format!("service {name} is not installed");
            return Failure { code: NOT_INSTALLED, message };
        }
        Some(ERROR_ACCESS_DENIED) => (1, "; use the command line of an administrator"),
        Some(ERROR_SERVICE_EXISTS) => (1, "; `service uninstall` it first"),
        Some(ERROR_SERVICE_MARKED_FOR_DELETE) => {
            (1, "; close the Services window and Task Manager, which keep the removed one")
        }
        Some(ERROR_INVALID_SERVICE_ACCOUNT) => {
            (2, "; there is no such account, or it needs a password")
        }
        Some(ERROR_SERVICE_LOGON_FAILED) => {
            (1, "; the password is wrong, or the account may not log on as a service")
        }
        _ => (1, ""),
    };
    let fault = reason(error);
    Failure { code: exit_code, message: format!("service {name} {what}: {fault}{remedy}") }
}

/// An error in one line.
fn reason(error: &Error) -> String {
    let text = match error {
        Error::Winapi(error) => error.to_string(),
        other => other.to_string(),
    };
    text.replace(['\r', '\n'], " ")
}

//! The process as a service: started by the service manager, stopped by it, and reporting to it.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::warn;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::ServiceStatusHandle;
use windows_service::service_control_handler::{self, ServiceControlHandlerResult};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::ERROR_FAILED_SERVICE_CONTROLLER_CONNECT;

use super::super::{Manager, Phase};
use super::{Failure, code, explain};

/// How long the start may take before the service manager is told more.
const START_HINT: Duration = Duration::from_secs(60);

/// How often the service manager is told that the stop makes progress, and how long it may wait for that.
const STOP_INTERVAL: Duration = Duration::from_secs(1);
const STOP_HINT: Duration = Duration::from_secs(10);

/// What a service does when something asks it to stop: the signals of a process.
pub type Stops = BoxStream<'static, &'static str>;

/// The service itself. It returns the exit code.
type Body = Box<dyn FnOnce(Box<dyn Manager>, Stops) -> u8 + Send>;

// The service manager calls functions without arguments of ours, so these are not passed.
static SERVICE: Mutex<Option<(String, Body)>> = Mutex::new(None);
static STOP: OnceLock<mpsc::UnboundedSender<&'static str>> = OnceLock::new();
static IS_STOPPED: AtomicBool = AtomicBool::new(false);
static ENDED: OnceLock<u8> = OnceLock::new();

/// Runs this process as a service and returns its exit code. Only the service manager can start one.
///
/// # Errors
/// If it did not.
pub fn run(
    name: &str,
    body: impl FnOnce(Box<dyn Manager>, Stops) -> u8 + Send + 'static,
) -> Result<u8, Failure> {
    *SERVICE.lock() = Some((name.to_owned(), Box::new(body)));
    service_dispatcher::start(name, ffi_main).map_err(|error| {
        if code(&error) == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
            let message = "only the service manager runs this: use `service start`".to_owned();
            return Failure { code: 2, message };
        }
        explain(name, "cannot run", &error)
    })?;
    Ok(ENDED.get().copied().unwrap_or(1))
}

define_windows_service!(ffi_main, service_main);

fn service_main(_arguments: Vec<OsString>) {
    let Some((name, body)) = SERVICE.lock().take() else {
        return;
    };
    let (stop, mut stops) = mpsc::unbounded_channel();
    let _ = STOP.set(stop);
    // A function, because the library frees a closure at the first stop, and may call it again.
    let Ok(handle) = service_control_handler::register(&name, control) else {
        return;
    };
    let starting = status(ServiceState::StartPending, 1, START_HINT);
    let _ = handle.set_service_status(starting);
    let stops = futures_util::stream::poll_fn(move |context| stops.poll_recv(context)).boxed();
    let reporter = Box::new(Reporter { handle, checkpoint: 1 });
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| body(reporter, stops))).unwrap_or(1);
    let _ = ENDED.set(ended);
    let mut stopped = status(ServiceState::Stopped, 0, Duration::ZERO);
    stopped.exit_code = match ended {
        0 => ServiceExitCode::NO_ERROR,
        code => ServiceExitCode::ServiceSpecific(code.into()),
    };
    // The process may end at any moment from here on.
    let _ = handle.set_service_status(stopped);
}

fn control(control: ServiceControl) -> ServiceControlHandlerResult {
    let what = match control {
        ServiceControl::Stop => "service stop",
        ServiceControl::Shutdown => "shutdown",
        ServiceControl::Preshutdown => "preshutdown",
        ServiceControl::Interrogate => return ServiceControlHandlerResult::NoError,
        _ => return ServiceControlHandlerResult::NotImplemented,
    };
    // Only the first one: a shutdown that follows a stop must not cut trades as a second Ctrl-C does.
    if !IS_STOPPED.swap(true, Ordering::Relaxed)
        && let Some(stop) = STOP.get()
    {
        let _ = stop.send(what);
    }
    ServiceControlHandlerResult::NoError
}

fn status(state: ServiceState, checkpoint: u32, wait_hint: Duration) -> ServiceStatus {
    let accepted = match state {
        ServiceState::Running => {
            ServiceControlAccept::STOP
                | ServiceControlAccept::SHUTDOWN
                | ServiceControlAccept::PRESHUTDOWN
        }
        _ => ServiceControlAccept::empty(),
    };
    ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: accepted,
        exit_code: ServiceExitCode::NO_ERROR,
        checkpoint,
        wait_hint,
        process_id: None,
    }
}

/// Tells the service manager how far the service is.
struct Reporter {
    handle: ServiceStatusHandle,
    checkpoint: u32,
}

impl Reporter {
    fn set(&self, status: ServiceStatus) {
        if let Err(fault) = self.handle.set_service_status(status) {
            warn!(%fault, "service manager cannot be told about the gateway");
        }
    }
}

impl Manager for Reporter {
    fn tell(&mut self, phase: Phase) {
        match phase {
            Phase::Listening => self.set(status(ServiceState::Running, 0, Duration::ZERO)),
            Phase::Stopping(_) => self.alive(),
        }
    }

    fn interval(&self, phase: Phase) -> Option<Duration> {
        match phase {
            // The service manager watches the process itself.
            Phase::Listening => None,
            Phase::Stopping(_) => Some(STOP_INTERVAL),
        }
    }

    fn alive(&mut self) {
        self.checkpoint += 1;
        self.set(status(ServiceState::StopPending, self.checkpoint, STOP_HINT));
    }
}

//! The command line of mt5-gateway.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use futures_util::Stream;
use futures_util::stream::BoxStream;
use mt5_gateway::control::{HaltCommand, Remote};
use mt5_gateway::service::Manager;
use mt5_gateway::service::command::ServiceCommand;
use mt5_gateway::settings::{SettingFault, Settings};
use mt5_gateway::{app, doctor, service, telemetry, terminal};
use tokio::runtime::Runtime;

#[cfg(windows)]
mod service_command;

/// A request makes some forty allocations, which cost half as much as with the C library's allocator;
/// a gateway at rest takes 2 MB more. ADR 10 has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("MT5_GATEWAY_REVISION"),
    ", ",
    env!("MT5_GATEWAY_TARGET"),
    ")"
);

/// A pool of MetaTrader 5 terminals as one REST service, measured at /metrics.
#[derive(Parser)]
#[command(version = VERSION, after_help = AFTER_HELP)]
struct Arguments {
    /// Settings on top of settings/default.toml and below the accounts store, .env and the environment.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service (default).
    Serve,
    /// Read the settings and print those in force, with secrets hidden.
    CheckConfig,
    /// Print the Python worker, for a host that starts it by hand.
    WorkerScript,
    /// Let the running gateway read its settings again, and say what has changed.
    Reload(RemoteOptions),
    /// The red button: let the running gateway open nothing any more. Closing goes on.
    ///
    /// Of all accounts, unless one is named. A halt outlives the gateway, until it is lifted.
    Halt(HaltOptions),
    /// Look at everything from the settings to a quote, and say what is wrong and what to do.
    ///
    /// Asks the gateway that runs. Where none runs it starts the accounts' terminals without the right to
    /// trade, and ends them again.
    Doctor(DoctorOptions),
    /// Install and control the gateway as a Windows service.
    #[command(subcommand)]
    Service(ServiceCommand),
}

/// What doctor looks at, and how it tells.
#[derive(Args)]
struct DoctorOptions {
    /// Look at this account only.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Print a JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// What is halted.
#[derive(Args)]
struct HaltOptions {
    /// Halt this account only.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Also cancel the resting orders.
    #[arg(long, conflicts_with = "lift")]
    cancel_orders: bool,
    /// Lift the halt: of the account, or the one of all accounts.
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// Which gateway is meant.
#[derive(Args)]
struct RemoteOptions {
    /// Where it is reached; default: MT5_GATEWAY_URL, or the address of `server.listen`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File that holds a key for it; default: MT5_GATEWAY_KEY_FILE. `reload` and a halt of all accounts
    /// need the scope `admin`, a halt of one account `trade`.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl RemoteOptions {
    /// What was given here, or by the environment.
    ///
    /// # Errors
    /// If the URL in the environment is no text.
    fn or_environment(self) -> Result<RemoteOptions, String> {
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let of_environment = || {
            let url = given("MT5_GATEWAY_URL")?.into_string();
            Some(url.map_err(|_| "MT5_GATEWAY_URL is not Unicode".to_owned()))
        };
        let url = self.url.map(Ok).or_else(of_environment).transpose()?;
        let key_file = self.key_file.or_else(|| given("MT5_GATEWAY_KEY_FILE").map(PathBuf::from));
        Ok(RemoteOptions { url, key_file })
    }
}

/// Settings on top of all others. None of them may be a secret: everybody on the machine can read a
/// command line.
#[derive(Args, Clone)]
#[command(next_help_heading = "Settings on top of all others")]
struct Overrides {
    /// Where to listen (server.listen), such as 127.0.0.1:8080.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// How log lines look (log.format): text, json or, on Linux, journald.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Which log lines there are (log.filter), such as debug.
    #[arg(long, global = true, value_name = "FILTER")]
    log_filter: Option<String>,
}

impl Overrides {
    /// The settings that were given, by their keys.
    fn settings(self) -> Vec<(&'static str, String)> {
        let Overrides { listen, log_format, log_filter } = self;
        let all =
            [("server.listen", listen), ("log.format", log_format), ("log.filter", log_filter)];
        all.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()
    }

    /// The options that were given, as they are written.
    #[cfg(windows)]
    fn options(self) -> Vec<(&'static str, String)> {
        let option = |key| match key {
            "server.listen" => "--listen",
            "log.format" => "--log-format",
            _ => "--log-filter",
        };
        self.settings().into_iter().map(|(key, text)| (option(key), text)).collect()
    }
}

const AFTER_HELP: &str = "\
Environment variables:
  MT5_GATEWAY__SECTION__KEY  Any setting, over those of files; two underscores separate the parts:
                             MT5_GATEWAY__SERVER__LISTEN, MT5_GATEWAY__ACCOUNTS__MAIN__PASSWORD.
                             A file .env in the working directory may hold them too, one
                             NAME=value a line.
  MT5_GATEWAY_URL            Where `reload`, `halt` and `doctor` reach the gateway, such as
                             http://127.0.0.1:8080
  MT5_GATEWAY_KEY_FILE       File with the key that they use

Exit codes:
  0  A clean stop
  1  Failed while running; doctor: a check failed
  2  Wrong usage or settings
  3  service status: installed, and not running
  4  service …: not installed

Examples:
  mt5-gateway --listen 127.0.0.1:9000
      Serve a simulated account, without any settings.
  mt5-gateway --config main.toml reload
      Let the running gateway apply what has changed in main.toml.
  mt5-gateway --config main.toml halt --cancel-orders
      Open nothing any more on any account, and cancel what rests.
  mt5-gateway --config main.toml doctor
      Say what keeps the accounts of main.toml from working.
  mt5-gateway --config main.toml check-config
      Check the settings of main.toml and show where each comes from.";

/// A clean end.
const SUCCEEDED: u8 = 0;

/// Failed while running.
const FAILED: u8 = 1;

/// Wrong usage or settings.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    ExitCode::from(run(Arguments::parse()))
}

/// Runs a command and returns its exit code.
fn run(arguments: Arguments) -> u8 {
    let Arguments { config, overrides, command } = arguments;
    match command.unwrap_or(Command::Serve) {
        Command::Serve => start(config.as_deref(), overrides),
        Command::CheckConfig => check_config(config.as_deref(), overrides),
        Command::WorkerScript => print(terminal::worker::SCRIPT),
        Command::Doctor(options) => look(options, config.as_deref(), overrides),
        Command::Reload(options) => {
            ask(options, config.as_deref(), overrides, async |remote| remote.reload().await)
        }
        Command::Halt(options) => {
            let HaltOptions { account, cancel_orders, lift, remote } = options;
            let halt = HaltCommand { account, lift, cancel_orders };
            ask(remote, config.as_deref(), overrides, async |remote| remote.halt(&halt).await)
        }
        Command::Service(command) => control_service(command, config, overrides),
    }
}

/// Reads the settings and runs the gateway.
fn start(config: Option<&Path>, overrides: Overrides) -> u8 {
    // Before anything else: a SIGHUP ends a process that does not listen to it.
    let listening = match Listening::begin() {
        Ok(listening) => listening,
        Err(fault) => {
            tell(&format!("the runtime cannot be started: {fault}"));
            return FAILED;
        }
    };
    match load(config, overrides) {
        Ok(settings) => serve(settings, service::manager(), listening, app::signals),
        Err(code) => code,
    }
}

/// Reads the settings. Fails with the exit code once it has named their faults.
fn load(config: Option<&Path>, overrides: Overrides) -> Result<Settings, u8> {
    let (environment, overrides) = (Settings::environment(), overrides.settings());
    Settings::load(Path::new(""), config, environment, &overrides).map_err(|faults| {
        tell(&describe(&faults));
        MISUSED
    })
}

/// Prints the settings in force.
fn check_config(config: Option<&Path>, overrides: Overrides) -> u8 {
    match load(config, overrides) {
        Ok(settings) => {
            for warning in &settings.warnings {
                tell(&format!("warning: {warning}"));
            }
            print(&settings.describe())
        }
        Err(code) => code,
    }
}

/// Lets a running gateway do something, and prints what it says. The settings here only say where it is.
fn ask(
    options: RemoteOptions,
    config: Option<&Path>,
    overrides: Overrides,
    what: impl AsyncFnOnce(Remote) -> Result<String, String>,
) -> u8 {
    // A fault elsewhere in the settings must not keep anybody from the gateway that runs.
    let listen = || {
        let (environment, overrides) = (Settings::environment(), overrides.settings());
        let inspection = Settings::inspect(Path::new(""), config, environment, &overrides);
        let unknown = || {
            let faults = describe(&inspection.faults);
            format!("{faults}\nso it is not known where the gateway is: give its --url")
        };
        Remote::url_of(inspection.settings.ok_or_else(unknown)?.listen)
    };
    let remote = options.or_environment().and_then(|RemoteOptions { url, key_file }| {
        let url = url.map_or_else(listen, Ok)?;
        Remote::new(&url, key_file.as_deref())
    });
    let done = remote.and_then(|remote| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|fault| fault.to_string())?.block_on(what(remote))
    });
    match done {
        Ok(said) => print(&said),
        Err(reason) => {
            tell(&reason);
            FAILED
        }
    }
}

/// Looks at everything, and prints what was found.
fn look(options: DoctorOptions, config: Option<&Path>, overrides: Overrides) -> u8 {
    let misused = |reason: &str| {
        tell(reason);
        MISUSED
    };
    let DoctorOptions { account, json, remote } = options;
    let RemoteOptions { url, key_file } = match remote.or_environment() {
        Ok(remote) => remote,
        Err(reason) => return misused(&reason),
    };
    // The log is asked for, or the report alone is told.
    let log_filter = overrides.log_filter.clone();
    let overrides = overrides.settings();
    let inspection = Settings::inspect(Path::new(""), config, Settings::environment(), &overrides);
    let log = log_filter.map(|filter| telemetry::Options {
        format: telemetry::LogFormat::Text,
        destination: telemetry::Destination::StandardError,
        filter,
        file: None,
    });
    let (_log, events) = match log.map(|log| telemetry::start(&log)).transpose() {
        Ok(started) => started.unwrap_or_default(),
        Err(error) => return misused(&format!("--log-filter: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("the runtime cannot be started: {error}"));
            return FAILED;
        }
    };
    let options = doctor::Options { account, url, key_file };
    let report = runtime.block_on(doctor::run(inspection, options, events));
    // What hangs on a blocking thread must not keep the process.
    runtime.shutdown_background();
    match report {
        Ok(report) => {
            let printed = print(&if json { report.json() } else { report.text() });
            if report.has_failure() { FAILED } else { printed }
        }
        Err(reason) => misused(&reason),
    }
}

#[cfg(windows)]
use service_command::run as control_service;

#[cfg(not(windows))]
fn control_service(_: ServiceCommand, _: Option<PathBuf>, _: Overrides) -> u8 {
    tell("`service` is for Windows; here use systemd with docs/operations/mt5-gateway.service");
    MISUSED
}

/// The faults of the settings, one per line.
fn describe(faults: &[SettingFault]) -> String {
    let plural = if faults.len() == 1 { "" } else { "s" };
    let mut text = format!("the settings have {} fault{plural}:", faults.len());
    for fault in faults {
        text.push_str(&format!("\n  {fault}"));
    }
    text
}

/// Prints a result. A reader that has seen enough, such as `head -1`, is no failure.
fn print(text: &str) -> u8 {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell(&format!("the result cannot be written: {error}"));
            FAILED
        }
        _ => SUCCEEDED,
    }
}

/// Says something on standard error. A closed standard error is ignored.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A runtime that hears each SIGHUP from the beginning on.
struct Listening {
    runtime: Runtime,
    hangups: BoxStream<'static, ()>,
}

impl Listening {
    fn begin() -> io::Result<Listening> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let hangups = {
            let _within = runtime.enter();
            app::hangups()
        };
        Ok(Listening { runtime, hangups })
    }
}

/// Runs the gateway until `signals`, which are listened to within the runtime.
fn serve<S>(
    settings: Settings,
    manager: Box<dyn Manager>,
    listening: Listening,
    signals: impl FnOnce() -> S,
) -> u8
where
    S: Stream<Item = &'static str> + Unpin,
{
    let (_log, events) = match telemetry::start(&settings.log) {
        Ok(started) => started,
        Err(error) => {
            tell(&format!("log.filter: {error}"));
            return MISUSED;
        }
    };
    for warning in &settings.warnings {
        tracing::warn!(%warning, "setting is probably not what was meant");
    }
    let Listening { runtime, hangups } = listening;
    let result = runtime.block_on(async {
        // From the beginning: a signal ends a process that does not listen to it.
        let signals = signals();
        app::run(settings, events, manager, signals, hangups).await
    });
    // What hangs on a blocking thread must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => SUCCEEDED,
        Err(error) => {
            tracing::error!(%error, "failed");
            FAILED
        }
    }
}

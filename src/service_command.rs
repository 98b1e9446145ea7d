//! `mt5-gateway service …` on Windows.

use std::ffi::OsString;
use std::path::{Path, PathBuf, absolute};

use mt5_gateway::service::command::{
    Account, Install, Run, ServiceCommand, launch_arguments, stop_limit,
};
use mt5_gateway::service::windows::{self, Failure, Plan};
use mt5_gateway::settings::{Settings, read_password_file};
use mt5_gateway::telemetry::{Destination, EventLog, LogFile};

use super::{Listening, MISUSED, Overrides, describe, print, serve, tell};

/// Where a service logs, in its working directory, if the settings name no file. It has no standard error.
const LOG_FILE: LogDefaults =
    LogDefaults { path: "logs/gateway.log", max_size: 100 << 20, keep: 7 };

struct LogDefaults {
    path: &'static str,
    max_size: u64,
    keep: u32,
}

/// Runs the command and returns its exit code.
pub fn run(command: ServiceCommand, config: Option<PathBuf>, overrides: Overrides) -> u8 {
    let done = match command {
        ServiceCommand::Install(options) => install(options, config, overrides),
        ServiceCommand::Uninstall(service) => windows::uninstall(&service.name)
            .map(|()| print(&format!("{}: uninstalled\n", service.name))),
        ServiceCommand::Start(service) => windows::start(&service.name)
            .map(|status| print(&format!("{}: {status}\n", service.name))),
        ServiceCommand::Stop(service) => windows::stop(&service.name)
            .map(|status| print(&format!("{}: {status}\n", service.name))),
        ServiceCommand::Status(service) => windows::status(&service.name).map(|status| {
            print(&format!("{}: {status}\n", service.name));
            status.code()
        }),
        ServiceCommand::Run(options) => host(options, config, overrides),
    };
    done.unwrap_or_else(|Failure { code, message }| {
        tell(&message);
        code
    })
}

fn misused(message: String) -> Failure {
    Failure { code: MISUSED, message }
}

/// Checks the settings and registers the service. The variables of this session are none of its own, so
/// settings among them do not count.
fn install(options: Install, config: Option<PathBuf>, overrides: Overrides) -> Result<u8, Failure> {
    let name = options.service.name;
    let whole = |path: &Path| {
        absolute(path).map_err(|fault| misused(format!("{}: {fault}", path.display())))
    };
    let directory = whole(options.directory.as_deref().unwrap_or(Path::new(".")))?;
    if !directory.is_dir() {
        return Err(misused(format!("{} is no directory", directory.display())));
    }
    let config = config.as_deref().map(whole).transpose()?;
    let no_environment = std::iter::empty::<(OsString, OsString)>();
    let settings = overrides.clone().settings();
    let settings = Settings::load(&directory, config.as_deref(), no_environment, &settings)
        .map_err(|faults| misused(describe(&faults)))?;
    for warning in &settings.warnings {
        tell(&format!("warning: {warning}"));
    }
    let account = Account::new(options.user.as_deref(), &name);
    let password = match options.password_file {
        Some(file) => Some(read_password_file(&file).map_err(misused)?),
        None if account.needs_password => {
            let message = format!("{} needs its password: --password-file FILE", account.name);
            return Err(misused(message));
        }
        None => None,
    };
    let program = std::env::current_exe()
        .map_err(|fault| misused(format!("this program cannot be found: {fault}")))?;
    let arguments = launch_arguments(&name, &directory, config.as_deref(), &overrides.options());
    let user = account.name.clone();
    let refused = windows::install(Plan {
        name: name.clone(),
        program,
        arguments,
        account,
        password,
        stop_limit: stop_limit(settings.shutdown_grace),
    })?;
    for warning in refused {
        tell(&format!("warning: {warning}"));
    }
    Ok(print(&format!(
        "{name}: installed, runs as {user} in {}; `service start` starts it\n",
        directory.display()
    )))
}

/// Runs the gateway as the service that the service manager started.
fn host(options: Run, config: Option<PathBuf>, overrides: Overrides) -> Result<u8, Failure> {
    let Run { service, directory } = options;
    // It is needed as long as the process lives.
    let source: &'static str = service.name.clone().leak();
    windows::run(&service.name, move |manager, stops| {
        let refuse = |text: &str| {
            EventLog::new(source).error(text);
            MISUSED
        };
        if let Err(fault) = std::env::set_current_dir(&directory) {
            let directory = directory.display();
            return refuse(&format!("{directory} cannot be the working directory: {fault}"));
        }
        let environment = Settings::environment();
        let overrides = overrides.settings();
        match Settings::load(Path::new(""), config.as_deref(), environment, &overrides) {
            Ok(mut settings) => {
                settings.log.destination = Destination::EventLog(source);
                let LogDefaults { path, max_size, keep } = LOG_FILE;
                let file = LogFile { path: path.into(), max_size, keep };
                settings.log.file.get_or_insert(file);
                match Listening::begin() {
                    Ok(listening) => serve(settings, manager, listening, || stops),
                    Err(fault) => refuse(&format!("the runtime cannot be started: {fault}")),
                }
            }
            Err(faults) => refuse(&describe(&faults)),
        }
    })
}

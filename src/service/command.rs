//! `mt5-gateway service …`: what its options mean, without asking Windows anything.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

/// The name of the service, if none is given.
const NAME: &str = "mt5-gateway";

/// The longest name of a service. Windows takes longer ones, but not as the name of a virtual account.
const LONGEST_NAME: usize = 80;

/// `mt5-gateway service …`
#[derive(Debug, Clone, Subcommand)]
pub enum ServiceCommand {
    /// Register the service. It then starts with the machine, and again when it fails.
    Install(Install),
    /// Stop the service and remove it. Its files stay.
    Uninstall(Named),
    /// Start the service, and wait until it listens.
    Start(Named),
    /// Stop the service, and wait until it has ended.
    Stop(Named),
    /// Print one line about the service. Exit code: 0 runs, 3 does not run, 4 is not installed.
    Status(Named),
    /// What the service manager starts.
    #[command(hide = true)]
    Run(Run),
}

/// Which service.
#[derive(Debug, Clone, Args)]
pub struct Named {
    /// The name of the service.
    #[arg(long, default_value = NAME, value_parser = name)]
    pub name: String,
}

/// How to install the service.
#[derive(Debug, Clone, Args)]
pub struct Install {
    /// Which service.
    #[command(flatten)]
    pub service: Named,
    /// The working directory of the service; default: the present one.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// The account that it runs as; default: its own virtual account, `NT SERVICE\NAME`.
    #[arg(long, value_name = "ACCOUNT")]
    pub user: Option<String>,
    /// A file with the password of this account, if it needs one.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// What the service manager says when it starts the service.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Which service.
    #[command(flatten)]
    pub service: Named,
    /// The working directory.
    #[arg(long)]
    pub directory: PathBuf,
}

/// Letters, digits, `-`, `_` and `.`: what is a good name of a service, an event source and an account.
fn name(text: &str) -> Result<String, String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected up to {LONGEST_NAME} letters, digits, `-`, `_` or `.`"))
    }
}

/// The account that a service runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As the service manager takes it.
    pub name: String,
    /// Whether Windows asks for its password.
    pub needs_password: bool,
}

impl Account {
    /// The account that `--user` names. Names of built-in accounts may be short.
    pub fn new(user: Option<&str>, service: &str) -> Account {
        let without = |name: String| Account { name, needs_password: false };
        let Some(user) = user else {
            // It exists as soon as the service does, has no password, and no rights but those that
            // somebody gives to it.
            return without(format!(r"NT SERVICE\{service}"));
        };
        let (domain, short) = user.rsplit_once('\\').unwrap_or(("", user));
        let is_built_in =
            ["", ".", "NT AUTHORITY"].iter().any(|of| of.eq_ignore_ascii_case(domain));
        match short.replace(' ', "").to_ascii_lowercase().as_str() {
            "localservice" if is_built_in => without(r"NT AUTHORITY\LocalService".to_owned()),
            "networkservice" if is_built_in => without(r"NT AUTHORITY\NetworkService".to_owned()),
            "localsystem" | "system" if is_built_in => without("LocalSystem".to_owned()),
            // Virtual accounts, and accounts whose password the domain manages.
            _ if domain.eq_ignore_ascii_case("NT SERVICE") || short.ends_with('$') => {
                without(user.to_owned())
            }
            _ if domain.is_empty() && !user.contains('@') => {
                Account { name: format!(r".\{user}"), needs_password: true }
            }
            _ => Account { name: user.to_owned(), needs_password: true },
        }
    }
}

/// The arguments with which the service manager starts the service. `settings` are options of the
/// command line that override settings, with their values.
pub fn launch_arguments(
    service: &str,
    directory: &Path,
    config: Option<&Path>,
    settings: &[(&str, String)],
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["service", "run", "--name", service, "--directory"].map(OsString::from).into();
    arguments.push(directory.into());
    if let Some(config) = config {
        arguments.extend(["--config".into(), config.into()]);
    }
    for (option, value) in settings {
        // In one word, so that a value may begin with a hyphen.
        arguments.push(format!("{option}={value}").into());
    }
    arguments
}

/// How long the service manager waits for the end when the machine shuts down.
pub fn stop_limit(grace: Duration) -> Duration {
    grace + super::BEYOND_THE_GRACE
}

/// A state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not listening yet.
    Starting,
    /// It listens.
    Running,
    /// It finishes what is under way.
    Stopping,
    /// It has ended, or was never started.
    Stopped,
    /// Paused, or about to be: nothing that the gateway does.
    Other,
}

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// An error of Windows, or 0.
    Windows(u32),
    /// The exit code of the gateway.
    Gateway(u32),
}

/// ERROR_SERVICE_NEVER_STARTED
const NEVER_STARTED: u32 = 1077;

impl From<u8> for ExitCode {
    fn from(code: u8) -> ExitCode {
        match code {
            0 => ExitCode::Windows(0),
            code => ExitCode::Gateway(code.into()),
        }
    }
}

/// What `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// How far it is.
    pub state: State,
    /// Its process, if it has one.
    pub pid: Option<u32>,
    /// How it ended, if it has.
    pub exit_code: ExitCode,
}

impl Status {
    /// The exit code of `mt5-gateway service status`, as that of `systemctl status`.
    pub fn code(self) -> u8 {
        match self.state {
            State::Running => 0,
            State::Starting | State::Stopping | State::Stopped | State::Other => 3,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.state {
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Other => "paused",
        })?;
        if let Some(pid) = self.pid {
            write!(formatter, ", pid {pid}")?;
        }
        match (self.state, self.exit_code) {
            (State::Stopped, ExitCode::Windows(NEVER_STARTED)) => {
                formatter.write_str(", not started since the machine was")
            }
            (State::Stopped, ExitCode::Windows(0)) => formatter.write_str(", exit code 0"),
            (State::Stopped, ExitCode::Windows(error)) => {
                write!(formatter, ", error {error} of Windows")
            }
            (State::Stopped, ExitCode::Gateway(code)) => write!(formatter, ", exit code {code}"),
            _ => Ok(()),
        }
    }
}

/// What to do next while a service is on its way to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It is there.
    Reached,
    /// Look again.
    Pending,
    /// It ended, or was ended, instead.
    Missed,
}

/// How far a service is on its way to run, or to be stopped.
pub fn waiting(wanted: State, present: State) -> Waiting {
    match (wanted, present) {
        (wanted, present) if wanted == present => Waiting::Reached,
        (State::Running, State::Starting) => Waiting::Pending,
        (State::Running, State::Stopping | State::Stopped) => Waiting::Missed,
        // It was asked to stop, and may not have said so yet.
        (_, _) => Waiting::Pending,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[arg(long, global = true)]
        config: Option<PathBuf>,
        #[arg(long, global = true)]
        log_filter: Option<String>,
        #[command(subcommand)]
        command: ServiceCommand,
    }

    #[test]
    fn an_account_is_named_as_the_service_manager_takes_it() {
        let cases = [
            (None, r"NT SERVICE\gw", false),
            (Some("LocalService"), r"NT AUTHORITY\LocalService", false),
            (Some(r"nt authority\local service"), r"NT AUTHORITY\LocalService", false),
            (Some("NetworkService"), r"NT AUTHORITY\NetworkService", false),
            (Some("system"), "LocalSystem", false),
            (Some(r".\LocalSystem"), "LocalSystem", false),
            (Some(r"NT SERVICE\other"), r"NT SERVICE\other", false),
            (Some(r"DOMAIN\managed$"), r"DOMAIN\managed$", false),
            (Some("mt5"), r".\mt5", true),
            (Some(r".\mt5"), r".\mt5", true),
            (Some(r"DOMAIN\system"), r"DOMAIN\system", true),
            (Some("mt5@example.com"), "mt5@example.com", true),
        ];
        for (user, name, needs_password) in cases {
            let expected = Account { name: name.to_owned(), needs_password };
            assert_eq!(Account::new(user, "gw"), expected, "{user:?}");
        }
    }

    #[test]
    fn the_service_understands_what_it_is_started_with() {
        let directory = Path::new("C:\\mt5 gateway\\Zürich");
        let config = Path::new("C:\\mt5 gateway\\gateway.toml");
        let settings = [("--log-filter", "-x=\"y z\"".to_owned())];
        let arguments = launch_arguments("gw-2", directory, Some(config), &settings);
        let program = std::iter::once(OsString::from("service"));
        let parsed = CommandLine::try_parse_from(program.chain(arguments.into_iter().skip(1)));
        let parsed = parsed.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(parsed.config.as_deref(), Some(config));
        assert_eq!(parsed.log_filter.as_deref(), Some("-x=\"y z\""));
        let ServiceCommand::Run(run) = parsed.command else { panic!("{:?}", parsed.command) };
        assert_eq!((run.service.name.as_str(), run.directory.as_path()), ("gw-2", directory));
        let without = launch_arguments("gw", directory, None, &[]);
        assert_eq!(without.len(), 6);
    }

    #[test]
    fn a_name_has_no_characters_that_paths_or_accounts_lack() {
        for good in ["mt5-gateway", "a", "A.b_2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for bad in ["", "a b", r"a\b", "a/b", "ü", long.as_str()] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_status_is_one_line_and_an_exit_code() {
        let cases = [
            (State::Running, Some(42), ExitCode::Windows(0), "running, pid 42", 0),
            (State::Starting, Some(42), ExitCode::Windows(0), "starting, pid 42", 3),
            (State::Stopping, Some(42), ExitCode::Windows(0), "stopping, pid 42", 3),
            (State::Stopped, None, ExitCode::from(0), "stopped, exit code 0", 3),
            (State::Stopped, None, ExitCode::from(2), "stopped, exit code 2", 3),
            (State::Stopped, None, ExitCode::Windows(1067), "stopped, error 1067 of Windows", 3),
            (
                State::Stopped,
                None,
                ExitCode::Windows(1077),
                "stopped, not started since the machine was",
                3,
            ),
        ];
        for (state, pid, exit_code, line, code) in cases {
            let status = Status { state, pid, exit_code };
            assert_eq!((status.to_string().as_str(), status.code()), (line, code));
        }
    }

    #[test]
    fn a_start_ends_when_the_service_runs_or_has_ended_and_a_stop_when_it_has() {
        use State::{Running, Starting, Stopped, Stopping};
        let cases = [
            (Running, Starting, Waiting::Pending),
            (Running, Running, Waiting::Reached),
            (Running, Stopping, Waiting::Missed),
            (Running, Stopped, Waiting::Missed),
            (Stopped, Running, Waiting::Pending),
            (Stopped, Stopping, Waiting::Pending),
            (Stopped, Stopped, Waiting::Reached),
        ];
        for (wanted, present, expected) in cases {
            assert_eq!(waiting(wanted, present), expected, "{wanted:?} {present:?}");
        }
    }
}

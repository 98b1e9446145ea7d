//! The command line of mt5-gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mt5_gateway::settings::Settings;
use mt5_gateway::{app, telemetry, terminal};

/// A pool of MetaTrader 5 terminals as one REST service, measured at /metrics.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings on top of settings/default.toml and below .env and the environment.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Clone, Copy)]
enum Command {
    /// Run the service (default).
    Serve,
    /// Read the settings and print those in force, with secrets hidden.
    CheckConfig,
    /// Print the Python worker, for a host that starts it by hand.
    WorkerScript,
}

/// Wrong usage or settings.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve);
    if let Command::WorkerScript = command {
        print!("{}", terminal::worker::SCRIPT);
        return ExitCode::SUCCESS;
    }
    let settings =
        Settings::load(Path::new("."), arguments.config.as_deref(), Settings::environment());
    let settings = match settings {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("the settings have {} fault(s):", faults.len());
            for fault in faults {
                eprintln!("  {fault}");
            }
            return ExitCode::from(MISUSED);
        }
    };
    if let Command::CheckConfig = command {
        print!("{}", settings.describe());
        for warning in &settings.warnings {
            eprintln!("warning: {warning}");
        }
        return ExitCode::SUCCESS;
    }
    serve(settings)
}

fn serve(settings: Settings) -> ExitCode {
    let (_log, events) = match telemetry::start(&settings.log) {
        Ok(started) => started,
        Err(error) => {
            eprintln!("log.filter: {error}");
            return ExitCode::from(MISUSED);
        }
    };
    for warning in &settings.warnings {
        tracing::warn!(%warning, "setting is probably not what was meant");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(app::run(settings, events));
    // What hangs on a blocking thread must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "failed");
            ExitCode::FAILURE
        }
    }
}

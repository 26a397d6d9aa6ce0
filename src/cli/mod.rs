//! The commands: what a person or a script types, and what they read.
//!
//! The only room beside `daemon` that knows every other, and the only one that prints. A file is a command family;
//! `args` defines the command line, `output` and `line` say how results look. Nothing knows this room but `main`.

pub mod args;
mod check;
pub mod line;
pub mod output;
mod packaging;
mod schema;
mod seams;
mod simulator;
mod tail;
mod topics;

pub use args::Cli;

use crate::config::{Config, Secrets};
use crate::exit::Exit;
use args::{Command, Global};
use output::Output;
use seams::kafka::StartError;
use seams::{config, daemon, demo, telemetry};
use std::future::Future;
use std::path::PathBuf;

/// Where packages put the settings; read when no file is named and this one is there.
const DEFAULT_FILE: &str = "/etc/pepay-relay/pepay-relay.toml";

/// Runs one command to its end.
///
/// # Errors
///
/// What the process exits with, and what stderr is told.
pub fn run(cli: Cli) -> Result<(), Exit> {
    let Cli { global, command } = cli;
    let output = Output::stdout(global.output);
    match command {
        Command::Run => daemon::run(settings(&global)?),
        Command::Demo(arguments) => demo::run(&arguments, &global, output),
        Command::Check(arguments) => check::run(&arguments, &global, output),
        Command::Topics(arguments) => {
            let settings = settings_for_command(&global)?;
            topics::run(&arguments, &settings, output)
        }
        Command::Tail(arguments) => {
            let settings = settings_for_command(&global)?;
            wait_for(tail::run(&arguments, &settings, output))
        }
        Command::Simulator(arguments) => {
            telemetry::logs(global.log_level.map_or("info", args::LogLevel::as_str), global.log_format);
            wait_for(simulator::run(&arguments))
        }
        Command::Schema => schema::run(output),
        Command::Completions(arguments) => packaging::completions(&arguments),
        Command::Man(arguments) => packaging::man(&arguments),
    }
}

/// What a command works with, once the settings are known to be right.
#[derive(Debug)]
struct Settings {
    config: Config,
    secrets: Secrets,
    /// What is right and yet worth a look, a sentence each.
    warnings: Vec<String>,
    /// Where they were read from; none: environment and defaults alone.
    file: Option<PathBuf>,
}

/// Reads the settings, the command line over them.
///
/// # Errors
///
/// Status 78 and every mistake at once.
fn settings(global: &Global) -> Result<Settings, Exit> {
    let file = global.config.clone().or_else(default_file);
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment enters the settings")]
    let (environment, credentials) = (std::env::vars_os(), std::env::var_os("CREDENTIALS_DIRECTORY"));
    let (mut config, secrets, warnings) =
        config::load(file.as_deref(), environment, credentials.as_deref())
            .map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
    if let Some(level) = global.log_level {
        level.as_str().clone_into(&mut config.log.level);
    }
    if let Some(format) = global.log_format {
        config.log.format = format;
    }
    Ok(Settings { config, secrets, warnings, file })
}

/// The settings for a command other than `run`: it logs only what is wrong unless asked, since its results are what
/// its reader came for.
fn settings_for_command(global: &Global) -> Result<Settings, Exit> {
    let settings = settings(global)?;
    telemetry::logs(global.log_level.map_or("warn", args::LogLevel::as_str), Some(settings.config.log.format));
    Ok(settings)
}

/// A directory that may not be searched counts as there: reading the file then says so, and nobody wonders why the
/// settings are not taken.
fn default_file() -> Option<PathBuf> {
    let file = PathBuf::from(DEFAULT_FILE);
    file.try_exists().unwrap_or(true).then_some(file)
}

/// Runs a command that waits for others, on this thread.
fn wait_for(command: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?.block_on(command)
}

/// Ends well when the person at the terminal has seen enough: commands that follow end by Ctrl-C.
async fn interrupted() -> Result<(), Exit> {
    tokio::signal::ctrl_c().await.map_err(|error| Exit::failed(format!("cannot wait for Ctrl-C: {error}")))
}

/// Status 77 where Kafka refused, 1 for any other trouble of reaching it.
fn start_failed(error: &StartError) -> Exit {
    if error.is_denied() { Exit::denied(error.to_string()) } else { Exit::failed(error.to_string()) }
}

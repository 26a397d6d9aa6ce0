//! The commands: what a person or a script types, and what they read.
//!
//! The only room beside `daemon` that knows every other, and the only one that prints. A file is a command family;
//! `args` defines the command line, `output` and `line` say how results look. Nothing knows this room but `main`.

pub mod args;
mod check;
mod demo;
pub mod line;
pub mod output;
mod packaging;
mod run;
mod schema;
mod simulator;
mod tail;
mod topics;

pub use args::Cli;

use crate::config::{self, Config, LogFormat, Secrets, Sources, Warning};
use crate::exit::Exit;
use crate::telemetry::logs::Logs;
use args::{Command, Global};
use output::Output;
use std::future::Future;

/// Runs one command to its end.
///
/// # Errors
///
/// What the process exits with, and what stderr is told.
pub fn run(cli: Cli) -> Result<(), Exit> {
    let Cli { global, command } = cli;
    let output = Output::stdout(global.output);
    match command {
        Command::Run => run::run(sources(&global)),
        Command::Demo(arguments) => wait_for(demo::run(&arguments, output)),
        Command::Check(arguments) => check::run(&arguments, &global, output),
        Command::Topics(arguments) => {
            let settings = settings_for_command(&global)?;
            wait_for(topics::run(&arguments, &settings, output))
        }
        Command::Tail(arguments) => {
            let settings = settings_for_command(&global)?;
            wait_for(tail::run(&arguments, &settings, output))
        }
        Command::Simulator(arguments) => {
            logs(global.log_level.map_or("info", args::LogLevel::as_str), &global, LogFormat::Auto)?;
            wait_for(simulator::run(&arguments, output))
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
    /// What is right and yet worth a look.
    warnings: Vec<Warning>,
    /// Where they were read from, for a person.
    place: String,
}

/// The command line, the environment and the file, in the order in which they win.
fn sources(global: &Global) -> Sources {
    let mut sources = Sources::from_process(global.config.clone());
    sources.flags.extend(global.log_level.map(|level| ("log.level", level.as_str().to_owned())));
    sources.flags.extend(global.log_format.map(|format| ("log.format", format.as_str().to_owned())));
    sources
}

/// Reads the settings; status 78 and every mistake at once when any is wrong.
fn load(sources: &Sources) -> Result<Settings, Exit> {
    let loaded = config::load(sources).map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
    let place = sources.file.as_ref().map_or("environment and defaults".to_owned(), |file| file.display().to_string());
    Ok(Settings { config: loaded.config, secrets: loaded.secrets, warnings: loaded.warnings, place })
}

/// The settings for a command other than `run`: it logs only what is wrong unless asked, since its results are what
/// its reader came for.
fn settings_for_command(global: &Global) -> Result<Settings, Exit> {
    let settings = load(&sources(global))?;
    logs(global.log_level.map_or("warn", args::LogLevel::as_str), global, settings.config.log.format)?;
    Ok(settings)
}

fn logs(level: &str, global: &Global, format: LogFormat) -> Result<Logs, Exit> {
    Logs::init(level, global.log_format.unwrap_or(format)).map_err(|error| Exit::failed(error.to_string()))
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

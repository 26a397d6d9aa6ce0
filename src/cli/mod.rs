//! The commands: what a person or a script types, and what they read.
//!
//! The only room alongside `daemon` that knows every other, and the only one that prints. A file is a command family, with
//! its arguments; `command` lists them, `args` has what many of them take, `output` and `line` define how results look.
//! Nothing knows this room but `main`.

mod account;
mod args;
mod asyncapi;
mod availability;
mod check;
mod checkout;
mod client;
mod command;
mod demo;
mod devnet;
mod events;
mod forget;
pub mod line;
mod orders;
pub mod output;
mod packaging;
mod payments;
mod products;
mod replay;
mod run;
mod schema;
mod simulator;
mod smoke;
mod status;
mod tail;
mod topics;
mod values;
mod webhook;

pub use command::Cli;

use crate::config::{self, Config, Loaded, LogFormat, Secrets, Sources, Warning};
use crate::exit::Exit;
use crate::telemetry::logs::Logs;
use args::{Global, LogLevel};
use clap::{CommandFactory, ValueEnum};
use client::Client;
use command::Command;
use output::Output;
use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};

/// Runs one command to its end.
///
/// # Errors
///
/// What the process exits with, and what stderr gets.
pub fn run(cli: Cli) -> Result<(), Exit> {
    let Cli { global, command } = cli;
    let output = Output::stdout(global.output);
    if global.account.is_some() && !command.speaks_to_the_provider() {
        return Err(Exit::usage("--account is for commands that speak to the provider; leave it out"));
    }
    match command {
        Command::Run(arguments) => run::run(&arguments, settings(&global)?),
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
        Command::Status(arguments) => {
            let config = config_for_status(&global)?;
            wait_for(status::run(&arguments, &config, output))
        }
        Command::Availability => wait_for(availability::run(&Client::new(&global, output)?)),
        Command::Products(arguments) => wait_for(products::run(&arguments, &Client::new(&global, output)?)),
        Command::Checkout(arguments) => wait_for(checkout::run(&arguments, &Client::new(&global, output)?)),
        Command::Payments(arguments) => wait_for(payments::run(&arguments, &Client::new(&global, output)?)),
        Command::Orders(arguments) => wait_for(orders::run(&arguments, &Client::new(&global, output)?)),
        Command::Devnet(arguments) => wait_for(devnet::run(&arguments, &Client::new(&global, output)?)),
        Command::Events(arguments) => wait_for(events::run(&arguments, &Client::new(&global, output)?)),
        Command::Webhook(arguments) => {
            let own = webhook::settings(&global)?;
            wait_for(webhook::run(&arguments, &own, output))
        }
        Command::Replay(arguments) => {
            let (settings, account) = account::narrowed(settings_for_command(&global)?, global.account.as_deref())?;
            wait_for(replay::run(&arguments, &settings, &account, output))
        }
        Command::Forget(arguments) => {
            let settings = settings_for_command(&global)?;
            wait_for(forget::run(&arguments, &settings, output))
        }
        Command::Smoke(arguments) => {
            let (settings, account) = account::narrowed(settings(&global)?, global.account.as_deref())?;
            // What a relay inside warns of are topics that live for a minute.
            log(global.log_level.unwrap_or(LogLevel::Error), settings.config.log.format)?;
            wait_for(smoke::run(&arguments, &settings, &account, output))
        }
        Command::Simulator(arguments) => {
            log(global.log_level.unwrap_or(LogLevel::Info), global.log_format.unwrap_or(LogFormat::Auto))?;
            wait_for(simulator::run(&arguments, output))
        }
        Command::Schema(arguments) => schema::run(&arguments, output),
        Command::Completions(arguments) => packaging::completions(&arguments, &mut Cli::command()),
        Command::Man(arguments) => packaging::man(&arguments, Cli::command()),
    }
}

/// What a command works with, once the settings are known to be right.
#[derive(Debug)]
pub(crate) struct Context {
    /// All settings, the command line over them.
    pub(crate) config: Config,
    /// The secrets that they need.
    pub(crate) secrets: Secrets,
    /// What is right and yet worth a look.
    pub(crate) warnings: Vec<Warning>,
    /// What they were read from, to read it again on SIGHUP.
    pub(crate) sources: Sources,
}

/// What the settings are read from: the file, the environment, and the command line over both.
fn sources(global: &Global) -> Sources {
    let mut sources = Sources::from_process(global.config.clone());
    if let Some(level) = global.log_level {
        sources.flags.insert("log.level", level.as_str().to_owned());
    }
    if let Some(format) = global.log_format.and_then(|format| format.to_possible_value()) {
        sources.flags.insert("log.format", format.get_name().to_owned());
    }
    sources
}

/// The settings for a command that asks the running relay alone: a user who may not read a secret can run it.
fn config_for_status(global: &Global) -> Result<Config, Exit> {
    let config = config::for_status(&sources(global)).map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
    log(global.log_level.unwrap_or(LogLevel::Warn), config.log.format)?;
    Ok(config)
}

/// Reads the settings.
///
/// # Errors
///
/// Status 78 and every mistake at once.
fn settings(global: &Global) -> Result<Context, Exit> {
    let sources = sources(global);
    let Loaded { config, secrets, warnings } =
        config::load(&sources).map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
    Ok(Context { config, secrets, warnings, sources })
}

/// The settings for a command other than `run`: it logs only what is wrong unless asked, since its results are what
/// its reader came for.
fn settings_for_command(global: &Global) -> Result<Context, Exit> {
    let settings = settings(global)?;
    log(global.log_level.unwrap_or(LogLevel::Warn), settings.config.log.format)?;
    Ok(settings)
}

/// Logs to stderr from here on.
fn log(level: LogLevel, format: LogFormat) -> Result<(), Exit> {
    Logs::init(level.as_str(), format).map(drop).map_err(|error| Exit::failed(error.to_string()))
}

/// Runs a command that waits for others, on this thread.
fn wait_for(command: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?.block_on(command)
}

/// Ends well when the person at the terminal has seen enough: commands that follow end by Ctrl-C, and by SIGTERM, with
/// which a CI or a container ends what takes too long.
async fn interrupted() -> Result<(), Exit> {
    let cannot = |error: std::io::Error| Exit::failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map_err(cannot),
        _ = terminate.recv() => Ok(()),
    }
}

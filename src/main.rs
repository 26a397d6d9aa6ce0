//! Parses the command line, runs the command, and maps its end to an exit status.

use clap::Parser;
use pepay_relay::cli::{self, Cli};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Wrong usage ends here with status 2, `--help` and `--version` with 0.
    let cli = Cli::parse();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            if !exit.message().is_empty() {
                // Nobody can be reached when stderr is gone too; the status still shows it.
                let _ = writeln!(std::io::stderr(), "pepay-relay: {exit}");
            }
            ExitCode::from(exit.status())
        }
    }
}

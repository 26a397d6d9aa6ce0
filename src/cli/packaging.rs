//! `completions` and `man`: what packagers install alongside the binary.

use crate::exit::Exit;
use crate::text::foreign;
use clap::Args;
use std::io::Write;

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Command whose page to print; without one, the main page
    #[arg(value_name = "COMMAND")]
    pub of: Option<String>,
}

/// Prints the completions of a shell.
pub(super) fn completions(arguments: &Completions, whole: &mut clap::Command) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, whole, "pepay-relay", &mut script);
    print(&script)
}

/// Prints the manual page of the whole, or of one command.
///
/// # Errors
///
/// Status 1 when there is no such command.
pub(super) fn man(arguments: &Man, mut whole: clap::Command) -> Result<(), Exit> {
    whole.build();
    let page = match &arguments.of {
        None => whole,
        Some(name) => {
            // A command of a command has its page under both names, as `man` looks for it: `orders-get`.
            let command = name.split('-').try_fold(&whole, |command, name| {
                command.find_subcommand(name).filter(|command| command.get_name() != "help")
            });
            let command = command.ok_or_else(|| {
                Exit::failed(format!("there is no command `{}`; `pepay-relay --help` lists them", foreign(name)))
            })?;
            // Named `pepay-relay-tail` by `build` above.
            command.clone()
        }
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(page).render(&mut roff)?;
    print(&roff)
}

/// Writes at once what was made in memory: a reader that leaves early must not break the making of it.
fn print(bytes: &[u8]) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

//! How a command ends other than well: one sentence for a person, one status for systemd and scripts.

use crate::kafka::errors::StartError;
use crate::legs::webhook::BindError;
use std::fmt;
use std::io;

/// A command's end that is not success.
///
/// The statuses are a contract with service managers and scripts (docs/commands.md); 2, wrong usage, is mostly
/// given by the parser of the command line itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    status: u8,
    message: String,
}

impl Exit {
    /// Something failed while running, or a check found something wrong: systemd restarts.
    pub const FAILED: u8 = 1;
    /// Wrong usage that shows only once settings and files are read.
    pub const USAGE: u8 = 2;
    /// Another relay of the same name took over (`EX_TEMPFAIL` of `sysexits.h`).
    pub const FENCED: u8 = 75;
    /// Kafka refused the credentials or does not grant a permission (`EX_NOPERM`).
    pub const DENIED: u8 = 77;
    /// The settings are wrong (`EX_CONFIG`): a restart cannot help.
    pub const SETTINGS: u8 = 78;

    /// Status 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: Self::FAILED, message: message.into() }
    }

    /// Status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { status: Self::USAGE, message: message.into() }
    }

    /// Status 75.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self { status: Self::FENCED, message: message.into() }
    }

    /// Status 77.
    pub fn denied(message: impl Into<String>) -> Self {
        Self { status: Self::DENIED, message: message.into() }
    }

    /// Status 78.
    pub fn settings(message: impl Into<String>) -> Self {
        Self { status: Self::SETTINGS, message: message.into() }
    }

    /// The reader of stdout has gone (`tail | head`). It has what it wanted, so there is nothing to complain of.
    pub fn reader_gone() -> Self {
        Self { status: 0, message: String::new() }
    }

    /// The same end with another sentence, made of this one.
    pub fn with(self, sentence: impl FnOnce(String) -> String) -> Self {
        Self { message: sentence(self.message), ..self }
    }

    /// What the process exits with.
    pub const fn status(&self) -> u8 {
        self.status
    }

    /// What is written to stderr; empty when there is nothing to say.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

/// Kafka's reason not to begin.
impl From<StartError> for Exit {
    fn from(error: StartError) -> Self {
        let sentence = error.to_string();
        match error {
            StartError::Denied(_) => Self::denied(sentence),
            StartError::Settings(_) => Self::settings(sentence),
            StartError::Failed(_) | StartError::Elsewhere => Self::failed(sentence),
        }
    }
}

/// Why the webhook listener cannot be set up: wrong certificate files are settings; an address may become free.
impl From<BindError> for Exit {
    fn from(error: BindError) -> Self {
        let sentence = error.to_string();
        match error {
            BindError::Tls(_) => Self::settings(sentence),
            BindError::InUse(_) | BindError::Address { .. } => Self::failed(sentence),
        }
    }
}

/// Of writing results to stdout.
impl From<io::Error> for Exit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::reader_gone(),
            _ => Self::failed(format!("cannot write to stdout: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_contract() {
        let ends = [Exit::failed(""), Exit::usage(""), Exit::fenced(""), Exit::denied(""), Exit::settings("")];
        assert_eq!(ends.map(|exit| exit.status()), [1, 2, 75, 77, 78]);
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let gone = Exit::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.status(), gone.message()), (0, ""));
        let full = Exit::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.status(), 1);
    }
}

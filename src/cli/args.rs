//! What the arguments of many commands are made of: the options that each takes, moments, and how text is read.
//!
//! The arguments of one command are in its own file, the list of commands in `command`.

use crate::clock::{millis, now_ms};
use crate::config::LogFormat;
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Settings file [default: /etc/pepay-relay/pepay-relay.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "PEPAY_RELAY_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Account to act for; required where the settings have several
    #[arg(long, global = true, value_name = "NAME")]
    pub account: Option<String>,
    /// Format of results on stdout
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// What is logged on stderr; overrides `log.level`
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Format of log lines; overrides `log.format`
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: aligned, coloured on a terminal
    Table,
    /// For scripts: JSON, one object per line
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors: somebody must act
    Error,
    /// Also the unexpected that loses nothing
    Warn,
    /// Also each change of state
    Info,
    /// Also each event
    Debug,
    /// Also everything else
    Trace,
}

impl LogLevel {
    /// As `log.level` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A moment as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This long before now.
    Ago(Duration),
    /// This time, in Unix milliseconds.
    At(i64),
}

impl When {
    /// In Unix milliseconds; 0 where that was before 1970, when there was neither record nor event.
    pub fn unix_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(ago) => now_ms.saturating_sub(millis(ago)).max(0),
            Self::At(ms) => ms.max(0),
        }
    }
}

/// How times are shown.
#[derive(Args, Clone, Copy, Debug)]
pub struct Times {
    /// Show times in UTC instead of the local zone
    #[arg(long)]
    pub utc: bool,
}

/// A moment that has been.
pub(super) fn parse_past(text: &str) -> Result<When, String> {
    let moment = parse_moment(text)?;
    let now_ms = now_ms();
    if moment.unix_ms(now_ms) > now_ms {
        return Err("lies in the future; nothing can be fetched from there".to_owned());
    }
    Ok(moment)
}

pub(super) fn moment(text: &str) -> Option<When> {
    let at = || text.parse().ok().map(|at: jiff::Timestamp| When::At(at.as_millisecond()));
    humantime::parse_duration(text).ok().map(When::Ago).or_else(at)
}

/// An empty id would be another request: the list instead of the thing, or nobody's.
pub(super) fn parse_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn parse_moment(text: &str) -> Result<When, String> {
    moment(text).ok_or_else(|| "expected a duration such as `36h`, or a time such as `2026-01-15T10:00:00Z`".to_owned())
}

/// As the provider documents it for refunds; a wrong one is noticed here, before the money is on its way.
pub(super) fn parse_bsc_address(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
    match digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
        true => Ok(text.to_owned()),
        false => Err("expected a BSC address: 0x and 40 hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn a_bsc_address_has_forty_digits() {
        assert!(parse_bsc_address("0x52908400098527886E0F7030069857D2E4169EE7").is_ok());
        for wrong in ["", "0x", "52908400098527886E0F7030069857D2E4169EE7", "0x52908400098527886E0F7030069857D2E4169EE"]
        {
            assert!(parse_bsc_address(wrong).is_err(), "{wrong}");
        }
        assert!(parse_bsc_address("0x5290840009852788ä0F7030069857D2E4169EE7").is_err());
    }

    #[test]
    fn run_begins_in_the_past_alone() {
        assert_eq!(parse_past("36h"), Ok(When::Ago(Duration::from_secs(36 * 3600))));
        assert_eq!(parse_past("2026-01-15T12:15:00.655+02:00"), Ok(When::At(1_768_472_100_655)));
        for wrong in ["", "soon", "1768472100", "-5m", "2026-01-15", "2026-01-15T10:15:00"] {
            assert!(parse_past(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
        assert!(parse_past("9000-01-01T00:00:00Z").unwrap_err().contains("future"));
    }

    #[test]
    fn a_moment_is_a_time() {
        for (moment, ms) in [
            (When::Ago(Duration::from_secs(900)), 100_000),
            (When::Ago(Duration::from_secs(1_001)), 0),
            (When::Ago(Duration::MAX), 0),
            (When::At(7), 7),
            (When::At(-7), 0),
        ] {
            assert_eq!(moment.unix_ms(1_000_000), ms, "{moment:?}");
        }
    }
}

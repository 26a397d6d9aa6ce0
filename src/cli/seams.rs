//! Places where other parts will be called; each module is replaced by the part of the same path under `crate`.
#![allow(dead_code, clippy::unused_async, reason = "goes away at the merge")]

use std::fmt;

/// What stands for every error here.
#[derive(Debug)]
pub(super) struct Absent;

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not merged yet")
    }
}

/// `crate::telemetry`
pub(super) mod telemetry {
    use crate::config::LogFormat;

    /// Control and direction characters of `text` made visible.
    pub(crate) fn foreign(text: &str) -> String {
        let hidden = |c: char| {
            let format = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            c.is_control() || format || c == '\u{feff}'
        };
        text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
    }

    /// Logs to stderr from here on.
    pub(crate) fn logs(_level: &str, _format: Option<LogFormat>) {}
}

/// `crate::config`
pub(super) mod config {
    use super::Absent;
    use crate::config::{Config, Secrets};
    use std::ffi::{OsStr, OsString};
    use std::path::Path;

    pub(crate) fn load(
        _file: Option<&Path>,
        _environment: impl Iterator<Item = (OsString, OsString)>,
        _credentials: Option<&OsStr>,
    ) -> Result<(Config, Secrets, Vec<String>), Absent> {
        Err(Absent)
    }
}

/// `crate::daemon`
pub(super) mod daemon {
    use crate::cli::Settings;
    use crate::exit::Exit;

    pub(crate) fn run(_settings: Settings) -> Result<(), Exit> {
        Err(Exit::failed("not merged yet"))
    }
}

/// `super::demo`
pub(super) mod demo {
    use crate::cli::args::{Demo, Global};
    use crate::cli::output::Output;
    use crate::exit::Exit;

    pub(crate) fn run(_arguments: &Demo, _global: &Global, _output: Output) -> Result<(), Exit> {
        Err(Exit::failed("not merged yet"))
    }
}

/// `crate::kafka`
pub(super) mod kafka {
    use super::Absent;
    use crate::config::{Config, Secrets};

    /// Why Kafka could not be reached or used.
    pub(crate) type StartError = Absent;

    impl Absent {
        /// Whether Kafka refused the credentials or lacks a permission.
        pub(crate) fn is_denied(&self) -> bool {
            false
        }
    }

    pub(crate) fn permissions(_config: &Config, _secrets: &Secrets) -> Result<(), StartError> {
        Err(Absent)
    }

    pub(crate) mod topics {
        use super::{Absent, Config, Secrets, StartError};
        use crate::kafka::Topic;

        /// How one topic is, and how it should be.
        #[derive(Debug)]
        pub(crate) struct TopicReport {
            pub(crate) topic: Topic,
            pub(crate) name: String,
            pub(crate) exists: bool,
            /// Such as `compact, 1 partition`.
            pub(crate) wanted: String,
            pub(crate) actual: Option<String>,
            /// What is wrong, each with its remedy.
            pub(crate) mistakes: Vec<String>,
            /// What works and should be looked at.
            pub(crate) warnings: Vec<String>,
        }

        pub(crate) fn inspect(_config: &Config, _secrets: &Secrets) -> Result<Vec<TopicReport>, StartError> {
            Err(Absent)
        }

        pub(crate) fn ensure(_config: &Config, _secrets: &Secrets) -> Result<Vec<TopicReport>, StartError> {
            Err(Absent)
        }
    }

    pub(crate) mod consume {
        use super::{Absent, Config, Secrets, StartError};
        use std::time::SystemTime;

        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Start {
            Beginning,
            End,
            Time(SystemTime),
        }

        #[derive(Clone, Debug)]
        pub(crate) struct Record {
            pub(crate) topic: String,
            pub(crate) partition: i32,
            pub(crate) offset: i64,
            pub(crate) timestamp_ms: i64,
            pub(crate) key: Option<Vec<u8>>,
            pub(crate) value: Option<Vec<u8>>,
            pub(crate) headers: Vec<(String, Vec<u8>)>,
        }

        #[derive(Debug)]
        pub(crate) struct Follower;

        impl Follower {
            pub(crate) fn new(
                _config: &Config,
                _secrets: &Secrets,
                _topic: &str,
                _start: Start,
            ) -> Result<Self, StartError> {
                Err(Absent)
            }

            pub(crate) async fn next(&mut self) -> Result<Record, StartError> {
                Err(Absent)
            }
        }
    }
}

/// `crate::normalize`
pub(super) mod normalize {
    pub(crate) fn schemas() -> serde_json::Value {
        serde_json::json!({})
    }
}

/// `crate::provider`
pub(super) mod provider {
    use super::Absent;
    use crate::config::{Config, Provider, Secrets};

    pub(crate) mod rest {
        use super::{Absent, Provider};
        use secrecy::SecretString;

        #[derive(Debug)]
        pub(crate) struct Rest;

        impl Rest {
            pub(crate) fn new(_provider: &Provider, _key: &SecretString) -> Result<Self, Absent> {
                Err(Absent)
            }

            pub(crate) async fn commerce_status(&self) -> Result<String, Absent> {
                Err(Absent)
            }

            pub(crate) async fn newest_events(&self, _limit: usize) -> Result<Option<String>, Absent> {
                Err(Absent)
            }
        }
    }

    pub(crate) mod stream {
        use super::{Absent, Config, Secrets};

        pub(crate) async fn probe(_config: &Config, _secrets: &Secrets) -> Result<(), Absent> {
            Err(Absent)
        }
    }
}

/// `crate::simulator`
pub(super) mod simulator {
    use super::Absent;
    use std::net::SocketAddr;

    #[derive(Debug)]
    pub(crate) struct Options {
        pub(crate) listen: SocketAddr,
        pub(crate) seed: u64,
        pub(crate) rate: f64,
    }

    pub(crate) async fn serve(_options: Options) -> Result<(), Absent> {
        Err(Absent)
    }
}

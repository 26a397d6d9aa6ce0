//! Places where other parts will be called: each module has the signatures of the part of the same path under
//! `crate`, and goes away when that part is there.
#![allow(dead_code, missing_docs, clippy::unused_async, reason = "goes away at the merge")]

/// `crate::telemetry`
pub(super) mod telemetry {
    use crate::config::LogFormat;
    use std::fmt;

    pub(crate) fn foreign(text: &str) -> impl fmt::Display + '_ {
        let hidden = |c: char| {
            let format = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            c.is_control() || format || c == '\u{feff}'
        };
        let show = |c: char| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() };
        text.chars().map(show).collect::<String>()
    }

    #[derive(Debug)]
    pub(crate) struct Logs;

    impl Logs {
        pub(crate) fn init(_level: &str, _format: LogFormat) -> Result<Self, &'static str> {
            Ok(Self)
        }
    }
}

/// `crate::config`
pub(super) mod config {
    use crate::config::{Config, Secrets};
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    #[derive(Debug)]
    pub(crate) struct Sources {
        pub(crate) file: Option<PathBuf>,
        pub(crate) flags: BTreeMap<&'static str, String>,
    }

    impl Sources {
        pub(crate) fn from_process(file: Option<PathBuf>) -> Self {
            Self { file, flags: BTreeMap::new() }
        }
    }

    pub(crate) struct Loaded {
        pub(crate) config: Config,
        pub(crate) secrets: Secrets,
        pub(crate) warnings: Vec<String>,
    }

    pub(crate) type Warning = String;

    pub(crate) fn load(_sources: &Sources) -> Result<Loaded, &'static str> {
        Err("not merged yet")
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
    use crate::config::{Config, Secrets};

    pub(crate) mod errors {
        #[derive(Debug, thiserror::Error)]
        pub(crate) enum StartError {
            #[error("another relay of the same name took over")]
            Fenced,
            #[error("{0}")]
            Denied(String),
            #[error("{0}")]
            Settings(String),
            #[error("{0}")]
            Failed(String),
        }
    }

    pub(crate) mod topics {
        use super::errors::StartError;
        use super::{Config, Secrets};
        use crate::kafka::Topic;

        #[derive(Clone, Debug)]
        pub(crate) struct TopicReport {
            pub(crate) topic: Topic,
            pub(crate) name: String,
            pub(crate) wanted: Wanted,
            pub(crate) actual: Option<Actual>,
            pub(crate) findings: Vec<Finding>,
        }

        #[derive(Clone, Debug)]
        pub(crate) struct Wanted {
            pub(crate) partitions: i32,
            pub(crate) replication_factor: Option<i32>,
            pub(crate) cleanup_policy: &'static str,
            pub(crate) retention_ms_min: Option<i64>,
        }

        #[derive(Clone, Debug)]
        pub(crate) struct Actual {
            pub(crate) partitions: i32,
            pub(crate) replicas: i32,
            pub(crate) settings: Option<TopicSettings>,
        }

        #[derive(Clone, Debug, Default)]
        pub(crate) struct TopicSettings {
            pub(crate) cleanup_policy: Option<String>,
            pub(crate) retention_ms: Option<i64>,
        }

        #[derive(Clone, Debug)]
        pub(crate) enum Finding {
            Mistake(String),
            Warning(String),
        }

        pub(crate) async fn inspect(_: &Config, _: &Secrets) -> Result<Vec<TopicReport>, StartError> {
            Err(StartError::Failed("not merged yet".to_owned()))
        }

        pub(crate) async fn create(_: &Config, _: &Secrets, _reports: &[TopicReport]) -> Result<(), StartError> {
            Err(StartError::Failed("not merged yet".to_owned()))
        }
    }

    pub(crate) mod consume {
        use super::errors::StartError;
        use super::{Config, Secrets};

        #[derive(Clone, Copy, Debug)]
        pub(crate) enum From {
            Beginning,
            End,
            Time(i64),
        }

        #[derive(Clone, Debug)]
        pub(crate) struct Consumed {
            pub(crate) topic: String,
            pub(crate) partition: i32,
            pub(crate) offset: i64,
            pub(crate) published_at_ms: i64,
            pub(crate) key: Option<Vec<u8>>,
            pub(crate) value: Option<Vec<u8>>,
            pub(crate) headers: Vec<(String, Vec<u8>)>,
        }

        #[derive(Debug)]
        pub(crate) struct Follow;

        impl Follow {
            pub(crate) async fn start(_: &Config, _: &Secrets, _topic: &str, _: From) -> Result<Self, StartError> {
                Err(StartError::Failed("not merged yet".to_owned()))
            }

            pub(crate) async fn next(&mut self) -> Option<Result<Consumed, StartError>> {
                None
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

/// `crate::provider`, and `stream::probe`, which wants writing: one connection by `legs::websocket`'s dialling.
pub(super) mod provider {
    pub(crate) mod tls {
        use std::sync::Arc;

        pub(crate) fn client_config() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
            Err(rustls::Error::HandshakeNotComplete)
        }
    }

    pub(crate) mod rest {
        use secrecy::SecretString;
        use std::time::Duration;
        use tokio::sync::watch;

        #[derive(Debug)]
        pub(crate) struct CommerceStatus {
            pub(crate) status: String,
        }

        #[derive(Debug)]
        pub(crate) struct Rest;

        impl Rest {
            pub(crate) fn new(
                _base: &str,
                _timeout: Duration,
                _api_key: watch::Receiver<SecretString>,
                _tls: &rustls::ClientConfig,
            ) -> Result<Self, &'static str> {
                Err("not merged yet")
            }

            pub(crate) async fn commerce_status(&self) -> Result<CommerceStatus, &'static str> {
                Err("not merged yet")
            }

            pub(crate) async fn newest_events(&self, _limit: u32) -> Result<bytes::Bytes, &'static str> {
                Err("not merged yet")
            }
        }
    }

    pub(crate) mod stream {
        use crate::config::{Config, Secrets};

        pub(crate) async fn probe(_: &Config, _: &Secrets) -> Result<(), &'static str> {
            Err("not merged yet")
        }
    }
}

/// `crate::simulator`
pub(super) mod simulator {
    use std::net::SocketAddr;
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) enum Pace {
        Stepped,
        Automatic(Duration),
    }

    #[derive(Debug)]
    pub(crate) struct Options {
        pub(crate) listen: SocketAddr,
        pub(crate) seed: u64,
        pub(crate) pace: Pace,
        pub(crate) webhook_urls: Vec<String>,
        pub(crate) remember_events: bool,
    }

    impl Default for Options {
        fn default() -> Self {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            Self { listen, seed: 1, pace: Pace::Stepped, webhook_urls: Vec::new(), remember_events: true }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Simulator;

    impl Simulator {
        pub(crate) async fn start(_options: Options) -> std::io::Result<Self> {
            Err(std::io::Error::other("not merged yet"))
        }

        pub(crate) fn api_url(&self) -> String {
            String::new()
        }

        pub(crate) fn stream_url(&self) -> String {
            String::new()
        }

        pub(crate) fn api_key(&self) -> &str {
            ""
        }

        pub(crate) fn webhook_secret(&self) -> &str {
            ""
        }

        pub(crate) async fn stop(self) {}
    }
}

//! The command line: every command, option and example, and nothing that runs.
//!
//! The names are a contract with scripts (README, "Commands"). Wrong usage is judged here, before anything is read.

pub mod checkout;
pub mod commerce;
mod events;

pub use events::{
    Events, EventsCommand, EventsGet, EventsList, Forget, Replay, Smoke, Webhook, WebhookCommand, WebhookSend,
    WebhookSign, WebhookVerify,
};

use crate::clock::{millis, now_ms};
use crate::config::LogFormat;
use crate::labels::Topic;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Relays Pepay commerce order events to Kafka, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "pepay-relay", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pepay-relay demo                       watch orders walk through their life, with nothing set up
  pepay-relay check                      judge the settings and reach everything they name
  pepay-relay run                        relay, until told to stop
  pepay-relay tail --from 15m            the order events of the last 15 minutes, and those to come

Exit status: 0 done, 1 failed, 2 wrong usage, 75 fenced, 77 Kafka refused, 78 settings wrong.";

const SIMULATOR_ROUTES: &str = r#"Routes of its own, with the provider's key:
  POST /simulator/faults         the faults from now on, by channel; {} ends them all:
                                 {"stream":{"silent":true}}, {"webhooks":{"delay":"2s"}},
                                 {"rest":{"refuse":{"status":503}}}
  POST /simulator/cut            ends every socket: "abrupt", {"close":1001}, {"error":"CODE"}
  POST /simulator/availability   whether commerce is on: {"available":false}
  POST /simulator/orders         lets orders live their whole life at once: {"count":100}
  POST /simulator/events         issues any event
  GET  /simulator/events?from=0  what was issued, from a number on

Example:
  pepay-relay simulator --listen 127.0.0.1:8788 --webhook-url http://127.0.0.1:8787/webhooks/pepay"#;

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Settings file [default: /etc/pepay-relay/pepay-relay.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "PEPAY_RELAY_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// How results are written on stdout
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// How much is logged on stderr; wins over `log.level`
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How log lines are written; wins over `log.format`
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: aligned, coloured on a terminal
    Table,
    /// For scripts: JSON, one object a line where there are many
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Somebody must act
    Error,
    /// And the unexpected that loses nothing
    Warn,
    /// And each change of state
    Info,
    /// And each event
    Debug,
    /// And everything else
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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay until SIGTERM or SIGINT
    #[command(after_help = "Examples:\n  pepay-relay run --config ./pepay-relay.toml\n  \
        pepay-relay run --from 36h     once, by hand: forget the cursor and fetch again what is so old")]
    Run(Run),
    /// Watch the whole at work: simulated provider, Kafka and relay in one process
    #[command(
        long_about = "Watch the whole at work: simulated provider, Kafka and relay in one process.\n\n\
            Needs no network and no settings. Orders walk through their life, each record is printed as it arrives \
            with the leg that won, a connection is cut and comes back, and the books are balanced at the end.",
        after_help = "Examples:\n  pepay-relay demo\n  pepay-relay demo --keep     stay up and print the addresses"
    )]
    Demo(Demo),
    /// Judge the settings, then reach the provider, Kafka and the topics
    #[command(after_help = "Examples:\n  pepay-relay check\n  pepay-relay check --offline     only the settings\n\n\
        Status 78 when the settings are wrong, 1 when anything else is.")]
    Check(Check),
    /// Show wanted and actual topics side by side
    #[command(after_help = "Examples:\n  pepay-relay topics\n  pepay-relay topics --create     make the missing ones")]
    Topics(Topics),
    /// Follow records like a log
    #[command(after_help = "Examples:\n  pepay-relay tail\n  \
        pepay-relay tail --topic dead_letter --from beginning --count 10 --output json\n  \
        pepay-relay tail --from 15m --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40")]
    Tail(Tail),
    /// Show what the running relay says of itself
    #[command(after_help = "Examples:\n  pepay-relay status\n  pepay-relay status --output json\n\n\
        Asks the relay at `admin.listen`; status 1 when none answers there.")]
    Status(Status),
    /// Ask whether the provider sells at the moment
    #[command(after_help = "Example:\n  pepay-relay availability\n\nStatus 1 when it does not.")]
    Availability,
    /// Find products
    #[command(subcommand, after_help = "Example:\n  pepay-relay products search \"usb-c cable\"")]
    Products(commerce::Products),
    /// Sell: estimate, address, invoice
    #[command(
        subcommand,
        after_help = "Example:\n  \
            pepay-relay checkout create B0D7KX91QZ:2 --customer-id cust_8842 --address-file home.toml"
    )]
    Checkout(Box<checkout::Checkout>),
    /// See how payments stand
    #[command(subcommand, after_help = "Example:\n  pepay-relay payments status 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11")]
    Payments(commerce::Payments),
    /// List orders, show one or follow it, ask for it to be cancelled
    #[command(
        subcommand,
        after_help = "Examples:\n  pepay-relay orders list --status shipped\n  \
            pepay-relay orders get 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 --watch"
    )]
    Orders(commerce::Orders),
    /// Let orders live on devnet
    #[command(
        subcommand,
        after_help = "Example:\n  pepay-relay devnet simulate 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 payment_confirmed"
    )]
    Devnet(commerce::Devnet),
    /// List the events of the provider's log, or show one
    #[command(after_help = events::EVENTS_EXAMPLES)]
    Events(Events),
    /// Sign, verify and send webhooks by hand
    #[command(after_help = events::WEBHOOK_EXAMPLES)]
    Webhook(Webhook),
    /// Publish events of the provider's log once more, on purpose
    #[command(after_help = events::REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Forget an order in the topic of latest events
    #[command(after_help = events::FORGET_EXAMPLES)]
    Forget(Forget),
    /// Walk the provider's integration checklist, from the key to Kafka
    #[command(after_help = events::SMOKE_EXAMPLES)]
    Smoke(Smoke),
    /// Serve the simulated provider, for one's own integration tests
    #[command(after_help = SIMULATOR_ROUTES)]
    Simulator(Simulator),
    /// Print the JSON Schema of each topic's value, as one JSON object
    #[command(after_help = "Example:\n  pepay-relay schema > schemas.json")]
    Schema,
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  pepay-relay completions bash > /usr/share/bash-completion/completions/pepay-relay"
    )]
    Completions(Completions),
    /// Print a manual page
    #[command(after_help = "Examples:\n  pepay-relay man > pepay-relay.1\n  pepay-relay man tail > pepay-relay-tail.1")]
    Man(Man),
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Forget the cursor, and begin so long ago (`36h`) or at that time (RFC 3339)
    ///
    /// For a cursor gone wrong, once: from there on the first walk fetches all that the provider's log holds. What
    /// stands in Kafka is not published again.
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub from: Option<Moment>,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Stay up and print the addresses, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Only the settings; reach nothing
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `topics`.
#[derive(Args, Debug)]
pub struct Topics {
    /// Create the missing ones; those that exist are left as they are
    #[arg(long)]
    pub create: bool,
}

/// Arguments of `tail`.
#[derive(Args, Debug)]
pub struct Tail {
    /// Which topic: a key of `[kafka.topics]`
    #[arg(long, value_name = "TOPIC", default_value = Topic::Orders.as_str(), value_parser = topic_parser())]
    pub topic: Topic,
    /// Where to begin: `beginning`, `end`, so long ago (`15m`), or a time (RFC 3339)
    #[arg(long, value_name = "PLACE", default_value = "end", value_parser = parse_from)]
    pub from: StartAt,
    /// Only records of this order
    #[arg(long, value_name = "ID")]
    pub order: Option<String>,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Where `tail` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record that Kafka still holds.
    Beginning,
    /// What is published from now on.
    End,
    /// Records published since then.
    Since(Moment),
}

/// A moment as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This long before now.
    Ago(Duration),
    /// This time, in Unix milliseconds.
    At(i64),
}

impl Moment {
    /// In Unix milliseconds; 0 where that was before 1970, when there was neither record nor event.
    pub fn unix_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(ago) => now_ms.saturating_sub(millis(ago)).max(0),
            Self::At(ms) => ms.max(0),
        }
    }
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// How times are shown.
    #[command(flatten)]
    pub times: commerce::Times,
}

/// Arguments of `simulator`.
#[derive(Args, Debug)]
pub struct Simulator {
    /// Where to serve; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8788")]
    pub listen: SocketAddr,
    /// The same seed makes the same orders
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Time between two steps in the life of some order; `0s`: only what callers simulate
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_pace)]
    pub every: Duration,
    /// Send signed webhooks there; may be given more than once
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub webhook_url: Vec<String>,
    /// Answer 429 to what the key asks beyond so many requests a minute [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// Play mainnet: no transition is simulated by request
    #[arg(long)]
    pub mainnet: bool,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// The command whose page to print; none: the page of the whole
    #[arg(value_name = "COMMAND")]
    pub of: Option<String>,
}

fn topic_parser() -> impl TypedValueParser<Value = Topic> {
    PossibleValuesParser::new(Topic::ALL.map(Topic::as_str)).try_map(|key| {
        // The parser before has refused every other key; the sentence is for a topic that is ever added to one only.
        Topic::ALL.into_iter().find(|topic| topic.as_str() == key).ok_or_else(|| format!("no topic `{key}`"))
    })
}

fn parse_from(text: &str) -> Result<StartAt, String> {
    match text {
        "beginning" => Ok(StartAt::Beginning),
        "end" => Ok(StartAt::End),
        _ => moment(text).map(StartAt::Since).ok_or_else(|| {
            "expected `beginning`, `end`, a duration such as `15m`, or a time such as `2026-01-15T10:00:00Z`".to_owned()
        }),
    }
}

/// A moment that has been.
fn parse_past(text: &str) -> Result<Moment, String> {
    let moment = moment(text)
        .ok_or_else(|| "expected a duration such as `36h`, or a time such as `2026-01-15T10:00:00Z`".to_owned())?;
    let now_ms = now_ms();
    if moment.unix_ms(now_ms) > now_ms {
        return Err("lies in the future; nothing can be fetched from there".to_owned());
    }
    Ok(moment)
}

fn moment(text: &str) -> Option<Moment> {
    let at = || text.parse().ok().map(|at: jiff::Timestamp| Moment::At(at.as_millisecond()));
    humantime::parse_duration(text).ok().map(Moment::Ago).or_else(at)
}

/// A step each millisecond at most: more than one machine's tests can look at.
fn parse_pace(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|every| every.is_zero() || *every >= Duration::from_millis(1))
        .ok_or_else(|| "expected a duration such as `1s`, at least `1ms`, or `0s`".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    fn tail(arguments: &[&str]) -> Result<Tail, clap::Error> {
        let line = ["pepay-relay", "tail"].into_iter().chain(arguments.iter().copied());
        Cli::try_parse_from(line).map(|cli| match cli.command {
            Command::Tail(tail) => tail,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn tail_begins_where_told() {
        for (text, from) in [
            ("beginning", StartAt::Beginning),
            ("end", StartAt::End),
            ("15m", StartAt::Since(Moment::Ago(Duration::from_secs(900)))),
            ("1h 30m", StartAt::Since(Moment::Ago(Duration::from_secs(5400)))),
            ("2026-01-15T10:15:00.655Z", StartAt::Since(Moment::At(1_768_472_100_655))),
        ] {
            assert_eq!(tail(&["--from", text]).unwrap().from, from, "{text}");
        }
        assert_eq!(tail(&[]).unwrap().from, StartAt::End);
        for wrong in ["", "now", "15", "-5m", "99999999999999999999y"] {
            assert!(tail(&["--from", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn run_begins_in_the_past_alone() {
        assert_eq!(parse_past("36h"), Ok(Moment::Ago(Duration::from_secs(36 * 3600))));
        assert_eq!(parse_past("2026-01-15T12:15:00.655+02:00"), Ok(Moment::At(1_768_472_100_655)));
        for wrong in ["", "soon", "1768472100", "-5m", "2026-01-15", "2026-01-15T10:15:00"] {
            assert!(parse_past(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
        assert!(parse_past("9000-01-01T00:00:00Z").unwrap_err().contains("future"));
    }

    #[test]
    fn a_moment_is_a_time() {
        for (moment, ms) in [
            (Moment::Ago(Duration::from_secs(900)), 100_000),
            (Moment::Ago(Duration::from_secs(1_001)), 0),
            (Moment::Ago(Duration::MAX), 0),
            (Moment::At(7), 7),
            (Moment::At(-7), 0),
        ] {
            assert_eq!(moment.unix_ms(1_000_000), ms, "{moment:?}");
        }
    }

    #[test]
    fn tail_takes_every_topic_by_its_key() {
        for topic in Topic::ALL {
            assert_eq!(tail(&["--topic", topic.as_str()]).unwrap().topic, topic);
        }
        assert!(tail(&["--topic", "pepay.orders"]).is_err());
    }

    #[test]
    fn numbers_have_bounds() {
        assert!(tail(&["--count", "0"]).is_err());
        assert_eq!(parse_pace("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_pace("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "1", "-1s", "10us", "often"] {
            assert!(parse_pace(wrong).is_err(), "{wrong}");
        }
    }
}

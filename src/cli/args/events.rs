//! The command line of what is done with events by hand: list, sign, replay, forget, and the integration checklist.

use super::commerce::Times;
use super::{Moment, moment, parse_past};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const EVENTS_EXAMPLES: &str = "\
Examples:
  pepay-relay events list --type 'invoice.*' --from 2h
  pepay-relay events list --limit 500 --output json     one event a line, as the provider wrote it
  pepay-relay events get evt_1768472100655-0";

pub(super) const WEBHOOK_EXAMPLES: &str = "\
Examples:
  pepay-relay webhook sign body.json
  pepay-relay webhook verify body.json --header 'X-Pepay-Timestamp: 1768472101250' --header 'X-Pepay-Signature: 02…'
  pepay-relay webhook send body.json --url http://127.0.0.1:8787/webhooks/pepay";

pub(super) const REPLAY_EXAMPLES: &str = "\
Examples:
  pepay-relay replay --from 2026-01-15T10:00:00Z --to 2026-01-15T11:00:00Z     what it would do
  pepay-relay replay --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40 --yes
  pepay-relay replay --event evt_1768472100655-0 --yes

Records carry `relay_replay` (one id a replay) and `relay_stale`, and never go to the topic of latest events.";

pub(super) const FORGET_EXAMPLES: &str = "\
Examples:
  pepay-relay forget --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40          what it would do
  pepay-relay forget --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40 --yes

A later event of the order writes it anew. Other topics keep its events until their retention ends.";

pub(super) const SMOKE_EXAMPLES: &str = "\
Examples:
  pepay-relay smoke
  pepay-relay smoke --webhook-url https://shop.example/webhooks/pepay --wait-for-ping 2m
  pepay-relay smoke --output json

Makes three orders on devnet and takes them through every transition. Status 1 on any cross.";

/// Arguments of `events`.
#[derive(Args, Debug)]
pub struct Events {
    /// What to do.
    #[command(subcommand)]
    pub command: EventsCommand,
}

/// What `events` does.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// List events, the newest first
    #[command(after_help = EVENTS_EXAMPLES)]
    List(EventsList),
    /// Show one event
    #[command(after_help = EVENTS_EXAMPLES)]
    Get(EventsGet),
}

/// Arguments of `events list`.
#[derive(Args, Debug)]
pub struct EventsList {
    /// Only events of this type, exact or with a trailing `.*`; may be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events of this invoice
    #[arg(long, value_name = "ID")]
    pub invoice: Option<String>,
    /// Only events created since then: so long ago (`2h`) or a time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub from: Option<Moment>,
    /// Only events created until then
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub to: Option<Moment>,
    /// Only events older than this one
    #[arg(long, value_name = "EVENT")]
    pub after: Option<String>,
    /// At most so many; further pages are asked for as needed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Arguments of `events get`.
#[derive(Args, Debug)]
pub struct EventsGet {
    /// The event's id
    #[arg(value_name = "EVENT")]
    pub id: String,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Arguments of `webhook`.
#[derive(Args, Debug)]
pub struct Webhook {
    /// What to do.
    #[command(subcommand)]
    pub command: WebhookCommand,
}

/// What `webhook` does.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Print the headers of a body, signed with the newest secret
    #[command(after_help = WEBHOOK_EXAMPLES)]
    Sign(WebhookSign),
    /// Judge a body and its headers as the relay would
    #[command(after_help = WEBHOOK_EXAMPLES)]
    Verify(WebhookVerify),
    /// Send a body, signed with the newest secret
    #[command(after_help = WEBHOOK_EXAMPLES)]
    Send(WebhookSend),
}

/// Arguments of `webhook sign`.
#[derive(Args, Debug)]
pub struct WebhookSign {
    /// The body's file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Sign as at this time, in Unix milliseconds [default: now]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    pub timestamp: Option<i64>,
}

/// Arguments of `webhook verify`.
#[derive(Args, Debug)]
pub struct WebhookVerify {
    /// The body's file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// A header of the webhook, as `NAME: VALUE`; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", required = true, value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// Judge as at this time, in Unix milliseconds, for a webhook of yesterday [default: now]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    pub at: Option<i64>,
}

/// Arguments of `webhook send`.
#[derive(Args, Debug)]
pub struct WebhookSend {
    /// The body's file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where to: https, or plain http to the loopback
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub url: String,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["from", "event", "order"])))]
pub struct Replay {
    /// Events that occurred since then: so long ago (`2h`) or a time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub from: Option<Moment>,
    /// … until then [default: now]
    #[arg(long, value_name = "TIME", requires = "from", conflicts_with_all = ["event", "order"], value_parser = parse_moment)]
    pub to: Option<Moment>,
    /// This event
    #[arg(long, value_name = "ID")]
    pub event: Option<String>,
    /// Every event of this order and of its invoice that the provider's log still holds
    #[arg(long, value_name = "ID")]
    pub order: Option<String>,
    /// Do it; without it only what would be done is shown
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `forget`.
#[derive(Args, Debug)]
pub struct Forget {
    /// The order's id
    #[arg(long, value_name = "ID")]
    pub order: String,
    /// Do it; without it only what would be done is shown
    #[arg(long)]
    pub yes: bool,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Arguments of `smoke`.
#[derive(Args, Debug)]
pub struct Smoke {
    /// Where the provider reaches our ingress; a signed and a forged webhook are sent there
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub webhook_url: Option<String>,
    /// Wait so long for the `test.ping` that the provider's dashboard sends
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub wait_for_ping: Option<Duration>,
    /// What to buy: words that a search finds
    #[arg(long, value_name = "WORDS", default_value = "cable")]
    pub product: String,
    /// Who buys [default: `commerce.customer_id`]
    #[arg(long, value_name = "ID")]
    pub customer_id: Option<String>,
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    moment(text).ok_or_else(|| "expected a duration such as `36h`, or a time such as `2026-01-15T10:00:00Z`".to_owned())
}

/// A header as it stands in a request; its name in lower case, since names mean the same in any.
fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected `NAME: VALUE`")?;
    match name.trim() {
        "" => Err("expected `NAME: VALUE`".to_owned()),
        name => Ok((name.to_ascii_lowercase(), value.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;
    use crate::cli::args::Cli;
    use clap::Parser;

    fn taken(line: &str) -> bool {
        Cli::try_parse_from(["pepay-relay"].into_iter().chain(line.split_whitespace())).is_ok()
    }

    #[test]
    fn a_replay_is_of_exactly_one_thing() {
        for line in ["replay --from 2h", "replay --from 2h --to 1h --yes", "replay --event e", "replay --order o --yes"]
        {
            assert!(taken(line), "{line}");
        }
        for line in [
            "replay",
            "replay --yes",
            "replay --to 1h",
            "replay --event e --order o",
            "replay --from 1h --event e",
            "replay --event e --to 1h",
            "replay --from 9000-01-01T00:00:00Z",
        ] {
            assert!(!taken(line), "{line}");
        }
    }

    #[test]
    fn headers_are_names_and_values() {
        assert_eq!(parse_header("X-A:b").unwrap(), ("x-a".to_owned(), "b".to_owned()));
        assert_eq!(parse_header(" X-A : b: c ").unwrap(), ("x-a".to_owned(), "b: c".to_owned()));
        for wrong in ["", "X-A", ": b"] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
    }
}

//! `simulator`: the simulated provider as a server of its own.

use super::interrupted;
use super::output::{Output, paint};
use crate::exit::Exit;
use crate::simulator::{self, Options, Pace};
use clap::{Args, ValueHint};
use owo_colors::Style;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const ROUTES: &str = r#"Additional routes, with the provider's key:
  POST /simulator/faults         sets the faults, by channel; {} ends them all:
                                 {"websocket":{"silent":true}}, {"webhooks":{"delay":"2s"}},
                                 {"rest":{"refuse":{"status":503}}}
  POST /simulator/cut            ends every WebSocket: "abrupt", {"close":1001}, {"error":"CODE"}
  POST /simulator/availability   turns commerce on or off: {"available":false}
  POST /simulator/orders         takes orders through their whole life at once: {"count":100}
  POST /simulator/events         issues any event
  GET  /simulator/events?from=0  events issued, from a number on

Example:
  pepay-relay simulator --listen 127.0.0.1:8788 --webhook-url http://127.0.0.1:8787/webhooks/pepay"#;

/// Arguments of `simulator`.
#[derive(Args, Debug)]
pub struct Simulator {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8788")]
    pub listen: SocketAddr,
    /// Seed of the orders; the same seed makes the same orders
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Time between two steps of some order; `0s`: orders move only when a caller simulates a step
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_pace)]
    pub every: Duration,
    /// Send signed webhooks to this URL; may be given more than once
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub webhook_url: Vec<String>,
    /// Answer 429 after N requests per minute [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// Behave like mainnet: refuse to simulate transitions
    #[arg(long)]
    pub mainnet: bool,
}

/// Serves until Ctrl-C or SIGTERM. Prints where, and the key and secret that a relay alongside it needs.
///
/// # Errors
///
/// Status 1 when the address cannot be bound.
pub(super) async fn run(arguments: &Simulator, output: Output) -> Result<(), Exit> {
    let pace = if arguments.every.is_zero() { Pace::Stepped } else { Pace::Automatic(arguments.every) };
    let options = Options {
        listen: arguments.listen,
        seed: arguments.seed,
        pace,
        webhook_urls: arguments.webhook_url.clone(),
        requests_per_minute: arguments.requests_per_minute,
        mainnet: arguments.mainnet,
        // It may serve for days.
        remember_events: false,
        ..Options::default()
    };
    let simulator = simulator::Simulator::start(options)
        .await
        .map_err(|error| Exit::failed(format!("cannot serve at {}: {error}", arguments.listen)))?;
    announce(&simulator, if arguments.mainnet { "mainnet" } else { "devnet" }, output)?;
    interrupted().await?;
    simulator.stop().await;
    Ok(())
}

/// The settings of a relay that is to use this simulator, ready to be pasted.
fn announce(simulator: &simulator::Simulator, environment: &str, output: Output) -> Result<(), Exit> {
    let api_url = simulator.api_url();
    let websocket_url = simulator.websocket_url();
    if output.is_json() {
        output.json(&json!({
            "api_url": api_url,
            "websocket_url": websocket_url,
            "environment": environment,
            "api_key": simulator.api_key(),
            "webhook_secret": simulator.webhook_secret(),
        }))?;
        return Ok(());
    }
    for (name, value) in [
        ("PEPAY_RELAY__PROVIDER__API_URL", api_url.as_str()),
        ("PEPAY_RELAY__PROVIDER__WEBSOCKET_URL", &websocket_url),
        ("PEPAY_RELAY__PROVIDER__ENVIRONMENT", environment),
        // Made up, and printed on purpose: they open nothing but this simulator.
        ("PEPAY_RELAY_API_KEY", simulator.api_key()),
        ("PEPAY_RELAY_WEBHOOK_SECRETS", simulator.webhook_secret()),
    ] {
        output.line(format!("{}={value}", paint(name, Style::new().bold(), output.colour())))?;
    }
    Ok(())
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
    use super::*;

    #[test]
    fn a_pace_has_bounds() {
        assert_eq!(parse_pace("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_pace("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "1", "-1s", "10us", "often"] {
            assert!(parse_pace(wrong).is_err(), "{wrong}");
        }
    }
}

//! `simulator`: the simulated provider as a server of its own.

use super::interrupted;
use super::output::{Output, paint};
use crate::config::is_account_name;
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
    /// Serve a merchant of this name, with orders, key and secret of its own, and webhooks at URL/NAME; may be given more than
    /// once, for a relay with as many accounts
    #[arg(long, value_name = "NAME", value_parser = parse_merchant)]
    pub merchant: Vec<String>,
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
    let failed = |error| Exit::failed(format!("cannot serve at {}: {error}", arguments.listen));
    let mut names = arguments.merchant.iter().zip(0..).map(|(name, number)| options(arguments, Some(name), number));
    let first = names.next().unwrap_or_else(|| options(arguments, None, 0));
    let mut merchants = vec![simulator::Simulator::start(first).await.map_err(failed)?];
    for options in names {
        let merchant = merchants[0].beside(options).map_err(failed)?;
        merchants.push(merchant);
    }
    announce(&merchants, arguments, output)?;
    interrupted().await?;
    for merchant in merchants {
        merchant.stop().await;
    }
    Ok(())
}

/// What a merchant is like; ids and fates of each are different ones, also where the seed of all is the same.
fn options(arguments: &Simulator, name: Option<&str>, number: u64) -> Options {
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
    let Some(name) = name else { return options };
    Options {
        api_key: format!("{}_{name}", options.api_key),
        webhook_secret: format!("{}-{name}", options.webhook_secret),
        webhook_urls: options.webhook_urls.iter().map(|url| format!("{url}/{name}")).collect(),
        seed: options.seed.wrapping_add(number << 32),
        merchant_id: options.merchant_id + number,
        ..options
    }
}

/// The settings of a relay that is to use this simulator, ready to be pasted. Keys and secrets are made up, and printed on
/// purpose: they open nothing but this simulator.
fn announce(merchants: &[simulator::Simulator], arguments: &Simulator, output: Output) -> Result<(), Exit> {
    let environment = if arguments.mainnet { "mainnet" } else { "devnet" };
    let (api_url, websocket_url) = (merchants[0].api_url(), merchants[0].websocket_url());
    let named = || arguments.merchant.iter().zip(merchants);
    if output.is_json() {
        let mut said = json!({ "api_url": api_url, "websocket_url": websocket_url, "environment": environment });
        let secrets =
            |of: &simulator::Simulator| json!({ "api_key": of.api_key(), "webhook_secret": of.webhook_secret() });
        if arguments.merchant.is_empty() {
            said["api_key"] = merchants[0].api_key().into();
            said["webhook_secret"] = merchants[0].webhook_secret().into();
        } else {
            said["accounts"] = named().map(|(name, of)| (name.clone(), secrets(of))).collect();
        }
        output.json(&said)?;
        return Ok(());
    }
    let mut lines = vec![
        ("PEPAY_RELAY__PROVIDER__API_URL".to_owned(), api_url.as_str()),
        ("PEPAY_RELAY__PROVIDER__WEBSOCKET_URL".to_owned(), &websocket_url),
        ("PEPAY_RELAY__PROVIDER__ENVIRONMENT".to_owned(), environment),
    ];
    if arguments.merchant.is_empty() {
        lines.push(("PEPAY_RELAY_API_KEY".to_owned(), merchants[0].api_key()));
        lines.push(("PEPAY_RELAY_WEBHOOK_SECRETS".to_owned(), merchants[0].webhook_secret()));
    }
    // By the names of the credentials in which a relay looks for them.
    for (name, of) in named() {
        lines.push((format!("{name}.api-key"), of.api_key()));
        lines.push((format!("{name}.webhook-secrets"), of.webhook_secret()));
    }
    for (name, value) in lines {
        output.line(format!("{}={value}", paint(&name, Style::new().bold(), output.colour())))?;
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

fn parse_merchant(text: &str) -> Result<String, String> {
    Some(text.to_owned())
        .filter(|name| is_account_name(name))
        .ok_or_else(|| "expected the name of an account: 1 to 32 of the characters a-z 0-9 -".to_owned())
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

//! `simulator`: the simulated provider as a server of its own.

use super::output::{Output, paint};
use super::{args, interrupted};
use crate::exit::Exit;
use crate::simulator::{Options, Pace, Simulator};
use owo_colors::Style;
use serde_json::json;

/// Serves until Ctrl-C or SIGTERM. Prints where, and the key and secret that a relay beside it needs.
///
/// # Errors
///
/// Status 1 when the address cannot be bound.
pub(super) async fn run(arguments: &args::Simulator, output: Output) -> Result<(), Exit> {
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
    let simulator = Simulator::start(options)
        .await
        .map_err(|error| Exit::failed(format!("cannot serve at {}: {error}", arguments.listen)))?;
    announce(&simulator, if arguments.mainnet { "mainnet" } else { "devnet" }, output)?;
    interrupted().await?;
    simulator.stop().await;
    Ok(())
}

/// The settings of a relay that is to use this simulator, ready to be pasted.
fn announce(simulator: &Simulator, environment: &str, output: Output) -> Result<(), Exit> {
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

//! `smoke`: the provider's integration checklist, walked row by row on devnet or on the simulator.
//!
//! Buys three times, takes each order through a life, and sees every event of them in Kafka, once. What it made stays
//! with the provider; the topics of a relay of its own are deleted, however the walk ends.

mod purchase;
mod report;
mod witness;

use super::check::stream_remedy;
use super::output::Output;
use super::replay::About;
use super::webhook::{Posted, address, post, signed};
use super::{Context, interrupted};
use crate::clock::{now_ms, spelled};
use crate::config::{AccountSecrets, Config, Secrets};
use crate::daemon::{Reach, planner_settings};
use crate::exit::Exit;
use crate::kafka::topics;
use crate::labels::Topic;
use crate::provider::Environment;
use crate::provider::event::order_of_event;
use crate::provider::rest::{Customer, EventQuery, Rest};
use crate::text::foreign;
use clap::{Args, ValueHint};
use futures::TryStreamExt;
use purchase::{LIVES, buy, live, views};
use report::{Report, Wrong};
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use witness::Witness;

pub(super) const EXAMPLES: &str = "\
Examples:
  pepay-relay smoke
  pepay-relay smoke --webhook-url https://shop.example/webhooks/pepay --wait-for-ping 2m
  pepay-relay smoke --output json

Creates three orders on devnet and takes them through every transition. Exits with 1 on any cross.";

/// Arguments of `smoke`.
#[derive(Args, Debug)]
pub struct Smoke {
    /// Public URL of the webhook endpoint; a signed and a forged webhook are sent there
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub webhook_url: Option<String>,
    /// Wait this long for a `test.ping` from the provider's dashboard
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub wait_for_ping: Option<Duration>,
    /// Product to buy, as words for the search
    #[arg(long, value_name = "WORDS", default_value = "cable")]
    pub product: String,
    /// Customer that buys [default: `commerce.customer_id`]
    #[arg(long, value_name = "ID")]
    pub customer_id: Option<String>,
}

/// Who buys where nobody was named: the same each time, as the checklist wants a customer to be.
const CUSTOMER: &str = "pepay-relay-smoke";

/// The log shows an order's events when two looks, so far apart, find the same.
const LOG_SETTLES: Duration = Duration::from_secs(1);
/// … and after this many looks they are taken as they are.
const LOOKS_MAX: u32 = 20;
/// The provider's clock may be behind ours by so much, in seconds.
const CLOCKS_DISAGREE_S: i64 = 300;

/// Between two looks whether the ping has come.
const PING_LOOK: Duration = Duration::from_millis(500);

/// Walks the list.
///
/// # Errors
///
/// Status 78 for a relay of mainnet, 1 on any cross.
pub(super) async fn run(
    arguments: &Smoke,
    settings: &Context,
    account: &AccountSecrets,
    output: Output,
) -> Result<(), Exit> {
    if settings.config.provider.environment != Environment::Devnet {
        return Err(Exit::settings("smoke buys and simulates, on devnet alone; name the settings of a devnet relay"));
    }
    let mut report = Report::new(output);
    let own = witness::occasional(&settings.config);
    let mut stage = Stage::Before;
    let walked = tokio::select! {
        walked = walk(arguments, settings, account, &own, &mut report, &mut stage) => walked,
        stopped = interrupted() => stopped.and(Err(Exit::failed("stopped; the orders stay with the provider"))),
    };
    let closed = tokio::select! {
        closed = close(stage, &own, &settings.secrets) => closed,
        again = interrupted() => again.and(Err(Exit::failed(format!(
            "left at once; delete what may be left of the topics {}, …",
            own.kafka.topics.orders
        )))),
    };
    if let Err(exit) = closed {
        report.tell("clean up", Err(exit.into()))?;
    }
    walked?;
    report.end()
}

/// How far the looking at Kafka is; topics of our own may be there from `Opening` on.
enum Stage {
    Before,
    Opening,
    Open(Result<Box<Witness>, Exit>),
}

/// Leaves nothing of ours in Kafka.
async fn close(stage: Stage, own: &Config, secrets: &Secrets) -> Result<(), Exit> {
    match stage {
        Stage::Before | Stage::Open(Err(_)) => Ok(()),
        Stage::Opening => Ok(topics::delete(own, secrets).await?),
        Stage::Open(Ok(witness)) => witness.close().await,
    }
}

async fn walk(
    arguments: &Smoke,
    settings: &Context,
    account: &AccountSecrets,
    own: &Config,
    report: &mut Report,
    stage: &mut Stage,
) -> Result<(), Exit> {
    let Context { config, secrets, warnings, .. } = settings;
    let reach = Reach::new(config, account.api_key.clone(), secrets.proxies.clone())?;
    let rest = super::client::patient(&reach);
    report.tell("key", key(warnings.iter().map(ToString::to_string)))?;
    report.tell("availability", availability(&rest).await)?;
    let named = arguments.customer_id.as_ref().or(config.commerce.customer_id.as_ref());
    match named {
        Some(id) => report.tell("customer", Ok(format!("by customer id, `{}`", foreign(id))))?,
        None => report.not_checked("customer", "name one with commerce.customer_id, so that it stays the same")?,
    }
    match config.websocket.enabled {
        true => {
            let probed = reach.dialer(config).probe().await;
            let url = config.provider.websocket_url.clone();
            let wrong = |error: String| Wrong::new(error.as_str(), stream_remedy(&error));
            report.tell("stream", probed.map(|()| url).map_err(wrong))?;
        }
        false => report.not_checked("stream", "turned off by websocket.enabled")?,
    }
    *stage = Stage::Opening;
    *stage = Stage::Open(Witness::open(settings, own).await.map(Box::new));
    let Stage::Open(witness) = stage else { return Err(Exit::failed("no consumer is reading Kafka; try again")) };
    let inside = witness.as_ref().ok().and_then(|witness| witness.webhook_url(&account.name));
    match arguments.webhook_url.clone().or(inside) {
        _ if account.webhook.is_empty() => report.not_checked("webhook", "turned off by webhook.enabled")?,
        Some(url) => report.tell("webhook", webhook(&url, settings, account).await)?,
        None => report.not_checked("webhook", "name our ingress as the provider reaches it with --webhook-url")?,
    }
    ping(arguments.wait_for_ping, config, report, witness.as_deref()).await?;
    let customer = Customer::Id(named.map_or(CUSTOMER, String::as_str).to_owned());
    let began_s = now_ms().div_euclid(1000).saturating_sub(CLOCKS_DISAGREE_S);
    let bought = match purchases(&rest, &customer, &arguments.product).await {
        Ok(bought) => {
            let ids: Vec<String> = bought.iter().map(|about| foreign(&about.order).to_string()).collect();
            report.tell("checkout", Ok(format!("estimate, address and invoice made {}", ids.join(", "))))?;
            bought
        }
        Err(wrong) => {
            report.tell("checkout", Err(wrong))?;
            for row in ["orders", "lifecycle", "kafka"] {
                report.not_checked(row, "no order was made")?;
            }
            return mainnet(report);
        }
    };
    let seen = match bought.first() {
        Some(first) => views(&rest, &customer, first).await,
        None => Err(Wrong::new("no order was made", "")),
    };
    report.tell("orders", seen)?;
    report.tell("lifecycle", lives(&rest, &bought).await)?;
    let kafka = match witness {
        Ok(witness) => match issued(&rest, &bought, settings, began_s).await {
            Ok(wanted) => witness.saw(&wanted).await,
            Err(wrong) => Err(wrong),
        },
        Err(exit) => Err(Wrong::of(exit.message())),
    };
    report.tell("kafka", kafka)?;
    mainnet(report)
}

/// Reported, not required: what a key of devnet may do proves nothing about one of mainnet.
fn mainnet(report: &mut Report) -> Result<(), Exit> {
    report.not_checked("mainnet", "a devnet key cannot tell; the provider grants access to mainnet")
}

/// Stored in a place that nobody else reads; the settings warn of one that others can.
fn key(mut warnings: impl Iterator<Item = String>) -> Result<String, Wrong> {
    match warnings.find(|warning| warning.contains("API key")) {
        Some(warning) => Err(Wrong::of(&warning)),
        None => Ok("stored, and not readable by others".to_owned()),
    }
}

async fn availability(rest: &Rest) -> Result<String, Wrong> {
    let status = rest.commerce_status().await?.view;
    let off: Vec<&str> = ["search", "checkout", "orders"]
        .into_iter()
        .filter(|feature| status.features.get(*feature) == Some(&false))
        .collect();
    if status.status != "available" {
        return Err(Wrong::new(format!("the provider says `{}`", foreign(&status.status)), "try again later"));
    }
    if !off.is_empty() {
        return Err(Wrong::new(
            format!("turned off: {}", off.join(", ")),
            "ask the provider to turn it on for the key",
        ));
    }
    Ok("available".to_owned())
}

/// A genuine webhook is taken, and the same with a signature of nobody's is not.
async fn webhook(url: &str, Context { config, .. }: &Context, account: &AccountSecrets) -> Result<String, Wrong> {
    let url = address(url)?;
    let environment = Some(config.provider.environment);
    let now_ms = now_ms();
    let event = serde_json::json!({
        "id": format!("evt_{now_ms}-0"), "object": "event", "type": "test.ping", "created": now_ms.div_euclid(1000),
        "livemode": false, "data": { "object": { "message": "pepay-relay smoke" } },
    });
    let body = event.to_string().into_bytes();
    let Posted { status, text } =
        post(&url, signed(&body, now_ms, environment, &account.webhook), body.clone(), config).await?;
    if status != 200 {
        let message = format!("a genuine webhook is answered {status} {}", foreign(&text));
        return Err(Wrong::new(message, "see that it is the relay that listens there, with this secret"));
    }
    let nobodys = [SecretString::from(Uuid::new_v4().to_string())];
    let Posted { status, .. } = post(&url, signed(&body, now_ms, environment, &nobodys), body, config).await?;
    if status != 400 {
        let message = format!("a forged webhook is answered {status} and not 400");
        return Err(Wrong::new(message, "see that nothing on the way answers in the relay's place"));
    }
    Ok("a genuine one is taken, a forged one refused".to_owned())
}

async fn ping(
    wait: Option<Duration>,
    config: &Config,
    report: &mut Report,
    witness: Result<&Witness, &Exit>,
) -> Result<(), Exit> {
    let Some(wait) = wait else {
        return report.not_checked("test.ping", "wait for the one of the provider's dashboard with --wait-for-ping 2m");
    };
    let Ok(witness) = witness else { return report.not_checked("test.ping", "no relay is there to take it") };
    if config.kafka.topics.name(Topic::Invoices).is_none() {
        // Both are ignored and counted as that.
        let why = "events of kafka.topics.invoices, which is turned off, could not be told from it";
        return report.not_checked("test.ping", why);
    }
    let Some(before) = witness.pings().await else {
        return report.not_checked("test.ping", "no relay runs here that the provider could reach");
    };
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline {
        if witness.pings().await.is_some_and(|now| now > before) {
            return report.tell("test.ping", Ok("came, and was answered".to_owned()));
        }
        sleep(PING_LOOK).await;
    }
    let message = format!("did not come within {}", spelled(wait));
    report.tell("test.ping", Err(Wrong::new(message, "press it in the provider's dashboard, for this endpoint")))
}

async fn purchases(rest: &Rest, customer: &Customer, words: &str) -> Result<Vec<About>, Wrong> {
    let mut bought = Vec::new();
    for _ in LIVES {
        bought.push(buy(rest, customer, words).await?);
    }
    Ok(bought)
}

async fn lives(rest: &Rest, bought: &[About]) -> Result<String, Wrong> {
    let mut taken = 0;
    let mut refused = 0;
    for (about, life) in bought.iter().zip(LIVES) {
        let steps = live(rest, about, life).await?;
        taken += steps.0;
        refused += steps.1;
    }
    Ok(format!("all eight transitions, {taken} steps taken and {refused} refused as documented"))
}

/// Ids of the events that the provider's log shows of these orders, once they do not change any more.
async fn issued(rest: &Rest, bought: &[About], settings: &Context, began_s: i64) -> Result<BTreeSet<String>, Wrong> {
    let core = planner_settings(&settings.config);
    let query = EventQuery { created_from: Some(began_s), ..EventQuery::default() };
    let mut last = BTreeSet::new();
    for _ in 0..LOOKS_MAX {
        let mut found = BTreeSet::new();
        let mut orders = BTreeSet::new();
        let mut pages = pin!(rest.event_pages(&query, None, 100));
        while let Some(page) = pages.try_next().await? {
            // Nobody can see an invoice's events where their topic is turned off.
            let published = page.events.into_iter().filter(|e| core.invoices || order_of_event(&e.bytes).is_some());
            for event in published {
                let about = bought.iter().find(|about| about.has(&event.bytes, &core.normalize));
                if let (Some(id), Some(about)) = (event.id, about) {
                    orders.insert(about.order.as_str());
                    found.insert(id);
                }
            }
        }
        if found == last && orders.len() == bought.len() {
            return Ok(found);
        }
        last = found;
        sleep(LOG_SETTLES).await;
    }
    let message = format!("the provider's log shows {} events of the orders and does not settle", last.len());
    Err(Wrong::new(message, "try again later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_crossed() {
        assert!(key(std::iter::empty()).is_ok());
        assert!(key(["one replica".to_owned()].into_iter()).is_ok());
        let warning = "/etc/key: others can read the commerce API key; chmod 600 it";
        let wrong = Wrong::new("/etc/key: others can read the commerce API key", "chmod 600 it");
        assert_eq!(key([warning.to_owned()].into_iter()), Err(wrong));
    }
}

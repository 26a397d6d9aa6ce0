//! `forget`: a tombstone for an order in the topic of latest events.

use super::args::Times;
use super::output::Output;
use super::values::Zone;
use super::{Context, interrupted};
use crate::exit::Exit;
use crate::kafka::Batch;
use crate::kafka::consume::{Consumed, newest_of};
use crate::kafka::side_writer::{SideWriter, Written};
use crate::kafka::topics::inspect;
use crate::labels::Topic;
use crate::provider::rest::ObjectTime;
use crate::relay::KEY_BYTES_MAX;
use crate::text::foreign;
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

pub(super) const EXAMPLES: &str = "\
Examples:
  pepay-relay forget --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40          what it would do
  pepay-relay forget --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40 --yes

A later event of the order writes it again. Other topics keep its events until their retention ends.";

/// Arguments of `forget`.
#[derive(Args, Debug)]
pub struct Forget {
    /// The order's id
    #[arg(long, value_name = "ID")]
    pub order: String,
    /// Do it; otherwise only show what would be done
    #[arg(long)]
    pub yes: bool,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Shows what `latest` holds of the order, and with `--yes` forgets it.
///
/// # Errors
///
/// Status 78 when the topic is turned off, 77 when Kafka refuses, 1 when it fails.
pub(super) async fn run(arguments: &Forget, settings: &Context, output: Output) -> Result<(), Exit> {
    tokio::select! {
        done = forget(arguments, settings, output) => done,
        stopped = interrupted() => stopped.and(Err(Exit::failed("stopped; ask again without --yes whether it is forgotten"))),
    }
}

async fn forget(arguments: &Forget, settings: &Context, output: Output) -> Result<(), Exit> {
    let Context { config, secrets, .. } = settings;
    let order = arguments.order.as_str();
    if order.is_empty() || order.len() > KEY_BYTES_MAX {
        return Err(Exit::failed("--order is not an order id; copy it from `orders list` or from a record's key"));
    }
    let Some(topic) = config.kafka.topics.name(Topic::OrdersLatest) else {
        return Err(Exit::settings("`kafka.topics.orders_latest` is empty, so there is nothing to forget"));
    };
    let topics = inspect(config, secrets).await?;
    if topics.reports.iter().any(|report| report.topic == Topic::OrdersLatest && report.actual.is_none()) {
        return Err(Exit::settings(format!("{topic} does not exist; there is nothing to forget")));
    }
    let mut holding = newest_of(config, secrets, topic, order).await?;
    holding.retain(|record| record.value.is_some());
    let held = holding.iter().max_by_key(|record| record.published_at_ms);
    let forgets = held.is_some() && arguments.yes;
    if forgets {
        // Of the names that are not the relay's own, this one is for what is written alongside it.
        let aside = SideWriter::open(config, secrets, &format!("{}.replay.{}", config.name, Uuid::new_v4())).await?;
        let mut batch = Batch::default();
        // Where the topic got more partitions, one of them may still hold what was published before.
        for record in &holding {
            batch.tombstone(Topic::OrdersLatest, order.as_bytes(), record.partition);
        }
        if aside.commit(batch).await?.1 == Written::Refused {
            return Err(Exit::failed(format!("Kafka refuses the tombstone; see the settings of {topic}")));
        }
    }
    if output.is_json() {
        let held = held.map(|record| json!({ "status": status(record), "published_ms": record.published_at_ms }));
        return Ok(output.json(&json!({ "order": order, "topic": topic, "held": held, "forgotten": forgets }))?);
    }
    let order = foreign(order);
    let Some(record) = held else {
        return Ok(output.line(format!("{topic} holds nothing of order {order}"))?);
    };
    let status = status(record).map_or_else(String::new, |status| format!("`{}`, ", foreign(&status)));
    let published = Zone::new(arguments.times.utc).time(ObjectTime::from_ms(record.published_at_ms));
    output.line(format!("{topic} holds order {order}: {status}published {published}"))?;
    let line = if forgets {
        "forgotten: a tombstone is committed; Kafka removes earlier records when it compacts"
    } else {
        "nothing was written; add --yes to write a tombstone, after which Kafka removes it when it compacts"
    };
    output.line(line)?;
    Ok(output
        .line("a later event of the order writes it again; other topics keep its events until their retention ends")?)
}

fn status(record: &Consumed) -> Option<String> {
    #[derive(Deserialize)]
    struct Glance {
        status: Option<String>,
    }
    serde_json::from_slice::<Glance>(record.value.as_deref()?).ok()?.status
}

//! `replay`: events of the provider's log published once more, past the relay's window on purpose.
//!
//! Goes down the log as the backfill does and out oldest first. A page of at most 100 events is one transaction that is
//! committed before the next page is asked for, so nothing waits uncommitted for the provider, and a commit comes at
//! least every second as long as the provider answers within one. It has a transactional id of its own: a relay that
//! runs alongside it is neither fenced nor waited for, and its checkpoint and `latest` are not touched.

mod select;
mod tally;

use super::args::{When, parse_moment, parse_past};
use super::client::{failed, patient};
use super::output::Output;
use super::{Context, interrupted};
use crate::clock::now_ms;
use crate::config::{AccountSecrets, Config};
use crate::daemon::Reach;
use crate::daemon::planner_settings;
use crate::exit::Exit;
use crate::kafka::Batch;
use crate::kafka::side_writer::{SideWriter, Written};
use crate::kafka::topics::inspect;
use crate::labels::Topic;
use crate::legs::backfill::walk::{Step, Walk};
use crate::normalize::SchemaIds;
use crate::provider::EventId;
use crate::provider::page::Listed;
use crate::provider::rest::{Rest, RestError};
use crate::registry;
use crate::relay::replay;
use bytes::Bytes;
use clap::Args;
pub(super) use select::About;
use select::Wanted;
use std::future::Future;
use std::pin::{Pin, pin};
use tally::{Bar, Tally};
use uuid::Uuid;

pub(super) const EXAMPLES: &str = "\
Examples:
  pepay-relay replay --from 2026-01-15T10:00:00Z --to 2026-01-15T11:00:00Z     what it would do
  pepay-relay replay --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40 --yes
  pepay-relay replay --event evt_1768472100655-0 --yes

Records carry `relay_replay` (one id per replay) and `relay_stale`, and are not written to the topic of latest events.";

/// Arguments of `replay`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["from", "event", "order"])))]
pub struct Replay {
    /// Events that occurred since then: a duration ago (`2h`) or a time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub from: Option<When>,
    /// Events that occurred until then [default: now]
    #[arg(long, value_name = "TIME", requires = "from", conflicts_with_all = ["event", "order"], value_parser = parse_moment)]
    pub to: Option<When>,
    /// Only this event
    #[arg(long, value_name = "ID")]
    pub event: Option<String>,
    /// All events of this order and its invoice that the provider's log still holds
    #[arg(long, value_name = "ID")]
    pub order: Option<String>,
    /// Do it; otherwise only show what would be done
    #[arg(long)]
    pub yes: bool,
}

/// Republishes, or shows what it would republish.
///
/// # Errors
///
/// Status 77 when Kafka refuses, 1 when the provider or Kafka fails; what is committed by then is printed.
pub(super) async fn run(
    arguments: &Replay,
    settings: &Context,
    account: &AccountSecrets,
    output: Output,
) -> Result<(), Exit> {
    let Context { config, secrets, .. } = settings;
    let rest = patient(&Reach::new(config, account.api_key.clone(), secrets.proxies.clone())?);
    let id = Uuid::new_v4().to_string();
    let mut core = planner_settings(config);
    if arguments.yes {
        core.schema_ids = schema_ids(config).await;
    }
    let replay = replay::Replay::new(core, account.name.clone(), id.clone());
    let aside = match arguments.yes {
        true => Some(open(settings, &id).await?),
        false => None,
    };
    let mut job = Job { rest: &rest, replay, aside, tally: Tally::default(), bar: Bar::stderr() };
    let done = match &arguments.event {
        Some(event) => job.one(event).await,
        None => {
            let wanted = Wanted::of(arguments, &rest, planner_settings(config).normalize, now_ms()).await?;
            job.walk(&wanted, pin!(interrupted())).await
        }
    };
    job.bar.clear();
    let id = arguments.yes.then_some(id);
    if done.is_ok() || job.tally.records() > 0 {
        job.tally.show(id.as_deref(), config, output)?;
    }
    done
}

/// What the schema registry calls the schemas, if the settings name one: what is published again names them as well.
async fn schema_ids(config: &Config) -> SchemaIds {
    let ids = SchemaIds::default();
    registry::learn_once(config, &ids).await;
    ids
}

/// Opens the producer, once the topics are there: a record for one that is not would be waited for in vain.
async fn open(settings: &Context, id: &str) -> Result<SideWriter, Exit> {
    let Context { config, secrets, .. } = settings;
    for report in inspect(config, secrets).await?.reports {
        if matches!(report.topic, Topic::Orders | Topic::Invoices) && report.actual.is_none() {
            let name = report.name;
            return Err(Exit::settings(format!("{name} does not exist; create it: pepay-relay topics --create")));
        }
    }
    Ok(SideWriter::open(config, secrets, &format!("{}.replay.{id}", config.name)).await?)
}

/// A replay under way.
struct Job<'a> {
    rest: &'a Rest,
    replay: replay::Replay,
    /// `None` for a dry run.
    aside: Option<SideWriter>,
    tally: Tally,
    bar: Bar,
}

impl Job<'_> {
    async fn one(&mut self, event_id: &str) -> Result<(), Exit> {
        let answer = self.rest.event(event_id).await.map_err(failed)?;
        let bytes = Bytes::copy_from_slice(answer.raw.get().as_bytes());
        self.publish(&[Listed { bytes, id: Some(event_id.to_owned()), occurred_at_ms: None }]).await
    }

    /// Down the log and out again. `stop` ends it between two transactions.
    async fn walk(
        &mut self,
        which: &Wanted,
        mut stop: Pin<&mut impl Future<Output = Result<(), Exit>>>,
    ) -> Result<(), Exit> {
        let mut walk = Walk::new(which.mark_ms());
        loop {
            match walk.step() {
                Step::Fetch { starting_after, limit } => {
                    let before = walk.looked_at();
                    let answer = self.page(starting_after, limit, stop.as_mut()).await?;
                    walk.answer(answer).map_err(failed)?;
                    let share = walk.oldest_ms().and_then(|ms| which.share_behind(ms, now_ms()));
                    self.bar.looked_at(walk.looked_at() - before, share);
                }
                Step::HandOn(page) => {
                    let passed = page.len();
                    let events: Vec<Listed> = page.into_iter().filter(|event| which.takes(event)).collect();
                    tokio::select! {
                        biased;
                        _ = stop.as_mut() => return Err(stopped()),
                        () = std::future::ready(()) => {}
                    }
                    self.publish(&events).await?;
                    self.bar.passed(passed, self.tally.records());
                }
                Step::Done { reached } => {
                    self.tally.reaches_back = which.is_since().then_some(reached);
                    return Ok(());
                }
                Step::Broken(why) => return Err(failed(RestError::Malformed(format!("{why}, in the event log")))),
            }
        }
    }

    async fn page(
        &self,
        starting_after: Option<EventId>,
        limit: usize,
        stop: Pin<&mut impl Future<Output = Result<(), Exit>>>,
    ) -> Result<Result<Bytes, RestError>, Exit> {
        let cursor = starting_after.map(|event| event.to_string());
        tokio::select! {
            body = self.rest.events(cursor.as_deref(), limit) => Ok(body),
            _ = stop => Err(stopped()),
        }
    }

    /// One transaction; where Kafka refuses it for its size, one for each event.
    async fn publish(&mut self, events: &[Listed]) -> Result<(), Exit> {
        if self.commit(events).await? {
            return Ok(());
        }
        for event in events {
            if !self.commit(std::slice::from_ref(event)).await? {
                self.tally.too_large += 1;
            }
        }
        Ok(())
    }

    /// Whether the events' records are committed, or would be; a dry run refuses none.
    async fn commit(&mut self, events: &[Listed]) -> Result<bool, Exit> {
        let mut batch = Batch::default();
        let mut tally = Tally::default();
        for event in events {
            tally.count(event.id.as_deref(), self.replay.add(&mut batch, &event.bytes, now_ms()));
        }
        if let Some(aside) = self.aside.as_ref().filter(|_| !batch.is_empty()) {
            let written = aside.commit(batch).await.map_err(|error| {
                let Tally { newest, .. } = &self.tally;
                let up_to = newest.as_ref().map_or_else(|| "nothing".to_owned(), |id| format!("everything up to {id}"));
                let error = Exit::from(error);
                error.with(|sentence| format!("{sentence}; {up_to} is committed; replay the rest, or all of it, again"))
            })?;
            if written.1 == Written::Refused {
                return Ok(false);
            }
        }
        self.tally.add(tally);
        Ok(true)
    }
}

fn stopped() -> Exit {
    Exit::failed("stopped between two transactions; replay the rest, or all of it, again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_replay_is_of_exactly_one_thing() {
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            _replay: Replay,
        }
        let taken = |line: &str| Line::try_parse_from(["replay"].into_iter().chain(line.split_whitespace())).is_ok();
        for line in ["--from 2h", "--from 2h --to 1h --yes", "--event e", "--order o --yes"] {
            assert!(taken(line), "{line}");
        }
        for line in [
            "",
            "--yes",
            "--to 1h",
            "--event e --order o",
            "--from 1h --event e",
            "--event e --to 1h",
            "--from 9000-01-01T00:00:00Z",
        ] {
            assert!(!taken(line), "{line}");
        }
    }
}

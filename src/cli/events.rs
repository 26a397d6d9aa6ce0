//! `events`: what is in the provider's log.

use super::args::{self, Times, parse_moment, parse_past};
use super::client::{Client, failed};
use super::output::table;
use super::values::{Zone, text};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::provider::rest::{EventQuery, EventView, ObjectTime};
use crate::text::clip;
use clap::{Args, Subcommand};
use futures::TryStreamExt;
use std::pin::pin;

pub(super) const EXAMPLES: &str = "\
Examples:
  pepay-relay events list --type 'invoice.*' --from 2h
  pepay-relay events list --limit 500 --output json     one event per line, as the provider wrote it
  pepay-relay events get evt_1768472100655-0";

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
    /// List events, newest first
    #[command(after_help = EXAMPLES)]
    List(EventsList),
    /// Show one event
    #[command(after_help = EXAMPLES)]
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
    /// Only events created since then: a duration ago (`2h`) or a time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub from: Option<args::When>,
    /// Only events created until then
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub to: Option<args::When>,
    /// Only events older than this one
    #[arg(long, value_name = "EVENT")]
    pub after: Option<String>,
    /// Maximum number of events; further pages are fetched as needed
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

/// Events of a page at most (`api-spec/pagination`).
const PAGE_EVENTS_MAX: u64 = 100;

/// Asks and shows.
///
/// # Errors
///
/// Status 1 and what the provider answered, with a remedy.
pub(super) async fn run(arguments: &Events, client: &Client) -> Result<(), Exit> {
    match &arguments.command {
        EventsCommand::List(arguments) => list(arguments, client).await,
        EventsCommand::Get(arguments) => get(arguments, client).await,
    }
}

async fn list(arguments: &EventsList, client: &Client) -> Result<(), Exit> {
    let rest = &client.rest;
    let output = client.output;
    let zone = Zone::new(arguments.times.utc);
    let now_ms = now_ms();
    let seconds = |moment: &Option<args::When>| moment.map(|moment| moment.unix_ms(now_ms).div_euclid(1000));
    let query = EventQuery {
        types: arguments.types.clone(),
        invoice_id: arguments.invoice.clone(),
        created_from: seconds(&arguments.from),
        created_to: seconds(&arguments.to),
    };
    let limit = usize::try_from(arguments.limit.min(PAGE_EVENTS_MAX)).unwrap_or(1);
    let mut pages = pin!(rest.event_pages(&query, arguments.after.clone(), limit));
    let mut left = arguments.limit;
    let mut table = table(["created", "type", "object", "status", "event"]);
    let mut found = false;
    while left > 0
        && let Some(page) = pages.try_next().await.map_err(failed)?
    {
        for event in page.events.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            found = true;
            if output.is_json() {
                output.line(one_line(&String::from_utf8_lossy(&event.bytes)))?;
            } else {
                table.add_row(row(&EventView::of(&event.bytes), event.occurred_at_ms, &zone));
            }
        }
    }
    match (output.is_json(), found) {
        (true, _) => Ok(()),
        (false, true) => Ok(output.table(&table)?),
        (false, false) => Ok(output.line("no such event in the provider's log")?),
    }
}

async fn get(arguments: &EventsGet, client: &Client) -> Result<(), Exit> {
    let output = client.output;
    let answer = client.rest.event(&arguments.id).await.map_err(failed)?;
    if output.is_json() {
        return Ok(output.line(one_line(answer.raw.get()))?);
    }
    let view = &answer.view;
    let at_ms = view.created.map(|created| created.0.as_millisecond());
    let [created, kind, object, status, id] = row(view, at_ms, &Zone::new(arguments.times.utc));
    output.fields(&[("event", id), ("type", kind), ("created", created), ("object", object), ("status", status)])?;
    let whole: serde_json::Value = serde_json::from_str(answer.raw.get()).map_err(|_| Exit::failed("no JSON"))?;
    output.line("")?;
    let pretty = serde_json::to_string_pretty(&whole).unwrap_or_default();
    // JSON escapes the control characters of ASCII alone; a terminal obeys others as well.
    pretty.lines().try_for_each(|line| output.line(clip(line, usize::MAX)))?;
    Ok(())
}

fn row(view: &EventView, at_ms: Option<i64>, zone: &Zone) -> [String; 5] {
    let object = &view.data.object;
    let [kind, about, status, id] =
        [&view.kind, &object.id, &object.status, &view.id].map(|cell| text(cell.as_deref()));
    [zone.time(at_ms.and_then(ObjectTime::from_ms)), kind, about, status, id]
}

/// JSON on one line, otherwise as it came: line ends are between its tokens alone, since texts escape theirs.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_what_it_was_but_for_its_line_ends() {
        assert_eq!(one_line("{\n \"a\":\r\n1.50}"), "{  \"a\":  1.50}");
    }
}

//! `events`: what stands in the provider's log.

use super::args::{Events, EventsCommand, EventsGet, EventsList, Moment};
use super::output::{Output, table};
use super::provider::{refused, rest};
use crate::clock::now_ms;
use crate::config::Config;
use crate::exit::Exit;
use crate::provider::rest::{EventQuery, EventView, Rest};
use crate::telemetry::foreign;
use futures::TryStreamExt;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use std::pin::pin;

/// Events of a page at most (`api-spec/pagination`).
const PAGE_EVENTS_MAX: u64 = 100;

/// Asks and shows.
///
/// # Errors
///
/// Status 1 and what the provider said, with a remedy.
pub(super) async fn run(arguments: &Events, config: &Config, key: SecretString, output: Output) -> Result<(), Exit> {
    let rest = rest(config, key)?;
    match &arguments.command {
        EventsCommand::List(arguments) => list(arguments, &rest, output).await,
        EventsCommand::Get(arguments) => get(arguments, &rest, output).await,
    }
}

async fn list(arguments: &EventsList, rest: &Rest, output: Output) -> Result<(), Exit> {
    let now_ms = now_ms();
    let seconds = |moment: &Option<Moment>| moment.map(|moment| moment.unix_ms(now_ms).div_euclid(1000));
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
        && let Some(page) = pages.try_next().await.map_err(refused)?
    {
        for event in page.events.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            found = true;
            if output.is_json() {
                output.line(one_line(&String::from_utf8_lossy(&event.bytes)))?;
            } else {
                table.add_row(row(&EventView::of(&event.bytes), event.occurred_at_ms, arguments.utc));
            }
        }
    }
    match (output.is_json(), found) {
        (true, _) => Ok(()),
        (false, true) => Ok(output.table(&table)?),
        (false, false) => Ok(output.line("no such event in the provider's log")?),
    }
}

async fn get(arguments: &EventsGet, rest: &Rest, output: Output) -> Result<(), Exit> {
    let answer = rest.event(&arguments.id).await.map_err(refused)?;
    if output.is_json() {
        return Ok(output.line(one_line(answer.raw.get()))?);
    }
    let view = &answer.view;
    let at_ms = view.created.map(|created| created.0.as_millisecond());
    let [created, kind, object, status, id] = row(view, at_ms, arguments.utc);
    for (name, value) in [("event", id), ("type", kind), ("created", created), ("object", object), ("status", status)] {
        output.line(format!("{name:8} {value}"))?;
    }
    let whole: serde_json::Value = serde_json::from_str(answer.raw.get()).map_err(|_| Exit::failed("no JSON"))?;
    output.line("")?;
    let pretty = serde_json::to_string_pretty(&whole).unwrap_or_default();
    pretty.lines().try_for_each(|line| output.line(harmless(line)))?;
    Ok(())
}

fn row(view: &EventView, at_ms: Option<i64>, utc: bool) -> [String; 5] {
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "–".to_owned(), |text| foreign(text).to_string());
    let object = &view.data.object;
    [when(at_ms, utc), text(&view.kind), text(&object.id), text(&object.status), text(&view.id)]
}

/// A time for people: in the local zone with its offset, or in UTC.
pub(super) fn when(at_ms: Option<i64>, utc: bool) -> String {
    let Some(at) = at_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) else { return "–".to_owned() };
    let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
    let form = if utc { "%Y-%m-%d %H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%S%:z" };
    at.to_zoned_datetime(zone).strftime(form).to_string()
}

/// JSON on one line, otherwise as it came: line ends stand between its tokens alone, since texts escape theirs.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

/// JSON escapes the control characters of ASCII alone; a terminal obeys others as well.
fn harmless(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_a_zone() {
        assert_eq!(when(Some(1_768_472_100_655), true), "2026-01-15 10:15:00Z");
        assert_eq!(when(None, true), "–");
        assert_eq!(when(Some(i64::MAX), true), "–");
    }

    #[test]
    fn json_stays_what_it_was_but_for_its_line_ends() {
        assert_eq!(one_line("{\n \"a\":\r\n1.50}"), "{  \"a\":  1.50}");
        assert_eq!(harmless("\"\u{9b}2J\""), "\"\u{fffd}2J\"");
    }
}

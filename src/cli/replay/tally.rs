//! What a replay did, as numbers: while it goes on a line on stderr, in the end a report on stdout.

use crate::cli::output::Output;
use crate::config::Config;
use crate::exit::Exit;
use crate::labels::Topic;
use crate::relay::replay::Again;
use crate::text::foreign;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written again: as often as an eye follows.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Characters of the bar: with its words it fits the narrowest usual terminal, of 80.
const BAR_WIDTH: usize = 20;

/// What became of the events so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    orders: u64,
    invoices: u64,
    ignored: u64,
    unpublishable: BTreeMap<&'static str, u64>,
    /// Records that Kafka refused for their size.
    pub(super) too_large: u64,
    oldest: Option<String>,
    /// Id of the last event whose record is committed.
    pub(super) newest: Option<String>,
    /// Whether the provider's log reaches back to the time asked for; `None` where none was.
    pub(super) reaches_back: Option<bool>,
}

impl Tally {
    /// An event, known by its id, became this.
    pub(super) fn count(&mut self, id: Option<&str>, again: Again) {
        match again {
            Again::Record(topic) => {
                if topic == Topic::Invoices {
                    self.invoices += 1
                } else {
                    self.orders += 1
                }
                let id = id.map(|id| foreign(id).to_string());
                self.oldest = self.oldest.take().or_else(|| id.clone());
                self.newest = id.or(self.newest.take());
            }
            Again::Ignored => self.ignored += 1,
            Again::Unpublishable(reason) => *self.unpublishable.entry(reason.as_str()).or_default() += 1,
        }
    }

    /// Adds what came after.
    pub(super) fn add(&mut self, after: Self) {
        self.orders += after.orders;
        self.invoices += after.invoices;
        self.ignored += after.ignored;
        for (reason, count) in after.unpublishable {
            *self.unpublishable.entry(reason).or_default() += count;
        }
        self.oldest = self.oldest.take().or(after.oldest);
        self.newest = after.newest.or(self.newest.take());
    }

    /// Records so far.
    pub(super) const fn records(&self) -> u64 {
        self.orders + self.invoices
    }

    /// The report; `id` is the replay's, `None` for a dry run.
    pub(super) fn show(&self, id: Option<&str>, config: &Config, output: Output) -> Result<(), Exit> {
        if output.is_json() {
            return Ok(output.json(&json!({
                "replay": id,
                "records": { "orders": self.orders, "invoices": self.invoices },
                "oldest": self.oldest, "newest": self.newest,
                "ignored": self.ignored, "unpublishable": self.unpublishable, "too_large": self.too_large,
                "reaches_back": self.reaches_back,
            }))?);
        }
        self.lines(id, config).iter().try_for_each(|line| output.line(line))?;
        Ok(())
    }

    fn lines(&self, id: Option<&str>, config: &Config) -> Vec<String> {
        let mut lines = Vec::new();
        let did = if id.is_some() { "published" } else { "would publish" };
        let topics = &config.kafka.topics;
        for (count, topic) in [(self.orders, &topics.orders), (self.invoices, &topics.invoices)] {
            if count > 0 {
                lines.push(format!("{did} {} to {topic}", counted(count, "event")));
            }
        }
        if self.records() == 0 {
            lines.push("no event of the provider's log to publish".to_owned());
        }
        if let (Some(oldest), Some(newest)) = (&self.oldest, &self.newest) {
            lines.push(format!("oldest {oldest}, newest {newest}"));
        }
        for (reason, count) in &self.unpublishable {
            lines.push(format!(
                "left out {}, which the relay keeps as dead letters: {reason}",
                counted(*count, "event")
            ));
        }
        if self.ignored > 0 {
            lines.push(format!("left out {} of a kind that is not published", counted(self.ignored, "event")));
        }
        if self.too_large > 0 {
            lines.push(format!("left out {}, too large for Kafka", counted(self.too_large, "event")));
        }
        if self.reaches_back == Some(false) {
            lines.push(
                "the provider's log does not show anything from before --from: it may have forgotten some".to_owned(),
            );
        }
        lines.push(match id {
            Some(id) => format!("each record carries relay_replay {id}"),
            None => "nothing was written; add --yes to do it".to_owned(),
        });
        lines
    }
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// How far a replay is: one line on stderr, where a person sees it.
#[derive(Debug)]
pub(super) struct Bar {
    shown: bool,
    drawn: Option<Instant>,
    /// Events of the log, down to where the replay begins.
    seen: u64,
    /// Those of them that were passed on the way out.
    passed: u64,
}

impl Bar {
    pub(super) fn stderr() -> Self {
        Self { shown: std::io::stderr().is_terminal(), drawn: None, seen: 0, passed: 0 }
    }

    /// Another `events` events were looked at on the way down; `share` of the way lies behind, if its end is known.
    pub(super) fn looked_at(&mut self, events: usize, share: Option<f64>) {
        self.seen += u64::try_from(events).unwrap_or(u64::MAX);
        self.draw(&progress("looking", share, &counted(self.seen, "event")));
    }

    /// Another `events` events were passed on the way out; `records` were made of all so far.
    pub(super) fn passed(&mut self, events: usize, records: u64) {
        self.passed += u64::try_from(events).unwrap_or(u64::MAX);
        #[expect(clippy::cast_precision_loss, reason = "a share for the eye")]
        let share = self.passed as f64 / self.seen.max(1) as f64;
        self.draw(&progress("publishing", Some(share), &counted(records, "record")));
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            self.write("\r\x1b[K");
        }
    }

    fn draw(&mut self, text: &str) {
        if self.shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW_EVERY) {
            self.drawn = Some(Instant::now());
            self.write(&format!("\r\x1b[K{text}"));
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to read it.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// `publishing  ██████░░░░░░░░░░░░░░   30 %  120 records`, without the bar where the end is not known.
fn progress(what: &str, share: Option<f64>, count: &str) -> String {
    let Some(share) = share else { return format!("{what}  {count}") };
    let share = share.clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the width")]
    let full = (share * BAR_WIDTH as f64) as usize;
    let percent = (share * 100.0) as u8;
    format!("{what:10}  {}{}  {percent:>3} %  {count}", "█".repeat(full), "░".repeat(BAR_WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Environment;
    use crate::provider::event::Reason;

    #[test]
    fn the_report_names_what_was_done_and_what_was_not() {
        let config = Config::minimal(Environment::Devnet, "localhost:9092");
        let mut tally = Tally::default();
        insta::assert_snapshot!(tally.lines(None, &config).join("\n"), @"
        no event of the provider's log to publish
        nothing was written; add --yes to do it
        ");
        tally.count(Some("evt_1-0"), Again::Record(Topic::Orders));
        let mut after = Tally::default();
        after.count(Some("evt_2-0"), Again::Record(Topic::Invoices));
        after.count(Some("evt_3-0"), Again::Record(Topic::Invoices));
        after.count(Some("evt_4-0"), Again::Ignored);
        after.count(Some("evt_5-0"), Again::Unpublishable(Reason::UnknownType));
        tally.add(after);
        tally.too_large = 1;
        tally.reaches_back = Some(false);
        insta::assert_snapshot!(tally.lines(Some("4b86"), &config).join("\n"), @"
        published 1 event to pepay.orders
        published 2 events to pepay.invoices
        oldest evt_1-0, newest evt_3-0
        left out 1 event, which the relay keeps as dead letters: unknown_type
        left out 1 event of a kind that is not published
        left out 1 event, too large for Kafka
        the provider's log does not show anything from before --from: it may have forgotten some
        each record carries relay_replay 4b86
        ");
    }

    #[test]
    fn the_bar_fills_as_far_as_is_known() {
        let lines = [
            progress("looking", None, "7 events"),
            progress("looking", Some(-0.5), "0 events"),
            progress("publishing", Some(0.304), "120 records"),
            progress("publishing", Some(f64::NAN), "1 record"),
            progress("publishing", Some(7.0), "400 records"),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        looking  7 events
        looking     ░░░░░░░░░░░░░░░░░░░░    0 %  0 events
        publishing  ██████░░░░░░░░░░░░░░   30 %  120 records
        publishing  ░░░░░░░░░░░░░░░░░░░░    0 %  1 record
        publishing  ████████████████████  100 %  400 records
        ");
    }
}

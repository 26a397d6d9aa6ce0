//! The relay's own log lines, shown between the records: the changes of state that a person watching wants to see.

use crate::exit::Exit;
use std::collections::BTreeMap;
use std::fmt;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines ahead of the reader, who reads all the time; what is beyond is dropped, since a log must never stop a relay.
const AHEAD: usize = 256;

/// What happened, as it is shown.
pub(super) struct Stories {
    lines: mpsc::Receiver<(Kind, String)>,
    gaps_open: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    GapOpened,
    GapClosed,
    Other,
}

impl Stories {
    /// Listens to the whole process from here on.
    pub(super) fn listen() -> Result<Self, Exit> {
        let (sender, lines) = mpsc::channel(AHEAD);
        tracing_subscriber::registry()
            .with(Listener(sender))
            .try_init()
            .map_err(|error| Exit::failed(format!("logs are set up already: {error}")))?;
        Ok(Self { lines, gaps_open: 0 })
    }

    /// The next line; pends while there is none.
    pub(super) async fn next(&mut self) -> String {
        let Some((kind, line)) = self.lines.recv().await else { return std::future::pending().await };
        match kind {
            Kind::GapOpened => self.gaps_open += 1,
            Kind::GapClosed => self.gaps_open = self.gaps_open.saturating_sub(1),
            Kind::Other => {}
        }
        line
    }

    /// Gaps that were shown as open and not yet as closed.
    pub(super) fn gaps_open(&self) -> usize {
        self.gaps_open
    }
}

struct Listener(mpsc::Sender<(Kind, String)>);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let ours = event.metadata().target().starts_with("pepay_relay");
        if !ours || *event.metadata().level() > Level::INFO {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(line) = told(&fields) {
            // A full channel drops the line.
            let _ = self.0.try_send(line);
        }
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// The lines that belong into the story, in words; everything else is for logs.
fn told(fields: &Fields) -> Option<(Kind, String)> {
    let get = |name| fields.get(name);
    Some(match get("message") {
        "stream connected" if get("since").is_empty() => (Kind::Other, "stream connected".to_owned()),
        "stream connected" => (Kind::Other, format!("stream connected, asking for what came after {}", get("since"))),
        "stream disconnected" => {
            (Kind::Other, format!("stream disconnected: {}; next try in {} ms", get("cause"), get("retry_in_ms")))
        }
        "gap opened" => (Kind::GapOpened, format!("gap {} opened: {}", get("gap"), get("cause"))),
        "backfill finished" if get("events") == "0" => return None,
        "backfill finished" => {
            (Kind::Other, format!("backfill: {} events of the provider's log checked", get("events")))
        }
        "gap closed" => {
            (Kind::GapClosed, format!("gap {} closed by the {}: {} events", get("gap"), get("by"), get("recovered")))
        }
        "event dead-lettered" => (Kind::Other, format!("kept as a dead letter: {}", get("detail"))),
        "kafka unavailable" => (Kind::Other, "Kafka does not answer".to_owned()),
        _ => return None,
    })
}

//! `tail`: follows the records of a topic like a log.

use super::args::{When, moment};
use super::line::{LineInput, render};
use super::output::Output;
use super::{Context, interrupted};
use crate::clock::{now_ms, rfc3339};
use crate::exit::Exit;
use crate::kafka::consume::{self, Consumed, Follow};
use crate::labels::Topic;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// Arguments of `tail`.
#[derive(Args, Debug)]
pub struct Tail {
    /// Topic, as a key of `[kafka.topics]`
    #[arg(long, value_name = "TOPIC", default_value = Topic::Orders.as_str(), value_parser = topic_parser())]
    pub topic: Topic,
    /// Where to start: `beginning`, `end`, a duration ago (`15m`), or a time (RFC 3339)
    #[arg(long, value_name = "PLACE", default_value = "end", value_parser = parse_from)]
    pub from: StartAt,
    /// Only records of this order
    #[arg(long, value_name = "ID")]
    pub order: Option<String>,
    /// Exit after N records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Where `tail` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record that Kafka still holds.
    Beginning,
    /// What is published from now on.
    End,
    /// Records published since then.
    Since(When),
}

/// Prints records as they are committed, until `--count` of them were shown or Ctrl-C.
///
/// # Errors
///
/// Status 78 when the topic is turned off, 77 when Kafka refuses, 1 when it fails.
pub(super) async fn run(arguments: &Tail, settings: &Context, output: Output) -> Result<(), Exit> {
    let Context { config, secrets, .. } = settings;
    let Some(topic) = config.kafka.topics.name(arguments.topic) else {
        let key = arguments.topic.as_str();
        return Err(Exit::settings(format!(
            "`kafka.topics.{key}` is empty, which turns the topic off; give it a name"
        )));
    };
    let from = match arguments.from {
        StartAt::Beginning => consume::StartAt::Beginning,
        StartAt::End => consume::StartAt::End,
        StartAt::Since(moment) => consume::StartAt::Time(moment.unix_ms(now_ms())),
    };
    let mut follow = Follow::start(config, secrets, topic, from).await?;
    let mut left = arguments.count;
    let mut day = Day::default();
    while left != Some(0) {
        let record = tokio::select! {
            record = follow.next() => record,
            stopped = interrupted() => return stopped,
        };
        // It ends by an error alone, which came before.
        let Some(record) = record else { return Ok(()) };
        let record = record?;
        if !arguments.order.as_ref().is_none_or(|order| is_of(&record, order)) {
            continue;
        }
        if output.is_json() {
            output.json(&Row(&record))?;
        } else {
            let input = LineInput::read(
                record.published_at_ms,
                record.key.as_deref(),
                &record.headers,
                record.value.as_deref(),
            );
            if let Some(heading) = day.turned(record.published_at_ms) {
                output.line(heading)?;
            }
            output.line(render(&input, output.colour()))?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Whether a record is about this order: by its key, or on the topic of invoices by the member that names it.
fn is_of(record: &Consumed, order: &str) -> bool {
    #[derive(Deserialize)]
    struct Glance<'a> {
        #[serde(borrow)]
        order_id: Option<std::borrow::Cow<'a, str>>,
    }
    record.key.as_deref() == Some(order.as_bytes())
        || record
            .value
            .as_deref()
            .and_then(|value| serde_json::from_slice::<Glance<'_>>(value).ok())
            .is_some_and(|glance| glance.order_id.as_deref() == Some(order))
}

/// The day of the record before: lines carry the time alone, and a heading follows whenever the date changes.
#[derive(Debug, Default)]
struct Day(Option<i64>);

impl Day {
    /// The heading, when the record at `at_ms` is of another day (UTC) than the one before.
    fn turned(&mut self, at_ms: i64) -> Option<String> {
        let at = jiff::Timestamp::from_millisecond(at_ms).ok()?;
        let day = Some(at_ms.div_euclid(24 * 60 * 60 * 1000));
        let turned = day != self.0;
        self.0 = day;
        turned.then(|| at.strftime("-- %Y-%m-%d UTC").to_string())
    }
}

/// A record as one JSON object.
struct Row<'a>(&'a Consumed);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let record = self.0;
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("topic", &record.topic)?;
        map.serialize_entry("partition", &record.partition)?;
        map.serialize_entry("offset", &record.offset)?;
        map.serialize_entry("timestamp", &rfc3339(record.published_at_ms))?;
        map.serialize_entry("key", &record.key.as_deref().map(Text))?;
        map.serialize_entry("headers", &Headers(&record.headers))?;
        map.serialize_entry("value", &record.value.as_deref().map(Value))?;
        map.end()
    }
}

struct Headers<'a>(&'a [(String, Vec<u8>)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, Text(value))))
    }
}

/// Text; bytes that are none show as `{"hex":"…"}`, so that nothing is lost.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
                serializer.collect_map([("hex", hex)])
            }
        }
    }
}

/// JSON as it is, and anything else (a dead letter may be anything) as [`Text`].
struct Value<'a>(&'a [u8]);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A line end between JSON's tokens would break one object a line; read and written again it is gone.
        let one_line = !self.0.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        if one_line && let Ok(raw) = serde_json::from_slice::<&RawValue>(self.0) {
            return raw.serialize(serializer);
        }
        match serde_json::from_slice::<serde_json::Value>(self.0) {
            Ok(value) => value.serialize(serializer),
            Err(_) => Text(self.0).serialize(serializer),
        }
    }
}

fn topic_parser() -> impl TypedValueParser<Value = Topic> {
    PossibleValuesParser::new(Topic::WRITTEN.map(Topic::as_str)).try_map(|key| {
        // The parser before has refused every other key; the sentence is for a topic that is ever added to one only.
        Topic::WRITTEN.into_iter().find(|topic| topic.as_str() == key).ok_or_else(|| format!("no topic `{key}`"))
    })
}

fn parse_from(text: &str) -> Result<StartAt, String> {
    match text {
        "beginning" => Ok(StartAt::Beginning),
        "end" => Ok(StartAt::End),
        _ => moment(text).map(StartAt::Since).ok_or_else(|| {
            "expected `beginning`, `end`, a duration such as `15m`, or a time such as `2026-01-15T10:00:00Z`".to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;
    use clap::Parser;
    use std::time::Duration;

    fn record(key: Option<&str>, value: Option<&[u8]>) -> Consumed {
        Consumed {
            topic: "pepay.orders".to_owned(),
            partition: 3,
            offset: 42,
            published_at_ms: 1_768_472_100_655,
            key: key.map(|key| key.as_bytes().to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("relay_leg".to_owned(), b"webhook".to_vec()), ("odd".to_owned(), vec![0xff])],
        }
    }

    fn json(value: Option<&[u8]>) -> String {
        serde_json::to_string(&Row(&record(Some("order-1"), value))).unwrap()
    }

    #[test]
    fn a_record_is_one_object_a_line() {
        let value = br#"{"z":1.10,"a":18446744073709551616}"#;
        insta::assert_snapshot!(json(Some(value)), @r#"{"topic":"pepay.orders","partition":3,"offset":42,"timestamp":"2026-01-15T10:15:00.655Z","key":"order-1","headers":{"relay_leg":"webhook","odd":{"hex":"ff"}},"value":{"z":1.10,"a":18446744073709551616}}"#);
    }

    #[test]
    fn any_value_ends_as_one_line_of_json() {
        let deep = "[".repeat(100_000);
        for (value, shown) in [
            (&b"{\"a\":\n1}"[..], r#""value":{"a":1}"#),
            (b"{\"id\":", r#""value":"{\"id\":""#),
            (b"plain\r\ntext", r#""value":"plain\r\ntext""#),
            (b"\xff\x00", r#""value":{"hex":"ff00"}"#),
            (b"", r#""value":"""#),
            (deep.as_bytes(), r#""value":"[[["#),
        ] {
            let line = json(Some(value));
            assert!(line.contains(shown) && !line.contains('\n'), "{}", &line[..line.len().min(300)]);
            assert!(serde_json::from_str::<&RawValue>(&line).is_ok());
        }
        assert!(json(None).ends_with(r#""value":null}"#));
    }

    #[test]
    fn an_order_is_found_by_key_and_by_member() {
        assert!(is_of(&record(Some("order-1"), None), "order-1"));
        assert!(is_of(&record(Some("inv-1"), Some(br#"{"order_id":"order-1"}"#)), "order-1"));
        assert!(!is_of(&record(Some("order-10"), Some(br#"{"order_id":null}"#)), "order-1"));
        assert!(!is_of(&record(None, Some(b"order-1")), "order-1"));
    }

    #[test]
    fn a_heading_names_each_new_day_once() {
        let mut day = Day::default();
        assert_eq!(day.turned(1_768_472_100_655).as_deref(), Some("-- 2026-01-15 UTC"));
        assert_eq!(day.turned(1_768_472_200_000), None);
        assert_eq!(day.turned(i64::MAX), None);
        assert_eq!(day.turned(1_768_521_600_000).as_deref(), Some("-- 2026-01-16 UTC"));
    }

    fn tail(arguments: &[&str]) -> Result<Tail, clap::Error> {
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            tail: Tail,
        }
        Line::try_parse_from(["tail"].iter().chain(arguments)).map(|line| line.tail)
    }

    #[test]
    fn tail_begins_where_it_is_asked_to() {
        for (text, from) in [
            ("beginning", StartAt::Beginning),
            ("end", StartAt::End),
            ("15m", StartAt::Since(When::Ago(Duration::from_secs(900)))),
            ("1h 30m", StartAt::Since(When::Ago(Duration::from_secs(5400)))),
            ("2026-01-15T10:15:00.655Z", StartAt::Since(When::At(1_768_472_100_655))),
        ] {
            assert_eq!(tail(&["--from", text]).unwrap().from, from, "{text}");
        }
        assert_eq!(tail(&[]).unwrap().from, StartAt::End);
        for wrong in ["", "now", "15", "-5m", "99999999999999999999y"] {
            assert!(tail(&["--from", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tail_takes_every_topic_by_its_key() {
        for topic in Topic::WRITTEN {
            assert_eq!(tail(&["--topic", topic.as_str()]).unwrap().topic, topic);
        }
        assert!(tail(&["--topic", "pepay.orders"]).is_err());
    }

    #[test]
    fn a_count_is_at_least_one() {
        assert!(tail(&["--count", "0"]).is_err());
    }
}

//! An AsyncAPI 3 document of the topics: which keys, headers and values their records have.
//!
//! Values are the open schemas. Pure, and of no settings: topics have their default names.

use crate::config::Config;
use crate::kafka::topics::TopicSpec;
use crate::labels::{Leg, REPLAY, Topic};
use crate::normalize::{Kind, SCHEMA_ID_HEADER, open_schemas};
use crate::provider::Environment;
use crate::provider::event::Reason;
use serde_json::{Map, Value, json};

const DESCRIPTION: &str = "Order events of Pepay, each once for whoever reads committed records \
    (isolation.level=read_committed). Records are CloudEvents 1.0 in Kafka's binary mode; ce_source and ce_id together name an \
    event.";

/// The description of a topic.
struct About {
    title: &'static str,
    summary: &'static str,
    key: &'static str,
}

/// The document, as one JSON object.
pub(super) fn document() -> Value {
    let config = Config::minimal(Environment::Devnet, "");
    let mut schemas = open_schemas();
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    for topic in Topic::WRITTEN {
        let key = topic.as_str();
        let About { title, summary, key: about_key } = about(topic);
        let address = config.kafka.topics.name(topic).unwrap_or_default();
        let cleanup = TopicSpec::of(&config, topic).cleanup_policy;
        channels.insert(
            key.into(),
            json!({
                "address": address, "title": title, "description": summary,
                "messages": {key: {"$ref": format!("#/components/messages/{key}")}},
                "bindings": {"kafka": {
                    "topic": address, "topicConfiguration": {"cleanup.policy": [cleanup]}, "bindingVersion": "0.5.0",
                }},
            }),
        );
        operations.insert(
            format!("send_{key}"),
            json!({
                "action": "send", "summary": summary, "channel": {"$ref": format!("#/channels/{key}")},
            }),
        );
        let content_type = if topic == Topic::DeadLetter { "application/octet-stream" } else { "application/json" };
        let payload = schemas.get_mut(key).map(Value::take).unwrap_or_default();
        messages.insert(
            key.into(),
            json!({
                "name": key, "title": title, "summary": summary, "contentType": content_type,
                "headers": headers(topic), "payload": inner(payload),
                "bindings": {"kafka": {"key": {"type": "string", "description": about_key}, "bindingVersion": "0.5.0"}},
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "pepay-relay", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION,
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}

fn about(topic: Topic) -> About {
    let [title, summary, key] = match topic {
        Topic::Orders => ["Order events", "Every order event, once.", "Order id."],
        Topic::OrdersLatest => [
            "Newest order events",
            "The newest event of each order; a record without a value forgets the order.",
            "Order id.",
        ],
        Topic::Invoices => {
            ["Invoice events", "Every event of an invoice or of a payment for one, once.", "Invoice id."]
        }
        Topic::DeadLetter => [
            "Dead letters",
            "Deliveries that could not be read or published, as they came.",
            "Event id, else `sha256:` and the digest of the bytes.",
        ],
        Topic::Control | Topic::Inbox => [
            "Relay state",
            "The relay's memory; it may change with any version.",
            "`NAME/checkpoint`, `NAME/journal`, `NAME/marks/ACCOUNT` or `NAME/gap/N`; of shard S above 0 with `NAME/S` for `NAME`.",
        ],
    };
    About { title, summary, key }
}

/// The headers of a topic's records.
fn headers(topic: Topic) -> Value {
    let legs: Vec<&str> = Leg::ALL.iter().map(|leg| leg.as_str()).chain([REPLAY]).collect();
    let arrival = [
        ("relay_leg", json!({"type": "string", "examples": legs, "description": "Which way brought it."}), true),
        ("relay_received_at", text("When it arrived, RFC 3339 in UTC."), true),
    ];
    let of_event = |kind: Kind| {
        let header = |name: &'static str, schema| (name, schema, true);
        let perhaps = |name: &'static str, schema| (name, schema, false);
        vec![
            header(
                "ce_specversion",
                json!({"type": "string", "const": "1.0", "description": "Version of CloudEvents."}),
            ),
            header("ce_id", text("The provider's id of the event.")),
            header("ce_type", text("The provider's type of the event.")),
            header("ce_source", text("Where the event comes from; with `ce_id` it names the event.")),
            header("ce_time", text("When it happened, RFC 3339 in UTC.")),
            header("ce_subject", text("What it is about: the key.")),
            header(
                "ce_dataschema",
                json!({"type": "string", "const": kind.schema_urn(), "description": "What the value keeps to."}),
            ),
            header("content-type", json!({"type": "string", "const": "application/json"})),
            header("relay_instance", text("Name of the relay.")),
            perhaps(
                "relay_stale",
                json!({"type": "string", "const": "true", "description": "Something newer of the key may stand before it."}),
            ),
            perhaps("relay_replay", text("The replay that published it again, on purpose.")),
            perhaps(SCHEMA_ID_HEADER, text("What the schema registry calls the value's schema, in bytes.")),
            perhaps("traceparent", text("As a webhook brought it (W3C Trace Context).")),
            perhaps("tracestate", text("As a webhook brought it (W3C Trace Context).")),
        ]
    };
    let all = match topic {
        Topic::Orders | Topic::OrdersLatest => [of_event(Kind::Order), arrival.to_vec()].concat(),
        Topic::Invoices => [of_event(Kind::Invoice), arrival.to_vec()].concat(),
        Topic::DeadLetter => {
            let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
            let reason = json!({"type": "string", "examples": reasons, "description": "What was wrong."});
            let further = [("relay_reason", reason, true), ("relay_detail", text("The same in words."), true)];
            [arrival.to_vec(), further.to_vec()].concat()
        }
        Topic::Control | Topic::Inbox => Vec::new(),
    };
    let required: Vec<&str> = all.iter().filter(|(_, _, always)| *always).map(|(name, _, _)| *name).collect();
    let properties: Map<String, Value> = all.into_iter().map(|(name, schema, _)| (name.to_owned(), schema)).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

/// A schema as a part of the document: its own dialect and name would lead readers of the document elsewhere.
fn inner(mut schema: Value) -> Value {
    if let Value::Object(members) = &mut schema {
        members.remove("$schema");
        members.remove("$id");
    }
    schema
}

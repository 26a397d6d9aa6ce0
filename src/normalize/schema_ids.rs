//! What a schema registry calls the schemas of values, as records carry it.

use super::{Kind, open_schemas};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// Name of the header. Confluent's deserializers look there before they look into the value (`DualSchemaIdDeserializer`).
pub const SCHEMA_ID_HEADER: &str = "__value_schema_id";

/// The kinds of values that have a schema there, each with the topic that `schema` calls it by.
const KINDS: [(Kind, &str); 2] = [(Kind::Order, "orders"), (Kind::Invoice, "invoices")];

/// The schema that a registry keeps, as the header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaId(Vec<u8>);

impl SchemaId {
    /// By the name that the schema has in every registry: 0x01 and its 16 bytes, which is what Confluent's own serializer
    /// writes (`HeaderSchemaIdSerializer`).
    pub fn of_guid(guid: uuid::Uuid) -> Self {
        Self([&[1], guid.as_bytes().as_slice()].concat())
    }

    /// By its number in one registry, for those that know no other name: 0x00 and four bytes, the greatest first.
    pub fn of_number(number: u32) -> Self {
        Self([&[0], number.to_be_bytes().as_slice()].concat())
    }

    /// The header's value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// One that [`SchemaIds::kept`] wrote in hex.
    fn of_hex(text: &str) -> Option<Self> {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        bytes.filter(|bytes| matches!((bytes.first(), bytes.len()), (Some(0), 5) | (Some(1), 17))).map(Self)
    }
}

/// The ids that are known so far. Clones share them; what a registry answers first stays.
#[derive(Clone, Debug, Default)]
pub struct SchemaIds(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    told: [OnceLock<SchemaId>; 2],
    recalled: [OnceLock<SchemaId>; 2],
    /// Which schemas they are the names of.
    digests: OnceLock<[String; 2]>,
}

impl SchemaIds {
    /// A registry calls the schema of this kind's values so, from now on.
    pub fn learn(&self, kind: Kind, id: SchemaId) {
        // Who comes second would set the same.
        let _first = self.0.told[kind as usize].set(id);
    }

    /// Whether a registry has answered what it calls this one.
    pub fn is_told(&self, kind: Kind) -> bool {
        self.0.told[kind as usize].get().is_some()
    }

    /// What the schema of this kind's values is called: as a registry answered, else as it was before this start.
    pub fn of(&self, kind: Kind) -> Option<&SchemaId> {
        self.0.told[kind as usize].get().or_else(|| self.0.recalled[kind as usize].get())
    }

    /// What is to be known after a restart while the registry is away; `None` where nothing is known.
    pub fn kept(&self) -> Option<Value> {
        let mut kept = Map::new();
        for (kind, name) in KINDS {
            let Some(SchemaId(bytes)) = self.of(kind) else { continue };
            kept.insert(name.to_owned(), json!({ "id": hex(bytes), "schema": self.digest(kind) }));
        }
        (!kept.is_empty()).then_some(Value::Object(kept))
    }

    /// What was [kept](Self::kept), where it was about the schemas that this version has; anything else is passed over.
    pub fn recall(&self, kept: &Value) {
        for (kind, name) in KINDS {
            let entry = &kept[name];
            let id = entry["id"].as_str().filter(|_| entry["schema"] == self.digest(kind)).and_then(SchemaId::of_hex);
            if let Some(id) = id {
                let _first = self.0.recalled[kind as usize].set(id);
            }
        }
    }

    fn digest(&self, kind: Kind) -> &str {
        let digests = self.0.digests.get_or_init(|| {
            let schemas = open_schemas();
            KINDS.map(|(_, name)| hex(&Sha256::digest(schemas[name].to_string())))
        });
        &digests[kind as usize]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A text takes everything.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn a_header_is_a_byte_for_the_kind_of_name_and_the_name() {
        let guid = "89791762-2336-4186-9674-299b90a802e2".parse().unwrap();
        let bytes = SchemaId::of_guid(guid).as_bytes().to_vec();
        assert_eq!((bytes.len(), &bytes[..4]), (17, &[1, 0x89, 0x79, 0x17][..]));
        assert_eq!(SchemaId::of_number(258).as_bytes(), [0, 0, 0, 1, 2]);
    }

    #[test]
    fn clones_learn_together_and_the_first_name_stays() {
        let ids = SchemaIds::default();
        let other = ids.clone();
        assert_eq!(other.of(Kind::Order), None);
        ids.learn(Kind::Order, SchemaId::of_number(1));
        ids.learn(Kind::Order, SchemaId::of_number(2));
        assert_eq!((other.of(Kind::Order), other.of(Kind::Invoice)), (Some(&SchemaId::of_number(1)), None));
    }

    #[test]
    fn what_is_kept_is_recalled_until_a_registry_speaks_and_never_for_another_schema() {
        let ids = SchemaIds::default();
        assert_eq!(ids.kept(), None);
        ids.learn(Kind::Order, SchemaId::of_number(7));
        let kept = ids.kept().unwrap();
        let next = SchemaIds::default();
        next.recall(&kept);
        assert_eq!((next.of(Kind::Order), next.is_told(Kind::Order)), (Some(&SchemaId::of_number(7)), false));
        assert_eq!(next.kept(), Some(kept.clone()));
        next.learn(Kind::Order, SchemaId::of_number(8));
        assert_eq!(next.of(Kind::Order), Some(&SchemaId::of_number(8)));
        for (member, value) in [("schema", "of another version"), ("id", "0000"), ("id", "02000000"), ("id", "é")] {
            let mut other = kept.clone();
            other["orders"][member] = value.into();
            let ids = SchemaIds::default();
            ids.recall(&other);
            assert_eq!(ids.of(Kind::Order), None, "{other}");
        }
    }
}

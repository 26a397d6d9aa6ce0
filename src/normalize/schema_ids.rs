//! What a schema registry calls the schemas of values, as records carry it.

use super::Kind;
use std::sync::{Arc, OnceLock};

/// Name of the header. Confluent's deserializers look there before they look into the value (`DualSchemaIdDeserializer`).
pub const SCHEMA_ID_HEADER: &str = "__value_schema_id";

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
}

/// The ids that are known so far. Clones share them; the first id of a kind stays.
#[derive(Clone, Debug, Default)]
pub struct SchemaIds(Arc<[OnceLock<SchemaId>; 2]>);

impl SchemaIds {
    /// From now on the schema of this kind's values is called so.
    pub fn learn(&self, kind: Kind, id: SchemaId) {
        // Who comes second would say the same.
        let _first = self.0[kind as usize].set(id);
    }

    /// What the schema of this kind's values is called, as soon as it is known.
    pub fn of(&self, kind: Kind) -> Option<&SchemaId> {
        self.0[kind as usize].get()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn a_header_is_a_byte_that_says_which_name_and_the_name() {
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
}

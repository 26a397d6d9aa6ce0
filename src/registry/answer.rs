//! What a schema registry answers (Confluent's API, version 1, which Redpanda, Karapace and Apicurio serve as well). Pure.

use crate::normalize::SchemaId;
use crate::text::foreign;
use serde::Deserialize;

/// Why a registry has no name for a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or breaks off.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It does not answer in time.
    #[error("it does not answer within {}", crate::clock::spelled(*.0))]
    TimedOut(std::time::Duration),
    /// It refuses.
    #[error("it answers HTTP {status}{}", said(.message))]
    Status {
        /// The status of HTTP.
        status: u16,
        /// In its words; may be empty.
        message: String,
    },
    /// Its answer is not the documented one, or too large.
    #[error("its answer is not that of a schema registry: {0}")]
    NotUnderstood(String),
    /// It keeps no JSON Schemas.
    #[error("it keeps no JSON Schemas, only {0}")]
    NoJson(String),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl RegistryError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => {
                "see kafka.schema_registry_url, and that it can be reached from here"
            }
            Self::Status { status: 401 | 403, .. } => {
                "let this host register schemas without credentials, which the relay does not send there"
            }
            Self::Status { status: 409, .. } => {
                "set the compatibility of its subject to NONE, or delete the versions that are in the way"
            }
            Self::Status { .. } | Self::NotUnderstood(_) => {
                "see that kafka.schema_registry_url is the address of a schema registry"
            }
            Self::NoJson(_) => "let it keep JSON Schemas as well, or take kafka.schema_registry_url out",
        }
    }
}

/// Of a schema that was registered, now or before: `{"id": 1}`, and since version 8.0 of Confluent's a `guid`.
#[derive(Deserialize)]
struct Registered {
    id: u32,
    guid: Option<String>,
}

/// `{"error_code": 42201, "message": "…"}`
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// The name of the schema that was registered.
pub(super) fn registered(status: u16, body: &[u8]) -> Result<SchemaId, RegistryError> {
    let Registered { id, guid } = read(status, body)?;
    let Some(guid) = guid else { return Ok(SchemaId::of_number(id)) };
    let guid = guid.parse().map_err(|_| RegistryError::NotUnderstood("its guid is not a UUID".to_owned()))?;
    Ok(SchemaId::of_guid(guid))
}

/// Nothing where JSON is among the types of schemas (`GET /schemas/types`).
pub(super) fn keeps_json(status: u16, body: &[u8]) -> Result<(), RegistryError> {
    let types: Vec<String> = read(status, body)?;
    if types.iter().any(|kind| kind == "JSON") {
        return Ok(());
    }
    Err(RegistryError::NoJson(foreign(&types.join(", ")).to_string()))
}

fn read<'a, T: Deserialize<'a>>(status: u16, body: &'a [u8]) -> Result<T, RegistryError> {
    if !(200..300).contains(&status) {
        let message = serde_json::from_slice::<Refusal>(body).map(|Refusal { message }| foreign(&message).to_string());
        return Err(RegistryError::Status { status, message: message.unwrap_or_default() });
    }
    serde_json::from_slice(body).map_err(|error| RegistryError::NotUnderstood(foreign(&error.to_string()).to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn the_name_in_every_registry_is_preferred_to_the_number_in_one() {
        let guid = "89791762-2336-4186-9674-299b90a802e2";
        for (body, expected) in [
            (r#"{"id":7}"#.to_owned(), SchemaId::of_number(7)),
            (r#"{"id":7,"version":1,"schemaType":"JSON"}"#.to_owned(), SchemaId::of_number(7)),
            (format!(r#"{{"id":7,"guid":"{guid}"}}"#), SchemaId::of_guid(guid.parse().unwrap())),
        ] {
            assert_eq!(registered(200, body.as_bytes()), Ok(expected), "{body}");
        }
    }

    #[test]
    fn every_other_answer_is_an_error_with_a_remedy() {
        for (status, body, expected) in [
            (409, r#"{"error_code":409,"message":"incompatible"}"#, "HTTP 409 (incompatible)"),
            (401, "", "HTTP 401"),
            (502, "<html>", "HTTP 502"),
            (200, "<html>", "not that of a schema registry"),
            (200, r#"{"id":-1}"#, "not that of a schema registry"),
            (200, r#"{"id":1,"guid":"x"}"#, "not that of a schema registry"),
        ] {
            let error = registered(status, body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected) && !error.remedy().is_empty(), "{error}");
        }
        assert_eq!(keeps_json(200, br#"["AVRO","JSON"]"#), Ok(()));
        assert_eq!(keeps_json(200, br#"["AVRO"]"#), Err(RegistryError::NoJson("AVRO".into())));
    }
}

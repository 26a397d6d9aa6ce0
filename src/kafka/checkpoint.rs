//! The checkpoint: what rides in every transaction, so that Kafka alone tells where the relay stands.
//!
//! Record `NAME/checkpoint` of the control topic. `run` and `commit` tell which transaction stands after a commit of
//! unknown outcome: a bare number would settle an aborted batch after another relay took over.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far the relay has come with the provider's log. Made by the legs, opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Everything that the socket and the log brought up to this event id is settled.
    pub cursor: Option<String>,
    /// A time, as the legs write it: events up to it are settled, since a later walk of the log covered them.
    pub verified: Option<String>,
    /// Gaps that are still open, and the one that closed last.
    pub gaps: Vec<Value>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// A UUID drawn at each start of a relay: whoever wrote the newest one holds the name.
    pub run: String,
    /// Counts the transactions of a run; the claim is 0.
    pub commit: u64,
    /// Where the relay stands.
    pub marks: Marks,
    /// When the relay stood there, RFC 3339 in UTC with milliseconds: the time of writing, but for a claim, which carries
    /// its predecessor's marks on and their time with them.
    pub at: String,
    /// The provider's environment whose events the topics hold.
    pub environment: String,
}

/// The record's value. Members that a later version adds are passed over.
#[derive(Serialize, Deserialize)]
struct Wire {
    run: String,
    commit: u64,
    cursor: Option<String>,
    verified: Option<String>,
    at: String,
    environment: String,
    #[serde(default)]
    gaps: Vec<Value>,
}

impl Checkpoint {
    /// One without marks.
    pub fn new(run: String, commit: u64, at: String, environment: &str) -> Self {
        Self { run, commit, marks: Marks::default(), at, environment: environment.to_owned() }
    }

    /// The key of the record that holds the checkpoints of the relay `name`.
    pub fn key(name: &str) -> String {
        format!("{name}/checkpoint")
    }

    /// The record's value.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let Self { run, commit, marks, at, environment } = self.clone();
        let Marks { cursor, verified, gaps } = marks;
        serde_json::to_vec(&Wire { run, commit, cursor, verified, at, environment, gaps })
    }

    /// Reads a record's value.
    pub fn parse(value: &[u8]) -> serde_json::Result<Self> {
        let Wire { run, commit, cursor, verified, at, environment, gaps } = serde_json::from_slice(value)?;
        Ok(Self { run, commit, marks: Marks { cursor, verified, gaps }, at, environment })
    }

    /// The same in Unix milliseconds; `None` if that is not a time.
    pub fn at_ms(&self) -> Option<i64> {
        self.at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    fn example() -> Checkpoint {
        let marks = Marks {
            cursor: Some("evt_1700000000000-7".to_owned()),
            verified: None,
            gaps: vec![serde_json::json!({"id": 3, "cause": "reset"})],
        };
        let at = "2023-11-14T22:13:20.000Z".to_owned();
        Checkpoint { run: "r".to_owned(), commit: 9, marks, at, environment: "devnet".to_owned() }
    }

    #[test]
    fn its_json_is_the_contract() {
        let json = String::from_utf8(example().to_json().unwrap()).unwrap();
        let expected = concat!(
            r#"{"run":"r","commit":9,"cursor":"evt_1700000000000-7","verified":null,"#,
            r#""at":"2023-11-14T22:13:20.000Z","environment":"devnet","gaps":[{"cause":"reset","id":3}]}"#
        );
        assert_eq!(json, expected);
        assert_eq!(example().at_ms(), Some(1_700_000_000_000));
    }

    #[test]
    fn it_reads_back_and_passes_over_what_it_does_not_know() {
        assert_eq!(Checkpoint::parse(&example().to_json().unwrap()).unwrap(), example());
        let later = br#"{"run":"r","commit":1,"cursor":null,"verified":null,"at":"x","environment":"devnet","new":1}"#;
        let read = Checkpoint::parse(later).unwrap();
        assert_eq!((read.commit, read.marks, read.at.as_str()), (1, Marks::default(), "x"));
        assert!(Checkpoint::parse(b"{").is_err());
        assert!(Checkpoint::parse(br#"{"run":"r"}"#).is_err());
    }
}

//! Our topics as one look found them, as data: what they are like, what is wrong with them, and what they allow. Pure.

use super::spec::{Actual, Finding, TopicSpec};
use crate::kafka::client::{MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX, Sizes};
use crate::kafka::errors::StartError;
use crate::labels::Topic;

/// One of our topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// Which one.
    pub topic: Topic,
    /// Its name, from the settings.
    pub name: String,
    /// What it has to be like.
    pub wanted: TopicSpec,
    /// What it is like; `None` if it does not exist.
    pub actual: Option<Actual>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Our topics, as one look found them.
///
/// Empty for a Kafka that is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// One for each topic that is turned on.
    pub reports: Vec<TopicReport>,
    /// Settings that the broker's policy refused when a topic was created, as a warning each topic.
    pub(super) left_out: Vec<String>,
    /// The sizes were used since the look.
    pub(super) used: bool,
}

impl Topics {
    /// What the topics allow in bytes. Where a topic's settings cannot be read the broker validates the size of a record.
    pub(in crate::kafka) fn sizes(&self) -> Sizes {
        let limit = |report: &TopicReport| report.actual.as_ref()?.settings.as_ref()?.max_message_bytes;
        let limits: Vec<Option<usize>> =
            self.reports.iter().filter(|report| report.actual.is_some()).map(limit).collect();
        sizes_of(&limits)
    }

    /// The names of the topics that were there.
    pub fn known(&self) -> Vec<String> {
        self.reports.iter().filter(|report| report.actual.is_some()).map(|report| report.name.clone()).collect()
    }

    /// How many partitions a topic has; `None` where it is turned off, or was not asked for.
    pub fn partitions(&self, topic: Topic) -> Option<i32> {
        self.reports.iter().find(|report| report.topic == topic)?.actual.as_ref().map(|actual| actual.partitions)
    }

    /// A warning for each topic that was created without some of its settings.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(String::as_str)
    }

    /// What works, with a risk.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let warnings = self.findings().filter_map(|finding| match finding {
            Finding::Warning(text) => Some(text.as_str()),
            Finding::Mistake(_) => None,
        });
        self.left_out().chain(warnings)
    }

    /// An error that names every mistake.
    pub(super) fn judged(self) -> Result<Self, StartError> {
        let mistake = |finding: &Finding| match finding {
            Finding::Mistake(text) => Some(text.clone()),
            Finding::Warning(_) => None,
        };
        let mistakes: Vec<String> = self.findings().filter_map(mistake).collect();
        if mistakes.is_empty() { Ok(self) } else { Err(StartError::Settings(mistakes.join("\n"))) }
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.reports.iter().flat_map(|report| &report.findings)
    }

    /// The topics that do not exist.
    pub(super) fn missing(&self) -> impl Iterator<Item = &TopicReport> {
        self.reports.iter().filter(|report| report.actual.is_none())
    }

    /// `TOPIC[PARTITION]` of each partition without a leader: nothing can be written to it.
    pub(super) fn offline(&self) -> Vec<String> {
        let of = |report: &TopicReport| {
            let partitions = report.actual.as_ref().map(|actual| actual.offline.clone()).unwrap_or_default();
            partitions.into_iter().map(|partition| format!("{}[{partition}]", report.name)).collect::<Vec<_>>()
        };
        self.reports.iter().flat_map(of).collect()
    }
}

/// Sizes by the topics' `max.message.bytes`; `None` where it cannot be read: then a record may be as large as librdkafka
/// sends it, and the broker's answer decides. What goes into one batch stays at Kafka's default.
fn sizes_of(limits: &[Option<usize>]) -> Sizes {
    let batch_bytes = limits.iter().map(|limit| limit.unwrap_or(MESSAGE_BYTES_DEFAULT)).min();
    let record_bytes = limits.iter().map(|limit| limit.unwrap_or(MESSAGE_BYTES_MAX)).max();
    Sizes {
        batch_bytes: batch_bytes.unwrap_or(MESSAGE_BYTES_DEFAULT),
        record_bytes: record_bytes.unwrap_or(MESSAGE_BYTES_DEFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_limit_is_the_brokers_to_validate() {
        let sizes = |limits: &[Option<usize>]| {
            let Sizes { batch_bytes, record_bytes } = sizes_of(limits);
            (batch_bytes, record_bytes)
        };
        assert_eq!(sizes(&[]), (MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_DEFAULT));
        assert_eq!(sizes(&[Some(2_000), Some(8_000_000)]), (2_000, 8_000_000));
        assert_eq!(sizes(&[Some(2_000), None]), (2_000, MESSAGE_BYTES_MAX));
        assert_eq!(sizes(&[Some(8_000_000), None]), (MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX));
    }
}

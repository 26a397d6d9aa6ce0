//! What each topic has to be like, and what is wrong with one that is not. Pure.

use crate::clock::millis;
use crate::config::Config;
use crate::labels::Topic;

/// Kept this long where the relay creates the topic: Kafka's own default. Nothing is read back from these topics, so any
/// other retention is as good.
const RETENTION_MS: i64 = 7 * 24 * 3_600_000;
/// Dead letters wait for a person, who may be on holiday.
const RETENTION_DEAD_LETTER_MS: i64 = 30 * 24 * 3_600_000;
/// An absence that costs no memory: a week. Also the least `min.compaction.lag.ms` of the control topic, which is created with
/// the window on top.
const COMPACTION_LAG_MS: i64 = 7 * 24 * 3_600_000;
/// Beyond the window, so that reading back (an hour before it) and compaction never meet.
const LAG_SPARE_MS: i64 = 24 * 3_600_000;

/// What a topic has to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// `kafka.partitions`; `cluster.shards` for the control topic and the inbox.
    pub partitions: i32,
    /// `kafka.replication_factor`; `None` is the broker's default.
    pub replication_factor: Option<i32>,
    /// `cleanup.policy` of a topic that the relay creates. Of an existing one the same is asked, save that the latest
    /// orders may also be `compact,delete`: the operator wants old orders gone.
    pub cleanup_policy: &'static str,
    /// `retention.ms` of a topic that the relay creates, where records are deleted by age.
    pub retention_ms: Option<i64>,
    /// Least `retention.ms` of the inbox, whose records wait to be taken.
    pub retention_ms_min: Option<i64>,
    /// Least `min.compaction.lag.ms` of the control topic, whose younger records must all be there at a start.
    pub compaction_lag_ms_min: Option<i64>,
}

/// What a topic is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actual {
    /// How many partitions it has.
    pub partitions: i32,
    /// Replicas of the partition that has the fewest.
    pub replicas: i32,
    /// Partitions that have no leader.
    pub offline: Vec<i32>,
    /// Its settings; `None` where we may not read them.
    pub settings: Option<TopicSettings>,
}

/// The settings of a topic that the relay rests on; `None` where the broker does not name one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// `cleanup.policy`
    pub cleanup_policy: Option<String>,
    /// `retention.ms`; −1 is for ever.
    pub retention_ms: Option<i64>,
    /// `min.insync.replicas`
    pub min_insync_replicas: Option<i32>,
    /// `max.message.bytes`
    pub max_message_bytes: Option<usize>,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: Option<i64>,
}

/// Something about a topic that is not as it should be, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A promise would break: the relay does not start.
    Mistake(String),
    /// It works, with a risk.
    Warning(String),
}

impl TopicSpec {
    /// What the settings ask of `topic`.
    pub fn of(config: &Config, topic: Topic) -> Self {
        let window_ms = millis(config.dedup.window);
        let (cleanup_policy, retention_ms) = match topic {
            Topic::Orders | Topic::Invoices => ("delete", Some(RETENTION_MS)),
            Topic::DeadLetter => ("delete", Some(RETENTION_DEAD_LETTER_MS)),
            Topic::OrdersLatest | Topic::Control => ("compact", None),
            Topic::Inbox => ("delete", Some(RETENTION_MS.max(window_ms))),
        };
        let partitions = if topic.is_of_shards() { config.cluster.shards } else { config.kafka.partitions };
        let replication_factor = config.kafka.replication_factor;
        let lag_ms = COMPACTION_LAG_MS.max(window_ms.saturating_add(LAG_SPARE_MS));
        let compaction_lag_ms_min = (topic == Topic::Control).then_some(lag_ms);
        let retention_ms_min = (topic == Topic::Inbox).then_some(window_ms);
        Self { partitions, replication_factor, cleanup_policy, retention_ms, retention_ms_min, compaction_lag_ms_min }
    }

    /// Whether the topic is of no use without this setting of [`TopicSpec::creation`]. The others are preferred, or are the
    /// broker's default in most places; the look after the creation finds where they are not.
    pub(super) fn requires(&self, key: &str) -> bool {
        key == "min.compaction.lag.ms" || key == "cleanup.policy" && self.cleanup_policy != "delete"
    }

    /// The command that creates the topic as the relay would.
    pub fn command(&self, topic: Topic, name: &str, bootstrap: &str) -> String {
        let partitions = self.partitions;
        let mut command =
            format!("kafka-topics --bootstrap-server {bootstrap} --create --topic {name} --partitions {partitions}");
        if let Some(factor) = self.replication_factor {
            command.push_str(&format!(" --replication-factor {factor}"));
        }
        for (key, value) in self.creation(topic) {
            command.push_str(&format!(" --config {key}={value}"));
        }
        command
    }

    /// The settings of a topic that the relay creates.
    pub(super) fn creation(&self, topic: Topic) -> Vec<(&'static str, String)> {
        let mut settings = vec![("cleanup.policy", self.cleanup_policy.to_owned())];
        if let Some(retention_ms) = self.retention_ms {
            settings.push(("retention.ms", retention_ms.to_string()));
        }
        if let Some(least_ms) = self.compaction_lag_ms_min {
            // A start after an absence of a week reads from a window before that.
            let lag_ms = least_ms.saturating_add(COMPACTION_LAG_MS);
            settings.push(("min.compaction.lag.ms", lag_ms.to_string()));
        }
        if topic == Topic::Control {
            // Small segments, cleaned early: start reads back from the end, and an idle relay writes every 10 s.
            settings.push(("segment.bytes", (16 * 1024 * 1024).to_string()));
            settings.push(("segment.ms", 3_600_000.to_string()));
            settings.push(("min.cleanable.dirty.ratio", "0.1".to_owned()));
        }
        settings
    }

    /// Everything about `actual` that is not as it should be; `name` is the topic's.
    pub fn findings(&self, topic: Topic, name: &str, bootstrap: &str, actual: Option<&Actual>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let configs = format!("kafka-configs --bootstrap-server {bootstrap} --alter --topic {name} --add-config");
        let Some(actual) = actual else {
            return vec![Finding::Mistake(format!(
                "{name} does not exist; set kafka.create_topics = true, or create it: pepay-relay topics --create, or: {}",
                self.command(topic, name, bootstrap)
            ))];
        };
        if topic.is_of_shards() && actual.partitions != self.partitions {
            findings.push(Finding::Mistake(format!(
                "{name} has {} partition(s), but there are {} shard(s), each with one of its own; set cluster.shards to what \
                 the topic was made with, or name another topic in kafka.topics.{topic}",
                actual.partitions,
                self.partitions,
                topic = topic.as_str(),
            )));
        } else if actual.partitions != self.partitions {
            findings.push(Finding::Warning(format!(
                "{name} has {} partitions, kafka.partitions is {}; set it to {} to end this warning",
                actual.partitions, self.partitions, actual.partitions
            )));
        }
        if actual.replicas < 2 {
            findings.push(Finding::Warning(format!(
                "{name} has one replica: losing that broker's disk loses its records; raise its replication factor \
                 to 3 with kafka-reassign-partitions"
            )));
        }
        let Some(settings) = &actual.settings else {
            findings.push(Finding::Warning(format!(
                "the settings of {name} cannot be read, so they are taken on trust; to have them checked allow \
                 --operation DescribeConfigs --topic {name}"
            )));
            return findings;
        };
        findings.extend(self.judge_cleanup(topic, name, &configs, settings).map(Finding::Mistake));
        findings.extend(self.judge_lag(name, &configs, settings).map(Finding::Mistake));
        findings.extend(self.judge_retention(name, &configs, settings).map(Finding::Mistake));
        if let Some(min) = settings.min_insync_replicas {
            if min > actual.replicas {
                findings.push(Finding::Mistake(format!(
                    "{name} has {} replica(s) but min.insync.replicas {min}: nothing can be written; run: {configs} \
                     min.insync.replicas={}",
                    actual.replicas, actual.replicas
                )));
            } else if min < 2 && actual.replicas >= 2 {
                findings.push(Finding::Warning(format!(
                    "{name} has min.insync.replicas 1: a record may stand on one broker only; run: {configs} \
                     min.insync.replicas=2"
                )));
            }
        }
        findings
    }

    fn judge_lag(&self, name: &str, configs: &str, settings: &TopicSettings) -> Option<String> {
        let least = self.compaction_lag_ms_min?;
        match settings.min_compaction_lag_ms {
            Some(lag_ms) if lag_ms >= least => None,
            Some(lag_ms) => Some(format!(
                "{name} has min.compaction.lag.ms={lag_ms}, wanted at least {least}: compaction would remove records that a \
                 start needs; run: {configs} min.compaction.lag.ms={least}"
            )),
            None => Some(format!(
                "{name} cannot be kept from compaction for {least} ms: the broker knows no min.compaction.lag.ms; the relay \
                 needs a Kafka that keeps it (Apache Kafka does)"
            )),
        }
    }

    fn judge_retention(&self, name: &str, configs: &str, settings: &TopicSettings) -> Option<String> {
        let least = self.retention_ms_min?;
        let retention_ms = settings.retention_ms.filter(|retention_ms| (0..least).contains(retention_ms))?;
        Some(format!(
            "{name} has retention.ms={retention_ms}, wanted at least {least} (dedup.window): webhooks would be deleted before \
             they are taken; run: {configs} retention.ms={least}"
        ))
    }

    fn judge_cleanup(&self, topic: Topic, name: &str, configs: &str, settings: &TopicSettings) -> Option<String> {
        let actual = settings.cleanup_policy.as_ref()?;
        let mut policies: Vec<&str> = actual.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        policies.sort_unstable();
        let fits = match topic {
            Topic::OrdersLatest => policies.contains(&"compact"),
            _ => policies == [self.cleanup_policy],
        };
        if fits {
            return None;
        }
        let why = match topic {
            Topic::Orders | Topic::Invoices => "compaction would drop all but the newest event of a key",
            Topic::DeadLetter => "dead letters are not replaced by newer ones",
            Topic::OrdersLatest => "orders would vanish with age",
            Topic::Control => "the cursor would vanish with age",
            Topic::Inbox => "compaction would drop webhooks before they are taken",
        };
        Some(format!(
            "{name} has cleanup.policy={actual}, wanted {}: {why}; run: {configs} cleanup.policy={}",
            self.cleanup_policy, self.cleanup_policy
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(cleanup_policy: &'static str) -> TopicSpec {
        let retention_ms = (cleanup_policy == "delete").then_some(1_000);
        TopicSpec {
            partitions: 6,
            replication_factor: None,
            cleanup_policy,
            retention_ms,
            retention_ms_min: None,
            compaction_lag_ms_min: None,
        }
    }

    fn actual(change: impl FnOnce(&mut Actual, &mut TopicSettings)) -> Actual {
        let mut settings = TopicSettings {
            cleanup_policy: Some("delete".to_owned()),
            retention_ms: Some(1_000),
            min_insync_replicas: Some(2),
            max_message_bytes: Some(1_048_588),
            min_compaction_lag_ms: Some(0),
        };
        let mut actual = Actual { partitions: 6, replicas: 3, offline: Vec::new(), settings: None };
        change(&mut actual, &mut settings);
        Actual { settings: Some(settings), ..actual }
    }

    fn check(topic: Topic, wanted: &TopicSpec, actual: &Actual, expected: &[&str]) {
        let findings = wanted.findings(topic, "t", "k:9092", Some(actual));
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, expected) in findings.iter().zip(expected) {
            let (level, text) = match finding {
                Finding::Mistake(text) => ("mistake", text),
                Finding::Warning(text) => ("warning", text),
            };
            let (wanted_level, part) = expected.split_once(": ").unwrap_or(("", expected));
            assert!(level == wanted_level && text.contains(part), "{level}: {text}");
        }
    }

    #[test]
    fn a_topic_as_it_should_be() {
        check(Topic::Orders, &wanted("delete"), &actual(|_, _| ()), &[]);
        for retention_ms in [-1, 1] {
            check(Topic::Orders, &wanted("delete"), &actual(|_, s| s.retention_ms = Some(retention_ms)), &[]);
        }
        for policy in ["compact", "compact,delete", "delete, compact"] {
            let actual = actual(|_, s| s.cleanup_policy = Some(policy.to_owned()));
            check(Topic::OrdersLatest, &wanted("compact"), &actual, &[]);
        }
    }

    #[test]
    fn each_fault_is_named_with_its_remedy() {
        let delete = wanted("delete");
        let compacted = actual(|_, s| s.cleanup_policy = Some("compact".to_owned()));
        check(Topic::Orders, &delete, &compacted, &["mistake: --topic t --add-config cleanup.policy=delete"]);
        check(Topic::DeadLetter, &delete, &compacted, &["mistake: cleanup.policy=delete"]);
        let compact = wanted("compact");
        check(Topic::OrdersLatest, &compact, &actual(|_, _| ()), &["mistake: add-config cleanup.policy=compact"]);
        let both = actual(|a, s| (a.partitions, s.cleanup_policy) = (1, Some("compact,delete".to_owned())));
        let sole = TopicSpec { partitions: 1, ..compact.clone() };
        check(Topic::Control, &sole, &both, &["mistake: cleanup.policy=compact"]);
        check(Topic::Orders, &delete, &actual(|a, _| a.partitions = 3), &["warning: kafka.partitions is 6"]);
        let control = actual(|a, s| (a.partitions, s.cleanup_policy) = (2, Some("compact".to_owned())));
        check(Topic::Control, &sole, &control, &["mistake: has 2 partition(s), but there are 1 shard(s)"]);
        let inbox = TopicSpec { partitions: 3, retention_ms_min: Some(1_001), ..wanted("delete") };
        let short = actual(|a, _| a.partitions = 3);
        check(Topic::Inbox, &inbox, &short, &["mistake: --add-config retention.ms=1001"]);
        for retention_ms in [1_001, -1] {
            let kept = actual(|a, s| (a.partitions, s.retention_ms) = (3, Some(retention_ms)));
            check(Topic::Inbox, &inbox, &kept, &[]);
        }
        let lone = actual(|a, s| (a.replicas, s.min_insync_replicas) = (1, Some(1)));
        check(Topic::Orders, &delete, &lone, &["warning: one replica"]);
        let unwritable = actual(|_, s| s.min_insync_replicas = Some(4));
        check(Topic::Orders, &delete, &unwritable, &["mistake: min.insync.replicas=3"]);
        let unsafe_min = actual(|_, s| s.min_insync_replicas = Some(1));
        check(Topic::Orders, &delete, &unsafe_min, &["warning: min.insync.replicas=2"]);
    }

    #[test]
    fn what_cannot_be_known_is_a_warning_and_what_is_missing_a_mistake() {
        let unknown = Actual { partitions: 6, replicas: 3, offline: Vec::new(), settings: None };
        check(Topic::Orders, &wanted("delete"), &unknown, &["warning: DescribeConfigs"]);
        let missing = wanted("delete").findings(Topic::Orders, "t", "k", None);
        let by_hand = "topics --create, or: kafka-topics --bootstrap-server k --create --topic t ";
        assert!(matches!(&missing[..], [Finding::Mistake(text)] if text.contains(by_hand)), "{missing:?}");
    }

    #[test]
    fn the_control_topic_keeps_what_a_start_needs() {
        let lagging = TopicSpec { partitions: 1, compaction_lag_ms_min: Some(9_000), ..wanted("compact") };
        let with = |lag| {
            actual(|a, s| {
                a.partitions = 1;
                s.cleanup_policy = Some("compact".to_owned());
                s.min_compaction_lag_ms = lag;
            })
        };
        check(Topic::Control, &lagging, &with(Some(9_000)), &[]);
        check(Topic::Control, &lagging, &with(Some(0)), &["mistake: --add-config min.compaction.lag.ms=9000"]);
        check(Topic::Control, &lagging, &with(None), &["mistake: knows no min.compaction.lag.ms"]);
        let day = 24 * 3_600_000;
        let of = |days: u64| {
            let mut config = Config::minimal(crate::provider::Environment::Devnet, "k:9092");
            config.dedup.window = std::time::Duration::from_secs(days * 86_400);
            TopicSpec::of(&config, Topic::Control).compaction_lag_ms_min
        };
        assert_eq!([of(3), of(6), of(9)], [Some(7 * day), Some(7 * day), Some(10 * day)]);
    }

    #[test]
    fn a_topic_that_may_not_be_created_has_a_command() {
        let command =
            TopicSpec { replication_factor: Some(3), ..wanted("delete") }.command(Topic::Orders, "t", "k:9092");
        let expected = "kafka-topics --bootstrap-server k:9092 --create --topic t --partitions 6 --replication-factor 3 \
                        --config cleanup.policy=delete --config retention.ms=1000";
        assert_eq!(command, expected);
    }

    #[test]
    fn what_a_topic_cannot_do_without() {
        let required = |policy, topic| {
            let spec = TopicSpec { compaction_lag_ms_min: (topic == Topic::Control).then_some(1), ..wanted(policy) };
            let entries = spec.creation(topic).into_iter().map(|(key, _)| key);
            entries.filter(|key| spec.requires(key)).collect::<Vec<_>>()
        };
        assert_eq!(required("delete", Topic::Orders), [""; 0]);
        assert_eq!(required("compact", Topic::OrdersLatest), ["cleanup.policy"]);
        assert_eq!(required("compact", Topic::Control), ["cleanup.policy", "min.compaction.lag.ms"]);
    }

    #[test]
    fn what_is_created_is_kept_as_long_as_people_need() {
        let config = Config::minimal(crate::provider::Environment::Devnet, "k:9092");
        let created = |topic| TopicSpec::of(&config, topic).creation(topic);
        let kept = |topic| created(topic).into_iter().find(|(key, _)| *key == "retention.ms").map(|(_, value)| value);
        assert_eq!(kept(Topic::Orders).as_deref(), Some("604800000"));
        assert_eq!(kept(Topic::DeadLetter).as_deref(), Some("2592000000"));
        assert_eq!(kept(Topic::OrdersLatest), None);
        assert!(created(Topic::Control).contains(&("segment.bytes", "16777216".to_owned())));
        let two_weeks = (14 * 24 * 3_600_000).to_string();
        assert!(created(Topic::Control).contains(&("min.compaction.lag.ms", two_weeks)));
    }
}

//! Whether the topics are a relay's to write to, by the checkpoints in their control topic. Pure.

use super::checkpoint::Checkpoint;
use super::errors::StartError;
use crate::config::Config;

/// How far back other relays' checkpoints are looked for, in milliseconds: one that runs commits every ten seconds, also
/// when it is idle.
pub(super) const OTHERS_WITHIN_MS: i64 = 5 * 60 * 1000;

/// Whether a start has to look for records in the output topics: there is no checkpoint of ours, and no person set from
/// when on events are to be fetched.
pub fn misses_a_memory(has_checkpoint: bool, starts_afresh: bool) -> bool {
    !has_checkpoint && !starts_afresh
}

/// Refuses topics that another relay writes, that hold another environment's events, or whose memory is gone.
///
/// `checkpoints` are our own newest one and the newest of each other relay of the last minutes, by name; `holds` is an
/// output topic that holds records although we never wrote a checkpoint.
pub fn check(
    config: &Config,
    checkpoints: impl IntoIterator<Item = (String, Checkpoint)>,
    holds: Option<&str>,
) -> Result<(), StartError> {
    let control = &config.kafka.topics.control;
    let ours = config.provider.environment.as_str();
    for (name, Checkpoint { environment, left, shards, .. }) in checkpoints {
        if environment != ours {
            return Err(StartError::Settings(format!(
                "the topics of relay `{name}` hold {environment} events (says its checkpoint in {control}), but \
                 provider.environment is {ours}; give each environment its own kafka.topic_prefix and name"
            )));
        }
        if name == config.name && shards != config.cluster.shards {
            return Err(StartError::Settings(format!(
                "relay `{name}` has {shards} shard(s) (says its checkpoint in {control}), but cluster.shards is {}; set it \
                 to {shards}: the shards of a relay cannot be changed",
                config.cluster.shards
            )));
        }
        if name != config.name && !left {
            return Err(StartError::Settings(format!(
                "relay `{name}` writes to these topics (its checkpoint in {control} is younger than {} minutes): two \
                 relays on one set of topics publish every event twice; give this one its own kafka.topic_prefix, or \
                 the same name to take over",
                OTHERS_WITHIN_MS / 60_000
            )));
        }
    }
    match holds {
        None => Ok(()),
        Some(topic) => Err(StartError::Settings(format!(
            "{control} holds no checkpoint of relay `{}`, but {topic} holds records: the relay's memory was emptied, or the \
             relay was renamed; start once with `pepay-relay run --from TIME`, the time from which events are to be \
             fetched again",
            config.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Environment;

    fn refusal(checkpoints: &[(&str, &str, bool)], holds: Option<&str>) -> String {
        let config = Config::minimal(Environment::Devnet, "localhost:9092");
        let checkpoints = checkpoints.iter().map(|(name, environment, left)| {
            let checkpoint = Checkpoint::new("r".to_owned(), 1, String::new(), environment);
            ((*name).to_owned(), Checkpoint { left: *left, ..checkpoint })
        });
        match check(&config, checkpoints, holds) {
            Ok(()) => String::new(),
            Err(StartError::Settings(text)) => text,
            Err(other) => format!("status of another kind: {other}"),
        }
    }

    #[test]
    fn topics_of_another_relay_or_environment_are_refused() {
        let ours = ("pepay-relay", "devnet", false);
        assert_eq!(refusal(&[], None), "");
        assert_eq!(refusal(&[ours], None), "");
        assert_eq!(refusal(&[ours, ("other", "devnet", true)], None), "", "it left in order");
        assert!(refusal(&[ours, ("other", "devnet", false)], None).contains("relay `other` writes to these topics"));
        assert!(refusal(&[ours, ("other", "mainnet", true)], None).contains("hold mainnet events"));
        assert!(refusal(&[("pepay-relay", "mainnet", true)], None).contains("provider.environment is devnet"));
    }

    #[test]
    fn an_emptied_memory_is_a_persons_to_decide() {
        let misses = [(false, false), (true, false), (false, true), (true, true)]
            .map(|(had, afresh)| misses_a_memory(had, afresh));
        assert_eq!(misses, [true, false, false, false]);
        let text = refusal(&[], Some("pepay.orders"));
        assert!(text.contains("pepay.orders holds records") && text.contains("run --from"), "{text}");
    }
}

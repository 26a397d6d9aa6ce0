//! Every error of Kafka and librdkafka, sorted once, by what the relay does about it.
//!
//! The only place that knows error codes. Codes are those of librdkafka's `rd_kafka_resp_err_t`; the broker's are
//! described in the Kafka protocol guide ("Error Codes").

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What is done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wait, then send the batch again, for as long as it takes: a broker is away, a leader moves, a permission was
    /// taken away. Nothing is dropped.
    Retry,
    /// Abort the transaction and send the batch again at once.
    Abort,
    /// Make a new producer; what became of the transaction is read from the newest checkpoint.
    Rebuild,
    /// The broker does not take a record or a batch of this size: abort, and let the caller halve the batch.
    Size,
    /// The broker calls a record invalid: abort, let the caller halve the batch, and ask again for a single delivery.
    Invalid,
    /// Records did not reach the broker in time: abort, and let the caller halve the batch.
    Slow,
    /// No retry can help: the settings or the broker have to change.
    Stop,
}

impl Class {
    /// Whether it is a refusal of what was sent, and no trouble that passes.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Size | Self::Invalid)
    }
}

/// Why the relay could not start with Kafka. Each names its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Kafka refused the credentials or does not grant a permission; the text names the ACL to add (exit status 77).
    #[error("{0}")]
    Denied(String),
    /// The settings do not fit what is in Kafka (exit status 78).
    #[error("{0}")]
    Settings(String),
    /// Another node of the cluster claimed the shard after it was decided to claim it here.
    #[error("another node claimed the shard")]
    Elsewhere,
    /// Anything else (exit status 1).
    #[error("{0}")]
    Failed(String),
}

/// Sorts a code.
pub fn classify(code: Code) -> Class {
    match code {
        // The broker's limit is on the batch, so that small records can fail together: halving finds out.
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => Class::Size,
        Code::InvalidRecord => Class::Invalid,
        // `message.timeout.ms` ran out for a record while the broker answered: a quota, or a thin line.
        Code::MessageTimedOut => Class::Slow,
        // A coordinator that timed a transaction out answers like one that was asked for a newer producer: whether
        // it was a second relay is read from the checkpoint, never from the code (KIP-588 describes the likeness).
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Class::Rebuild,
        Code::Fatal
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::GaplessGuarantee
        | Code::InvalidTransactionalState => Class::Rebuild,
        // librdkafka asks for a new epoch by itself when the transaction is aborted (KIP-360).
        Code::UnknownProducerId | Code::InvalidProducerIdMapping => Class::Abort,
        // Consequences of another record's failure, whose own code decides what to do.
        Code::State
        | Code::Inconsistent
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::OperationNotAttempted
        | Code::ConcurrentTransactions => Class::Abort,
        Code::UnsupportedFeature
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::InvalidTransactionTimeout
        | Code::InvalidRequiredAcks
        | Code::InvalidTopic
        | Code::InvalidArgument
        | Code::NotImplemented
        | Code::NotConfigured => Class::Stop,
        // Brokers away, leaders moving, missing permissions, and codes not known today: held, never dropped.
        _ => Class::Retry,
    }
}

/// Sorts an error; what librdkafka itself reports about a transaction wins over its code.
pub fn sort(error: &KafkaError) -> Class {
    if let KafkaError::Transaction(transaction) = error {
        let by_code = classify(transaction.code());
        return match by_code {
            Class::Stop | Class::Size | Class::Invalid => by_code,
            _ if transaction.is_fatal() => Class::Rebuild,
            _ if transaction.is_retriable() => Class::Retry,
            _ if transaction.txn_requires_abort() && by_code == Class::Rebuild => Class::Abort,
            _ => by_code,
        };
    }
    match error.rdkafka_error_code() {
        Some(code) => classify(code),
        // Wrong properties and clients that cannot be created.
        None => Class::Stop,
    }
}

/// Whether the code speaks of a newer producer of the same transactional id, which may also be a mere time-out.
pub(super) fn looks_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Whether Kafka refused who we are, or what we may do.
pub(super) fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row a code that the relay can meet; what is not listed waits and tries again.
    const TABLE: &[(Code, Class)] = &[
        (Code::BrokerTransportFailure, Class::Retry),
        (Code::AllBrokersDown, Class::Retry),
        (Code::Resolve, Class::Retry),
        (Code::SSL, Class::Retry),
        (Code::OperationTimedOut, Class::Retry),
        (Code::MessageTimedOut, Class::Slow),
        (Code::TimedOutQueue, Class::Retry),
        (Code::RequestTimedOut, Class::Retry),
        (Code::NetworkException, Class::Retry),
        (Code::LeaderNotAvailable, Class::Retry),
        (Code::NotLeaderForPartition, Class::Retry),
        (Code::BrokerNotAvailable, Class::Retry),
        (Code::CoordinatorLoadInProgress, Class::Retry),
        (Code::CoordinatorNotAvailable, Class::Retry),
        (Code::NotCoordinator, Class::Retry),
        (Code::TransactionCoordinatorFenced, Class::Retry),
        (Code::NotEnoughReplicas, Class::Retry),
        (Code::NotEnoughReplicasAfterAppend, Class::Retry),
        (Code::KafkaStorageError, Class::Retry),
        (Code::UnknownTopicOrPartition, Class::Retry),
        (Code::UnknownTopic, Class::Retry),
        (Code::UnknownPartition, Class::Retry),
        (Code::InvalidTimestamp, Class::Retry),
        (Code::InvalidMessage, Class::Retry),
        (Code::ThrottlingQuotaExceeded, Class::Retry),
        (Code::TopicAuthorizationFailed, Class::Retry),
        (Code::ClusterAuthorizationFailed, Class::Retry),
        (Code::TransactionalIdAuthorizationFailed, Class::Retry),
        (Code::Authentication, Class::Retry),
        (Code::SaslAuthenticationFailed, Class::Retry),
        (Code::Unknown, Class::Retry),
        (Code::ConcurrentTransactions, Class::Abort),
        (Code::State, Class::Abort),
        (Code::Inconsistent, Class::Abort),
        (Code::PurgeQueue, Class::Abort),
        (Code::PurgeInflight, Class::Abort),
        (Code::OperationNotAttempted, Class::Abort),
        (Code::UnknownProducerId, Class::Abort),
        (Code::InvalidProducerIdMapping, Class::Abort),
        (Code::Fenced, Class::Rebuild),
        (Code::ProducerFenced, Class::Rebuild),
        (Code::InvalidProducerEpoch, Class::Rebuild),
        (Code::InvalidTransactionalState, Class::Rebuild),
        (Code::OutOfOrderSequenceNumber, Class::Rebuild),
        (Code::DuplicateSequenceNumber, Class::Rebuild),
        (Code::GaplessGuarantee, Class::Rebuild),
        (Code::Fatal, Class::Rebuild),
        (Code::MessageSizeTooLarge, Class::Size),
        (Code::MessageBatchTooLarge, Class::Size),
        (Code::InvalidMessageSize, Class::Size),
        (Code::InvalidRecord, Class::Invalid),
        (Code::UnsupportedFeature, Class::Stop),
        (Code::UnsupportedVersion, Class::Stop),
        (Code::UnsupportedForMessageFormat, Class::Stop),
        (Code::UnsupportedCompressionType, Class::Stop),
        (Code::InvalidTransactionTimeout, Class::Stop),
        (Code::InvalidRequiredAcks, Class::Stop),
        (Code::InvalidTopic, Class::Stop),
        (Code::InvalidArgument, Class::Stop),
        (Code::NotImplemented, Class::Stop),
        (Code::NotConfigured, Class::Stop),
    ];

    #[test]
    fn every_code_has_its_class() {
        for (code, class) in TABLE {
            assert_eq!(classify(*code), *class, "{code:?}");
        }
    }

    #[test]
    fn nothing_that_waits_looks_like_a_refused_record() {
        // A batch that is refused is halved down to dead letters, which must never happen for a passing fault.
        let refused: Vec<_> = TABLE.iter().filter(|(_, class)| class.is_refusal()).map(|(code, _)| code).collect();
        assert_eq!(refused.len(), 4, "{refused:?}");
        assert_eq!(sort(&KafkaError::MessageProduction(Code::MessageSizeTooLarge)), Class::Size);
        assert_eq!(sort(&KafkaError::MessageProduction(Code::AllBrokersDown)), Class::Retry);
        assert_eq!(sort(&KafkaError::ClientCreation("no".to_owned())), Class::Stop);
    }

    #[test]
    fn fenced_is_a_symptom_that_leads_to_a_rebuild() {
        for (code, class) in TABLE {
            if looks_fenced(*code) {
                assert_eq!(*class, Class::Rebuild);
            }
        }
        assert!(looks_fenced(Code::Fenced) && !looks_fenced(Code::State));
    }
}

//! What to do when Kafka refuses who we are, or what we may do. Pure.

use crate::config::Config;
use crate::kafka::errors::StartError;
use rdkafka::error::RDKafkaErrorCode as Code;

/// The credentials were refused.
pub(in crate::kafka) fn credentials_refused(config: &Config, reason: &str) -> StartError {
    let who = match &config.kafka.username {
        Some(username) => format!("the credentials of `{username}`"),
        None => "a connection without credentials".to_owned(),
    };
    StartError::Denied(format!(
        "Kafka refused {who}: {reason}; check kafka.username, kafka.sasl_mechanism and the Kafka password \
         (PEPAY_RELAY_KAFKA_PASSWORD, kafka.password_file or the credential kafka-password)"
    ))
}

/// A permission is lacking; `acl` is what follows the principal, such as `--operation Write --topic pepay.orders`.
pub(in crate::kafka) fn permission_lacking(config: &Config, what: &str, acl: &str) -> StartError {
    let principal = config.kafka.username.as_deref().unwrap_or("ANONYMOUS");
    StartError::Denied(format!(
        "Kafka does not allow to {what}; add the permission: kafka-acls --bootstrap-server {} --add \
         --allow-principal User:{principal} {acl}",
        config.kafka.bootstrap_servers
    ))
}

/// The permission that `code` asks for, of a producer with this transactional id that writes to `topic`.
pub(in crate::kafka) fn denied(
    config: &Config,
    code: Code,
    reason: &str,
    transactional_id: &str,
    topic: &str,
) -> StartError {
    match code {
        Code::TransactionalIdAuthorizationFailed => permission_lacking(
            config,
            &format!("use the transactional id `{transactional_id}`"),
            &format!("--operation Write --operation Describe --transactional-id {transactional_id}"),
        ),
        Code::ClusterAuthorizationFailed => {
            permission_lacking(config, "write idempotently", "--operation IdempotentWrite --cluster")
        }
        Code::TopicAuthorizationFailed => permission_lacking(
            config,
            &format!("write and read the topic `{topic}`"),
            &format!("--operation Write --operation Read --operation Describe --topic {topic}"),
        ),
        _ => credentials_refused(config, reason),
    }
}

//! What to do when Kafka refuses who we are, or what we may do. Pure.

use super::Context;
use crate::config::Config;
use crate::kafka::cause::Cause;
use crate::kafka::errors::StartError;
use rdkafka::error::RDKafkaErrorCode as Code;

/// Who we are was refused to the client of `context`: its certificate, or its credentials.
pub(in crate::kafka) fn credentials_refused(config: &Config, context: &Context, reason: &str) -> StartError {
    if Cause::of(reason) == Some(Cause::ClientCertificate) {
        return certificate_refused(context, reason);
    }
    if Cause::of(reason) == Some(Cause::TokenRefused) {
        return StartError::Denied(Cause::explained(reason));
    }
    if let Some(id) = &config.kafka.oauth_client_id {
        return StartError::Denied(format!(
            "Kafka refused the token of client `{id}`: {reason}; see that the brokers trust who issued it \
             (sasl.oauthbearer.jwks.endpoint.url, sasl.oauthbearer.expected.audience), kafka.oauth_scope and \
             kafka.oauth_extensions"
        ));
    }
    let who = match &config.kafka.username {
        Some(username) => format!("the credentials of `{username}`"),
        None => "a connection without credentials".to_owned(),
    };
    StartError::Denied(format!(
        "Kafka refused {who}: {reason}; check kafka.username, kafka.sasl_mechanism and the Kafka password \
         (PEPAY_RELAY_KAFKA_PASSWORD, kafka.password_file or the credential kafka-password)"
    ))
}

fn certificate_refused(context: &Context, reason: &str) -> StartError {
    let Some(subject) = context.subject() else {
        return StartError::Denied(format!(
            "Kafka refused a connection without a certificate: {reason}; set kafka.tls_cert_file and kafka.tls_key_file"
        ));
    };
    let unsent =
        if context.said().unsent { ", since its authority is none of those that the broker names" } else { "" };
    StartError::Denied(format!(
        "Kafka refused the certificate of `{subject}`{unsent}: {reason}; give one in kafka.tls_cert_file that is in force and \
         whose authority the brokers trust (their ssl.truststore.location)"
    ))
}

/// A permission of the client of `context` is missing; `acl` is what follows the principal, such as
/// `--operation Write --topic pepay.orders`.
pub(in crate::kafka) fn permission_lacking(config: &Config, context: &Context, what: &str, acl: &str) -> StartError {
    // The brokers go by the user where there is one, and else by the certificate.
    let kafka = &config.kafka;
    let (who, principal) = match (kafka.username.as_ref().or(kafka.oauth_client_id.as_ref()), context.subject()) {
        // With a token it is the claim that the brokers look at, which is `sub` unless they are configured otherwise.
        (Some(client), _) if kafka.username.is_none() => (format!(" `{client}`"), "User:SUB_OF_ITS_TOKEN".to_owned()),
        (Some(username), _) => (String::new(), format!("User:{username}")),
        (None, Some(subject)) => (format!(" `{subject}`"), format!("\"User:{subject}\"")),
        (None, None) => (String::new(), "User:ANONYMOUS".to_owned()),
    };
    StartError::Denied(format!(
        "Kafka does not allow{who} to {what}; add the permission: kafka-acls --bootstrap-server {} --add \
         --allow-principal {principal} {acl}",
        config.kafka.bootstrap_servers
    ))
}

/// The permission that `code` asks for, of a producer with this transactional id that writes to `topic`.
pub(in crate::kafka) fn denied(
    config: &Config,
    context: &Context,
    code: Code,
    reason: &str,
    (transactional_id, topic): (&str, &str),
) -> StartError {
    match code {
        Code::TransactionalIdAuthorizationFailed => permission_lacking(
            config,
            context,
            &format!("use the transactional id `{transactional_id}`"),
            &format!("--operation Write --operation Describe --transactional-id {transactional_id}"),
        ),
        Code::ClusterAuthorizationFailed => {
            permission_lacking(config, context, "write idempotently", "--operation IdempotentWrite --cluster")
        }
        Code::TopicAuthorizationFailed => permission_lacking(
            config,
            context,
            &format!("write and read the topic `{topic}`"),
            &format!("--operation Write --operation Read --operation Describe --topic {topic}"),
        ),
        _ => credentials_refused(config, context, reason),
    }
}

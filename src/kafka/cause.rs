//! Why Kafka does not answer, from the words of librdkafka and the broker, and what to do about it. Pure.
//!
//! The words are those of librdkafka 2.12 (`rdkafka_broker.c`, `rdkafka_transport.c`, `rdkafka_ssl.c`, `rd_kafka_err2str`),
//! of OpenSSL, and of rustls where `diagnosis` looks at a certificate itself.

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The broker's certificate is past its end.
    CertificateExpired,
    /// The certificate is for another host.
    CertificateName,
    /// Nobody who is trusted has signed it.
    CertificateAuthority,
    /// It was refused without a reason.
    Certificate,
    /// The broker wants a certificate of ours, or refuses it.
    ClientCertificate,
    /// TLS to a listener without.
    TlsToPlain,
    /// No TLS to a listener with it.
    PlainToTls,
    /// The first request was not understood.
    NotUnderstood,
    /// Something else than Kafka listens there.
    NoKafka,
    /// A listener with SASL, and no credentials.
    SaslMissing,
    /// Who we are was refused.
    Credentials,
    /// The identity provider refuses our client.
    TokenRefused,
    /// It does not answer.
    TokenAway,
    /// It answers something else than a token.
    TokenOther,
    /// Its token is past its end.
    TokenExpired,
    /// A broker's name has no address.
    Resolve,
    /// Nobody listens.
    Refused,
    /// No file descriptor is left.
    Files,
    /// Nobody coordinates transactions.
    Coordinator,
    /// Transactions as long as ours are not allowed.
    TransactionTimeout,
    /// Our clock is off.
    Clock,
    /// A topic was deleted.
    TopicGone,
    /// A quota was reached.
    Quota,
    /// Too few replicas are in sync.
    Replicas,
    /// A partition has no leader.
    Leader,
}

/// Words, and what they are a sign of. The first row that fits counts, so what is more special comes first.
const SIGNS: &[(&str, Cause)] = &[
    // Of `client::token`, and with the words of others behind them.
    ("the identity provider refused the client", Cause::TokenRefused),
    ("the identity provider is down or busy", Cause::TokenAway),
    ("the identity provider cannot be reached", Cause::TokenAway),
    ("the identity provider answers with", Cause::TokenOther),
    ("the identity provider gave one that is expired", Cause::TokenExpired),
    // The broker's word, so about ours: `certificate required`, `bad certificate`, `certificate expired` and so on.
    ("alert certificate", Cause::ClientCertificate),
    ("alert bad certificate", Cause::ClientCertificate),
    ("alert unsupported certificate", Cause::ClientCertificate),
    ("alert unknown ca", Cause::ClientCertificate),
    ("client SSL authentication might be required", Cause::ClientCertificate),
    ("certificate has expired", Cause::CertificateExpired),
    ("certificate expired", Cause::CertificateExpired),
    ("Hostname mismatch", Cause::CertificateName),
    ("not valid for name", Cause::CertificateName),
    ("UnknownIssuer", Cause::CertificateAuthority),
    ("self-signed certificate", Cause::CertificateAuthority),
    ("unable to get local issuer", Cause::CertificateAuthority),
    ("certificate verify failed", Cause::Certificate),
    ("could not be verified", Cause::Certificate),
    ("connecting to a PLAINTEXT broker listener", Cause::TlsToPlain),
    ("wrong version number", Cause::TlsToPlain),
    ("packet length too long", Cause::TlsToPlain),
    ("record layer failure", Cause::TlsToPlain),
    ("connecting to a SSL listener", Cause::PlainToTls),
    ("speaks TLS", Cause::PlainToTls),
    // Closed at the very first request: so does a TLS listener that sends no alert.
    ("in state APIVERSION_QUERY", Cause::NotUnderstood),
    // A TLS alert (0x15, version 3.x) read as the length of an answer.
    ("Invalid response size 35251", Cause::PlainToTls),
    // `HTTP`, read alike.
    ("Invalid response size 1213486160", Cause::NoKafka),
    ("http request", Cause::NoKafka),
    ("might require SASL authentication", Cause::SaslMissing),
    ("refused the credentials", Cause::Credentials),
    ("credentials were refused", Cause::Credentials),
    ("Authentication failed", Cause::Credentials),
    ("Failed to resolve", Cause::Resolve),
    ("Too many open files", Cause::Files),
    ("Failed to create socket", Cause::Files),
    ("Connection refused", Cause::Refused),
    ("Coordinator not available", Cause::Coordinator),
    ("Invalid transaction timeout", Cause::TransactionTimeout),
    ("transaction timeout is larger", Cause::TransactionTimeout),
    ("Invalid timestamp", Cause::Clock),
    ("Unknown topic", Cause::TopicGone),
    ("Unknown partition", Cause::TopicGone),
    ("is not known to the broker", Cause::TopicGone),
    ("in-sync replicas", Cause::Replicas),
    ("__transaction_state", Cause::Coordinator),
    ("hrottling quota", Cause::Quota),
    ("by a quota", Cause::Quota),
    ("Leader not available", Cause::Leader),
    ("has no leader", Cause::Leader),
];

impl Cause {
    /// What these words are a sign of; `None` for words without a cause (`1/1 brokers are down`, a time-out).
    pub(super) fn of(words: &str) -> Option<Self> {
        SIGNS.iter().find(|(sign, _)| words.contains(sign)).map(|(_, cause)| *cause)
    }

    /// Whether a closer look may find more.
    pub(super) fn is_vague(self) -> bool {
        matches!(self, Self::Certificate | Self::NotUnderstood | Self::Resolve | Self::Refused)
    }

    /// What to do about it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::CertificateExpired => {
                "the broker's certificate has expired, or one of the two clocks is wrong: renew it"
            }
            Self::CertificateName => {
                "the broker's certificate is for another host: name the brokers in kafka.bootstrap_servers and \
                 advertised.listeners as their certificates do"
            }
            Self::CertificateAuthority => {
                "nobody who is trusted has signed the broker's certificate: name its authority in kafka.ca_file"
            }
            Self::Certificate => {
                "the broker's certificate is refused: see its end, its host name, and kafka.ca_file for who signed it"
            }
            Self::ClientCertificate => {
                "the broker wants a certificate of the relay's: give one that it trusts in kafka.tls_cert_file, and its key in \
                 kafka.tls_key_file"
            }
            Self::TlsToPlain => {
                "the broker's listener speaks no TLS: set kafka.tls = false, or name the port of its TLS listener"
            }
            Self::PlainToTls => {
                "the broker's listener speaks TLS: set kafka.tls = true, or name the port of its plain listener"
            }
            Self::NotUnderstood => {
                "the listener does not understand the first request: it may speak TLS (set kafka.tls = true), or be no Kafka"
            }
            Self::NoKafka => "no Kafka listens there but another server: see kafka.bootstrap_servers",
            Self::SaslMissing => "the broker wants credentials: set kafka.username and kafka.sasl_mechanism",
            Self::Credentials => {
                "see kafka.username, kafka.sasl_mechanism and the Kafka password; where its file has changed, reload (SIGHUP)"
            }
            Self::TokenRefused => {
                "see kafka.oauth_client_id, kafka.oauth_scope, kafka.oauth_token_url and the client's secret \
                 (PEPAY_RELAY_KAFKA_OAUTH_SECRET, kafka.oauth_secret_file or the credential kafka-oauth-secret); where its file \
                 has changed, reload (SIGHUP)"
            }
            Self::TokenAway => {
                "see kafka.oauth_token_url, and that it can be reached from here; it is asked again every 10 s"
            }
            Self::TokenOther => {
                "see that kafka.oauth_token_url is a token endpoint, and that its tokens are JWTs with sub and exp"
            }
            Self::TokenExpired => "one of the two clocks is wrong: set the clock by NTP",
            Self::Resolve => {
                "a broker's name has no address here: see kafka.bootstrap_servers, and advertised.listeners of the brokers"
            }
            Self::Refused => "nobody listens there: see kafka.bootstrap_servers, and whether the broker runs",
            Self::Files => "the process has too many files open: raise LimitNOFILE, or lower webhook.connections_max",
            Self::Coordinator => {
                "no broker coordinates transactions: transaction.state.log.replication.factor (3 unless set) may be larger \
                 than the number of brokers, as on a single one, where it has to be 1 with transaction.state.log.min.isr=1"
            }
            Self::TransactionTimeout => {
                "the broker's transaction.max.timeout.ms is shorter than the relay's transactions: set it to at least 60000"
            }
            Self::Clock => {
                "this host's clock is further from the broker's than message.timestamp.before.max.ms or \
                 message.timestamp.after.max.ms of the topic allow: set the clock by NTP"
            }
            Self::TopicGone => {
                "a topic was deleted: restart the relay, which creates it, or create it: pepay-relay topics --create"
            }
            Self::Quota => "a quota of this client is reached: raise producer_byte_rate for it, or wait",
            Self::Replicas => {
                "fewer replicas are in sync than min.insync.replicas of the topic asks for: bring the missing brokers back"
            }
            Self::Leader => "the brokers that hold a partition are down: bring them back",
        }
    }

    /// The words, and the remedy where they are a sign of something.
    pub(super) fn explained(words: &str) -> String {
        Self::of(words).map_or_else(|| words.to_owned(), |cause| format!("{words}; {}", cause.remedy()))
    }
}

/// Whether the broker refused our certificate, or the lack of one, explicitly: an alert of TLS (RFC 8446, section 6.2).
pub(super) fn is_alert_about_us(words: &str) -> bool {
    words.contains("SSL routines") && words.contains(" alert ") && Cause::of(words) == Some(Cause::ClientCertificate)
}

/// How much can be learned from these words: 2 the cause, 1 something, 0 only that there is trouble.
pub(super) fn weight(words: &str) -> u8 {
    let empty = words.contains("brokers are down") || words.contains("timed out") || words.contains("Timed out");
    match Cause::of(words) {
        Some(_) => 2,
        None => u8::from(!empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the clients and brokers wrote them.
    const TABLE: &[(&str, Option<Cause>)] = &[
        ("1/1 brokers are down", None),
        ("Local: Timed out", None),
        ("Failed to initialize Producer ID: Timed out waiting for operation to finish, retry call to resume", None),
        (
            "ssl://localhost:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
             broker certificate could not be verified, verify that ssl.ca.location is correctly configured or root CA \
             certificates are installed (install ca-certificates package) (after 11ms in state SSL_HANDSHAKE)",
            Some(Cause::Certificate),
        ),
        (
            "invalid peer certificate: certificate expired: verification time 5 (UNIX), …",
            Some(Cause::CertificateExpired),
        ),
        ("invalid peer certificate: certificate not valid for name \"a\"; …", Some(Cause::CertificateName)),
        ("invalid peer certificate: UnknownIssuer", Some(Cause::CertificateAuthority)),
        (
            "SSL handshake failed: error:0A00045C:SSL routines::tlsv13 alert certificate required",
            Some(Cause::ClientCertificate),
        ),
        (
            "error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42",
            Some(Cause::ClientCertificate),
        ),
        (
            "error:0A000415:SSL routines::sslv3 alert certificate expired: SSL alert number 45",
            Some(Cause::ClientCertificate),
        ),
        ("error:0A000418:SSL routines::tlsv1 alert unknown ca: SSL alert number 48", Some(Cause::ClientCertificate)),
        (
            "SSL handshake failed: Disconnected: connection closed by peer: connecting to a PLAINTEXT broker listener?",
            Some(Cause::TlsToPlain),
        ),
        (
            "127.0.0.1:9093/bootstrap: Disconnected: requesting ApiVersion: might be caused by incorrect security.protocol \
             configuration (connecting to a SSL listener?) or broker version is < 0.10 (see api.version.request)",
            Some(Cause::PlainToTls),
        ),
        (
            "Receive failed: Invalid response size 352518912 (0..100000000): increase receive.message.max.bytes",
            Some(Cause::PlainToTls),
        ),
        ("Receive failed: Invalid response size 1213486160 (0..100000000)", Some(Cause::NoKafka)),
        (
            "127.0.0.1:9093/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 5ms in state \
             APIVERSION_QUERY)",
            Some(Cause::NotUnderstood),
        ),
        (
            "Disconnected: verify that security.protocol is correctly configured, broker might require SASL authentication",
            Some(Cause::SaslMissing),
        ),
        ("Kafka refused the credentials of `relay`: SASL authentication error", Some(Cause::Credentials)),
        ("no token: the identity provider refused the client (HTTP 401, invalid_client)", Some(Cause::TokenRefused)),
        (
            "no token: the identity provider cannot be reached (Failed to connect to localhost port 1: Connection refused)",
            Some(Cause::TokenAway),
        ),
        ("no token: the identity provider is down or busy (HTTP 503)", Some(Cause::TokenAway)),
        (
            "no token: the identity provider answers with no JSON (HTTP 200, Response is not JSON encoded: text/html)",
            Some(Cause::TokenOther),
        ),
        ("no token: the identity provider gave one that is expired already (now=2, exp=1)", Some(Cause::TokenExpired)),
        ("Failed to resolve 'nowhere.invalid:9092': Name or service not known", Some(Cause::Resolve)),
        ("Failed to create socket: Too many open files", Some(Cause::Files)),
        ("Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)", Some(Cause::Refused)),
        ("Broker: Coordinator not available", Some(Cause::Coordinator)),
        ("Broker: Invalid transaction timeout", Some(Cause::TransactionTimeout)),
        ("Broker: Invalid timestamp", Some(Cause::Clock)),
        ("Broker: Unknown topic or partition", Some(Cause::TopicGone)),
        ("Local: Unknown topic", Some(Cause::TopicGone)),
        ("pepay.orders is not known to the broker, or was deleted", Some(Cause::TopicGone)),
        ("Broker: Throttling quota has been exceeded", Some(Cause::Quota)),
        ("Kafka holds this client up for 900 ms by a quota", Some(Cause::Quota)),
        ("127.0.0.1:9093 speaks TLS", Some(Cause::PlainToTls)),
        ("Broker: Not enough in-sync replicas", Some(Cause::Replicas)),
        ("Broker: Leader not available", Some(Cause::Leader)),
    ];

    #[test]
    fn words_are_a_sign_of_one_cause_with_a_remedy() {
        for (words, cause) in TABLE {
            assert_eq!(Cause::of(words), *cause, "{words}");
            let said = Cause::explained(words);
            assert_eq!(said.contains("; "), cause.is_some() || words.contains("; "), "{said}");
            assert!(cause.is_none_or(|cause| said.ends_with(cause.remedy())), "{said}");
        }
    }

    #[test]
    fn an_alert_is_about_us_and_a_guess_is_not() {
        for (words, cause) in TABLE {
            let is_alert = words.contains(" alert ") && *cause == Some(Cause::ClientCertificate);
            assert_eq!(is_alert_about_us(words), is_alert, "{words}");
        }
        assert!(!is_alert_about_us(
            "SSL handshake failed: unexpected message: client SSL authentication might be required"
        ));
    }

    #[test]
    fn that_there_is_trouble_weighs_nothing() {
        assert_eq!([weight("1/1 brokers are down"), weight("Local: Timed out"), weight("Disconnected")], [0, 0, 1]);
        assert_eq!(weight("Connect to [::1]:1 failed: Connection refused"), 2);
    }
}

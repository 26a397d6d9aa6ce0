//! What Kafka reported last to one client: librdkafka's log lines, errors and delivery reports.

use super::token::{self, Answer, NoToken};
use crate::config::Secrets;
use crate::kafka::cause::{self, Cause};
use crate::kafka::errors::{self, Class};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What Kafka reported last to one client.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Said {
    /// The first record that could not be delivered since [`Context::forget`], leaving aside consequences of others.
    pub(in crate::kafka) refused: Option<Code>,
    /// The topic of that record.
    pub(in crate::kafka) refused_topic: Option<String>,
    /// The credentials were refused.
    pub(in crate::kafka) denied: Option<String>,
    /// The last trouble with connections.
    pub(in crate::kafka) away: Option<String>,
    /// Our certificate was kept back: the broker names the authorities that it trusts, and ours is not among them.
    pub(in crate::kafka) unsent: bool,
    /// Why there is no token, or no new one, until it is logged.
    untold_token: Option<String>,
    /// What the last request for a token was answered, where that was none.
    token_answer: Option<Answer>,
    /// A token could not be had.
    tokenless: bool,
}

/// Takes librdkafka's log lines, errors and delivery reports.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Context {
    said: Mutex<Said>,
    subject: Option<String>,
    throttled: Mutex<Option<Throttled>>,
}

/// A connection is taken for throttled this long at most: one that is silent for longer is given up
/// (`socket.timeout.ms`), and the next one is informed of the quota again.
const THROTTLED_MAX: Duration = Duration::from_secs(15);

/// Kafka does not read what this client sends, because of a quota (KIP-219).
#[derive(Clone, Copy, Debug)]
struct Throttled {
    by: Duration,
    until: Instant,
}

impl Context {
    /// Of a client with these secrets.
    pub(in crate::kafka) fn of(secrets: &Secrets) -> Self {
        let subject = secrets.kafka_certificate.as_ref().map(|certificate| certificate.subject.clone());
        Self { subject, ..Self::default() }
    }

    /// The subject of the client's certificate, where it has one.
    pub(in crate::kafka) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// That a quota holds the client up now.
    pub(in crate::kafka) fn throttled(&self) -> Option<String> {
        let throttled = (*self.throttled.lock().unwrap_or_else(PoisonError::into_inner))?;
        let Throttled { by, until } = throttled;
        (Instant::now() < until).then(|| format!("Kafka holds this client up for {} ms by a quota", by.as_millis()))
    }

    /// Why there is no token, or no new one, where it has not been logged yet.
    pub(in crate::kafka) fn take_no_token(&self) -> Option<String> {
        self.said().untold_token.take()
    }

    /// Whether an error about who we are is of the identity provider, which may be back soon, and not of the broker.
    pub(in crate::kafka) fn awaits_token(&self) -> bool {
        let said = self.said();
        said.tokenless && said.denied.is_none()
    }

    /// What was reported so far.
    pub(in crate::kafka) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts again, before a transaction.
    pub(in crate::kafka) fn forget(&self) {
        let mut said = self.said();
        let untold_token = said.untold_token.take();
        let token_answer = said.token_answer.take();
        *said = Said { untold_token, token_answer, ..Said::default() };
    }

    /// A record could not be delivered. A refused one decides the batch's fate whatever else went wrong; a
    /// consequence of another failure decides nothing; else the first failure does.
    pub(in crate::kafka) fn failed(&self, code: Code, topic: Option<&str>) {
        let weight = |code| match errors::classify(code) {
            Class::Size | Class::Invalid => 2,
            Class::Abort => 0,
            _ => 1,
        };
        let mut said = self.said();
        if said.refused.is_none_or(|first| weight(first) < weight(code)) {
            said.refused = Some(code);
            said.refused_topic = topic.map(str::to_owned);
        }
    }

    /// The last trouble with connections, a quota, or `otherwise`, whichever is more precise.
    pub(in crate::kafka) fn away(&self, otherwise: &str) -> String {
        let words = match self.reason() {
            Some(said) if cause::weight(&said) >= cause::weight(otherwise) => said,
            _ => otherwise.to_owned(),
        };
        if Cause::of(&words).is_some() { words } else { self.throttled().unwrap_or(words) }
    }

    /// What went wrong with a request, with the last trouble with connections where that is more precise.
    pub(in crate::kafka) fn said_of(&self, error: &KafkaError) -> String {
        self.away(&error.to_string())
    }

    /// The code of the record that decides a batch's fate, and words that name its topic.
    pub(in crate::kafka) fn refusal(&self) -> Option<(Code, String)> {
        let said = self.said();
        let code = said.refused?;
        let words = said.refused_topic.as_ref().map_or_else(|| code.to_string(), |topic| format!("{topic}: {code}"));
        Some((code, words))
    }

    /// That the credentials were refused, or the last trouble with connections.
    pub(in crate::kafka) fn reason(&self) -> Option<String> {
        let said = self.said();
        let speaks_for_itself =
            |reason: &str| cause::is_alert_about_us(reason) || Cause::of(reason) == Some(Cause::TokenRefused);
        let denied = said.denied.as_ref().map(|reason| match speaks_for_itself(reason) {
            true => reason.clone(),
            false => format!("the credentials were refused: {reason}"),
        });
        denied.or_else(|| said.away.clone())
    }

    fn hear_of_token(&self, trouble: NoToken) {
        let (NoToken::Refused(words) | NoToken::Away(words)) = &trouble;
        self.hear(words);
        let mut said = self.said();
        said.tokenless = true;
        said.untold_token = Some(words.clone());
        if let NoToken::Refused(words) = trouble {
            said.denied = Some(words);
        }
    }

    /// Words with the cause are not overwritten by words that only report trouble.
    fn hear(&self, reason: &str) {
        let mut said = self.said();
        if cause::is_alert_about_us(reason) {
            said.denied = Some(reason.to_owned());
        }
        let before = said.away.as_deref().map_or(0, cause::weight);
        if cause::weight(reason) >= before {
            said.away = Some(reason.to_owned());
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::telemetry::logs::librdkafka(level, facility, line);
        // A connection that ends is reported here alone: `[thrd:NAME]: NAME: Disconnected: …`.
        if facility == "FAIL" {
            self.hear(line.split_once("]: ").map_or(line, |(_, words)| words));
        }
        if let Some(answer) = token::answer(line).filter(|_| facility == "OIDC") {
            self.said().token_answer = Some(answer);
        }
        if facility == "SSL" && line.contains("not sending any client certificates") {
            self.said().unsent = true;
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let answer = self.said().token_answer.clone();
        if let Some(trouble) = token::no_token(reason, answer.as_ref()) {
            return self.hear_of_token(trouble);
        }
        match code {
            Code::Authentication | Code::SaslAuthenticationFailed => self.said().denied = Some(reason.to_owned()),
            _ => self.hear(reason),
        }
    }

    /// What librdkafka sums up once in a while; of interest is how long the brokers throttled us since the last time.
    fn stats(&self, statistics: rdkafka::Statistics) {
        let throttles = statistics.brokers.values().filter_map(|broker| broker.throttle.as_ref());
        let by = throttles.map(|throttle| throttle.max).max().and_then(|ms| u64::try_from(ms).ok());
        if let Some(by) = by.filter(|by| *by > 0).map(Duration::from_millis) {
            let throttled = Throttled { by, until: Instant::now() + by.min(THROTTLED_MAX) };
            *self.throttled.lock().unwrap_or_else(PoisonError::into_inner) = Some(throttled);
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Err((error, message)) = result {
            self.failed(error.rdkafka_error_code().unwrap_or(Code::Unknown), Some(message.topic()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_kept_when_all_brokers_are_down() {
        let context = Context::default();
        let transport = KafkaError::Global(Code::BrokerTransportFailure);
        context.error(transport.clone(), "Connect to [::1]:1 failed: Connection refused");
        context.error(KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert!(context.away("the broker does not acknowledge").contains("Connection refused"));
        context.error(transport, "Failed to resolve 'a'");
        assert_eq!(context.reason().as_deref(), Some("Failed to resolve 'a'"), "the last cause counts");
    }

    #[test]
    fn a_refused_record_wins_over_other_failures_and_consequences_never_do() {
        let decide = |codes: &[Code]| {
            let context = Context::default();
            for code in codes {
                context.failed(*code, None);
            }
            context.said().refused
        };
        assert_eq!(decide(&[]), None);
        assert_eq!(decide(&[Code::PurgeQueue]), Some(Code::PurgeQueue));
        assert_eq!(decide(&[Code::PurgeQueue, Code::MessageTimedOut]), Some(Code::MessageTimedOut));
        assert_eq!(decide(&[Code::MessageTimedOut, Code::PurgeQueue]), Some(Code::MessageTimedOut));
        let refused = [Code::MessageTimedOut, Code::MessageSizeTooLarge, Code::AllBrokersDown];
        assert_eq!(decide(&refused), Some(Code::MessageSizeTooLarge));
    }
}

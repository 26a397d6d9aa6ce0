//! Why there is no token for Kafka, from the words of librdkafka, which asks for it. Pure.
//!
//! The words are those of librdkafka 2.12 (`rdkafka_sasl_oauthbearer.c`, `rdkafka_sasl_oauthbearer_oidc.c`, `rdhttp.c`) and of
//! libcurl; of an answer of the identity provider the two members that RFC 6749, section 5.2, is about are logged,
//! never the whole.

use crate::text::foreign;
use serde::Deserialize;

/// How the error begins that every client of Kafka receives.
const ERROR: &str = "Failed to acquire SASL OAUTHBEARER token: ";
/// And the log line before it, where the request failed: it alone has the status.
const LINE: &str = "Failed to retrieve OIDC token from \"";

/// What the log line has about a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The words of the error that follows.
    words: String,
    /// The status of HTTP; -1 where there was no answer.
    status: i32,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoToken {
    /// The identity provider refuses this client: waiting is of no use.
    Refused(String),
    /// It is away, or answers something else than a token.
    Away(String),
}

/// What a log line of librdkafka's has about a request that failed; `None` for any other line.
pub(super) fn answer(line: &str) -> Option<Answer> {
    let (_, rest) = line.split_once(LINE)?;
    let (_url, rest) = rest.split_once("\": ")?;
    let (words, status) = rest.rsplit_once(" (")?;
    let status = status.trim_end().strip_suffix(')')?.parse().ok()?;
    Some(Answer { words: words.to_owned(), status })
}

/// What an error that a client receives is about, with the answer in the log line before it; `None` for any other
/// error.
pub(super) fn no_token(error: &str, answer: Option<&Answer>) -> Option<NoToken> {
    let words = error.strip_prefix(ERROR)?;
    let status = answer.filter(|answer| answer.words.trim() == words.trim()).map(|answer| answer.status);
    let what = match status {
        Some(408 | 425 | 429 | 500..) => "is down or busy",
        Some(400..) => "refused the client",
        Some(200..) => "answers with no JSON",
        Some(_) => "cannot be reached",
        None if words.contains("unexpired") => "gave one that is expired already",
        None => "answers with something else",
    };
    let said = format!("no token: the identity provider {what} ({})", told(status.filter(|status| *status > 0), words));
    Some(if what == "refused the client" { NoToken::Refused(said) } else { NoToken::Away(said) })
}

/// The members of an answer that give the reason.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

fn told(status: Option<i32>, words: &str) -> String {
    let words = match serde_json::from_str::<Refusal>(words) {
        Ok(Refusal { error, error_description: Some(description) }) => format!("{error}: {description}"),
        Ok(Refusal { error, .. }) => error,
        // A page of somebody between, perhaps: it has no more to it than its status.
        Err(_) if status.is_some_and(|status| status >= 400) => String::new(),
        Err(_) if words.trim().is_empty() => "no answer".to_owned(),
        Err(_) => words.to_owned(),
    };
    let words = foreign(&words).to_string();
    let status = status.map(|status| format!("HTTP {status}"));
    [status, Some(words).filter(|words| !words.is_empty())].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str, status: i32) -> String {
        format!(
            "[thrd:background]: Failed to retrieve OIDC token from \"https://id.example/token\": {words} ({status})"
        )
    }

    /// As librdkafka wrote them.
    #[test]
    fn each_cause_is_put_in_a_sentence_and_only_a_refusal_is_one() {
        let of = |what: &str| format!("no token: the identity provider {what}");
        let refused = |what: &str| NoToken::Refused(of(what));
        let away = |what: &str| NoToken::Away(of(what));
        for (words, status, expected) in [
            (
                r#"{"error":"invalid_client","error_description":"wrong secret"}"#,
                Some(401),
                refused("refused the client (HTTP 401, invalid_client: wrong secret)"),
            ),
            (r#"{"error":"invalid_scope"}"#, Some(400), refused("refused the client (HTTP 400, invalid_scope)")),
            ("<html>secret</html>", Some(404), refused("refused the client (HTTP 404)")),
            ("Server did not provide an error string", Some(503), away("is down or busy (HTTP 503)")),
            (
                "Failed to connect to id.example port 443",
                Some(-1),
                away("cannot be reached (Failed to connect to id.example port 443)"),
            ),
            ("", Some(-1), away("cannot be reached (no answer)")),
            (
                "Response is not JSON encoded: text/html",
                Some(200),
                away("answers with no JSON (HTTP 200, Response is not JSON encoded: text/html)"),
            ),
            (
                "Expected JSON response with \"access_token\" field",
                None,
                away("answers with something else (Expected JSON response with \"access_token\" field)"),
            ),
            (
                "Must supply an unexpired token: now=2ms, exp=1ms",
                None,
                away("gave one that is expired already (Must supply an unexpired token: now=2ms, exp=1ms)"),
            ),
        ] {
            let told = status.and_then(|status| answer(&line(words, status)));
            assert_eq!(told.is_some(), status.is_some(), "{words}");
            assert_eq!(no_token(&format!("{ERROR}{words}"), told.as_ref()), Some(expected), "{words}");
        }
    }

    #[test]
    fn what_is_about_something_else_is_none() {
        assert_eq!(answer("[thrd:main]: 1/1 brokers are down"), None);
        assert_eq!(answer("Failed to retrieve OIDC token from \"x\": y"), None);
        assert_eq!(no_token("SASL authentication error", None), None);
    }

    #[test]
    fn a_line_counts_for_the_error_with_its_words_alone() {
        let earlier = answer(&line("{}", 401));
        let said = no_token(&format!("{ERROR}Failed to parse JSON JWT payload"), earlier.as_ref());
        assert!(matches!(said, Some(NoToken::Away(_))), "{said:?}");
    }

    #[test]
    fn an_answer_is_cut_and_escaped() {
        let long = "x\n".repeat(1000);
        let said = no_token(&format!("{ERROR}{long}"), None);
        assert!(matches!(&said, Some(NoToken::Away(said)) if said.len() < 400 && !said.contains('\n')), "{said:?}");
    }
}

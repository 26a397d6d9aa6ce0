use super::soon;
use pepay_relay::clock::{Clock, Moment, now_ms};
use pepay_relay::provider::rest::{BODY_BYTES_MAX, IdempotencyKey, Rest, RestError};
use pepay_relay::provider::tls;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A client, and a provider that gives one answer and returns what it was asked.
async fn rig(key: &str, answer: &str) -> (Rest, tokio::task::JoinHandle<String>) {
    clocked(key, answer, Arc::default()).await
}

async fn clocked(key: &str, answer: &str, clock: Arc<Clock>) -> (Rest, tokio::task::JoinHandle<String>) {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", provider.local_addr().unwrap());
    let answer = answer.to_owned();
    let asked = tokio::spawn(async move {
        let (mut socket, _) = provider.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        // A client that has read enough may have gone.
        let _ = socket.write_all(answer.as_bytes()).await;
        String::from_utf8(request).unwrap()
    });
    let (_, api_key) = watch::channel(SecretString::from(key));
    let tls = tls::client_config().unwrap();
    (Rest::new(&base, Duration::from_secs(5), api_key, &tls, clock).unwrap(), asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_token_in_both_forms() {
    for body in [
        include_str!("../fixtures/rest/ws-token.response.json"),
        include_str!("../fixtures/rest/ws-token.response.iso-variant.json"),
    ] {
        let (rest, asked) = rig("ck_test", &answer("200 OK", "", body)).await;
        let minted = soon(rest.mint_ws_token()).await.unwrap();
        assert!(minted.token.expose_secret().starts_with("eyJ"));
        assert_eq!(minted.ws_url.as_deref(), Some("wss://api-beta.pepay.io/ws/commerce/events"));
        assert!(!format!("{minted:?}").contains("eyJ"), "a token does not print");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /api/v1/ws/token HTTP/1.1\r\n"), "{asked}");
        assert_eq!(asked.matches("ck_test").count(), 1);
        assert!(asked.contains("x-commerce-api-key: ck_test\r\n"), "{asked}");
    }
}

#[tokio::test]
async fn the_status_and_the_clock() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let body = include_str!("../fixtures/rest/commerce-status.response.json");
    let clock = Arc::new(Clock::default());
    let (rest, _asked) = clocked("ck_test", &answer("200 OK", date, body), Arc::clone(&clock)).await;
    assert_eq!(clock.provider().known_ms(Moment::now()), None);
    let status = soon(rest.commerce_status()).await.unwrap().view;
    assert_eq!((status.status.as_str(), status.features["orders"]), ("available", true));
    assert_eq!(status.escrow_balance.unwrap().get(), "50");
    let years = (clock.provider_ms() - now_ms()) / 1000 / 86_400 / 365;
    assert!(years < -25, "{years}");
}

/// Every answer has the time, a refusal too; an answer out of a cache has its age too.
#[tokio::test]
async fn every_answer_gives_the_time() {
    for status in ["200 OK", "404 Not Found", "429 Too Many Requests", "500 Internal Server Error"] {
        for (headers, seconds) in [
            ("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 784_111_777),
            ("date: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 1800\r\n", 784_113_577),
        ] {
            let clock = Arc::new(Clock::default());
            let (rest, _asked) = clocked("ck_test", &answer(status, headers, "{}"), Arc::clone(&clock)).await;
            let _ = soon(rest.events(None, 1)).await;
            let known_ms = clock.provider().known_ms(Moment::now()).unwrap();
            assert!((0..30_000).contains(&(known_ms - seconds * 1000)), "{status} {headers}: {known_ms}");
        }
    }
}

#[tokio::test]
async fn a_page_of_events_as_it_came() {
    let body = include_str!("../fixtures/rest/events-list.newest.limit3.json");
    let (rest, asked) = rig("ck_test", &answer("200 OK", "", body)).await;
    assert_eq!(soon(rest.events(None, 3)).await.unwrap(), body);
    assert!(asked.await.unwrap().starts_with("GET /api/v1/events?limit=3 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn every_error_envelope_and_retry_after() {
    let cases = [
        (include_str!("../fixtures/errors/401.api-key-invalid.json"), Some("API_KEY_INVALID"), "Invalid API key"),
        (
            include_str!("../fixtures/errors/500.legacy-envelope.json"),
            Some("INTERNAL_SERVER_ERROR"),
            "Failed to load orders",
        ),
        (include_str!("../fixtures/errors/429.rate-limit.json"), Some("RATE_LIMIT_EXCEEDED"), "Too many requests"),
        ("<html>", None, "no error envelope in the 6 bytes of the answer"),
    ];
    for (body, code, message) in cases {
        let (rest, _asked) = rig("ck_test", &answer("429 Too Many Requests", "retry-after: 30\r\n", body)).await;
        let Err(RestError::Status { status: 429, error, retry_after, .. }) = soon(rest.events(None, 1)).await else {
            panic!("a status")
        };
        assert_eq!((error.code.as_deref(), error.message.as_str()), (code, message));
        assert_eq!(retry_after, Some(Duration::from_secs(30)));
    }
    let hint = include_str!("../fixtures/errors/429.rate-limit.json");
    let (rest, _asked) = rig("ck_test", &answer("429 Too Many Requests", "", hint)).await;
    let answer = soon(rest.events(None, 1)).await;
    assert!(
        matches!(answer, Err(RestError::Status { retry_after: Some(wait), .. }) if wait == Duration::from_mins(15))
    );
}

#[tokio::test]
async fn hostile_answers_are_errors() {
    let location = "location: http://127.0.0.1:1/\r\n";
    let (rest, _asked) = rig("ck_test", &answer("307 Temporary Redirect", location, "")).await;
    assert!(matches!(soon(rest.events(None, 1)).await, Err(RestError::Status { status: 307, .. })));

    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
    let (rest, _asked) = rig("ck_test", huge).await;
    assert!(matches!(soon(rest.events(None, 1)).await, Err(RestError::TooLarge(_))));

    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(BODY_BYTES_MAX + 1));
    let (rest, _asked) = rig("ck_test", &endless).await;
    assert!(matches!(soon(rest.events(None, 1)).await, Err(RestError::TooLarge(_))));

    let (rest, _asked) = rig("ck_test", &answer("200 OK", "", "[]")).await;
    assert!(matches!(soon(rest.mint_ws_token()).await, Err(RestError::Malformed(_))));

    let (rest, _asked) = rig("ck_test", "").await;
    assert!(matches!(soon(rest.events(None, 1)).await, Err(RestError::Unreachable(_))));

    let (rest, asked) = rig("ck\ntest", "").await;
    assert_eq!(soon(rest.events(None, 1)).await, Err(RestError::KeyNotAHeader));
    asked.abort();
}

#[tokio::test]
async fn a_keyed_write_whose_connection_broke_is_made_again_with_its_key() {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", provider.local_addr().unwrap());
    let (_, api_key) = watch::channel(SecretString::from("pk_test"));
    let tls = tls::client_config().unwrap();
    let rest = Rest::new(&base, Duration::from_secs(15), api_key, &tls, Arc::default()).unwrap().with_retries();
    let body = include_str!("../fixtures/rest/order-cancel.response.json");
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in [String::new(), answer("200 OK", "", body)] {
            let (mut socket, _) = provider.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
            asked.push(String::from_utf8(request).unwrap());
        }
        asked
    });
    let key = IdempotencyKey::random();
    let cancelled = soon(rest.cancel("a/b", None, &key)).await.unwrap();
    assert_eq!(cancelled.view.status.as_deref(), Some("placed"));
    let asked = asked.await.unwrap();
    assert_eq!(asked[0], asked[1], "one request, twice");
    assert!(asked[0].starts_with("POST /api/commerce/merchant/orders/a%2Fb/cancel HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains(&format!("idempotency-key: {key}\r\n")), "{}", asked[0]);
    assert!(asked[0].contains("x-api-key: pk_test\r\n") && !asked[0].contains("x-commerce-api-key"), "{}", asked[0]);
}

#[tokio::test]
async fn no_encoding_is_asked_for_and_one_that_comes_is_named() {
    let (rest, asked) = rig("ck_test", &answer("200 OK", "", "{}")).await;
    soon(rest.events(None, 1)).await.unwrap();
    assert!(asked.await.unwrap().contains("accept-encoding: identity\r\n"));

    let coded = "content-encoding: br\r\n";
    let (rest, _asked) = rig("ck_test", &answer("200 OK", coded, "{}")).await;
    assert_eq!(soon(rest.events(None, 1)).await, Err(RestError::Encoded("br".to_owned())));
    let (rest, _asked) = rig("ck_test", &answer("200 OK", "content-encoding: Identity\r\n", "{}")).await;
    assert_eq!(soon(rest.events(None, 1)).await.unwrap(), "{}");

    // Its magic alone, in one byte of UTF-8 and one beyond it.
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, api_key) = watch::channel(SecretString::from("ck_test"));
    let base = format!("http://{}", provider.local_addr().unwrap());
    let rest =
        Rest::new(&base, Duration::from_secs(5), api_key, &tls::client_config().unwrap(), Arc::default()).unwrap();
    let serving = async {
        let (mut socket, _) = provider.accept().await.unwrap();
        while !matches!(socket.read_u8().await, Ok(b'\n') | Err(_)) {}
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\0").await.unwrap();
        socket
    };
    let (answered, _socket) = tokio::join!(soon(rest.events(None, 1)), serving);
    assert_eq!(answered, Err(RestError::Encoded("gzip".to_owned())));
    let error = answered.unwrap_err();
    assert!(error.to_string().contains("encoded as gzip") && error.remedy().contains("proxy"), "{error}");

    let (rest, _asked) = rig("ck_test", &answer("503 x", "content-encoding: gzip\r\n", "xx")).await;
    let error = soon(rest.events(None, 1)).await.unwrap_err().to_string();
    assert_eq!(error, "the provider answered 503: its 2 bytes are gzip, which was not asked for");
}

#[tokio::test]
async fn a_retry_after_that_is_a_date_is_measured_by_the_answers_own_clock_and_the_clock_is_learned() {
    // A year in which our clock is not.
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sunday, 06-Nov-94 08:49:40 GMT\r\n";
    let clock = Arc::new(Clock::default());
    let (rest, _asked) = clocked("ck_test", &answer("429 x", headers, ""), Arc::clone(&clock)).await;
    let Err(RestError::Status { retry_after, .. }) = soon(rest.events(None, 1)).await else { panic!("a status") };
    assert_eq!(retry_after, Some(Duration::from_secs(3)));
    assert!(clock.provider_ms() < now_ms() - 365 * 86_400_000, "an error tells the time as well");
}

/// A provider that answers the first request of a connection and closes it at the second; how many connections it had.
async fn closing_at_the_second(rest: impl AsyncFnOnce(Rest)) -> usize {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, api_key) = watch::channel(SecretString::from("ck_test"));
    let base = format!("http://{}", provider.local_addr().unwrap());
    let made =
        Rest::new(&base, Duration::from_secs(5), api_key, &tls::client_config().unwrap(), Arc::default()).unwrap();
    let connections = std::cell::Cell::new(0);
    let serving = async {
        loop {
            let (mut socket, _) = provider.accept().await.unwrap();
            connections.set(connections.get() + 1);
            for answered in [true, false] {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                if answered {
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                }
            }
        }
    };
    tokio::select! {
        () = soon(rest(made)) => {}
        () = serving => {}
    }
    connections.get()
}

#[tokio::test]
async fn a_read_is_made_again_at_once_when_the_connection_that_it_reused_had_ended() {
    let connections = closing_at_the_second(async |rest| {
        for _ in 0..3 {
            assert_eq!(rest.events(None, 1).await.unwrap(), "{}");
        }
    })
    .await;
    assert_eq!(connections, 3);
}

#[tokio::test]
async fn a_write_is_not_and_neither_is_a_read_on_a_fresh_connection() {
    let connections = closing_at_the_second(async |rest| {
        assert_eq!(rest.events(None, 1).await.unwrap(), "{}");
        assert!(matches!(rest.mint_ws_token().await, Err(RestError::Unreachable(_))));
    })
    .await;
    assert_eq!(connections, 1);
    // This provider has one connection to give, and closes it.
    let (rest, _asked) = rig("ck_test", "").await;
    assert!(matches!(soon(rest.events(None, 1)).await, Err(RestError::Unreachable(_))));
}

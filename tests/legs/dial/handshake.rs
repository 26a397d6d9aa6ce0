use super::*;

/// What the leg makes of one answer to its upgrade; `{accept}` in it is replaced by the right key.
async fn answered(answer: &str) -> Result<(), String> {
    heard(answer, Arc::default()).await
}

async fn heard(answer: &str, clock: Arc<Clock>) -> Result<(), String> {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = dialer(&format!("ws://{}", provider.local_addr().unwrap()), straight(), clock);
    let serving = async {
        let (mut socket, _) = provider.accept().await.unwrap();
        let head = head(&mut socket).await;
        let answer = answer.replace("{accept}", &accept_of(&head));
        // The head and its body apart, as two packets.
        let (first, rest) = answer.split_at(answer.find("\r\n\r\n").map_or(answer.len(), |end| end + 4));
        socket.write_all(first.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        socket.write_all(rest.as_bytes()).await.unwrap();
        if !answer.is_empty() {
            let _ = soon(socket.read_to_end(&mut Vec::new())).await;
        }
    };
    let (result, ()) = tokio::join!(soon(dialer.probe()), serving);
    result
}

const OPENS: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n";

#[tokio::test]
async fn headers_of_the_upgrade_are_lists_of_tokens_in_any_case() {
    for headers in [
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade,Keep-Alive\r\n",
        "upgrade: WEBSOCKET\r\nconnection: keep-alive\r\nconnection: UPGRADE\r\n",
    ] {
        assert_eq!(answered(&format!("{OPENS}{headers}\r\n")).await, Ok(()), "{headers}");
    }
}

#[tokio::test]
async fn interim_answers_before_the_upgrade_are_passed_over() {
    let opens = format!("{OPENS}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    for interim in [
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
    ] {
        assert_eq!(answered(&format!("{interim}{opens}")).await, Ok(()), "{interim}");
    }
}

#[tokio::test]
async fn an_answer_that_opens_something_else_is_refused_with_its_reason() {
    let good = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for (answer, why) in [
        (format!("{OPENS}Connection: Upgrade\r\n\r\n"), "has no `Upgrade: websocket`"),
        (format!("{OPENS}Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), "has no `Upgrade: websocket`"),
        (format!("{OPENS}Upgrade: websocket\r\n\r\n"), "has no `Connection: upgrade`"),
        (format!("{OPENS}Upgrade: websocket\r\nConnection: not-upgrade\r\n\r\n"), "has no `Connection: upgrade`"),
        (format!("HTTP/1.1 101 x\r\n{good}\r\n"), "has another Sec-WebSocket-Accept"),
        (format!("HTTP/1.1 101 x\r\n{good}Sec-WebSocket-Accept: AAAA\r\n\r\n"), "has another Sec-WebSocket-Accept"),
        (format!("{OPENS}{good}Sec-WebSocket-Accept: {{accept}}\r\n\r\n"), "has another Sec-WebSocket-Accept"),
        (format!("{OPENS}{good}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "names an extension"),
        (format!("{OPENS}{good}Sec-WebSocket-Protocol: chat\r\n\r\n"), "names a subprotocol"),
        ("SSH-2.0-OpenSSH_9\r\n\r\n".to_owned(), "no answer to the upgrade: "),
        (String::new(), "no answer to the upgrade: "),
    ] {
        let error = answered(&answer).await.unwrap_err();
        assert!(error.contains(why), "{answer}\n{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_read_whole_and_named() {
    let body = include_str!("../../fixtures/errors/401.api-key-invalid.json");
    let (one, other) = body.split_at(20);
    let chunked = format!("{:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n", one.len(), other.len());
    let error = answered(&format!("HTTP/1.1 401 x\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")).await.unwrap_err();
    assert_eq!(error, "HTTP 401: API_KEY_INVALID: Invalid API key");
    let error =
        answered("HTTP/1.1 503 x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nxxxx").await.unwrap_err();
    assert_eq!(error, "HTTP 503: its 4 bytes are gzip, which was not asked for");
    let error = answered("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap_err();
    assert!(error.starts_with("HTTP 200: "), "{error}");
}

#[tokio::test]
async fn the_providers_time_is_learned_from_an_upgrade_and_from_a_refusal() {
    const YEAR_MS: i64 = 365 * 86_400 * 1000;
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let opens = format!("{OPENS}{date}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    for answer in [opens, format!("HTTP/1.1 503 x\r\n{date}Content-Length: 0\r\n\r\n")] {
        let clock = Arc::new(Clock::default());
        let _ = heard(&answer, Arc::clone(&clock)).await;
        let ahead_ms = clock.provider_ms() - now_ms();
        assert!(ahead_ms < -25 * YEAR_MS, "{answer}: {ahead_ms}");
    }
}

//! How the leg connects: key, tokens and cursor, and when it tries again.

use super::*;

#[tokio::test]
async fn the_key_goes_in_one_header_and_the_cursor_in_the_query_of_the_next_connection() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    assert_eq!(peer.request.headers()["x-commerce-api-key"], "ck_test");
    assert_eq!(peer.request.uri().path(), "/ws/commerce/events");
    assert_eq!(peer.query(), "types=commerce.order.*%2Cinvoice.*&format=event_v1");
    rig.up().await;
    peer.send(EVENT).await;
    let delivery = next(&mut rig.receiver).await;
    assert_eq!((delivery.leg, delivery.bytes.as_ref()), (Leg::Websocket, EVENT.as_bytes()));
    settle(&rig.metrics, delivery, Outcome::Published);
    let cursor: EventId = "evt_1768472100655-0".parse().unwrap();
    rig.position.send(Position { since: Some(cursor), ..Position::default() }).unwrap();
    peer.stream.close(Some(CloseFrame { code: CloseCode::Restart, reason: "bye\n".into() })).await.unwrap();
    let again = rig.accept().await;
    assert!(again.query().ends_with("&since=evt_1768472100655-0"), "{}", again.query());
    assert_eq!(rig.down().await, Cause::ServerError);
    rig.up().await;
    assert_eq!(rig.metrics.reconnects(Cause::ServerError), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_token_is_minted_for_each_connection_and_replaces_the_key() {
    let mut rig = Rig::start(config::Websocket { auth: WebsocketAuth::Token, ..settings() }).await;
    for token in ["first", "second"] {
        let elsewhere = format!(r#"{{"success":true,"data":{{"token":"{token}","ws_url":"wss://evil.example/ws"}}}}"#);
        let asked = rig.answer("200 OK", "content-type: application/json\r\n", &elsewhere).await;
        assert!(asked.starts_with("POST /api/v1/ws/token HTTP/1.1\r\n"), "{asked}");
        assert_eq!(asked.matches("ck_test").count(), 1);
        let mut peer = rig.accept().await;
        assert!(peer.query().ends_with(&format!("&token={token}")), "{}", peer.query());
        assert!(!peer.request.headers().contains_key("x-commerce-api-key"));
        rig.up().await;
        peer.stream.close(None).await.unwrap();
        assert_eq!(rig.down().await, Cause::Closed);
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refused_key_is_tried_again_on_a_nudge() {
    let mut rig = Rig::start(settings()).await;
    rig.answer("401 Unauthorized", "", include_str!("../../fixtures/errors/401.api-key-invalid.json")).await;
    rig.until(LegState::Refused).await;
    rig.assert_nothing_arrived();
    rig.key.send(SecretString::from("ck_new")).unwrap();
    let peer = rig.accept().await;
    assert_eq!(peer.request.headers()["x-commerce-api-key"], "ck_new");
    rig.until(LegState::Connected).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_cursor_that_may_be_the_mistake_is_left_out_once() {
    let rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    rig.position.send_modify(|position| position.since = Some("evt_1768472100655-0".parse().unwrap()));
    peer.stream.close(None).await.unwrap();
    let asked = rig.answer("400 Bad Request", "", include_str!("../../fixtures/errors/400.validation.json")).await;
    assert!(asked.contains("&since=evt_1768472100655-0"), "{asked}");
    // At once: the wait after a refusal would be 5 minutes.
    let mut without = rig.accept().await;
    assert!(!without.query().contains("since"), "{}", without.query());
    without.stream.close(None).await.unwrap();
    assert!(rig.accept().await.query().contains("&since="));
    rig.finish().await;
}

#[tokio::test]
async fn retry_after_wins_over_the_backoff() {
    let rig = Rig::start(settings()).await;
    let asked = std::time::Instant::now();
    rig.answer("429 Too Many Requests", "retry-after: 1\r\n", "{}").await;
    let _peer = rig.accept().await;
    assert_eq!(rig.metrics.reconnects(Cause::RateLimited), 1);
    // The backoff of these settings is at most 5 ms.
    assert!(asked.elapsed() >= Duration::from_secs(1));
    rig.finish().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let rig = Rig::start(settings()).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    rig.answer("302 Found", &location, "").await;
    // The next attempt comes back here, and nothing went there.
    let _peer = rig.accept().await;
    assert_eq!(rig.metrics.reconnects(Cause::ConnectFailed), 1);
    assert!(tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await.is_err());
    rig.finish().await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_closes_is_announced_each_time_and_backed_off_further() {
    let mut rig = Rig::start(settings()).await;
    for _ in 0..5 {
        let mut peer = rig.accept().await;
        rig.up().await;
        peer.stream.close(None).await.unwrap();
        assert_eq!(rig.down().await, Cause::Closed);
    }
    let _peer = rig.accept().await;
    assert_eq!(rig.metrics.reconnects(Cause::Closed), 5);
    rig.finish().await;
}

#[tokio::test]
async fn an_outage_is_announced_once() {
    let mut rig = Rig::start(settings()).await;
    drop(rig.accept().await);
    for _ in 0..4 {
        rig.answer("503 Service Unavailable", "", "").await;
    }
    let _peer = rig.accept().await;
    rig.up().await;
    assert_eq!(rig.down().await, Cause::Reset);
    rig.up().await;
    assert_eq!(rig.metrics.reconnects(Cause::ServerError), 4);
    rig.finish().await;
}

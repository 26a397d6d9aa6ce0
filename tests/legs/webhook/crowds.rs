//! Places and bytes of the listener, when more peers want them than there are.

use super::*;
use pepay_relay::listener::Refusal;
use std::time::Instant;

/// What no connection loses its place before.
const UNCUT: Duration = Duration::from_millis(250);

fn cut(metrics: &Metrics) -> u64 {
    counted(metrics, "connections_cut_total{listener=\"webhook\"}")
}

/// Reads to the end of the connection; what came.
async fn to_the_end(socket: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = soon(socket.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn a_peer_that_waits_gets_the_place_of_one_that_is_slow_or_idle_and_never_of_one_being_answered() {
    let mut rig = Rig::start(config::Webhook { connections_max: 3, ..settings() }).await;
    let answered = rig.send(signed(BODY));
    let delivery = next(&mut rig.receiver).await;
    let mut slow = rig.connect().await;
    slow.write_all(&[&head("content-length: 10")[..], b"a"].concat()).await.unwrap();
    let mut idle = rig.connect().await;
    idle.write_all(&request("POST", "/", &[], b"")).await.unwrap();
    assert_eq!(read_answer(&mut idle).await.status, 404);

    let mut kept = Vec::new();
    for cut in [&mut slow, &mut idle] {
        let mut new = rig.connect().await;
        new.write_all(&signed_at(now_ms(), "wrong", BODY)).await.unwrap();
        assert_eq!(to_the_end(cut).await, b"", "cut");
        assert_eq!(read_answer(&mut new).await.status, 400);
        kept.push(new);
    }
    assert!(!answered.is_finished());
    assert_eq!(cut(&rig.metrics), 2);
    settle(&rig.metrics, delivery, Outcome::Published);
    check(&soon(answered).await.unwrap(), 200, r#"{"ok":true}"#);
    rig.finish().await;
}

#[tokio::test]
async fn a_request_under_way_keeps_its_place_for_a_while_however_long_its_connection_was_idle_before() {
    let mut rig = Rig::start(config::Webhook { connections_max: 2, ..settings() }).await;
    let mut first = rig.connect().await;
    first.write_all(&request("POST", "/", &[], b"")).await.unwrap();
    assert_eq!(read_answer(&mut first).await.status, 404);
    let answered = rig.send(signed(BODY));
    let delivery = next(&mut rig.receiver).await;
    let idle_since = Instant::now();
    while idle_since.elapsed() < UNCUT {
        tokio::task::yield_now().await;
    }
    first.write_all(&[&head("content-length: 10")[..], b"a"].concat()).await.unwrap();
    let began = Instant::now();
    // By the time that a question on another connection is answered, the head has been seen.
    let _new = rig.connect().await;
    assert_eq!(to_the_end(&mut first).await, b"");
    assert!(began.elapsed() >= UNCUT.mul_f64(0.8), "after {:?}", began.elapsed());
    settle(&rig.metrics, delivery, Outcome::Published);
    check(&soon(answered).await.unwrap(), 200, r#"{"ok":true}"#);
    rig.finish().await;
}

#[tokio::test]
async fn a_connection_that_brought_a_webhook_outlives_strangers() {
    let mut rig = Rig::start(config::Webhook { connections_max: 3, ..settings() }).await;
    let mut good = rig.connect().await;
    good.write_all(&signed(b"1")).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut good).await, 200, r#"{"ok":true}"#);
    let mut strangers = Vec::new();
    for _ in 0..6 {
        let mut stranger = rig.connect().await;
        stranger.write_all(b"POST /webhooks/pepay HTTP/1.1\r\nhost").await.unwrap();
        strangers.push(stranger);
    }
    for stranger in &mut strangers[..4] {
        assert_eq!(to_the_end(stranger).await, b"", "the oldest go");
    }
    good.write_all(&signed(b"2")).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut good).await, 200, r#"{"ok":true}"#);
    rig.finish().await;
}

#[tokio::test]
async fn bodies_of_strangers_cost_a_genuine_webhook_nothing() {
    const BODY_MAX: usize = 64 << 10;
    let bounds = config::Webhook { unverified_bytes_max: 16 * BODY_MAX, ..settings() };
    let mut rig = Rig::start(config::Webhook { body_bytes_max: BODY_MAX, ..bounds }).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stranger = rig.connect().await;
        let body = vec![b'x'; BODY_MAX - 1];
        stranger.write_all(&[head(&format!("content-length: {BODY_MAX}")), body].concat()).await.unwrap();
        held.push(stranger);
    }
    // Their last bytes are on their way or held: another one like them would not fit.
    for _ in 0..8 {
        let answer = rig.send(signed(&vec![b'y'; BODY_MAX]));
        rig.settle_next(Outcome::DeadLettered).await;
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    assert_eq!(rig.answers(503), 0);
    assert!(cut(&rig.metrics) > 0, "the oldest bodies went");
    assert_eq!(to_the_end(&mut held[0]).await, b"");
    drop(held);
    rig.finish().await;
}

#[tokio::test]
async fn an_address_over_its_limit_is_closed() {
    let rig = Rig::start(config::Webhook { connections_per_address_max: 1, ..settings() }).await;
    let mut first = rig.connect().await;
    first.write_all(&request("POST", "/", &[], b"")).await.unwrap();
    assert_eq!(read_answer(&mut first).await.status, 404);
    let mut second = rig.connect().await;
    assert_eq!(soon(second.read(&mut [0; 16])).await.unwrap_or(0), 0);
    first.write_all(&request("POST", "/", &[], b"")).await.unwrap();
    assert_eq!(read_answer(&mut first).await.status, 404);
    assert_eq!(refused(&rig.metrics, Refusal::TooMany), 1);
    rig.finish().await;
}

/// The head and the body of a question about the relay's health.
async fn health(rig: &Rig, method: &str) -> Answer {
    rig.ask(request(method, "/healthz", &[], b"")).await
}

#[tokio::test]
async fn the_health_path_answers_whether_webhooks_are_taken() {
    let rig = Rig::start(settings()).await;
    let answer = health(&rig, "GET").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ready":true}"#));
    let mut socket = rig.connect().await;
    socket.write_all(b"HEAD /healthz HTTP/1.0\r\nconnection: close\r\n\r\n").await.unwrap();
    let text = String::from_utf8(to_the_end(&mut socket).await).unwrap();
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    for (phase, words) in [(Phase::Starting, r#""kafka","window""#), (Phase::KafkaUnavailable, r#""kafka""#)] {
        rig.health.set_phase(phase);
        let answer = health(&rig, "GET").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.body, format!(r#"{{"ready":false,"waiting_for":[{words}]}}"#));
    }
    let answer = health(&rig, "POST").await;
    assert!(answer.status == 405 && answer.head.contains("allow: GET, HEAD"), "{answer:?}");
    assert_eq!(rig.answers(200) + rig.answers(503), 0, "those are no answers to webhooks");
    rig.finish().await;

    let rig = Rig::start(config::Webhook { health_path: String::new(), ..settings() }).await;
    assert_eq!(health(&rig, "GET").await.status, 404);
    rig.finish().await;
}

#[tokio::test]
async fn health_is_answered_while_every_place_is_taken() {
    let mut rig = Rig::start(config::Webhook { connections_max: 1, ..settings() }).await;
    let answered = rig.send(signed(BODY));
    let delivery = next(&mut rig.receiver).await;
    // The line is full of those that send nothing, and of webhooks that wait.
    let _silent = [rig.connect().await, rig.connect().await, rig.connect().await];
    let waiting: Vec<_> = (0..8).map(|_| rig.send(signed_close(BODY))).collect();
    for _ in 0..50 {
        let answer = health(&rig, "GET").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ready":true}"#));
        assert!(answer.head.contains("connection: close"), "it has no place to keep: {answer:?}");
    }
    assert!(!answered.is_finished() && waiting.iter().all(|answer| !answer.is_finished()));
    settle(&rig.metrics, delivery, Outcome::Published);
    check(&soon(answered).await.unwrap(), 200, r#"{"ok":true}"#);
    for _ in 0..8 {
        rig.settle_next(Outcome::Published).await;
    }
    for answer in waiting {
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    rig.finish().await;
}

#[tokio::test]
async fn idle_connections_and_heads_have_times_of_their_own() {
    let head = Duration::from_millis(100);
    let idle = Duration::from_millis(600);
    let rig = Rig::start(config::Webhook { body_timeout: head, idle_timeout: idle, ..settings() }).await;
    let mut peer = rig.connect().await;
    peer.write_all(&request("POST", "/", &[], b"")).await.unwrap();
    assert_eq!(read_answer(&mut peer).await.status, 404);
    let began = Instant::now();
    assert_eq!(to_the_end(&mut peer).await, b"");
    assert!(began.elapsed() >= idle.mul_f64(0.9), "idle for {:?}", began.elapsed());
    // The time of a head begins with its first byte, also where the connection has been quiet before.
    let mut peer = rig.connect().await;
    peer.write_all(&request("POST", "/", &[], b"")).await.unwrap();
    assert_eq!(read_answer(&mut peer).await.status, 404);
    let began = Instant::now();
    peer.write_all(b"POST /").await.unwrap();
    assert_eq!(to_the_end(&mut peer).await, b"");
    assert!(began.elapsed() < idle, "cut after {:?}", began.elapsed());
    rig.finish().await;
}

#[tokio::test]
async fn what_a_peer_sends_first_is_taken_while_the_listener_drains() {
    let mut rig = Rig::start(settings()).await;
    let mut early = rig.connect().await;
    // Connections are accepted in their order.
    assert_eq!(health(&rig, "GET").await.status, 200);
    rig.health.set_phase(Phase::Stopping);
    rig.stop.cancel();
    early.write_all(&[signed(b"1"), signed(b"2")].concat()).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut early).await, 200, r#"{"ok":true}"#);
    assert_eq!(to_the_end(&mut early).await, b"", "and nothing more");
    rig.finish().await;
}

mod accounts;
mod crowds;
mod stopping;
mod tls;
mod wires;

use super::{assert_books_balance, defaults, next, settle, soon};
use pepay_relay::clock::now_ms;
use pepay_relay::config;
use pepay_relay::labels::{Account, Leg, Outcome};
use pepay_relay::legs::webhook::{BindError, Certificates, Endpoint, Endpoints, Webhook};
use pepay_relay::legs::{Intake, IntakeReceiver};
use pepay_relay::listener::Refusal;
use pepay_relay::provider::signature::{SIGNATURE, SIGNATURE_PREVIOUS, TIMESTAMP, sign};
use pepay_relay::telemetry::{Health, Metrics, Phase};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const BODY: &[u8] = include_bytes!("../fixtures/webhook/body.commerce.order.updated.raw");
const SECRET: &str = "new-secret";

struct Rig {
    address: SocketAddr,
    intake: Intake,
    receiver: IntakeReceiver,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    endpoints: watch::Sender<Arc<Endpoints>>,
    certificates: Certificates,
    stop: CancellationToken,
    leg: JoinHandle<()>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn settings() -> config::Webhook {
    config::Webhook {
        listen: "127.0.0.1:0".parse().unwrap(),
        body_bytes_max: 64 << 10,
        connections_max: 64,
        unverified_bytes_max: 1 << 20,
        header_bytes_max: 4096,
        ..defaults().webhook
    }
}

/// The accounts of these names and secrets, in their places.
fn endpoints(settings: &config::Webhook, intake: &Intake, accounts: &[(&str, &[&str])]) -> Arc<Endpoints> {
    let endpoint = |(place, (name, secrets)): (usize, &(&str, &[&str]))| Endpoint {
        intake: intake.of(Account::at(place), name),
        secrets: secrets.iter().map(|secret| SecretString::from(*secret)).collect(),
    };
    Arc::new(Endpoints::new(settings, accounts.iter().enumerate().map(endpoint)))
}

/// A leg and the other ends of what it works with.
struct Parts {
    webhook: Webhook,
    intake: Intake,
    receiver: IntakeReceiver,
    endpoints: watch::Sender<Arc<Endpoints>>,
}

fn parts(settings: config::Webhook, intake_bytes_max: usize) -> Parts {
    let (intake, receiver) = Intake::new(intake_bytes_max);
    let (sender, endpoints) = watch::channel(endpoints(&settings, &intake, &[("", &[SECRET, "old-secret"])]));
    let health = Arc::<Health>::default();
    let metrics = Arc::new(Metrics::new("test"));
    health.set_phase(Phase::Ready);
    let stop = CancellationToken::new();
    let webhook = Webhook { settings, endpoints, clock: Arc::default(), health, metrics, stop };
    Parts { webhook, intake, receiver, endpoints: sender }
}

impl Rig {
    async fn start(settings: config::Webhook) -> Self {
        Self::with_intake(settings, 4 << 20).await
    }

    async fn with_intake(settings: config::Webhook, intake_bytes_max: usize) -> Self {
        let Parts { webhook, intake, receiver, endpoints } = parts(settings, intake_bytes_max);
        let health = Arc::clone(&webhook.health);
        let metrics = Arc::clone(&webhook.metrics);
        let stop = webhook.stop.clone();
        let listening = webhook.bind(None).await.unwrap();
        let address = listening.local_addr();
        let certificates = listening.certificates();
        let leg = tokio::spawn(listening.serve());
        Self { address, intake, receiver, health, metrics, endpoints, certificates, stop, leg }
    }

    async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.address)).await.unwrap()
    }

    /// Sends `request` on a connection of its own; the answer comes by the handle.
    fn send(&self, request: Vec<u8>) -> JoinHandle<Answer> {
        let address = self.address;
        tokio::spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(&request).await.unwrap();
            read_answer(&mut socket).await
        })
    }

    async fn ask(&self, request: Vec<u8>) -> Answer {
        soon(self.send(request)).await.unwrap()
    }

    async fn settle_next(&mut self, outcome: Outcome) {
        let delivery = next(&mut self.receiver).await;
        settle(&self.metrics, delivery, outcome);
    }

    async fn finish(self) {
        self.stop.cancel();
        soon(self.leg).await.unwrap();
        assert_books_balance(&self.metrics);
    }

    fn answers(&self, code: u16) -> u64 {
        counted(&self.metrics, &format!("webhook_responses_total{{code=\"{code}\"}}"))
    }
}

/// The value of one series.
fn counted(metrics: &Metrics, series: &str) -> u64 {
    let name = format!("pepay_relay_{series} ");
    let text = metrics.text().unwrap();
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// How many connections were refused for a reason.
fn refused(metrics: &Metrics, refusal: Refusal) -> u64 {
    let reason = refusal.as_str();
    counted(metrics, &format!("connections_refused_total{{listener=\"webhook\",reason=\"{reason}\"}}"))
}

async fn read_answer(socket: &mut (impl AsyncReadExt + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Answer { status, head: head.to_owned(), body: body.to_owned() };
            }
        }
        assert_ne!(soon(socket.read_buf(&mut bytes)).await.unwrap(), 0, "closed after {text:?}");
    }
}

fn signed_at(at_ms: i64, secret: &str, body: &[u8]) -> Vec<u8> {
    let timestamp = at_ms.to_string();
    let signature = sign(secret.as_bytes(), &timestamp, body);
    request("POST", "/webhooks/pepay", &[(TIMESTAMP, &timestamp), (SIGNATURE, &signature)], body)
}

fn signed(body: &[u8]) -> Vec<u8> {
    signed_at(now_ms(), SECRET, body)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    [request.as_bytes(), body].concat()
}

/// The head of a request whose signature could be one, with these lines in it.
fn head(lines: &str) -> Vec<u8> {
    let signature = "0".repeat(64);
    format!("POST /webhooks/pepay HTTP/1.1\r\nhost: r\r\n{TIMESTAMP}: 1\r\n{SIGNATURE}: {signature}\r\n{lines}\r\n\r\n")
        .into_bytes()
}

#[track_caller]
fn check(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body), "{answer:?}");
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    assert_eq!(answer.head.contains("retry-after: "), status == 503, "{answer:?}");
}

#[tokio::test]
async fn each_outcome_has_its_answer() {
    let mut rig = Rig::start(settings()).await;
    let cases = [
        (Outcome::Published, 200, r#"{"ok":true}"#),
        (Outcome::Ignored, 200, r#"{"ok":true}"#),
        (Outcome::DeadLettered, 200, r#"{"ok":true}"#),
        (Outcome::Duplicate, 200, r#"{"ok":true,"duplicate":true}"#),
        (Outcome::Failed, 503, r#"{"error":"stopping"}"#),
    ];
    for (outcome, status, body) in cases {
        let answer = rig.send(signed(BODY));
        let delivery = next(&mut rig.receiver).await;
        assert_eq!((delivery.leg, delivery.bytes.as_ref()), (Leg::Webhook, BODY));
        assert!(!answer.is_finished(), "no answer before the outcome");
        settle(&rig.metrics, delivery, outcome);
        check(&soon(answer).await.unwrap(), status, body);
    }
    assert_eq!((rig.answers(200), rig.answers(503)), (4, 1));
    rig.finish().await;
}

#[tokio::test]
async fn a_relay_that_goes_without_a_word_is_stopping() {
    let mut rig = Rig::start(settings()).await;
    let answer = rig.send(signed(BODY));
    let mut delivery = next(&mut rig.receiver).await;
    drop(delivery.reply.take());
    check(&soon(answer).await.unwrap(), 503, r#"{"error":"stopping"}"#);
    settle(&rig.metrics, delivery, Outcome::Failed);
    rig.finish().await;
}

#[tokio::test]
async fn signature_first_then_time() {
    let rig = Rig::start(settings()).await;
    let late = now_ms() - 6 * 60_000;
    let invalid = r#"{"error":"invalid_signature"}"#;
    check(&rig.ask(signed_at(now_ms(), "wrong", BODY)).await, 400, invalid);
    check(&rig.ask(signed_at(late, "wrong", BODY)).await, 400, invalid);
    check(&rig.ask(request("POST", "/webhooks/pepay", &[], BODY)).await, 400, invalid);
    let mut other_body = signed(BODY);
    *other_body.last_mut().unwrap() ^= 1;
    check(&rig.ask(other_body).await, 400, invalid);
    check(&rig.ask(signed_at(late, SECRET, BODY)).await, 400, r#"{"error":"timestamp_out_of_range"}"#);
    assert_eq!(rig.metrics.outcomes(Leg::Webhook, Outcome::Rejected), 5);
    assert_eq!(rig.answers(400), 5);
    rig.finish().await;
}

#[tokio::test]
async fn either_header_with_any_secret_and_a_reload() {
    let mut rig = Rig::start(settings()).await;
    let timestamp = now_ms().to_string();
    let old = sign(b"old-secret", &timestamp, BODY);
    for headers in [
        vec![(TIMESTAMP, timestamp.as_str()), (SIGNATURE, &old)],
        vec![(TIMESTAMP, &timestamp), (SIGNATURE_PREVIOUS, &old)],
        vec![(TIMESTAMP, &timestamp), (SIGNATURE, "00"), (SIGNATURE_PREVIOUS, &old)],
    ] {
        let answer = rig.send(request("POST", "/webhooks/pepay", &headers, BODY));
        rig.settle_next(Outcome::Published).await;
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    rig.endpoints.send(endpoints(&settings(), &rig.intake, &[("", &["third"])])).unwrap();
    check(&rig.ask(signed(BODY)).await, 400, r#"{"error":"invalid_signature"}"#);
    rig.finish().await;
}

#[tokio::test]
async fn signed_garbage_is_handed_to_the_relay() {
    let mut rig = Rig::start(settings()).await;
    for garbage in [&b""[..], b"\xff\xfe", b"not json"] {
        let answer = rig.send(signed(garbage));
        rig.settle_next(Outcome::DeadLettered).await;
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    rig.finish().await;
}

#[tokio::test]
async fn other_paths_and_methods() {
    let rig = Rig::start(settings()).await;
    check(&rig.ask(request("POST", "/", &[], b"")).await, 404, r#"{"error":"not_found"}"#);
    check(&rig.ask(request("POST", "/webhooks/pepay/", &[], b"")).await, 404, r#"{"error":"not_found"}"#);
    for method in ["GET", "PUT", "DELETE"] {
        let answer = rig.ask(request(method, "/webhooks/pepay", &[], b"")).await;
        check(&answer, 405, r#"{"error":"method_not_allowed"}"#);
        assert!(answer.head.contains("allow: POST"), "{answer:?}");
    }
    assert_eq!((rig.answers(404), rig.answers(405)), (2, 3));
    rig.finish().await;
}

#[tokio::test]
async fn too_large_is_answered_early_and_while_streaming() {
    let rig = Rig::start(settings()).await;
    let too_large = r#"{"error":"body_too_large"}"#;
    // Announced: answered although not a byte of it was sent.
    let mut socket = rig.connect().await;
    socket.write_all(&head("content-length: 65537")).await.unwrap();
    check(&read_answer(&mut socket).await, 413, too_large);
    // Who goes on sending is not reset, so that an answer on its way is not taken back.
    for _ in 0..16 {
        socket.write_all(&[b'x'; 0x1_0000]).await.unwrap();
    }
    check(&rig.ask(signed(&vec![b'x'; 1 << 20])).await, 413, too_large);
    // Not announced.
    let mut socket = rig.connect().await;
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    socket.write_all(&[head("transfer-encoding: chunked"), chunk.repeat(3).into_bytes()].concat()).await.unwrap();
    check(&read_answer(&mut socket).await, 413, too_large);
    rig.finish().await;
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken() {
    let mut rig = Rig::start(settings()).await;
    let answer = rig.send(signed(&vec![b'x'; 64 << 10]));
    rig.settle_next(Outcome::DeadLettered).await;
    check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    rig.finish().await;
}

#[tokio::test]
async fn headers_too_large() {
    let rig = Rig::start(settings()).await;
    let with = |bytes| request("POST", "/webhooks/pepay", &[("x-long", &"x".repeat(bytes))], b"");
    check(&rig.ask(with(5000)).await, 431, r#"{"error":"headers_too_large"}"#);
    // Far beyond: hyper answers by itself, without a body.
    assert_eq!(rig.ask(with(1 << 20)).await.status, 431);
    rig.stop.cancel();
    let Rig { leg, metrics, .. } = rig;
    soon(leg).await.unwrap();
    assert!(metrics.text().unwrap().contains("webhook_responses_total{code=\"431\"} 2"));
    assert_books_balance(&metrics);
}

#[tokio::test]
async fn a_slow_body_is_answered_and_slow_headers_are_cut() {
    let rig = Rig::start(config::Webhook { body_timeout: Duration::from_millis(100), ..settings() }).await;
    let mut slow_body = rig.connect().await;
    slow_body.write_all(&[&head("content-length: 10")[..], b"abc"].concat()).await.unwrap();
    let answer = read_answer(&mut slow_body).await;
    check(&answer, 408, r#"{"error":"body_timeout"}"#);
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    assert_eq!(soon(slow_body.read(&mut [0; 16])).await.unwrap(), 0, "then it closes");
    let mut slow_head = rig.connect().await;
    slow_head.write_all(b"POST /webhooks/pepay HTTP/1.1\r\nhost").await.unwrap();
    let mut rest = Vec::new();
    soon(slow_head.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    // One that sends nothing has no head to wait for.
    let mut silent = rig.connect().await;
    soon(silent.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(refused(&rig.metrics, Refusal::HeadTooSlow), 1);
    rig.finish().await;
}

#[tokio::test]
async fn each_phase_has_its_503() {
    let mut rig = Rig::start(settings()).await;
    for (phase, error) in
        [(Phase::Starting, "starting"), (Phase::KafkaUnavailable, "kafka_unavailable"), (Phase::Stopping, "stopping")]
    {
        rig.health.set_phase(phase);
        if phase == Phase::Stopping {
            // While it drains it takes what was read; it is too late once nobody reads the intake any more.
            rig.receiver.close();
        }
        check(&rig.ask(signed(BODY)).await, 503, &format!(r#"{{"error":"{error}"}}"#));
    }
    assert_eq!(rig.metrics.deliveries(Leg::Webhook), 0);
    rig.finish().await;
}

#[tokio::test]
async fn a_full_intake_and_an_exhausted_budget_are_overload() {
    let overloaded = r#"{"error":"overloaded"}"#;
    let mut rig = Rig::with_intake(settings(), 4096).await;
    let first = rig.send(signed(&[b'x'; 2500]));
    let delivery = next(&mut rig.receiver).await;
    check(&rig.ask(signed(&[b'x'; 2500])).await, 503, overloaded);
    settle(&rig.metrics, delivery, Outcome::Published);
    check(&soon(first).await.unwrap(), 200, r#"{"ok":true}"#);
    rig.finish().await;

    let rig = Rig::start(config::Webhook { unverified_bytes_max: 1000, ..settings() }).await;
    check(&rig.ask(signed(&[b'x'; 1001])).await, 503, overloaded);
    // What was taken was given back.
    check(&rig.ask(signed_at(now_ms(), "wrong", &[b'x'; 1000])).await, 400, r#"{"error":"invalid_signature"}"#);
    check(&rig.ask(signed_at(now_ms(), "wrong", &[b'x'; 1000])).await, 400, r#"{"error":"invalid_signature"}"#);
    rig.finish().await;
}

#[tokio::test]
async fn no_commit_in_time_is_an_answer_and_no_outcome() {
    let mut rig = Rig::start(config::Webhook { answer_within: Duration::from_millis(50), ..settings() }).await;
    check(&rig.ask(signed(BODY)).await, 503, r#"{"error":"kafka_unavailable"}"#);
    assert_eq!(rig.metrics.in_flight(Leg::Webhook), 1);
    rig.settle_next(Outcome::Published).await;
    rig.finish().await;
}

#[tokio::test]
async fn connections_over_the_maximum_wait_to_be_accepted() {
    let mut rig = Rig::start(config::Webhook { connections_max: 8, ..settings() }).await;
    let answers: Vec<_> = (0..200).map(|_| rig.send(signed_close(BODY))).collect();
    for served in 0..200 {
        let delivery = next(&mut rig.receiver).await;
        assert!(rig.metrics.in_flight(Leg::Webhook) <= 8, "after {served}");
        settle(&rig.metrics, delivery, Outcome::Published);
    }
    for answer in answers {
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    rig.finish().await;
}

/// A signed request that wants its connection closed after the answer.
fn signed_close(body: &[u8]) -> Vec<u8> {
    let timestamp = now_ms().to_string();
    let signature = sign(SECRET.as_bytes(), &timestamp, body);
    let headers = [(TIMESTAMP, timestamp.as_str()), (SIGNATURE, &signature), ("connection", "close")];
    request("POST", "/webhooks/pepay", &headers, body)
}

#[tokio::test]
async fn one_connection_carries_pipelined_requests() {
    let mut rig = Rig::start(settings()).await;
    let mut socket = rig.connect().await;
    socket.write_all(&[signed(b"1"), signed(b"2")].concat()).await.unwrap();
    for body in [b"1", b"2"] {
        let delivery = next(&mut rig.receiver).await;
        assert_eq!(delivery.bytes.as_ref(), body);
        settle(&rig.metrics, delivery, Outcome::Published);
        check(&read_answer(&mut socket).await, 200, r#"{"ok":true}"#);
    }
    rig.finish().await;
}

#[tokio::test]
async fn draining_takes_nothing_new_and_lets_what_is_inside_get_its_outcome() {
    let mut rig = Rig::start(settings()).await;
    let _idle = rig.connect().await;
    let mut answer = rig.send(signed(BODY));
    let delivery = next(&mut rig.receiver).await;
    rig.stop.cancel();
    while TcpStream::connect(rig.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Longer than a connection without a request gets.
    assert!(tokio::time::timeout(Duration::from_millis(700), &mut answer).await.is_err(), "neither answered nor cut");
    assert!(!rig.leg.is_finished());
    settle(&rig.metrics, delivery, Outcome::Published);
    check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    rig.finish().await;
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let mut rig = Rig::start(config::Webhook { answer_within: Duration::from_millis(50), ..settings() }).await;
    // A body that never ends, from a peer that never goes.
    let mut socket = rig.connect().await;
    socket.write_all(&[&head("content-length: 10")[..], b"a"].concat()).await.unwrap();
    let answer = rig.send(signed(BODY));
    rig.settle_next(Outcome::Published).await;
    check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    let stopped = std::time::Instant::now();
    rig.finish().await;
    assert!(stopped.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_remedy() {
    let rig = Rig::start(settings()).await;
    let second = parts(config::Webhook { listen: rig.address, ..settings() }, 4096).webhook;
    let error = second.bind(None).await.unwrap_err();
    assert!(matches!(error, BindError::InUse(address) if address == rig.address));
    assert!(error.to_string().contains("stop the process"), "{error}");
    rig.finish().await;
}

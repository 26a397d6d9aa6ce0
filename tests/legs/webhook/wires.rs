//! Raw wires: bytes in; answer, metric and log line out. A row for each thing that a peer may do to the listener.

use super::tls::{fixture, trusting, with_tls};
use super::*;
use std::io::Write;
use std::sync::Mutex;
use tracing_subscriber::fmt::MakeWriter;

const REFUSED: &str = "connections_refused_total{listener=\"webhook\",reason=";

/// What a peer sends, and what must come of it.
struct Wire {
    name: &'static str,
    sends: Vec<u8>,
    /// The peer closes its side: it sends no more.
    half_closes: bool,
    /// Status and body, or nothing before the end.
    answer: Option<(u16, &'static str)>,
    /// Series that count it, once; none when nothing does.
    counts: Vec<String>,
    /// The line about it, once; none when nothing is logged.
    says: Option<&'static str>,
}

impl Wire {
    fn new(name: &'static str, sends: impl Into<Vec<u8>>) -> Self {
        Self { name, sends: sends.into(), half_closes: false, answer: None, counts: vec![], says: None }
    }

    fn answered(self, status: u16, body: &'static str) -> Self {
        Self { answer: Some((status, body)), ..self }.counted(format!("webhook_responses_total{{code=\"{status}\"}}"))
    }

    fn counted(mut self, series: impl Into<String>) -> Self {
        self.counts.push(series.into());
        self
    }

    fn refused(self, reason: &str) -> Self {
        Self { says: Some("connections refused"), ..self }.counted(format!("{REFUSED}\"{reason}\"}}"))
    }
}

fn wires() -> Vec<Wire> {
    let invalid = r#"{"error":"invalid_signature"}"#;
    let malformed = r#"{"error":"malformed_request"}"#;
    let too_large = r#"{"error":"headers_too_large"}"#;
    let fields = |count: usize| -> String { (0..count).map(|number| format!("x-{number}: 1\r\n")).collect() };
    let rejected = "outcomes_total{leg=\"webhook\",outcome=\"rejected\"}";
    let unsigned = b"POST /webhooks/pepay HTTP/1.1\r\nhost: r\r\ncontent-length: 60000\r\n\r\nx";
    let post = "POST /webhooks/pepay HTTP/1.1\r\nhost: r\r\n";
    let not_hex = format!("{post}{SIGNATURE}: {}\r\n", "g".repeat(64));
    vec![
        Wire::new("HTTP/2 without negotiation", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0")
            .refused("http2"),
        Wire::new("no HTTP", "\u{1}\u{2} nothing\r\n\r\n").answered(400, malformed).refused("malformed"),
        Wire::new("a broken field", "GET / HTTP/1.1\r\nno field\r\n\r\n").answered(400, malformed).refused("malformed"),
        Wire::new("a PROXY line", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nhost: r\r\n\r\n")
            .answered(400, malformed)
            .refused("malformed"),
        Wire::new("two lengths", format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\n"))
            .answered(400, malformed)
            .refused("malformed"),
        Wire::new("too many fields", format!("GET / HTTP/1.1\r\n{}\r\n", fields(101)))
            .answered(431, too_large)
            .refused("head_too_large"),
        Wire::new("an endless head", format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(64 << 10)))
            .answered(431, too_large)
            .refused("head_too_large"),
        Wire { says: Some("webhook rejected"), ..Wire::new("a body without a signature", &unsigned[..]) }
            .answered(400, invalid)
            .counted(rejected),
        Wire {
            says: Some("webhook rejected"),
            ..Wire::new("a signature that is none", format!("{not_hex}{TIMESTAMP}: 1\r\ncontent-length: 9\r\n\r\n"))
        }
        .answered(400, invalid)
        .counted(rejected),
        Wire {
            says: Some("webhook rejected"),
            ..Wire::new(
                "a question whether a body is wanted",
                format!("{post}expect: 100-continue\r\ncontent-length: 9\r\n\r\n"),
            )
        }
        .answered(400, invalid)
        .counted(rejected),
        Wire {
            says: Some("webhook rejected"),
            ..Wire::new("a length and chunks", format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"))
        }
        .answered(400, invalid)
        .counted(rejected),
        Wire::new("a health check that connects and goes", "").half_closed(),
        Wire::new("a head that breaks off", "POST /webhooks/pepay HTT").half_closed(),
        Wire::new("a half-closed question", "GET / HTTP/1.1\r\nhost: r\r\n\r\n")
            .half_closed()
            .answered(404, r#"{"error":"not_found"}"#),
        Wire::new("line ends before a request", "\r\n\r\nGET / HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n")
            .answered(404, r#"{"error":"not_found"}"#),
    ]
}

impl Wire {
    fn half_closed(self) -> Self {
        Self { half_closes: true, ..self }
    }
}

/// Lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// Lines of this thread from now on, until the guard goes.
    fn kept() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let layer = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
        let guard = tracing::subscriber::set_default(layer.with_writer(lines.clone()).finish());
        (lines, guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Series of refusals and answers that are not zero.
fn moved(metrics: &Metrics) -> Vec<String> {
    let text = metrics.text().unwrap();
    let series = text.lines().filter_map(|line| line.strip_prefix("pepay_relay_")?.rsplit_once(' '));
    let names = ["connections_", "webhook_responses_total", "outcomes_total"];
    let moved = series.filter(|(series, value)| *value != "0" && names.iter().any(|name| series.starts_with(name)));
    moved.map(|(series, value)| format!("{series} {value}")).collect()
}

#[tokio::test]
async fn each_wire_has_its_answer_its_metric_and_its_line() {
    for wire in wires() {
        let (lines, _guard) = Lines::kept();
        let rig = Rig::start(settings()).await;
        let mut socket = rig.connect().await;
        socket.write_all(&wire.sends).await.unwrap();
        if wire.half_closes {
            socket.shutdown().await.unwrap();
        }
        let mut text = Vec::new();
        let _ = soon(socket.read_to_end(&mut text)).await;
        let text = String::from_utf8(text).unwrap();
        let answer = text.split_once("\r\n\r\n").map(|(head, body)| {
            assert!(head.contains("content-type: application/json"), "{}: {head}", wire.name);
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
        });
        assert_eq!(answer, wire.answer, "{}", wire.name);
        let mut counts: Vec<String> = wire.counts.iter().map(|series| format!("{series} 1")).collect();
        let mut moved = moved(&rig.metrics);
        counts.sort();
        moved.sort();
        assert_eq!(moved, counts, "{}", wire.name);
        let said: Vec<String> = lines.text().lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect();
        assert_eq!(said.len(), usize::from(wire.says.is_some()), "{}: {said:?}", wire.name);
        assert!(wire.says.is_none_or(|says| said[0].contains(says)), "{}: {said:?}", wire.name);
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_thousand_refusals_are_one_line_with_their_count() {
    let (lines, _guard) = Lines::kept();
    let rig = Rig::start(settings()).await;
    for _ in 0..100 {
        let mut socket = rig.connect().await;
        socket.write_all(b"\x01\x02\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut socket).await.status, 400);
    }
    assert_eq!((refused(&rig.metrics, Refusal::Malformed), rig.answers(400)), (100, 100));
    assert_eq!(lines.text().matches("connections refused").count(), 1, "{}", lines.text());
    rig.finish().await;
}

#[tokio::test]
async fn a_sender_that_half_closes_gets_its_answer_and_then_the_connection_ends() {
    let mut rig = Rig::start(settings()).await;
    let mut socket = rig.connect().await;
    socket.write_all(&signed(BODY)).await.unwrap();
    socket.shutdown().await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut socket).await, 200, r#"{"ok":true}"#);
    assert_eq!(soon(socket.read(&mut [0; 16])).await.unwrap(), 0, "it is not kept open");
    rig.finish().await;
}

#[tokio::test]
async fn a_tls_sender_that_half_closes_gets_its_answer() {
    let mut rig = Rig::start(with_tls(&fixture("localhost.cert.pem"), &fixture("localhost.key.pem"))).await;
    let mut stream = trusting(&rig, "localhost.cert.pem").await.unwrap();
    stream.write_all(&signed(BODY)).await.unwrap();
    // close_notify, and the end of our side of TCP.
    stream.shutdown().await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut stream).await, 200, r#"{"ok":true}"#);
    rig.finish().await;
}

#[tokio::test]
async fn a_failed_handshake_is_counted_and_a_bare_connection_is_not() {
    let (lines, _guard) = Lines::kept();
    let rig = Rig::start(with_tls(&fixture("localhost.cert.pem"), &fixture("localhost.key.pem"))).await;
    let mut bare = rig.connect().await;
    bare.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(bare.read_to_end(&mut rest)).await;
    assert_eq!((refused(&rig.metrics, Refusal::Tls), lines.text().contains("WARN")), (0, false));
    let mut plain = rig.connect().await;
    plain.write_all(&signed(BODY)).await.unwrap();
    let _ = soon(plain.read_to_end(&mut rest)).await;
    assert_eq!(refused(&rig.metrics, Refusal::Tls), 1);
    assert!(lines.text().contains("connections refused"), "{}", lines.text());
    rig.finish().await;
}

#[tokio::test]
async fn a_valid_trace_goes_along_with_its_webhook() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut rig = Rig::start(settings()).await;
    for (parent, expected) in [(PARENT, Some((PARENT, "a=1,b=2"))), ("00-not-a-trace-01", None)] {
        let timestamp = now_ms().to_string();
        let signature = sign(SECRET.as_bytes(), &timestamp, BODY);
        let signed = [(TIMESTAMP, timestamp.as_str()), (SIGNATURE, &signature)];
        let trace = [("traceparent", parent), ("tracestate", "a=1"), ("tracestate", "b=2")];
        let answer = rig.send(request("POST", "/webhooks/pepay", &[&signed[..], &trace].concat(), BODY));
        let delivery = next(&mut rig.receiver).await;
        let brought = delivery.trace.as_deref().map(|trace| (&*trace.parent, &*trace.state));
        assert_eq!(brought, expected);
        settle(&rig.metrics, delivery, Outcome::Published);
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    rig.finish().await;
}

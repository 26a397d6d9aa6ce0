//! Strangers who mean harm at the webhook listener, while the provider's webhooks go on.

use super::bad_input::{CROWD, descriptors_max};
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::relay::{PATIENCE, Rig, event_id, get, order_event, until};
use crate::support::watch::{eventually, metric};
use pepay_relay::simulator::Tally;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Peers that begin a request and never end it.
const SLOW: usize = 10_000;

/// Requests that are none, or whose signature is nobody's.
const MALFORMED: usize = 2_000;

/// Deliveries of the socket.
const SOCKET: &str = "deliveries_total{leg=\"websocket\"}";

/// Addresses that they come from.
const SLOW_FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const MALFORMED_FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// `webhook.connections_per_address_max`, where it is set.
const PLACES: usize = 64;

/// A slow peer that was cut is there again after half of this to one and a half, so that 10,000 of them come evenly,
/// some 2,000 a second.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Webhooks that are timed meanwhile.
const TIMED: usize = 400;

/// What nine in ten peers in good faith wait for their answers at most, the commit included ...
const ANSWERED_WITHIN: Duration = Duration::from_millis(100);

/// ... or, where the machine has other work, this many times what they wait before the attack ...
const TIMES_CALM: u32 = 10;

/// ... and never more than the objective that the burn-rate alerts count (monitoring/slo.yml).
const OBJECTIVE: Duration = Duration::from_secs(1);

/// Webhooks that are timed before it.
const CALM: usize = 100;

/// What a peer in good faith must never wait; how long it does wait is printed.
const NEVER: Duration = Duration::from_secs(5);

/// With `webhook.connections_per_address_max`, an address that takes all it can leaves the other places to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_malformed_requests_of_some_addresses_leave_the_others_alone() {
    attacked("attack", PLACES, &[SLOW_FROM]).await;
}

/// Without it, a peer that waits for a place gets that of a peer that does not get done, whatever address that has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_default_settings_slow_peers_lose_their_places_to_those_who_wait() {
    let [_, _, _, last] = SLOW_FROM.octets();
    let others = (0..16).map(|n| Ipv4Addr::new(127, 0, 1, last + n));
    let addresses: Vec<Ipv4Addr> = [Ipv4Addr::LOCALHOST, SLOW_FROM].into_iter().chain(others).collect();
    attacked("attack-default", 0, &addresses).await;
}

/// Connections that a sender in good faith keeps.
const KEPT: usize = 8;

/// Strangers who hold a body of a mebibyte but for its last byte, four times the budget, each at an address of its own ...
const BODIES: u32 = 64;

/// ... and others, each at its own address too, who begin a head.
const HEADS: u32 = 2_000;

/// Bytes, addresses and places together, at default settings: a sender that keeps its connections is answered each time on
/// the same ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_heads_of_many_addresses_cost_a_sender_in_good_faith_nothing() {
    const BODY: usize = 1 << 20;
    let _alone = CROWD.lock().await;
    assert!(descriptors_max() > 4_000, "`ulimit -n` allows too few peers");
    let rig = Rig::new(Broker::shared().bootstrap(), "attack-bytes").await;
    let relay = Process::ready(&rig).await;
    let address = rig.config.webhook.listen;
    let mut kept = Vec::new();
    for number in 0..KEPT {
        let mut sender = TcpStream::connect(address).await.unwrap();
        assert_eq!(send(&rig, &mut sender, number as u64).await, "HTTP/1.1 200 OK");
        kept.push(sender);
    }
    let mut crowd = JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for number in 0..BODIES + HEADS {
        let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
        let begun = Arc::clone(&begun);
        let pause = AGAIN_AFTER.mul_f64(0.5 + f64::from(number % 100) / 100.0);
        crowd.spawn(async move {
            let signature = "0".repeat(64);
            let head = format!(
                "POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\nx-pepay-timestamp: 1\r\nx-pepay-signature: {signature}\r\n\
                 content-length: {BODY}\r\n"
            );
            let sends = match number < BODIES {
                true => [head.as_bytes(), b"\r\n", &[b'x'; BODY - 1]].concat(),
                false => head.into_bytes(),
            };
            loop {
                if let Ok(mut peer) = connect(from, address).await {
                    let _ = peer.write_all(&sends).await;
                    begun.fetch_add(1, Ordering::Relaxed);
                    let _ = peer.read(&mut [0; 64]).await;
                }
                tokio::time::sleep(pause).await;
            }
        });
    }
    until("all strangers are there", || begun.load(Ordering::Relaxed) >= (BODIES + HEADS) as usize).await;
    let mut times = Vec::with_capacity(TIMED);
    for number in 0..TIMED {
        let began = Instant::now();
        let answer = send(&rig, &mut kept[number % KEPT], (KEPT + number) as u64).await;
        times.push(began.elapsed());
        assert_eq!(answer, "HTTP/1.1 200 OK", "the {number}th");
    }
    times.sort_unstable();
    let [half, most] = [50, 99].map(|percent| times[TIMED * percent / 100]);
    println!(
        "{BODIES} bodies and {HEADS} heads of as many addresses, {} requests of theirs: a sender on {KEPT} kept connections \
         is answered in p50 {half:?}, p99 {most:?}, at most {:?}",
        begun.load(Ordering::Relaxed),
        times[TIMED - 1]
    );
    assert!(times[TIMED - 1] < NEVER, "{times:?}");
    assert!(metric(&rig, "connections_cut_total{listener=\"webhook\"}").await > 0);
    assert_eq!(metric(&rig, "webhook_responses_total{code=\"503\"}").await, 0, "nobody is overloaded");
    crowd.shutdown().await;
    relay.stop().await;
}

/// Sends a genuine webhook on a connection that is kept; the first line of its answer.
async fn send(rig: &Rig, sender: &mut TcpStream, number: u64) -> String {
    let body = order_event(&event_id(number), "order-1").to_string();
    let timestamp = pepay_relay::clock::now_ms().to_string();
    let signature =
        pepay_relay::provider::signature::sign(rig.simulator.webhook_secret().as_bytes(), &timestamp, body.as_bytes());
    let request = format!(
        "POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\nx-pepay-timestamp: {timestamp}\r\nx-pepay-signature: {signature}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    sender.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = tokio::time::timeout(PATIENCE, sender.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "its connection was cut");
    }
    String::from_utf8(answer).unwrap().lines().next().unwrap().to_owned()
}

/// How long a genuine webhook waits for its answer.
async fn timed(rig: &Rig, number: u64) -> Duration {
    let body = order_event(&event_id(number), "order-1").to_string();
    let began = Instant::now();
    let answer = rig.post(body.as_bytes()).await;
    let waited = began.elapsed();
    assert_eq!(answer.status, 200, "{answer:?}");
    waited
}

/// Slow peers of these addresses and malformed requests, while webhooks of the loopback's first address are timed.
async fn attacked(name: &str, per_address_max: usize, slow_from: &[Ipv4Addr]) {
    let _alone = CROWD.lock().await;
    let slow = SLOW.min(descriptors_max().saturating_sub(1_000));
    assert!(slow > 2_000, "`ulimit -n` allows only {slow} peers");
    let mut rig = Rig::new(Broker::shared().bootstrap(), name).await;
    rig.config.webhook.connections_per_address_max = per_address_max;
    rig.config.webhook.body_timeout = Duration::from_secs(30);
    let rig = rig.with_webhooks();
    let relay = Process::ready(&rig).await;
    let address = rig.config.webhook.listen;

    let mut calm = Vec::with_capacity(CALM);
    for number in TIMED..TIMED + CALM {
        calm.push(timed(&rig, number as u64).await);
    }
    calm.sort_unstable();
    let calm = calm[CALM * 90 / 100];

    let mut crowd = JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for number in 0..slow {
        let from = slow_from[number % slow_from.len()];
        let begun = Arc::clone(&begun);
        let pause = AGAIN_AFTER.mul_f64(0.5 + number as f64 / slow as f64);
        crowd.spawn(async move {
            loop {
                slow_request(number, from, address, &begun).await;
                tokio::time::sleep(pause).await;
            }
        });
    }
    // Each has begun once, the relay having had to do with all of them: from now on the crowd is at its strongest.
    until("all slow peers are there", || begun.load(Ordering::Relaxed) >= slow).await;
    let refused = tokio::spawn(async move {
        let mut refused = 0;
        for number in 0..MALFORMED {
            let Ok(mut peer) = connect(MALFORMED_FROM, address).await else { continue };
            let _ = peer.write_all(malformed(number).as_bytes()).await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut answer)).await;
            let refusal = [400, 413, 431].iter().any(|code| answer.starts_with(format!("HTTP/1.1 {code}").as_bytes()));
            refused += usize::from(refusal);
        }
        refused
    });
    let mut times = Vec::with_capacity(TIMED);
    let mut by_socket = Vec::new();
    for number in 0..TIMED {
        times.push(timed(&rig, number as u64).await);
        rig.simulator.create_order().unwrap();
        if number % 20 == 0 {
            let issued = rig.simulator.events().len() as u64;
            let began = Instant::now();
            eventually("the socket goes on", async || metric(&rig, SOCKET).await >= issued).await;
            by_socket.push(began.elapsed());
        }
    }
    let began_again = begun.load(Ordering::Relaxed);
    assert!(crowd.len() == slow, "the slow peers are there to the last");
    assert_eq!(refused.await.unwrap(), MALFORMED, "each malformed request is told");
    times.sort_unstable();
    by_socket.sort_unstable();
    let [half, nine, most] = [50, 90, 99].map(|percent| times[TIMED * percent / 100]);
    println!(
        "{slow} slow peers of {} addresses, {began_again} slow requests, {MALFORMED} malformed ones; others are answered \
         in p50 {half:?}, p90 {nine:?}, p99 {most:?}, at most {:?}; an event of the socket is seen after at most {:?}",
        slow_from.len(),
        times[TIMED - 1],
        by_socket.last()
    );
    let within = ANSWERED_WITHIN.max(TIMES_CALM * calm).min(OBJECTIVE);
    assert!(nine < within && times[TIMED - 1] < NEVER, "{calm:?} before the attack, then {times:?}");
    crowd.shutdown().await;
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    let Tally { given_up, dropped, .. } = rig.simulator.webhooks();
    assert_eq!((given_up, dropped), (0, 0));
    let metrics = format!("http://{}/metrics", rig.config.admin.listen);
    assert!(get(&metrics).await.contains("pepay_relay_ready 1"));
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap().count();
    until("their places are free again", || descriptors() < 100).await;
    relay.stop().await;
}

/// Begins a request, is counted, and waits until it is cut.
async fn slow_request(number: usize, from: Ipv4Addr, to: SocketAddr, begun: &AtomicUsize) {
    let Ok(mut peer) = connect(from, to).await else { return };
    let beginning: &[u8] = if number.is_multiple_of(2) {
        b"POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\nx-"
    } else {
        b"POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
    };
    let _ = peer.write_all(beginning).await;
    begun.fetch_add(1, Ordering::Relaxed);
    let _ = peer.read(&mut [0; 64]).await;
}

/// A connection from another address of the loopback.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// Broken in one of four ways: no HTTP, a forged signature, an endless head, a length that lies beyond the limit.
fn malformed(number: usize) -> String {
    let head = "POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    match number % 4 {
        0 => format!("\u{1}\u{2}{number} nothing that HTTP knows\r\n\r\n"),
        1 => {
            format!(
                "{head}x-pepay-signature: {}\r\nx-pepay-timestamp: 1\r\ncontent-length: 2\r\n\r\n{{}}",
                "0".repeat(64)
            )
        }
        2 => format!("{head}x-long: {}\r\n\r\n", "a".repeat(64 << 10)),
        _ => format!("{head}content-length: {}\r\n\r\n", 1_u64 << 40),
    }
}

//! Strangers who mean harm at the webhook listener, while the provider's webhooks go on.

use super::bad_input::descriptors_max;
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::relay::{PATIENCE, Rig, event_id, get, order_event, until};
use pepay_relay::simulator::Tally;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Peers that begin a request and never end it.
const SLOW: usize = 10_000;

/// Requests that are none, or whose signature is nobody's.
const MALFORMED: usize = 2_000;

/// Addresses that they come from.
const SLOW_FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const MALFORMED_FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Connections that one address may have.
const PLACES: usize = 64;

/// Webhooks that are timed meanwhile.
const TIMED: usize = 200;

/// What a peer in good faith must never wait; how long it does wait is printed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// With `webhook.connections_per_address_max`, an address that takes all it can leaves the other places to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_malformed_requests_of_some_addresses_leave_the_others_alone() {
    let slow = SLOW.min(descriptors_max().saturating_sub(1_000));
    assert!(slow > 2_000, "`ulimit -n` allows only {slow} peers");
    let mut rig = Rig::new(Broker::shared().bootstrap(), "attack").await;
    rig.config.webhook.connections_per_address_max = PLACES;
    rig.config.webhook.body_timeout = Duration::from_secs(30);
    let rig = rig.with_webhooks();
    let relay = Process::ready(&rig).await;
    let address = rig.config.webhook.listen;

    let mut crowd = JoinSet::new();
    for number in 0..slow {
        crowd.spawn(async move {
            let Ok(mut peer) = connect(SLOW_FROM, address).await else { return };
            let begun: &[u8] = if number % 2 == 0 {
                b"POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\nx-"
            } else {
                b"POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
            };
            let _ = peer.write_all(begun).await;
            // Whoever was let in stays; the others find themselves outside.
            let _ = peer.read(&mut [0; 64]).await;
        });
    }
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
    for number in 0..TIMED {
        let body = order_event(&event_id(number as u64), "order-1").to_string();
        let began = Instant::now();
        let answer = rig.post(body.as_bytes()).await;
        times.push(began.elapsed());
        assert_eq!(answer.status, 200, "{answer:?}");
        rig.simulator.create_order().unwrap();
    }
    // Those that were let in are there to the last; the others have found themselves outside.
    while crowd.try_join_next().is_some() {}
    assert!(crowd.len() >= PLACES, "{} slow peers are left", crowd.len());
    assert_eq!(refused.await.unwrap(), MALFORMED, "each malformed request is told");
    times.sort_unstable();
    let (half, most) = (times[TIMED / 2], times[TIMED * 99 / 100]);
    println!(
        "{slow} slow peers, {MALFORMED} malformed requests; others are answered in p50 {half:?}, p99 {most:?}, at most {:?}",
        times[TIMED - 1]
    );
    assert!(times[TIMED - 1] < ANSWERED_WITHIN, "{times:?}");
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

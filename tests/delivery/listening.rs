//! The webhook listener as a process has it: a socket that is handed over, and few file descriptors.

use crate::support::kafka::Broker;
use crate::support::process::{Process, check};
use crate::support::records::committed;
use crate::support::relay::{PATIENCE, Rig, event_id, get, keeping_client, order_event, post, post_by, until};
use crate::support::watch::{eventually, metric};
use pepay_relay::labels::Topic;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// A webhook each five milliseconds.
const EVERY: Duration = Duration::from_millis(5);

const RESTARTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_on_a_socket_that_is_handed_over_refuse_no_webhook() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "held").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let held = socket.listen(4_096).unwrap().into_std().unwrap();
    rig.config.webhook.listen = held.local_addr().unwrap();
    let mut relay = Process::start_on(&rig, &held);
    relay.line("relay ready").await;

    let stop = Arc::new(AtomicBool::new(false));
    let [sent, answered] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let url = rig.webhook_url();
    let secret = rig.simulator.webhook_secret().to_owned();
    let stopped = Arc::clone(&stop);
    let begun = Arc::clone(&sent);
    let ended = Arc::clone(&answered);
    let senders = tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut posts = JoinSet::new();
        let keeping = keeping_client();
        for number in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            ticks.tick().await;
            let url = url.clone();
            let secret = secret.clone();
            let keeping = keeping.clone();
            let ended = Arc::clone(&ended);
            begun.fetch_add(1, Ordering::Relaxed);
            posts.spawn(async move {
                let id = event_id(number);
                let body = order_event(&id, &format!("order-{}", number % 100)).to_string();
                let began = Instant::now();
                // Every other one on a connection that is kept.
                let answer = match number % 2 {
                    0 => post(&url, &secret, body.as_bytes()).await,
                    _ => post_by(&keeping, &url, &secret, body.as_bytes()).await,
                };
                ended.fetch_add(1, Ordering::Relaxed);
                (id, answer, began.elapsed())
            });
        }
        posts.join_all().await
    });
    for _ in 0..RESTARTS {
        relay.stop().await;
        relay = Process::start_on(&rig, &held);
        relay.line("relay ready").await;
        // What waited has its answer before the next restart: otherwise a slow machine adds up all of them.
        let waited = sent.load(Ordering::Relaxed);
        until("what waited is answered", || answered.load(Ordering::Relaxed) >= waited).await;
    }
    stop.store(true, Ordering::Relaxed);
    let answers = senders.await.unwrap();
    let refused: Vec<_> = answers.iter().filter(|(_, answer, _)| answer.status != 200).collect();
    assert!(refused.is_empty(), "{} of {}: {:?}", refused.len(), answers.len(), refused.first());
    let mut times: Vec<Duration> = answers.iter().map(|(.., time)| *time).collect();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{RESTARTS} restarts under {} webhooks: all 200, p50 {:?}, p99 {:?}, slowest {:?}",
        answers.len(),
        at(50),
        at(99),
        at(100)
    );
    relay.stop().await;
    let records = committed(&rig.config, Topic::Orders).await;
    let found: BTreeSet<&str> = records.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!(found.len(), records.len(), "each once");
    assert!(answers.iter().all(|(id, ..)| found.contains(id.as_str())), "each");
}

/// A stranger that begins a request and waits until it is cut.
async fn slow(address: std::net::SocketAddr) {
    let Ok(mut peer) = TcpStream::connect(address).await else { return };
    let _ = peer.write_all(b"POST /webhooks/pepay HTTP/1.1\r\nhost").await;
    let _ = peer.read(&mut [0; 16]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_file_descriptors_are_logged_and_strangers_pay_for_them() {
    const FILES: usize = 256;
    let rig = Rig::new(Broker::shared().bootstrap(), "files").await;
    let mut relay = Process::start_limited(&rig, FILES);
    relay.line_of("webhook.connections_max: 1024 connections do not fit under the limit of 256 open files").await;
    relay.line("relay ready").await;
    relay.line("stream connected").await;
    let descriptors = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let usual = descriptors(relay.pid());
    let address = rig.config.webhook.listen;
    let mut crowd = JoinSet::new();
    (0..2 * FILES).for_each(|_| drop(crowd.spawn(slow(address))));
    relay.line("connections cut to make room").await;
    let genuine = async |number: u64| {
        let body = order_event(&event_id(number), "order-1").to_string();
        let answer = tokio::time::timeout(PATIENCE, rig.post(body.as_bytes())).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ok":true}"#));
    };
    for number in 0..20 {
        genuine(number).await;
    }
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;
    assert_eq!(relay.count("no file descriptor for a connection"), 0, "the places leave some to the others");

    // Now somebody takes them away: the process has a few more than it uses.
    crowd.shutdown().await;
    until("their places are free again", || descriptors(relay.pid()) <= usual + 8).await;
    let limit = descriptors(relay.pid()) + 12;
    let pid = relay.pid().to_string();
    let lowered =
        std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:{FILES}")]).status();
    assert!(lowered.unwrap().success());
    let cut = metric(&rig, "connections_cut_total{listener=\"webhook\"}").await;
    (0..40).for_each(|_| drop(crowd.spawn(slow(address))));
    let line = relay.line("no file descriptor for a connection").await;
    assert_eq!((&line["level"], &line["listener"]), (&"WARN".into(), &"webhook".into()), "{line}");
    for number in 20..40 {
        genuine(number).await;
    }
    eventually("strangers were cut", async || metric(&rig, "connections_cut_total{listener=\"webhook\"}").await > cut)
        .await;
    let health = format!("http://{}/livez", rig.config.admin.listen);
    assert_eq!(get(&health).await, r#"{"alive":true}"#);
    crowd.shutdown().await;
    relay.stop().await;
}

#[tokio::test]
async fn check_reports_where_places_do_not_fit_under_the_limit_of_open_files() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "limit").await;
    rig.config.webhook.connections_max = 65_536;
    let (_, findings) = check(&rig).await;
    let hard = rlimit::Resource::NOFILE.get_hard().unwrap();
    assert_eq!(findings.contains("do not fit under the limit of"), hard < 65_536 + 192, "{hard}: {findings}");
}

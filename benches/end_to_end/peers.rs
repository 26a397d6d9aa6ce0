//! Other programs with the same task, in turn with the relay: they read the same frames or webhooks, write to a topic of the same
//! broker, and a consumer of committed records counts what arrived.
//!
//! A peer is a command of the shell. What it has to do comes in its environment:
//!
//! | Variable | Value |
//! |---|---|
//! | `PEER_LEG` | `websocket` or `webhook` |
//! | `PEER_WEBSOCKET_URL` | where frames come from; each is one event |
//! | `PEER_WEBHOOK_ADDRESS`, `PEER_WEBHOOK_PATH` | where to take requests; answered 2xx once they may not be lost |
//! | `PEER_WEBHOOK_SECRET` | signs them: HMAC-SHA256 in hex of timestamp, a dot and the body |
//! | `PEER_BOOTSTRAP`, `PEER_TOPIC` | where to write each event, with its bytes as the value |

use super::figures::{Figures, Report, latencies};
use super::load::{Events, WEBHOOK_PATH, WEBHOOK_SECRET};
use super::parts::{Bench, QUIET_EVERY_MS, WARM_UP, late_ms};
use super::ports::free_address;
use super::proc::cpu_seconds;
use super::proc::{group, status_kib};
use super::process::{Kind, Relay, pause};
use super::receive::{Received, Receiver, now_us};
use super::webhooks;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long a peer may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A program to be measured alongside the relay.
#[derive(Clone, Debug)]
pub struct Peer {
    name: String,
    command: String,
}

impl FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.is_empty() => {
                Ok(Self { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err("is not NAME=COMMAND"),
        }
    }
}

/// What a contender reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leg {
    Websocket,
    Webhook,
}

/// A program that runs, and the topic that it writes to.
enum Contender {
    Relay(Relay),
    Peer(Process),
}

/// A peer that runs, with all that it started; killed when dropped.
struct Process {
    child: Child,
    webhook: SocketAddr,
}

impl Contender {
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Relay(relay) => vec![relay.pid()],
            Self::Peer(peer) => group(peer.child.id()),
        }
    }

    fn webhook(&self) -> SocketAddr {
        match self {
            Self::Relay(relay) => relay.webhook(),
            Self::Peer(peer) => peer.webhook,
        }
    }

    fn cpu_seconds(&self) -> f64 {
        self.pids().into_iter().map(cpu_seconds).sum()
    }

    fn peak_mib(&self) -> f64 {
        self.pids().into_iter().map(|pid| status_kib(pid, "VmHWM") as f64 / 1024.0).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All that the shell started is of its group.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

impl Bench {
    /// Frames as fast as each takes them, a tenth of them repeats.
    pub fn peers_by_websocket(&self, peers: &[Peer], report: &mut Report) {
        let count = self.events as u64;
        self.peers_in_turn("peers, websocket", peers, Leg::Websocket, report, |_, receiver| {
            let events = Events::of_now();
            let warm = count / WARM_UP as u64;
            let [first, then] = [events.frames(0..warm, true), events.frames(warm..warm + count, true)];
            self.provider.play(first.bytes());
            receiver.until(warm);
            Load {
                warm,
                count,
                send: Box::new(move || {
                    self.provider.play(then.bytes());
                    Vec::new()
                }),
            }
        });
    }

    /// Signed requests on `connections` connections.
    pub fn peers_by_webhook(&self, peers: &[Peer], connections: usize, report: &mut Report) {
        let count = (self.events as f64 * (connections as f64).sqrt() / 80.0) as u64;
        let part = format!("peers, webhook, {connections}");
        self.peers_in_turn(&part, peers, Leg::Webhook, report, |contender, receiver| {
            let events = Events::of_now();
            let warm = count / WARM_UP as u64;
            let [first, then] = [events.webhooks(0..warm), events.webhooks(warm..warm + count)];
            let address = contender.webhook();
            webhooks::send(address, &first, connections);
            receiver.until(warm);
            Load { warm, count, send: Box::new(move || webhooks::send(address, &then, connections)) }
        });
    }

    /// One event every 10 ms by the socket: from when it is due to when the consumer has it.
    pub fn peers_when_quiet(&self, peers: &[Peer], report: &mut Report) {
        let count = (self.events / 200).max(100) as u64;
        // A second: the consumer and the connection need as long.
        let warm = 1000 / QUIET_EVERY_MS;
        for run in 0..=self.runs {
            self.each(peers, Leg::Websocket, |name, _, receiver| {
                let frames = Events::of_now().frames(0..warm + count, false);
                let began_us = self.play_quietly(&frames);
                receiver.until(warm + count);
                let received = receiver.stop();
                let arrived = (warm..warm + count).filter_map(|number| Some((number, *received.at_us.get(&number)?)));
                let times = arrived.map(|(number, at_us)| late_ms(at_us, began_us, number)).collect();
                if run > 0 {
                    let mut figures = latencies(times).to_vec();
                    figures.extend(books(&received, warm + count));
                    report.add("peers, quiet", name, figures);
                }
            });
        }
    }

    fn peers_in_turn<'l>(
        &'l self,
        part: &str,
        peers: &[Peer],
        leg: Leg,
        report: &mut Report,
        load: impl Fn(&Contender, &Receiver) -> Load<'l>,
    ) {
        for run in 0..=self.runs {
            self.each(peers, leg, |name, contender, receiver| {
                let Load { warm, count, send } = load(contender, &receiver);
                let cpu = contender.cpu_seconds();
                let began_us = now_us();
                let times = send();
                receiver.until(warm + count);
                let cpu = contender.cpu_seconds() - cpu;
                let received = receiver.stop();
                // To the last one that arrived, however long the others were waited for.
                let ended_us = received.at_us.values().copied().max().unwrap_or(began_us);
                let arrived = received.at_us.len() as f64 - warm as f64;
                let mut figures = vec![
                    ("events/s", arrived / ((ended_us - began_us).max(1) as f64 / 1e6)),
                    ("CPU s a million", cpu / arrived.max(1.0) * 1e6),
                ];
                if !times.is_empty() {
                    figures.extend(latencies(times));
                }
                figures.push(("peak RSS MiB", contender.peak_mib()));
                figures.extend(books(&received, warm + count));
                if run > 0 {
                    report.add(part, name, figures);
                }
            });
        }
    }

    /// Each build of the relay, by the inbox as well where webhooks are measured, and each peer; one at a time.
    fn each(&self, peers: &[Peer], leg: Leg, mut run: impl FnMut(&str, &Contender, Receiver)) {
        for (name, build) in &self.builds {
            for inbox in [false, true] {
                if inbox && leg == Leg::Websocket {
                    continue;
                }
                let relay = self.start(build, Kind { inbox, ..Kind::default() });
                let receiver = Receiver::start(&self.bootstrap, &relay.topic("orders"));
                let name = if inbox { format!("{name}, inbox") } else { (*name).to_owned() };
                run(&name, &Contender::Relay(relay), receiver);
            }
        }
        for peer in peers {
            let topic = self.topic("orders");
            self.provider.forget();
            let process = peer.start(leg, &self.provider.address().to_string(), &self.bootstrap, &topic);
            let receiver = Receiver::start(&self.bootstrap, &topic);
            run(&peer.name, &Contender::Peer(process), receiver);
        }
    }
}

/// What is sent while the clock runs, after those that warmed the contender up; how long each answer took.
struct Load<'l> {
    warm: u64,
    count: u64,
    send: Box<dyn FnOnce() -> Vec<f64> + 'l>,
}

/// What a consumer has to make up for.
fn books(received: &Received, sent: u64) -> Figures {
    let lost = sent.saturating_sub(received.at_us.len() as u64);
    vec![("lost", lost as f64), ("repeated", received.repeated as f64), ("out of order", received.out_of_order as f64)]
}

impl Peer {
    /// Runs its command; returns when it listens, where it has to.
    fn start(&self, leg: Leg, provider: &str, bootstrap: &str, topic: &str) -> Process {
        let webhook = free_address();
        let child = Command::new("sh")
            .args(["-c", &self.command])
            .env("PEER_LEG", if leg == Leg::Websocket { "websocket" } else { "webhook" })
            .env("PEER_WEBSOCKET_URL", format!("ws://{provider}/"))
            .env("PEER_WEBHOOK_ADDRESS", webhook.to_string())
            .env("PEER_WEBHOOK_PATH", WEBHOOK_PATH)
            .env("PEER_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .env("PEER_BOOTSTRAP", bootstrap)
            .env("PEER_TOPIC", topic)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut process = Process { child, webhook };
        let began = Instant::now();
        while leg == Leg::Webhook && TcpStream::connect(webhook).is_err() {
            let ended = process.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            assert!(
                began.elapsed() < READY_WITHIN,
                "{} does not listen at PEER_WEBHOOK_ADDRESS ({webhook})",
                self.name
            );
            pause(Duration::from_millis(20));
        }
        process
    }
}

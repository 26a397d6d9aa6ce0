//! A Kafka that is far away: a line between it and its clients that carries every byte this much later, in order, however much
//! is under way. It takes no bandwidth away, and loses nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The line; its connections end with their peers.
pub struct Line {
    address: SocketAddr,
    broker: Arc<OnceLock<SocketAddr>>,
}

impl Line {
    /// Listens; `round_trip` is what both ways take together. Connections end at once until the broker is known.
    pub fn start(round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let broker = Arc::<OnceLock<SocketAddr>>::default();
        let towards = Arc::clone(&broker);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(broker) = towards.get().and_then(|broker| TcpStream::connect(broker).ok()) else { continue };
                for (from, to) in [(&client, &broker), (&broker, &client)] {
                    carry(from.try_clone().expect("a socket"), to.try_clone().expect("a socket"), round_trip / 2);
                }
            }
        });
        Self { address, broker }
    }

    /// Where clients find the broker.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it leads there.
    pub fn towards(&self, broker: SocketAddr) {
        self.broker.set(broker).expect("one broker");
    }
}

/// Carries one direction, by two threads: one reads at once, the other writes when it is time.
fn carry(mut from: TcpStream, to: TcpStream, takes: Duration) {
    to.set_nodelay(true).expect("a socket");
    let (chunks, waiting) = channel();
    std::thread::spawn(move || deliver(to, &waiting));
    std::thread::spawn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if chunks.send((Instant::now() + takes, chunk[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}

fn deliver(mut to: TcpStream, waiting: &Receiver<(Instant, Vec<u8>)>) {
    for (due, chunk) in waiting {
        super::process::pause(due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

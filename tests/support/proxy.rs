//! A TCP proxy between the relay and its broker that loses, holds and delays requests and answers of one kind.
//!
//! The broker advertises the proxy's address, so that every connection of a client passes here. Requests are
//! distinguished by the API key at the head of their frame, and answers by their correlation id (the Kafka protocol
//! guide, "Protocol Primitives").

use super::ports::free_address;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

pub const PRODUCE: i16 = 0;
pub const LIST_OFFSETS: i16 = 2;
pub const JOIN_GROUP: i16 = 11;
pub const CREATE_TOPICS: i16 = 19;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const END_TXN: i16 = 26;
pub const DESCRIBE_CONFIGS: i16 = 32;

/// Longer than anything that is waited for here.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is done to requests and answers of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes, in either direction. What was sent arrives when the fault is over, as TCP sends it again.
    Cut,
    /// Requests never reach the broker.
    LoseRequests(i16),
    /// Requests reach the broker when the fault is over.
    HoldRequests(i16),
    /// The broker obeys, and nobody learns of it.
    LoseAnswers(i16),
    /// The same, once: the connection ends instead.
    CutAtAnswer(i16),
    /// Answers come this much later.
    DelayAnswers(i16, Duration),
    /// Once: the request waits on its way while its connection ends for the client, which asks again on another one; it
    /// reaches the broker when, after that, an answer of the second API key has passed.
    LateTwin(i16, i16),
}

/// A request that waits on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twin {
    /// Until the request of this API key that the client repeats is answered.
    Repeated(i16, i16),
    /// Until an answer of this API key passes.
    Answered(i16),
    /// Its time has come.
    Due,
}

#[derive(Debug, Default)]
struct State {
    broker: Option<SocketAddr>,
    faults: Vec<Fault>,
    /// A request of this API key ends all faults, before it goes on.
    until: Option<i16>,
    /// Requests of each API key so far.
    seen: BTreeMap<i16, usize>,
    twin: Option<Twin>,
}

/// What a connection was asked.
#[derive(Debug, Default)]
struct Asked {
    /// The API key of each request that is not answered, by its correlation id.
    apis: Mutex<BTreeMap<i32, i16>>,
    /// Its client has gone, and a request of it waits on its way: the broker's side stays.
    holds: AtomicBool,
}

/// The proxy; its connections end with their peers.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// Listens; connections wait until the broker is known.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Self { address: listener.local_addr().expect("bound"), state: Arc::default() };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let proxy = accepting.clone();
                thread::spawn(move || proxy.serve(client));
            }
        });
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn towards(&self, broker: SocketAddr) {
        self.change(|state| state.broker = Some(broker));
    }

    /// Settings of a broker with a second listener, of which this proxy is the only way: who asks the proxy for the brokers
    /// goes by it from then on, and who asks the first listener goes around it.
    pub fn second_listener(&self) -> String {
        let behind = free_address();
        self.towards(behind);
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{{plain}},BEHIND://{behind},CONTROLLER://127.0.0.1:{{controller}}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{{plain}},BEHIND://{}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n",
            self.address
        )
    }

    /// From now on these faults, and until a request of API key `until` comes.
    pub fn set(&self, faults: &[Fault], until: Option<i16>) {
        self.change(|state| {
            state.faults = faults.to_vec();
            state.until = until;
            state.seen.clear();
        });
    }

    pub fn clear(&self) {
        self.set(&[], None);
    }

    /// Waits until the request that is to be late has reached the broker.
    pub fn wait_for_twin(&self) {
        let lock = self.state();
        let to_come = |state: &State| state.faults.iter().any(|fault| matches!(fault, Fault::LateTwin(..)));
        let waited = self.state.1.wait_timeout_while(lock, PATIENCE, |state| state.twin.is_some() || to_come(state));
        assert!(!waited.expect("not poisoned").1.timed_out(), "the late request was never due");
    }

    /// Waits for a request of this API key since the faults were set.
    pub fn wait_for(&self, api: i16) {
        let lock = self.state();
        let waited = self.state.1.wait_timeout_while(lock, PATIENCE, |state| !state.seen.contains_key(&api));
        assert!(!waited.expect("not poisoned").1.timed_out(), "no request of API {api}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("not poisoned")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.state.1.notify_all();
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.state.1.wait_while(self.state(), condition).expect("not poisoned")
    }

    fn serve(&self, client: TcpStream) {
        let Some(broker) = self.wait_while(|state| state.broker.is_none()).broker else { return };
        let Ok(broker) = TcpStream::connect(broker) else { return };
        let asked = Arc::new(Asked::default());
        let proxy = self.clone();
        let known = Arc::clone(&asked);
        let from = client.try_clone().expect("a socket");
        let to = broker.try_clone().expect("a socket");
        thread::spawn(move || {
            drop(proxy.requests(&from, &to, &known));
            end(&from, &to);
        });
        drop(self.answers(&broker, &client, &asked));
        end(&broker, &client);
    }

    fn requests(&self, mut from: &TcpStream, mut to: &TcpStream, asked: &Asked) -> io::Result<()> {
        loop {
            let frame = frame(&mut from)?;
            let api = i16::from_be_bytes([frame[4], frame[5]]);
            asked.apis.lock().expect("not poisoned").insert(correlation(&frame[8..]), api);
            self.change(|state| {
                *state.seen.entry(api).or_default() += 1;
                if state.until == Some(api) {
                    state.faults.clear();
                }
            });
            if self.holds_twin(api) {
                asked.holds.store(true, Ordering::Relaxed);
                from.shutdown(Shutdown::Both)?;
                drop(self.wait_while(|state| state.twin != Some(Twin::Due)));
                to.write_all(&frame)?;
                self.change(|state| state.twin = None);
                continue;
            }
            drop(self.wait_while(|state| {
                [Fault::Cut, Fault::HoldRequests(api)].iter().any(|holds| state.faults.contains(holds))
            }));
            if !self.state().faults.contains(&Fault::LoseRequests(api)) {
                to.write_all(&frame)?;
            }
        }
    }

    fn answers(&self, mut from: &TcpStream, mut to: &TcpStream, asked: &Asked) -> io::Result<()> {
        loop {
            let frame = frame(&mut from)?;
            drop(self.wait_while(|state| state.faults.contains(&Fault::Cut)));
            let api = asked.apis.lock().expect("not poisoned").remove(&correlation(&frame[4..]));
            let faults = self.state().faults.clone();
            let mut lost = false;
            for fault in faults {
                match fault {
                    Fault::LoseAnswers(which) if Some(which) == api => lost = true,
                    Fault::CutAtAnswer(which) if Some(which) == api => {
                        self.change(|state| state.faults.retain(|other| *other != fault));
                        return Ok(());
                    }
                    Fault::DelayAnswers(which, time) if Some(which) == api => self.delay(time),
                    _ => {}
                }
            }
            if !lost
                && let Err(error) = to.write_all(&frame)
                && !asked.holds.load(Ordering::Relaxed)
            {
                return Err(error);
            }
            self.change(|state| match (state.twin, api) {
                (Some(Twin::Repeated(which, until)), Some(api)) if which == api => {
                    state.twin = Some(Twin::Answered(until));
                }
                (Some(Twin::Answered(until)), Some(api)) if until == api => state.twin = Some(Twin::Due),
                _ => {}
            });
        }
    }

    /// Whether this request is the one that is to be late.
    fn holds_twin(&self, api: i16) -> bool {
        let mut state = self.state();
        let late = state.faults.iter().find_map(|fault| match fault {
            Fault::LateTwin(which, until) if *which == api => Some(*until),
            _ => None,
        });
        let Some(until) = late else { return false };
        state.faults.retain(|fault| !matches!(fault, Fault::LateTwin(..)));
        state.twin = Some(Twin::Repeated(api, until));
        true
    }

    /// Lets the time pass, or the faults end.
    fn delay(&self, time: Duration) {
        let due = Instant::now() + time;
        let state = self.state();
        let left = due.saturating_duration_since(Instant::now());
        drop(self.state.1.wait_timeout_while(state, left, |state| !state.faults.is_empty()).expect("not poisoned"));
    }
}

/// A frame with its length before it.
fn frame(from: &mut &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    let count = u64::from(u32::from_be_bytes(length));
    if from.take(count).read_to_end(&mut frame)? as u64 != count || count < 8 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

fn correlation(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn end(one: &TcpStream, other: &TcpStream) {
    // One of them has ended already.
    drop((one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both)));
}

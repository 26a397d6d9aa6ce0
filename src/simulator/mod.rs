//! A simulated Pepay: the provider's documented behaviour as a model, behind its REST, WebSocket and webhook skin.
//!
//! [`model`] is the provider as data, pure; `hub` changes it and hands its events to each `subscriber` and to the `queue`
//! of webhooks; `door` finds whose request it is, `api` answers REST calls; `push` speaks first, on the socket and by
//! webhooks; [`faults`] spoils any of it on demand; `pace` lets orders live by themselves. Where the provider's
//! documentation is silent, the simulator takes one reading and [`faults`] offers the others. It is for tests, the demo
//! and one's own integration tests; it never runs alongside real orders.

mod api;
mod door;
pub mod faults;
mod frames;
mod hub;
pub mod model;
mod pace;
mod push;
mod queue;
mod subscriber;
mod switch;

pub use faults::{Cut, FaultAnswer, Faults};
pub use model::{Details, Event, NewOrder, Refused, TimeForm, Transition};
pub use pace::Pace;
pub use queue::Tally;
pub use switch::FaultSwitch;

use crate::clock::now_ms;
use crate::provider::tls::client_config;
use door::Door;
use hub::Hub;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::{Snapshot, Types};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// HTTP connections served at once, alongside the sockets; further ones are closed as they come.
const CONNECTIONS_MAX: usize = 1_024;
/// How long headers may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a simulator is like.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The commerce key that every call needs, until [`Simulator::rotate_api_key`].
    pub api_key: String,
    /// A known key of the wrong scope: refused with 403 instead of 401.
    pub merchant_key: String,
    /// Signs the webhooks of every endpoint.
    pub webhook_secret: String,
    /// Endpoints from the start.
    pub webhook_urls: Vec<String>,
    /// Everything that is made up comes from it: ids, hashes, fates.
    pub seed: u64,
    /// Who moves the orders.
    pub pace: Pace,
    /// How timestamps inside objects are written.
    pub times: TimeForm,
    /// Plays mainnet: `livemode`, and no simulation.
    pub mainnet: bool,
    /// The merchant's number.
    pub merchant_id: u64,
    /// How long an invoice may stay unpaid. Checked at the automatic pace only.
    pub invoice_lifetime: Duration,
    /// Retention of the event log, by age …
    pub keep_events_for: Duration,
    /// … and by number.
    pub keep_events: usize,
    /// Requests that the key may make a minute; any number without. The provider gives no figure.
    pub requests_per_minute: Option<u32>,
    /// Time between the pings of the WebSocket.
    pub ping_interval: Duration,
    /// Waits before the second, third, … attempt of a webhook.
    pub webhook_retries: Vec<Duration>,
    /// Remembers every event for [`Simulator::events`], beyond the log's retention. Off for a simulator that runs
    /// for days.
    pub remember_events: bool,
}

impl Default for Options {
    /// Devnet, stepped, on a free port of the loopback; retention, retries and pings as assumed of the provider.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: "ck_simulated_0000000000000000".into(),
            merchant_key: "pk_simulated_0000000000000000".into(),
            webhook_secret: "simulated-webhook-secret".into(),
            webhook_urls: Vec::new(),
            seed: 1,
            pace: Pace::Stepped,
            times: TimeForm::default(),
            mainnet: false,
            merchant_id: 4182,
            invoice_lifetime: Duration::from_secs(30 * 60),
            keep_events_for: Duration::from_secs(24 * 3600),
            keep_events: 10_000,
            requests_per_minute: None,
            ping_interval: Duration::from_secs(30),
            webhook_retries: vec![Duration::from_secs(10), Duration::from_secs(60)],
            remember_events: true,
        }
    }
}

impl fmt::Debug for Options {
    /// Without keys and secrets: they are simulated, but somebody may use real ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Options");
        debug.field("listen", &self.listen).field("seed", &self.seed).field("pace", &self.pace);
        debug.field("mainnet", &self.mainnet).finish_non_exhaustive()
    }
}

/// A running simulator. Dropping it stops it without waiting; [`Simulator::stop`] waits for every task.
pub struct Simulator {
    hub: Arc<Hub>,
    door: Door,
    addr: SocketAddr,
}

impl Simulator {
    /// Starts it. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound, a webhook URL is one too many, or TLS cannot be set up.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let hub = Arc::new(Hub::new(options));
        let door = Door::new(&hub);
        hub.tasks.spawn(accept(Arc::clone(&hub), door.router(), listener));
        Self::open(hub, door, addr)
    }

    /// Another merchant at the same address, with a world of his own: his key separates his requests from those of the
    /// others. He ends when this is dropped, at the latest with the first one.
    ///
    /// # Errors
    /// As [`Simulator::start`], but for the address.
    pub fn beside(&self, options: Options) -> io::Result<Self> {
        let hub = Arc::new(Hub::new(options));
        self.door.admit(&hub);
        Self::open(hub, self.door.clone(), self.addr)
    }

    fn open(hub: Arc<Hub>, door: Door, addr: SocketAddr) -> io::Result<Self> {
        let tls = client_config().map_err(io::Error::other)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(io::Error::other)?;
        let urls = hub.options.webhook_urls.clone();
        hub.tasks.spawn(push::webhooks::run(Arc::clone(&hub), client));
        if let Pace::Automatic(every) = hub.options.pace {
            hub.tasks.spawn(pace::run(Arc::clone(&hub), every));
        }
        let simulator = Self { hub, door, addr };
        for url in urls {
            simulator.add_webhook_endpoint(&url).ok_or_else(|| io::Error::other("too many webhook endpoints"))?;
        }
        Ok(simulator)
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The REST base, without a trailing slash.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The WebSocket's address.
    pub fn websocket_url(&self) -> String {
        format!("ws://{}/ws/commerce/events", self.addr)
    }

    /// The commerce key.
    pub fn api_key(&self) -> &str {
        &self.hub.options.api_key
    }

    /// The secret that webhooks are signed with, unless it was rotated.
    pub fn webhook_secret(&self) -> &str {
        &self.hub.options.webhook_secret
    }

    /// Posts every commerce event to `url` from now on, and answers the endpoint's id; `None` beyond 16 endpoints.
    pub fn add_webhook_endpoint(&self, url: &str) -> Option<String> {
        self.add_webhook_endpoint_for(url, Types::commerce())
    }

    /// The same for some types only.
    pub fn add_webhook_endpoint_for(&self, url: &str, enabled_events: Types) -> Option<String> {
        self.hub.world().model.add_endpoint(url, enabled_events, &self.hub.options.webhook_secret)
    }

    /// From now on the commerce key `key` is taken as well.
    pub fn rotate_api_key(&self, key: &str) {
        self.hub.world().api_keys.push(key.to_owned());
    }

    /// Ends the rotation: only the newest commerce key is taken. A connection that an earlier one opened stays.
    pub fn finish_api_key_rotation(&self) {
        let keys = &mut self.hub.world().api_keys;
        keys.drain(..keys.len().saturating_sub(1));
    }

    /// From now on webhooks are signed with `secret`, and alongside it with the one before.
    pub fn rotate_webhook_secret(&self, secret: &str) {
        self.hub.world().model.rotate_secrets(secret);
    }

    /// Ends the rotation: the previous secret signs no more.
    pub fn finish_webhook_rotation(&self) {
        self.hub.world().model.finish_rotation();
    }

    /// Sends a `test.ping` to an endpoint, as the dashboard does; `None` when there is no such endpoint. A ping is
    /// on no other channel and not among [`Simulator::events`].
    pub fn ping(&self, endpoint_id: &str) -> Option<Arc<Event>> {
        let world = &mut *self.hub.world();
        world.model.endpoint(endpoint_id)?;
        let event = world.model.ping(now_ms());
        self.hub.queue_webhook(world, endpoint_id.to_owned(), &event);
        Some(event)
    }

    /// Makes an order of something for somebody, by the seed, and answers its id.
    ///
    /// # Errors
    /// Never in practice: there is always something in it.
    pub fn create_order(&self) -> Result<String, Refused> {
        self.hub.change(|model, chance, now| model.create_order(pace::some_order(chance), now, chance))
    }

    /// Makes this very order, and answers its id.
    ///
    /// # Errors
    /// When there is nothing in it.
    pub fn create_order_of(&self, order: NewOrder) -> Result<String, Refused> {
        self.hub.change(|model, chance, now| model.create_order(order, now, chance))
    }

    /// Takes one step of an order's life, as `POST …/simulate` does.
    ///
    /// # Errors
    /// When the order is unknown or the step not allowed.
    pub fn simulate(&self, order_id: &str, transition: Transition) -> Result<(), Refused> {
        self.simulate_with(order_id, transition, &Details::default())
    }

    /// The same with a wallet or tracking.
    ///
    /// # Errors
    /// As [`Simulator::simulate`].
    pub fn simulate_with(&self, order_id: &str, transition: Transition, details: &Details) -> Result<(), Refused> {
        self.hub.change(|model, chance, now| model.simulate(order_id, transition, details, now, chance))
    }

    /// The payer's transaction was seen: `invoice_payment.created`.
    ///
    /// # Errors
    /// When there is a payment already, or the invoice takes none.
    pub fn see_payment(&self, order_id: &str) -> Result<(), Refused> {
        self.hub.change(|model, chance, now| model.see_payment(order_id, now, chance))
    }

    /// A part of the invoice's amount came, in thousandths of a dollar.
    ///
    /// # Errors
    /// When it is none or all of it, or the invoice takes no more.
    pub fn underpay(&self, order_id: &str, millis: u64) -> Result<(), Refused> {
        self.hub.change(|model, chance, now| model.underpay(order_id, millis, &Details::default(), now, chance))
    }

    /// The order's invoice expires now.
    ///
    /// # Errors
    /// When it is paid or closed.
    pub fn expire_invoice(&self, order_id: &str) -> Result<(), Refused> {
        self.hub.change(|model, _, now| model.expire_invoice(order_id, now))
    }

    /// Turns commerce off, as an empty escrow does, or on again: availability, search and checkout answer 503 meanwhile.
    pub fn set_available(&self, available: bool) {
        self.hub.world().model.set_available(available);
    }

    /// Issues an event as it is, on every channel; members that make it an event are filled in where missing.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn publish_custom(&self, event: serde_json::Value) -> Result<Arc<Event>, Refused> {
        self.hub.change(|model, _, now| model.publish_custom(event, now))
    }

    /// The order as REST shows it.
    pub fn order(&self, order_id: &str) -> Option<Snapshot> {
        self.hub.world().model.order(order_id).map(|order| order.snapshot.clone())
    }

    /// Every event issued so far with its bytes, oldest first: what a consumer must have seen. At most a million.
    pub fn events(&self) -> Vec<Arc<Event>> {
        self.hub.events()
    }

    /// Changes the faults.
    pub fn faults(&self) -> FaultSwitch {
        FaultSwitch { hub: Arc::clone(&self.hub) }
    }

    /// Sockets that are up.
    pub fn connections(&self) -> usize {
        *self.hub.sockets.borrow()
    }

    /// Waits until exactly `count` sockets are up.
    pub async fn wait_for_connections(&self, count: usize) {
        // The sender lives as long as `self`: this cannot fail.
        let _ = self.hub.sockets.subscribe().wait_for(|now| *now == count).await;
    }

    /// Sockets that were ever accepted.
    pub fn connections_made(&self) -> u64 {
        self.hub.world().connections_made
    }

    /// HTTP requests that ever came, the upgrades among them.
    pub fn requests(&self) -> u64 {
        self.hub.world().requests
    }

    /// Waits until no webhook is queued, under way, or waiting for another attempt.
    pub async fn wait_for_webhooks(&self) {
        // As above.
        let _ = self.hub.webhooks_open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Whether the first `attempts` attempts to send a webhook are over; later ones may be under way.
    pub fn webhooks_over(&self, attempts: u64) -> bool {
        self.hub.world().webhooks.over(attempts)
    }

    /// What became of the webhooks so far.
    pub fn webhooks(&self) -> Tally {
        self.hub.world().webhooks.tally()
    }

    /// Stops it: sockets are closed with 1001, webhooks not yet sent are forgotten, and every task has ended when
    /// this returns.
    pub async fn stop(self) {
        self.hub.stop.cancel();
        self.hub.tasks.close();
        self.hub.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.hub.stop.cancel();
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Serves a simulator until `stop`, for the command of that name; `ready` learns its address.
///
/// # Errors
/// As [`Simulator::start`].
pub async fn serve(
    options: Options,
    ready: impl FnOnce(&Simulator),
    stop: tokio_util::sync::CancellationToken,
) -> io::Result<()> {
    let simulator = Simulator::start(options).await?;
    ready(&simulator);
    stop.cancelled().await;
    simulator.stop().await;
    Ok(())
}

/// Accepts connections until the simulator stops. An own loop rather than axum's: it bounds the connections, and
/// stopping waits for each of them.
async fn accept(hub: Arc<Hub>, router: axum::Router, listener: TcpListener) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = hub.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, or the peer is gone already: neither is helped by haste.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        // Without it small frames wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let stop = hub.stop.clone();
        hub.tasks.spawn(async move {
            let _slot = slot;
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            tokio::pin!(connection);
            // How it ends matters to the peer alone.
            let _ = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    // A peer that holds a request back is not waited for.
                    tokio::time::timeout(Duration::from_secs(1), connection.as_mut()).await.unwrap_or(Ok(()))
                }
            };
        });
    }
}

//! The provider's REST interface, over one client that never follows a redirect.
//!
//! Every call is bounded in time, bytes and attempts. The key goes into exactly one header and no log; a URL is logged
//! without its query. Answers are handed on as the provider wrote them, alongside small views ([`Decoded`]).
//!
//! The legs have a pace of their own and make each call once; commands ask for [`Rest::with_retries`].

mod answer;
mod call;
mod checkout;
mod error;
mod events;
mod order;
mod order_list;
mod orders;
mod payments;
mod retry;
mod service;

pub use answer::{Decoded, ObjectTime, Spelled};
pub(crate) use call::refusal;
pub use call::{BODY_BYTES_MAX, IdempotencyKey, NotAKey};
pub use checkout::{
    Address, AddressAnswer, Customer, Estimate, Fees, InvalidItem, InvoiceAnswer, Item, Pricing, ShippingOption,
    ValidItem,
};
pub use error::RestError;
pub use events::{EventData, EventObject, EventQuery, EventView};
pub use order::{Actions, Fulfillment, LineItem, Order, Payment, Refund, Settlement, Shipment, TimelineEntry};
pub use order_list::{OrderRow, OrdersPage, Pagination};
pub use orders::{Cancellation, OrderByInvoice, OrderFilter, Simulated, Simulation, Tracking};
pub use payments::{BULK_MAX, BulkStatus, Invoice, InvoiceStatus, PaymentDetails, PaymentStatus};
pub use service::{CommerceStatus, Offer, Product, WsToken};

use super::connect::Connector;
use crate::clock::Clock;
use crate::loopback::is_loopback;
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Header of a commerce key (`api-spec/authentication`).
pub const API_KEY: &str = "x-commerce-api-key";

/// Header of a merchant key (`api-spec/authentication`), and the newer spelling for keys of commerce scope.
const MERCHANT_KEY: &str = "x-api-key";

/// How long a connection that is not used is kept.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// The one header that a key goes into; the provider wants never both (`sdk/configure`).
///
/// A merchant's key (`pk_…`, `sk_…`) is documented for `x-api-key` alone; every other one is a commerce key.
pub fn key_header(key: &str) -> &'static str {
    if key.starts_with("pk_") || key.starts_with("sk_") { MERCHANT_KEY } else { API_KEY }
}

/// The provider's REST interface. Its clones share their connections.
#[derive(Clone, Debug)]
pub struct Rest {
    http: Client<Connector, Full<Bytes>>,
    base: Url,
    timeout: Duration,
    api_key: watch::Receiver<SecretString>,
    clock: Arc<Clock>,
    body_bytes_max: usize,
    attempts_max: u32,
}

impl Rest {
    /// A client of `base` (scheme, host, and a path if the provider is behind one).
    ///
    /// `timeout` bounds each attempt, from the name look-up to the last byte. The connections are `connector`'s, as the
    /// WebSocket's are: either both reach the provider or none.
    ///
    /// # Errors
    ///
    /// [`RestError::Setup`] when `base` is no address, or would carry the key in clear to another machine.
    pub fn new(
        base: &str,
        timeout: Duration,
        api_key: watch::Receiver<SecretString>,
        connector: impl Into<Connector>,
        clock: Arc<Clock>,
    ) -> Result<Self, RestError> {
        let base = Url::parse(base).map_err(|error| RestError::Setup(error.to_string()))?;
        if base.cannot_be_a_base() {
            return Err(RestError::Setup("provider.api_url is not an http address".to_owned()));
        }
        if base.scheme() != "https" && !base.host_str().is_some_and(is_loopback) {
            return Err(RestError::Setup("provider.api_url would send the API key in clear".to_owned()));
        }
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector.into());
        Ok(Self { http, base, timeout, api_key, clock, body_bytes_max: BODY_BYTES_MAX, attempts_max: 1 })
    }

    /// Reads larger answers, if `bytes` is more than [`BODY_BYTES_MAX`].
    pub fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = self.body_bytes_max.max(bytes);
        self
    }

    /// Makes a call that is safe to repeat again, at most twice, when by the provider's answer it may pass (`429`,
    /// `5xx`) or the connection broke. Waits as long as the provider asks, if that is at most a minute.
    pub const fn with_retries(mut self) -> Self {
        self.attempts_max = retry::ATTEMPTS_MAX;
        self
    }

    /// Waits until the key is set again; for ever when nobody can.
    pub async fn key_changed(&self) {
        let mut api_key = self.api_key.clone();
        api_key.mark_unchanged();
        if api_key.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::provider::tls;

    #[test]
    fn a_key_goes_into_the_header_that_is_documented_for_it() {
        for (key, header) in [
            ("ck_live_1", "x-commerce-api-key"),
            ("pk_live_1", "x-api-key"),
            ("sk_live_1", "x-api-key"),
            ("", "x-commerce-api-key"),
        ] {
            assert_eq!(key_header(key), header, "{key}");
        }
    }

    #[test]
    fn plain_text_goes_to_loopback_only() {
        let (_, api_key) = watch::channel(SecretString::from("ck_1"));
        let tls = tls::client_config().unwrap();
        let fits = |base: &str| Rest::new(base, Duration::MAX, api_key.clone(), &tls, Arc::default()).is_ok();
        for base in ["https://api.example.com", "http://localhost:3000/x/", "http://127.0.0.2:1", "http://[::1]:1"] {
            assert!(fits(base), "{base}");
        }
        for base in ["http://api.example.com", "http://10.0.0.1", "http://localhost.example.com", "data:x", "nowhere"] {
            assert!(!fits(base), "{base}");
        }
    }
}

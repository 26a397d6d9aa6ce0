//! What happens below the requests of a listener: counted, and logged in lines that a crowd cannot multiply.

use super::{Metrics, RateLimited};
use crate::labels::{Listener, WebhookCode};
use crate::listener::{Observer, Refusal};
use crate::text::foreign;
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Each of these lines is logged at most this often; it has the number of events. A crowd must not become a crowd of
/// lines.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The connections of one listener, as operators see them.
#[derive(Debug)]
pub struct Connections {
    listener: Listener,
    metrics: Arc<Metrics>,
    cut: Line,
    refused: Line,
    not_accepted: Line,
}

/// One rate-limited line.
#[derive(Debug)]
struct Line(Mutex<RateLimited>);

impl Line {
    const fn new() -> Self {
        Self(Mutex::new(RateLimited::new(LOG_EVERY)))
    }

    /// How many events the line is about, if it may be logged now. Nothing is logged under the lock.
    fn count(&self) -> Option<u64> {
        let mut limited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limited.allow(Instant::now()).map(|unsaid| unsaid.saturating_add(1))
    }
}

impl Connections {
    /// Of `listener`, counted in `metrics`.
    pub fn new(listener: Listener, metrics: Arc<Metrics>) -> Self {
        Self { listener, metrics, cut: Line::new(), refused: Line::new(), not_accepted: Line::new() }
    }
}

impl Observer for Connections {
    fn cut(&self, peer: IpAddr) {
        self.metrics.connection_cut(self.listener);
        let listener = self.listener.as_str();
        tracing::debug!(listener, %peer, "connection cut to make room");
        if let Some(count) = self.cut.count() {
            tracing::warn!(listener, %peer, count, "connections cut to make room");
        }
    }

    fn refused(&self, peer: IpAddr, refusal: Refusal, detail: &dyn Display) {
        self.metrics.connection_refused(self.listener, refusal);
        let listener = self.listener.as_str();
        let reason = refusal.as_str();
        tracing::debug!(listener, %peer, reason, detail = %foreign(&detail.to_string()), "connection refused");
        if let Some(count) = self.refused.count() {
            tracing::warn!(listener, %peer, reason, count, "connections refused");
        }
    }

    fn answered(&self, status: u16) {
        let code = WebhookCode::ALL.into_iter().find(|code| code.as_u16() == status);
        if let Some(code) = code.filter(|_| self.listener == Listener::Webhook) {
            self.metrics.webhook_response(code);
        }
    }

    fn not_accepted(&self, error: &io::Error, short: bool) {
        let listener = self.listener.as_str();
        if !short {
            tracing::debug!(listener, %error, "connection not accepted");
        } else if let Some(count) = self.not_accepted.count() {
            tracing::warn!(listener, %error, count, "no file descriptor for a connection");
        }
    }

    fn cut_draining(&self, connections: usize) {
        tracing::warn!(listener = self.listener.as_str(), connections, "connections cut while draining");
    }
}

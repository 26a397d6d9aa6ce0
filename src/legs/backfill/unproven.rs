//! What the backfill leg does when the provider's log no longer reaches back: it asks for the list of orders, and
//! reports which time cannot be proven and which orders that may concern.
//!
//! It publishes nothing: an order's state is no event. It is bounded in pages, tries and time, and whatever the
//! provider answers, the walk goes on behind it.

use super::reconcile::{Next, PAGE_ORDERS_MAX, Period, Reconciliation};
use super::rounds::RETRY_MIN;
use super::{Backfill, Interrupted};
use crate::clock::rfc3339;
use crate::provider::event::order_of_event;
use crate::provider::page::Page;
use crate::provider::rest::{OrderFilter, OrdersPage, RestError};
use crate::telemetry::Unproven;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

/// Longest time for all pages of orders. The walk waits for it, and with it the mark; live frames wait no longer than
/// `backfill.hold_max`. It is time for thousands of orders, and no provider can hold the relay up for longer.
const WITHIN: Duration = Duration::from_secs(60);

/// Tries of one page: what fails three times in a row is not about to work within the time that is left.
const TRIES_MAX: usize = 3;

/// What a person can do about it.
const REMEDY: &str = "`pepay-relay orders get ORDER` shows the true state of an order";

impl Backfill {
    /// Lists the orders, and reports what cannot be proven. `oldest` is the lowest page of the log that holds events.
    pub(super) async fn tell_unproven(&self, period: Period, oldest: Option<Page>) -> Result<(), Interrupted> {
        let events = oldest.into_iter().flat_map(|page| page.events);
        let shown: HashSet<String> = events.filter_map(|event| order_of_event(&event.bytes)).collect();
        let mut reconciliation = Reconciliation::new(period, shown);
        let listed = tokio::select! {
            () = self.stop.cancelled() => return Err(Interrupted::Stopped),
            listed = self.list_orders(&mut reconciliation) => listed,
        };
        let orders = reconciliation.inside();
        let later = reconciliation.after();
        let Period { from_ms, to_ms } = period;
        let from = rfc3339(from_ms);
        let to = rfc3339(to_ms);
        let account = self.intake.name();
        match &listed {
            Ok(true) if orders == 0 => {
                warn!(account, %from, %to, orders, later, "history does not reach back: no order last changed in that time");
            }
            Ok(complete) => {
                error!(account, %from, %to, orders, later, complete, remedy = REMEDY, "history does not reach back: consumers may have an older state of the orders that last changed in that time");
            }
            Err(error) => {
                error!(account, %from, %to, orders, later, complete = false, %error, remedy = REMEDY, "history does not reach back, and the orders could not be listed: it is unknown which changed in that time");
            }
        }
        for row in reconciliation.named() {
            let order_id = row.known_id().unwrap_or_default();
            let updated_at = row.updated_ms().map(rfc3339);
            error!(account, order_id, updated_at, remedy = REMEDY, "order may be out of date");
        }
        let more = orders.saturating_sub(reconciliation.named().len() as u64);
        if more > 0 {
            error!(
                account,
                more,
                remedy = "`pepay-relay orders list` shows them all",
                "further orders may be out of date"
            );
        }
        self.health.set_unproven(Unproven {
            from_ms,
            to_ms,
            orders: listed.is_ok_and(|complete| complete).then_some(orders),
        });
        Ok(())
    }

    async fn orders_page(&self, offset: usize, limit: usize) -> Result<OrdersPage, RestError> {
        let offset = offset as u64;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Ok(self.rest.orders(&OrderFilter::default(), offset, limit).await?.view)
    }

    /// Asks page by page; whether every order was seen.
    async fn list_orders(&self, reconciliation: &mut Reconciliation) -> Result<bool, RestError> {
        let deadline = Instant::now() + WITHIN;
        let mut limit = PAGE_ORDERS_MAX;
        let mut tries = 0;
        let mut wait = RETRY_MIN;
        loop {
            let offset = match reconciliation.next() {
                Next::Ask { offset } => offset,
                Next::Done { complete } => return Ok(complete),
            };
            let Ok(answer) = timeout_at(deadline, self.orders_page(offset, limit)).await else {
                return Err(RestError::TimedOut);
            };
            let error = match answer {
                Ok(list) => {
                    reconciliation.page(list, limit);
                    tries = 0;
                    wait = RETRY_MIN;
                    continue;
                }
                Err(RestError::TooLarge(_)) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(error) => error,
            };
            tries += 1;
            let pause = match &error {
                RestError::Status { status: 429 | 500.., retry_after, .. } => retry_after.unwrap_or(wait).max(wait),
                RestError::Unreachable(_) | RestError::TimedOut | RestError::Malformed(_) => wait,
                // Refused, or a route that this provider does not have: it will answer the same again.
                _ => return Err(error),
            };
            if tries >= TRIES_MAX || Instant::now() + pause >= deadline {
                return Err(error);
            }
            wait *= 2;
            tokio::time::sleep(pause).await;
        }
    }
}

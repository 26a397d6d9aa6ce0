//! Which events a replay is of.

use super::Replay;
use crate::cli::client::failed;
use crate::exit::Exit;
use crate::normalize::{self, Kind, normalize};
use crate::provider::event::decode;
use crate::provider::page::Listed;
use crate::provider::rest::Rest;

/// Which events of the log are wanted.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Those that occurred in this time, both ends included, in Unix milliseconds.
    Between { from_ms: i64, to_ms: i64 },
    /// Those of an order and of its invoice.
    Of { about: About, settings: normalize::Settings },
}

/// An order, and its invoice where the provider names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct About {
    /// The order's id.
    pub(in crate::cli) order: String,
    /// Its invoice's id.
    pub(in crate::cli) invoice: Option<String>,
}

impl About {
    /// Whether an event is about it; as the relay keys its records.
    pub(in crate::cli) fn has(&self, event: &[u8], settings: &normalize::Settings) -> bool {
        let Ok(event) = decode(event) else { return false };
        let Ok(normalized) = normalize(&event, settings, &mut Vec::new()) else { return false };
        match normalized.kind {
            Kind::Order => normalized.key == self.order,
            Kind::Invoice => self.invoice.as_deref() == Some(&*normalized.key),
        }
    }
}

impl Wanted {
    /// What the command line asks for; the provider is asked for the order's invoice.
    ///
    /// # Errors
    ///
    /// Status 1 when the time ends before it begins, or the provider does not know the order.
    pub(super) async fn of(
        arguments: &Replay,
        rest: &Rest,
        settings: normalize::Settings,
        now_ms: i64,
    ) -> Result<Self, Exit> {
        if let Some(order) = &arguments.order {
            let invoice = rest.order(order).await.map_err(failed)?.view.invoice_id;
            return Ok(Self::Of { about: About { order: order.clone(), invoice }, settings });
        }
        let from_ms = arguments.from.map_or(0, |from| from.unix_ms(now_ms));
        let to_ms = arguments.to.map_or(now_ms, |to| to.unix_ms(now_ms));
        if to_ms < from_ms {
            return Err(Exit::failed("--to lies before --from; no event can occur between them"));
        }
        Ok(Self::Between { from_ms, to_ms })
    }

    /// The time of the oldest event that can be wanted.
    pub(super) const fn mark_ms(&self) -> i64 {
        match self {
            Self::Between { from_ms, .. } => *from_ms,
            Self::Of { .. } => 0,
        }
    }

    /// Whether a log that does not reach back to the mark may miss something.
    pub(super) const fn is_since(&self) -> bool {
        matches!(self, Self::Between { .. })
    }

    /// How much of the way from now down to the mark lies behind at an event of `at_ms`; `None` where all of the log is
    /// gone through, whose end nobody knows.
    pub(super) fn share_behind(&self, at_ms: i64, now_ms: i64) -> Option<f64> {
        let Self::Between { from_ms, .. } = self else { return None };
        #[expect(clippy::cast_precision_loss, reason = "a share for the eye")]
        let share = now_ms.saturating_sub(at_ms) as f64 / now_ms.saturating_sub(*from_ms).max(1) as f64;
        Some(share)
    }

    /// Whether this event, not older than the mark, is wanted.
    pub(super) fn takes(&self, event: &Listed) -> bool {
        match self {
            Self::Between { to_ms, .. } => event.occurred_at_ms.is_none_or(|ms| ms <= *to_ms),
            Self::Of { about, settings } => about.has(&event.bytes, settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Environment;

    #[test]
    fn an_order_has_its_events_and_those_of_its_invoice() {
        let settings = normalize::Settings { environment: Environment::Devnet, drop: Vec::new(), include_raw: false };
        let about = About { order: "o".into(), invoice: Some("i".into()) };
        let has = |kind: &str, object: &str| {
            let text = format!(r#"{{"id":"evt_1-0","object":"event","type":"{kind}","data":{{"object":{object}}}}}"#);
            about.has(text.as_bytes(), &settings)
        };
        assert!(has("commerce.order.updated", r#"{"orderId":"o"}"#));
        assert!(has("invoice.updated", r#"{"id":"i"}"#));
        assert!(has("invoice_payment.created", r#"{"id":"p","invoice_id":"i"}"#));
        assert!(!has("commerce.order.updated", r#"{"orderId":"i"}"#));
        assert!(!has("invoice.updated", r#"{"id":"o"}"#));
        assert!(!has("test.ping", r#"{"id":"o"}"#));
        assert!(!about.has(b"{", &settings));
    }
}

//! Reports when our own clock was stepped, or the machine suspended. Nothing depends on it being noticed: the relay
//! goes by the steady clock and the provider's (`clock`). But records carry our time, and an operator should know.

use super::Metrics;
use crate::clock::{Moment, Noticed, Steps};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A smaller step is counted and no line.
const STEP_SAID_MS: u64 = 5_000;

/// The same for a suspend.
const SUSPEND_SAID: Duration = Duration::from_secs(5);

/// Counts and logs what happens to the clocks until `stop`.
pub async fn watch_clock(metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut steps = Steps::new(Moment::now(), Instant::now());
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => steps.look(Moment::now(), Instant::now()).for_each(|noticed| say(&metrics, noticed)),
        }
    }
}

fn say(metrics: &Metrics, noticed: Noticed) {
    match noticed {
        Noticed::Stepped(ms) => {
            metrics.clock_stepped(Duration::from_millis(ms.unsigned_abs()));
            if ms.unsigned_abs() > STEP_SAID_MS {
                warn!(seconds = ms / 1000, "this machine's clock was stepped");
            }
        }
        Noticed::Suspended(length) => {
            if length > SUSPEND_SAID {
                info!(seconds = length.as_secs(), "this machine was suspended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_by_their_length_in_both_directions_and_suspends_are_not() {
        let metrics = Metrics::new("1");
        let counted = || metrics.text().unwrap_or_default();
        assert!(counted().contains("pepay_relay_clock_step_seconds_total 0.0\n"), "{}", counted());
        say(&metrics, Noticed::Stepped(3_600_000));
        say(&metrics, Noticed::Stepped(-250));
        say(&metrics, Noticed::Suspended(Duration::from_secs(3600)));
        assert!(counted().contains("pepay_relay_clock_step_seconds_total 3600.25\n"), "{}", counted());
    }
}

//! `orders get --watch`: what becomes of one order, a line a change, until it has ended.
//!
//! It looks again and again: an order shows everything, while the stream shows only what happens from then on, and a
//! person who waits for a parcel does not notice two seconds.

use super::{OrdersGet, has_ended, show};
use crate::cli::client::{Client, failed, sentence};
use crate::cli::interrupted;
use crate::cli::output::notice;
use crate::cli::values::{Zone, text};
use crate::exit::Exit;
use crate::provider::rest::{Decoded, Order, RestError};

/// Follows the order from `seen` on. As JSON each changed order is a line, as it came.
pub(super) async fn follow(
    arguments: &OrdersGet,
    mut seen: Decoded<Order>,
    zone: &Zone,
    client: &Client,
) -> Result<(), Exit> {
    let output = client.output;
    if !output.is_json() && !has_ended(&seen.view) {
        output.title("Changes (Ctrl-C ends)")?;
    }
    let mut is_away = false;
    while !has_ended(&seen.view) {
        tokio::select! {
            stopped = interrupted() => return stopped,
            () = tokio::time::sleep(arguments.every) => {}
        }
        let now = match client.rest.order(&arguments.order).await {
            Ok(now) => now,
            Err(error) if may_pass(&error) => {
                if !is_away {
                    notice(&format!("{}; looking on", sentence(&error)))?;
                }
                is_away = true;
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        is_away = false;
        if output.is_json() {
            if now.raw.get() != seen.raw.get() {
                output.raw(&now.raw)?;
            }
        } else {
            let lines = changes(&seen.view, &now.view, zone, output.colour());
            lines.iter().try_for_each(|line| output.line(line))?;
        }
        seen = now;
    }
    Ok(())
}

/// Whether another look may find what this one did not; a person who watches waits.
fn may_pass(error: &RestError) -> bool {
    match error {
        RestError::Unreachable(_) | RestError::TimedOut => true,
        _ => error.status().is_some_and(|status| status == 429 || status >= 500),
    }
}

/// What is different now, a line each.
fn changes(old: &Order, new: &Order, zone: &Zone, colour: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if new.timeline.len() > old.timeline.len() {
        let steps = show::timeline(&new.timeline, zone, colour);
        lines.extend(steps.into_iter().skip(old.timeline.len()));
    }
    let told = [
        ("status", standing(old), standing(new)),
        ("payment", show::payment(old), show::payment(new)),
        ("cancel", text(old.cancellation_status.as_deref()), text(new.cancellation_status.as_deref())),
        ("refund", text(show::refund(old).as_deref()), text(show::refund(new).as_deref())),
    ];
    let changed = told.into_iter().filter(|(_, old, new)| old != new);
    lines.extend(changed.map(|(what, old, new)| format!("  {what}: {old} → {new}")));
    let shipments = |order: &Order| -> Vec<String> {
        order.fulfillment.shipments.iter().flat_map(|one| show::shipment(one, zone)).collect()
    };
    let before = shipments(old);
    lines.extend(shipments(new).into_iter().filter(|line| !before.contains(line)).map(|line| format!("  {line}")));
    lines
}

fn standing(order: &Order) -> String {
    show::standing(order.status.as_deref(), order.substatus.as_deref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::super::show::tests::read;
    use super::*;

    #[test]
    fn what_changed_is_shown_and_nothing_else() {
        let placed = read("placed");
        let shipped = read("shipped");
        let zone = Zone::new(true);
        insta::assert_snapshot!(changes(&placed, &shipped, &zone, false).join("\n"), @"
        ● 2026-01-15 11:30:00 UTC  shipped     Tracking received  after 75m
          status: placed (AWAITING_TRACKING) → shipped
          UPS 1Z999AA10123456784  In Transit
            known since 2026-01-15 11:30:00 UTC
            https://track.example.com/1Z999AA10123456784
        ");
        assert!(changes(&shipped, &shipped, &zone, false).is_empty());
        assert!(changes(&shipped, &read("shipped.unix-seconds"), &zone, false).is_empty());
    }

    #[test]
    fn only_what_may_pass_is_waited_out() {
        assert!(may_pass(&RestError::TimedOut) && may_pass(&RestError::Unreachable(String::new())));
        let answered = |status| RestError::Status {
            status,
            error: crate::provider::errors::parse(b""),
            retry_after: None,
            request_id: None,
        };
        for (status, passes) in [(429, true), (500, true), (503, true), (400, false), (401, false), (404, false)] {
            assert_eq!(may_pass(&answered(status)), passes, "{status}");
        }
    }
}

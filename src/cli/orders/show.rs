//! One order as a person reads it: what it is, its status, what is in it, how it came there, and where the parcels are.

use crate::cli::line::status_style;
use crate::cli::output::{Output, align_right, paint, table};
use crate::cli::values::{NOTHING, Zone, link, text, usd, wallet};
use crate::clock::spelled;
use crate::exit::Exit;
use crate::provider::rest::{ObjectTime, Order, Shipment, TimelineEntry};
use owo_colors::Style;
use std::time::Duration;

/// Prints the order.
pub(super) fn order(order: &Order, zone: &Zone, output: Output) -> Result<(), Exit> {
    output.fields(&head(order, zone, output.colour()))?;
    if !order.line_items.is_empty() {
        output.title("Items")?;
        output.table(&items(order))?;
    }
    if !order.timeline.is_empty() {
        output.title("Timeline")?;
        timeline(&order.timeline, zone, output.colour()).iter().try_for_each(|line| output.line(line))?;
    }
    if !order.fulfillment.shipments.is_empty() {
        output.title("Shipments")?;
        order
            .fulfillment
            .shipments
            .iter()
            .flat_map(|one| shipment(one, zone))
            .try_for_each(|line| output.line(line))?;
    }
    Ok(())
}

/// `placed (AWAITING_TRACKING)`
pub(super) fn standing(status: Option<&str>, substatus: Option<&str>) -> String {
    let status = text(status);
    substatus.map_or_else(|| status.clone(), |substatus| format!("{status} ({})", text(Some(substatus))))
}

/// `paid, settlement settled on bsc`
pub(in crate::cli) fn payment(order: &Order) -> String {
    let payment = &order.payment;
    let settlement = &order.payment.settlement;
    let mut line = text(payment.status.as_deref());
    if let Some(status) = &settlement.status {
        line.push_str(&format!(", settlement {}", text(Some(status))));
    }
    if let Some(network) = &settlement.network {
        line.push_str(&format!(" on {}", text(Some(network))));
    }
    line
}

/// What is known of the refund, if there is any.
pub(super) fn refund(order: &Order) -> Option<String> {
    let refund = &order.refund;
    let status = refund.status.as_deref().or(order.refund_status.as_deref());
    let status = status.filter(|status| !status.eq_ignore_ascii_case("none"))?;
    let mut line = text(Some(status));
    if refund.amount_usd.is_some() {
        let amount = usd(refund.amount_usd.as_ref());
        let fee = usd(refund.fee_usd.as_ref());
        line.push_str(&format!(", {amount} USD after {fee} fee"));
    }
    if let Some(address) = &refund.destination_wallet_address_bsc {
        line.push_str(&format!(", to {}", link(address)));
    }
    Some(line)
}

fn head(order: &Order, zone: &Zone, colour: bool) -> Vec<(&'static str, String)> {
    let status = standing(order.status.as_deref(), order.substatus.as_deref());
    let style = status_style(order.status.as_deref().unwrap_or_default()).bold();
    let mut rows = vec![
        ("order", text(order.order_id.as_deref())),
        ("status", paint(&status, style, colour)),
        ("sold by", format!("{}, {}", text(order.retailer.as_deref()), text(order.network_environment.as_deref()))),
        ("customer", customer(order)),
        (
            "total",
            format!("{} USD, {} of it fee", usd(order.total_amount_usd.as_ref()), usd(order.commerce_fee_usd.as_ref())),
        ),
        ("payment", payment(order)),
        ("invoice", text(order.invoice_id.as_deref())),
    ];
    let asked = order.cancellation_status.as_deref().filter(|status| !status.eq_ignore_ascii_case("none"));
    match (asked, order.actions.can_cancel) {
        (Some(status), _) => rows.push(("cancel", text(Some(status)))),
        (None, Some(true)) => rows.push(("cancel", "possible now".to_owned())),
        (None, _) => {}
    }
    rows.extend(refund(order).map(|refund| ("refund", refund)));
    rows.extend([("made", zone.time(order.created_at)), ("changed", zone.time(order.updated_at))]);
    rows
}

fn customer(order: &Order) -> String {
    let id = order.customer_id.as_deref().map(|id| text(Some(id)));
    let wallet = order.wallet_address.as_deref().map(|address| {
        let network = order.wallet_network.as_deref().map(|network| format!(" on {}", text(Some(network))));
        format!("wallet {}{}", wallet(address), network.unwrap_or_default())
    });
    match (id, wallet) {
        (Some(id), Some(wallet)) => format!("{id}, {wallet}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => NOTHING.to_owned(),
    }
}

fn items(order: &Order) -> comfy_table::Table {
    let mut table = table(["", "product", "title", "USD each", "status"]);
    for item in &order.line_items {
        table.add_row([
            item.quantity.map_or_else(|| NOTHING.to_owned(), |quantity| format!("{quantity} ×")),
            text(item.product_id.as_deref()),
            text(item.title.as_deref()),
            usd(item.price.as_ref()),
            text(item.status.as_deref()),
        ]);
    }
    align_right(&mut table, &[0, 3]);
    table
}

/// A line a step, the last one marked: it is the order's status now. A step that took a minute or more shows how long.
pub(super) fn timeline(steps: &[TimelineEntry], zone: &Zone, colour: bool) -> Vec<String> {
    let width = steps.iter().map(|step| text(step.status.as_deref()).chars().count()).max().unwrap_or_default();
    let line = |(number, step): (usize, &TimelineEntry)| {
        let status = text(step.status.as_deref());
        let mark = if number + 1 == steps.len() { "●" } else { "│" };
        let before = number.checked_sub(1).and_then(|before| steps[before].timestamp);
        let took = step.timestamp.zip(before).and_then(|(at, before)| took(before, at));
        let painted = paint(&status, status_style(&status), colour);
        let padding = width - status.chars().count();
        let line = format!(
            "{mark} {}  {painted}{:padding$}  {}{}",
            zone.time(step.timestamp),
            "",
            step.message.as_deref().map(|message| text(Some(message))).unwrap_or_default(),
            took.map(|took| paint(&format!("  after {took}"), Style::new().dimmed(), colour)).unwrap_or_default(),
        );
        line.trim_end().to_owned()
    };
    steps.iter().enumerate().map(line).collect()
}

/// `11m`, `2h 5m`; `None` below a minute, and where the provider's times go back.
fn took(ObjectTime(before): ObjectTime, ObjectTime(at): ObjectTime) -> Option<String> {
    let seconds = u64::try_from(at.as_second() - before.as_second()).ok()?;
    let minutes = seconds / 60;
    (minutes > 0).then(|| spelled(Duration::from_secs(minutes * 60)))
}

/// Who brings it, how far it is, and where it can be followed.
pub(super) fn shipment(shipment: &Shipment, zone: &Zone) -> Vec<String> {
    let carrier = text(shipment.carrier.as_deref());
    let number = text(shipment.tracking_number.as_deref());
    let mut lines = vec![format!("{carrier} {number}  {}", text(shipment.delivery_status.as_deref()))];
    if shipment.obtained_at.is_some() {
        lines.push(format!("  known since {}", zone.time(shipment.obtained_at)));
    }
    lines.extend(shipment.carrier_tracking_url.as_deref().map(|url| format!("  {}", link(url))));
    lines
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;
    use crate::cli::args::Format;

    /// The order of an example, for those alongside too.
    pub(in crate::cli::orders) fn read(name: &str) -> Order {
        let path = format!("{}/tests/fixtures/rest/order-get.{name}.json", env!("CARGO_MANIFEST_DIR"));
        let answer: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        serde_json::from_value(answer["data"].clone()).unwrap()
    }

    fn fields(order: &Order) -> String {
        head(order, &Zone::new(true), false).iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn steps_show_how_long_they_took_and_parcels_where_they_are() {
        let order = read("shipped");
        let zone = Zone::new(true);
        let lines = timeline(&order.timeline, &zone, false).join("\n");
        insta::assert_snapshot!(lines, @"
        │ 2026-01-15 10:04:00 UTC  processing  Payment confirmed
        │ 2026-01-15 10:15:00 UTC  placed      Retailer order placed  after 11m
        ● 2026-01-15 11:30:00 UTC  shipped     Tracking received  after 75m
        ");
        insta::assert_snapshot!(shipment(&order.fulfillment.shipments[0], &zone).join("\n"), @"
        UPS 1Z999AA10123456784  In Transit
          known since 2026-01-15 11:30:00 UTC
          https://track.example.com/1Z999AA10123456784
        ");
        let coloured = timeline(&order.timeline, &zone, true).join("\n");
        assert!(coloured.contains("\u{1b}[35mshipped\u{1b}[0m"), "{coloured}");
    }

    #[test]
    fn a_refund_and_a_cancellation_are_shown() {
        let refunded = fields(&read("refunded"));
        let refund = "REFUNDED, 25.97 USD after 3.00 fee, to 0x8617E340B3D01FA5F11F306F4090FD50E238070D";
        assert!(refunded.contains(&format!("cancel: cancelled\nrefund: {refund}\n")), "{refunded}");
        assert!(fields(&read("placed")).contains("cancel: possible now\n"));
        assert!(!fields(&read("shipped")).contains("refund") && !fields(&read("shipped")).contains("cancel"));
    }

    #[test]
    fn an_order_with_nothing_in_it_is_shown() {
        let nothing = Order::default();
        assert!(fields(&nothing).contains("order: –\nstatus: –\n"));
        assert!(order(&nothing, &Zone::new(true), Output::stdout(Format::Table)).is_ok());
        assert_eq!(timeline(&[TimelineEntry::default()], &Zone::new(true), false), ["● –  –"]);
        assert_eq!(shipment(&Shipment::default(), &Zone::new(true)), ["– –  –"]);
    }

    #[test]
    fn times_that_go_back_take_nothing() {
        let at = |text: &str| ObjectTime(text.parse().unwrap());
        let noon = at("2026-01-15T12:00:00Z");
        let later = at("2026-01-15T14:05:59Z");
        assert_eq!((took(noon, later).as_deref(), took(later, noon), took(noon, noon)), (Some("2h 5m"), None, None));
    }
}

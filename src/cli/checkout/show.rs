//! The answers of the three steps as a person reads them.

use super::qr;
use crate::cli::output::{Mark, Output, align_right, table};
use crate::cli::values::{NOTHING, Zone, link, text, usd};
use crate::exit::Exit;
use crate::provider::rest::{AddressAnswer, Estimate, InvoiceAnswer};
use clap::ValueEnum;
use serde_json::{Map, Value};

/// When something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Members of an address in the order of an envelope; whatever else the provider adds follows.
const ENVELOPE: [&str; 10] = [
    "first_name",
    "last_name",
    "street_address",
    "address_line2",
    "city",
    "state",
    "zip_code",
    "country",
    "phone",
    "email",
];

/// Members of a standardized address at most; the documented ones are ten.
const MEMBERS_MAX: usize = 30;

/// Step 1: what it costs, and what of it cannot be had, with the reason.
pub(super) fn estimate(estimate: &Estimate, zone: &Zone, output: Output) -> Result<(), Exit> {
    output.fields(&[
        ("estimate", text(estimate.estimate_id.as_deref())),
        ("holds until", zone.time(estimate.expires_at)),
    ])?;
    output.line("")?;
    let mut table = table(["", "product", "title", "USD each", "USD"]);
    for item in &estimate.valid_items {
        table.add_row([
            item.quantity.map_or_else(|| NOTHING.to_owned(), |quantity| format!("{quantity} ×")),
            text(item.product_id.as_deref()),
            text(item.title.as_deref()),
            usd(item.price.as_ref()),
            usd(item.total_price.as_ref()),
        ]);
    }
    let pricing = &estimate.pricing;
    for (name, amount) in [
        ("shipping", &pricing.shipping),
        ("tax", &pricing.tax),
        ("fees", &pricing.fees.total),
        ("total", &pricing.total),
    ] {
        table.add_row(["", "", name, "", &usd(amount.as_ref())]);
    }
    align_right(&mut table, &[0, 3, 4]);
    output.table(&table)?;
    if !estimate.invalid_items.is_empty() {
        output.title("Cannot be bought")?;
    }
    estimate.invalid_items.iter().try_for_each(|item| {
        let product = text(item.product_id.as_deref());
        let retailer = text(item.retailer.as_deref());
        let mark = Mark::Wrong.mark(output.colour());
        output.line(format!("{mark} {product} of {retailer}: {}", text(item.error.as_deref())))
    })?;
    Ok(())
}

/// Step 2: the address as the carrier writes it, and how the goods can be sent.
pub(super) fn address(answer: &AddressAnswer, output: Output) -> Result<(), Exit> {
    let (verdict, said) = match answer.validated {
        Some(true) => (Mark::Ok, "confirmed"),
        Some(false) => (Mark::Wrong, "not confirmed: see that it is right"),
        None => (Mark::Warning, "the provider does not say whether it exists"),
    };
    output.fields(&[
        ("address", text(answer.address_id.as_deref())),
        ("checked", format!("{} {said}", verdict.mark(output.colour()))),
    ])?;
    if let Some(standardized) = &answer.standardized {
        output.title("Standardized")?;
        let members = members(standardized);
        let members: Vec<(&str, String)> = members.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        output.fields(&members)?;
    }
    if !answer.shipping_options.is_empty() {
        output.line("")?;
        let mut table = table(["shipping", "takes", "USD"]);
        for option in &answer.shipping_options {
            let name = option.name.as_deref().or(option.id.as_deref());
            table.add_row([text(name), text(option.estimated_days.as_deref()), usd(option.price.as_ref())]);
        }
        align_right(&mut table, &[2]);
        output.table(&table)?;
    }
    Ok(())
}

/// What is there of an address, an empty member left out.
fn members(address: &Map<String, Value>) -> Vec<(String, String)> {
    let known = ENVELOPE.iter().filter_map(|name| Some((*name, address.get(*name)?)));
    let others = address.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()));
    let all = known.chain(others.map(|(name, value)| (name.as_str(), value)));
    let shown = all.filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::String(value) if value.is_empty() => None,
        Value::String(value) => Some((text(Some(name)), text(Some(value)))),
        other => Some((text(Some(name)), text(Some(&other.to_string())))),
    });
    shown.take(MEMBERS_MAX).collect()
}

/// Step 3: the order, what is to be paid, where and until when, and the link to be scanned.
pub(super) fn invoice(invoice: &InvoiceAnswer, when: When, zone: &Zone, output: Output) -> Result<(), Exit> {
    let url = invoice.invoice_url.as_deref();
    output.fields(&[
        ("order", text(invoice.order_id.as_deref())),
        ("invoice", text(invoice.invoice_id.as_deref())),
        ("to pay", format!("{} USD, {}", usd(invoice.amount.as_ref()), text(invoice.status.as_deref()))),
        ("pay until", zone.time(invoice.expires_at)),
        ("pay at", url.map_or_else(|| NOTHING.to_owned(), link)),
    ])?;
    let wanted = match when {
        When::Auto => output.is_terminal(),
        When::Always => true,
        When::Never => false,
    };
    if let Some(url) = url.filter(|_| wanted) {
        output.line("")?;
        match qr::lines(url, output.colour(), output.columns()) {
            Ok(lines) => lines.iter().try_for_each(|line| output.line(line))?,
            Err(reason) => super::notice(&format!("no QR code: {reason}"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn an_address_is_in_the_order_of_an_envelope() {
        let address: Map<String, Value> = serde_json::from_str(
            r#"{"zip_code":"33101","city":"Miami","verified\u001b":true,"first_name":"Ada","state":null,"phone":""}"#,
        )
        .unwrap();
        let shown = members(&address);
        let shown: Vec<(&str, &str)> = shown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let wanted = [("first_name", "Ada"), ("city", "Miami"), ("zip_code", "33101"), ("verified\\u{1b}", "true")];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn an_address_without_end_is_cut() {
        let address = (0..10_000).map(|number| (number.to_string(), Value::from(1))).collect();
        assert_eq!(members(&address).len(), MEMBERS_MAX);
    }
}

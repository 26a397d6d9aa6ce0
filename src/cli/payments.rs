//! `payments`: the status of the payments of orders.

use super::args::{Times, parse_text};
use super::client::{Client, failed};
use super::output::table;
use super::values::{NOTHING, Zone, link, text, usd};
use crate::exit::Exit;
use crate::provider::rest::PaymentStatus;
use clap::{Args, Subcommand};

/// Subcommands of `payments`.
#[derive(Debug, Subcommand)]
pub enum Payments {
    /// Show the state of orders' payments
    #[command(after_help = "Examples:\n  pepay-relay payments status 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11\n  \
        pepay-relay payments status $(cat orders.txt)     any number, fetched 50 at a time")]
    Status(PaymentsStatus),
}

/// Arguments of `payments status`.
#[derive(Args, Debug)]
pub struct PaymentsStatus {
    /// The orders
    #[arg(value_name = "ORDER", required = true, value_parser = parse_text)]
    pub orders: Vec<String>,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Runs one of the commands of `payments`.
pub(super) async fn run(arguments: &Payments, client: &Client) -> Result<(), Exit> {
    match arguments {
        Payments::Status(arguments) => match arguments.orders.as_slice() {
            [order] => one(order, arguments, client).await,
            orders => many(orders, client).await,
        },
    }
}

/// One order's payment with everything about it.
async fn one(order: &str, arguments: &PaymentsStatus, client: &Client) -> Result<(), Exit> {
    let answer = client.rest.payment_status(order).await.map_err(failed)?;
    let output = client.output;
    if output.is_json() {
        return Ok(output.raw(&answer.raw)?);
    }
    Ok(output.fields(&rows(&answer.view, &Zone::new(arguments.times.utc)))?)
}

fn rows(payment: &PaymentStatus, zone: &Zone) -> Vec<(&'static str, String)> {
    let details = &payment.payment_details;
    let mut rows = vec![
        ("order", format!("{}, {}", text(payment.order_id.as_deref()), text(payment.order_status.as_deref()))),
        ("invoice", text(payment.invoice_id.as_deref())),
        ("payment", text(payment.status.as_deref())),
        ("amount", format!("{} USD", usd(payment.amount.as_ref()))),
    ];
    if let Some(paid_at) = payment.paid_at {
        let token = text(details.token.as_deref());
        let network = text(details.network.as_deref());
        rows.extend([
            ("paid", format!("{}, {} {token} on {network}", zone.time(Some(paid_at)), usd(details.amount.as_ref()))),
            ("wallet", details.wallet_address.as_deref().map_or_else(|| NOTHING.to_owned(), link)),
            ("transaction", details.tx_hash.as_deref().map_or_else(|| NOTHING.to_owned(), link)),
        ]);
    }
    rows
}

/// Many orders, a row each; status 1 when one of them has no payment to show.
async fn many(orders: &[String], client: &Client) -> Result<(), Exit> {
    let answers = client.rest.payment_statuses(orders).await.map_err(failed)?;
    let output = client.output;
    if output.is_json() {
        answers.iter().try_for_each(|answer| output.raw(&answer.raw))?;
    } else {
        let mut table = table(["order", "payment", "why not"]);
        for row in answers.iter().map(|answer| &answer.view) {
            table.add_row([&row.order_id, &row.status, &row.error].map(|cell| text(cell.as_deref())));
        }
        output.table(&table)?;
    }
    let failed = answers.iter().filter(|answer| answer.view.error.is_some()).count();
    // A row that is missing is an order about which nothing was answered.
    match failed + orders.len().saturating_sub(answers.len()) {
        0 => Ok(()),
        wrong => Err(Exit::failed(format!(
            "of {} orders, {wrong} could not be found; check their ids, and that they belong to the key's environment",
            orders.len()
        ))),
    }
}

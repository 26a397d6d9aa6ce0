//! `orders`: list them, show one or follow it, ask for it to be cancelled.

mod show;
mod watch;

use super::args::{Times, When, parse_bsc_address, parse_moment, parse_text};
use super::client::{Client, failed, told};
use super::output::{align_right, notice, table};
use super::values::{NOTHING, Zone, text, usd, wallet};
use crate::clock::now_ms;
use crate::exit::Exit;
use crate::provider::rest::{IdempotencyKey, Order, OrderFilter, OrderRow};
use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use std::pin::pin;
use std::time::Duration;

pub(super) use show::payment;

/// Rows of one page of orders at most; the provider documents the default of 20 and no maximum.
const ORDERS_PAGE_MAX: i64 = 100;

/// Subcommands of `orders`.
#[derive(Debug, Subcommand)]
pub enum Orders {
    /// List orders, newest first
    #[command(after_help = "Examples:\n  pepay-relay orders list --status shipped --from 36h\n  \
        pepay-relay orders list --customer-id cust_8842 --all --output json     one page per line")]
    List(OrdersList),
    /// Show one order: items, timeline, shipments
    #[command(after_help = "Examples:\n  pepay-relay orders get 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11\n  \
        pepay-relay orders get 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 --watch     until it has ended")]
    Get(OrdersGet),
    /// Request the cancellation of an order
    #[command(after_help = "Example:\n  pepay-relay orders cancel 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11\n\n\
        The outcome is reported by later events, and by `orders get --watch`.")]
    Cancel(OrdersCancel),
}

/// Arguments of `orders list`.
#[derive(Args, Debug)]
pub struct OrdersList {
    /// Only orders of this customer
    #[arg(long, value_name = "ID", value_parser = parse_text)]
    pub customer_id: Option<String>,
    /// Only orders of this wallet
    #[arg(long, value_name = "ADDRESS", requires = "wallet_network", value_parser = parse_text)]
    pub wallet_address: Option<String>,
    /// Network of the wallet
    #[arg(long, value_name = "NETWORK", requires = "wallet_address", value_parser = parse_text)]
    pub wallet_network: Option<String>,
    /// Only orders with this status: pending_payment, processing, placed, shipped, delivered, cancelled, failed
    #[arg(long, value_name = "STATUS", value_parser = parse_text)]
    pub status: Option<String>,
    /// Only orders at this retailer
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    pub retailer: Option<String>,
    /// Only orders created since then: a duration ago (`36h`), or a time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub from: Option<When>,
    /// Only orders created until then
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub to: Option<When>,
    /// Maximum number of orders; with --all, orders per page
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=ORDERS_PAGE_MAX))]
    pub limit: u32,
    /// Skip the newest N orders
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u64,
    /// Fetch every page; an order created meanwhile can make another appear twice
    #[arg(long)]
    pub all: bool,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Arguments of `orders get`.
#[derive(Args, Debug)]
pub struct OrdersGet {
    /// The order
    #[arg(value_name = "ORDER", value_parser = parse_text)]
    pub order: String,
    /// Print each change, until the order has ended or Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// With --watch: time between two checks
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = parse_every)]
    pub every: Duration,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// Arguments of `orders cancel`.
#[derive(Args, Debug)]
pub struct OrdersCancel {
    /// The order
    #[arg(value_name = "ORDER", value_parser = parse_text)]
    pub order: String,
    /// Key of this request, generated and printed unless given; the same key is carried out only once
    #[arg(long, value_name = "UUID")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// BSC address for the refund
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bsc_address)]
    pub refund_address: Option<String>,
}

/// Orders of one table at most: its columns are as wide as the widest of all its rows, which are held meanwhile.
const ROWS_MAX: usize = 10_000;

/// Runs one of the commands of `orders`.
pub(super) async fn run(arguments: &Orders, client: &Client) -> Result<(), Exit> {
    match arguments {
        Orders::List(arguments) => list(arguments, client).await,
        Orders::Get(arguments) => get(arguments, client).await,
        Orders::Cancel(arguments) => cancel(arguments, client).await,
    }
}

/// One page, or all of them up to the first short one; as JSON one page per line, as it came.
async fn list(arguments: &OrdersList, client: &Client) -> Result<(), Exit> {
    let filter = filter(arguments, now_ms());
    let limit = arguments.limit;
    let output = client.output;
    let pages_max = if arguments.all { usize::MAX } else { 1 };
    let mut pages = pin!(client.rest.order_pages(&filter, arguments.offset, limit).take(pages_max));
    let mut rows = Vec::new();
    let mut is_full = false;
    while let Some(page) = pages.try_next().await.map_err(failed)? {
        is_full = page.view.is_full(limit);
        if output.is_json() {
            output.raw(&page.raw)?;
            continue;
        }
        rows.extend(page.view.orders);
        if rows.len() > ROWS_MAX {
            let remedy = "narrow the list with filters, or take it with --output json";
            return Err(Exit::failed(format!("more than {ROWS_MAX} orders do not fit a table; {remedy}")));
        }
    }
    if !rows.is_empty() {
        show(&rows, &Zone::new(arguments.times.utc), client)?;
    } else if !output.is_json() {
        notice("no orders; name fewer filters, or see that the key belongs to the environment that you think of")?;
    }
    if is_full && !arguments.all {
        let behind = arguments.offset.saturating_add(u64::from(limit));
        notice(&format!("there may be more: --offset {behind}, or --all"))?;
    }
    Ok(())
}

fn filter(arguments: &OrdersList, now_ms: i64) -> OrderFilter {
    let OrdersList { customer_id, wallet_address, wallet_network, status, retailer, from, to, .. } = arguments;
    // Each end includes its second: from the one that holds the moment, to the one that holds it.
    let seconds = |moment: When| moment.unix_ms(now_ms).div_euclid(1000);
    OrderFilter {
        customer_id: customer_id.clone(),
        wallet: wallet_address.clone().zip(wallet_network.clone()),
        status: status.clone(),
        retailer: retailer.clone(),
        created_from: from.map(seconds),
        created_to: to.map(seconds),
    }
}

fn show(rows: &[OrderRow], zone: &Zone, client: &Client) -> Result<(), Exit> {
    let mut table = table(["made", "order", "status", "customer", "items", "USD"]);
    for row in rows {
        table.add_row([
            zone.minute(row.created_at),
            text(row.order_id.as_deref()),
            text(row.status.as_deref()),
            row.customer_id.as_deref().map_or_else(
                || row.wallet_address.as_deref().map_or_else(|| NOTHING.to_owned(), wallet),
                |id| text(Some(id)),
            ),
            row.item_count.map_or_else(|| NOTHING.to_owned(), |count| count.to_string()),
            usd(row.total.as_ref()),
        ]);
    }
    align_right(&mut table, &[4, 5]);
    Ok(client.output.table(&table)?)
}

/// One order, and with `--watch` what becomes of it.
async fn get(arguments: &OrdersGet, client: &Client) -> Result<(), Exit> {
    let answer = client.rest.order(&arguments.order).await.map_err(failed)?;
    let zone = Zone::new(arguments.times.utc);
    if client.output.is_json() {
        client.output.raw(&answer.raw)?;
    } else {
        show::order(&answer.view, &zone, client.output)?;
    }
    if arguments.watch { watch::follow(arguments, answer, &zone, client).await } else { Ok(()) }
}

/// Asks for the cancellation, once for its key.
async fn cancel(arguments: &OrdersCancel, client: &Client) -> Result<(), Exit> {
    let key = told(arguments.idempotency_key)?;
    let refund = arguments.refund_address.as_deref();
    let answer = client.rest.cancel(&arguments.order, refund, &key).await.map_err(failed)?;
    let output = client.output;
    if output.is_json() {
        return Ok(output.raw(&answer.raw)?);
    }
    let view = &answer.view;
    output.fields(&[
        ("order", text(view.order_id.as_deref())),
        ("status", show::standing(view.status.as_deref(), view.substatus.as_deref())),
        ("asked with", key.to_string()),
    ])?;
    notice("the cancellation is asked for; `orders get ORDER --watch` shows what becomes of it")?;
    Ok(())
}

/// Whether nothing is to be expected any more. Statuses are an open set: an unknown one is no end.
fn has_ended(order: &Order) -> bool {
    let refund = order.refund.status.as_deref().or(order.refund_status.as_deref()).unwrap_or_default();
    match order.status.as_deref() {
        Some("delivered") => true,
        Some("cancelled" | "failed") => !refund.eq_ignore_ascii_case("pending"),
        _ => false,
    }
}

/// The provider counts requests, by a number that it does not give: more than two a second is nobody's need.
fn parse_every(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|every| *every >= Duration::from_millis(500))
        .ok_or_else(|| "expected a duration such as `2s`, at least `500ms`".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn an_order_ends_with_its_refund() {
        for (order, ended) in [
            (r#"{"status":"delivered"}"#, true),
            (r#"{"status":"failed","refund":{"status":"NONE"}}"#, true),
            (r#"{"status":"cancelled","refundStatus":"PENDING"}"#, false),
            (r#"{"status":"cancelled","refundStatus":"PENDING","refund":{"status":"REFUNDED"}}"#, true),
            (r#"{"status":"fulfilled"}"#, false),
            (r#"{"status":"shipped"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(has_ended(&serde_json::from_str(order).unwrap()), ended, "{order}");
        }
    }

    #[test]
    fn an_order_is_not_looked_at_all_the_time() {
        assert_eq!(parse_every("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "2", "0s", "499ms"] {
            assert!(parse_every(wrong).is_err(), "{wrong}");
        }
    }
}

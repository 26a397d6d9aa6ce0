//! Arguments of `products`, `payments`, `orders` and `devnet`; those of `checkout` stand beside.

use super::{Moment, moment};
use crate::provider::rest::IdempotencyKey;
use crate::simulator::Transition;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use std::time::Duration;

/// Rows of one page of orders at most; the provider documents the default of 20 and no maximum.
const ORDERS_PAGE_MAX: i64 = 100;

/// Subcommands of `products`.
#[derive(Debug, Subcommand)]
pub enum Products {
    /// Find products by words
    #[command(after_help = "Example:\n  pepay-relay products search \"usb-c cable\" --limit 5")]
    Search(Search),
}

/// Arguments of `products search`.
#[derive(Args, Debug)]
pub struct Search {
    /// What to look for
    #[arg(value_name = "WORDS", required = true, value_parser = parse_words)]
    pub words: Vec<String>,
    /// So many products at most [default: the provider's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: Option<u32>,
}

/// Subcommands of `payments`.
#[derive(Debug, Subcommand)]
pub enum Payments {
    /// Show how the payments of orders stand
    #[command(after_help = "Examples:\n  pepay-relay payments status 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11\n  \
        pepay-relay payments status $(cat orders.txt)     any number, asked for 50 at a time")]
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

/// Subcommands of `orders`.
#[derive(Debug, Subcommand)]
pub enum Orders {
    /// List orders, newest first
    #[command(after_help = "Examples:\n  pepay-relay orders list --status shipped --from 36h\n  \
        pepay-relay orders list --customer-id cust_8842 --all --output json     one page a line")]
    List(OrdersList),
    /// Show one order: items, timeline, shipments
    #[command(after_help = "Examples:\n  pepay-relay orders get 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11\n  \
        pepay-relay orders get 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 --watch     until it has ended")]
    Get(OrdersGet),
    /// Ask for an order to be cancelled
    #[command(after_help = "Example:\n  pepay-relay orders cancel 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11\n\n\
        What becomes of it is told by later events, and by `orders get --watch`.")]
    Cancel(OrdersCancel),
}

/// Arguments of `orders list`.
#[derive(Args, Debug)]
pub struct OrdersList {
    /// Only of this customer
    #[arg(long, value_name = "ID", value_parser = parse_text)]
    pub customer_id: Option<String>,
    /// Only of this wallet
    #[arg(long, value_name = "ADDRESS", requires = "wallet_network", value_parser = parse_text)]
    pub wallet_address: Option<String>,
    /// Network of the wallet
    #[arg(long, value_name = "NETWORK", requires = "wallet_address", value_parser = parse_text)]
    pub wallet_network: Option<String>,
    /// Only in this state: pending_payment, processing, placed, shipped, delivered, cancelled, failed
    #[arg(long, value_name = "STATUS", value_parser = parse_text)]
    pub status: Option<String>,
    /// Only at this retailer
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    pub retailer: Option<String>,
    /// Only made since then: so long ago (`36h`), or a time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub from: Option<Moment>,
    /// Only made until then
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub to: Option<Moment>,
    /// So many orders at most; with --all so many a page
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=ORDERS_PAGE_MAX))]
    pub limit: u32,
    /// Leave out so many of the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u64,
    /// Every page; an order that is made meanwhile may show another one twice
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
    /// Go on to tell each change, until the order has ended or Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// With --watch: time between two looks
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
    /// Key of this very request, made and printed unless given: with the same key it is one request
    #[arg(long, value_name = "UUID")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// BSC address that the refund goes to
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bsc_address)]
    pub refund_address: Option<String>,
}

/// Subcommands of `devnet`.
#[derive(Debug, Subcommand)]
pub enum Devnet {
    /// Take a step of an order's life
    #[command(after_help = "Examples:\n  \
        pepay-relay devnet simulate 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 payment_confirmed --wallet-network bsc\n  \
        pepay-relay devnet simulate 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 shipped --carrier UPS\n\n\
        An order goes payment_confirmed, payment_settled, placed, shipped, delivery_confirmed; failed is reached from\n\
        processing alone, cancelled from placed alone, and refunded needs a BSC address for the refund.")]
    Simulate(Simulate),
}

/// Arguments of `devnet simulate`.
#[derive(Args, Debug)]
pub struct Simulate {
    /// The order
    #[arg(value_name = "ORDER", value_parser = parse_text)]
    pub order: String,
    /// The step
    #[arg(value_name = "TRANSITION", value_parser = transition_parser())]
    pub transition: String,
    /// Network of the payer's wallet, for payment_confirmed
    #[arg(long, value_name = "NETWORK", value_parser = parse_text)]
    pub wallet_network: Option<String>,
    /// The payer's wallet, for payment_confirmed
    #[arg(long, value_name = "ADDRESS", value_parser = parse_text)]
    pub wallet_address: Option<String>,
    /// Who brings the parcel, for shipped
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    pub carrier: Option<String>,
    /// Number of the parcel, for shipped
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub tracking_number: Option<String>,
}

/// How times are shown.
#[derive(Args, Clone, Copy, Debug)]
pub struct Times {
    /// Show times in UTC instead of the local zone
    #[arg(long)]
    pub utc: bool,
}

fn transition_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Transition::ALL.map(Transition::as_str))
}

/// An empty id would be another request: the list instead of the thing, or nobody's.
pub(super) fn parse_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn parse_words(text: &str) -> Result<String, String> {
    parse_text(text).map_err(|empty| format!("{empty}; say what to look for, such as `usb-c cable`"))
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    moment(text).ok_or_else(|| "expected a duration such as `36h`, or a time such as `2026-01-15T10:00:00Z`".to_owned())
}

/// As the provider documents it for refunds; a wrong one is noticed here, before the money is on its way.
pub(super) fn parse_bsc_address(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
    match digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
        true => Ok(text.to_owned()),
        false => Err("expected a BSC address: 0x and 40 hexadecimal digits".to_owned()),
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
    use super::*;

    #[test]
    fn a_bsc_address_has_forty_digits() {
        assert!(parse_bsc_address("0x52908400098527886E0F7030069857D2E4169EE7").is_ok());
        for wrong in ["", "0x", "52908400098527886E0F7030069857D2E4169EE7", "0x52908400098527886E0F7030069857D2E4169EE"]
        {
            assert!(parse_bsc_address(wrong).is_err(), "{wrong}");
        }
        assert!(parse_bsc_address("0x5290840009852788ä0F7030069857D2E4169EE7").is_err());
    }

    #[test]
    fn an_order_is_not_looked_at_all_the_time() {
        assert_eq!(parse_every("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "2", "0s", "499ms"] {
            assert!(parse_every(wrong).is_err(), "{wrong}");
        }
    }
}

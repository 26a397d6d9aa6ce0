//! Arguments of `checkout`.

use super::commerce::{Times, parse_bsc_address, parse_text};
use crate::provider::rest::IdempotencyKey;
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use serde::Deserialize;
use std::path::PathBuf;

/// Subcommands of `checkout`.
#[derive(Debug, Subcommand)]
pub enum Checkout {
    /// Step 1: price what is wanted
    #[command(
        after_help = "Examples:\n  pepay-relay checkout estimate B0D7KX91QZ:2 B09VHP63LD --customer-id cust_8842\n  \
        pepay-relay checkout estimate B0D7KX91QZ --wallet-address 0x5290…9EE7 --wallet-network bsc\n\n\
        An estimate holds 15 minutes; an order is worth at most 2,500 USD."
    )]
    Estimate(Estimate),
    /// Step 2: say where it goes
    #[command(after_help = "Examples:\n  pepay-relay checkout address --estimate-id ID --address-file home.toml\n  \
        pepay-relay checkout address --estimate-id ID --address-file home.toml --address-line2 \"Suite 2\"\n\n\
        The file is TOML or JSON, with members named like the options: first_name, street_address, …")]
    Address(Address),
    /// Step 3: make the order and its invoice
    #[command(after_help = "Example:\n  pepay-relay checkout invoice --estimate-id ID --address-id ID\n\n\
        An invoice can be paid for about 30 minutes; make a new one for each attempt.")]
    Invoice(Invoice),
    /// All three steps
    #[command(after_help = "Example:\n  \
        pepay-relay checkout create B0D7KX91QZ:2 --customer-id cust_8842 --address-file home.toml\n\n\
        Nothing is ordered when something of it cannot be bought, unless --partial, or when the provider does not\n\
        confirm the address. An invoice can be paid for about 30 minutes.")]
    Create(Create),
}

/// Who buys, in exactly one of the two documented ways; in neither, `commerce.customer_id`.
#[derive(Args, Debug)]
#[command(next_help_heading = "Customer (default: `commerce.customer_id`)")]
pub struct Customer {
    /// Your own id of the customer
    #[arg(long, value_name = "ID", conflicts_with_all = ["wallet_address", "wallet_network"], value_parser = parse_text)]
    pub customer_id: Option<String>,
    /// Or the customer's wallet
    #[arg(long, value_name = "ADDRESS", requires = "wallet_network", value_parser = parse_text)]
    pub wallet_address: Option<String>,
    /// Network of the wallet: bsc, solana, base, ethereum, …
    #[arg(long, value_name = "NETWORK", requires = "wallet_address", value_parser = parse_text)]
    pub wallet_network: Option<String>,
}

/// Arguments of `checkout estimate`.
#[derive(Args, Debug)]
pub struct Estimate {
    /// What is wanted.
    #[command(flatten)]
    pub cart: Cart,
    /// Who buys.
    #[command(flatten)]
    pub customer: Customer,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// What is wanted.
#[derive(Args, Debug)]
pub struct Cart {
    /// A product of `products search`, and how many of it
    #[arg(value_name = "PRODUCT[:QUANTITY]", required = true, value_parser = parse_wanted)]
    pub items: Vec<Wanted>,
    /// Who sells it
    #[arg(long, value_name = "NAME", default_value = "amazon", value_parser = parse_text)]
    pub retailer: String,
}

/// One line of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The retailer's id.
    pub product_id: String,
    /// How many pieces, at least one.
    pub quantity: u32,
}

/// Arguments of `checkout address`.
#[derive(Args, Debug)]
pub struct Address {
    /// The estimate of step 1
    #[arg(long, value_name = "ID", value_parser = parse_text)]
    pub estimate_id: String,
    /// Where the goods go.
    #[command(flatten)]
    pub destination: Destination,
    /// Who buys.
    #[command(flatten)]
    pub customer: Customer,
}

/// Where the goods go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Address")]
pub struct Destination {
    /// File with the address, TOML or JSON; `-`: stdin. It keeps the address out of the list of processes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub address_file: Option<PathBuf>,
    /// The address itself, or parts of it.
    #[command(flatten)]
    pub parts: AddressParts,
}

/// Parts of an address, from options or from a file; an option wins.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct AddressParts {
    /// First name
    #[arg(long, value_name = "NAME")]
    pub first_name: Option<String>,
    /// Last name
    #[arg(long, value_name = "NAME")]
    pub last_name: Option<String>,
    /// Street and number
    #[arg(long, value_name = "TEXT")]
    pub street_address: Option<String>,
    /// Suite, floor, and so on
    #[arg(long, value_name = "TEXT")]
    pub address_line2: Option<String>,
    /// City
    #[arg(long, value_name = "NAME")]
    pub city: Option<String>,
    /// State or province
    #[arg(long, value_name = "CODE")]
    pub state: Option<String>,
    /// Postal code
    #[arg(long, value_name = "CODE")]
    pub zip_code: Option<String>,
    /// Country, such as US
    #[arg(long, value_name = "CODE")]
    pub country: Option<String>,
    /// Telephone, such as +13055550100
    #[arg(long, value_name = "NUMBER")]
    pub phone: Option<String>,
    /// E-mail address
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
}

/// Arguments of `checkout invoice`.
#[derive(Args, Debug)]
pub struct Invoice {
    /// The estimate of step 1
    #[arg(long, value_name = "ID", value_parser = parse_text)]
    pub estimate_id: String,
    /// The address of step 2
    #[arg(long, value_name = "ID", value_parser = parse_text)]
    pub address_id: String,
    /// How the order is made and shown.
    #[command(flatten)]
    pub order: Ordering,
    /// Who buys.
    #[command(flatten)]
    pub customer: Customer,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// How an order is made and shown.
#[derive(Args, Debug)]
pub struct Ordering {
    /// BSC address that a refund may go to; an order not paid from BSC cannot be refunded without one
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bsc_address)]
    pub refund_address: Option<String>,
    /// Key of this very request, made and printed unless given: with the same key it is carried out once
    #[arg(long, value_name = "UUID")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whether the pay link is drawn as a QR code: `auto` (on a terminal), `always` or `never`
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub qr: When,
}

/// When something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// Arguments of `checkout create`.
#[derive(Args, Debug)]
pub struct Create {
    /// What is wanted.
    #[command(flatten)]
    pub cart: Cart,
    /// Order the rest when something of it cannot be bought
    #[arg(long)]
    pub partial: bool,
    /// How the order is made and shown.
    #[command(flatten)]
    pub order: Ordering,
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
    /// Who buys.
    #[command(flatten)]
    pub customer: Customer,
    /// Where the goods go.
    #[command(flatten)]
    pub destination: Destination,
}

fn parse_wanted(text: &str) -> Result<Wanted, String> {
    let (product_id, quantity) = text.rsplit_once(':').unwrap_or((text, "1"));
    let quantity = quantity.parse().ok().filter(|quantity| *quantity > 0);
    match quantity {
        Some(quantity) if !product_id.trim().is_empty() => Ok(Wanted { product_id: product_id.to_owned(), quantity }),
        _ => Err("expected a product, or a product and how many: `B0D7KX91QZ:2`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_product_has_a_quantity() {
        let wanted = |product_id: &str, quantity| Ok(Wanted { product_id: product_id.to_owned(), quantity });
        assert_eq!(parse_wanted("B0D7KX91QZ"), wanted("B0D7KX91QZ", 1));
        assert_eq!(parse_wanted("B0D7KX91QZ:12"), wanted("B0D7KX91QZ", 12));
        assert_eq!(parse_wanted("urn:thing:3"), wanted("urn:thing", 3));
        for wrong in ["", ":", ":2", "B0D7KX91QZ:", "B0D7KX91QZ:0", "B0D7KX91QZ:-1", "B0D7KX91QZ:1.5", " :1"] {
            assert!(parse_wanted(wrong).is_err(), "{wrong}");
        }
    }
}

//! `checkout`: from products to an order with its invoice, step by step or at once.

mod address;
mod qr;
mod show;

use super::args::{Times, parse_bsc_address, parse_text};
use super::client::{Client, failed, told};
use super::output::notice;
use super::values::Zone;
use crate::exit::Exit;
use crate::provider::rest::{self, Decoded, IdempotencyKey, InvoiceAnswer, Item};
use crate::text::foreign;
use address::Destination;
use clap::{Args, Subcommand};
use serde_json::Number;
use show::When;

/// Subcommands of `checkout`.
#[derive(Debug, Subcommand)]
pub enum Checkout {
    /// Step 1: get prices
    #[command(
        after_help = "Examples:\n  pepay-relay checkout estimate B0D7KX91QZ:2 B09VHP63LD --customer-id cust_8842\n  \
        pepay-relay checkout estimate B0D7KX91QZ --wallet-address 0x5290…9EE7 --wallet-network bsc\n\n\
        Titles and prices are looked up unless they are given; the provider charges its own prices.\n\
        An estimate is valid for 15 minutes; an order is limited to 2,500 USD."
    )]
    Estimate(Estimate),
    /// Step 2: give the shipping address
    #[command(after_help = "Examples:\n  pepay-relay checkout address --estimate-id ID --address-file home.toml\n  \
        pepay-relay checkout address --estimate-id ID --address-file home.toml --address-line2 \"Suite 2\"\n\n\
        The file is TOML or JSON, with members named like the options: first_name, street_address, …")]
    Address(Address),
    /// Step 3: create the order and its invoice
    #[command(after_help = "Example:\n  pepay-relay checkout invoice --estimate-id ID --address-id ID\n\n\
        An invoice can be paid for about 30 minutes; create a new one for each attempt.")]
    Invoice(Invoice),
    /// Do all three steps
    #[command(after_help = "Example:\n  \
        pepay-relay checkout create B0D7KX91QZ:2 --customer-id cust_8842 --address-file home.toml\n\n\
        Nothing is ordered when a product cannot be bought (unless --partial is given), or when the provider\n\
        does not confirm the address. An invoice can be paid for about 30 minutes.")]
    Create(Create),
}

/// Who buys, in exactly one of the two documented ways; in neither, `commerce.customer_id`.
#[derive(Args, Debug)]
#[command(next_help_heading = "Customer (default: `commerce.customer_id`)")]
pub struct Customer {
    /// Your own id of the customer
    #[arg(long, value_name = "ID", conflicts_with_all = ["wallet_address", "wallet_network"], value_parser = parse_text)]
    pub customer_id: Option<String>,
    /// The customer's wallet, in place of an id
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
    /// Product id from `products search`, and how many to buy
    #[arg(value_name = "PRODUCT[:QUANTITY]", required = true, value_parser = parse_wanted)]
    pub items: Vec<Wanted>,
    /// Retailer that sells it
    #[arg(long, value_name = "NAME", default_value = "amazon", value_parser = parse_text)]
    pub retailer: String,
    /// Title of the product, looked up unless given; once per product, in the same order
    #[arg(long = "title", value_name = "TEXT", value_parser = parse_text)]
    pub titles: Vec<String>,
    /// Price of one in USD, looked up unless given; once per product, in the same order
    #[arg(long = "price", value_name = "USD", value_parser = parse_price)]
    pub prices: Vec<Number>,
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
    /// BSC address for a refund; without one, an order not paid from BSC cannot be refunded
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bsc_address)]
    pub refund_address: Option<String>,
    /// Key of this request, generated and printed unless given; the same key is carried out only once
    #[arg(long, value_name = "UUID")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// When to draw the pay link as a QR code
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub qr: When,
}

/// Arguments of `checkout create`.
#[derive(Args, Debug)]
pub struct Create {
    /// What is wanted.
    #[command(flatten)]
    pub cart: Cart,
    /// Order the rest when some products cannot be bought
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

/// Runs one of the commands of `checkout`.
pub(super) async fn run(arguments: &Checkout, client: &Client) -> Result<(), Exit> {
    match arguments {
        Checkout::Estimate(arguments) => estimate(arguments, client).await,
        Checkout::Address(arguments) => address(arguments, client).await,
        Checkout::Invoice(arguments) => invoice(arguments, client).await,
        Checkout::Create(arguments) => create(arguments, client).await,
    }
}

async fn estimate(arguments: &Estimate, client: &Client) -> Result<(), Exit> {
    let customer = customer(&arguments.customer, client)?;
    let answer = priced(&arguments.cart, &customer, &Zone::new(arguments.times.utc), client).await?;
    let view = &answer.view;
    if view.valid_items.is_empty() && !view.invalid_items.is_empty() {
        return Err(Exit::failed("nothing of it can be bought; choose other products with `products search`"));
    }
    Ok(())
}

async fn address(arguments: &Address, client: &Client) -> Result<(), Exit> {
    let customer = customer(&arguments.customer, client)?;
    let address = address::read(&arguments.destination)?;
    sent_to(&address, &arguments.estimate_id, &customer, client).await.map(drop)
}

async fn invoice(arguments: &Invoice, client: &Client) -> Result<(), Exit> {
    let Invoice { estimate_id, address_id, order, times, .. } = arguments;
    let customer = customer(&arguments.customer, client)?;
    ordered(estimate_id, address_id, order, &customer, &Zone::new(times.utc), client).await
}

/// All three steps, in which nobody is asked: whatever is not as it was wanted ends it before an order is made.
async fn create(arguments: &Create, client: &Client) -> Result<(), Exit> {
    let customer = customer(&arguments.customer, client)?;
    let address = address::read(&arguments.destination)?;
    let zone = Zone::new(arguments.times.utc);
    heading("1. Estimate", client)?;
    let estimate = priced(&arguments.cart, &customer, &zone, client).await?.view;
    let valid = estimate.valid_items.len();
    let invalid = estimate.invalid_items.len();
    if valid == 0 {
        return Err(Exit::failed("nothing is ordered: none of it can be bought; see `products search`"));
    }
    if invalid > 0 && !arguments.partial {
        return Err(Exit::failed(format!(
            "nothing is ordered: {invalid} of {} cannot be bought; leave it out, or order the rest with --partial",
            valid + invalid
        )));
    }
    let estimate_id = estimate.estimate_id.ok_or_else(|| nameless("estimate"))?;
    heading("2. Address", client)?;
    let placed = sent_to(&address, &estimate_id, &customer, client).await?;
    if placed.validated == Some(false) {
        return Err(Exit::failed(
            "nothing is ordered: the provider does not confirm the address; correct it, or go on with `checkout invoice`",
        ));
    }
    let address_id = placed.address_id.ok_or_else(|| nameless("address"))?;
    heading("3. Invoice", client)?;
    ordered(&estimate_id, &address_id, &arguments.order, &customer, &zone, client).await
}

/// Who buys: named on the command line, else in the settings, so that it stays the same for one shop.
fn customer(arguments: &Customer, client: &Client) -> Result<rest::Customer, Exit> {
    let Customer { customer_id, wallet_address, wallet_network } = arguments;
    match (customer_id, wallet_address, wallet_network, &client.config.commerce.customer_id) {
        (Some(id), ..) => Ok(rest::Customer::Id(id.clone())),
        (None, Some(address), Some(network), _) => {
            Ok(rest::Customer::Wallet { address: address.clone(), network: network.clone() })
        }
        (None, _, _, Some(id)) => Ok(rest::Customer::Id(id.clone())),
        (None, _, _, None) => Err(Exit::usage(
            "no customer is given; use --customer-id, or --wallet-address with --wallet-network, or set \
             commerce.customer_id",
        )),
    }
}

/// The lines of a cart, as far as the command line gives them.
fn wanted(cart: &Cart) -> Result<Vec<Item>, Exit> {
    let count = cart.items.len();
    for (name, given) in [("--title", cart.titles.len()), ("--price", cart.prices.len())] {
        if given != 0 && given != count {
            return Err(Exit::usage(format!(
                "{name} is given once per product, in their order: {count} products, but {name} {given} times"
            )));
        }
    }
    let item = |(at, wanted): (usize, &Wanted)| Item {
        product_id: wanted.product_id.clone(),
        retailer: cart.retailer.clone(),
        quantity: wanted.quantity,
        title: cart.titles.get(at).cloned(),
        price: cart.prices.get(at).cloned(),
    };
    Ok(cart.items.iter().enumerate().map(item).collect())
}

/// Step 1, shown.
async fn priced(
    cart: &Cart,
    customer: &rest::Customer,
    zone: &Zone,
    client: &Client,
) -> Result<Decoded<rest::Estimate>, Exit> {
    let mut items = Vec::new();
    for item in wanted(cart)? {
        let item = client.rest.completed(item).await.map_err(failed)?;
        if !item.is_whole() {
            let product = foreign(&item.product_id);
            notice(&format!("{product}: the provider does not show its title and price; give --title and --price"))?;
        }
        items.push(item);
    }
    let answer = client.rest.estimate(customer, &items).await.map_err(failed)?;
    if client.output.is_json() {
        client.output.raw(&answer.raw)?;
    } else {
        show::estimate(&answer.view, zone, client.output)?;
    }
    Ok(answer)
}

/// Step 2, shown.
async fn sent_to(
    address: &rest::Address,
    estimate_id: &str,
    customer: &rest::Customer,
    client: &Client,
) -> Result<rest::AddressAnswer, Exit> {
    let answer = client.rest.address(customer, estimate_id, address).await.map_err(failed)?;
    if client.output.is_json() {
        client.output.raw(&answer.raw)?;
    } else {
        show::address(&answer.view, client.output)?;
    }
    Ok(answer.view)
}

/// Step 3, shown.
async fn ordered(
    estimate_id: &str,
    address_id: &str,
    order: &Ordering,
    customer: &rest::Customer,
    zone: &Zone,
    client: &Client,
) -> Result<(), Exit> {
    let key: IdempotencyKey = told(order.idempotency_key)?;
    let refund = order.refund_address.as_deref();
    let answer: Decoded<InvoiceAnswer> =
        client.rest.invoice(customer, estimate_id, address_id, refund, &key).await.map_err(failed)?;
    if client.output.is_json() {
        return Ok(client.output.raw(&answer.raw)?);
    }
    show::invoice(&answer.view, order.qr, zone, client.output)?;
    notice("an invoice can be paid for about 30 minutes; `orders get ORDER --watch` shows when it is paid")?;
    Ok(())
}

fn heading(title: &str, client: &Client) -> Result<(), Exit> {
    if client.output.is_json() { Ok(()) } else { Ok(client.output.title(title)?) }
}

fn nameless(what: &str) -> Exit {
    Exit::failed(format!("nothing is ordered: the provider gave its {what} no id; try again, or ask its support"))
}

fn parse_wanted(text: &str) -> Result<Wanted, String> {
    let (product_id, quantity) = text.rsplit_once(':').unwrap_or((text, "1"));
    let quantity = quantity.parse().ok().filter(|quantity| *quantity > 0);
    match quantity {
        Some(quantity) if !product_id.trim().is_empty() => Ok(Wanted { product_id: product_id.to_owned(), quantity }),
        _ => Err("expected a product, or a product and how many: `B0D7KX91QZ:2`".to_owned()),
    }
}

/// As the provider writes amounts: a number without sign and exponent.
fn parse_price(text: &str) -> Result<Number, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain).ok_or_else(|| "expected an amount in USD: `11.49`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_plain_amount() {
        for right in ["11.49", "11.490", "0", "2500"] {
            assert_eq!(parse_price(right).map(|price| price.to_string()), Ok(right.to_owned()));
        }
        for wrong in ["", "11,49", "-1", "+1", "1e3", ".5", "5.", "011", "11.49 USD", "1.2.3", "NaN"] {
            assert!(parse_price(wrong).is_err(), "{wrong}");
        }
    }

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

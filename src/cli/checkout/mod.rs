//! `checkout`: from products to an order with its invoice, step by step or at once.

mod address;
mod qr;
mod show;

use super::args::checkout::{
    Address, Cart, Checkout, Create, Customer as CustomerArguments, Estimate, Invoice, Ordering,
};
use super::client::{Client, failed, told};
use super::output::notice;
use super::values::Zone;
use crate::exit::Exit;
use crate::provider::rest::{self, Answer, Customer, IdempotencyKey, InvoiceAnswer, Item};

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
fn customer(arguments: &CustomerArguments, client: &Client) -> Result<Customer, Exit> {
    let CustomerArguments { customer_id, wallet_address, wallet_network } = arguments;
    match (customer_id, wallet_address, wallet_network, &client.config.commerce.customer_id) {
        (Some(id), ..) => Ok(Customer::Id(id.clone())),
        (None, Some(address), Some(network), _) => {
            Ok(Customer::Wallet { address: address.clone(), network: network.clone() })
        }
        (None, _, _, Some(id)) => Ok(Customer::Id(id.clone())),
        (None, _, _, None) => Err(Exit::usage(
            "nobody is named who buys; give --customer-id, or --wallet-address with --wallet-network, or set \
             commerce.customer_id",
        )),
    }
}

/// Step 1, shown.
async fn priced(
    cart: &Cart,
    customer: &Customer,
    zone: &Zone,
    client: &Client,
) -> Result<Answer<rest::Estimate>, Exit> {
    let items: Vec<Item> = cart
        .items
        .iter()
        .map(|wanted| Item {
            product_id: wanted.product_id.clone(),
            retailer: cart.retailer.clone(),
            quantity: wanted.quantity,
            title: None,
            price: None,
        })
        .collect();
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
    customer: &Customer,
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
    customer: &Customer,
    zone: &Zone,
    client: &Client,
) -> Result<(), Exit> {
    let key: IdempotencyKey = told(order.idempotency_key)?;
    let refund = order.refund_address.as_deref();
    let answer: Answer<InvoiceAnswer> =
        client.rest.invoice(customer, estimate_id, address_id, refund, &key).await.map_err(failed)?;
    if client.output.is_json() {
        return Ok(client.output.raw(&answer.raw)?);
    }
    show::invoice(&answer.view, order.qr, zone, client.output)?;
    notice("an invoice can be paid for about 30 minutes; `orders get ORDER --watch` tells when it is")?;
    Ok(())
}

fn heading(title: &str, client: &Client) -> Result<(), Exit> {
    if client.output.is_json() { Ok(()) } else { Ok(client.output.title(title)?) }
}

fn nameless(what: &str) -> Exit {
    Exit::failed(format!("nothing is ordered: the provider gave its {what} no id; try again, or ask its support"))
}

//! The checklist's rows of the provider: buying, looking at orders, and their life on devnet.

use super::report::Wrong;
use crate::cli::replay::About;
use crate::provider::rest::{Address, Customer, IdempotencyKey, Item, OrderFilter, Rest, Simulation};
use crate::text::foreign;

/// Products of a search that are looked at.
const FOUND_MAX: u32 = 5;

/// Rows of the list of orders in which the one just made must be.
const LISTED_MAX: u32 = 20;

/// Who pays and where a refund goes, on a test network: an address that nobody needs to own (`EIP-55`'s zero is refused).
const PAYER: &str = "0x1111111111111111111111111111111111111111";

/// A life on devnet: each transition, and whether it is allowed in that state.
type Life = &'static [(&'static str, bool)];

/// Three lives that take all eight transitions, each refused at least outside of its state where that is documented
/// (`api-reference/commerce--devnet-simulator/simulate-a-commerce-order-transition-devnet-only`).
pub(super) const LIVES: [(Life, &str); 3] = [
    (
        &[
            ("shipped", false),
            ("refunded", false),
            ("payment_confirmed", true),
            ("payment_confirmed", false),
            ("payment_settled", true),
            ("placed", true),
            ("delivery_confirmed", false),
            ("shipped", true),
            ("delivery_confirmed", true),
            ("cancelled", false),
        ],
        "delivered",
    ),
    (
        &[
            ("payment_confirmed", true),
            ("placed", false),
            ("payment_settled", true),
            ("placed", true),
            ("failed", false),
            ("cancelled", true),
            ("refunded", true),
        ],
        "cancelled",
    ),
    (&[("payment_confirmed", true), ("failed", true), ("payment_settled", false)], "failed"),
];

/// Takes a checkout from search to invoice.
pub(super) async fn buy(rest: &Rest, customer: &Customer, words: &str) -> Result<About, Wrong> {
    let found = rest.search(words, Some(FOUND_MAX)).await?.view;
    let product_id = found.into_iter().find_map(|product| product.product_id).ok_or_else(|| {
        Wrong::new(format!("no product is found for `{}`", foreign(words)), "name one that is sold with --product")
    })?;
    let item = Item { product_id, retailer: "amazon".to_owned(), quantity: 1, title: None, price: None };
    let item = rest.completed(item).await?;
    let estimate = rest.estimate(customer, &[item]).await?.view;
    let lacks = |what: &str| Wrong::new(format!("the answer has no {what}"), "give it to the provider's support");
    if estimate.valid_items.is_empty() {
        let why = estimate.invalid_items.first().and_then(|item| item.error.as_deref()).unwrap_or("no reason given");
        let message = format!("the product found cannot be bought: {}", foreign(why));
        return Err(Wrong::new(message, "name another with --product"));
    }
    let estimate_id = estimate.estimate_id.ok_or_else(|| lacks("estimate id"))?;
    let address = rest.address(customer, &estimate_id, &address()).await?.view.address_id;
    let address_id = address.ok_or_else(|| lacks("address id"))?;
    let key = IdempotencyKey::random();
    let made = rest.invoice(customer, &estimate_id, &address_id, Some(PAYER), &key).await?.view;
    let order = made.order_id.ok_or_else(|| lacks("order id"))?;
    if made.invoice_url.is_none() {
        return Err(lacks("page to pay at"));
    }
    let again = rest.invoice(customer, &estimate_id, &address_id, Some(PAYER), &key).await?.view;
    if again.order_id.as_deref() != Some(&*order) {
        return Err(Wrong::new("one idempotency key made two orders", "give it to the provider's support"));
    }
    Ok(About { order, invoice: made.invoice_id })
}

/// An address that exists, in the provider's own form.
fn address() -> Address {
    Address {
        first_name: "Smoke".to_owned(),
        last_name: "Test".to_owned(),
        street_address: "350 Fifth Avenue".to_owned(),
        city: "New York".to_owned(),
        state: Some("NY".to_owned()),
        zip_code: "10118".to_owned(),
        country: "US".to_owned(),
        phone: Some("+12125550100".to_owned()),
        email: Some("smoke@example.com".to_owned()),
        address_line2: None,
    }
}

/// The list, the order, the order of its invoice and its payment agree on what was bought.
pub(super) async fn views(rest: &Rest, customer: &Customer, about: &About) -> Result<String, Wrong> {
    let filter = match customer {
        Customer::Id(id) => OrderFilter { customer_id: Some(id.clone()), ..OrderFilter::default() },
        Customer::Wallet { address, network } => {
            OrderFilter { wallet: Some((address.clone(), network.clone())), ..OrderFilter::default() }
        }
    };
    let order = Some(about.order.as_str());
    let differs = |view: &str| {
        let message = format!("{view} does not show order {}", foreign(&about.order));
        Wrong::new(message, "see that the key and the customer are those of the checkout")
    };
    let page = rest.orders(&filter, 0, LISTED_MAX).await?.view;
    if !page.orders.iter().any(|row| row.order_id.as_deref() == order) {
        return Err(differs("the list of the customer's orders"));
    }
    if rest.order(&about.order).await?.view.order_id.as_deref() != order {
        return Err(differs("the order's own page"));
    }
    if rest.payment_status(&about.order).await?.view.order_id.as_deref() != order {
        return Err(differs("its payment"));
    }
    let Some(invoice) = &about.invoice else { return Ok("list, order and payment agree".to_owned()) };
    if rest.order_by_invoice(invoice).await?.view.order_id.as_deref() != order {
        return Err(differs("its invoice"));
    }
    Ok("list, order, invoice and payment agree".to_owned())
}

/// Takes an order through its life; how many steps were taken, and how many refused.
pub(super) async fn live(rest: &Rest, about: &About, (life, end): (Life, &str)) -> Result<(u32, u32), Wrong> {
    let mut taken = 0;
    let mut refused = 0;
    for (transition, allowed) in life {
        let mut simulation = Simulation { transition_to: (*transition).to_owned(), ..Simulation::default() };
        if *transition == "payment_confirmed" {
            simulation.wallet_network = Some("bsc".to_owned());
            simulation.wallet_address = Some(PAYER.to_owned());
        }
        let order = foreign(&about.order).to_string();
        match (rest.simulate(&about.order, &simulation).await, allowed) {
            (Ok(_), true) => taken += 1,
            (Ok(_), false) => {
                let message =
                    format!("`{transition}` of order {order} was taken, where it is documented to be refused");
                return Err(Wrong::new(message, "give it to the provider's support"));
            }
            (Err(error), false) if matches!(error.status(), Some(400 | 409)) => refused += 1,
            (Err(error), _) => {
                return Err(Wrong::new(format!("`{transition}` of order {order}: {error}"), error.remedy()));
            }
        }
    }
    let status = rest.order(&about.order).await?.view.status.unwrap_or_default();
    if status != end {
        let message = format!("order {} ends as `{}` and not as `{end}`", foreign(&about.order), foreign(&status));
        return Err(Wrong::new(message, "give it to the provider's support"));
    }
    Ok((taken, refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_lives_take_every_documented_transition() {
        let steps = || LIVES.iter().flat_map(|(life, _)| life.iter());
        let allowed: BTreeSet<&str> = steps().filter(|(_, allowed)| *allowed).map(|(step, _)| *step).collect();
        let documented = crate::simulator::Transition::ALL.map(crate::simulator::Transition::as_str);
        assert_eq!(allowed, BTreeSet::from(documented));
        let refused: BTreeSet<&str> = steps().filter(|(_, allowed)| !allowed).map(|(step, _)| *step).collect();
        assert_eq!(refused, BTreeSet::from(documented), "each is refused somewhere");
    }
}

//! Checkout: estimate, address, invoice; the last makes the order (`api-spec/commerce/checkout`).

use super::catalogue::{Product, find_product};
use super::new_order::{Customer, Line, NewOrder};
use super::values::{Cents, Chance, Stamp};
use super::{Model, Refused};
use std::collections::VecDeque;

/// The dearest order that the provider takes, in cents.
const ORDER_MAX: Cents = Cents(250_000);
/// How long an estimate holds, in seconds; 15 minutes in the provider's sample.
const ESTIMATE_LIFETIME_S: i64 = 15 * 60;
/// Most estimates and addresses kept, each; beyond it the oldest is forgotten, and the customer asks again.
const KEPT_MAX: usize = 1_000;
/// Most lines of an estimate, and most pieces of a line.
const ITEMS_MAX: usize = 100;
/// The longest an offer may take to be sent, in days (`api-spec/commerce/products`).
const HANDLING_DAYS_MAX: u32 = 10;
const SHIPPING: Cents = Cents(299);
const FEE: Cents = Cents(300);

/// One line as it was asked for.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct EstimateItem {
    pub product_id: String,
    pub retailer: String,
    pub quantity: u64,
}

/// One line that cannot be bought, and why.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct InvalidItem {
    pub product_id: String,
    pub retailer: String,
    pub error: &'static str,
}

/// A priced cart.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Estimate {
    pub id: String,
    pub customer: Customer,
    pub valid: Vec<Line>,
    pub invalid: Vec<InvalidItem>,
    pub subtotal: Cents,
    pub shipping: Cents,
    pub fee: Cents,
    pub total: Cents,
    pub created_at: Stamp,
    pub expires_at: Stamp,
}

/// An order made by checkout.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Placed {
    pub order_id: String,
    pub session: String,
}

#[derive(Debug, Default)]
pub(super) struct Checkout {
    estimates: VecDeque<Estimate>,
    addresses: VecDeque<(String, String)>,
}

impl Model {
    /// Prices a cart. Items that the retailer doesn't have are answered as invalid and left out.
    ///
    /// # Errors
    /// When commerce is off, there are no items or too many, or the order is dearer than 2,500 USD.
    pub fn estimate(
        &mut self,
        customer: Customer,
        items: Vec<EstimateItem>,
        now_ms: i64,
        chance: &mut dyn Chance,
    ) -> Result<Estimate, Refused> {
        self.need_available()?;
        let pieces = |item: &EstimateItem| (1..=ITEMS_MAX as u64).contains(&item.quantity);
        if items.is_empty() || items.len() > ITEMS_MAX || !items.iter().all(pieces) {
            return Err(Refused::Invalid("items must hold 1 to 100 items of quantity 1 to 100".into()));
        }
        let mut valid = Vec::new();
        let mut invalid = Vec::new();
        for item in items {
            match offered(&item) {
                Ok(product) => valid.push(Line {
                    product_id: item.product_id,
                    title: product.title.into(),
                    image: product.image(),
                    quantity: item.quantity,
                    price: product.price,
                }),
                Err(error) => {
                    invalid.push(InvalidItem { product_id: item.product_id, retailer: item.retailer, error });
                }
            }
        }
        let subtotal = Cents(valid.iter().map(|line| line.price.times(line.quantity).0).sum());
        let total = Cents(subtotal.0 + SHIPPING.0 + FEE.0);
        if total > ORDER_MAX {
            return Err(Refused::Invalid("order value exceeds 2500 USD".into()));
        }
        let created_at = Stamp::at(now_ms, self.settings.times);
        let estimate = Estimate {
            id: chance.uuid(),
            customer,
            valid,
            invalid,
            subtotal,
            shipping: SHIPPING,
            fee: FEE,
            total,
            created_at,
            expires_at: created_at.plus(ESTIMATE_LIFETIME_S),
        };
        keep(&mut self.checkout.estimates, estimate.clone());
        Ok(estimate)
    }

    /// Notes that the estimate's goods go to some address, and answers the address's id. The address itself is
    /// not kept: no documented answer shows it again.
    ///
    /// # Errors
    /// When the estimate is unknown, over, or another customer's.
    pub fn set_address(
        &mut self,
        customer: &Customer,
        estimate_id: &str,
        now_ms: i64,
        chance: &mut dyn Chance,
    ) -> Result<String, Refused> {
        self.live_estimate(customer, estimate_id, now_ms)?;
        let address_id = chance.uuid();
        keep(&mut self.checkout.addresses, (address_id.clone(), estimate_id.to_owned()));
        Ok(address_id)
    }

    /// Makes the order and its invoice.
    ///
    /// # Errors
    /// When commerce is off, the estimate or address is unknown, over, or another customer's, or nothing in it can be
    /// bought.
    pub fn checkout(
        &mut self,
        customer: &Customer,
        estimate_id: &str,
        address_id: &str,
        refund_destination: Option<String>,
        now_ms: i64,
        chance: &mut dyn Chance,
    ) -> Result<Placed, Refused> {
        self.need_available()?;
        let estimate = self.live_estimate(customer, estimate_id, now_ms)?.clone();
        if !self.checkout.addresses.iter().any(|(id, of)| id == address_id && of == estimate_id) {
            return Err(Refused::NotFound("Address"));
        }
        let new = NewOrder {
            customer: estimate.customer,
            items: estimate.valid,
            shipping: estimate.shipping,
            fee: estimate.fee,
            refund_destination,
        };
        let order_id = self.create_order(new, now_ms, chance)?;
        Ok(Placed { order_id, session: format!("pst_{}", chance.uuid()) })
    }

    fn live_estimate(&self, customer: &Customer, estimate_id: &str, now_ms: i64) -> Result<&Estimate, Refused> {
        let estimate = self.checkout.estimates.iter().find(|estimate| estimate.id == estimate_id);
        let estimate =
            estimate.filter(|estimate| estimate.customer == *customer).ok_or(Refused::NotFound("Estimate"))?;
        if estimate.expires_at.seconds <= now_ms.div_euclid(1000) {
            return Err(Refused::Invalid("the estimate has expired".into()));
        }
        Ok(estimate)
    }
}

/// The product that a line is about, or why it cannot be bought. The first reason is the provider's sample's.
fn offered(item: &EstimateItem) -> Result<&'static Product, &'static str> {
    if item.retailer != "amazon" {
        return Err("retailer is not supported");
    }
    let product = find_product(&item.product_id).ok_or("no eligible offer")?;
    if product.handling_days.1 > HANDLING_DAYS_MAX {
        return Err("not deliverable within 10 days");
    }
    Ok(product)
}

fn keep<T>(kept: &mut VecDeque<T>, value: T) {
    if kept.len() >= KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(value);
}

//! The automatic pace: orders keep being made and walk through their lives, by a seed.
//!
//! Most are delivered; some fail, are cancelled, refunded, paid in two parts, or never paid at all.

use super::hub::Hub;
use super::model::{Cents, Chance, Customer, Details, Line, NewOrder, Seeded, Transition, products};
use rand::RngExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How time passes for the simulated provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nothing happens until it is asked to.
    Stepped,
    /// One step of some order's life each time this has passed.
    Automatic(Duration),
}

/// Orders that are under way at once.
const OPEN_MAX: usize = 12;
/// Shortest time between steps.
const STEP_MIN: Duration = Duration::from_millis(1);

/// One thing that happens to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The payer's transaction is seen.
    Pay,
    /// A third of the amount comes.
    Underpay,
    /// One of the provider's transitions.
    To(Transition),
    /// The merchant asks for cancellation.
    AskToCancel,
}

/// The steps that lie before a new order, by chance.
pub(super) fn life(chance: &mut Seeded) -> VecDeque<Step> {
    use Transition::{
        Cancelled, DeliveryConfirmed, Failed, PaymentConfirmed, PaymentSettled, Placed, Refunded, Shipped,
    };
    let paid = [Step::Pay, Step::To(PaymentConfirmed)];
    let placed = [Step::To(PaymentSettled), Step::To(Placed)];
    let delivered = [Step::To(Shipped), Step::To(DeliveryConfirmed)];
    let fate = chance.0.random_range(0..100);
    let steps: Vec<Step> = match fate {
        // Never paid: its invoice expires.
        0..6 => Vec::new(),
        6..14 => [&paid[..], &[Step::To(PaymentSettled), Step::To(Failed), Step::To(Refunded)]].concat(),
        14..24 => [&paid[..], &placed, &[Step::AskToCancel, Step::To(Cancelled), Step::To(Refunded)]].concat(),
        24..32 => [&[Step::Underpay], &paid[..], &placed, &delivered].concat(),
        _ => [&paid[..], &placed, &delivered].concat(),
    };
    steps.into()
}

/// An order for somebody and something, by chance.
pub(super) fn some_order(chance: &mut Seeded) -> NewOrder {
    let lines = chance.0.random_range(1..=3);
    let items = (0..lines).filter_map(|_| {
        let product = products().get(chance.0.random_range(0..products().len()))?;
        Some(Line {
            product_id: product.id.into(),
            title: product.title.into(),
            image: product.image(),
            quantity: chance.0.random_range(1..=3),
            price: product.price,
        })
    });
    let items = items.collect();
    let customer_id = Some(format!("cust_{}", chance.0.random_range(1_000..10_000)));
    NewOrder {
        customer: Customer { customer_id, ..Customer::default() },
        items,
        shipping: Cents(299),
        fee: Cents(300),
        refund_destination: Some(chance.wallet_address()),
    }
}

/// Lives at `every` until the simulator stops.
pub(super) async fn run(hub: Arc<Hub>, every: Duration) {
    let mut tick = tokio::time::interval(every.max(STEP_MIN));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut open: Vec<(String, VecDeque<Step>)> = Vec::new();
    loop {
        tokio::select! {
            () = hub.stop.cancelled() => return,
            _ = tick.tick() => step(&hub, &mut open),
        }
    }
}

/// Makes an order or lets one that is under way take its next step.
fn step(hub: &Hub, open: &mut Vec<(String, VecDeque<Step>)>) {
    let taken = hub.change(|model, chance, now| {
        model.expire_due(now);
        if open.is_empty() || (open.len() < OPEN_MAX && chance.0.random_range(0..100) < 25) {
            let order = some_order(chance);
            open.push((model.create_order(order, now, chance)?, life(chance)));
            return Ok(());
        }
        let index = chance.0.random_range(0..open.len());
        let Some((order_id, steps)) = open.get_mut(index) else { return Ok(()) };
        let Some(step) = steps.pop_front() else {
            open.swap_remove(index);
            return Ok(());
        };
        match step {
            Step::Pay => model.see_payment(order_id, now, chance),
            Step::Underpay => {
                let third = model.order(order_id).map_or(0, |order| order.invoice.amount / 3);
                model.underpay(order_id, third, &Details::default(), now, chance)
            }
            Step::To(transition) => model.simulate(order_id, transition, &Details::default(), now, chance),
            Step::AskToCancel => model.request_cancellation(order_id, None, now),
        }
    });
    // An order may have been moved or forgotten meanwhile, by a request or by the bound on orders: it is left alone.
    if let Err(refused) = taken {
        tracing::debug!(%refused, "simulated order left its path");
    }
}

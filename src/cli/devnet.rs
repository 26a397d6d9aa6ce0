//! `devnet`: the life of orders, taken in steps.

use super::args::commerce::{Devnet, Simulate};
use super::client::{Client, failed};
use super::values::text;
use crate::exit::Exit;
use crate::provider::rest::{Simulation, Tracking};

/// Runs one of the commands of `devnet`.
pub(super) async fn run(arguments: &Devnet, client: &Client) -> Result<(), Exit> {
    match arguments {
        Devnet::Simulate(arguments) => simulate(arguments, client).await,
    }
}

/// Takes the step. It is asked for once: the provider documents no key that would make repeating it safe.
async fn simulate(arguments: &Simulate, client: &Client) -> Result<(), Exit> {
    let Simulate { order, transition, wallet_network, wallet_address, carrier, tracking_number } = arguments;
    let tracking = Tracking { carrier: carrier.clone(), tracking_number: tracking_number.clone() };
    let simulation = Simulation {
        transition_to: transition.clone(),
        wallet_network: wallet_network.clone(),
        wallet_address: wallet_address.clone(),
        tracking: Some(tracking).filter(|tracking| *tracking != Tracking::default()),
    };
    let answer = client.rest.simulate(order, &simulation).await.map_err(failed)?;
    let output = client.output;
    if output.is_json() {
        return Ok(output.raw(&answer.raw)?);
    }
    let order = &answer.view.order;
    let mut status = text(order.status.as_deref());
    if let Some(substatus) = &order.substatus {
        status = format!("{status} ({})", text(Some(substatus)));
    }
    Ok(output.fields(&[
        ("order", text(order.order_id.as_deref())),
        ("status", status),
        ("payment", super::orders::payment(order)),
        ("refund", text(order.refund.status.as_deref().or(order.refund_status.as_deref()))),
    ])?)
}

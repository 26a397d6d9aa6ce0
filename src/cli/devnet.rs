//! `devnet`: the life of orders, taken in steps.

use super::args::parse_text;
use super::client::{Client, failed};
use super::values::text;
use crate::exit::Exit;
use crate::provider::rest::{Simulation, Tracking};
use crate::simulator::Transition;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

/// Subcommands of `devnet`.
#[derive(Debug, Subcommand)]
pub enum Devnet {
    /// Take one step of an order's life
    #[command(after_help = "Examples:\n  \
        pepay-relay devnet simulate 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 payment_confirmed --wallet-network bsc\n  \
        pepay-relay devnet simulate 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 shipped --carrier UPS\n\n\
        An order goes payment_confirmed, payment_settled, placed, shipped, delivery_confirmed; failed follows\n\
        only processing, cancelled only placed, and refunded needs a BSC address for the refund.")]
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
    /// Carrier of the parcel, for shipped
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    pub carrier: Option<String>,
    /// Tracking number of the parcel, for shipped
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub tracking_number: Option<String>,
}

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

fn transition_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Transition::ALL.map(Transition::as_str))
}

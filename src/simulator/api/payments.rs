//! Payments of orders, one or many, and of invoices (`api-spec/commerce/payments`, `api-spec/endpoints/invoices-status`).

use super::answer::{Error, body, success};
use crate::simulator::hub::Hub;
use crate::simulator::model::{Order, Refused};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Orders of one bulk request at most
/// (`api-reference/merchant-payments/check-payment-status-for-multiple-orders`).
const BULK_MAX: usize = 50;

/// What the simulated payers pay with; the sample's.
const TOKEN: &str = "USDC";

pub(super) async fn status(State(hub): State<Arc<Hub>>, Path(order_id): Path<String>) -> Result<Response, Error> {
    let world = hub.world();
    let order = world.model.order(&order_id).ok_or(Refused::NotFound("Order"))?;
    let snapshot = &order.snapshot;
    let invoice = &order.invoice;
    Ok(success(json!({
        "orderId": snapshot.order_id, "invoiceId": snapshot.invoice_id, "status": invoice.status,
        "orderStatus": snapshot.status, "customerId": snapshot.customer_id,
        "amount": snapshot.total_amount_usd.number(), "paidAt": invoice.paid_at, "paymentDetails": details(order),
    })))
}

/// Who paid, once the payment is confirmed; `null` before, about which the provider's pages are silent.
fn details(order: &Order) -> Value {
    if order.invoice.paid_at.is_none() {
        return Value::Null;
    }
    json!({
        "network": order.invoice.payer_wallet_network, "token": TOKEN,
        "amount": order.snapshot.total_amount_usd.number(), "txHash": order.snapshot.payment.tx_hash,
        "walletAddress": order.invoice.payer_wallet_address,
    })
}

#[derive(Deserialize)]
struct BulkRequest {
    #[serde(rename = "orderIds")]
    order_ids: Vec<String>,
}

/// A row for each order, in the order of the request; one that is unknown is an error inside of the success.
pub(super) async fn bulk(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let request: BulkRequest = body(&bytes)?;
    if !(1..=BULK_MAX).contains(&request.order_ids.len()) {
        return Err(Error::invalid("orderIds must hold 1 to 50 order ids"));
    }
    let world = hub.world();
    let rows = request.order_ids.iter().map(|order_id| match world.model.order(order_id) {
        Some(order) => json!({ "orderId": order_id, "status": order.invoice.status }),
        None => json!({ "orderId": order_id, "error": Refused::NotFound("Order").to_string() }),
    });
    Ok(success(rows.collect::<Vec<_>>()))
}

/// The order of an invoice. `payment` is empty as in the provider's sample.
pub(super) async fn order_by_invoice(
    State(hub): State<Arc<Hub>>,
    Path(invoice_id): Path<String>,
) -> Result<Response, Error> {
    let world = hub.world();
    let order = &world.model.order_of_invoice(&invoice_id).ok_or(Refused::NotFound("Invoice"))?.snapshot;
    Ok(success(json!({
        "invoiceId": order.invoice_id, "orderId": order.order_id, "payment": {},
        "order": {
            "orderId": order.order_id, "status": order.status, "substatus": order.substatus,
            "customerId": order.customer_id, "actions": order.actions,
        },
    })))
}

/// The invoice with its latest payment: the one answer without a wrapper.
pub(super) async fn invoice(State(hub): State<Arc<Hub>>, Path(invoice_id): Path<String>) -> Result<Response, Error> {
    let world = hub.world();
    let order = world.model.order_of_invoice(&invoice_id).ok_or(Refused::NotFound("Invoice"))?;
    let answer = json!({ "object": "invoice_status", "invoice": order.invoice, "latest_payment": order.payment });
    Ok(Json(answer).into_response())
}

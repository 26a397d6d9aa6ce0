//! Availability, search and the three steps of checkout (`api-spec/commerce/checkout`).

use super::Params;
use super::answer::{Error, body, success};
use super::events::limit;
use super::orders::{idempotency_key, once};
use crate::clock::now_ms;
use crate::simulator::hub::Hub;
use crate::simulator::model::{
    Cents, Customer, Estimate, EstimateItem, Product, Refused, find_product, is_evm_address, on_sale,
};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Available with everything but a cart: no documented call fills one.
pub(super) async fn status(State(hub): State<Arc<Hub>>) -> Result<Response, Error> {
    hub.world().model.need_available()?;
    let features = json!({ "search": true, "cart": false, "checkout": true, "orders": true });
    Ok(success(json!({ "status": "available", "escrowBalance": 50, "minimumRequired": 50, "features": features })))
}

/// Products whose title or id has `q` in it; all of them without `q`.
pub(super) async fn search(State(hub): State<Arc<Hub>>, params: Params) -> Result<Response, Error> {
    hub.world().model.need_available()?;
    let wanted = params.get("q").map(|text| text.to_lowercase()).unwrap_or_default();
    let limit = limit(&params, 10, 100)?;
    let hits = on_sale().filter(|product| {
        product.title.to_lowercase().contains(&wanted) || product.id.to_lowercase().contains(&wanted)
    });
    Ok(success(json!({ "products": hits.take(limit).map(found).collect::<Vec<_>>() })))
}

fn found(product: &Product) -> Value {
    json!({
        "productId": product.id, "title": product.title, "price": product.price.number(), "image": product.image(),
    })
}

pub(super) async fn product(Path(product_id): Path<String>) -> Result<Response, Error> {
    let product = find_product(&product_id).ok_or(Refused::NotFound("Product"))?;
    Ok(success(found(product)))
}

/// The one offer of a product. Its zip code changes nothing: the simulated retailer sends everywhere for one price.
pub(super) async fn offers(Path(product_id): Path<String>) -> Result<Response, Error> {
    let product = find_product(&product_id).ok_or(Refused::NotFound("Product"))?;
    let (shipping, (min, max)) = (Cents(299), product.handling_days);
    let offer = json!({
        "offerId": format!("offer_{}", product.id), "sellerId": "seller_1", "sellerName": "Example Store",
        "price": product.price.number(), "shipping": shipping.number(),
        "totalCost": Cents(product.price.0 + shipping.0).number(), "prime": true, "primeOnly": false,
        "condition": "New", "handlingDays": { "min": min, "max": max }, "international": false, "available": true,
    });
    let meta = json!({ "timestamp": now_ms().div_euclid(1000) });
    let data = json!({ "productId": product.id, "offers": [offer] });
    Ok(Json(json!({ "success": true, "data": data, "meta": meta })).into_response())
}

#[derive(Deserialize)]
struct Identification {
    customer_id: Option<String>,
    wallet_address: Option<String>,
    wallet_network: Option<String>,
}

impl Identification {
    fn customer(self) -> Result<Customer, Error> {
        if self.customer_id.is_none() && (self.wallet_address.is_none() || self.wallet_network.is_none()) {
            return Err(Error::invalid("customer_id, or wallet_address and wallet_network, are required"));
        }
        let Self { customer_id, wallet_address, wallet_network } = self;
        Ok(Customer { customer_id, wallet_address, wallet_network })
    }
}

#[derive(Deserialize)]
struct EstimateRequest {
    #[serde(flatten)]
    who: Identification,
    items: Option<Vec<Item>>,
    #[serde(default, rename = "useCart")]
    use_cart: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    product_id: String,
    quantity: u64,
    retailer: String,
    title: Option<String>,
    price: Option<serde_json::Number>,
}

/// Prices are the catalogue's, whatever the request has: an offer may have changed since it was seen.
pub(super) async fn estimate(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let request: EstimateRequest = body(&bytes)?;
    let customer = request.who.customer()?;
    let items = match (request.items, request.use_cart) {
        (Some(items), false) => items,
        (None, true) => return Err(Error::invalid("the cart is empty")),
        _ => return Err(Error::invalid("either items or useCart is required")),
    };
    let lacks = |item: &Item| item.title.as_deref().is_none_or(str::is_empty) || item.price.is_none();
    if hub.faults().rest.whole_items_wanted && items.iter().any(lacks) {
        return Err(Error::invalid("title and price of each item are required"));
    }
    let items = items.into_iter().map(|item| EstimateItem {
        product_id: item.product_id,
        retailer: item.retailer,
        quantity: item.quantity,
    });
    let items = items.collect();
    let (estimate, merchant_id, environment) = hub.change(|model, chance, now| {
        let estimate = model.estimate(customer, items, now, chance)?;
        Ok((estimate, model.settings().merchant_id, model.settings().environment()))
    })?;
    let mut data = render(&estimate);
    data["merchantId"] = merchant_id.into();
    data["networkEnvironment"] = environment.into();
    Ok(success(data))
}

fn render(estimate: &Estimate) -> Value {
    let valid = estimate.valid.iter().map(|line| {
        json!({
            "productId": line.product_id, "retailer": "amazon", "title": line.title, "quantity": line.quantity,
            "price": line.price.number(), "totalPrice": line.price.times(line.quantity).number(),
            "metadata": { "image": line.image },
        })
    });
    let invalid = estimate
        .invalid
        .iter()
        .map(|item| json!({ "productId": item.product_id, "retailer": item.retailer, "error": item.error }));
    let extras = Cents(estimate.shipping.0 + estimate.fee.0);
    json!({
        "estimateId": estimate.id, "customerId": estimate.customer.customer_id,
        "walletAddress": estimate.customer.wallet_address, "walletNetwork": estimate.customer.wallet_network,
        "validItems": valid.collect::<Vec<_>>(), "invalidItems": invalid.collect::<Vec<_>>(),
        "pricing": {
            "subtotal": estimate.subtotal.number(), "shipping": estimate.shipping.number(), "tax": 0,
            "fees": { "fixed": 0, "percentage": 0, "total": estimate.fee.number() }, "total": estimate.total.number(),
        },
        "feeBreakdown": {
            "shippingBase": estimate.shipping.number(), "commerceFee": estimate.fee.number(),
            "totalFees": extras.number(),
        },
        "expiresAt": estimate.expires_at, "createdAt": estimate.created_at,
    })
}

#[derive(Deserialize)]
struct AddressRequest {
    #[serde(flatten)]
    who: Identification,
    #[serde(rename = "estimateId")]
    estimate_id: String,
    address: serde_json::Map<String, Value>,
}

pub(super) async fn address(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Response, Error> {
    let request: AddressRequest = body(&bytes)?;
    for member in ["first_name", "last_name", "street_address", "city", "zip_code", "country"] {
        if request.address.get(member).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(Error::invalid(&format!("address.{member} is required")));
        }
    }
    let customer = request.who.customer()?;
    let address_id =
        hub.change(|model, chance, now| model.set_address(&customer, &request.estimate_id, now, chance))?;
    let standard = json!({
        "id": "standard", "name": "Standard", "price": Cents(299).number(), "estimatedDays": "5-7 business days",
    });
    Ok(success(json!({
        "addressId": address_id, "validated": true, "standardized": request.address, "shippingOptions": [standard],
    })))
}

/// Where this request came to, for addresses that lead back here.
pub(super) fn host(headers: &HeaderMap) -> &str {
    headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1")
}

#[derive(Deserialize)]
struct InvoiceRequest {
    #[serde(flatten)]
    who: Identification,
    #[serde(rename = "estimateId")]
    estimate_id: String,
    #[serde(rename = "addressId")]
    address_id: String,
    #[serde(rename = "refundDestinationWalletAddressBsc")]
    destination: Option<String>,
}

/// Makes the order; it is paid at the simulator's own page. `expiresAt` is in Unix seconds here in both renderings of the documentation.
pub(super) async fn invoice(State(hub): State<Arc<Hub>>, headers: HeaderMap, bytes: Bytes) -> Result<Response, Error> {
    let request: InvoiceRequest = body(&bytes)?;
    let customer = request.who.customer()?;
    if request.destination.as_deref().is_some_and(|address| !is_evm_address(address)) {
        return Err(Error::invalid("refundDestinationWalletAddressBsc must be a valid BSC address"));
    }
    let host = host(&headers);
    let data = once(&hub, idempotency_key(&headers)?, &bytes, || {
        hub.change(|model, chance, now| {
            let placed = model.checkout(
                &customer,
                &request.estimate_id,
                &request.address_id,
                request.destination.clone(),
                now,
                chance,
            )?;
            let order = model.order(&placed.order_id).ok_or(Refused::NotFound("Order"))?;
            let snapshot = &order.snapshot;
            let session = &placed.session;
            let signature = format!("sig_{}", placed.order_id);
            let path = format!("/api/commerce/merchant/orders/{}", placed.order_id);
            Ok(json!({
                "orderId": snapshot.order_id, "invoiceId": snapshot.invoice_id,
                "invoiceUrl": format!("http://{host}/?session={session}&signature={signature}#{}", placed.order_id),
                "session": session, "signature": signature,
                "payment_session_headers": { "x-session-token": session, "x-signature": signature },
                "merchantId": snapshot.merchant_id, "networkEnvironment": snapshot.network_environment,
                "customerId": snapshot.customer_id, "amount": snapshot.total_amount_usd.number(),
                "status": order.invoice.status, "expiresAt": order.invoice.expires_at.seconds,
                "endpoints": {
                    "checkOrder": path, "cancelOrder": format!("{path}/cancel"),
                    "checkPayment": format!("/api/commerce/merchant/payments/{}/status", placed.order_id),
                },
            }))
        })
    })?;
    Ok(success(data))
}

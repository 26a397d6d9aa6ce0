//! The relay's own REST client against the simulator: each documented call and what it is used for.

use super::{deliver, http, start};
use futures::{StreamExt, TryStreamExt};
use pepay_relay::provider::rest::{
    Address, Customer, EventQuery, EventView, IdempotencyKey, Item, OrderFilter, Rest, RestError, Simulation,
};
use pepay_relay::provider::tls;
use pepay_relay::simulator::{FaultAnswer, Options, Simulator, Transition};
use secrecy::SecretString;
use std::time::Duration;
use tokio::sync::watch;

fn client_with(simulator: &Simulator, key: &str) -> Rest {
    let (_, api_key) = watch::channel(SecretString::from(key));
    let tls = tls::client_config().unwrap();
    let timeout = Duration::from_secs(10);
    Rest::new(&simulator.api_url(), timeout, api_key, &tls, std::sync::Arc::default()).unwrap().with_retries()
}

fn client(simulator: &Simulator) -> Rest {
    client_with(simulator, simulator.api_key())
}

fn item(product_id: &str, quantity: u32) -> Item {
    Item { product_id: product_id.into(), retailer: "amazon".into(), quantity, title: None, price: None }
}

fn address() -> Address {
    let text =
        std::fs::read(format!("{}/tests/fixtures/rest/checkout-address.request.json", env!("CARGO_MANIFEST_DIR")));
    let request: serde_json::Value = serde_json::from_slice(&text.unwrap()).unwrap();
    serde_json::from_value(request["address"].clone()).unwrap()
}

/// Status and code of a refusal, which has its request's id and a remedy.
fn refusal<T: std::fmt::Debug>(result: Result<T, RestError>) -> (u16, String) {
    let error = result.unwrap_err();
    assert!(error.to_string().contains("(request req_") && !error.remedy().is_empty(), "{error}");
    (error.status().unwrap(), error.code().unwrap().to_owned())
}

fn validation() -> (u16, String) {
    (400, "VALIDATION_ERROR".to_owned())
}

/// A checkout of one cable, and its order's id.
async fn buy(rest: &Rest, customer: &Customer, key: &IdempotencyKey) -> (String, String) {
    let estimate = rest.estimate(customer, &[item("B0D7KX91QZ", 2)]).await.unwrap().view.estimate_id.unwrap();
    let placed = rest.address(customer, &estimate, &address()).await.unwrap().view.address_id.unwrap();
    let invoice = rest.invoice(customer, &estimate, &placed, None, key).await.unwrap().view;
    let again = rest.invoice(customer, &estimate, &placed, None, key).await.unwrap().view;
    assert_eq!(again.order_id, invoice.order_id, "one key is one order");
    (invoice.order_id.unwrap(), invoice.invoice_id.unwrap())
}

async fn simulate(rest: &Rest, order_id: &str, to: &str) -> Result<String, RestError> {
    let simulation = Simulation { transition_to: to.into(), ..Simulation::default() };
    rest.simulate(order_id, &simulation).await.map(|answer| answer.view.order.status.unwrap())
}

#[tokio::test]
async fn products_are_found_with_their_offers() {
    let simulator = start().await;
    let rest = client(&simulator);
    let found = rest.search("CABLE", None).await.unwrap().view;
    assert_eq!(found.len(), 1);
    let id = found[0].product_id.clone().unwrap();
    assert_eq!(rest.product(&id).await.unwrap().view.title, found[0].title);
    let offers = rest.offers(&id, Some("33101")).await.unwrap().view;
    assert_eq!((offers.len(), offers[0].available), (1, Some(true)));
    assert_eq!(offers[0].total_cost.as_ref().unwrap().0, "14.48");
    assert_eq!(rest.search("", Some(3)).await.unwrap().view.len(), 3);
    assert!(rest.search("nothing like it", None).await.unwrap().view.is_empty());
    assert_eq!(refusal(rest.product("B000000000").await).0, 404);
    assert_eq!(refusal(rest.offers("B000000000", None).await).0, 404);
    assert_eq!(refusal(rest.search("a", Some(0)).await), validation());
    simulator.stop().await;
}

#[tokio::test]
async fn an_estimate_names_what_cannot_be_bought_and_the_limit_is_explained() {
    let simulator = start().await;
    let rest = client(&simulator);
    let customer =
        Customer::Wallet { address: "0x52908400098527886E0F7030069857D2E4169EE7".into(), network: "bsc".into() };
    let elsewhere = Item { retailer: "corner shop".into(), ..item("B0D7KX91QZ", 1) };
    let items = [item("B0D7KX91QZ", 1), item("B000000000", 1), item("B0AGEDOAK1", 1), elsewhere];
    let estimate = rest.estimate(&customer, &items).await.unwrap().view;
    let reasons: Vec<_> = estimate.invalid_items.iter().filter_map(|item| item.error.as_deref()).collect();
    assert_eq!(reasons, ["no eligible offer", "not deliverable within 10 days", "retailer is not supported"]);
    assert_eq!((estimate.valid_items.len(), estimate.pricing.total.unwrap().0.as_str()), (1, "17.48"));

    let dear = rest.estimate(&customer, &[item("B0CTG81MSR", 28)]).await.unwrap_err();
    assert_eq!(dear.status(), Some(400));
    assert!(dear.remedy().contains("2,500 USD"), "{}", dear.remedy());
    // 27 keyboards, shipping and fee are 2,422.49 USD.
    assert!(rest.estimate(&customer, &[item("B0CTG81MSR", 27)]).await.is_ok());
    assert_eq!(refusal(rest.estimate(&customer, &[]).await), validation());
    assert_eq!(refusal(rest.estimate(&customer, &[item("B0D7KX91QZ", 0)]).await), validation());

    let id = estimate.estimate_id.unwrap();
    let nowhere = Address { city: String::new(), ..address() };
    assert_eq!(refusal(rest.address(&customer, &id, &nowhere).await), validation());
    let other = Customer::Id("other".into());
    assert_eq!(refusal(rest.address(&other, &id, &address()).await).0, 404, "another customer's estimate");
    let at = rest.address(&customer, &id, &address()).await.unwrap().view;
    assert_eq!((at.validated, at.standardized.unwrap()["city"].as_str()), (Some(true), Some("Miami")));
    assert_eq!(at.shipping_options[0].price.as_ref().unwrap().0, "2.99");
    let at = at.address_id.unwrap();
    let key = IdempotencyKey::random();
    assert_eq!(refusal(rest.invoice(&customer, &id, &at, Some("0x1"), &key).await), validation());
    assert_eq!(refusal(rest.invoice(&customer, &id, "none", None, &key).await).0, 404);
    let cart = http().post(format!("{}/api/commerce/merchant/checkout/estimate", simulator.api_url()));
    let cart = cart.header("x-api-key", simulator.api_key()).body(r#"{"customer_id":"c","useCart":true}"#);
    assert_eq!(cart.send().await.unwrap().status().as_u16(), 400, "nothing fills a cart");
    simulator.stop().await;
}

#[tokio::test]
async fn an_order_is_paid_and_every_view_of_its_payment_agrees() {
    let simulator = start().await;
    let rest = client(&simulator);
    let (order_id, invoice_id) = buy(&rest, &Customer::Id("cust_1".into()), &IdempotencyKey::random()).await;
    let unpaid = rest.payment_status(&order_id).await.unwrap().view;
    assert_eq!((unpaid.status.as_deref(), unpaid.paid_at), (Some("unpaid"), None));
    let invoice = rest.invoice_status(&invoice_id).await.unwrap().view.invoice;
    assert_eq!((invoice.status.as_deref(), invoice.commerce_order_id.as_deref()), (Some("unpaid"), Some(&*order_id)));
    assert!(invoice.expires_at.is_some() && invoice.paid_at.is_none());
    let expired = buy(&rest, &Customer::Id("cust_2".into()), &IdempotencyKey::random()).await;
    simulator.expire_invoice(&expired.0).unwrap();

    simulate(&rest, &order_id, "payment_confirmed").await.unwrap();
    let paid = rest.payment_status(&order_id).await.unwrap().view;
    assert_eq!((paid.status.as_deref(), paid.order_status.as_deref()), (Some("paid"), Some("processing")));
    assert_eq!((paid.amount.clone(), paid.payment_details.amount), (paid.amount.clone(), paid.amount));
    assert!(paid.paid_at.is_some() && paid.payment_details.tx_hash.is_some());
    let invoice = rest.invoice_status(&invoice_id).await.unwrap();
    assert_eq!(invoice.view.invoice.amount_remaining_decimal.unwrap().0, "0.000");
    assert!(invoice.raw.get().contains("\"latest_payment\":{"));
    let found = rest.order_by_invoice(&invoice_id).await.unwrap().view;
    assert_eq!((found.order_id.as_ref(), found.order.status.as_deref()), (Some(&order_id), Some("processing")));

    let mut ids = vec![order_id, "00000000-0000-4000-8000-000000000000".into(), expired.0];
    ids.extend((0..48).map(|_| simulator.create_order().unwrap()));
    let rows = rest.payment_statuses(&ids).await.unwrap();
    let told: Vec<_> = rows.iter().take(3).map(|row| (row.view.status.as_deref(), row.view.error.as_deref())).collect();
    assert_eq!(told, [(Some("paid"), None), (None, Some("Order not found")), (Some("expired"), None)]);
    assert_eq!(rows.iter().filter_map(|row| row.view.order_id.clone()).collect::<Vec<_>>(), ids, "51, in two requests");
    let path = "/api/commerce/merchant/payments/bulk-status";
    assert_eq!(super::post(&simulator, path, &serde_json::json!({ "orderIds": ids })).await.0, 400, "51 are too many");
    for unknown in [refusal(rest.payment_status("none").await), refusal(rest.invoice_status("none").await)] {
        assert_eq!(unknown.0, 404);
    }
    assert_eq!(refusal(rest.order_by_invoice("none").await).0, 404);
    simulator.stop().await;
}

#[tokio::test]
async fn each_transition_needs_its_state() {
    let simulator = start().await;
    let rest = client(&simulator);
    let everything = Transition::ALL.map(Transition::as_str);
    // What is allowed at each station of three lives.
    let lives: [&[&str]; 3] = [
        &["payment_confirmed", "payment_settled", "placed", "shipped", "delivery_confirmed"],
        &["payment_confirmed", "payment_settled", "placed", "cancelled", "refunded"],
        &["payment_confirmed", "failed", "refunded"],
    ];
    let also: &[(&str, &str)] = &[
        ("payment_confirmed", "failed"),
        ("payment_settled", "failed"),
        ("placed", "cancelled"),
        ("payment_confirmed", "payment_settled"),
        ("placed", "shipped"),
    ];
    for life in lives {
        let order_id = simulator.create_order().unwrap();
        for (at, step) in life.iter().enumerate() {
            let before = simulator.events().len();
            let reached = at.checked_sub(1).map_or("", |at| life[at]);
            for other in everything {
                let allowed = other == *step || also.contains(&(reached, other));
                if !allowed {
                    assert_eq!(refusal(simulate(&rest, &order_id, other).await), validation(), "{reached} -> {other}");
                }
            }
            assert_eq!(simulator.events().len(), before, "a refused step has no event");
            simulate(&rest, &order_id, step).await.unwrap();
        }
        for other in everything {
            assert_eq!(refusal(simulate(&rest, &order_id, other).await), validation(), "{other} at the end");
        }
    }
    let order_id = simulator.create_order().unwrap();
    simulate(&rest, &order_id, "payment_confirmed").await.unwrap();
    assert_eq!(refusal(simulate(&rest, &order_id, "placed").await), validation(), "not settled yet");
    assert_eq!(refusal(simulate(&rest, &order_id, "sideways").await), validation());
    assert_eq!(refusal(simulate(&rest, "none", "placed").await).0, 404);
    simulator.stop().await;
}

#[tokio::test]
async fn mainnet_and_wrong_keys_are_refused() {
    let simulator = Simulator::start(Options { mainnet: true, ..Options::default() }).await.unwrap();
    let order_id = simulator.create_order().unwrap();
    let refused = refusal(simulate(&client(&simulator), &order_id, "payment_confirmed").await);
    assert_eq!(refused, (403, "FORBIDDEN".to_owned()));
    let merchant = client_with(&simulator, &Options::default().merchant_key);
    assert_eq!(refusal(merchant.order(&order_id).await), (403, "FORBIDDEN".to_owned()));
    let wrong = client_with(&simulator, "ck_wrong");
    assert_eq!(refusal(wrong.commerce_status().await), (401, "API_KEY_INVALID".to_owned()));
    let both = http().get(format!("{}/api/commerce/status", simulator.api_url()));
    let both = both.header("x-api-key", simulator.api_key()).header("x-commerce-api-key", simulator.api_key());
    assert_eq!(both.send().await.unwrap().status().as_u16(), 400, "never both headers");
    simulator.stop().await;
}

#[tokio::test]
async fn a_cancel_is_one_for_one_key() {
    let simulator = start().await;
    let rest = client(&simulator);
    let order_id = simulator.create_order().unwrap();
    let key = IdempotencyKey::random();
    let refused = refusal(rest.cancel(&order_id, None, &key).await);
    assert_eq!(refused, validation(), "not while canCancel is false");
    for step in ["payment_confirmed", "payment_settled", "placed"] {
        simulate(&rest, &order_id, step).await.unwrap();
    }
    let issued = simulator.events().len();
    let first = rest.cancel(&order_id, None, &key).await.unwrap();
    assert_eq!(first.view.substatus.as_deref(), Some("CANCELLATION_REQUESTED"));
    let second = rest.cancel(&order_id, None, &key).await.unwrap();
    assert_eq!(first.raw.get(), second.raw.get());
    assert_eq!(simulator.events().len(), issued + 1, "two requests with one key are one cancel");
    let other = rest.cancel(&order_id, Some("0x8617E340B3D01FA5F11F306F4090FD50E238070D"), &key).await;
    assert_eq!(refusal(other), (409, "IDEMPOTENCY_CONFLICT".to_owned()));
    assert_eq!(refusal(rest.cancel(&order_id, None, &IdempotencyKey::random()).await), validation());
    simulator.stop().await;
}

#[tokio::test]
async fn lists_are_walked_page_by_page() {
    let simulator = start().await;
    let rest = client(&simulator);
    let mut orders: Vec<_> = (0..7).map(|_| deliver(&simulator)).collect();
    orders.reverse();
    for limit in [3, 7, 8] {
        let pages: Vec<_> = rest
            .order_pages(&OrderFilter::default(), 0, limit)
            .map(Result::unwrap)
            .map(|page| page.view)
            .collect()
            .await;
        assert_eq!(pages.len(), [(3, 3), (7, 2), (8, 1)].iter().find(|(of, _)| *of == limit).unwrap().1);
        let ids: Vec<_> = pages.iter().flat_map(|page| &page.orders).filter_map(|row| row.order_id.clone()).collect();
        assert_eq!(ids, orders, "{limit}");
    }
    let customer_id = simulator.order(&orders[0]).unwrap().customer_id;
    let (wallet, network) = {
        let order = rest.order(&orders[0]).await.unwrap().view;
        (order.wallet_address.unwrap(), order.wallet_network.unwrap())
    };
    let filter = OrderFilter {
        customer_id,
        wallet: Some((wallet, network)),
        status: Some("delivered".into()),
        retailer: Some("amazon".into()),
        created_from: Some(0),
        created_to: Some(4_000_000_000),
    };
    let page = rest.orders(&filter, 0, 20).await.unwrap().view;
    assert_eq!((page.orders.len(), page.orders[0].order_id.as_ref()), (1, Some(&orders[0])));
    let none = OrderFilter { status: Some("failed".into()), ..filter };
    assert!(rest.orders(&none, 0, 20).await.unwrap().view.orders.is_empty());

    let query = EventQuery { types: vec!["commerce.order.*".into()], created_from: Some(0), ..EventQuery::default() };
    let pages: Vec<_> = rest.event_pages(&query, None, 10).try_collect().await.unwrap();
    let seen: Vec<_> = pages.iter().flat_map(|page| &page.events).filter_map(|event| event.id.clone()).collect();
    let issued = simulator.events();
    let wanted = issued.iter().rev().filter(|event| event.kind.starts_with("commerce.order."));
    assert_eq!(seen, wanted.map(|event| event.id.clone()).collect::<Vec<_>>());
    let event = rest.event(&seen[0]).await.unwrap();
    assert_eq!(event.view.id.as_ref(), Some(&seen[0]));
    assert_eq!(EventView::of(event.raw.get().as_bytes()).kind, event.view.kind);
    assert_eq!(refusal(rest.event("evt_1-0").await).0, 404);
    assert!(matches!(rest.order("..").await, Err(RestError::NotAnId(_))));
    simulator.stop().await;
}

#[tokio::test]
async fn commerce_can_be_off_and_requests_are_limited() {
    let simulator = start().await;
    let rest = client(&simulator);
    assert_eq!(rest.commerce_status().await.unwrap().view.status, "available");
    simulator.set_available(false);
    let customer = Customer::Id("cust_1".into());
    let off = rest.estimate(&customer, &[item("B0D7KX91QZ", 1)]).await;
    assert_eq!(refusal(off), (503, "SERVICE_UNAVAILABLE".to_owned()));
    let path = "/api/commerce/status";
    assert_eq!(super::get(&simulator, path).await.0, 503);
    simulator.set_available(true);
    assert_eq!(super::get(&simulator, path).await.0, 200);
    simulator.stop().await;

    let limited = Simulator::start(Options { requests_per_minute: Some(2), ..Options::default() }).await.unwrap();
    for _ in 0..2 {
        assert_eq!(super::get(&limited, path).await.0, 200);
    }
    let third = http().get(format!("{}{path}", limited.api_url())).header("x-api-key", limited.api_key());
    let third = third.send().await.unwrap();
    let wait: u64 = third.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(third.status().as_u16() == 429 && (1..=60).contains(&wait), "{wait}");
    limited.stop().await;
}

#[tokio::test]
async fn only_what_is_safe_is_asked_again() {
    let simulator = start().await;
    let rest = client(&simulator);
    let order_id = simulator.create_order().unwrap();
    let tries = async |what: &str| {
        let before = simulator.requests();
        let (_, status) = match what {
            "read" => ((), rest.order(&order_id).await.unwrap_err().status()),
            "bulk" => ((), rest.payment_statuses(std::slice::from_ref(&order_id)).await.unwrap_err().status()),
            "keyed" => ((), rest.cancel(&order_id, None, &IdempotencyKey::random()).await.unwrap_err().status()),
            _ => ((), simulate(&rest, &order_id, "payment_confirmed").await.unwrap_err().status()),
        };
        (status, simulator.requests() - before)
    };
    let refuse = |status, retry_after_s| {
        simulator.faults().set(|faults| faults.rest.refuse = Some(FaultAnswer { status, retry_after_s }));
    };
    refuse(429, Some(0));
    for (what, requests) in [("read", 3), ("bulk", 3), ("keyed", 3), ("write", 1)] {
        assert_eq!(tries(what).await, (Some(429), requests), "{what}");
    }
    refuse(503, Some(0));
    assert_eq!(tries("read").await, (Some(503), 3));
    refuse(429, Some(900));
    assert_eq!(tries("read").await, (Some(429), 1), "nobody waits a quarter of an hour");
    refuse(404, Some(0));
    assert_eq!(tries("read").await, (Some(404), 1));
    simulator.stop().await;
}

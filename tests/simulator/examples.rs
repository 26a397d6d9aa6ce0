//! Every example of the provider's REST answers, requests and errors: each is taken by the relay's own client, or is
//! what that client sends. A file that nobody takes is a mistake here.

use super::patiently;
use futures::TryStreamExt;
use pepay_relay::provider::page::decode_page;
use pepay_relay::provider::rest::{
    Address, Customer, EventQuery, EventView, IdempotencyKey, Item, OrderFilter, Rest, RestError, Simulation, Tracking,
};
use pepay_relay::provider::tls;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

const KEY: &str = "ck_example_0000000000000000";
const ORDER: &str = "7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11";
const INVOICE: &str = "c2a9e6d4-58b7-4f0a-8f33-91d7a0b64e20";
const ESTIMATE: &str = "0e5d3c77-9a42-4d6b-8f1c-55aa3be0c9d8";
const PLACED_AT: &str = "a6f1c1d2-7e3b-4b0c-9c55-f7f1b2e3d4c5";
const REFUND_TO: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
const IDEMPOTENCY: &str = "5f0c1f1e-63d3-4c0b-9d0a-0e2b6c9a7f21";

/// Names of the example files of a folder, and which of them were taken.
struct Examples {
    folder: &'static str,
    left: BTreeSet<String>,
}

impl Examples {
    fn of(folder: &'static str) -> Self {
        let files = std::fs::read_dir(format!("{}/tests/fixtures/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let left = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        Self { folder, left }
    }

    fn take(&mut self, name: &str) -> String {
        let name = format!("{name}.json");
        assert!(self.left.remove(&name), "no {name}, or taken twice");
        std::fs::read_to_string(format!("{}/tests/fixtures/{}/{name}", env!("CARGO_MANIFEST_DIR"), self.folder))
            .unwrap()
    }

    fn json(&mut self, name: &str) -> Value {
        serde_json::from_str(&self.take(name)).unwrap()
    }
}

/// What the provider was asked: method and target, headers in lower case, body.
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A provider that gives one answer; a client of it; and what it will have been asked.
async fn provider(status: &str, headers: &str, body: &str) -> (Rest, tokio::task::JoinHandle<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let asked = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let asked = loop {
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let mut lines = head.lines();
            let line = lines.next().unwrap().to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let asked = Asked { line, headers, body: body.to_owned() };
            if asked.header("content-length").is_none_or(|length| length == asked.body.len().to_string()) {
                break asked;
            }
        };
        socket.write_all(answer.as_bytes()).await.unwrap();
        asked
    });
    let (_, api_key) = watch::channel(SecretString::from(KEY));
    let rest = Rest::new(&base, Duration::from_secs(10), api_key, &tls::client_config().unwrap(), Arc::default());
    (rest.unwrap(), asked)
}

async fn answering(body: &str) -> (Rest, tokio::task::JoinHandle<Asked>) {
    provider("200 OK", "", body).await
}

fn customer() -> Customer {
    Customer::Id("cust_8842".into())
}

/// The provider's object in an example, as it came.
fn data(body: &str) -> Value {
    serde_json::from_str::<Value>(body).unwrap()["data"].clone()
}

fn value(raw: &serde_json::value::RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}

#[tokio::test]
async fn every_example_of_rest_is_what_the_client_sends_or_reads() {
    let mut examples = Examples::of("rest");
    selling(&mut examples).await;
    ordering(&mut examples).await;
    looking(&mut examples).await;
    simulating(&mut examples).await;
    assert_eq!(examples.left, BTreeSet::new(), "examples that no test takes");
}

async fn selling(examples: &mut Examples) {
    let body = examples.take("commerce-status.response");
    let (rest, asked) = answering(&body).await;
    let status = rest.commerce_status().await.unwrap();
    assert_eq!((status.view.status.as_str(), value(&status.raw)), ("available", data(&body)));
    assert_eq!(asked.await.unwrap().line, "GET /api/commerce/status HTTP/1.1");

    let body = examples.take("search.response");
    let (rest, asked) = answering(&body).await;
    assert_eq!(rest.search("usb-c cable", Some(5)).await.unwrap().view.len(), 1);
    assert_eq!(asked.await.unwrap().line, "GET /api/commerce/search?q=usb-c+cable&limit=5 HTTP/1.1");

    let body = examples.take("checkout-estimate.response");
    let wanted = examples.json("checkout-estimate.request");
    let (rest, asked) = answering(&body).await;
    let items: Vec<Item> = serde_json::from_value(wanted["items"].clone()).unwrap();
    let estimate = rest.estimate(&customer(), &items).await.unwrap();
    assert_eq!((estimate.view.estimate_id.as_deref(), value(&estimate.raw)), (Some(ESTIMATE), data(&body)));
    let asked = asked.await.unwrap();
    assert_eq!(asked.line, "POST /api/commerce/merchant/checkout/estimate HTTP/1.1");
    assert_eq!(asked.json(), wanted);

    let body = examples.take("checkout-address.response");
    let wanted = examples.json("checkout-address.request");
    let (rest, asked) = answering(&body).await;
    let address: Address = serde_json::from_value(wanted["address"].clone()).unwrap();
    let placed = rest.address(&customer(), ESTIMATE, &address).await.unwrap();
    assert_eq!((placed.view.address_id.as_deref(), value(&placed.raw)), (Some(PLACED_AT), data(&body)));
    assert_eq!(asked.await.unwrap().json(), wanted);

    let body = examples.take("checkout-invoice.response");
    let wanted = examples.json("checkout-invoice.request");
    let (rest, asked) = answering(&body).await;
    let key: IdempotencyKey = IDEMPOTENCY.parse().unwrap();
    let invoice = rest.invoice(&customer(), ESTIMATE, PLACED_AT, Some(REFUND_TO), &key).await.unwrap();
    assert_eq!((invoice.view.order_id.as_deref(), value(&invoice.raw)), (Some(ORDER), data(&body)));
    let asked = asked.await.unwrap();
    assert_eq!((asked.json(), asked.header("idempotency-key")), (wanted, Some(IDEMPOTENCY)));

    for form in ["ws-token.response", "ws-token.response.iso-variant"] {
        let (rest, asked) = answering(&examples.take(form)).await;
        let token = rest.mint_ws_token().await.unwrap();
        assert!(token.token.expose_secret().starts_with("eyJ") && token.ws_url.is_some(), "{form}");
        let asked = asked.await.unwrap();
        assert_eq!(asked.line, "POST /api/v1/ws/token HTTP/1.1");
        if form == "ws-token.response" {
            assert_eq!(asked.json(), examples.json("ws-token.request"));
        }
    }
}

async fn ordering(examples: &mut Examples) {
    for (name, rows) in [("orders-list", 1), ("orders-list.iso-variant", 1), ("orders-list.empty", 0)] {
        let body = examples.take(name);
        let (rest, asked) = answering(&body).await;
        let filter = OrderFilter { customer_id: Some("cust_8842".into()), ..OrderFilter::default() };
        let page = rest.orders(&filter, 0, 20).await.unwrap();
        assert_eq!((page.view.orders.len(), value(&page.raw)), (rows, data(&body)), "{name}");
        let line = "GET /api/commerce/merchant/orders?customer_id=cust_8842&limit=20&offset=0 HTTP/1.1";
        assert_eq!(asked.await.unwrap().line, line);
    }
    for (name, status) in
        [("placed", "placed"), ("shipped", "shipped"), ("shipped.unix-seconds", "shipped"), ("refunded", "cancelled")]
    {
        let body = examples.take(&format!("order-get.{name}"));
        let (rest, asked) = answering(&body).await;
        let order = rest.order(ORDER).await.unwrap();
        assert_eq!((order.view.status.as_deref(), value(&order.raw)), (Some(status), data(&body)), "{name}");
        assert!(order.view.created_at.is_some() && order.view.total_amount_usd.is_some(), "{name}");
        assert_eq!(asked.await.unwrap().line, format!("GET /api/commerce/merchant/orders/{ORDER} HTTP/1.1"));
    }
    let body = examples.take("order-cancel.response");
    let (rest, asked) = answering(&body).await;
    let cancelled = rest.cancel(ORDER, Some(REFUND_TO), &IDEMPOTENCY.parse().unwrap()).await.unwrap();
    assert_eq!((cancelled.view.order_id.as_deref(), value(&cancelled.raw)), (Some(ORDER), data(&body)));
    let asked = asked.await.unwrap();
    assert_eq!(asked.line, format!("POST /api/commerce/merchant/orders/{ORDER}/cancel HTTP/1.1"));
    assert_eq!(asked.json(), examples.json("order-cancel.request"));
    for (name, value) in examples.json("order-cancel.request-headers").as_object().unwrap() {
        assert_eq!(asked.header(&name.to_lowercase()), value.as_str(), "{name}");
    }
    assert_eq!(asked.header("x-api-key"), None, "never both keys");

    let body = examples.take("order-by-invoice.response");
    let (rest, asked) = answering(&body).await;
    let found = rest.order_by_invoice(INVOICE).await.unwrap();
    assert_eq!((found.view.order_id.as_deref(), found.view.order.status.as_deref()), (Some(ORDER), Some("processing")));
    assert_eq!(asked.await.unwrap().line, format!("GET /api/commerce/merchant/invoices/{INVOICE}/status HTTP/1.1"));
}

async fn looking(examples: &mut Examples) {
    let body = examples.take("payment-status.response");
    let (rest, asked) = answering(&body).await;
    let payment = rest.payment_status(ORDER).await.unwrap();
    assert_eq!((payment.view.status.as_deref(), value(&payment.raw)), (Some("paid"), data(&body)));
    assert_eq!(asked.await.unwrap().line, format!("GET /api/commerce/merchant/payments/{ORDER}/status HTTP/1.1"));

    let body = examples.take("payment-bulk-status.response");
    let wanted = examples.json("payment-bulk-status.request");
    let (rest, asked) = answering(&body).await;
    let ids: Vec<String> = serde_json::from_value(wanted["orderIds"].clone()).unwrap();
    let rows = rest.payment_statuses(&ids).await.unwrap();
    assert_eq!((rows.len(), rows[1].view.error.as_deref()), (2, Some("Order not found")));
    assert_eq!(asked.await.unwrap().json(), wanted);

    let body = examples.take("invoice-status.response");
    let (rest, asked) = answering(&body).await;
    let status = rest.invoice_status(INVOICE).await.unwrap();
    assert_eq!(value(&status.raw), serde_json::from_str::<Value>(&body).unwrap(), "it has no wrapper");
    assert_eq!(status.view.invoice.commerce_order_id.as_deref(), Some(ORDER));
    assert_eq!(asked.await.unwrap().line, format!("GET /api/v1/invoices/{INVOICE}/status HTTP/1.1"));

    let body = examples.take("event-get");
    let (rest, asked) = answering(&body).await;
    let id = data(&body)["id"].as_str().unwrap().to_owned();
    let event = rest.event(&id).await.unwrap();
    assert_eq!((event.view.id.as_ref(), value(&event.raw)), (Some(&id), data(&body)));
    assert_eq!(asked.await.unwrap().line, format!("GET /api/v1/events/{id} HTTP/1.1"));

    for (name, events, more) in [
        ("newest.limit3", 3, true),
        ("starting_after.page2", 3, true),
        ("starting_after.last-page", 3, false),
        ("ending_before.cursor", 2, false),
        ("empty", 0, false),
    ] {
        let body = examples.take(&format!("events-list.{name}"));
        let (rest, asked) = answering(&body).await;
        let query = EventQuery { types: vec!["invoice.*".into()], created_from: Some(7), ..EventQuery::default() };
        let bytes = rest.events_of(&query, Some("evt_1-0"), 3).await.unwrap();
        let page = decode_page(&bytes).unwrap();
        assert_eq!((page.events.len(), page.has_more), (events, Some(more)), "{name}");
        assert!(page.events.iter().all(|event| EventView::of(&event.bytes).id == event.id && event.id.is_some()));
        let line =
            "GET /api/v1/events?limit=3&type=invoice.*&created%5Bgte%5D=7&starting_after=evt_1-0 HTTP/1.1".to_owned();
        assert_eq!(asked.await.unwrap().line, line);
        if !more {
            let (rest, _asked) = answering(&body).await;
            let pages: Vec<_> = rest.event_pages(&query, None, 3).try_collect().await.unwrap();
            assert_eq!(pages.len(), 1, "{name}: no page is asked for behind the last");
        }
    }
}

async fn simulating(examples: &mut Examples) {
    let wallet = Simulation {
        wallet_network: Some("bsc".into()),
        wallet_address: Some("0x52908400098527886E0F7030069857D2E4169EE7".into()),
        ..Simulation::default()
    };
    let parcel = Tracking { carrier: Some("UPS".into()), tracking_number: Some("1Z999AA10123456784".into()) };
    let parcel = Simulation { tracking: Some(parcel), ..Simulation::default() };
    for (transition, status, with) in [
        ("payment_confirmed", "processing", wallet),
        ("payment_settled", "processing", Simulation::default()),
        ("placed", "placed", Simulation::default()),
        ("shipped", "shipped", parcel),
        ("delivery_confirmed", "delivered", Simulation::default()),
        ("failed", "failed", Simulation::default()),
        ("cancelled", "cancelled", Simulation::default()),
        ("refunded", "cancelled", Simulation::default()),
    ] {
        let body = examples.take(&format!("simulate.{transition}.response"));
        let (rest, asked) = answering(&body).await;
        let simulation = Simulation { transition_to: transition.to_owned(), ..with };
        let simulated = rest.simulate(ORDER, &simulation).await.unwrap();
        assert_eq!((simulated.view.order.status.as_deref(), value(&simulated.raw)), (Some(status), data(&body)));
        let asked = asked.await.unwrap();
        assert_eq!(asked.line, format!("POST /api/commerce/devnet/orders/{ORDER}/simulate HTTP/1.1"));
        assert_eq!(asked.json(), examples.json(&format!("simulate.{transition}.request")), "{transition}");
    }
}

#[tokio::test]
async fn every_example_of_an_error_is_reported_with_its_request_and_a_remedy() {
    let mut examples = Examples::of("errors");
    let headers = examples.json("429.rate-limit.headers");
    let headers =
        headers.as_object().unwrap().iter().map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap()));
    let headers: String = headers.collect();
    for (name, code, remedy) in [
        ("400.idempotency-key-missing", "IDEMPOTENCY_KEY_MISSING", "give an idempotency key"),
        ("400.invalid-transition", "VALIDATION_ERROR", "correct the request"),
        ("400.validation", "VALIDATION_ERROR", "correct the request"),
        ("401.api-key-invalid", "API_KEY_INVALID", "check the commerce API key"),
        ("403.forbidden", "FORBIDDEN", "use a key of commerce scope"),
        ("404.not-found", "NOT_FOUND", "check the id"),
        ("409.idempotency-conflict", "IDEMPOTENCY_CONFLICT", "an idempotency key belongs to one request"),
        ("429.rate-limit", "RATE_LIMIT_EXCEEDED", "try again in 30s"),
        ("500.legacy-envelope", "INTERNAL_SERVER_ERROR", "the trouble is the provider's"),
    ] {
        let body = examples.take(name);
        let status = &name[..3];
        let (rest, _asked) = provider(&format!("{status} Refused"), &headers, &body).await;
        let error = patiently(rest.order(ORDER)).await.unwrap_err();
        assert_eq!(
            (error.status().map(|status| status.to_string()).as_deref(), error.code()),
            (Some(status), Some(code))
        );
        assert!(error.remedy().starts_with(remedy), "{name}: {}", error.remedy());
        assert!(error.to_string().ends_with("(request req_8c1d2f)"), "{name}: {error}");
        let RestError::Status { retry_after, .. } = error else { panic!("{name}") };
        assert_eq!(retry_after, Some(Duration::from_secs(30)), "the header wins over the body's text");
    }
    assert_eq!(examples.left, BTreeSet::new(), "examples that no test takes");
}

#[tokio::test]
async fn a_refusal_asks_to_wait_in_either_form() {
    // By the answer's own clock, which is an hour off.
    let answered = "date: Sun, 06 Nov 1994 07:49:37 GMT\r\n";
    for (value, date, expected) in [
        ("30", "", Some(30)),
        ("Sun, 06 Nov 1994 07:50:37 GMT", answered, Some(60)),
        ("Sun, 06 Nov 1994 07:49:37 GMT", answered, Some(0)),
        ("Sun, 06 Nov 1994 07:50:37 GMT", "", None),
    ] {
        let headers = format!("{date}retry-after: {value}\r\n");
        let (rest, _asked) = provider("429 Too Many Requests", &headers, "").await;
        let Err(RestError::Status { retry_after, .. }) = rest.order(ORDER).await else { panic!("{value}") };
        assert_eq!(retry_after.map(|wait| wait.as_secs()), expected, "{value}");
    }
}

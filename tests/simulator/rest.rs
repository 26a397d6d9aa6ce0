use super::{deliver, get, http, ids, patiently, post, start};
use pepay_relay::simulator::{FaultAnswer, Options, Simulator, TimeForm};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn every_call_needs_the_commerce_key_in_either_header() {
    let simulator = start().await;
    let merchant = Options::default().merchant_key;
    let cases = [
        ("x-commerce-api-key", simulator.api_key(), 200),
        ("X-API-Key", simulator.api_key(), 200),
        ("x-commerce-api-key", "ck_wrong", 401),
        ("x-api-key", merchant.as_str(), 403),
        ("x-unrelated", simulator.api_key(), 401),
    ];
    for path in ["/api/v1/events", "/api/commerce/status", "/api/commerce/merchant/orders"] {
        for (header, key, status) in cases {
            let request = http().get(format!("{}{path}", simulator.api_url())).header(header, key);
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{path} {header}");
            assert!(response.headers().contains_key("x-request-id") && response.headers().contains_key("date"));
        }
    }
    let (status, body) = get(&simulator, "/api/nowhere").await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("NOT_FOUND")));
    assert_eq!(post(&simulator, "/api/v1/events", &json!({})).await.0, 405);
    simulator.stop().await;
}

fn page_ids(page: &Value) -> Vec<String> {
    let events = page["data"]["data"].as_array().unwrap();
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_walk_down_and_a_walk_up_both_see_the_whole_log() {
    let simulator = start().await;
    for _ in 0..5 {
        deliver(&simulator);
    }
    let issued = ids(&simulator);
    assert_eq!(issued.len(), 50);
    for (cursor, first) in [("starting_after", ""), ("ending_before", "&ending_before=evt_1-0")] {
        let mut seen = Vec::new();
        let mut query = first.to_owned();
        loop {
            let (status, page) = get(&simulator, &format!("/api/v1/events?limit=7{query}")).await;
            assert_eq!(status, 200);
            let mut ids = page_ids(&page);
            assert!(!ids.is_empty());
            if cursor == "ending_before" {
                ids.reverse();
            }
            query = format!("&{cursor}={}", ids.last().unwrap());
            seen.extend(ids);
            if page["data"]["has_more"] == false {
                break;
            }
        }
        if cursor == "starting_after" {
            seen.reverse();
        }
        assert_eq!(seen, issued, "{cursor}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn the_log_filters_and_refuses() {
    let simulator = start().await;
    let order_id = deliver(&simulator);
    deliver(&simulator);
    let count =
        async |query: &str| page_ids(&get(&simulator, &format!("/api/v1/events?limit=100&{query}")).await.1).len();
    assert_eq!(count("type=invoice.*,invoice_payment.created").await, 6);
    assert_eq!(count(&format!("order_id={order_id}")).await, 10);
    assert_eq!(count("created[gte]=0&environment=devnet").await, 20);
    assert_eq!(count("created%5Blte%5D=5").await, 0);
    for query in [
        "type=nonsense",
        "limit=0",
        "limit=101",
        "limit=x",
        "created[gte]=x",
        "starting_after=evt_example",
        "starting_after=evt_1-0&ending_before=evt_1-0",
        "environment=mainnet",
    ] {
        let (status, body) = get(&simulator, &format!("/api/v1/events?{query}")).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "{query}");
    }
    let event = simulator.events().pop().unwrap();
    let (status, body) = get(&simulator, &format!("/api/v1/events/{}", event.id)).await;
    assert_eq!((status, &body["data"]), (200, &serde_json::from_slice::<Value>(&event.bytes).unwrap()));
    assert_eq!(get(&simulator, "/api/v1/events/evt_1-0").await.0, 404);
    simulator.stop().await;
}

/// Every member of the example, with the same JSON type; `null` and an empty list fit any.
fn same_shape(path: &str, got: &Value, wanted: &Value) {
    match (got, wanted) {
        (Value::Object(got), Value::Object(wanted)) => {
            let names = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(got), names(wanted), "{path}");
            for (name, value) in wanted {
                same_shape(&format!("{path}.{name}"), &got[name], value);
            }
        }
        (Value::Array(got), Value::Array(wanted)) => {
            for (got, wanted) in got.iter().zip(wanted) {
                same_shape(&format!("{path}[]"), got, wanted);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (got, wanted) => {
            assert_eq!(std::mem::discriminant(got), std::mem::discriminant(wanted), "{path}: {got} {wanted}");
        }
    }
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/rest/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn checkout_makes_an_order_that_lives_by_simulation_and_is_cancelled() {
    let simulator = start().await;
    let base = "/api/commerce/merchant/checkout";
    same_shape("status", &get(&simulator, "/api/commerce/status").await.1, &fixture("commerce-status.response"));
    same_shape("search", &get(&simulator, "/api/commerce/search?q=cable").await.1, &fixture("search.response"));

    let mut request = fixture("checkout-estimate.request");
    let unknown = json!({ "productId": "B000000000", "retailer": "amazon", "quantity": 1 });
    request["items"].as_array_mut().unwrap().push(unknown);
    let (status, estimate) = post(&simulator, &format!("{base}/estimate"), &request).await;
    assert_eq!(status, 200, "{estimate}");
    let wanted = fixture("checkout-estimate.response");
    same_shape("estimate", &estimate, &wanted);
    for part in ["validItems", "invalidItems", "pricing", "feeBreakdown"] {
        assert_eq!(estimate["data"][part], wanted["data"][part]);
    }

    let mut request = fixture("checkout-address.request");
    assert_eq!(post(&simulator, &format!("{base}/address"), &request).await.0, 404, "another estimate");
    request["estimateId"] = estimate["data"]["estimateId"].clone();
    let (status, address) = post(&simulator, &format!("{base}/address"), &request).await;
    assert_eq!(status, 200, "{address}");
    same_shape("address", &address, &fixture("checkout-address.response"));

    let mut request = fixture("checkout-invoice.request");
    request["estimateId"] = estimate["data"]["estimateId"].clone();
    request["addressId"] = address["data"]["addressId"].clone();
    let invoice = async |body: &Value| {
        let request = http().post(format!("{}{base}/invoice", simulator.api_url())).json(body);
        let request = request.header("x-commerce-api-key", simulator.api_key()).header("Idempotency-Key", "one");
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, placed) = invoice(&request).await;
    assert_eq!(status, 200, "{placed}");
    same_shape("invoice", &placed, &fixture("checkout-invoice.response"));
    assert_eq!(invoice(&request).await, (200, placed.clone()), "the same request gets the same answer");
    request["customer_id"] = "other".into();
    assert_eq!(invoice(&request).await.0, 409);
    assert_eq!(simulator.events().len(), 2, "one order, though asked for three times");

    let order_id = placed["data"]["orderId"].as_str().unwrap();
    let simulate = format!("/api/commerce/devnet/orders/{order_id}/simulate");
    for transition in ["payment_confirmed", "payment_settled", "placed"] {
        let (status, body) = post(&simulator, &simulate, &fixture(&format!("simulate.{transition}.request"))).await;
        assert_eq!(status, 200, "{body}");
        same_shape(transition, &body, &fixture(&format!("simulate.{transition}.response")));
    }
    let (status, refused) = post(&simulator, &simulate, &json!({ "transitionTo": "placed" })).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("VALIDATION_ERROR")));
    assert_eq!(post(&simulator, &simulate, &json!({ "transitionTo": "sideways" })).await.0, 400);
    let elsewhere = "/api/commerce/devnet/orders/none/simulate";
    assert_eq!(post(&simulator, elsewhere, &json!({ "transitionTo": "placed" })).await.0, 404);

    let path = format!("/api/commerce/merchant/orders/{order_id}");
    assert_eq!(
        post(&simulator, &format!("{path}/cancel"), &json!({})).await.1["error"]["code"],
        "IDEMPOTENCY_KEY_MISSING"
    );
    let cancel = http().post(format!("{}{path}/cancel", simulator.api_url())).header("Idempotency-Key", "two");
    let cancel = cancel.header("x-commerce-api-key", simulator.api_key()).send().await.unwrap();
    let cancelled: Value = cancel.json().await.unwrap();
    same_shape("cancel", &cancelled, &fixture("order-cancel.response"));
    assert_eq!(cancelled["data"]["substatus"], "CANCELLATION_REQUESTED");
    let (_, order) = get(&simulator, &path).await;
    same_shape("order", &order, &fixture("order-get.placed"));
    assert_eq!(order["data"]["actions"]["canCancel"], false);
    assert_eq!(get(&simulator, "/api/commerce/merchant/orders/none").await.0, 404);
    simulator.stop().await;
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages_and_filtered() {
    let options = Options { times: TimeForm::UnixSeconds, ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let mut orders: Vec<_> = (0..5).map(|_| deliver(&simulator)).collect();
    orders.push(simulator.create_order().unwrap());
    orders.reverse();
    let list = async |query: &str| get(&simulator, &format!("/api/commerce/merchant/orders?{query}")).await;
    let mut seen = Vec::new();
    for offset in [0, 4, 8] {
        let (_, page) = list(&format!("limit=4&offset={offset}")).await;
        same_shape("list", &page, &fixture("orders-list"));
        let rows = page["data"]["orders"].as_array().unwrap().clone();
        assert_eq!(page["data"]["pagination"], json!({ "limit": 4, "offset": offset, "count": rows.len() }));
        seen.extend(rows.into_iter().map(|row| row["orderId"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, orders);
    let count = async |query: &str| list(query).await.1["data"]["pagination"]["count"].as_u64().unwrap();
    assert_eq!(count("status=delivered").await, 5);
    assert_eq!(count("status=pending_payment&retailer=amazon").await, 1);
    assert_eq!(count("createdTo=2020-01-01T00:00:00Z").await, 0);
    assert_eq!(count("createdFrom=1577836800").await, 6);
    for query in ["status=fulfilled", "wallet=0x1", "offset=-1", "createdFrom=never", "limit=101"] {
        assert_eq!(list(query).await.0, 400, "{query}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn rest_can_be_down_limited_slow_and_late() {
    let simulator = start().await;
    let faults = simulator.faults();
    deliver(&simulator);
    faults.set(|faults| faults.rest.refuse = Some(FaultAnswer { status: 429, retry_after_s: Some(30) }));
    let request = http().get(format!("{}/api/v1/events", simulator.api_url()));
    let response = request.header("x-api-key", simulator.api_key()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"30".parse().unwrap()));
    assert_eq!(response.json::<Value>().await.unwrap()["error_code"], "RATE_LIMIT_EXCEEDED");
    faults.set(|faults| faults.rest.refuse = Some(FaultAnswer::status(503)));
    assert_eq!(get(&simulator, "/api/commerce/status").await.0, 503);
    faults.clear();

    faults.set(|faults| faults.rest.log_visible_after = Duration::from_secs(3600));
    let late = deliver(&simulator);
    let (_, page) = get(&simulator, &format!("/api/v1/events?order_id={late}")).await;
    assert!(page_ids(&page).is_empty(), "not visible yet");
    assert_eq!(page_ids(&get(&simulator, "/api/v1/events?limit=100").await.1).len(), 10);
    faults.clear();

    faults.set(|faults| faults.rest.unknown_cursor_refused = true);
    assert_eq!(get(&simulator, "/api/v1/events?starting_after=evt_1-0").await.0, 400);
    let estimate = "/api/commerce/merchant/checkout/estimate";
    let whole = fixture("checkout-estimate.request");
    faults.set(|faults| faults.rest.whole_items_wanted = true);
    assert_eq!(post(&simulator, estimate, &whole).await.0, 200);
    for member in ["title", "price"] {
        let mut lacking = whole.clone();
        lacking["items"][0].as_object_mut().unwrap().remove(member).unwrap();
        let (status, refusal) = post(&simulator, estimate, &lacking).await;
        assert_eq!((status, &refusal["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "{member}");
    }
    faults.set(|faults| faults.rest.delay = Duration::from_secs(3600));
    let url = format!("{}/api/v1/events", simulator.api_url());
    let call = http().get(url).header("x-api-key", simulator.api_key()).timeout(Duration::from_millis(200));
    assert!(call.send().await.unwrap_err().is_timeout());
    patiently(simulator.stop()).await;
}

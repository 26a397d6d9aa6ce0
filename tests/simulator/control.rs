//! The simulator's own routes: faults, load, and what was issued.

use super::{connect, frame, get, http, ids, patiently, post, start};
use pepay_relay::simulator::{Cut, FaultAnswer, Options, Simulator};
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn faults_are_set_as_a_whole_and_touch_no_route_of_the_simulators_own() {
    let simulator = start().await;
    let wanted = json!({
        "websocket": { "flap": { "close": 1001 }, "drop_next": 3, "since": "ignored", "controls": "other" },
        "webhooks": { "delay": "2s", "jitter": "150ms", "paused": true },
        "rest": { "refuse": { "status": 429, "retry_after_s": 7 }, "log_visible_after": "1m" },
    });
    assert_eq!(post(&simulator, "/simulator/faults", &wanted).await.0, 200);
    let faults = simulator.faults().current();
    assert_eq!((faults.websocket.flap, faults.websocket.drop_next), (Some(Cut::Close(1001)), 3));
    assert_eq!((faults.webhooks.delay, faults.webhooks.paused), (Duration::from_secs(2), true));
    assert_eq!(faults.rest.refuse, Some(FaultAnswer { status: 429, retry_after_s: Some(7) }));
    assert_eq!(faults.rest.log_visible_after, Duration::from_secs(60));
    assert_eq!(get(&simulator, "/api/v1/events").await.0, 429);

    assert_eq!(post(&simulator, "/simulator/faults", &json!({ "websocket": { "silent": true } })).await.0, 200);
    let faults = simulator.faults().current();
    assert!(faults.websocket.silent && faults.websocket.flap.is_none() && !faults.webhooks.paused);
    assert_eq!(get(&simulator, "/api/v1/events").await.0, 200);
    simulator.stop().await;
}

#[tokio::test]
async fn what_is_no_fault_changes_nothing() {
    let simulator = start().await;
    for wrong in [
        json!({ "websocket": { "mute": true } }),
        json!({ "weather": {} }),
        json!({ "webhooks": { "delay": 5 } }),
        json!({ "webhooks": { "delay": "99999999999h" } }),
        json!({ "webhooks": { "paused": true, "jitter": "61m" } }),
        json!({ "rest": { "refuse": { "status": 200 } } }),
        json!("none"),
    ] {
        let (status, body) = post(&simulator, "/simulator/faults", &wrong).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "{wrong}");
    }
    assert!(!simulator.faults().current().webhooks.paused);
    for path in ["faults", "cut", "availability", "orders", "events"] {
        let url = format!("{}/simulator/{path}", simulator.api_url());
        assert_eq!(http().post(url).body("{}").send().await.unwrap().status(), 401, "{path} wants the key");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn commerce_is_turned_off_and_on() {
    let simulator = start().await;
    for (available, status) in [(false, 503), (true, 200)] {
        let wanted = json!({ "available": available });
        assert_eq!(post(&simulator, "/simulator/availability", &wanted).await.0, 200);
        assert_eq!(get(&simulator, "/api/commerce/status").await.0, status);
    }
    assert_eq!(post(&simulator, "/simulator/availability", &json!({})).await.0, 400);
    simulator.stop().await;
}

#[tokio::test]
async fn sockets_can_be_cut() {
    let simulator = start().await;
    let mut socket = connect(&simulator, "").await.unwrap();
    patiently(simulator.wait_for_connections(1)).await;
    let (status, body) = post(&simulator, "/simulator/cut", &json!({ "close": 4000 })).await;
    assert_eq!((status, &body["data"]["sockets"]), (200, &json!(1)));
    let Message::Close(Some(close)) = frame(&mut socket).await else { panic!("no close frame") };
    assert_eq!(u16::from(close.code), 4000);
    simulator.stop().await;
}

#[tokio::test]
async fn what_was_issued_is_listed_by_number_until_the_log_forgets_it() {
    let simulator = Simulator::start(Options { keep_events: 1_500, ..Options::default() }).await.unwrap();
    assert_eq!(post(&simulator, "/simulator/orders", &json!({ "count": 1_001 })).await.0, 400);
    let (_, body) = post(&simulator, "/simulator/orders", &json!({ "count": 120 })).await;
    assert_eq!(body["data"]["issued"], 1_200, "ten events an order");
    let custom = json!({ "type": "commerce.order.updated", "data": { "object": {} } });
    let (_, body) = post(&simulator, "/simulator/events", &custom).await;
    let last = body["data"]["id"].as_str().unwrap().to_owned();

    let mut told = Vec::new();
    let mut from = 0;
    loop {
        let (_, body) = get(&simulator, &format!("/simulator/events?from={from}")).await;
        let page = body["data"]["events"].as_array().unwrap();
        assert!(page.len() <= 1_000);
        assert_eq!(body["data"]["issued"], 1_201);
        if page.is_empty() {
            break;
        }
        told.extend(page.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        if from == 0 {
            let order_id = page[9]["order_id"].as_str().unwrap();
            assert!(simulator.order(order_id).is_some());
            assert_eq!(page[0]["type"], "invoice.created");
        }
        from = body["data"]["next"].as_u64().unwrap();
    }
    assert_eq!(told, ids(&simulator));
    assert_eq!(told.last(), Some(&last));

    post(&simulator, "/simulator/orders", &json!({ "count": 100 })).await;
    let (status, body) = get(&simulator, "/simulator/events?from=700").await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "forgotten");
    let (_, body) = get(&simulator, "/simulator/events?from=701").await;
    assert_eq!(body["data"]["events"][0]["id"], told[701].as_str());
    for wrong in ["-1", "x"] {
        assert_eq!(get(&simulator, &format!("/simulator/events?from={wrong}")).await.0, 400, "{wrong}");
    }
    simulator.stop().await;
}

//! The simulator's page: what it is made of, and what its buttons do.

use super::{get, http, start};
use pepay_relay::simulator::{Options, Simulator, Transition};
use serde_json::Value;

async fn press(simulator: &Simulator, path: &str, from_page: bool) -> (u16, Value) {
    let mut request = http().post(format!("{}{path}", simulator.api_url()));
    if from_page {
        request = request.header("x-simulator-page", "1");
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Transition and refusal of each button of the newest order.
async fn buttons(simulator: &Simulator) -> Vec<(String, Option<String>)> {
    let (_, page) = get(simulator, "/page/orders").await;
    let choices = page["data"]["orders"][0]["choices"].as_array().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    choices.iter().map(|choice| (text(&choice["transition"]).unwrap(), text(&choice["refusal"]))).collect()
}

#[tokio::test]
async fn it_is_one_file_that_asks_nobody_else() {
    let simulator = start().await;
    let response = http().get(simulator.api_url()).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    let page = response.text().await.unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<html lang=\"en\">"));
    assert!(page.contains("color-scheme: light dark") && page.contains("role=\"status\""));
    for outside in ["http://", "https://", "//cdn", "src=", "@import", "innerHTML"] {
        assert!(!page.contains(outside), "{outside}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn its_buttons_are_what_the_model_allows() {
    let simulator = start().await;
    assert_eq!(press(&simulator, "/page/orders", true).await.0, 200);
    for step in [Transition::PaymentConfirmed, Transition::PaymentSettled, Transition::Placed, Transition::Shipped] {
        for (name, refusal) in buttons(&simulator).await {
            let (_, page) = get(&simulator, "/page/orders").await;
            let order_id = page["data"]["orders"][0]["orderId"].as_str().unwrap().to_owned();
            match refusal {
                Some(refusal) => {
                    let (status, body) = press(&simulator, &format!("/page/orders/{order_id}/{name}"), true).await;
                    assert_eq!((status, body["error"]["message"].as_str()), (400, Some(refusal.as_str())), "{name}");
                }
                None if name == step.as_str() => {
                    let path = format!("/page/orders/{order_id}/{name}");
                    assert_eq!(press(&simulator, &path, false).await.0, 403, "not from another page");
                    assert_eq!(press(&simulator, &path, true).await.0, 200);
                    break;
                }
                None => assert!(["failed", "cancelled"].contains(&name.as_str()), "{name} before {}", step.as_str()),
            }
        }
    }
    let (_, page) = get(&simulator, "/page/orders").await;
    assert_eq!((&page["data"]["total"], &page["data"]["orders"][0]["status"]), (&1.into(), &"shipped".into()));
    assert_eq!(press(&simulator, "/page/orders/none/placed", true).await.0, 404);
    assert_eq!(press(&simulator, "/page/orders/none/sideways", true).await.0, 400);
    assert_eq!(press(&simulator, "/page/orders", false).await.0, 403);
    simulator.stop().await;
}

#[tokio::test]
async fn on_mainnet_every_button_is_refused() {
    let simulator = Simulator::start(Options { mainnet: true, ..Options::default() }).await.unwrap();
    simulator.create_order().unwrap();
    assert!(
        buttons(&simulator)
            .await
            .iter()
            .all(|(_, refusal)| refusal.as_deref().is_some_and(|text| text.contains("devnet")))
    );
    simulator.stop().await;
}

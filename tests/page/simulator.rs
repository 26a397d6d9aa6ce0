//! The simulator's page as people use it: every transition pressed, a refusal shown, on a desk and on a phone.

use super::pictures;
use crate::chromium::Chromium;
use pepay_relay::simulator::{Options, Simulator, Transition};
use serde_json::{Value, json};

/// Three lives that press all eight transitions.
const LIVES: [(&[Transition], &str); 3] = [
    (
        &[
            Transition::PaymentConfirmed,
            Transition::PaymentSettled,
            Transition::Placed,
            Transition::Shipped,
            Transition::DeliveryConfirmed,
        ],
        "delivered",
    ),
    (
        &[
            Transition::PaymentConfirmed,
            Transition::PaymentSettled,
            Transition::Placed,
            Transition::Cancelled,
            Transition::Refunded,
        ],
        "cancelled",
    ),
    (&[Transition::PaymentConfirmed, Transition::Failed], "failed"),
];

/// Presses a button of an order as a mouse does, where it is on the screen.
async fn press(page: &mut Chromium, order: &str, transition: &str) {
    let button = format!("document.querySelector('[id=\"{order}\"] [data-transition={transition}]')");
    let place = format!(
        "(() => {{ const button = {button}; button.scrollIntoView({{ block: 'center' }}); \
         const box = button.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
    );
    let place = page.evaluate(&place).await;
    for kind in ["mousePressed", "mouseReleased"] {
        let x = &place[0];
        let y = &place[1];
        let click = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
        page.call("Input.dispatchMouseEvent", click).await;
    }
}

async fn told(page: &mut Chromium, what: &str) {
    page.until(what, &format!("document.getElementById('told').textContent.startsWith({})", json!(what))).await;
}

#[tokio::test]
async fn every_transition_can_be_pressed_and_a_refusal_is_shown() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let mut page = Chromium::start().await;
    page.appear(1280, 900, "light").await;
    let base = simulator.api_url();
    page.call("Page.navigate", json!({ "url": format!("{base}/") })).await;
    page.until("nothing yet", "document.getElementById('count')?.textContent == '0 orders'").await;
    page.evaluate("document.getElementById('create').click()").await;
    page.until("a first order", "document.querySelectorAll('article').length == 1").await;

    for (number, (life, end)) in LIVES.into_iter().enumerate() {
        let order = simulator.create_order().unwrap();
        page.until("the order", &format!("document.getElementById('{order}') != null")).await;
        press(&mut page, &order, "shipped").await;
        told(&mut page, "Refused: ").await;
        assert!(page.evaluate("document.getElementById('told').className").await == "wrong", "in the tone of mistakes");
        if number == 0 {
            page.picture(&pictures().join("simulator-refused.png")).await;
        }
        let before = simulator.events().len();
        for step in life {
            press(&mut page, &order, step.as_str()).await;
            told(&mut page, &step.as_str().replace('_', " ")).await;
            // The card is then drawn again; a press that begins on the old one ends nowhere.
            let drawn = format!(
                "document.querySelector('[id=\"{order}\"] [data-transition={}]').ariaDisabled == 'true'",
                step.as_str()
            );
            page.until("the card shows it", &drawn).await;
        }
        assert!(simulator.events().len() >= before + life.len(), "each step is an event");
        let state = format!("document.querySelector('[id=\"{order}\"] .state').textContent.startsWith('{end}')");
        page.until("the state is shown", &state).await;
    }

    for (name, width, height) in [("desk", 1280, 900), ("phone", 360, 800)] {
        for scheme in ["light", "dark"] {
            page.appear(width, height, scheme).await;
            let wide = page.evaluate("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{name} scrolls sideways: {wide} in {width}");
            let small =
                "[...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 32).length";
            assert_eq!(page.evaluate(small).await, 0, "{name}: buttons too small for a finger");
            page.picture(&pictures().join(format!("simulator-{name}-{scheme}.png"))).await;
        }
    }
    let (complaints, addresses) = page.told();
    // A refusal is an answer with status 400, which Chromium itself writes into its log.
    let complaints: Vec<&&Value> = complaints
        .iter()
        .filter(|event| !event["params"]["entry"]["text"].as_str().unwrap_or_default().contains("status of 400"))
        .collect();
    assert_eq!(complaints, Vec::<&&Value>::new(), "nothing on the console");
    let outside: Vec<_> = addresses.iter().filter(|url| !url.starts_with(&base) && !url.starts_with("data:")).collect();
    assert!(!addresses.is_empty() && outside.is_empty(), "{outside:?}");

    simulator.stop().await;
    told(&mut page, "The simulator does not answer").await;
}

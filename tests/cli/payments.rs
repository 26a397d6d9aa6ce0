use super::lines;
use super::redact::redact;
use super::shop::Shop;
use pepay_relay::simulator::Transition;

#[tokio::test]
async fn one_payment_shows_who_paid_with_what() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let unpaid = shop.ok(&["payments", "status", &order]).await;
    shop.live(&order, &Transition::LIFE[..2]);
    let paid = shop.both(&["payments", "status", &order]).await;
    insta::assert_snapshot!("payments-status", format!("{}\n{paid}", redact(&unpaid)));
    let json = shop.ok(&["payments", "status", &order, "--output", "json"]).await;
    shop.is_untouched(&json, &format!("/api/commerce/merchant/payments/{order}/status")).await;
}

#[tokio::test]
async fn many_payments_are_rows_asked_for_fifty_at_a_time() {
    let shop = Shop::open().await;
    let orders: Vec<String> = (0..60).map(|_| shop.simulator.create_order().unwrap()).collect();
    shop.live(&orders[1], &Transition::LIFE[..1]);
    let few = ["payments", "status", &orders[0], &orders[1]];
    insta::assert_snapshot!("payments-status-many", shop.both(&few).await);

    let before = shop.simulator.requests();
    let all: Vec<&str> = orders.iter().map(String::as_str).collect();
    let told = shop.ok(&[&["payments", "status", "--output", "json"], &all[..]].concat()).await;
    assert_eq!(shop.simulator.requests() - before, 2, "60 orders are two requests");
    let ids: Vec<_> = lines(&told).iter().map(|row| row["orderId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, orders);
}

#[tokio::test]
async fn an_order_that_is_unknown_is_a_row_and_status_1() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let ended = shop.run(&["payments", "status", &order, "11111111-1111-4111-8111-111111111111"]).await;
    assert_eq!(ended.status, 1);
    assert!(ended.stdout.contains("Order not found") && ended.stdout.contains("unpaid"), "{ended:?}");
    assert!(ended.stderr.contains("of 2 orders, 1 could not be found; check their ids"), "{ended:?}");
}

use super::lines;
use super::redact::redact;
use super::shop::Shop;
use pepay_relay::simulator::Transition;

const BSC: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";

#[tokio::test]
async fn orders_are_listed_and_filtered() {
    let shop = Shop::open().await;
    let delivered = shop.order_of("cust_1").await;
    shop.live(&delivered, &Transition::LIFE);
    shop.order_of("cust_2").await;
    let wallet = ["--wallet-address", "0x52908400098527886E0F7030069857D2E4169EE7", "--wallet-network", "bsc"];
    shop.order(&wallet).await;
    insta::assert_snapshot!("orders-list", shop.both(&["orders", "list"]).await);
    let json = shop.ok(&["orders", "list", "--output", "json"]).await;
    shop.is_untouched(&json, "/api/commerce/merchant/orders?limit=20&offset=0").await;

    for (filter, count) in [
        (&["--customer-id", "cust_1"][..], 1),
        (&["--status", "pending_payment"], 2),
        (&["--status", "pending_payment", "--customer-id", "cust_1"], 0),
        (&wallet, 1),
        (&["--retailer", "amazon"], 3),
        (&["--retailer", "corner shop"], 0),
        (&["--from", "1h"], 3),
        (&["--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z"], 0),
        (&["--offset", "1"], 2),
        (&["--limit", "1"], 1),
    ] {
        let page = shop.ok(&[&["orders", "list", "--output", "json"], filter].concat()).await;
        assert_eq!(lines(&page)[0]["orders"].as_array().unwrap().len(), count, "{filter:?}");
    }
    let none = shop.run(&["orders", "list", "--customer-id", "nobody"]).await;
    assert_eq!((none.status, none.stdout.as_str()), (0, ""));
    assert!(none.stderr.starts_with("no orders; "), "{none:?}");
}

#[tokio::test]
async fn every_page_is_taken_up_to_a_short_one() {
    let shop = Shop::open().await;
    let mut made: Vec<String> = (0..5).map(|_| shop.simulator.create_order().unwrap()).collect();
    made.reverse();
    let ids = |pages: &str| -> Vec<Vec<String>> {
        let ids = |page: &serde_json::Value| {
            page["orders"].as_array().unwrap().iter().map(|row| row["orderId"].as_str().unwrap().to_owned()).collect()
        };
        lines(pages).iter().map(ids).collect()
    };
    let pages = ids(&shop.ok(&["orders", "list", "--all", "--limit", "2", "--output", "json"]).await);
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1], "a page a line");
    assert_eq!(pages.concat(), made);
    let table = shop.ok(&["orders", "list", "--all", "--limit", "2"]).await;
    assert!(made.iter().all(|id| table.contains(id)), "{table}");
    let first = shop.run(&["orders", "list", "--limit", "2"]).await;
    assert_eq!(first.stderr, "there may be more: --offset 2, or --all\n");
}

#[tokio::test]
async fn an_order_shows_its_timeline_and_shipments() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    shop.live(&order, &Transition::LIFE[..4]);
    insta::assert_snapshot!("orders-get", shop.both(&["orders", "get", &order]).await);
    let json = shop.ok(&["orders", "get", &order, "--output", "json"]).await;
    shop.is_untouched(&json, &format!("/api/commerce/merchant/orders/{order}")).await;
    assert!(shop.ok(&["orders", "get", &order]).await.contains(" IST\n"), "the local zone");
    let utc = shop.ok(&["orders", "get", &order, "--utc"]).await;
    assert!(utc.contains(" UTC\n") && !utc.contains("IST"), "{utc}");
}

#[tokio::test]
async fn a_cancellation_is_asked_for_once_a_key() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    shop.live(&order, &Transition::LIFE[..3]);
    let issued = shop.simulator.events().len();
    let cancel = ["orders", "cancel", &order, "--refund-address", BSC];
    let first = shop.run(&cancel).await;
    assert_eq!(first.status, 0, "{first:?}");
    insta::assert_snapshot!("orders-cancel", redact(&format!("{}\nstderr:\n{}", first.stdout, first.stderr)));
    assert_eq!(shop.simulator.events().len(), issued + 1);

    let key = first.stderr.split_whitespace().nth(1).unwrap();
    let again = [&cancel[..], &["--idempotency-key", key]].concat();
    let second = shop.run(&again).await;
    assert_eq!((second.status, second.stdout), (0, first.stdout), "the same answer");
    assert_eq!(shop.simulator.events().len(), issued + 1, "one cancellation, though asked for twice");
    let json = shop.ok(&[&again[..], &["--output", "json"]].concat()).await;
    insta::assert_snapshot!("orders-cancel-json", redact(&json));

    let other = shop.run(&["orders", "cancel", &order, "--idempotency-key", key]).await;
    assert!(other.status == 1 && other.stderr.contains("409"), "the key of another request: {other:?}");
    let fresh = shop.run(&cancel).await;
    assert!(fresh.status == 1 && fresh.stderr.contains("cannot be cancelled"), "another request: {fresh:?}");
    assert!(shop.ok(&["orders", "get", &order]).await.contains("\ncancel    requested\n"));
}

#[tokio::test]
async fn every_transition_is_taken_by_hand() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let simulate = ["devnet", "simulate", &order];
    let wallet = ["--wallet-network", "bsc", "--wallet-address", BSC];
    let parcel = ["--carrier", "DHL", "--tracking-number", "JD014600003RU"];
    let mut told = String::new();
    for (transition, more) in [
        (Transition::PaymentConfirmed, &wallet[..]),
        (Transition::PaymentSettled, &[]),
        (Transition::Placed, &[]),
        (Transition::Cancelled, &[]),
        (Transition::Refunded, &[]),
    ] {
        told += &shop.ok(&[&simulate[..], &[transition.as_str()], more].concat()).await;
        told.push('\n');
    }
    insta::assert_snapshot!("devnet-simulate", redact(&told));
    insta::assert_snapshot!("orders-get-refunded", redact(&shop.ok(&["orders", "get", &order]).await));

    let order = shop.order_of("cust_8842").await;
    shop.live(&order, &Transition::LIFE[..3]);
    let shipped =
        shop.ok(&[&["devnet", "simulate", &order, "shipped", "--output", "json"], &parcel[..]].concat()).await;
    let shipment = &lines(&shipped)[0]["order"]["fulfillment"]["shipments"][0];
    assert_eq!((&shipment["carrier"], &shipment["trackingNumber"]), (&"DHL".into(), &"JD014600003RU".into()));
    shop.ok(&["devnet", "simulate", &order, "delivery_confirmed"]).await;
    let failed = shop.order_of("cust_8842").await;
    shop.live(&failed, &Transition::LIFE[..1]);
    assert!(shop.ok(&["devnet", "simulate", &failed, "failed"]).await.contains("failed"));
}

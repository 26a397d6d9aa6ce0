use super::shop::Shop;
use pepay_relay::simulator::FaultAnswer;

#[tokio::test]
async fn availability_is_a_few_lines() {
    let shop = Shop::open().await;
    insta::assert_snapshot!("availability", shop.both(&["availability"]).await);
    shop.is_untouched(&shop.ok(&["availability", "--output", "json"]).await, "/api/commerce/status").await;
}

#[tokio::test]
async fn a_provider_that_does_not_sell_is_status_1() {
    let shop = Shop::open().await;
    shop.simulator.set_available(false);
    let before = shop.simulator.requests();
    let ended = shop.run(&["availability"]).await;
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(ended.stderr.contains("503") && ended.stderr.contains("the trouble is the provider's"), "{ended:?}");
    assert_eq!(shop.simulator.requests() - before, 3, "it is asked again, twice");
}

#[tokio::test]
async fn a_long_wait_is_reported_and_not_waited_for() {
    let shop = Shop::open().await;
    shop.simulator
        .faults()
        .set(|faults| faults.rest.refuse = Some(FaultAnswer { status: 429, retry_after_s: Some(600) }));
    let before = shop.simulator.requests();
    let ended = shop.run(&["availability"]).await;
    assert!(ended.status == 1 && ended.stderr.contains("try again in 10m"), "{ended:?}");
    assert_eq!(shop.simulator.requests() - before, 1);
}

#[tokio::test]
async fn products_are_found_by_words() {
    let shop = Shop::open().await;
    insta::assert_snapshot!("products-search", shop.both(&["products", "search", "e", "--limit", "4"]).await);
    let words = shop.ok(&["products", "search", "usb-c", "cable,"]).await;
    assert!(words.contains("B0D7KX91QZ"), "{words}");
    let json = shop.ok(&["products", "search", "lamp", "--output", "json"]).await;
    shop.is_untouched(&json, "/api/commerce/search?q=lamp").await;
}

#[tokio::test]
async fn nothing_found_is_status_1_also_for_scripts() {
    let shop = Shop::open().await;
    let ended = shop.run(&["products", "search", "nothing like it", "--output", "json"]).await;
    assert_eq!((ended.status, ended.stdout.as_str()), (1, "{\"products\":[]}\n"), "{ended:?}");
}

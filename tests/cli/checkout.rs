use super::lines;
use super::redact::redact;
use super::shop::Shop;

const WALLET: [&str; 4] = ["--wallet-address", "0x52908400098527886E0F7030069857D2E4169EE7", "--wallet-network", "bsc"];

#[tokio::test]
async fn an_estimate_lists_what_can_be_bought_and_what_not() {
    let shop = Shop::open().await;
    let mixed = ["checkout", "estimate", "B0D7KX91QZ:2", "B0AGEDOAK1", "B000000000:3", "--customer-id", "cust_8842"];
    insta::assert_snapshot!("checkout-estimate", shop.both(&mixed).await);
    let by_wallet = shop.ok(&[&["checkout", "estimate", "B0D7KX91QZ", "--output", "json"], &WALLET[..]].concat()).await;
    assert_eq!(lines(&by_wallet)[0]["walletNetwork"], "bsc");
}

#[tokio::test]
async fn step_by_step_is_a_checkout_too() {
    let shop = Shop::open().await;
    let who = ["--customer-id", "cust_8842"];
    let json = shop.ok(&[&["checkout", "estimate", "B0D7KX91QZ:2", "--output", "json"], &who[..]].concat()).await;
    let estimate_id = lines(&json)[0]["estimateId"].as_str().unwrap().to_owned();

    let address = ["checkout", "address", "--estimate-id", &estimate_id, "--address-file", "home.json"];
    let address = [&address[..], &["--address-line2", "Suite 3"], &who].concat();
    insta::assert_snapshot!("checkout-address", shop.both(&address).await);
    let json = shop.ok(&[&address[..], &["--output", "json"]].concat()).await;
    assert_eq!(lines(&json)[0]["standardized"]["address_line2"], "Suite 3", "an option wins over the file");
    let address_id = lines(&json)[0]["addressId"].as_str().unwrap().to_owned();

    let key = "5f0c1f1e-63d3-4c0b-9d0a-0e2b6c9a7f21";
    let invoice = ["checkout", "invoice", "--estimate-id", &estimate_id, "--address-id", &address_id];
    let invoice = [&invoice[..], &["--idempotency-key", key], &who].concat();
    insta::assert_snapshot!("checkout-invoice", shop.both(&invoice).await);
    assert_eq!(shop.simulator.events().len(), 2, "one key is one order, though asked for twice");
    let ended = shop.run(&invoice).await;
    assert!(!ended.stderr.contains("idempotency-key"), "a given key is known: {ended:?}");
}

#[tokio::test]
async fn all_steps_at_once_show_each() {
    let shop = Shop::open().await;
    let create = ["checkout", "create", "B0D7KX91QZ:2", "--customer-id", "cust_8842", "--address-file", "home.json"];
    let ended = shop.run(&create).await;
    assert_eq!(ended.status, 0, "{ended:?}");
    insta::assert_snapshot!("checkout-create", redact(&format!("{}\nstderr:\n{}", ended.stdout, ended.stderr)));

    let json = lines(&shop.ok(&[&create[..], &["--output", "json"]].concat()).await);
    let [estimate, address, invoice] = &json[..] else { panic!("{json:?}") };
    assert!(estimate["estimateId"].is_string() && address["addressId"].is_string() && invoice["orderId"].is_string());
}

#[tokio::test]
async fn the_pay_link_is_drawn_where_it_is_wanted() {
    let shop = Shop::open().await;
    let create = ["checkout", "create", "B0D7KX91QZ", "--customer-id", "c", "--address-file", "home.json"];
    let plain = shop.ok(&create).await;
    assert!(plain.contains("/?session=pst_") && !plain.contains('█'), "{plain}");
    let drawn = shop.ok(&[&create[..], &["--qr", "always"]].concat()).await;
    let code: Vec<&str> = drawn.lines().filter(|line| line.starts_with('█')).collect();
    let wide = code[0].chars().count();
    assert!(code.len() > 20 && code.iter().all(|line| line.chars().count() == wide), "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "colour is for terminals");
}

#[tokio::test]
async fn nothing_is_ordered_that_is_not_as_it_was_wanted() {
    let shop = Shop::open().await;
    let create =
        ["checkout", "create", "B0D7KX91QZ", "B000000000", "--customer-id", "c", "--address-file", "home.json"];
    let ended = shop.run(&create).await;
    assert!(ended.status == 1 && ended.stderr.contains("1 of 2 cannot be bought; leave it out"), "{ended:?}");
    assert!(ended.stdout.contains("B000000000 of amazon: no eligible offer"), "{ended:?}");
    let none = ["checkout", "create", "B000000000", "--customer-id", "c", "--address-file", "home.json", "--partial"];
    assert!(shop.run(&none).await.stderr.contains("none of it can be bought"));
    assert!(shop.simulator.events().is_empty());

    let ended = shop.run(&[&create[..], &["--partial"]].concat()).await;
    assert_eq!((ended.status, shop.simulator.events().len()), (0, 2), "{ended:?}");
}

#[tokio::test]
async fn a_customer_of_the_settings_buys_where_none_is_named() {
    let shop = Shop::open().await;
    let environment = [("PEPAY_RELAY__COMMERCE__CUSTOMER_ID", "cust_of_settings")];
    let estimate = ["checkout", "estimate", "B0D7KX91QZ", "--output", "json"];
    let customer = async |more: &[&str]| {
        let ended = shop.run_with(&[&estimate[..], more].concat(), &environment).await;
        let estimate = lines(&ended.stdout).remove(0);
        (estimate["customerId"].clone(), estimate["walletAddress"].clone())
    };
    assert_eq!(customer(&[]).await.0, "cust_of_settings");
    assert_eq!(customer(&["--customer-id", "another"]).await.0, "another");
    let (id, wallet) = customer(&WALLET).await;
    assert!(id.is_null() && wallet == WALLET[1], "{id} {wallet}");
}

#[tokio::test]
async fn a_provider_that_wants_titles_and_prices_is_given_its_own_or_those_of_the_command_line() {
    let shop = Shop::open().await;
    shop.simulator.faults().set(|faults| faults.rest.whole_items_wanted = true);
    let who = ["--customer-id", "c"];
    let estimate = ["checkout", "estimate", "B0D7KX91QZ:2", "B0CTG81MSR", "--customer-id", "c"];
    shop.ok(&estimate).await;
    shop.ok(&[&["checkout", "create", "B0D7KX91QZ", "--address-file", "home.json"], &who[..]].concat()).await;

    let before = shop.simulator.requests();
    let given = ["--title", "Cable", "--price", "11.49", "--title", "Lamp", "--price", "1"];
    shop.ok(&[&estimate[..], &given].concat()).await;
    assert_eq!(shop.simulator.requests() - before, 1, "what is given is not looked up");

    let ended = shop.run(&[&estimate[..], &["--price", "11.49"]].concat()).await;
    assert!(ended.status == 2 && ended.stderr.contains("--price is given once per product"), "{ended:?}");
}

#[tokio::test]
async fn a_product_that_the_provider_does_not_show_is_left_to_the_estimate() {
    let shop = Shop::open().await;
    let estimate = ["checkout", "estimate", "B000000000", "B0D7KX91QZ", "--customer-id", "c"];
    let ended = shop.run(&estimate).await;
    let shows_none = "B000000000: the provider does not show its title and price; give --title and --price\n";
    assert_eq!((ended.status, ended.stderr.as_str()), (0, shows_none));
    assert!(ended.stdout.contains("B000000000 of amazon: no eligible offer"), "{ended:?}");

    shop.simulator.faults().set(|faults| faults.rest.whole_items_wanted = true);
    let ended = shop.run(&estimate).await;
    assert!(ended.status == 1 && ended.stderr.contains("title and price of each item are required"), "{ended:?}");
    let given = ["--title", "Unknown", "--price", "1", "--title", "Cable", "--price", "11.49"];
    assert!(shop.ok(&[&estimate[..], &given].concat()).await.contains("B000000000 of amazon: no eligible offer"));
}

//! What people get wrong, and what they read: one sentence with its remedy.

use super::redact::redact;
use super::shop::Shop;
use super::{Ended, ended};
use pepay_relay::simulator::Transition;
use pepay_relay::simulator::{Options, Simulator};
use std::fmt::Write;

const UNKNOWN: &str = "11111111-1111-4111-8111-111111111111";
const KEY: &str = "PEPAY_RELAY_API_KEY";
const URL: &str = "PEPAY_RELAY__PROVIDER__API_URL";
const BUY: [&str; 5] = ["checkout", "create", "B0D7KX91QZ", "--customer-id", "c"];

/// Runs each command line, and returns its stderr.
async fn told(shop: &Shop, status: i32, cases: &[&[&str]], environment: &[(&str, &str)]) -> String {
    let mut told = String::new();
    for arguments in cases {
        let ended = shop.run_with(arguments, environment).await;
        let Ended { status: ended_with, stdout, stderr } = &ended;
        assert_eq!(*ended_with, status, "{arguments:?}: {ended:?}");
        let sentence = stderr.lines().last().unwrap();
        if status == 1 {
            assert!(sentence.starts_with("pepay-relay: ") && sentence.contains("; "), "no remedy: {ended:?}");
            assert!(stdout.is_empty() || arguments[0] == "checkout", "{ended:?}");
        }
        writeln!(told, "$ pepay-relay {}\n{stderr}", arguments.join(" ")).unwrap();
    }
    redact(&told)
}

#[tokio::test]
async fn refusals_of_the_provider_have_a_remedy() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let expired = shop.order_of("cust_8842").await;
    shop.simulator.expire_invoice(&expired).unwrap();
    let cases: [&[&str]; 13] = [
        &["orders", "get", UNKNOWN],
        &["orders", "get", ".."],
        &["orders", "cancel", UNKNOWN, "--idempotency-key", UNKNOWN],
        &["orders", "cancel", &order, "--idempotency-key", UNKNOWN],
        &["orders", "list", "--status", "fulfilled"],
        &["payments", "status", UNKNOWN],
        &["devnet", "simulate", UNKNOWN, "placed"],
        &["devnet", "simulate", &order, "shipped"],
        &["devnet", "simulate", &expired, "payment_confirmed"],
        &["products", "search", "nothing like it"],
        &["checkout", "estimate", "B0CTG81MSR:28", "--customer-id", "c"],
        &["checkout", "address", "--estimate-id", UNKNOWN, "--address-file", "home.json", "--customer-id", "c"],
        &[
            "checkout",
            "invoice",
            "--estimate-id",
            UNKNOWN,
            "--address-id",
            UNKNOWN,
            "--customer-id",
            "c",
            "--idempotency-key",
            UNKNOWN,
        ],
    ];
    insta::assert_snapshot!("refusals", told(&shop, 1, &cases, &[]).await);
    let limit = shop.run(cases[10]).await;
    assert!(limit.stderr.contains("2,500 USD"), "{limit:?}");
}

#[tokio::test]
async fn wrong_keys_and_environments_are_distinguished() {
    let shop = Shop::open().await;
    let unknown = told(&shop, 1, &[&["availability"], &["orders", "list"]], &[(KEY, "ck_of_somebody_else")]).await;
    let other_scope = Options::default().merchant_key;
    let scope = told(&shop, 1, &[&["availability"]], &[(KEY, &other_scope)]).await;
    let mainnet = Shop::open_with(Options { mainnet: true, ..Options::default() }).await;
    let order = mainnet.order_of("c").await;
    let environment = told(&mainnet, 1, &[&["devnet", "simulate", &order, "payment_confirmed"]], &[]).await;
    let all = format!("{unknown}{scope}{environment}");
    assert!(!all.contains("ck_of") && !all.contains("pk_sim"), "{all}");
    insta::assert_snapshot!("keys", all);
}

#[tokio::test]
async fn addresses_and_their_files_are_validated_before_anything_is_sent() {
    let shop = Shop::open().await;
    shop.write("broken.json", "{\"city\": \"Miami\",\n  \"state\" \"FL\"}");
    shop.write("broken.toml", "city = \"Miami\"\nstate = FL\n");
    shop.write("other.toml", "first_name = \"Ada\"\ntown = \"Miami\"\n");
    shop.write("part.toml", "first_name = \"Ada\"\nlast_name = \"\"\ncity = \"Miami\"\n");
    shop.write("large.json", &" ".repeat(70_000));
    let file = |name: &'static str| [&BUY[..], &["--address-file", name]].concat();
    let [json, toml, other, large, missing] =
        ["broken.json", "broken.toml", "other.toml", "large.json", "nowhere.toml"].map(file);
    let before = shop.simulator.requests();
    let files = told(&shop, 1, &[&json, &toml, &other, &large, &missing], &[]).await;
    let parts = told(&shop, 2, &[&file("part.toml"), &BUY], &[]).await;
    assert_eq!(shop.simulator.requests(), before, "nothing is sent");
    insta::assert_snapshot!("addresses", format!("{files}{parts}"));
}

#[tokio::test]
async fn an_address_may_come_by_stdin() {
    let shop = Shop::open().await;
    let arguments = [&BUY[..], &["--address-file", "-"]].concat();
    let address = shop.read("home.json");
    assert_eq!(ended(shop.command(&arguments, &[]), &address).await.status, 0);
    assert_eq!(shop.simulator.events().len(), 2);
}

#[tokio::test]
async fn nobody_at_home_is_reported_with_what_to_check() {
    let shop = Shop::open().await;
    let gone = Simulator::start(Options::default()).await.unwrap();
    let url = gone.api_url();
    gone.stop().await;
    let cases: [&[&str]; 3] = [&["availability"], &["orders", "get", UNKNOWN], &["orders", "get", UNKNOWN, "--watch"]];
    insta::assert_snapshot!("nobody", told(&shop, 1, &cases, &[(URL, &url)]).await);
    shop.simulator.faults().set(|faults| faults.rest.delay = std::time::Duration::from_secs(3_600));
    let slow = [("PEPAY_RELAY__PROVIDER__TIMEOUT", "1s")];
    let late = told(&shop, 1, &[&["availability"]], &slow).await;
    assert!(late.contains("in time; try again, or raise provider.timeout"), "{late}");
}

#[tokio::test]
async fn wrong_usage_is_status_2_and_nothing_is_sent() {
    let shop = Shop::open().await;
    let order = shop.simulator.create_order().unwrap();
    let cases: [&[&str]; 16] = [
        &["products", "search", " "],
        &["products", "search"],
        &["products", "search", "lamp", "--limit", "0"],
        &["checkout", "estimate", "B0D7KX91QZ:0", "--customer-id", "c"],
        &["checkout", "estimate", "B0D7KX91QZ"],
        &["checkout", "estimate", "B0D7KX91QZ", "--wallet-address", "0x1"],
        &[
            "checkout",
            "estimate",
            "B0D7KX91QZ",
            "--customer-id",
            "c",
            "--wallet-address",
            "0x1",
            "--wallet-network",
            "bsc",
        ],
        &["payments", "status"],
        &["orders", "get", ""],
        &["orders", "get", &order, "--watch", "--every", "1ms"],
        &["orders", "list", "--from", "yesterday"],
        &["orders", "list", "--limit", "101"],
        &["orders", "cancel", &order, "--idempotency-key", "once"],
        &["orders", "cancel", &order, "--refund-address", "0x1"],
        &["devnet", "simulate", &order, "sideways"],
        &["devnet", "simulate", &order, "shiped"],
    ];
    let before = shop.simulator.requests();
    insta::assert_snapshot!("usage", told(&shop, 2, &cases, &[]).await);
    assert_eq!(shop.simulator.requests(), before);
}

#[tokio::test]
async fn settings_are_validated_as_far_as_they_matter() {
    let shop = Shop::open().await;
    let cases: [&[&str]; 1] = [&["availability"]];
    let no_key = told(&shop, 78, &cases, &[(KEY, "")]).await;
    let in_clear = told(&shop, 78, &cases, &[(URL, "http://pepay.example")]).await;
    let wrong = told(&shop, 78, &cases, &[("PEPAY_RELAY__PROVIDER__TIMEOUT", "soon"), (KEY, "")]).await;
    assert!(wrong.contains("provider.timeout") && wrong.contains("API key"), "both at once: {wrong}");
    insta::assert_snapshot!("settings", format!("{no_key}{in_clear}"));
    shop.write("relay.toml", "[provider]\nenvironment = \"devnet\"\n[kafka]\npartitions = 0\n");
    let file = shop.run(&["availability", "--config", "relay.toml"]).await;
    assert!(file.status == 78 && file.stderr.contains("kafka.partitions"), "what is set must be right: {file:?}");
    let order = shop.order_of("c").await;
    shop.live(&order, &Transition::LIFE);
    shop.write("relay.toml", "name = \"shop\"\n[commerce]\ncustomer_id = \"c\"\n");
    let read = shop.run(&["orders", "get", &order, "--watch", "--config", "relay.toml"]).await;
    assert_eq!((read.status, read.stderr.as_str()), (0, ""), "an order that has ended is not waited for: {read:?}");
}

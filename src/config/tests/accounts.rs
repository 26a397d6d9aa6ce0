//! Several accounts: how they are written, what is wrong with them, and what a reload makes of them.

use super::*;
use crate::config::Account;
use secrecy::ExposeSecret;

const TWO: &str = "[accounts.shop-b]\n[accounts.shop-a]\napi_key_file = '/keys/a'\ncustomer_id = 'cust_1'\n";

fn names(config: &Config) -> Vec<&str> {
    config.accounts.iter().map(|account| account.name.as_str()).collect()
}

#[test]
fn accounts_are_sections_or_an_inline_table() {
    let inline = "{ shop-b = {}, shop-a = { api_key_file = '/keys/a', customer_id = 'cust_1' } }";
    let written = Case::new(&format!("{REQUIRED}{TWO}"), &[]);
    let variable = Case::new(REQUIRED, &[("PEPAY_RELAY__ACCOUNTS", inline)]);
    for case in [written, variable] {
        let config = settings(&case.sources).unwrap().0;
        assert_eq!(names(&config), ["shop-a", "shop-b"]);
        let [a, b] = &config.accounts[..] else { unreachable!() };
        assert_eq!((&a.api_key_file, a.customer_id.as_deref()), (&Some(PathBuf::from("/keys/a")), Some("cust_1")));
        assert_eq!(*b, Account::named("shop-b"));
        assert_eq!(config.webhook.path_of("shop-a"), "/webhooks/pepay/shop-a");
    }
}

#[test]
fn what_is_wrong_with_an_account_is_reported_at_its_place() {
    for (line, told) in [
        ("[accounts.Shop]", "relay.toml:3: accounts.Shop: is under a name that no account can have; name it with"),
        ("[accounts.a]\napi_key_file = 'keys/a'", "relay.toml:4: accounts.a.api_key_file: is not the absolute path"),
        (
            "[accounts.a]\napi_key_fil = '/a'",
            "relay.toml:4: accounts.a.api_key_fil: is not a setting of an account; did you mean",
        ),
        ("accounts.a = 'x'", "relay.toml:3: accounts.a: is not an account; write it as [accounts.NAME]"),
        ("accounts = 'x'", "relay.toml:3: accounts: is not a table of accounts; write it as [accounts.NAME]"),
        ("[accounts.pepay-relay]", "relay.toml:3: accounts: has an account with the name of the relay"),
        (
            "webhook.health_path = '/webhooks/pepay/a'\n[accounts.a]",
            "relay.toml:3: webhook.health_path: is the path of an account",
        ),
        ("commerce.customer_id = 'c'\n[accounts.a]", "relay.toml:3: commerce.customer_id: is for one account"),
        ("provider.api_key_file = '/a'\n[accounts.a]", "relay.toml:3: provider.api_key_file: is for one account"),
        (
            "[accounts.a]\napi_key_file = 'pk_live_hush'",
            "relay.toml:3: accounts: holds something that looks like a secret",
        ),
    ] {
        let found = mistakes(&format!("{REQUIRED}{line}\n"), &[]);
        assert!(found.starts_with(told) && !found.contains("hush"), "{line}\n{found}");
    }
}

#[test]
fn each_account_has_its_secrets_in_files_or_credentials_and_the_single_ones_are_mistakes() {
    let mut case = Case::new("", &[]);
    let text = format!("{REQUIRED}[accounts.a]\napi_key_file = '{}'\n[accounts.b]\n", case.path("key-a").display());
    fs::write(case.path("relay.toml"), text).unwrap();
    fs::write(case.path("key-a"), "pk_of_a\n").unwrap();
    fs::write(case.path("b.api-key"), "pk_of_b\n").unwrap();
    fs::write(case.path("b.webhook-secrets"), "new,old").unwrap();
    case.sources.credentials = Some(case.folder.path().to_owned());
    let told = case.told(&load(&case.sources).unwrap_err());
    assert!(told.contains("the webhook secret of account a is missing; give it in a file named by accounts.a.webhook_secrets_file, or as systemd credential a.webhook-secrets"), "{told}");
    fs::write(case.path("a.webhook-secrets"), "of-a").unwrap();
    let accounts = load(&case.sources).unwrap().secrets.accounts;
    let shown: Vec<_> =
        accounts.iter().map(|of| (of.name.as_str(), of.api_key.expose_secret(), of.webhook.len())).collect();
    assert_eq!(shown, [("a", "pk_of_a", 1), ("b", "pk_of_b", 2)]);
    case.sources.env.insert("PEPAY_RELAY_API_KEY".into(), "pk".into());
    let told = case.told(&load(&case.sources).unwrap_err());
    assert!(told.contains("PEPAY_RELAY_API_KEY: is for one account, and the settings have several"), "{told}");
}

#[test]
fn a_reload_takes_other_accounts_but_none_where_there_were_none() {
    let case = Case::new(&format!("{REQUIRED}webhook.enabled = false\n[accounts.a]\n"), &[]);
    let mut sources = case.sources.clone();
    sources.credentials = Some(case.folder.path().to_owned());
    for name in ["a", "b"] {
        fs::write(case.path(&format!("{name}.api-key")), "pk").unwrap();
    }
    let running = load(&sources).unwrap().config;
    fs::write(case.path("relay.toml"), format!("{REQUIRED}webhook.enabled = false\n[accounts.b]\n")).unwrap();
    let reloaded = reload(&running, &sources).unwrap();
    assert_eq!((names(&reloaded.config), reloaded.waiting), (vec!["b"], Vec::new()));
    assert_eq!(reloaded.secrets.accounts[0].name, "b");
    fs::write(case.path("relay.toml"), format!("{REQUIRED}webhook.enabled = false\n")).unwrap();
    fs::write(case.path("api-key"), "pk").unwrap();
    let reloaded = reload(&running, &sources).unwrap();
    assert_eq!((names(&reloaded.config), reloaded.waiting), (vec!["a"], vec!["accounts"]));
}

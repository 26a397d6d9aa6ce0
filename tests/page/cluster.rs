//! The page of a node: which nodes there are, who serves which shard, and where each account is.

use super::chromium::{Chromium, PATIENCE};
use super::pictures;
use crate::support::kafka::Broker;
use crate::support::node::Node;
use crate::support::relay::Rig;
use pepay_relay::config::Account;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Two nodes serve a shard each; one is killed, and the other serves both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_node_shows_the_cluster_and_a_takeover() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "page").await;
    let folder = tempfile::tempdir().unwrap();
    let [key, secret] = ["key", "secret"].map(|name| folder.path().join(name));
    std::fs::write(&key, rig.simulator.api_key()).unwrap();
    std::fs::write(&secret, rig.simulator.webhook_secret()).unwrap();
    rig.config.accounts = Vec::from(["shop-a", "shop-b", "shop-c"].map(|name| Account {
        api_key_file: Some(key.clone()),
        webhook_secrets_file: Some(secret.clone()),
        ..Account::named(name)
    }));
    let looked_at = Node::alongside(&rig, "n0", 2).await;
    let mut other = Node::alongside(&rig, "n1", 2).await;
    let mut page = Chromium::start().await;
    page.appear(1280, 900, "light").await;
    let url = format!("http://{}/", looked_at.config.admin.listen);
    page.call("Page.navigate", serde_json::json!({ "url": url })).await;

    shows(&mut page, "nodes", "n0 0; n1 1").await;
    shows(&mut page, "shards", "0 n0 owned 0; 1 n1 owned 0").await;
    page.until("no shard is unserved", "document.getElementById('shards-count').textContent == '2 of 2 served'").await;
    let height = "document.querySelector('#gaps .none').getBoundingClientRect().height";
    assert!(page.evaluate(height).await.as_f64().unwrap() < 30.0, "a sentence without a gap is a line");
    page.picture(&pictures().join("cluster.png")).await;

    other.process.signal("KILL");
    other.process.ended().await;
    shows(&mut page, "nodes", "n0 0, 1").await;
    shows(&mut page, "shards", "0 n0 owned 0; 1 n0 owned 0").await;
    let accounts =
        "[...document.querySelectorAll('#accounts tr')].every(row => row.innerText.includes('n0\tconnected'))";
    page.until("its accounts are served here", accounts).await;
    page.until("in words", "document.getElementById('verdict').textContent == 'Ready: every leg delivers'").await;
    page.appear(360, 800, "dark").await;
    assert_eq!(page.evaluate("document.documentElement.scrollWidth").await, 360, "it fits on a phone");
    page.picture(&pictures().join("cluster-phone.png")).await;
    looked_at.process.stop().await;
}

/// Waits until the table has these rows, without the tabs between their cells.
async fn shows(page: &mut Chromium, table: &str, wanted: &str) {
    let rows = format!(
        "[...document.querySelectorAll('#{table} tr')].map(row => row.innerText.replaceAll('\t', ' ')).join('; ')"
    );
    let began = Instant::now();
    loop {
        let shown = page.evaluate(&rows).await;
        if shown == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{table}: {shown}");
        sleep(Duration::from_millis(50)).await;
    }
}

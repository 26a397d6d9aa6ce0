//! Several accounts in one relay: each has its own key, secrets, socket, walk and marks, and the others go on whatever
//! happens to one.

use super::pressure::{SMALL_INTAKE, live};
use crate::support::kafka::Broker;
use crate::support::process::Process;
use crate::support::records::{Record, committed};
use crate::support::relay::{Rig, event_id, order_event, post};
use crate::support::watch::{eventually, metric};
use pepay_relay::config::{self, AccountSecrets, Config};
use pepay_relay::labels::Topic;
use pepay_relay::simulator::{Options, Simulator};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A merchant with his files; the first one's simulator is the rig's.
pub(super) struct Merchant {
    name: &'static str,
    key: String,
    secret: String,
}

pub(super) struct Stage {
    pub(super) rig: Rig,
    others: Vec<Simulator>,
    merchants: Vec<Merchant>,
    folder: TempDir,
}

impl Stage {
    /// One provider with a merchant of each name, who posts his webhooks to the path of his account.
    pub(super) async fn new(bootstrap: &str, test: &str, names: &[&'static str]) -> Self {
        let rig = Rig::new(bootstrap, test).await;
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Self { rig, others: Vec::new(), merchants: Vec::new(), folder };
        for (number, name) in names.iter().copied().enumerate() {
            let (key, secret) = match number {
                0 => (stage.rig.simulator.api_key().to_owned(), stage.rig.simulator.webhook_secret().to_owned()),
                _ => (format!("ck_of_{name}_00000000"), format!("secret-of-{name}")),
            };
            if number > 0 {
                let options = Options {
                    api_key: key.clone(),
                    webhook_secret: secret.clone(),
                    seed: 100 + number as u64,
                    webhook_retries: vec![Duration::from_millis(300); 200],
                    ..Options::default()
                };
                stage.others.push(stage.rig.simulator.beside(options).unwrap());
            }
            std::fs::write(stage.file(name, "key"), &key).unwrap();
            std::fs::write(stage.file(name, "secrets"), &secret).unwrap();
            stage.merchants.push(Merchant { name, key, secret });
            stage.simulator(number).add_webhook_endpoint(&stage.webhook_url(name)).unwrap();
        }
        stage
    }

    pub(super) fn simulator(&self, number: usize) -> &Simulator {
        match number {
            0 => &self.rig.simulator,
            number => &self.others[number - 1],
        }
    }

    fn file(&self, name: &str, what: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{name}.{what}"))
    }

    fn webhook_url(&self, name: &str) -> String {
        format!("{}/{name}", self.rig.webhook_url())
    }

    /// The settings serve these from now on.
    pub(super) fn serve(&mut self, names: &[&str]) -> Config {
        let account = |name: &&str| config::Account {
            api_key_file: Some(self.file(name, "key")),
            webhook_secrets_file: Some(self.file(name, "secrets")),
            ..config::Account::named(name)
        };
        self.rig.config.accounts = names.iter().map(account).collect();
        let known = self.merchants.iter().filter(|merchant| names.contains(&merchant.name));
        let secrets = known.map(|Merchant { name, key, secret }| AccountSecrets {
            name: (*name).to_owned(),
            ..AccountSecrets::sole(key.as_str(), vec![secret.as_str().into()])
        });
        self.rig.secrets.accounts = secrets.collect();
        self.rig.config.clone()
    }

    /// What is committed of an account, on both topics.
    async fn published(&self, name: &str) -> Vec<Record> {
        let mut records = committed(&self.rig.config, Topic::Orders).await;
        records.extend(committed(&self.rig.config, Topic::Invoices).await);
        records.retain(|record| record.header("relay_account") == name);
        records
    }

    /// Waits until all that this merchant's provider issued is committed.
    pub(super) async fn until_delivered(&self, number: usize) {
        let name = self.merchants[number].name;
        let what = format!("everything of {name} stands");
        eventually(&what, async || {
            let found: BTreeSet<_> =
                self.published(name).await.iter().map(|record| record.header("ce_id").to_owned()).collect();
            self.simulator(number).events().iter().all(|event| found.contains(&event.id))
        })
        .await;
    }

    /// All of a merchant's events are committed, each once, under his name.
    pub(super) async fn assert_delivered(&self, number: usize) {
        let name = self.merchants[number].name;
        let records = self.published(name).await;
        let mut ids: Vec<_> = records.iter().map(|record| record.header("ce_id").to_owned()).collect();
        let mut wanted: Vec<_> = self.simulator(number).events().iter().map(|event| event.id.clone()).collect();
        ids.sort();
        wanted.sort();
        assert_eq!(ids, wanted, "{name}");
        let source = format!("/pepay/devnet/{name}");
        assert!(records.iter().all(|record| record.header("ce_source") == source));
    }
}

/// Orders of the first two merchants, and one event of each with the same id.
pub(super) fn sell(stage: &Stage, round: u64) {
    live(&stage.rig, 2);
    for number in 1..stage.merchants.len() {
        let simulator = stage.simulator(number);
        let order = simulator.create_order().unwrap();
        pepay_relay::simulator::Transition::LIFE.iter().for_each(|step| simulator.simulate(&order, *step).unwrap());
    }
    let id = event_id(900_000 + round);
    for number in 0..stage.merchants.len() {
        stage.simulator(number).publish_custom(order_event(&id, &format!("order-of-{number}"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_come_and_go_with_a_reload_and_each_event_is_published_once() {
    let mut stage = Stage::new(Broker::shared().bootstrap(), "accounts", &["a", "b", "c"]).await;
    stage.serve(&["a", "b"]);
    let mut relay = Process::ready(&stage.rig).await;
    sell(&stage, 1);
    stage.until_delivered(0).await;
    stage.until_delivered(1).await;
    assert_eq!(stage.published("c").await.len(), 0);

    // Who comes has what happened before; who goes is left alone, and the third one keeps its socket.
    relay.configure(&stage.serve(&["b", "c"]));
    relay.signal("HUP");
    relay.line("account added").await;
    relay.line("account removed: what it brought is settled, and no more is taken").await;
    stage.until_delivered(2).await;
    stage.simulator(0).wait_for_connections(0).await;
    let before = stage.published("a").await.len();
    sell(&stage, 2);
    stage.until_delivered(1).await;
    stage.until_delivered(2).await;
    assert_eq!(stage.published("a").await.len(), before);
    assert_eq!(metric(&stage.rig, "accounts").await, 2);
    eventually("nobody waits for what ended", async || {
        metric(&stage.rig, "leg_connected{leg=\"websocket\"}").await == 1
    })
    .await;

    // Who comes back has what happened meanwhile.
    relay.configure(&stage.serve(&["a", "b", "c"]));
    relay.signal("HUP");
    stage.until_delivered(0).await;
    eventually("all are connected", async || metric(&stage.rig, "account_connected{account=\"a\"}").await == 1).await;
    eventually("so is the leg", async || metric(&stage.rig, "leg_connected{leg=\"websocket\"}").await == 1).await;
    assert_eq!(stage.simulator(1).connections_made(), 1, "its socket stayed");

    // A kill in the middle: each goes on where it was.
    sell(&stage, 3);
    relay.signal("KILL");
    relay.ended().await;
    let relay = Process::ready(&stage.rig).await;
    sell(&stage, 4);
    for number in 0..3 {
        stage.until_delivered(number).await;
        stage.simulator(number).wait_for_webhooks().await;
    }
    relay.stop().await;
    for number in 0..3 {
        stage.assert_delivered(number).await;
    }
    let control = committed(&stage.rig.config, Topic::Control).await;
    for name in ["a", "b", "c"] {
        let key = format!("{}/marks/{name}", stage.rig.config.name);
        let marks = control.iter().rev().find(|record| record.key == key).unwrap().json();
        assert!(marks["verified"].is_string(), "{marks}");
    }
}

/// One account brings more than the intake holds while Kafka is frozen: another one is never refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_floods_is_asked_to_come_back_and_another_one_never() {
    const SENDERS: usize = 64;
    let broker = Broker::start();
    let mut stage = Stage::new(broker.bootstrap(), "fair", &["flood", "quiet"]).await;
    stage.rig.config.intake.bytes_max = SMALL_INTAKE;
    stage.rig.config.websocket.frame_bytes_max = SMALL_INTAKE / 4;
    stage.rig.config.webhook.body_bytes_max = SMALL_INTAKE / 4;
    stage.serve(&["flood", "quiet"]);
    let relay = Process::ready(&stage.rig).await;
    let [flood, quiet] = [0, 1].map(|number| &stage.merchants[number]);
    let (flood_url, quiet_url) = (stage.webhook_url(flood.name), stage.webhook_url(quiet.name));
    let overloaded = AtomicUsize::new(0);
    let big = |number: usize| {
        let mut event = order_event(&event_id(number as u64), &format!("flood-{number}"));
        event["data"]["object"]["note"] = json!("x".repeat(20_000));
        event.to_string()
    };
    broker.freeze();
    let posts = futures::future::join_all((0..SENDERS).map(async |number| {
        let answer = post(&flood_url, &flood.secret, big(number).as_bytes()).await;
        overloaded.fetch_add(usize::from(answer.body.contains("overloaded")), Ordering::Relaxed);
    }));
    let asks = async {
        eventually("the flood is told to come back", async || overloaded.load(Ordering::Relaxed) > 0).await;
        let body = order_event(&event_id(1), "quiet-1").to_string();
        let asked = post(&quiet_url, &quiet.secret, body.as_bytes());
        let thaw = async {
            eventually("it is inside", async || metric(&stage.rig, "deliveries_total{leg=\"webhook\"}").await > 0)
                .await;
            broker.thaw();
        };
        futures::future::join(asked, thaw).await.0
    };
    let (_, answer) = futures::future::join(posts, asks).await;
    println!("{} of {SENDERS} webhooks of the flood were told to come back", overloaded.load(Ordering::Relaxed));
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ok":true}"#));
    relay.stop().await;
    let of_quiet = stage.published("quiet").await;
    assert_eq!(of_quiet.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(), ["quiet-1"]);
}

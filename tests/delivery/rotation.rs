//! Secrets and keys change while events flow, as an administrator changes them: by files and SIGHUP, and by systemd's
//! credentials and a restart.

use crate::support::kafka::{Broker, USER};
use crate::support::process::Process;
use crate::support::relay::{Rig, get, until};
use crate::support::settings::clustered;
use crate::support::systemd::Systemd;
use crate::support::watch::{eventually, metric, published};
use pepay_relay::config::Config;
use pepay_relay::simulator::{Cut, Simulator};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// One an hour for a day.
const ROTATIONS: usize = 24;

/// Each takes some seconds.
const RESTARTS: usize = 5;

/// A wrong file is put there instead before this one of them.
const WRONG_BEFORE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_and_keys_rotate_under_load_without_a_lost_or_refused_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let [key_file, secrets_file] = ["api-key", "webhook-secrets"].map(|name| folder.path().join(name));
    let mut rig = Rig::new(Broker::shared().bootstrap(), "rotation").await;
    rig.config.secret_files.api_key = Some(key_file.clone());
    rig.config.secret_files.webhook = Some(secrets_file.clone());
    let rig = rig.with_webhooks();
    let mut key = rig.simulator.api_key().to_owned();
    let mut secret = rig.simulator.webhook_secret().to_owned();
    write(&key_file, &key);
    write(&secrets_file, &secret);

    let systemd = Systemd::start();
    let watchdog = ("WATCHDOG_USEC", "400000");
    let mut relay = Process::start_with(&rig, &[], &[("NOTIFY_SOCKET", systemd.path()), watchdog]);
    relay.line("relay ready").await;
    rig.simulator.wait_for_connections(1).await;
    let load = rig.load();
    for rotation in 0..ROTATIONS {
        if rotation == WRONG_BEFORE {
            std::fs::write(&key_file, "\n").unwrap();
            relay.signal("HUP");
            let said = relay.line_of("not reloaded, everything stays as it was").await.to_string();
            assert!(said.contains("api_key_file") || said.contains("api-key"), "{said}");
        }
        // First the provider takes and signs both, then the relay changes, then the provider gives up the earlier ones.
        let before = std::mem::replace(&mut secret, format!("a-webhook-secret-of-hour-{rotation}"));
        key = format!("ck_rotated_{rotation:016}");
        rig.simulator.rotate_webhook_secret(&secret);
        // A day's rotations pass in some seconds here: a webhook of the hour before must be answered before the next.
        let sent = rig.simulator.webhooks().attempts;
        rig.simulator.rotate_api_key(&key);
        write(&key_file, &key);
        write(&secrets_file, &format!("{secret}\n{before}"));
        relay.signal("HUP");
        until("reloaded", || relay.count("reloaded") == rotation + 1).await;
        rig.simulator.finish_webhook_rotation();
        rig.simulator.finish_api_key_rotation();
        reconnected(&rig.simulator).await;
        until("its webhooks are answered", || rig.simulator.webhooks_over(sent)).await;
    }
    load.stop().await;
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    let metrics = get(&format!("http://{}/metrics", rig.config.admin.listen)).await;
    let value = |series: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)).unwrap_or("0");
        line.trim().parse().unwrap()
    };
    let rejected = value("pepay_relay_outcomes_total{leg=\"webhook\",outcome=\"rejected\"}");
    let refused = value("pepay_relay_reconnects_total{cause=\"refused\"}");
    let answered = value("pepay_relay_webhook_responses_total{code=\"200\"}");
    let tally = rig.simulator.webhooks();
    println!(
        "{ROTATIONS} rotations: {} events, {answered} webhooks taken, {rejected} rejected, {} connections made, {refused} refused",
        rig.simulator.events().len(),
        rig.simulator.connections_made()
    );
    assert_eq!((rejected, refused, relay.count("webhook rejected")), (0, 0, 0), "{}", relay.said());
    assert_eq!(
        (tally.attempts, tally.given_up, tally.dropped),
        (answered, 0, 0),
        "each was taken at its first attempt"
    );
    assert_eq!(relay.count("reloaded"), ROTATIONS);
    relay.stop().await;
    rig.assert_delivered().await;
    told_in_order(&systemd.told());
}

/// Credentials do not change while a service runs, so each rotation is a restart: the relay drains, systemd puts the new
/// ones into another folder, and the next relay starts with those alone. Webhooks find nobody for a while, or are
/// answered 503, and are sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_rotate_by_restarts_under_load_and_nothing_is_lost_or_repeated() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "credentials").await;
    let mut key = rig.simulator.api_key().to_owned();
    let mut secret = rig.simulator.webhook_secret().to_owned();
    rig.secrets.accounts[0].api_key = "".into();
    rig.secrets.accounts[0].webhook.clear();
    let rig = rig.with_webhooks();
    let mut credentials = credentials(&key, &secret);
    let mut relay = with_credentials(&rig, &credentials).await;
    let load = rig.load();
    for restart in 0..=RESTARTS {
        for leg in ["websocket", "webhook"] {
            let published = format!("outcomes_total{{leg=\"{leg}\",outcome=\"published\"}}");
            eventually("both legs bring what the other has not", async || metric(&rig, &published).await > 0).await;
        }
        let rejected = metric(&rig, "outcomes_total{leg=\"webhook\",outcome=\"rejected\"}").await;
        let refused = metric(&rig, "reconnects_total{cause=\"refused\"}").await;
        assert_eq!((rejected, refused, relay.count("webhook rejected")), (0, 0, 0), "{}", relay.said());
        if restart == RESTARTS {
            break;
        }
        // The provider signs with both secrets and takes both keys until the relay has changed.
        secret = format!("a-webhook-secret-of-week-{restart}");
        key = format!("ck_rotated_{restart:016}");
        rig.simulator.rotate_webhook_secret(&secret);
        rig.simulator.rotate_api_key(&key);
        relay.stop().await;
        credentials = self::credentials(&key, &secret);
        relay = with_credentials(&rig, &credentials).await;
        rig.simulator.finish_webhook_rotation();
        rig.simulator.finish_api_key_rotation();
        reconnected(&rig.simulator).await;
    }
    load.stop().await;
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    relay.stop().await;
    rig.assert_delivered().await;
    let events = rig.simulator.events().len() as u64;
    let tally = rig.simulator.webhooks();
    println!("{RESTARTS} rotations by restart: {events} events, {tally:?}");
    assert_eq!((tally.delivered, tally.given_up, tally.dropped), (events, 0, 0), "each was taken in the end");
    assert!(tally.attempts > tally.delivered, "some came while nobody was there");
    drop(credentials);
}

/// An administrator gives the relay's user another password, and the broker cuts its connections before the relay has
/// learned of it: until its file is changed and it reloads, it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kafka_password_rotates_under_load_and_nothing_is_lost_or_repeated() {
    let mut broker = Broker::start_secured();
    let rig = Rig::new(broker.bootstrap(), "password").await.with_webhooks();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kafka-password");
    write(&file, USER.1);
    let config = with_password(&rig.config, &broker, &file);
    let (simulator, secrets, tuning) = (Arc::clone(&rig.simulator), rig.secrets.clone(), rig.tuning);
    let mut relay = Process::ready(&Rig { simulator, config, secrets, tuning }).await;
    let load = rig.load();
    eventually("it relays", async || published(&rig).await > 100).await;
    tokio::task::block_in_place(|| {
        broker.rotate(USER.0, "another-password");
        broker.stop();
        broker.restart();
    });
    let line = relay.line_with("kafka unavailable", "remedy", "the Kafka password").await;
    assert!(line["detail"].as_str().unwrap().contains("credentials"), "{line}");
    let before = published(&rig).await;
    write(&file, "another-password");
    relay.signal("HUP");
    relay.line("reloaded").await;
    relay.line("kafka recovered").await;
    eventually("it relays again", async || published(&rig).await > before + 100).await;
    load.stop().await;
    rig.until_delivered().await;
    rig.simulator.wait_for_webhooks().await;
    assert!(!relay.said().contains("another-password") && !relay.said().contains(USER.1), "{}", relay.said());
    println!("{} events", rig.simulator.events().len());
    relay.stop().await;
    rig.assert_delivered().await;
}

/// These settings, for a user whose password is in this file.
fn with_password(config: &Config, broker: &Broker, file: &Path) -> Config {
    let mut config = config.clone();
    config.kafka.bootstrap_servers = broker.secured().bootstrap.clone();
    config.kafka.tls = true;
    config.kafka.ca_file = Some(broker.secured().ca_file.clone());
    config.kafka.username = Some(USER.0.to_owned());
    config.kafka.sasl_mechanism = Some("SCRAM-SHA-512".to_owned());
    config.secret_files.kafka_password = Some(file.to_owned());
    config
}

/// Longer than a member waits for its goodbye, and shorter than a session.
const SILENT: Duration = Duration::from_secs(3);

/// Kafka is silent while a node is given another password, so that the old membership cannot leave in order. The group does not
/// wait for that one when Kafka answers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_given_a_password_while_kafka_is_silent_joins_again() {
    let broker = Broker::start_secured();
    let rig = Rig::new(broker.bootstrap(), "silent-reload").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kafka-password");
    write(&file, USER.1);
    let config = clustered(with_password(&rig.config, &broker, &file), "n0", 1);
    let mut node = Process::launch(&config, &rig.secrets, None, &[]);
    node.line("relay ready").await;
    tokio::task::block_in_place(|| broker.rotate(USER.0, "another-password"));
    broker.freeze();
    write(&file, "another-password");
    node.signal("HUP");
    node.line("reloaded").await;
    tokio::time::sleep(SILENT).await;
    broker.thaw();
    node.another("shards assigned").await;
    rig.simulator.create_order().unwrap();
    rig.until_delivered().await;
    node.stop().await;
    rig.assert_delivered().await;
}

/// A folder as systemd makes one for each start (systemd.exec(5), `LoadCredential=`).
fn credentials(key: &str, secret: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("api-key"), key);
    write(&folder.path().join("webhook-secrets"), secret);
    folder
}

async fn with_credentials(rig: &Rig, credentials: &TempDir) -> Process {
    let folder = credentials.path().to_str().unwrap();
    let mut relay = Process::start_with(rig, &[], &[("CREDENTIALS_DIRECTORY", folder)]);
    relay.line("relay ready").await;
    rig.simulator.wait_for_connections(1).await;
    relay
}

/// Cuts the socket and waits until the relay is back, with a key that is taken by now.
async fn reconnected(simulator: &Simulator) {
    let made = simulator.connections_made();
    simulator.faults().cut_sockets(&Cut::Abrupt);
    until("a new connection", || simulator.connections_made() > made && simulator.connections() == 1).await;
}

/// What systemd received: a start, reloads with a ready after each, signs of life, and an end.
fn told_in_order(told: &[String]) {
    let mut lines: Vec<&str> = told.iter().flat_map(|datagram| datagram.lines()).collect();
    println!("what systemd heard, repeats and times left out:");
    let shown: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with("MONOTONIC")).collect();
    let mut shown: Vec<&str> = shown.into_iter().filter(|line| *line != "WATCHDOG=1").collect();
    shown.dedup();
    shown.iter().take(12).chain(shown.iter().skip(shown.len().saturating_sub(6))).for_each(|line| println!("  {line}"));
    assert!(lines.iter().filter(|line| **line == "WATCHDOG=1").count() > 3, "{lines:?}");
    assert!(shown[0].starts_with("STATUS=starting"), "{lines:?}");
    lines.retain(|line| ["READY=1", "RELOADING=1", "STOPPING=1"].contains(line));
    // The one that was refused reloads nothing, and is over as well.
    let reload = ["RELOADING=1", "READY=1"];
    let expected: Vec<&str> =
        std::iter::once("READY=1").chain(reload.repeat(ROTATIONS + 1)).chain(["STOPPING=1"]).collect();
    assert_eq!(lines, expected);
}

/// As a careful administrator: a new file that takes the old one's place, which only its owner may read.
fn write(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&beside, own).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

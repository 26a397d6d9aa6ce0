//! Kafka by OAUTHBEARER: tokens of an identity provider, fetched, renewed, refused, and not to be had.

use crate::support::acl::{self, Resource};
use crate::support::identity::{Identity, Manner, SUBJECT, TokenBroker};
use crate::support::process::{Process, check, run};
use crate::support::relay::{Rig, until};
use crate::support::watch::metric;
use std::time::{Duration, Instant};

const SECRET: &str = "hush-hush-client-secret";

/// Tokens live this long in the test that renews them, and sessions no longer.
const LIVES: Duration = Duration::from_secs(20);

/// As many renewals of the producer's token as are waited for, unless `OAUTH_RENEWALS` says otherwise.
const RENEWALS: usize = 3;

#[expect(clippy::disallowed_methods, reason = "what to run is not a setting of the relay")]
fn renewals() -> usize {
    std::env::var("OAUTH_RENEWALS").map_or(RENEWALS, |renewals| renewals.parse().unwrap())
}

/// What its tokens call the relay may do what a relay does.
fn allow(broker: &TokenBroker, rig: &Rig) {
    for resource in [Resource::Topics(&rig.config.name), Resource::TransactionalIds(&rig.config.name)] {
        acl::allow(broker.broker.bootstrap(), SUBJECT, resource);
    }
}

/// Neither secret nor token is ever logged.
fn says_no_secret(identity: &Identity, said: &str) {
    assert!(!said.contains(SECRET), "{said}");
    for token in identity.given() {
        let claims = token.split('.').nth(1).expect("claims");
        assert!(!said.contains(claims), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_renewed_under_load_and_nothing_is_lost_or_repeated() {
    let broker = TokenBroker::start(LIVES);
    let identity = Identity::start(SECRET, LIVES).await;
    let (open, mut rig) = broker.rig(&identity, SECRET, "tokens").await;
    rig.config.kafka.oauth_scope = Some("kafka all:write".to_owned());
    rig.config.kafka.oauth_extensions = Some("logicalCluster=lkc-1,identityPoolId=pool-1".to_owned());
    let open = open.with_webhooks();
    let mut denied = Process::start(&rig);
    assert_eq!(denied.ended().await, Some(77), "{}", denied.said());
    assert!(denied.said().contains("does not allow `relay-client` to"), "{}", denied.said());
    allow(&broker, &rig);
    let mut relay = Process::ready(&rig).await;
    let load = open.load();
    let began = identity.asked().len();
    for renewal in 1..=renewals() {
        until("a renewal", || identity.asked().len() >= began + renewal).await;
    }
    let before = open.simulator.events().len();
    until("events", || open.simulator.events().len() > before + 200).await;
    for command in [vec!["check"], vec!["topics"], vec!["tail", "--from", "beginning", "--count", "1"]] {
        let (status, out, err) = run(&rig, &command).await;
        assert_eq!(status, Some(0), "{command:?}: {out} {err}");
        says_no_secret(&identity, &(out + &err));
    }
    load.stop().await;
    open.until_delivered().await;
    open.simulator.wait_for_webhooks().await;
    let asked = identity.asked();
    assert!(asked.iter().all(|asked| asked.known), "each with id and secret");
    assert_eq!(asked[0].form, "grant_type=client_credentials&scope=kafka+all%3Awrite");
    assert_eq!(metric(&open, "kafka_errors_total{kind=\"fatal\"}").await, 0);
    assert_eq!((relay.count("no new token for kafka"), relay.count("kafka unavailable")), (0, 0), "{}", relay.said());
    says_no_secret(&identity, &relay.said());
    relay.line("relay ready").await;
    relay.stop().await;
    println!("{} events, {} tokens", open.simulator.events().len(), identity.given().len());
    open.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_refused_is_77_and_its_new_secret_is_taken_at_a_reload() {
    let broker = TokenBroker::start(LIVES);
    let identity = Identity::start(SECRET, LIVES).await;
    let (open, mut rig) = broker.rig(&identity, "wrong", "refused").await;
    allow(&broker, &rig);
    let mut relay = Process::start(&rig);
    assert_eq!(relay.ended().await, Some(77), "{}", relay.said());
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(1), "{findings}");
    for said in [relay.said(), findings] {
        assert!(said.contains("refused the client (HTTP 401, invalid_client: who are you)"), "{said}");
        assert!(said.contains("kafka.oauth_secret_file") && !said.contains("wrong"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    rig.config.secret_files.kafka_oauth_secret = Some(file.clone());
    let mut relay = Process::ready(&rig).await;
    let load = open.load();
    // The provider changes its mind: the token before still holds, and what is missing is logged.
    identity.rotate("renewed-client-secret");
    let line = relay.line_with("no new token for kafka", "detail", "refused the client").await;
    assert!(line["remedy"].as_str().unwrap().contains("reload (SIGHUP)"), "{line}");
    std::fs::write(&file, "renewed-client-secret").unwrap();
    relay.signal("HUP");
    relay.line("reloaded").await;
    let before = identity.given().len();
    until("tokens", || identity.given().len() > before + 1).await;
    load.stop().await;
    open.until_delivered().await;
    assert!(!relay.said().contains("renewed-client-secret"), "{}", relay.said());
    says_no_secret(&identity, &relay.said());
    relay.stop().await;
    open.assert_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_broker_refuses_is_77_and_named() {
    let broker = TokenBroker::start_demanding("everything");
    let identity = Identity::start(SECRET, Duration::from_secs(60)).await;
    let (_open, rig) = broker.rig(&identity, SECRET, "distrusted").await;
    let mut relay = Process::start(&rig);
    assert_eq!(relay.ended().await, Some(77), "{}", relay.said());
    let (status, findings) = check(&rig).await;
    assert_eq!(status, Some(1), "{findings}");
    for said in [relay.said(), findings] {
        assert!(said.contains("Kafka refused the token of client `relay-client`"), "{said}");
        assert!(said.contains("that the brokers trust who issued it"), "{said}");
        says_no_secret(&identity, &said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_provider_that_gives_no_token_is_named_and_waited_for() {
    let broker = TokenBroker::start(Duration::from_secs(60));
    let identity = Identity::start(SECRET, Duration::from_secs(60)).await;
    let (open, rig) = broker.rig(&identity, SECRET, "away").await;
    allow(&broker, &rig);
    for (manner, what, remedy) in [
        (Manner::Page, "answers with no JSON (HTTP 200", "is a token endpoint"),
        (Manner::NoToken, "answers with something else", "are JWTs with sub and exp"),
        (Manner::Expired, "gave one that is expired already", "set the clock by NTP"),
    ] {
        identity.behave(manner);
        let mut relay = Process::start(&rig);
        let line = relay.line_with("kafka unavailable", "detail", what).await;
        assert!(line["remedy"].as_str().unwrap().contains(remedy), "{line}");
        let (status, findings) = check(&rig).await;
        assert_eq!(status, Some(1), "{findings}");
        assert!(findings.contains(what) && findings.contains(remedy), "{findings}");
        if manner == Manner::Expired {
            // It waited, and goes on by itself.
            identity.behave(Manner::Token);
            relay.line("relay ready").await;
            open.simulator.create_order().unwrap();
            open.until_delivered().await;
        }
        says_no_secret(&identity, &relay.said());
        relay.stop().await;
    }
    let mut nobody = rig;
    nobody.config.kafka.oauth_token_url = Some("http://127.0.0.1:1/token".to_owned());
    let mut relay = Process::start(&nobody);
    let line = relay.line_with("kafka unavailable", "detail", "the identity provider cannot be reached").await;
    assert!(line["remedy"].as_str().unwrap().contains("see kafka.oauth_token_url"), "{line}");
    relay.stop().await;
}

/// librdkafka gives an answer 20 s, so that a stop may take that long and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_provider_that_hangs_or_drips_is_given_up_and_holds_no_stop_up() {
    let broker = TokenBroker::start(Duration::from_secs(60));
    for manner in [Manner::Hang, Manner::Drip] {
        let identity = Identity::start(SECRET, LIVES).await;
        let (_open, rig) = broker.rig(&identity, SECRET, "hanging").await;
        allow(&broker, &rig);
        identity.behave(manner);
        let mut relay = Process::start(&rig);
        relay.line_with("kafka unavailable", "detail", "the identity provider cannot be reached").await;
        until("another question", || identity.asked().len() > 6).await;
        let began = Instant::now();
        relay.stop().await;
        println!("{manner:?}: stopped after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        identity.behave(Manner::Token);
        let relay = Process::ready(&rig).await;
        // The same while it runs, as soon as the producer's token is to be renewed.
        identity.behave(manner);
        let before = identity.asked().len();
        until("a renewal", || identity.asked().len() > before).await;
        let began = Instant::now();
        relay.stop().await;
        println!("{manner:?} at a renewal: stopped after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    }
}

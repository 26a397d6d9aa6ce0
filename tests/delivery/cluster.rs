//! Nodes that share the shards of one relay: whatever happens to one, another goes on, and no event is lost or published twice.

use super::accounts::{Stage, sell};
use super::pressure::live;
use crate::support::foreign::open_transaction_of;
use crate::support::kafka::Broker;
use crate::support::node::{Node, owner, stop};
use crate::support::ports::free_address;
use crate::support::process::{self, Process};
use crate::support::proxy::{Fault, JOIN_GROUP, Proxy};
use crate::support::relay::{PATIENCE, Rig, get};
use crate::support::settings::{clustered, through_inbox};
use crate::support::watch::eventually;
use pepay_relay::config::{Account, AccountSecrets};
use pepay_relay::exit::Exit;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The owner of the only shard leaves in order, is killed, and is frozen for longer than its session; each time the
/// other one goes on, while webhooks come by both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_owner_the_other_node_goes_on() {
    let rig = Rig::new(Broker::shared().bootstrap(), "pair").await;
    let mut nodes = vec![Node::join(&rig, &rig.config, "n0", 1).await, Node::alongside(&rig, "n1", 1).await];
    let rig = rig.with_webhooks();
    live(&rig, 2);
    rig.until_delivered().await;
    let load = rig.load();

    let left = owner(&nodes, 0).await;
    let began = Instant::now();
    nodes.remove(left).process.stop().await;
    owner(&nodes, 0).await;
    println!("left in order: served again after {:?}", began.elapsed());
    nodes.push(Node::alongside(&rig, "n2", 1).await);
    rig.simulator.add_webhook_endpoint(&nodes[1].webhook_url()).unwrap();

    let dies = owner(&nodes, 0).await;
    let began = Instant::now();
    let mut dead = nodes.remove(dies);
    dead.process.signal("KILL");
    dead.process.ended().await;
    owner(&nodes, 0).await;
    println!("killed: served again after {:?}", began.elapsed());
    nodes.push(Node::alongside(&rig, "n3", 1).await);
    rig.simulator.add_webhook_endpoint(&nodes[1].webhook_url()).unwrap();

    let stands = owner(&nodes, 0).await;
    let began = Instant::now();
    nodes[stands].process.signal("STOP");
    eventually("the other claims", async || nodes[1 - stands].process.serves(0)).await;
    println!("stopped: served again after {:?}", began.elapsed());
    nodes[stands].process.signal("CONT");
    eventually("it lets go", async || !nodes[stands].process.serves(0)).await;

    load.stop().await;
    rig.until_delivered().await;
    assert_eq!(nodes[stands].status().await["ready"], true, "it stays in the cluster");
    eventually("both see the same", async || {
        let [one, other] = [nodes[0].status().await, nodes[1].status().await];
        let same = one["shards"] == other["shards"] && one["nodes"] == other["nodes"];
        same && one["shards"][0]["state"] == "owned" && one["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
    })
    .await;
    stop(nodes).await;
    rig.assert_delivered().await;
}

/// Kafka is frozen for longer than a session, so that the group takes every shard away; nobody else claims them, and
/// they go on with their windows and their sockets. The coordinator waits before it divides the shards of a group
/// without members, as Kafka does by itself: the first node that is back would take them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_kafka_costs_no_shard_and_no_socket() {
    let broker = Broker::start_with("group.initial.rebalance.delay.ms=3000\n");
    let rig = Rig::new(broker.bootstrap(), "outage").await;
    let mut nodes = vec![Node::join(&rig, &rig.config, "n0", 2).await, Node::alongside(&rig, "n1", 2).await];
    let rig = rig.with_webhooks();
    eventually("each has one", async || (0..2).all(|shard| nodes.iter().any(|node| node.process.serves(shard)))).await;
    live(&rig, 1);
    rig.until_delivered().await;
    let (connections, ready) = (rig.simulator.connections_made(), nodes.iter().map(served).sum::<usize>());
    broker.freeze();
    for node in &mut nodes {
        node.process.line("shards lost: the group's coordinator was silent, or this node was").await;
    }
    live(&rig, 1);
    broker.thaw();
    rig.until_delivered().await;
    for node in &nodes {
        eventually("it is assigned again", async || node.process.count("shards assigned") >= 2).await;
    }
    live(&rig, 1);
    rig.until_delivered().await;
    assert_eq!(rig.simulator.connections_made(), connections, "the socket stayed");
    assert_eq!(nodes.iter().map(served).sum::<usize>(), ready, "nothing was read back");
    stop(nodes).await;
    rig.assert_delivered().await;
}

fn served(node: &Node) -> usize {
    node.process.count("relay ready")
}

/// Three nodes, twelve shards, five accounts: each account has one socket, and the death of a node moves what it served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_of_many_accounts_are_shared_and_move() {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    const SHARDS: i32 = 12;
    let mut stage = Stage::new(Broker::shared().bootstrap(), "many", &NAMES).await;
    stage.serve(&NAMES);
    let mut nodes = vec![Node::join(&stage.rig, &stage.rig.config, "n0", SHARDS).await];
    nodes.push(Node::alongside(&stage.rig, "n1", SHARDS).await);
    nodes.push(Node::alongside(&stage.rig, "n2", SHARDS).await);
    let all_served = async |nodes: &[Node]| {
        eventually("every shard is served once", async || {
            (0..SHARDS).all(|shard| nodes.iter().filter(|node| node.process.serves(shard)).count() == 1)
        })
        .await;
    };
    all_served(&nodes).await;
    let alone = std::mem::replace(&mut stage.rig.config, nodes[0].config.clone());
    let (_, findings) = process::check(&stage.rig).await;
    stage.rig.config = alone;
    assert!(findings.contains("with 3 node(s)"), "{findings}");
    sell(&stage, 1);
    for number in 0..NAMES.len() {
        stage.until_delivered(number).await;
    }
    let began = Instant::now();
    let mut dead = nodes.remove(1);
    dead.process.signal("KILL");
    dead.process.ended().await;
    sell(&stage, 2);
    all_served(&nodes).await;
    println!("killed one of three with {SHARDS} shards: all served again after {:?}", began.elapsed());
    for number in 0..NAMES.len() {
        stage.until_delivered(number).await;
        stage.simulator(number).wait_for_connections(1).await;
        stage.simulator(number).wait_for_webhooks().await;
    }
    let status = nodes[0].status().await;
    let shards: BTreeSet<i64> =
        status["accounts"].as_array().unwrap().iter().filter_map(|account| account["shard"].as_i64()).collect();
    assert!(shards.len() > 1, "accounts are divided: {status}");
    stop(nodes).await;
    for number in 0..NAMES.len() {
        stage.assert_delivered(number).await;
    }
}

/// A relay outside the cluster with the same name takes shard 0 over, and its owner ends with 75; other numbers of shards are
/// refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_outside_the_cluster_takes_the_name_over() {
    let rig = Rig::new(Broker::shared().bootstrap(), "outside").await;
    let mut node = Node::alongside(&rig, "n0", 1).await;
    owner(std::slice::from_ref(&node), 0).await;
    let mut other = clustered(rig.config.clone(), "n1", 3);
    other.webhook.listen = free_address();
    let mut refused = Process::launch(&other, &rig.secrets, None, &[]);
    assert_eq!(refused.ended().await, Some(i32::from(Exit::SETTINGS)), "{}", refused.said());
    assert!(refused.said().contains("cluster.shards"), "{}", refused.said());
    let mut outside = through_inbox(rig.config.clone());
    outside.webhook.listen = free_address();
    let mut relay = Process::launch(&outside, &rig.secrets, None, &[]);
    relay.line("relay ready").await;
    assert_eq!(node.process.ended_within(PATIENCE).await, Some(i32::from(Exit::FENCED)), "{}", node.process.said());
    live(&rig, 1);
    rig.until_delivered().await;
    relay.stop().await;
    rig.assert_delivered().await;
}

/// A claim that was given up leaves its transaction open, and has fenced the owner; the shard is the owner's again, which ends
/// that transaction itself, and does not wait until its time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_does_not_wait_for_a_claim_that_was_given_up() {
    let rig = Rig::new(Broker::shared().bootstrap(), "given-up").await;
    let node = Node::join(&rig, &rig.config, "n0", 1).await;
    live(&rig, 1);
    rig.until_delivered().await;

    let (bootstrap, name) = (rig.config.kafka.bootstrap_servers.clone(), rig.config.name.clone());
    let control = rig.config.kafka.topics.control.clone();
    let claim = tokio::task::spawn_blocking(move || open_transaction_of(&bootstrap, &name, &control)).await.unwrap();
    let began = Instant::now();
    live(&rig, 1);
    rig.until_delivered().await;
    println!("fenced by a claim that was given up: went on after {:?}", began.elapsed());
    assert!(began.elapsed() < SOON, "{:?}: {}", began.elapsed(), node.process.said());
    drop(claim);
    node.process.stop().await;
    rig.assert_delivered().await;
}

/// Half of the time after which Kafka aborts a transaction of a relay that was given up.
const SOON: Duration = Duration::from_secs(30);

/// Kafka answers everything but the question to join.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_the_group_does_not_let_in_ends() {
    let proxy = Proxy::start();
    let _broker = Broker::start_behind(&proxy);
    let mut rig = Rig::new(&proxy.address().to_string(), "kept-out").await;
    rig.config = clustered(rig.config, "n0", 1);
    rig.tuning.join_within = Duration::from_secs(6);
    proxy.set(&[Fault::LoseRequests(JOIN_GROUP)], None);
    let mut node = rig.launched().await;
    let began = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, node.ended()).await.expect("it ends").unwrap_err();
    assert!(ended.to_string().contains("has not let this node in"), "{ended}");
    assert!(began.elapsed() >= rig.tuning.join_within, "{:?}", began.elapsed());
}

/// Where the coordinator is away a node leaves nevertheless, and soon: the group finds out by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_although_the_coordinator_is_away() {
    let broker = Broker::start();
    let rig = Rig::new(broker.bootstrap(), "leaving").await;
    for round in 0..3 {
        let mut node = Node::alongside(&rig, "n0", 1).await;
        owner(std::slice::from_ref(&node), 0).await;
        broker.freeze();
        let began = Instant::now();
        node.process.signal("TERM");
        assert_eq!(node.process.ended().await, Some(0), "{round}: {}", node.process.said());
        println!("left without the coordinator after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(20));
        broker.thaw();
    }
}

/// Every node lists the same accounts; the one that serves them shows their legs. The other misses none that is its
/// own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_lists_all_accounts_and_their_owner_shows_the_legs() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "listed").await;
    let sole = rig.secrets.accounts.remove(0);
    for name in ["shop-a", "shop-b"] {
        rig.config.accounts.push(Account::named(name));
        rig.secrets.accounts.push(AccountSecrets { name: name.to_owned(), ..sole.clone() });
    }
    let mut nodes = Vec::new();
    for node in ["n0", "n1"] {
        rig.config = clustered(rig.config, node, 1);
        rig.config.webhook.listen = free_address();
        rig.config.admin.listen = free_address();
        nodes.push(rig.daemon().await);
    }
    let listed = |status: &Value| {
        let of = |of: &Value| (of["account"].clone(), of["shard"].clone());
        status["accounts"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    eventually("one node tells the legs", async || {
        let mut told = Vec::new();
        for node in &nodes {
            let status: Value = serde_json::from_str(&get(&format!("http://{}/status", node.admin)).await).unwrap();
            assert_eq!(listed(&status), [("shop-a".into(), 0.into()), ("shop-b".into(), 0.into())]);
            let states = [0, 1].map(|account| status["accounts"][account]["legs"]["backfill"]["state"].clone());
            let connected = "pepay_relay_leg_connected{leg=\"backfill\"} 1\n";
            told.push((states, node.metrics.text().unwrap().contains(connected)));
        }
        told.sort_by_key(|(states, _)| states[0].is_null());
        told == [(["connected".into(), "connected".into()], true), ([Value::Null, Value::Null], true)]
    })
    .await;
    for mut node in nodes {
        node.stop();
        node.ended().await.unwrap();
    }
}

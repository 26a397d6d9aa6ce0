//! Faults of a cluster in which webhooks alone matter: what a node answered is published, whatever becomes of that node, and a
//! node that is cut from Kafka alone answers that it is.

use super::inbox::{QUEUED, webhooks_alone};
use super::pressure::live;
use crate::support::kafka::Broker;
use crate::support::node::{Node, owner, stop};
use crate::support::proxy::{Fault, Proxy};
use crate::support::records::committed;
use crate::support::relay::{PATIENCE, Rig, client, event_id, order_event, post, try_post};
use crate::support::settings::through_inbox;
use crate::support::watch::eventually;
use pepay_relay::labels::Topic;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

const UNAVAILABLE: &str = r#"{"error":"kafka_unavailable"}"#;

/// What a node logs when it serves a shard no more.
const LET_GO: [&str; 3] =
    ["shard let go: another node holds it", "shard left", "shard left: it was not assigned again"];

/// A sender's webhooks, a new one every so often, to the nodes in turn. One that is not answered with 2xx is sent again, to the
/// next node, as a load balancer does; the one that was not answered may be in the inbox nevertheless.
struct Sender {
    stop: CancellationToken,
    answered: Arc<Mutex<Vec<Answered>>>,
    task: JoinHandle<()>,
}

/// A webhook that was answered with 2xx.
#[derive(Clone)]
struct Answered {
    id: String,
    /// Whose answer it was, and its body.
    url: String,
    body: String,
    /// How often it was sent.
    sent: usize,
}

impl Sender {
    const EVERY: Duration = Duration::from_millis(25);
    const AGAIN_AFTER: Duration = Duration::from_millis(200);

    fn start(secret: &str, urls: [String; 2]) -> Self {
        let (stop, answered) = (CancellationToken::new(), Arc::<Mutex<Vec<Answered>>>::default());
        let (stopped, taken, secret) = (stop.clone(), Arc::clone(&answered), secret.to_owned());
        let task = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            let mut ticks = interval(Self::EVERY);
            for number in 0.. {
                tokio::select! {
                    () = stopped.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                let (taken, secret, urls) = (Arc::clone(&taken), secret.clone(), urls.clone());
                under_way.spawn(async move {
                    let answered = send(number, &secret, &urls).await;
                    taken.lock().unwrap().push(answered);
                });
            }
            under_way.join_all().await;
        });
        Self { stop, answered, task }
    }

    fn answered(&self) -> Vec<Answered> {
        self.answered.lock().unwrap().clone()
    }

    /// Sends no new one, and waits until each is answered.
    async fn stop(self) -> Vec<Answered> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("every webhook is answered").unwrap();
        Arc::into_inner(self.answered).unwrap().into_inner().unwrap()
    }
}

/// Sends one webhook until it is answered with 2xx.
async fn send(number: usize, secret: &str, urls: &[String; 2]) -> Answered {
    let id = event_id(number as u64);
    let event = order_event(&id, &format!("order-{number}")).to_string();
    let mut ticks = interval(Sender::AGAIN_AFTER);
    for sent in 0.. {
        ticks.tick().await;
        let url = &urls[(number + sent) % urls.len()];
        if let Ok(answer) = try_post(url, secret, event.as_bytes()).await
            && answer.status / 100 == 2
        {
            return Answered { id, url: url.clone(), body: answer.body, sent: sent + 1 };
        }
    }
    unreachable!("it is sent again")
}

/// Webhooks are the only way of their events, each answered by one node. The owner is killed, the next one is frozen for longer
/// than its session, and every event that was answered is published once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_queued_survives_its_node() {
    let mut rig = Rig::new(Broker::shared().bootstrap(), "queued").await;
    rig.config = through_inbox(rig.config);
    webhooks_alone(&mut rig);
    let mut nodes = vec![Node::alongside(&rig, "n0", 1).await, Node::alongside(&rig, "n1", 1).await];
    owner(&nodes, 0).await;
    let urls = [nodes[0].webhook_url(), nodes[1].webhook_url()];
    let sender = Sender::start(rig.simulator.webhook_secret(), urls.clone());
    answers_of_both(&sender, &urls).await;

    let mut dead = nodes.remove(owner(&nodes, 0).await);
    dead.process.signal("KILL");
    dead.process.ended().await;
    let (began, before) = (Instant::now(), sender.answered().len());
    eventually("the other claims", async || nodes[0].process.serves(0)).await;
    let waited = sender.answered().len() - before;
    println!("killed: served again after {:?}, while {waited} webhooks were answered", began.elapsed());
    assert!(waited > 0, "webhooks wait for an owner");
    // It comes last by its name, and so the shard stays where it is.
    nodes.push(Node::join(&rig, &dead.config, "n2", 1).await);
    answers_of_both(&sender, &urls).await;

    let frozen = owner(&nodes, 0).await;
    nodes[frozen].process.signal("STOP");
    let (began, before) = (Instant::now(), sender.answered().len());
    eventually("the other claims", async || nodes[1 - frozen].process.serves(0)).await;
    let waited = sender.answered().len() - before;
    println!("frozen: served again after {:?}, while {waited} webhooks were answered", began.elapsed());
    assert!(waited > 0, "webhooks wait for an owner");
    nodes[frozen].process.signal("CONT");
    eventually("it lets go", async || !nodes[frozen].process.serves(0)).await;
    answers_of_both(&sender, &urls).await;

    let answered = sender.stop().await;
    let again = answered.iter().filter(|answered| answered.sent > 1).count();
    println!("{} webhooks were answered, {again} of them were sent more than once", answered.len());
    assert!(again > 0, "some went to a node that was gone");
    assert!(answered.iter().all(|answered| answered.body == QUEUED));
    let ids: BTreeSet<String> = answered.into_iter().map(|answered| answered.id).collect();
    rig.until_committed(&ids).await;
    stop(nodes).await;
    let records = committed(&rig.config, Topic::Orders).await;
    let mut found: Vec<&str> = records.iter().map(|record| record.header("ce_id")).collect();
    found.sort_unstable();
    assert_eq!(found, ids.iter().collect::<Vec<_>>(), "each once");
    assert!(records.iter().all(|record| record.header("relay_leg") == "webhook"), "nothing else brought one");
    let inbox = committed(&rig.config, Topic::Inbox).await;
    let by: BTreeSet<&str> = inbox.iter().map(|record| record.header("relay_node")).collect();
    assert_eq!(by, ["n0", "n1", "n2"].into(), "every node appended some");
}

/// Waits until more webhooks are answered by each of the nodes.
async fn answers_of_both(sender: &Sender, urls: &[String; 2]) {
    let count = |url: &String| sender.answered().iter().filter(|answered| answered.url == *url).count();
    let before = urls.each_ref().map(count);
    eventually("both answer", async || (0..2).all(|node| count(&urls[node]) > before[node] + 10)).await;
}

/// One of two nodes is cut from Kafka, and nothing else: it refuses webhooks, and its health check fails. The other one serves
/// its shard meanwhile; when the cut is healed both work, and no event is lost or published twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_from_kafka_answers_503_and_the_other_goes_on() {
    let proxy = Proxy::start();
    let broker = Broker::start_with(&proxy.second_listener());
    let rig = Rig::new(broker.bootstrap(), "cut").await;
    let mut by_proxy = rig.config.clone();
    by_proxy.kafka.bootstrap_servers = proxy.address().to_string();
    // It comes first by its name, and so the group gives it the shard.
    let mut cut = Node::join(&rig, &by_proxy, "n0", 1).await;
    let other = Node::alongside(&rig, "n1", 1).await;
    for node in [&cut, &other] {
        rig.simulator.add_webhook_endpoint(&node.webhook_url()).unwrap();
    }
    live(&rig, 1);
    rig.until_delivered().await;
    eventually("the one to be cut serves the shard", async || cut.process.serves(0) && !other.process.serves(0)).await;
    let (event, secret) = (rig.simulator.events()[0].bytes.clone(), rig.simulator.webhook_secret());

    let let_go = |node: &Node| LET_GO.into_iter().map(|message| node.process.count(message)).sum::<usize>();
    let before = let_go(&cut);
    proxy.set(&[Fault::Cut], None);
    let began = Instant::now();
    live(&rig, 1);
    let taken_over = async {
        eventually("the other claims", async || other.process.serves(0)).await;
        println!("cut: served again after {:?}", began.elapsed());
    };
    let url = cut.webhook_url();
    let (answer, ()) = tokio::join!(post(&url, secret, &event), taken_over);
    assert_eq!((answer.status, answer.body.as_str()), (503, UNAVAILABLE));
    eventually("the balancer sees that it takes no webhooks", async || health(&cut).await == 503).await;
    eventually("it is not ready", async || ready(&cut).await == Some(false)).await;
    cut.process.line("shards lost: the group's coordinator was silent, or this node was").await;
    let answer = post(&other.webhook_url(), secret, &event).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, QUEUED));
    assert_eq!((health(&other).await, ready(&other).await), (200, Some(true)));
    live(&rig, 1);
    rig.until_delivered().await;
    assert_eq!((health(&cut).await, ready(&cut).await), (503, Some(false)), "nothing has changed for it");

    proxy.clear();
    let began = Instant::now();
    eventually("it lets the shard go", async || let_go(&cut) > before).await;
    println!("healed: the shard is let go after {:?}", began.elapsed());
    eventually("it takes webhooks again", async || health(&cut).await == 200 && ready(&cut).await == Some(true)).await;
    println!("healed: takes webhooks again after {:?}", began.elapsed());
    let answer = post(&cut.webhook_url(), secret, &event).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, QUEUED));
    live(&rig, 1);
    rig.until_delivered().await;
    let nodes = vec![cut, other];
    eventually("both are in the cluster, and one serves the shard", async || {
        let status = nodes[1].status().await;
        let serving = nodes.iter().filter(|node| node.process.serves(0)).count();
        status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2) && serving == 1
    })
    .await;
    stop(nodes).await;
    rig.assert_delivered().await;
}

/// What a load balancer sees.
async fn health(node: &Node) -> u16 {
    let url = format!("http://{}{}", node.config.webhook.listen, node.config.webhook.health_path);
    client().get(url).timeout(PATIENCE).send().await.expect("an answer").status().as_u16()
}

/// What `/readyz` answers.
async fn ready(node: &Node) -> Option<bool> {
    node.says("readyz").await?["ready"].as_bool()
}

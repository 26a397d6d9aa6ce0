use super::receiver::{Receiver, verify};
use super::{deliver, ids, patiently, start};
use pepay_relay::provider::signature;
use pepay_relay::simulator::model::Types;
use pepay_relay::simulator::{Options, Simulator};
use std::time::Duration;

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test]
async fn every_event_arrives_signed_with_the_bytes_of_the_other_channels() {
    let simulator = start().await;
    let receiver = Receiver::start(vec![]).await;
    simulator.add_webhook_endpoint(&receiver.url).unwrap();
    deliver(&simulator);
    patiently(simulator.wait_for_webhooks()).await;
    assert_eq!(sorted(receiver.ids()), sorted(ids(&simulator)));
    for request in receiver.requests() {
        assert_eq!(verify(&request, &[simulator.webhook_secret()]), Ok(()));
        assert_eq!(verify(&request, &["another"]), Err(signature::Refusal::InvalidSignature));
        let event = simulator.events().into_iter().find(|event| request.0[signature::EVENT_ID] == event.id);
        let event = event.unwrap();
        assert_eq!((&event.bytes, event.kind.as_bytes()), (&request.1, request.0[signature::EVENT].as_bytes()));
        assert_eq!(request.0[signature::ENVIRONMENT], "devnet");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_with_a_fresh_signature_and_at_last_given_up() {
    let retries = vec![Duration::from_millis(20), Duration::from_millis(40)];
    let options = Options { webhook_retries: retries, ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    // A redirect is a failure too; it is not followed, or there would be a request more.
    let receiver = Receiver::start(vec![307, 503, 400]).await;
    let only = Types::parse("commerce.order.created").unwrap();
    simulator.add_webhook_endpoint_for(&receiver.url, only).unwrap();
    simulator.create_order().unwrap();
    patiently(simulator.wait_for_webhooks()).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.1 == requests[0].1), "identical bytes");
    let times: Vec<_> = requests.iter().map(|request| request.0[signature::TIMESTAMP].clone()).collect();
    assert!(times[0] < times[1] && times[1] < times[2]);
    assert!(requests.iter().all(|request| verify(request, &[simulator.webhook_secret()]).is_ok()));
    let tally = simulator.webhooks();
    assert_eq!((tally.attempts, tally.delivered, tally.given_up, tally.dropped), (3, 0, 1, 0));
    simulator.stop().await;
}

#[tokio::test]
async fn during_a_rotation_both_secrets_sign() {
    let simulator = start().await;
    let receiver = Receiver::start(vec![]).await;
    let endpoint = simulator.add_webhook_endpoint(&receiver.url).unwrap();
    simulator.rotate_webhook_secret("next");
    assert!(simulator.ping(&endpoint).is_some());
    receiver.wait_for(1).await;
    simulator.finish_webhook_rotation();
    assert!(simulator.ping(&endpoint).is_some());
    receiver.wait_for(2).await;
    let requests = receiver.requests();
    let old = simulator.webhook_secret();
    assert!(requests.iter().all(|request| verify(request, &["next"]).is_ok()));
    assert!(verify(&requests[0], &[old]).is_ok());
    assert!(verify(&requests[1], &[old]).is_err());
    assert_eq!(requests[0].0[signature::EVENT], "test.ping");
    assert!(simulator.events().is_empty(), "a ping is on no other channel");
    assert!(simulator.ping("we_9").is_none());
    simulator.stop().await;
}

#[tokio::test]
async fn webhooks_can_be_paused_shuffled_and_doubled() {
    let simulator = start().await;
    let receiver = Receiver::start(vec![]).await;
    simulator.add_webhook_endpoint(&receiver.url).unwrap();
    let faults = simulator.faults();
    faults.set(|faults| {
        faults.webhooks.paused = true;
        faults.webhooks.jitter = Duration::from_millis(200);
        faults.webhooks.duplicate_percent = 100;
    });
    for _ in 0..4 {
        deliver(&simulator);
    }
    assert!(receiver.requests().is_empty());
    assert_eq!(simulator.webhooks().attempts, 0);
    faults.set(|faults| faults.webhooks.paused = false);
    patiently(simulator.wait_for_webhooks()).await;
    let issued = ids(&simulator);
    let twice: Vec<_> = issued.iter().flat_map(|id| [id.clone(), id.clone()]).collect();
    assert_eq!(sorted(receiver.ids()), sorted(twice.clone()));
    assert_ne!(receiver.ids(), twice, "a shuffle of 80 that changes nothing is no shuffle");
    simulator.stop().await;
}

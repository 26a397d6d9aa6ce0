//! Live frames wait for the walk that fills the gap before them, within bounds.

use super::websocket::{FRAME_BYTES_MAX, Peer, Rig, settings};
use super::{arrival, defaults, next, settle, soon};
use futures::StreamExt;
use pepay_relay::clock::Clock;
use pepay_relay::config;
use pepay_relay::labels::{Cause, Outcome};
use pepay_relay::legs::backfill::Backfill;
use pepay_relay::legs::{Arrival, Intake};
use pepay_relay::legs::{Note, Position, Walks};
use pepay_relay::provider::{rest::Rest, tls};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(600);
const ROOM: usize = 64 << 20;

/// Everything that the peer sent before has been read.
async fn read_up_to_here(peer: &mut Peer) {
    peer.send(Message::Ping("here".into())).await;
    loop {
        if let Message::Pong(_) = soon(peer.stream.next()).await.unwrap().unwrap() {
            return;
        }
    }
}

/// A backfill that does not know where to begin: each walk is out at once.
fn walk_at_once(walks: Walks, stop: CancellationToken) -> Backfill {
    let clock = Arc::new(Clock::default());
    let api_key = watch::channel("ck_test".into()).1;
    let rest = Rest::new("http://127.0.0.1:1", LONG, api_key, &tls::client_config().unwrap(), Arc::clone(&clock));
    let settings = config::Backfill { every: LONG, overlap: LONG, hold_max: LONG, ..defaults().backfill };
    Backfill {
        settings,
        rest: Arc::new(rest.unwrap()),
        intake: Intake::new(ROOM).0,
        clock,
        position: watch::channel(Position::default()).1,
        walks,
        metrics: Arc::new(pepay_relay::telemetry::Metrics::new("test")),
        health: Arc::default(),
        stop,
    }
}

#[tokio::test]
async fn frames_wait_until_the_walk_is_out_and_leave_in_their_order() {
    let mut rig = Rig::holding(settings(), ROOM, LONG).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    for frame in ["1", "2"] {
        peer.send(frame).await;
    }
    read_up_to_here(&mut peer).await;
    rig.assert_nothing_arrived();
    let backfill = tokio::spawn(walk_at_once(rig.walks.clone(), rig.stop.clone()).run());
    for frame in ["1", "2"] {
        let delivery = next(&mut rig.receiver).await;
        assert_eq!(delivery.bytes, frame);
        settle(&rig.metrics, delivery, Outcome::Published);
    }
    peer.send("3").await;
    let delivery = next(&mut rig.receiver).await;
    assert_eq!(delivery.bytes, "3", "nothing is held any more");
    settle(&rig.metrics, delivery, Outcome::Published);
    rig.finish().await;
    soon(backfill).await.unwrap();
}

#[tokio::test]
async fn frames_go_on_after_hold_max_whatever_the_walk_does() {
    let hold_max = Duration::from_millis(300);
    let mut rig = Rig::holding(settings(), ROOM, hold_max).await;
    let began = Instant::now();
    let mut peer = rig.accept().await;
    peer.send("1").await;
    let delivery = next(&mut rig.receiver).await;
    assert!(began.elapsed() >= hold_max, "{:?}", began.elapsed());
    settle(&rig.metrics, delivery, Outcome::Published);
    rig.finish().await;
}

#[tokio::test]
async fn sixteen_mebibytes_of_frames_are_held_and_no_more() {
    let mut rig = Rig::holding(settings(), ROOM, LONG).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    let frames = (16 << 20) / FRAME_BYTES_MAX;
    for _ in 1..frames {
        peer.send("x".repeat(FRAME_BYTES_MAX)).await;
    }
    read_up_to_here(&mut peer).await;
    rig.assert_nothing_arrived();
    peer.send("x".repeat(FRAME_BYTES_MAX)).await;
    for _ in 0..frames {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
    }
    rig.finish().await;
}

#[tokio::test]
async fn what_is_held_waits_beyond_the_end_of_its_connection_which_is_reported_behind_it() {
    let mut rig = Rig::holding(settings(), ROOM, LONG).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    peer.send("1").await;
    peer.stream.close(None).await.unwrap();
    while soon(peer.stream.next()).await.is_some() {}
    rig.assert_nothing_arrived();
    let backfill = tokio::spawn(walk_at_once(rig.walks.clone(), rig.stop.clone()).run());
    let Arrival::Delivery(delivery) = arrival(&mut rig.receiver).await else { panic!("the frame comes first") };
    settle(&rig.metrics, delivery, Outcome::Published);
    let told = arrival(&mut rig.receiver).await;
    assert!(matches!(told, Arrival::Note(_, Note::WebsocketDown { cause: Cause::Closed, .. })), "{told:?}");
    rig.finish().await;
    soon(backfill).await.unwrap();
}

//! What the leg makes of frames.

use super::*;

#[tokio::test]
async fn garbage_and_binary_frames_are_deliveries_and_control_frames_are_none() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    let garbage = ["", "{", "[1,2]", "\u{0}\u{7f}", r#"{"object":7}"#];
    for text in garbage {
        peer.send(text).await;
    }
    for control in [
        include_str!("../../fixtures/ws/control.replay_started.json"),
        include_str!("../../fixtures/ws/control.replay_completed.json"),
        include_str!("../../fixtures/ws/control.resync_required.json"),
        include_str!("../../fixtures/ws/control.unknown.json"),
    ] {
        peer.send(control).await;
    }
    peer.send(Message::Binary(vec![0xff, 0xfe, 0x00].into())).await;
    peer.send(Message::Binary(EVENT.as_bytes().to_vec().into())).await;
    rig.up().await;
    for bytes in garbage.map(str::as_bytes) {
        taken(&mut rig, bytes).await;
    }
    let hint = arrival(&mut rig.receiver).await;
    assert!(matches!(hint, Arrival::Note(_, Note::Resync { .. })), "{hint:?}");
    taken(&mut rig, &[0xff, 0xfe, 0x00]).await;
    // The second hint is taken together with the first: nothing is reported of it before this delivery.
    taken(&mut rig, EVENT.as_bytes()).await;
    assert_eq!(rig.walks.ask(), 3, "one walk for the connection, one for both hints");
    assert_eq!(rig.metrics.deliveries(Leg::Websocket), 7);
    assert_eq!(rig.health.leg(Leg::Websocket), LegState::Connected);
    rig.finish().await;
}

#[tokio::test]
async fn heartbeats_are_ignored_and_counted() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    for seq in 0..20 {
        peer.send(format!(r#"{{"object":"ws_heartbeat","seq":{seq}}}"#)).await;
        peer.send(format!(r#"{{"type":"heartbeat","ts":{seq}}}"#)).await;
    }
    peer.send(r#"{"object":"something_new"}"#).await;
    peer.send(EVENT).await;
    rig.up().await;
    taken(&mut rig, EVENT.as_bytes()).await;
    let ignored = rig.metrics.outcomes(Leg::Websocket, Outcome::Ignored);
    assert_eq!((rig.metrics.deliveries(Leg::Websocket), ignored), (42, 41));
    rig.finish().await;
}

/// The next arrival is a delivery of these bytes.
async fn taken(rig: &mut Rig, bytes: &[u8]) {
    let Arrival::Delivery(delivery) = arrival(&mut rig.receiver).await else { panic!("{bytes:?} comes next") };
    assert_eq!(delivery.bytes.as_ref(), bytes);
    settle(&rig.metrics, delivery, Outcome::DeadLettered);
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_with_1009_whether_or_not_it_is_fragmented() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    for fragmented in [false, true] {
        let mut rig = Rig::start(settings()).await;
        let mut peer = rig.accept().await;
        rig.up().await;
        let part = || "x".repeat(FRAME_BYTES_MAX / 2 + 1).into_bytes();
        if fragmented {
            peer.send(Message::Frame(Frame::message(part(), OpCode::Data(Data::Text), false))).await;
            peer.send(Message::Frame(Frame::message(part(), OpCode::Data(Data::Continue), true))).await;
        } else {
            peer.send("x".repeat(FRAME_BYTES_MAX + 1)).await;
        }
        assert_eq!(peer.close_code().await, CloseCode::Size);
        drop(peer);
        assert_eq!(rig.down().await, Cause::TooLarge);
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_frame_at_the_limit_is_taken() {
    let mut rig = Rig::start(settings()).await;
    let mut peer = rig.accept().await;
    peer.send("x".repeat(FRAME_BYTES_MAX)).await;
    let delivery = next(&mut rig.receiver).await;
    assert_eq!(delivery.bytes.len(), FRAME_BYTES_MAX);
    settle(&rig.metrics, delivery, Outcome::DeadLettered);
    rig.finish().await;
}

#[tokio::test]
async fn pings_are_answered_and_sent() {
    let mut rig = Rig::start(config::Websocket { ping_interval: Duration::from_millis(20), ..settings() }).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    peer.send(Message::Ping("are you there".into())).await;
    let mut pinged = false;
    let mut answered = false;
    while !(pinged && answered) {
        match soon(peer.stream.next()).await.unwrap().unwrap() {
            Message::Ping(_) => pinged = true,
            Message::Pong(payload) => answered = payload.as_ref() == b"are you there",
            other => panic!("{other:?}"),
        }
    }
    rig.finish().await;
}

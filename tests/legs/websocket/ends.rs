//! How connections end, pause and stop.

use super::*;

#[tokio::test]
async fn a_ws_error_ends_the_connection_as_its_code_asks() {
    let cases = [
        (include_str!("../../fixtures/ws/error.api_key_invalid.json"), Cause::Refused, LegState::Refused),
        (include_str!("../../fixtures/ws/error.internal.json"), Cause::ServerError, LegState::Connected),
        (include_str!("../../fixtures/ws/error.nested-variant.json"), Cause::ServerError, LegState::Connected),
    ];
    for (error, cause, state) in cases {
        let mut rig = Rig::start(settings()).await;
        let mut peer = rig.accept().await;
        rig.up().await;
        peer.send(error).await;
        assert_eq!(peer.close_code().await, CloseCode::Normal);
        drop(peer);
        assert_eq!(rig.down().await, cause);
        let _again = match state {
            LegState::Connected => Some(rig.accept().await),
            _ => None,
        };
        rig.until(state).await;
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_reset() {
    let mut rig = Rig::start(settings()).await;
    let peer = rig.accept().await;
    rig.up().await;
    drop(peer);
    assert_eq!(rig.down().await, Cause::Reset);
    rig.finish().await;
}

#[tokio::test]
async fn a_full_intake_pauses_the_leg_and_room_ends_the_pause() {
    // One frame of 300 bytes with its overhead fits each pool; the third has to wait.
    let mut rig = Rig::with_intake(settings(), 1024).await;
    let mut peer = rig.accept().await;
    for _ in 0..3 {
        peer.send("x".repeat(600)).await;
    }
    rig.until(LegState::Paused).await;
    for _ in 0..3 {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
    }
    rig.until(LegState::Connected).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_leg_that_is_paused_too_long_closes_keeps_its_delivery_and_comes_back() {
    let mut rig =
        Rig::with_intake(config::Websocket { idle_timeout: Duration::from_millis(400), ..settings() }, 1024).await;
    let mut peer = rig.accept().await;
    rig.up().await;
    for _ in 0..3 {
        peer.send("x".repeat(600)).await;
    }
    assert_eq!(peer.close_code().await, CloseCode::Away);
    drop(peer);
    for _ in 0..3 {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
    }
    assert_eq!(rig.down().await, Cause::Closed);
    let _again = rig.accept().await;
    rig.finish().await;
}

#[tokio::test]
async fn stopping_closes_in_order_and_leaves_what_waits_to_the_provider() {
    let mut rig = Rig::with_intake(settings(), 1024).await;
    let mut peer = rig.accept().await;
    for _ in 0..3 {
        peer.send("x".repeat(600)).await;
    }
    rig.until(LegState::Paused).await;
    rig.stop.cancel();
    assert_eq!(peer.close_code().await, CloseCode::Away);
    assert!(matches!(soon(peer.stream.next()).await, None | Some(Err(Error::ConnectionClosed))));
    drop(peer);
    for _ in 0..2 {
        let delivery = next(&mut rig.receiver).await;
        settle(&rig.metrics, delivery, Outcome::Published);
    }
    assert_eq!(rig.metrics.outcomes(Leg::Websocket, Outcome::Failed), 1);
    rig.finish().await;
}

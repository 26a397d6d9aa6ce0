//! A listener that stops loses no webhook that was on its way, and answers each.

use super::tls::{fixture, shake, with_tls};
use super::*;

const OK: &str = r#"{"ok":true}"#;

/// A webhook on a connection that is kept, answered.
async fn kept(rig: &mut Rig) -> TcpStream {
    let mut socket = rig.connect().await;
    socket.write_all(&signed(BODY)).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut socket).await, 200, OK);
    socket
}

async fn is_last(rig: &mut Rig, socket: &mut (impl AsyncReadExt + Unpin)) {
    rig.settle_next(Outcome::Published).await;
    let answer = read_answer(socket).await;
    check(&answer, 200, OK);
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    assert_eq!(soon(socket.read(&mut [0; 16])).await.unwrap(), 0, "then it closes");
}

#[tokio::test]
async fn a_stop_that_the_listener_has_not_noticed_yet_refuses_nothing() {
    let mut rig = Rig::start(settings()).await;
    rig.health.set_phase(Phase::Stopping);
    let answer = rig.send(signed(BODY));
    rig.settle_next(Outcome::Published).await;
    check(&soon(answer).await.unwrap(), 200, OK);
    rig.finish().await;
}

#[tokio::test]
async fn the_next_request_of_a_kept_connection_is_its_last() {
    let mut rig = Rig::start(settings()).await;
    let mut socket = kept(&mut rig).await;
    rig.health.set_phase(Phase::Stopping);
    rig.stop.cancel();
    socket.write_all(&signed(BODY)).await.unwrap();
    is_last(&mut rig, &mut socket).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_head_of_which_half_is_there_is_read_to_its_end() {
    let mut rig = Rig::start(settings()).await;
    let mut socket = kept(&mut rig).await;
    let request = signed(BODY);
    let (half, rest) = request.split_at(20);
    socket.write_all(half).await.unwrap();
    // What comes behind it is served, so the half has come.
    kept(&mut rig).await;
    rig.stop.cancel();
    while TcpStream::connect(rig.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    socket.write_all(rest).await.unwrap();
    is_last(&mut rig, &mut socket).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_connection_that_was_accepted_ends_its_handshake() {
    let mut rig = Rig::start(with_tls(&fixture("localhost.cert.pem"), &fixture("localhost.key.pem"))).await;
    let socket = rig.connect().await;
    // Accepted in their order: one that is served came behind it.
    drop(shake(rig.connect().await, "localhost.cert.pem").await.unwrap());
    rig.stop.cancel();
    let mut stream = shake(socket, "localhost.cert.pem").await.unwrap();
    stream.write_all(&signed(BODY)).await.unwrap();
    rig.settle_next(Outcome::Published).await;
    check(&read_answer(&mut stream).await, 200, OK);
    rig.finish().await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_so_at_the_end_as_well() {
    let mut rig = Rig::start(settings()).await;
    let mut socket = kept(&mut rig).await;
    rig.stop.cancel();
    while TcpStream::connect(rig.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    socket.write_all(b"no request\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut socket).await.status, 400);
    let Rig { leg, metrics, .. } = rig;
    soon(leg).await.unwrap();
    assert_eq!(refused(&metrics, Refusal::Malformed), 1);
}

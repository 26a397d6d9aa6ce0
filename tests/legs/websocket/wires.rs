//! Frames byte for byte: what the provider's socket carries, and what arrives of it.

use super::*;

/// A frame of the provider's: its first byte and its payload, with the least form of its length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        length @ ..126 => vec![length as u8],
        length @ ..65_536 => [&[126], &(length as u16).to_be_bytes()[..]].concat(),
        length => [&[127], &(length as u64).to_be_bytes()[..]].concat(),
    };
    [&[first], &length[..], payload].concat()
}

/// Text, binary, part of a text, part that goes on, last part, ping.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const BEGINS: u8 = 0x01;
const GOES_ON: u8 = 0x00;
const ENDS: u8 = 0x80;
const PING: u8 = 0x89;

/// No UTF-8: the first is the event with one byte more, as a provider that cuts a name by bytes would spell it.
fn poison() -> Vec<u8> {
    EVENT.replacen("\"data\"", "\"note\":\"*\",\"data\"", 1).bytes().map(|b| if b == b'*' { 0xc3 } else { b }).collect()
}

/// These bytes come on one connection, in two writes and byte by byte; the messages that arrive, and no end of it.
async fn check(wire: &[u8], messages: &[&[u8]]) {
    for size in [wire.len() / 2 + 1, 1] {
        let mut rig = Rig::start(settings()).await;
        let mut peer = rig.accept().await;
        rig.up().await;
        // A long wire byte by byte is a matter of the scanner's own tests.
        for part in wire.chunks(if wire.len() > 4096 { size.max(1000) } else { size }) {
            peer.stream.get_mut().write_all(part).await.unwrap();
        }
        peer.send(EVENT).await;
        for message in messages.iter().copied().chain([EVENT.as_bytes()]) {
            let Arrival::Delivery(delivery) = arrival(&mut rig.receiver).await else {
                panic!("{:?} comes next", String::from_utf8_lossy(message));
            };
            assert!(delivery.bytes == message, "{:?}", String::from_utf8_lossy(&delivery.bytes));
            settle(&rig.metrics, delivery, Outcome::DeadLettered);
        }
        rig.assert_nothing_arrived();
        assert_eq!(rig.health.leg(Leg::Websocket), LegState::Connected);
        assert!(Cause::ALL.into_iter().all(|cause| rig.metrics.reconnects(cause) == 0));
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_text_that_is_no_utf8_is_a_delivery_and_the_connection_goes_on() {
    let poison = poison();
    assert!(std::str::from_utf8(&poison).is_err() && poison.len() > 126);
    check(&frame(TEXT, &poison), &[&poison]).await;
    check(&frame(TEXT, b"\xff\xfe\x00"), &[b"\xff\xfe\x00"]).await;
    // A control frame's name in it makes it none.
    let unreadable = b"{\"object\":\"ws_error\",\"code\":\"\xff\"}";
    check(&frame(TEXT, unreadable), &[unreadable]).await;
}

#[tokio::test]
async fn texts_in_fragments_and_of_every_form_of_length_arrive_whole() {
    let short = [b'x'; 126];
    let long = [0xf0; 65_536];
    let wire = [frame(TEXT, &short[..125]), frame(TEXT, &short), frame(BINARY, &long[..65_535]), frame(TEXT, &long)];
    check(&wire.concat(), &[&short[..125], &short, &long[..65_535], &long]).await;
    // A character that is split, and one that never ends, with a ping between that holds what looks like a text.
    let wire = [
        frame(BEGINS, b"\xf0\x9f"),
        frame(PING, b"\x81\x01x"),
        frame(GOES_ON, b"\x98"),
        frame(GOES_ON, b""),
        frame(ENDS, b"\x80"),
        frame(BEGINS, b"a\xf0"),
        frame(ENDS, b"b"),
    ];
    check(&wire.concat(), &["\u{1f600}".as_bytes(), b"a\xf0b"]).await;
}

#[tokio::test]
async fn what_comes_with_the_answer_to_the_upgrade_is_read_as_what_comes_later() {
    let mut rig = Rig::start(settings()).await;
    let (mut socket, _) = soon(rig.provider.accept()).await.unwrap();
    let accept = crate::dial::accept_of(&crate::dial::head(&mut socket).await);
    let head = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    // The head, a message, and the first byte of the next one in one packet.
    let second = frame(TEXT, b"second \xff");
    socket.write_all(&[head.as_bytes(), &frame(TEXT, b"first \xff"), &second[..1]].concat()).await.unwrap();
    rig.up().await;
    for (more, message) in [(&[][..], b"first \xff".as_slice()), (&second[1..], b"second \xff")] {
        socket.write_all(more).await.unwrap();
        let delivery = next(&mut rig.receiver).await;
        assert_eq!(delivery.bytes, message);
        settle(&rig.metrics, delivery, Outcome::DeadLettered);
    }
    rig.finish().await;
}

#[tokio::test]
async fn what_no_frame_may_be_ends_the_connection() {
    for wire in [
        // Reserved bits, a reserved opcode, a mask, a message that goes on where none began, one inside another.
        vec![0xc1, 1, b'x'],
        vec![0x83, 1, b'x'],
        vec![0x81, 0x81, 0, 0, 0, 0, b'x'],
        frame(ENDS, b"x"),
        [frame(BEGINS, b"x"), frame(TEXT, b"y")].concat(),
    ] {
        let mut rig = Rig::start(settings()).await;
        let mut peer = rig.accept().await;
        rig.up().await;
        peer.stream.get_mut().write_all(&wire).await.unwrap();
        assert_eq!(peer.close_code().await, CloseCode::Protocol, "{wire:?}");
        drop(peer);
        assert_eq!(rig.down().await, Cause::ServerError, "{wire:?}");
        rig.finish().await;
    }
}

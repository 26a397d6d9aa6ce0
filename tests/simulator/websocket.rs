use super::{PATIENCE, connect, deliver, frame, ids, json, names, patiently, post, start};
use futures::StreamExt;
use pepay_relay::simulator::faults::{Controls, Since};
use pepay_relay::simulator::{Cut, FaultAnswer, Options, Pace, Simulator, Transition};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Error, Message};

fn status(result: Result<super::Socket, Error>) -> u16 {
    match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("an HTTP answer, not {other:?}"),
    }
}

#[tokio::test]
async fn only_a_key_or_a_living_token_gets_in() {
    let simulator = start().await;
    let bare = connect_async(simulator.websocket_url()).await.map(|(socket, _)| socket);
    assert_eq!(status(bare), 401);
    let wrong = connect_async(format!("{}?token=x", simulator.websocket_url())).await.map(|(socket, _)| socket);
    assert_eq!(status(wrong), 401);
    let (code, minted) = post(&simulator, "/api/v1/ws/token", &json!({ "scope": "commerce", "ttl_seconds": 60 })).await;
    assert_eq!(code, 200);
    let data = &minted["data"];
    assert_eq!(data["ws_url"], simulator.websocket_url());
    let url = format!("{}?token={}", data["ws_url"].as_str().unwrap(), data["token"].as_str().unwrap());
    let (mut socket, _) = connect_async(url).await.unwrap();
    simulator.create_order().unwrap();
    assert_eq!(names(&mut socket, 2).await, ids(&simulator));
    for body in [json!({ "scope": "merchant" }), json!({ "scope": "commerce", "ttl_seconds": 0 }), json!({})] {
        assert_eq!(post(&simulator, "/api/v1/ws/token", &body).await.0, 400);
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_bad_query_is_refused_before_the_upgrade() {
    let simulator = start().await;
    for query in ["types=nonsense", "since=evt_example", "format=event_v2", "environment=mainnet"] {
        assert_eq!(status(connect(&simulator, query).await), 400, "{query}");
    }
    assert!(connect(&simulator, "types=invoice.*&format=event_v1&environment=devnet").await.is_ok());
    simulator.stop().await;
}

#[tokio::test]
async fn the_sixth_connection_of_a_key_is_refused() {
    let simulator = start().await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(connect(&simulator, "").await.unwrap());
    }
    assert_eq!(status(connect(&simulator, "").await), 429);
    patiently(simulator.wait_for_connections(5)).await;
    drop(sockets.pop());
    patiently(simulator.wait_for_connections(4)).await;
    // The count falls just before the place is free.
    let again = async { while connect(&simulator, "").await.is_err() {} };
    patiently(again).await;
    assert_eq!(simulator.connections_made(), 6);
    simulator.stop().await;
}

#[tokio::test]
async fn replay_goes_over_into_live_without_gap_or_duplicate() {
    let simulator = Arc::new(start().await);
    deliver(&simulator);
    let since = ids(&simulator)[2].clone();
    // Publishing keeps step with reading: an order for every frame that is read, so that both go on side by side.
    let (read, publish) = std::sync::mpsc::channel();
    let publisher = {
        let simulator = Arc::clone(&simulator);
        std::thread::spawn(move || {
            for _ in 0..60 {
                publish.recv().unwrap();
                deliver(&simulator);
            }
        })
    };
    // Four sockets join while events are being published, each with another cursor.
    for _ in 0..4 {
        let mut socket = connect(&simulator, &format!("since={since}")).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 607 {
            let frame = json(&mut socket).await;
            // Nobody listens any more when everything is published.
            let _ = read.send(());
            if frame["object"] == "event" {
                seen.push(frame["id"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(seen, ids(&simulator)[3..]);
    }
    publisher.join().unwrap();
    Arc::into_inner(simulator).unwrap().stop().await;
}

#[tokio::test]
async fn a_cursor_older_than_retention_gets_a_bounded_snapshot() {
    let simulator = Simulator::start(Options { keep_events: 250, ..Options::default() }).await.unwrap();
    for _ in 0..30 {
        deliver(&simulator);
    }
    let issued = ids(&simulator);
    let mut socket = connect(&simulator, &format!("since={}", issued[0])).await.unwrap();
    let started = json(&mut socket).await;
    assert_eq!((&started["type"], &started["data"]["reason"]), (&json!("snapshot_started"), &json!("since_too_old")));
    assert_eq!(names(&mut socket, 200).await, issued[100..]);
    let completed = json(&mut socket).await;
    assert_eq!((&completed["type"], &completed["data"]["truncated"]), (&json!("snapshot_completed"), &json!(true)));
    simulator.create_order().unwrap();
    assert_eq!(names(&mut socket, 2).await, ids(&simulator)[300..], "and then it is live");
    simulator.stop().await;
}

#[tokio::test]
async fn filters_hold_for_live_events_and_replay() {
    let simulator = start().await;
    let mine = simulator.create_order().unwrap();
    let other = simulator.create_order().unwrap();
    let query = format!("types=commerce.order.*&order_id={mine}");
    let mut live = connect(&simulator, &query).await.unwrap();
    simulator.simulate(&other, Transition::PaymentConfirmed).unwrap();
    simulator.simulate(&mine, Transition::PaymentConfirmed).unwrap();
    let event = json(&mut live).await;
    assert_eq!((&event["type"], &event["data"]["object"]["orderId"]), (&json!("commerce.order.updated"), &json!(mine)));
    let mut replayed = connect(&simulator, &format!("{query}&since=evt_1-0")).await.unwrap();
    let names = names(&mut replayed, 4).await;
    assert_eq!((names[0].as_str(), names[3].as_str()), ("replay_started", "replay_completed"));
    assert_eq!(names[2], event["id"].as_str().unwrap());
    simulator.stop().await;
}

#[tokio::test]
async fn connections_can_be_refused_ended_and_cut() {
    let simulator = start().await;
    let faults = simulator.faults();
    for code in [401, 403, 503] {
        faults.set(|faults| faults.websocket.refuse = Some(FaultAnswer::status(code)));
        assert_eq!(status(connect(&simulator, "").await), code);
    }
    faults.set(|faults| faults.websocket.refuse = Some(FaultAnswer { status: 429, retry_after_s: Some(7) }));
    let Err(Error::Http(response)) = connect(&simulator, "").await else { panic!("refused") };
    assert_eq!(response.headers()["retry-after"], "7");
    faults.clear();

    let mut socket = connect(&simulator, "").await.unwrap();
    assert_eq!(faults.cut_sockets(&Cut::Abrupt), 1);
    assert!(matches!(patiently(socket.next()).await, Some(Err(Error::Protocol(_) | Error::Io(_)))));

    for (cut, code) in [(Cut::Close(1012), 1012), (Cut::Error("TOKEN_EXPIRED".into()), 1008)] {
        patiently(simulator.wait_for_connections(0)).await;
        let mut socket = connect(&simulator, "").await.unwrap();
        faults.cut_sockets(&cut);
        let mut last = frame(&mut socket).await;
        if let Cut::Error(name) = cut {
            let error: Value = serde_json::from_str(last.to_text().unwrap()).unwrap();
            assert_eq!((&error["object"], &error["code"]), (&json!("ws_error"), &json!(name)));
            last = frame(&mut socket).await;
        }
        assert!(matches!(last, Message::Close(Some(close)) if u16::from(close.code) == code));
    }

    faults.set(|faults| faults.websocket.flap = Some(Cut::Close(1013)));
    let mut socket = connect(&simulator, "").await.unwrap();
    assert!(matches!(frame(&mut socket).await, Message::Close(Some(_))));
    simulator.stop().await;
}

#[tokio::test]
async fn frames_can_be_dropped_doubled_swapped_and_made_up() {
    let simulator = start().await;
    let faults = simulator.faults();
    let mut socket = connect(&simulator, "").await.unwrap();
    faults.set(|faults| faults.websocket.drop_next = 2);
    simulator.create_order().unwrap();
    faults.set(|faults| faults.websocket.duplicate_percent = 100);
    simulator.create_order().unwrap();
    let issued = ids(&simulator);
    assert_eq!(names(&mut socket, 4).await, [2, 2, 3, 3].map(|index| issued[index].clone()));

    faults.clear();
    faults.set(|faults| faults.websocket.swap = true);
    let order_id = simulator.create_order().unwrap();
    simulator.see_payment(&order_id).unwrap();
    let issued = ids(&simulator);
    assert_eq!(names(&mut socket, 2).await, [5, 4].map(|index| issued[index].clone()));
    faults.clear();
    assert_eq!(names(&mut socket, 1).await, [issued[6].clone()], "the odd one comes when the fault ends");

    faults.send_text("{not json");
    faults.send_binary(vec![0; 3]);
    faults.send_text(&"x".repeat(3_000_000));
    assert_eq!(frame(&mut socket).await, Message::text("{not json"));
    assert_eq!(frame(&mut socket).await, Message::binary(vec![0; 3]));
    assert_eq!(frame(&mut socket).await.len(), 3_000_000);
    let custom =
        simulator.publish_custom(json!({ "type": "payment_quote.updated", "data": { "object": {} } })).unwrap();
    assert_eq!(names(&mut socket, 1).await, std::slice::from_ref(&custom.id));
    let future = simulator.publish_custom(json!({ "id": "evt_9999999999999-0", "type": "invoice.updated" })).unwrap();
    assert_eq!(names(&mut socket, 1).await, ["evt_9999999999999-0"]);
    assert_eq!(ids(&simulator).last(), Some(&future.id));
    simulator.stop().await;
}

#[tokio::test]
async fn silence_is_complete_and_ends_without_loss() {
    let options = Options { ping_interval: Duration::from_millis(20), ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let mut socket = connect(&simulator, "").await.unwrap();
    assert!(matches!(patiently(socket.next()).await, Some(Ok(Message::Ping(_)))), "it pings");
    simulator.faults().set(|faults| faults.websocket.silent = true);
    simulator.create_order().unwrap();
    // What was on its way before the fault may still come.
    while let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_millis(200), socket.next()).await {
        assert!(matches!(message, Message::Ping(_)));
    }
    simulator.faults().clear();
    assert_eq!(names(&mut socket, 2).await, ids(&simulator));
    simulator.stop().await;
}

#[tokio::test]
async fn since_and_control_frames_have_other_readings() {
    let simulator = start().await;
    let faults = simulator.faults();
    deliver(&simulator);
    let issued = ids(&simulator);
    let query = format!("since={}", issued[8]);
    faults.set(|faults| (faults.websocket.since, faults.websocket.controls) = (Since::Inclusive, Controls::None));
    let mut socket = connect(&simulator, &query).await.unwrap();
    assert_eq!(names(&mut socket, 2).await, issued[8..]);
    faults.set(|faults| (faults.websocket.since, faults.websocket.controls) = (Since::Ignored, Controls::Known));
    let mut socket = connect(&simulator, &query).await.unwrap();
    simulator.create_order().unwrap();
    assert_eq!(names(&mut socket, 2).await, ids(&simulator)[10..]);
    faults.set(|faults| (faults.websocket.since, faults.websocket.controls) = (Since::Exclusive, Controls::Other));
    faults.set(|faults| faults.websocket.replay_missing = true);
    let mut socket = connect(&simulator, &query).await.unwrap();
    let frames = [json(&mut socket).await, json(&mut socket).await];
    assert!(frames.iter().all(|frame| frame["object"] == "ws_control" && frame["type"].is_null()));
    simulator.stop().await;
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_sent_a_resync() {
    let simulator = start().await;
    let mut socket = connect(&simulator, "").await.unwrap();
    simulator.faults().set(|faults| faults.websocket.silent = true);
    for _ in 0..420 {
        deliver(&simulator);
    }
    simulator.faults().clear();
    let hint = json(&mut socket).await;
    assert_eq!((&hint["type"], &hint["data"]["reason"]), (&json!("resync_required"), &json!("slow_consumer")));
    assert_eq!(names(&mut socket, 1).await, [ids(&simulator)[4_097].clone()], "the buffer's 4,096 are gone");
    simulator.stop().await;
}

#[tokio::test]
async fn the_automatic_pace_is_the_same_life_for_the_same_seed() {
    let run = async |seed| {
        let options = Options { pace: Pace::Automatic(Duration::from_millis(1)), seed, ..Options::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let mut socket = connect(&simulator, "since=evt_1-0").await.unwrap();
        let mut lives = Vec::new();
        while lives.len() < 200 {
            let event = json(&mut socket).await;
            if event["object"] == "event" {
                let object = &event["data"]["object"];
                lives.push(format!("{} {} {}", event["type"], object["id"], object["status"]));
            }
        }
        simulator.stop().await;
        lives
    };
    let one = run(5).await;
    let same = run(5).await;
    let other = run(6).await;
    assert_eq!(one, same);
    assert_ne!(one, other);
    let statuses: BTreeSet<_> = one.iter().filter_map(|life| life.rsplit(' ').next()).collect();
    assert!(statuses.contains("\"delivered\"") && statuses.len() > 6, "{statuses:?}");
}

#[tokio::test]
async fn stopping_closes_the_sockets_and_waits_for_every_task() {
    let simulator = start().await;
    let mut socket = connect(&simulator, "").await.unwrap();
    patiently(simulator.wait_for_connections(1)).await;
    let reader = tokio::spawn(async move { frame(&mut socket).await });
    let addr = simulator.addr();
    patiently(simulator.stop()).await;
    let close = tokio::time::timeout(PATIENCE, reader).await.unwrap().unwrap();
    assert!(matches!(close, Message::Close(Some(close)) if u16::from(close.code) == 1001));
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

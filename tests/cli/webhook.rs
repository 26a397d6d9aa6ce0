//! `webhook` against the provider's own vectors, and against an ingress.

use super::{relay, relay_with, start};
use pepay_relay::simulator::Simulator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/webhook/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_slice(&fs::read(fixture("vectors.json")).unwrap()).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn secrets(vector: &Value) -> String {
    vector["secrets"].as_array().unwrap().iter().map(text).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn known_answers_are_verified_as_the_provider_documents() {
    let simulator = start().await;
    let vectors = vectors();
    assert!(vectors.len() >= 11);
    for vector in vectors {
        let mut arguments = vec!["webhook".to_owned(), "verify".to_owned(), fixture(&text(&vector["body_file"]))];
        for (name, value) in vector["headers"].as_object().unwrap() {
            arguments.extend(["--header".to_owned(), format!("{name}: {}", text(value))]);
        }
        arguments.extend(["--at".to_owned(), vector["now_ms"].to_string()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let secrets = secrets(&vector);
        let said = relay_with(&simulator, &arguments, &[("PEPAY_RELAY_WEBHOOK_SECRETS", &secrets)], b"").await;
        let name = &vector["name"];
        let expected = text(&vector["expect"]);
        match expected.strip_prefix("reject ") {
            None => {
                assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (0, "✓ genuine\n", ""), "{name}")
            }
            Some(reason) => {
                assert_eq!((said.status, said.stdout), (1, format!("✗ {reason}\n")), "{name}");
                assert!(said.stderr.contains(reason), "{name}: {}", said.stderr);
            }
        }
    }
}

#[tokio::test]
async fn a_body_is_signed_as_the_provider_signs_it() {
    let simulator = start().await;
    let valid = &vectors()[0];
    let body = fixture(&text(&valid["body_file"]));
    let secrets = secrets(valid);
    let timestamp = text(&valid["headers"]["X-Pepay-Timestamp"]);
    let environment = [("PEPAY_RELAY_WEBHOOK_SECRETS", secrets.as_str())];
    let arguments = ["webhook", "sign", &body, "--timestamp", &timestamp, "--output", "json"];
    let said = relay_with(&simulator, &arguments, &environment, b"").await;
    assert_eq!((said.status, said.stderr.as_str()), (0, ""));
    let made: BTreeMap<String, String> = serde_json::from_str(&said.stdout).unwrap();
    let wanted = valid["headers"].as_object().unwrap();
    assert_eq!(made, wanted.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect());
    let said = relay_with(&simulator, &["webhook", "sign", &body, "--timestamp", &timestamp], &environment, b"").await;
    insta::assert_snapshot!("webhook-sign", said.stdout);
    // From stdin, and what is no event has no id.
    let said = relay_with(&simulator, &["webhook", "sign", "-", "--timestamp", "7"], &environment, b"hello").await;
    assert_eq!(said.status, 0);
    assert!(!said.stdout.contains("x-pepay-event"), "{}", said.stdout);
}

/// Answers one request, and gives it.
async fn ingress(status: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/pepay", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.windows(9).any(|end| end == b"\r\n\r\nhello") {
            assert_ne!(peer.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{{\"ok\":true}}");
        peer.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap().to_lowercase()
    });
    (url, served)
}

#[tokio::test]
async fn what_is_sent_is_genuine_and_the_answer_is_printed() {
    let simulator = start().await;
    let (url, served) = ingress("200 OK").await;
    let said = relay_with(&simulator, &["webhook", "send", "--url", &url], &[], b"hello").await;
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (0, "200 {\"ok\":true}\n", ""));
    let request = served.await.unwrap();
    let headers: Vec<String> = request.lines().filter(|line| line.starts_with("x-pepay-")).map(str::to_owned).collect();
    let mut arguments = vec!["webhook", "verify"];
    arguments.extend(headers.iter().flat_map(|header| ["--header", header.as_str()]));
    let said = relay_with(&simulator, &arguments, &[], b"hello").await;
    assert_eq!((said.status, said.stdout.as_str()), (0, "✓ genuine\n"));
    let (url, _served) = ingress("503 Service Unavailable").await;
    let arguments = ["webhook", "send", "--url", &url, "--output", "json"];
    let said = relay_with(&simulator, &arguments, &[], b"hello").await;
    assert_eq!((said.status, said.stdout.trim()), (1, r#"{"body":"{\"ok\":true}","status":503}"#));
}

async fn fails(simulator: &Simulator, arguments: &[&str], sentence: &str) {
    let said = relay(simulator, arguments).await;
    assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{arguments:?}: {}", said.stderr);
    assert!(said.stderr.contains(sentence), "{arguments:?}: {}", said.stderr);
}

#[tokio::test]
async fn bad_input_is_a_sentence_with_its_remedy() {
    let simulator = start().await;
    fails(&simulator, &["webhook", "sign", "/nonexistent/body"], "name a file, or `-` for stdin").await;
    fails(&simulator, &["webhook", "send", "--url", "http://shop.example/x"], "in clear").await;
    fails(&simulator, &["webhook", "send", "--url", "http://127.0.0.1:1/x"], "no connection").await;
    let large = vec![b'x'; (1 << 20) + 1];
    let said = relay_with(&simulator, &["webhook", "sign"], &[], &large).await;
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("413"), "{}", said.stderr);
    let said = relay_with(&simulator, &["webhook", "sign"], &[("PEPAY_RELAY_WEBHOOK_SECRETS", "")], b"").await;
    assert_eq!(said.status, 78, "{}", said.stderr);
    let said = relay(&simulator, &["webhook", "verify", "--header", "X-Pepay-Signature: 00"]).await;
    assert!(said.stderr.contains("there is no `x-pepay-timestamp` header"), "{}", said.stderr);
}

//! `status` against an admin listener that always answers the same.

use super::bare;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const STATUS: &str = r#"{"name":"shop","version":"0.1.0","ready":true,"degraded":["webhook"],"uptime_seconds":3700,
"cursor":"evt_1768472100655-0","legs":{
"websocket":{"state":"connected","since":"2026-01-15T09:13:20.100Z","reconnects":2,"last_event_at":"2026-01-15T10:15:00.655Z","last_sign_of_life_at":"2026-01-15T10:15:02.000Z"},
"webhook":{"state":"disabled","since":"2026-01-15T09:13:20.100Z","reconnects":0,"last_event_at":null,"last_sign_of_life_at":null},
"backfill":{"state":"connected","since":"2026-01-15T09:13:20.100Z","reconnects":0,"last_event_at":null,"last_sign_of_life_at":"2026-01-15T10:13:20.000Z"}},
"kafka":{"state":"connected","last_commit_at":"2026-01-15T10:15:00.700Z"},"dedup":{"ids":1234,"oldest_age_seconds":61,"evicted_early":0},
"gaps":[{"id":3,"cause":"silence","from":"evt_1768471200000-0","opened_at":"2026-01-15T10:00:00.000Z","ended_at":"2026-01-15T10:00:04.000Z","closed_at":null,"recovered":17}],
"counts":{"websocket":{"published":1200,"duplicate":3,"ignored":0,"dead_lettered":1,"rejected":0,"failed":0},
"webhook":{"published":0,"duplicate":0,"ignored":0,"dead_lettered":0,"rejected":12,"failed":0},
"backfill":{"published":30,"duplicate":900,"ignored":0,"dead_lettered":0,"rejected":0,"failed":0}}}"#;

/// What a node of a cluster answers beyond it: it serves one of two shards, and a third node has just died.
const CLUSTER: &str = r#","nodes":[{"node":"n1","shards":[1]},{"node":"n2","shards":[]}],
"shards":[{"shard":0,"owner":null,"state":"unowned","inbox_lag":1204},{"shard":1,"owner":"n1","state":"owned","inbox_lag":0},
{"shard":2,"owner":"n1","state":"owned","inbox_lag":null}],
"accounts":[{"account":"shop-a","shard":1,"legs":{"websocket":{"state":"connected","since":"2026-01-15T09:13:20.100Z"},
"webhook":{"state":"disabled","since":"2026-01-15T09:13:20.100Z"},"backfill":{"state":"backing_off","since":"2026-01-15T10:13:20.100Z"}}},
{"account":"shop-b","shard":0,"legs":null}]}"#;

/// The status of a node.
fn of_cluster() -> String {
    [STATUS.trim_end_matches('}'), "}}", CLUSTER].concat()
}

/// A listener that answers every request with this status.
async fn admin(status: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(peer.read_buf(&mut request).await.unwrap(), 0);
            }
            let length = status.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{status}");
            peer.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn people_read_tables_in_their_zone_and_scripts_the_object() {
    let admin = admin(STATUS.to_owned()).await;
    let environment = [("PEPAY_RELAY__ADMIN__LISTEN", admin.as_str()), ("TZ", "IST-5:30")];
    let local = bare(&["status"], &environment, b"").await;
    assert_eq!((local.status, local.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("status", local.stdout);
    let utc = bare(&["status", "--utc"], &environment, b"").await.stdout;
    assert!(utc.contains("last commit 2026-01-15 10:15:00 UTC\n") && !utc.contains("IST"), "{utc}");
    let json = bare(&["status", "--output", "json"], &environment, b"").await;
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!((json.status, value(&json.stdout)), (0, value(STATUS)));
}

#[tokio::test]
async fn a_node_of_a_cluster_shows_nodes_shards_and_accounts() {
    let admin = admin(of_cluster()).await;
    let environment = [("PEPAY_RELAY__ADMIN__LISTEN", admin.as_str())];
    let shown = bare(&["status", "--utc"], &environment, b"").await;
    assert_eq!((shown.status, shown.stderr.as_str()), (0, ""));
    let tables: Vec<&str> = shown.stdout.split("\n\n").collect();
    insta::assert_snapshot!("status-of-a-cluster", tables[3..6].join("\n\n"));
    // Without a cluster there is no shard to be shown.
    let alone = [STATUS.trim_end_matches('}'), "}},", &CLUSTER[CLUSTER.find("\"accounts\"").unwrap()..]].concat();
    let admin = self::admin(alone).await;
    let shown = bare(&["status", "--utc"], &[("PEPAY_RELAY__ADMIN__LISTEN", admin.as_str())], b"").await;
    insta::assert_snapshot!("status-of-accounts", shown.stdout.split("\n\n").nth(3).unwrap());
}

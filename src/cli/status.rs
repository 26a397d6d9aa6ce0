//! `status`: what the running relay reports of itself, asked at `admin.listen`.

use super::args::Times;
use super::output::{Output, align_right, table};
use super::values::Zone;
use crate::clock::spelled;
use crate::config::Config;
use crate::exit::Exit;
use crate::labels::Leg;
use crate::provider::rest::ObjectTime;
use crate::provider::tls;
use crate::text::foreign;
use clap::Args;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// How times are shown.
    #[command(flatten)]
    pub times: Times,
}

/// The answer comes from memory; a relay that takes longer is stuck or not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Largest answer: accounts are what grows, 10,000 of them at most, some 400 bytes each.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Asks and shows; status 1 when nobody answers.
pub(super) async fn run(arguments: &Status, config: &Config, output: Output) -> Result<(), Exit> {
    let status = ask(reachable(config.admin.listen)).await?;
    if output.is_json() {
        return Ok(output.json(&status)?);
    }
    let zone = Zone::new(arguments.times.utc);
    output.fields(&summary(&status, &zone))?;
    output.line("")?;
    let mut legs = table(["leg", "state", "since", "last event", "sign of life", "reconnects"]);
    for (name, leg) in members(&status["legs"]) {
        let cells = ["state", "since", "last_event_at", "last_sign_of_life_at", "reconnects"];
        legs.add_row([name.to_owned()].into_iter().chain(cells.map(|cell| shown(&leg[cell], &zone))));
    }
    align_right(&mut legs, &[5]);
    output.table(&legs)?;
    output.line("")?;
    let mut counts = table(["leg", "published", "duplicate", "ignored", "dead-lettered", "rejected", "failed"]);
    for (name, leg) in members(&status["counts"]) {
        let cells = ["published", "duplicate", "ignored", "dead_lettered", "rejected", "failed"];
        counts.add_row([name.to_owned()].into_iter().chain(cells.map(|cell| text(&leg[cell]))));
    }
    align_right(&mut counts, &[1, 2, 3, 4, 5, 6]);
    output.table(&counts)?;
    let [nodes, shards, accounts] = ["nodes", "shards", "accounts"].map(|list| list_of(&status, list));
    for (list, table) in [
        (nodes, of_nodes(nodes)),
        (shards, of_shards(shards)),
        (accounts, of_accounts(accounts, !shards.is_empty(), &zone)),
    ] {
        if !list.is_empty() {
            output.line("")?;
            output.table(&table)?;
        }
    }
    let gaps = list_of(&status, "gaps");
    if !gaps.is_empty() {
        output.line("")?;
        let mut table = table(["gap", "account", "cause", "from", "opened", "ended", "closed", "recovered"]);
        for gap in gaps {
            let cells = ["id", "account", "cause", "from", "opened_at", "ended_at", "closed_at", "recovered"];
            table.add_row(cells.map(|cell| shown(&gap[cell], &zone)));
        }
        output.table(&table)?;
    }
    Ok(())
}

/// The nodes of a cluster.
fn of_nodes(nodes: &[Value]) -> comfy_table::Table {
    let mut table = table(["node", "shards"]);
    for node in nodes {
        let shards: Vec<String> = list_of(node, "shards").iter().map(text).collect();
        let shards = if shards.is_empty() { text(&Value::Null) } else { shards.join(", ") };
        table.add_row([text(&node["node"]), shards]);
    }
    table
}

/// Who serves each shard of a cluster.
fn of_shards(shards: &[Value]) -> comfy_table::Table {
    let mut table = table(["shard", "owner", "state", "inbox lag"]);
    for shard in shards {
        table.add_row(["shard", "owner", "state", "inbox_lag"].map(|cell| text(&shard[cell])));
    }
    align_right(&mut table, &[3]);
    table
}

/// The legs of each account, as far as the asked node knows them. The listener of webhooks is everybody's.
fn of_accounts(accounts: &[Value], of_cluster: bool, zone: &Zone) -> comfy_table::Table {
    let mut table = match of_cluster {
        true => table(["account", "shard", "websocket", "since", "backfill", "since"]),
        false => table(["account", "websocket", "since", "backfill", "since"]),
    };
    let names = ["account"].into_iter().chain(of_cluster.then_some("shard"));
    for account in accounts {
        let legs = ["websocket", "backfill"].map(|leg| &account["legs"][leg]);
        let states = legs.into_iter().flat_map(|leg| [text(&leg["state"]), shown(&leg["since"], zone)]);
        table.add_row(names.clone().map(|name| text(&account[name])).chain(states));
    }
    table
}

fn list_of<'s>(status: &'s Value, member: &str) -> &'s [Value] {
    status[member].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The status that the relay at this address answers.
pub(super) async fn ask(address: SocketAddr) -> Result<Value, Exit> {
    let silent = |why: &dyn std::fmt::Display| {
        Exit::failed(format!(
            "no relay answers at {address} ({why}); start one with `pepay-relay run`, or name its settings with --config"
        ))
    };
    if address.port() == 0 {
        return Err(Exit::failed(
            "admin.listen has port 0, so its real port is unknown; set one and restart the relay",
        ));
    }
    // The answer comes without TLS; a client of its own making would want certificates nevertheless.
    let tls = tls::client_config().map_err(|error| Exit::failed(error.to_string()))?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWERS_WITHIN)
        .build()
        .map_err(|error| Exit::failed(format!("cannot ask: {error}")))?;
    let sent = client.get(format!("http://{address}/status")).send().await;
    let mut answer = sent.map_err(|error| silent(&if error.is_timeout() { "no answer in 5 s" } else { "refused" }))?;
    if !answer.status().is_success() {
        return Err(silent(&format!("somebody else does, with {}", answer.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| silent(&"the answer broke off"))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(silent(&"somebody else does, at length"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_| silent(&"somebody else does, without JSON"))
}

/// Where a relay that listens there can be asked from here: one that is bound to every address, at the loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn summary(status: &Value, zone: &Zone) -> [(&'static str, String); 5] {
    let degraded: Vec<String> = status["degraded"].as_array().into_iter().flatten().map(text).collect();
    let ready = match (status["ready"] == true, degraded.is_empty()) {
        (true, true) => "ready".to_owned(),
        (true, false) => format!("ready, degraded: {}", degraded.join(", ")),
        (false, _) => "not ready".to_owned(),
    };
    let uptime = Duration::from_secs(status["uptime_seconds"].as_u64().unwrap_or_default());
    let kafka = &status["kafka"];
    let dedup = &status["dedup"];
    let age = dedup["oldest_age_seconds"].as_u64().map(Duration::from_secs);
    let age = age.map_or_else(String::new, |age| format!(", the oldest {}", spelled(age)));
    let early = text(&dedup["evicted_early"]);
    [
        ("relay", format!("{} {}", text(&status["name"]), text(&status["version"]))),
        ("state", format!("{ready}, up {}", spelled(uptime))),
        ("Kafka", format!("{}, last commit {}", text(&kafka["state"]), shown(&kafka["last_commit_at"], zone))),
        ("window", format!("{} ids{age}, {early} forgotten early", text(&dedup["ids"]))),
        ("cursor", text(&status["cursor"])),
    ]
}

fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    // In the order of every other table; a member that is not there has no row.
    Leg::ALL.into_iter().filter_map(|leg| Some((leg.as_str(), object.get(leg.as_str())?)))
}

/// The same with a time in the zone; every time of `/status` is RFC 3339.
fn shown(value: &Value, zone: &Zone) -> String {
    let time = value.as_str().and_then(|text| text.parse().ok());
    time.map_or_else(|| text(value), |time| zone.time(Some(ObjectTime(time))))
}

/// A value as a cell; foreign text keeps no control character.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => foreign(text).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;
    use serde_json::json;

    #[test]
    fn a_relay_on_every_address_is_asked_at_the_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:9464", "10.0.0.7:9464"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn the_summary_is_five_lines_and_bears_what_is_missing() {
        let status = json!({
            "name": "shop\u{1b}", "version": "0.1.0", "ready": true, "degraded": ["webhook"], "uptime_seconds": 3700,
            "kafka": { "state": "connected", "last_commit_at": null }, "cursor": "evt_1-0",
            "dedup": { "ids": 7, "oldest_age_seconds": 61, "evicted_early": 0 },
        });
        let lines = summary(&status, &Zone::new(true));
        assert_eq!(
            lines.map(|(_, line)| line),
            [
                r"shop\u{1b} 0.1.0",
                "ready, degraded: webhook, up 1h 1m 40s",
                "connected, last commit –",
                "7 ids, the oldest 61s, 0 forgotten early",
                "evt_1-0",
            ]
        );
        assert_eq!(summary(&Value::Null, &Zone::new(true))[1].1, "not ready, up 0s");
    }
}

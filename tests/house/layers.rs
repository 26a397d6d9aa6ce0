//! What each room may know, and which files decide without touching the world.

use super::{judge, product, read, root, set, sources};
use std::collections::{BTreeMap, BTreeSet};

/// The small tools that every room may know.
const GROUND: [&str; 3] = ["clock", "loopback", "text"];

/// What each folder (or file) directly under `src` may know of the others; `x::Y` allows that item alone.
///
/// The order is the order of the floors: a room knows only what lies above it in this list.
const MAY_KNOW: [(&str, &[&str]); 19] = [
    ("clock", &[]),
    ("heap", &[]),
    ("labels", &[]),
    ("loopback", &[]),
    ("text", &[]),
    ("provider", &[]),
    ("normalize", &["labels", "provider"]),
    ("config", &["labels", "provider", "normalize"]),
    ("registry", &["labels", "provider", "normalize", "config"]),
    ("listener", &[]),
    ("telemetry", &["labels", "config", "listener"]),
    ("legs", &["labels", "provider", "config", "listener", "telemetry"]),
    ("kafka", &["labels", "config", "telemetry"]),
    // The reasons not to start, each of which has its status.
    ("exit", &["kafka::errors", "legs::webhook"]),
    ("relay", &["labels", "legs", "normalize", "kafka", "provider", "telemetry"]),
    ("simulator", &["provider"]),
    (
        "daemon",
        &["labels", "legs", "normalize", "kafka", "provider", "config", "telemetry", "relay", "registry", "exit"],
    ),
    (
        "cli",
        &[
            "labels",
            "legs",
            "normalize",
            "kafka",
            "provider",
            "config",
            "telemetry",
            "relay",
            "registry",
            "daemon",
            "simulator",
            "exit",
            "heap",
            "listener",
        ],
    ),
    ("lib", &[]),
];

/// Files, or folders, without socket, clock, log, task or `async`: they take the time and chance as arguments.
const PURE: [&str; 57] = [
    "src/cli/line.rs",
    "src/config/mistakes.rs",
    "src/config/table.rs",
    "src/exit.rs",
    "src/kafka/batch.rs",
    "src/kafka/cause.rs",
    "src/kafka/client/denied.rs",
    "src/kafka/client/token.rs",
    "src/kafka/drain_pace.rs",
    "src/kafka/ends.rs",
    "src/kafka/inbox/begin.rs",
    "src/kafka/owner.rs",
    "src/kafka/run.rs",
    "src/kafka/settlement/",
    "src/kafka/topics/report.rs",
    "src/kafka/topics/spec.rs",
    "src/kafka/verdict.rs",
    "src/legs/backfill/reconcile.rs",
    "src/legs/backfill/rounds.rs",
    "src/legs/backfill/walk/",
    "src/legs/trace.rs",
    "src/legs/websocket/headers.rs",
    "src/legs/websocket/hold.rs",
    "src/legs/websocket/reconnect.rs",
    "src/legs/websocket/session.rs",
    "src/listener/admission/",
    "src/normalize/",
    "src/provider/errors.rs",
    "src/provider/event.rs",
    "src/provider/event_id.rs",
    "src/provider/frame.rs",
    "src/provider/json.rs",
    "src/provider/page.rs",
    "src/provider/rest/answer.rs",
    "src/provider/rest/error.rs",
    "src/provider/rest/order.rs",
    "src/provider/rest/order_list.rs",
    "src/provider/rest/retry.rs",
    "src/provider/signature.rs",
    "src/provider/slices.rs",
    "src/registry/answer.rs",
    "src/relay/dedup.rs",
    "src/relay/journal/",
    "src/relay/lru.rs",
    "src/relay/marks.rs",
    "src/relay/pipeline/",
    "src/relay/planner/",
    "src/relay/progress/mod.rs",
    "src/relay/records.rs",
    "src/relay/replay.rs",
    "src/relay/start/mod.rs",
    "src/relay/turn.rs",
    "src/relay/versions.rs",
    "src/simulator/frames.rs",
    "src/simulator/model/",
    "src/simulator/push/replay.rs",
    "src/text.rs",
];

/// What a pure file does not hold, and what it would be.
const IMPURE: [(&str, &str); 14] = [
    ("tokio", "a task"),
    ("async ", "a task"),
    (".await", "a task"),
    ("thread::", "a task"),
    ("tracing::", "a log"),
    ("Instant::now", "a clock"),
    ("SystemTime", "a clock"),
    ("Timestamp::now", "a clock"),
    ("rand::rng(", "chance"),
    ("rand::random", "chance"),
    ("Uuid::new_v4", "chance"),
    ("std::net", "a socket"),
    ("std::fs", "a file"),
    ("std::env", "the environment"),
];

/// `a::b` for each `crate::a::b`, and one for each name in `crate::a::{b, c}`.
pub(super) fn known(code: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = path.find(|c| !is_path(c)).unwrap_or(path.len());
        let (head, rest) = path.split_at(end);
        let mut parts = head.split("::").filter(|part| !part.is_empty());
        let first = parts.next().unwrap_or_default();
        match (parts.next(), rest.strip_prefix('{').and_then(|list| list.split('}').next())) {
            (None, Some(list)) => {
                let names = list.split(',').map(|name| name.split("::").next().unwrap_or_default().trim());
                known.extend(names.filter(|name| !name.is_empty()).map(|name| match first {
                    "" => name.to_owned(),
                    _ => format!("{first}::{name}"),
                }));
            }
            (Some(second), _) => drop(known.insert(format!("{first}::{second}"))),
            (None, None) => drop(known.insert(first.to_owned())),
        }
    }
    known
}

fn knows_too_much(path: &str, text: &str) -> Vec<String> {
    let Some(room) = path.strip_prefix("src/").and_then(|path| path.split(['/', '.']).next()) else {
        return vec![];
    };
    if room == "main" {
        return vec![];
    }
    let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{path}: the room `{room}` has no line in the table of what may know what")];
    };
    let fits = |item: &str| {
        let of = item.split("::").next().unwrap_or_default();
        of == room || GROUND.contains(&of) || allowed.iter().any(|allowed| *allowed == of || *allowed == item)
    };
    let unfit = known(&product(text)).into_iter().filter(|item| !fits(item));
    unfit.map(|item| format!("{path}: `{room}` may not know `{item}`")).collect()
}

fn impure(path: &str, text: &str) -> Vec<String> {
    if !PURE.iter().any(|pure| path == *pure || (pure.ends_with('/') && path.starts_with(pure))) {
        return vec![];
    }
    let code = product(text);
    let held = IMPURE.iter().filter(|(word, _)| code.contains(word));
    held.map(|(word, what)| format!("{path}: is pure and holds {what}: `{}`", word.trim())).collect()
}

#[test]
fn rooms_know_what_they_may() {
    judge(&sources(), knows_too_much);
}

/// What a room may know and does not lie above it: an arrow that runs up.
fn runs_up(table: &[(&str, &[&str])]) -> Vec<String> {
    let mut above = BTreeSet::new();
    let mut found = Vec::new();
    for (room, allowed) in table {
        let of = |item: &str| item.split("::").next().unwrap_or_default().to_owned();
        found.extend(allowed.iter().filter(|item| !above.contains(&of(item))).map(|item| format!("{room}: {item}")));
        above.insert((*room).to_owned());
    }
    found
}

#[test]
fn no_room_knows_one_below_it() {
    assert_eq!(runs_up(&MAY_KNOW), <[&str; 0]>::default());
}

/// Rooms of the code map that have a shorter text for what they may know, or that it does not show.
const NOT_LISTED: [&str; 4] = ["exit", "daemon", "cli", "lib"];

/// What the last column of the code map allows each room to know.
fn code_map(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (_, map) = text.split_once("| Folder |").expect("a code map");
    let rows = map.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let room = |name: String| name.trim_end_matches('/').trim_end_matches(".rs").to_owned();
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let (Some(rooms), Some(may_know)) = (cells.first(), cells.last()) else { return None };
        Some(names(rooms).into_iter().map(|name| (room(name), names(may_know))).collect::<Vec<_>>())
    })
    .flatten()
    .collect()
}

#[test]
fn the_code_map_lists_what_the_rooms_may_know() {
    let told = code_map(&read("ARCHITECTURE.md"));
    for (room, allowed) in MAY_KNOW.iter().filter(|(room, _)| !NOT_LISTED.contains(room)) {
        assert_eq!(told.get(*room), Some(&set(allowed)), "the code map in ARCHITECTURE.md: {room}");
    }
}

#[test]
fn pure_files_are_pure() {
    judge(&sources(), impure);
    for pure in PURE {
        assert!(root().join(pure).exists(), "{pure} is gone: the list of pure files must follow");
    }
}

/// Each rule, shown something that it must find and something that it must not.
mod rules {
    use super::*;

    #[test]
    fn knowledge() {
        let code = "use crate::{exit::Exit, cli};\nuse crate::labels::{Leg,\n Outcome};\nlet t = crate::labels::Topic::Orders;";
        assert_eq!(known(code), set(&["cli", "exit", "labels::Leg", "labels::Outcome", "labels::Topic"]));
        for (path, text, wrong) in [
            ("src/provider/event.rs", "use crate::labels::Leg;", true),
            ("src/provider/event.rs", "use crate::provider::EventId;", false),
            ("src/provider/event.rs", "// not crate::labels::Leg", false),
            ("src/provider/event.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n use crate::labels::Leg;\n}", false),
            ("src/telemetry/metrics/mod.rs", "use crate::labels::{Cause, Leg, Outcome};", false),
            ("src/telemetry/metrics/mod.rs", "use crate::legs::{Leg, Delivery};", true),
            ("src/kafka/mod.rs", "fn f(_: crate::relay::Plan) {}", true),
            ("src/daemon/mod.rs", "use crate::cli::output;", true),
            ("src/daemon/mod.rs", "use crate::relay::planner;", false),
            ("src/attic/mod.rs", "", true),
        ] {
            assert_eq!(!knows_too_much(path, text).is_empty(), wrong, "{path}: {text}");
        }
    }

    #[test]
    fn floors() {
        assert_eq!(runs_up(&[("a", &[]), ("b", &["a", "a::X"])]), <[&str; 0]>::default());
        assert_eq!(runs_up(&[("a", &["b::Y"]), ("b", &["b"])]), ["a: b::Y", "b: b"]);
    }

    #[test]
    fn purity() {
        for (word, _) in IMPURE {
            assert_eq!(impure("src/relay/planner/", &format!("    {word} x\n")).len(), 1, "{word}");
            assert_eq!(impure("src/normalize/order.rs", &format!("x({word} )")).len(), 1, "{word}");
        }
        assert!(impure("src/relay/mod.rs", "use tokio::sync;").is_empty());
        assert!(impure("src/relay/planner/", "// no tokio here").is_empty());
    }
}

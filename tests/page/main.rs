//! The page at `/`, `/status` and the command `status`, as people see them: a real relay between the simulated provider
//! and an embedded Kafka (for nodes of a cluster a real one), looked at in a real Chromium. Pictures are in `target/page/`
//! afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "a failed test may panic, and suites share files of which each uses a part"
)]

mod chromium;
mod cluster;
mod simulator;
#[path = "../support/mod.rs"]
mod support;

use chromium::{Chromium, PATIENCE};
use pepay_relay::config::{Account, AccountSecrets, Config, Secrets};
use pepay_relay::daemon::{Daemon, Setup};
use pepay_relay::kafka::Broker;
use pepay_relay::kafka::client::Tuning;
use pepay_relay::kafka::embedded::Embedded;
use pepay_relay::labels::{Leg, Outcome};
use pepay_relay::provider::Environment;
use pepay_relay::simulator::{Cut, FaultAnswer, Options, Simulator, Transition};
use pepay_relay::telemetry::{LegState, Phase};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A relay that delivers, and what it is between.
struct Scene {
    simulator: Simulator,
    daemon: Daemon,
    _kafka: Embedded,
}

impl Scene {
    async fn build() -> Self {
        Self::with(|_, _| ()).await
    }

    /// The same with other settings and secrets.
    async fn with(change: impl FnOnce(&mut Config, &mut Secrets)) -> Self {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let mut config = Config::minimal(Environment::Devnet, "");
        config.name = "shop".to_owned();
        config.provider.api_url = simulator.api_url();
        config.provider.websocket_url = simulator.websocket_url();
        config.webhook.listen = "127.0.0.1:0".parse().unwrap();
        config.admin.listen = config.webhook.listen;
        config.websocket.backoff_min = Duration::from_millis(100);
        config.websocket.backoff_max = Duration::from_millis(500);
        config.backfill.every = Duration::from_secs(2);
        config.backfill.overlap = Duration::from_secs(1);
        config.dedup.ids_max = 2_000;
        let kafka = Embedded::start(&config).await.unwrap();
        kafka.bootstrap_servers().clone_into(&mut config.kafka.bootstrap_servers);
        let webhook = vec![simulator.webhook_secret().into()];
        let mut secrets = Secrets {
            accounts: vec![AccountSecrets::sole(simulator.api_key(), webhook)],
            kafka_password: None,
            kafka_certificate: None,
            kafka_oauth_secret: None,
            proxies: Default::default(),
        };
        change(&mut config, &mut secrets);
        let setup = Setup { config, secrets, broker: Broker::Embedded, tuning: Tuning::default(), from_ms: None };
        let daemon = Daemon::start(setup).await.unwrap();
        // Before it is ready, too.
        assert_eq!(json(&get(&daemon, "/status").await)["name"], "shop");
        let mut health = daemon.health.subscribe();
        timeout(PATIENCE, health.wait_for(|state| state.phase == Phase::Ready)).await.unwrap().unwrap();
        let webhook = format!("http://{}/webhooks/pepay", daemon.webhook.unwrap());
        simulator.add_webhook_endpoint(&webhook).unwrap();
        simulator.wait_for_connections(1).await;
        Self { simulator, daemon, _kafka: kafka }
    }

    /// Orders live one after the other, a step each `pace`.
    async fn orders(&self, orders: usize, pace: Duration) {
        for number in 0..orders {
            let order = self.simulator.create_order().unwrap();
            for step in &Transition::LIFE[..1 + number % Transition::LIFE.len()] {
                self.simulator.simulate(&order, *step).unwrap();
                sleep(pace).await;
            }
        }
    }

    /// The stream goes away and stays away.
    fn cut(&self) {
        self.simulator.faults().set(|faults| faults.websocket.refuse = Some(FaultAnswer::status(503)));
        self.simulator.faults().cut_sockets(&Cut::Abrupt);
    }

    /// Everything issued is published and nothing is on its way.
    async fn quiet(&self) {
        let issued = u64::try_from(self.simulator.events().len()).unwrap();
        let metrics = &self.daemon.metrics;
        let began = Instant::now();
        loop {
            let published: u64 = Leg::ALL.map(|leg| metrics.outcomes(leg, Outcome::Published)).iter().sum();
            if published == issued && Leg::ALL.iter().all(|leg| metrics.in_flight(*leg) == 0) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{published} of {issued} published in time");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One account has a key that the provider does not know.
#[tokio::test]
async fn the_page_lists_accounts_with_those_that_are_down_first() {
    let mut scene = Scene::with(|config, secrets| {
        config.accounts = ["shop-a", "shop-b"].map(Account::named).to_vec();
        let known = secrets.accounts.remove(0);
        let unknown = AccountSecrets::sole("ck_unknown_0000000000000000", known.webhook.clone());
        secrets.accounts.push(AccountSecrets { name: "shop-a".to_owned(), ..known });
        secrets.accounts.push(AccountSecrets { name: "shop-b".to_owned(), ..unknown });
    })
    .await;
    let mut page = Chromium::start().await;
    page.appear(1280, 900, "light").await;
    page.call("Page.navigate", serde_json::json!({ "url": format!("http://{}/", scene.daemon.admin) })).await;
    let rows =
        "[...document.querySelectorAll('#accounts tr')].map(row => row.innerText.replaceAll('\t', ' ')).join('; ')";
    page.until("the accounts are listed", &format!("{rows} == 'shop-b refused refused; shop-a connected connected'"))
        .await;
    let count = "document.getElementById('accounts-count').textContent";
    page.until("and counted", &format!("{count} == '1 of 2 connected'")).await;
    let of_cluster =
        "['nodes-section', 'shards-section', 'accounts-shard'].map(id => document.getElementById(id).hidden)";
    assert_eq!(page.evaluate(of_cluster).await, serde_json::json!([true, true, true]), "there is no cluster");
    page.picture(&pictures().join("accounts.png")).await;
    scene.daemon.stop();
    timeout(PATIENCE, scene.daemon.ended()).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_page_shows_what_the_status_has() {
    let mut scene = Scene::build().await;
    let base = format!("http://{}", scene.daemon.admin);
    let mut page = Chromium::start().await;
    page.appear(1280, 900, "light").await;
    page.call("Page.navigate", serde_json::json!({ "url": format!("{base}/") })).await;
    page.until(
        "the page hears of the relay",
        "document.querySelector('[data-leg=kafka] svg')?.dataset.state == 'connected'",
    )
    .await;

    scene.orders(4, Duration::from_millis(150)).await;
    scene.cut();
    scene.orders(2, Duration::from_millis(150)).await;
    let websocket = "document.querySelector('[data-leg=websocket] .word').textContent";
    page.until("the cut is seen", &format!("['backing off', 'connecting'].includes({websocket})")).await;
    page.until("in words", "document.getElementById('verdict').textContent.startsWith('Ready, but websocket ')").await;
    page.until(
        "as a gap",
        "[...document.querySelectorAll('[data-gap]')].some(gap => gap.textContent.includes('reset – open'))",
    )
    .await;
    page.picture(&pictures().join("degraded.png")).await;
    scene.simulator.faults().set(|faults| faults.websocket.refuse = None);
    scene.orders(6, Duration::from_millis(100)).await;
    scene.quiet().await;
    page.until("all is well", "document.getElementById('verdict').textContent == 'Ready: every leg delivers'").await;
    page.until(
        "every gap has its end",
        "[...document.querySelectorAll('[data-gap]')].every(gap => gap.textContent.includes('closed'))",
    )
    .await;
    assert_eq!(scene.daemon.health.leg(Leg::Websocket), LegState::Connected);
    same_numbers(&mut page, &scene.daemon).await;
    let balance = page.evaluate("document.getElementById('balance').textContent").await;
    assert_eq!(balance, "deliveries = outcomes + in flight ✓");
    assert!(page.evaluate("document.querySelectorAll('#latest tr').length").await.as_u64().unwrap() >= 10);

    looks(&mut page).await;
    let (complaints, addresses) = page.told();
    assert_eq!(complaints, Vec::<&Value>::new(), "nothing on the console");
    let outside: Vec<_> = addresses.iter().filter(|url| !url.starts_with(&base) && !url.starts_with("data:")).collect();
    assert!(!addresses.is_empty() && outside.is_empty(), "{outside:?}");

    scene.daemon.stop();
    timeout(PATIENCE, scene.daemon.ended()).await.unwrap().unwrap();
    drop(scene);
    page.until("the end is told", "!document.getElementById('lost').hidden").await;
}

/// Light and dark, on a desk and on a phone: it fits, it can be read, and each is kept as a picture.
async fn looks(page: &mut Chromium) {
    for (name, width, height) in [("desk", 1280, 900), ("phone", 360, 800)] {
        for scheme in ["light", "dark"] {
            page.appear(width, height, scheme).await;
            let wide = page.evaluate("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{name} scrolls sideways: {wide} in {width}");
            let over = page
                .evaluate(
                    "[...document.querySelectorAll('main *, header *, footer *')].filter(e => !e.closest('.sr, .skip, svg') && \
                     e.getBoundingClientRect().right > innerWidth + .5).map(e => e.outerHTML.slice(0, 80))",
                )
                .await;
            assert_eq!(over, serde_json::json!([]), "{name}: cut off at the right");
            let narrowest =
                "Math.min(...[...document.querySelectorAll('main > section:not([hidden])')].map(e => e.clientWidth))";
            assert!(page.evaluate(narrowest).await.as_f64().unwrap() > 300.0, "{name}: a card too narrow to read");
            for tone in ["--ink", "--soft", "--good", "--care", "--bad", "--off"] {
                let ratio = page.evaluate(&contrast(tone)).await.as_f64().unwrap();
                assert!(ratio >= 4.5, "{tone} in {scheme}: {ratio}");
            }
            page.picture(&pictures().join(format!("{name}-{scheme}.png"))).await;
        }
    }
    let dark = page.evaluate("getComputedStyle(document.body).backgroundColor").await;
    page.appear(1280, 900, "light").await;
    assert_ne!(page.evaluate("getComputedStyle(document.body).backgroundColor").await, dark);
}

/// WCAG's contrast ratio between a tone and the cards that it is on.
fn contrast(tone: &str) -> String {
    format!(
        "(() => {{ const style = getComputedStyle(document.documentElement); const light = name => {{ \
         const hex = style.getPropertyValue(name).trim(); const [r, g, b] = [1, 3, 5].map(i => {{ \
         const c = parseInt(hex.slice(i, i + 2), 16) / 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; }}); \
         return .2126 * r + .7152 * g + .0722 * b; }}; const [a, b] = [light('{tone}'), light('--card')].sort((a, b) => b - a); \
         return (a + .05) / (b + .05); }})()"
    )
}

/// Each place of the page for a member of `/status` holds its value, and shows it.
async fn same_numbers(page: &mut Chromium, daemon: &Daemon) {
    let places = "[...document.querySelectorAll('[data-status]')].map(e => \
        [e.dataset.status, [e.dataset.as ?? '', e.dataset.value, e.textContent, e.dateTime ?? '']])";
    let began = Instant::now();
    loop {
        let shown: Vec<(String, (String, String, String, String))> =
            serde_json::from_value(page.evaluate(places).await).unwrap();
        let gaps = page.evaluate("[...document.querySelectorAll('[data-gap]')].map(e => e.dataset.value)").await;
        let status = json(&get(daemon, "/status").await);
        assert!(shown.len() >= 40, "{}", shown.len());
        let wrong: Vec<_> = shown.iter().filter(|(place, shown)| !fits(&status, place, shown)).collect();
        let mut told: Vec<Value> = gaps.as_array().unwrap().iter().map(|gap| json(gap.as_str().unwrap())).collect();
        told.reverse();
        if wrong.is_empty() && status["gaps"].as_array().unwrap().ends_with(&told) && told.len() >= 2 {
            return;
        }
        // A ping or a checkpoint came between the two looks.
        assert!(began.elapsed() < PATIENCE, "{wrong:?}\n{told:?}\n{status:#}");
        sleep(Duration::from_millis(300)).await;
    }
}

fn fits(status: &Value, place: &str, (kind, value, text, time): &(String, String, String, String)) -> bool {
    let wanted = place.split('.').fold(status, |inner, key| &inner[key]);
    let held = json(value);
    match kind.as_str() {
        // They go on while one looks.
        "duration" => {
            let seconds = |value: &Value| value.as_i64().unwrap_or(-10);
            (seconds(wanted) - seconds(&held)).abs() <= 2 && text != "–"
        }
        "count" => held == *wanted && text.replace(',', "") == wanted.to_string(),
        "state" => held == *wanted && Some(text.replace(' ', "_").as_str()) == wanted.as_str(),
        "time" => held == *wanted && (wanted.as_str() == Some(time) || wanted.is_null() && text == "never"),
        _ => held == *wanted && Some(text.as_str()) == wanted.as_str(),
    }
}

#[tokio::test]
async fn the_command_shows_the_same() {
    let mut scene = Scene::build().await;
    scene.orders(1, Duration::ZERO).await;
    scene.quiet().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let admin = scene.daemon.admin;
    let settings = format!(
        "[provider]\nenvironment = \"devnet\"\n[kafka]\nbootstrap_servers = \"localhost:1\"\n[admin]\nlisten = \"{admin}\"\n"
    );
    std::fs::write(file.path(), settings).unwrap();
    let ask = async |format: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
        command.args(["status", "--output", format, "--config"]).arg(file.path()).env_clear();
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let served = async || json(&get(&scene.daemon, "/status").await);
    // A walk or a late copy may come in between.
    let began = Instant::now();
    let (told, served) = loop {
        let before = served().await;
        let (status, stdout, stderr) = ask("json").await;
        assert_eq!((status, stderr.as_str()), (Some(0), ""));
        if served().await["counts"] == before["counts"] {
            break (json(&stdout), before);
        }
        assert!(began.elapsed() < PATIENCE, "it never stands still: {before:#}");
    };
    for member in ["name", "version", "ready", "cursor", "counts", "degraded"] {
        assert_eq!(told[member], served[member], "{member}");
    }
    let (status, stdout, _) = ask("table").await;
    assert_eq!(status, Some(0));
    for word in ["relay   shop", "state   ready", "websocket   connected", "first_start"] {
        assert!(stdout.contains(word), "{word}:\n{stdout}");
    }
    scene.daemon.stop();
    timeout(PATIENCE, scene.daemon.ended()).await.unwrap().unwrap();
    drop(scene);
    let (status, stdout, stderr) = ask("table").await;
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("no relay answers at") && stderr.contains("pepay-relay run"), "{stderr}");
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[expect(clippy::disallowed_methods, reason = "the peer is the relay, whose bodies need no bound")]
async fn get(daemon: &Daemon, path: &str) -> String {
    // It speaks no TLS, and is not made without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    client.get(format!("http://{}{path}", daemon.admin)).send().await.unwrap().text().await.unwrap()
}

use super::PATIENCE;
use super::redact::redact;
use super::shop::Shop;
use pepay_relay::simulator::FaultAnswer;
use pepay_relay::simulator::Transition;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

struct Watch {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
    said: String,
}

impl Watch {
    fn start(shop: &Shop, order: &str, more: &[&str]) -> Self {
        let watch = ["orders", "get", order, "--watch", "--every", "500ms"];
        let mut command = Command::from(shop.command(&[&watch[..], more].concat(), &[]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdout, stderr, said: String::new() }
    }

    /// Reads on to the line that holds `text`.
    async fn until(&mut self, text: &str) {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await;
            let line = line.ok().and_then(Result::ok).flatten();
            let line = line.unwrap_or_else(|| panic!("{text:?} is never said:\n{}", self.said));
            self.said += &line;
            self.said.push('\n');
            if line.contains(text) {
                return;
            }
        }
    }

    /// Reads to the end; the exit status.
    async fn ended(&mut self) -> i32 {
        while let Ok(Some(line)) = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await.expect("it ends") {
            self.said += &line;
            self.said.push('\n');
        }
        self.child.wait().await.unwrap().code().unwrap()
    }
}

#[tokio::test]
async fn an_order_is_followed_until_it_has_ended() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let mut watch = Watch::start(&shop, &order, &[]);
    watch.until("Changes").await;
    shop.live(&order, &Transition::LIFE[..3]);
    watch.until("payment: ").await;
    shop.live(&order, &Transition::LIFE[3..4]);
    watch.until("https://track.").await;
    shop.live(&order, &Transition::LIFE[4..]);
    assert_eq!(watch.ended().await, 0, "{}", watch.said);
    insta::assert_snapshot!("orders-watch", redact(&watch.said));
}

#[tokio::test]
async fn scripts_get_each_changed_order_as_a_line() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let mut watch = Watch::start(&shop, &order, &["--output", "json"]);
    watch.until("pending_payment").await;
    shop.live(&order, &Transition::LIFE[..3]);
    watch.until("\"status\":\"placed\"").await;
    shop.live(&order, &Transition::LIFE[3..]);
    assert_eq!(watch.ended().await, 0);
    let statuses: Vec<_> = super::lines(&watch.said).iter().map(|order| order["status"].clone()).collect();
    assert_eq!(statuses, ["pending_payment", "placed", "delivered"]);
}

#[tokio::test]
async fn a_provider_that_goes_away_is_waited_for_and_a_refusal_is_not() {
    let shop = Shop::open().await;
    let order = shop.order_of("cust_8842").await;
    let mut watch = Watch::start(&shop, &order, &[]);
    watch.until("Changes").await;
    let faults = shop.simulator.faults();
    faults.set(|faults| faults.rest.refuse = Some(FaultAnswer { status: 429, retry_after_s: Some(600) }));
    let told = tokio::time::timeout(PATIENCE, watch.stderr.next_line()).await.unwrap().unwrap().unwrap();
    assert!(told.contains("429") && told.ends_with("looking on"), "{told}");
    faults.clear();
    shop.live(&order, &Transition::LIFE[..1]);
    watch.until("processing").await;
    faults.set(|faults| faults.rest.refuse = Some(FaultAnswer::status(403)));
    assert_eq!(watch.ended().await, 1, "{}", watch.said);
}

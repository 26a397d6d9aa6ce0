//! A provider with many merchants, and the settings of relays that serve them.

use super::support::kafka::Broker;
use super::support::relay::{Rig, get};
use pepay_relay::config::{Account, AccountSecrets, Config};
use pepay_relay::simulator::{Options, Simulator, Transition};
use std::time::Duration;
use tempfile::TempDir;

/// The first merchant's simulator is the rig's.
pub struct Stage {
    pub rig: Rig,
    others: Vec<Simulator>,
    _folder: TempDir,
}

impl Stage {
    /// `accounts` merchants, each an account called `shop-N`. As in production there is a walk each five minutes, and a
    /// ping each 20 seconds. Events come over the WebSocket.
    pub async fn new(broker: &Broker, name: &str, accounts: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::new(broker.bootstrap(), name).await;
        rig.config.backfill.every = Duration::from_secs(300);
        rig.config.websocket.ping_interval = Duration::from_secs(20);
        rig.config.websocket.idle_timeout = Duration::from_secs(60);
        let mut others = Vec::new();
        rig.secrets.accounts.clear();
        for number in 0..accounts {
            let name = format!("shop-{number}");
            let key = if number == 0 { rig.simulator.api_key().to_owned() } else { format!("ck_of_{name}_00000000") };
            if number > 0 {
                let options = Options { api_key: key.clone(), seed: number as u64, ..Options::default() };
                others.push(rig.simulator.beside(options).unwrap());
            }
            let [key_file, secrets_file] = ["key", "secrets"].map(|what| folder.path().join(format!("{name}.{what}")));
            let secret = format!("secret-of-{name}");
            std::fs::write(&key_file, &key).unwrap();
            std::fs::write(&secrets_file, &secret).unwrap();
            rig.config.accounts.push(Account {
                api_key_file: Some(key_file),
                webhook_secrets_file: Some(secrets_file),
                ..Account::named(&name)
            });
            let secrets = AccountSecrets::sole(key, vec![secret.into()]);
            rig.secrets.accounts.push(AccountSecrets { name, ..secrets });
        }
        Self { rig, others, _folder: folder }
    }

    /// Those of all merchants.
    pub fn simulators(&self) -> impl Iterator<Item = &Simulator> {
        std::iter::once(&*self.rig.simulator).chain(&self.others)
    }

    /// Orders of all merchants live until there are this many events more; how many there are.
    pub async fn issue(&self, events: usize) -> usize {
        let all = || self.simulators().map(|simulator| simulator.events().len()).sum::<usize>();
        let wanted = all() + events;
        let mut issued = 0;
        while issued < wanted {
            for simulator in self.simulators() {
                let order = simulator.create_order().unwrap();
                Transition::LIFE.iter().for_each(|step| simulator.simulate(&order, *step).unwrap());
            }
            issued = all();
            tokio::task::yield_now().await;
        }
        issued
    }
}

/// Events that a relay with these settings has published, by whichever leg they came first.
pub async fn published(config: &Config) -> usize {
    let text = get(&format!("http://{}/metrics", config.admin.listen)).await;
    let outcomes = text.lines().filter_map(|line| line.strip_prefix("pepay_relay_outcomes_total{"));
    let published = outcomes.filter_map(|line| line.split_once("outcome=\"published\"} "));
    published.map(|(_, count)| count.parse::<usize>().unwrap()).sum()
}

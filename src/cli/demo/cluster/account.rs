//! The accounts of the demo's cluster, each at its provider.

use super::ledger::EventId;
use super::node::Merchant;
use crate::cli::demo::script::Script;
use crate::exit::Exit;
use crate::simulator::{Options, Simulator};
use std::time::Duration;

/// The accounts, each in the shard of its place, of two and of three.
pub(super) const ACCOUNTS: [&str; 3] = ["books", "games", "tools"];

/// Between two attempts of a webhook, for a minute.
const WEBHOOK_AGAIN: (Duration, usize) = (Duration::from_millis(300), 200);

/// An account at its provider.
pub(super) struct Account {
    pub(super) name: &'static str,
    /// The place of its shard.
    pub(super) shard: usize,
    pub(super) simulator: Simulator,
    script: Script,
}

impl Account {
    /// Opens `count` accounts, all at one provider.
    pub(super) async fn open(count: usize) -> Result<Vec<Self>, Exit> {
        let mut accounts: Vec<Self> = Vec::new();
        for (shard, name) in ACCOUNTS.into_iter().enumerate().take(count) {
            let options = Options {
                api_key: format!("ck_of_{name}_00000000"),
                webhook_secret: format!("webhook-secret-of-{name}"),
                webhook_retries: vec![WEBHOOK_AGAIN.0; WEBHOOK_AGAIN.1],
                seed: 1 + shard as u64,
                ..Options::default()
            };
            let simulator = match accounts.first() {
                None => Simulator::start(options).await,
                Some(first) => first.simulator.beside(options),
            };
            let failed = |error| Exit::failed(format!("the simulated provider does not start: {error}"));
            accounts.push(Self { name, shard, simulator: simulator.map_err(failed)?, script: Script::endless() });
        }
        Ok(accounts)
    }

    /// What a node has to know of it.
    pub(super) fn merchant(&self) -> Merchant {
        Merchant {
            name: self.name.to_owned(),
            api_key: self.simulator.api_key().to_owned(),
            webhook_secret: self.simulator.webhook_secret().to_owned(),
        }
    }

    /// Takes the next step in the life of an order.
    pub(super) fn step(&mut self) {
        self.script.step(&self.simulator);
    }

    /// Every event that its provider issued.
    pub(super) fn issued(&self) -> Vec<EventId> {
        self.simulator.events().iter().map(|event| (self.name.to_owned(), event.id.clone())).collect()
    }

    /// Webhooks that were answered.
    pub(super) fn answered(&self) -> u64 {
        self.simulator.webhooks().delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::shard::Shard;

    #[test]
    fn each_account_is_in_the_shard_of_its_place() {
        for count in 2..=3 {
            let shard = |name| Shard::of("demo", name, count).number;
            let shards: Vec<_> = ACCOUNTS.into_iter().map(shard).zip(0..count).collect();
            assert!(shards.iter().all(|(shard, place)| shard == place), "{count}: {shards:?}");
        }
    }
}

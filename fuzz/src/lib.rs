//! What several targets share: a core without Kafka, and a delivery that came by a leg.

use bytes::Bytes;
use pepay_relay::kafka::Record;
use pepay_relay::labels::Leg;
use pepay_relay::legs::Delivery;
use pepay_relay::normalize;
use pepay_relay::provider::Environment;
use pepay_relay::relay::planner::{Ending, Item, Now, Plan, Planner, Settings, Settled};
use pepay_relay::relay::progress::Progress;
use pepay_relay::relay::{Versions, Window};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The moment at which everything happens, in Unix milliseconds: later than the times of the fixtures.
pub const NOW_MS: i64 = 1_800_000_000_000;

const NOW: Now = Now { ms: NOW_MS, provider_ms: NOW_MS, own_ms: NOW_MS };

/// A day: nothing is forgotten while one input is checked.
const WINDOW: Duration = Duration::from_secs(86_400);

/// One record of a plan, as text and bytes that outlive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Key of its topic in the settings.
    pub topic: &'static str,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers without `relay_leg`, which alone may differ by leg at one moment.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

impl Written {
    /// The value of the header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_slice())
    }
}

/// The pure core of the relay, whose plans are committed when the caller asks for it.
pub struct Desk {
    core: Planner,
    leg: Leg,
    room: Arc<Semaphore>,
}

impl Desk {
    /// A core that knows nothing yet, and gets everything by `leg`.
    pub fn new(leg: Leg, drop: &[&str], include_raw: bool) -> Self {
        let drop = drop.iter().map(|name| (*name).to_owned()).collect();
        let normalize = normalize::Settings { environment: Environment::Devnet, drop, include_raw };
        let schema_ids = Default::default();
        let settings = Settings { instance: "desk".into(), normalize, orders_latest: true, invoices: true, schema_ids };
        let window = Window::new(WINDOW, 1_000, [1, 2]);
        let versions = Versions::new(WINDOW, 1_000, [3, 4]);
        let core = Planner::new(settings, window, versions, Progress::default());
        Self { core, leg, room: Arc::new(Semaphore::new(1_000)) }
    }

    /// Plans `bytes`: the plan, or how they ended already.
    pub fn plan(&mut self, bytes: &Bytes) -> Result<Plan, Ending> {
        let share = Arc::clone(&self.room).try_acquire_owned().expect("room for one more");
        let bytes = bytes.clone();
        let delivery = Delivery { leg: self.leg, received_at_ms: NOW_MS, bytes, reply: None, trace: None, share };
        let mut plan = self.core.begin(Plan::default());
        match self.core.add(&mut plan, Item::Delivery(delivery, None), NOW) {
            Some((_, fate)) => Err(fate),
            None => Ok(plan),
        }
    }

    /// The plan is committed: how its one delivery ended.
    pub fn commit(&mut self, plan: Plan) -> Ending {
        let mut fate = None;
        self.core.commit(plan, NOW_MS, |told| {
            if let Settled::Delivery(_, how, _) = told {
                fate = Some(how);
            }
        });
        fate.expect("a plan of one delivery tells how it ended")
    }

    /// Nothing of the plan is committed.
    pub fn roll_back(&mut self, plan: Plan) {
        let _items = self.core.roll_back(plan).count();
    }

    /// Plans `bytes` and commits them: how they ended, and what they wrote.
    pub fn deliver(&mut self, bytes: &Bytes) -> (Ending, Vec<Written>) {
        match self.plan(bytes) {
            Err(fate) => (fate, Vec::new()),
            Ok(plan) => {
                let written = written(&plan);
                (self.commit(plan), written)
            }
        }
    }
}

/// The records of a plan.
pub fn written(plan: &Plan) -> Vec<Written> {
    let copy = |record: Record<'_>| Written {
        topic: record.topic().as_str(),
        key: record.key().to_vec(),
        value: record.value().expect("no plan holds a tombstone").to_vec(),
        headers: record
            .headers()
            .filter(|(name, _)| *name != "relay_leg")
            .map(|(name, value)| (name, value.to_vec()))
            .collect(),
    };
    plan.batch.records().map(copy).collect()
}

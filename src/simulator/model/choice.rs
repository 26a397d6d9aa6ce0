//! What can happen to an order now, for people who press buttons.

use super::{Details, Model, Order, Seeded, Stamp, Transition};

/// One transition of an order: allowed now, or refused with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub transition: Transition,
    /// Why not, if not.
    pub refusal: Option<String>,
}

impl Model {
    /// Every transition with whether `order` would take it, in the order of the provider's page. Nothing changes:
    /// each is tried on a copy, so that what is answered here is what would happen.
    pub fn choices(&self, order: &Order, now_ms: i64) -> Vec<Choice> {
        let now = Stamp::at(now_ms, self.settings.times);
        let choice = |transition| {
            let refusal = if self.settings.mainnet {
                Some("Simulation is only available on devnet".to_owned())
            } else {
                order.clone().simulate(transition, &Details::default(), now, &mut Seeded::new(0)).err()
            };
            Choice { transition, refusal }
        };
        Transition::ALL.map(choice).to_vec()
    }
}

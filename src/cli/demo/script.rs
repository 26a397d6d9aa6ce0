//! What happens in the demo, a step at a time.

use crate::simulator::{Cut, FaultAnswer, Simulator, Transition};
use serde_json::json;

/// The play: lives of orders side by side, with an outage in the middle.
#[derive(Default)]
pub(super) struct Script {
    step: usize,
    orders: Vec<String>,
    endless: bool,
}

enum Act {
    Order,
    Move(usize, Transition),
    /// The stream is cut and stays away; webhooks fall silent.
    Outage,
    /// Webhooks are sent again.
    Webhooks,
    /// The stream may come back.
    Stream,
    /// An event of a type that the relay does not know.
    Unknown,
    /// Time passes.
    Nothing,
}

use Act::{Move, Nothing, Order, Outage, Stream, Unknown, Webhooks};
use Transition::{Cancelled, DeliveryConfirmed, Failed, PaymentConfirmed, PaymentSettled, Placed, Refunded, Shipped};

/// Orders are numbered in the order of their making.
const PLAY: [Act; 32] = [
    Order,
    Move(0, PaymentConfirmed),
    Order,
    Move(0, PaymentSettled),
    Move(1, PaymentConfirmed),
    Move(0, Placed),
    Order,
    Move(1, PaymentSettled),
    Unknown,
    Move(2, PaymentConfirmed),
    Outage,
    Move(0, Shipped),
    Move(1, Placed),
    Move(2, PaymentSettled),
    Order,
    Move(0, DeliveryConfirmed),
    Move(1, Cancelled),
    Stream,
    Nothing,
    Nothing,
    Nothing,
    Webhooks,
    Move(2, Placed),
    Move(3, PaymentConfirmed),
    Move(1, Refunded),
    Move(2, Shipped),
    Move(3, Failed),
    Order,
    Move(2, DeliveryConfirmed),
    Move(4, PaymentConfirmed),
    Move(4, PaymentSettled),
    Move(4, Placed),
];

impl Script {
    /// Orders without end, each with a plain life.
    pub(super) fn endless() -> Self {
        Self { endless: true, ..Self::default() }
    }

    /// Takes the next step and returns what a person should know of it; `None` when the play is over.
    pub(super) fn step(&mut self, simulator: &Simulator) -> Option<String> {
        const LIFE: [Act; 6] = [
            Order,
            Move(usize::MAX, PaymentConfirmed),
            Move(usize::MAX, PaymentSettled),
            Move(usize::MAX, Placed),
            Move(usize::MAX, Shipped),
            Move(usize::MAX, DeliveryConfirmed),
        ];
        let act = if self.endless { &LIFE[self.step % LIFE.len()] } else { PLAY.get(self.step)? };
        self.step += 1;
        Some(self.act(act, simulator))
    }

    fn act(&mut self, act: &Act, simulator: &Simulator) -> String {
        let faults = simulator.faults();
        match act {
            Order => self.orders.extend(simulator.create_order().ok()),
            Move(number, transition) => {
                // A step that the model refuses would show as a missing line; the play has none.
                if let Some(order) = self.orders.get(*number).or(self.orders.last()) {
                    let _ = simulator.simulate(order, *transition);
                }
            }
            Outage => {
                faults.set(|faults| {
                    faults.websocket.refuse = Some(FaultAnswer::status(503));
                    faults.webhooks.paused = true;
                });
                faults.cut_sockets(&Cut::Abrupt);
                return "the WebSocket is cut and webhooks stop".to_owned();
            }
            Stream => {
                faults.set(|faults| faults.websocket.refuse = None);
                return "the provider accepts connections again".to_owned();
            }
            Webhooks => {
                faults.set(|faults| faults.webhooks.paused = false);
                return "webhooks are sent again, for events that are in Kafka by now".to_owned();
            }
            Unknown => {
                let unknown = json!({
                    "object": "event", "type": "payment_quote.updated",
                    "data": {"object": {"object": "payment_quote", "network": "base"}},
                });
                let _ = simulator.publish_custom(unknown);
            }
            Nothing => {}
        }
        String::new()
    }
}

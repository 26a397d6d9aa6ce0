//! Webhooks on their way into a relay.

use crate::process::Answer;
use crate::provider::{Event as Issued, SECOND};
use crate::relay::ANSWER_MS;
use crate::world::{Step, World};
use tokio::sync::oneshot;

impl World {
    pub fn webhook_came(&mut self, number: usize, event: usize, attempt: u32) {
        let Issued { account, bytes, defective, .. } = &self.provider.events[event];
        let bytes = defective.as_ref().filter(|_| attempt == 0).unwrap_or(bytes).clone();
        self.counter += 1;
        let ticket = self.counter;
        let relay = &mut self.relays[number];
        let intake = if *account == SECOND { &relay.second } else { &relay.intake };
        let (reply, outcome) = oneshot::channel();
        let received_at_ms = relay.now_ms(self.now);
        if relay.pipeline.is_none() || relay.stopping || intake.try_offer(bytes, received_at_ms, reply).is_err() {
            return self.retry_webhook(event, attempt);
        }
        relay.answers.push(Answer { event, attempt, ticket, outcome });
        self.step(number, ANSWER_MS, Step::WebhookTimeout(ticket));
        self.turn_soon(number);
    }
}

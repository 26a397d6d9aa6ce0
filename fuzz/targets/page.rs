//! Bodies of the event log: taken apart, walked, and handed on to the core.

#![no_main]

use bytes::Bytes;
use pepay_relay::labels::{Leg, Outcome};
use pepay_relay::legs::backfill::walk::{Step, Walk};
use pepay_relay::provider::event::decode;
use pepay_relay::provider::page::decode_page;
use pepay_relay_fuzz::{Desk, NOW_MS};
use std::collections::BTreeSet;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    let page = match decode_page(&body) {
        Ok(page) => page,
        Err(place) => return assert!(place.starts_with("line "), "{place}"),
    };
    for listed in &page.events {
        assert!(body.as_ptr_range().contains(&listed.bytes.as_ptr()), "a slice of the page, not a copy");
        // The two readers of an event agree on what it is.
        if let Ok(event) = decode(&listed.bytes) {
            assert_eq!(listed.id.as_deref(), Some(&*event.id));
            assert_eq!(listed.occurred_at_ms, event.occurred_at_ms());
        }
    }

    // A provider that gives this body to every question ends the walk, after no more pages than it must ask for.
    let mut walk = Walk::new(NOW_MS / 2);
    let mut asked = 0;
    loop {
        match walk.step() {
            Step::Fetch { .. } => {
                asked += 1;
                assert!(asked <= 3, "the same page leads on only once or twice");
                assert!(walk.answer(Ok(body.clone())).is_ok(), "it was taken apart before");
            }
            Step::HandOn(events) => assert!(events.len() <= page.events.len()),
            Step::Done { .. } | Step::Broken(_) => break,
        }
    }

    // Every event of the page is reported once, whatever it is.
    let mut desk = Desk::new(Leg::Backfill, &[], false);
    let all = page.events.len();
    let mut keys = BTreeSet::new();
    let mut count = 0;
    for listed in page.events.into_iter().rev() {
        count += 1;
        let (fate, records) = desk.deliver(&listed.bytes);
        match fate.outcome {
            Outcome::Published | Outcome::DeadLettered => {
                assert!(!records.is_empty());
                let event = records[0].header("ce_id").unwrap_or(&records[0].key).to_vec();
                let is_new = keys.insert((records[0].topic == "dead_letter", event));
                assert!(is_new, "an event is written once, and one dead letter");
            }
            Outcome::Duplicate | Outcome::Ignored => assert!(records.is_empty()),
            Outcome::Rejected | Outcome::Failed => panic!("{fate:?}"),
        }
    }
    assert_eq!(count, all);
});

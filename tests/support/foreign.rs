//! Writers that are no relay, on topics of a relay.

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::{Duration, Instant};

const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// A producer with this transactional id, which nobody else has from here on.
pub fn producer_of(bootstrap: &str, transactional_id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", transactional_id)
        // It is the test that ends a transaction, however slow the relay's start is.
        .set("transaction.timeout.ms", "600000")
        .set("log_level", "0")
        .create()
        .expect("a producer");
    producer.init_transactions(ANSWERS_WITHIN).expect("initialised");
    producer
}

/// A transaction of somebody else, with one record on partition 0 of `topic`, left open; the caller ends it.
pub fn open_transaction(bootstrap: &str, topic: &str) -> BaseProducer {
    open_transaction_of(bootstrap, &uuid::Uuid::new_v4().to_string(), topic)
}

/// The same of this transactional id.
pub fn open_transaction_of(bootstrap: &str, transactional_id: &str, topic: &str) -> BaseProducer {
    let foreign = producer_of(bootstrap, transactional_id);
    foreign.begin_transaction().expect("begun");
    let record = BaseRecord::<str, str>::to(topic).key("order-7").payload("{}");
    foreign.send(record.partition(0)).map_err(|(error, _)| error).expect("queued");
    written(&foreign);
    foreign
}

/// Records on `topic` with the time `at_ms`, spread over its partitions.
pub fn write_at(bootstrap: &str, topic: &str, at_ms: i64, ids: impl Iterator<Item = String>) {
    use rdkafka::message::{Header, OwnedHeaders};
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("linger.ms", "5").create().expect("a producer");
    for id in ids {
        let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some(&id) });
        let record = BaseRecord::<str, str>::to(topic).key(&id).payload("{}").timestamp(at_ms).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        producer.poll(Duration::ZERO);
    }
    written(&producer);
}

fn written(producer: &BaseProducer) {
    let began = Instant::now();
    while producer.in_flight_count() > 0 {
        assert!(began.elapsed() < ANSWERS_WITHIN, "written in time");
        producer.poll(Duration::from_millis(10));
    }
}

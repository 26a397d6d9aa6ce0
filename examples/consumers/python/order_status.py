"""Prints each order event once, and keeps the newest status of each order. docs/consumers.md has the reasons."""

import json
import os
import sqlite3

from confluent_kafka import Consumer, KafkaException

TABLES = """CREATE TABLE IF NOT EXISTS told (source TEXT, id TEXT, PRIMARY KEY (source, id));
    CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, occurred_at TEXT, status TEXT)"""
ONCE = "INSERT INTO told VALUES (?, ?) ON CONFLICT DO NOTHING"
NEWEST = """INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
    occurred_at = excluded.occurred_at WHERE excluded.occurred_at >= orders.occurred_at"""
FORGET = "DELETE FROM orders WHERE order_id = ?"

EVENTS = os.environ.get("PREFIX", "pepay") + ".orders"


def take(record, db):
    header = {name: value.decode() for name, value in record.headers() or []}
    order = record.key().decode()
    if record.value() is None:  # a tombstone, which is among newest events alone
        db.execute(FORGET, [order])
    elif "ce_id" not in header:
        raise ValueError(f"{order} is no event: does this consumer read uncommitted records?")
    elif record.topic() == EVENTS:  # a copy, a replay, a restart: what was handled is not handled again
        if db.execute(ONCE, [header["ce_source"], header["ce_id"]]).rowcount:
            print(order, header["ce_id"], *["late"] * ("relay_stale" in header), flush=True)
    else:  # the newest event of the order, never a stale one
        db.execute(NEWEST, [order, header["ce_time"], json.loads(record.value()).get("status")])


db = sqlite3.connect(os.environ.get("STORE", "orders.db"))
db.executescript(TABLES)
consumer = Consumer({
    "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"),
    "group.id": os.environ.get("GROUP", "order-status"),
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "isolation.level": "read_committed",  # the default of librdkafka
})
consumer.subscribe([EVENTS, EVENTS + ".latest"])
while True:
    records = consumer.consume(500, timeout=0.5)
    for record in records:
        if record.error():
            raise KafkaException(record.error())
        take(record, db)
    if records:
        db.commit()  # first what was done,
        consumer.commit(asynchronous=False)  # then where to go on: what comes again meanwhile changes nothing

// Prints each order event once, and keeps the newest status of each order. docs/consumers.md has the reasons.

import { rmSync } from "node:fs";
import kafkajs from "kafkajs";
import lz4 from "lz4js";
import sqlite from "node-sqlite3-wasm";

const TABLES = `CREATE TABLE IF NOT EXISTS told (source TEXT, id TEXT, PRIMARY KEY (source, id));
  CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, occurred_at TEXT, status TEXT)`;
const ONCE = "INSERT INTO told VALUES (?, ?) ON CONFLICT DO NOTHING";
const NEWEST = `INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
  occurred_at = excluded.occurred_at WHERE excluded.occurred_at >= orders.occurred_at`;
const FORGET = "DELETE FROM orders WHERE order_id = ?";

const { KAFKA = "localhost:9092", PREFIX = "pepay", GROUP = "order-status", STORE = "orders.db" } = process.env;
const EVENTS = `${PREFIX}.orders`;

rmSync(`${STORE}.lock`, { recursive: true, force: true }); // of a run that was killed: the store is ours alone
const db = new sqlite.Database(STORE);
db.exec(TABLES);

function take(topic, { key, value, headers }) {
  const order = key.toString();
  if (value === null) {
    db.run(FORGET, [order]); // a tombstone, which is among newest events alone
  } else if (headers.ce_id === undefined) {
    throw new Error(`${order} is no event: does this consumer read uncommitted records?`);
  } else if (topic === EVENTS) {
    // A copy, a replay, a restart: what was handled is not handled again.
    if (db.run(ONCE, [headers.ce_source.toString(), headers.ce_id.toString()]).changes === 1) {
      console.log(order, headers.ce_id.toString(), ...(headers.relay_stale ? ["late"] : []));
    }
  } else {
    // The newest event of the order, never a stale one.
    db.run(NEWEST, [order, headers.ce_time.toString(), JSON.parse(value).status ?? null]);
  }
}

// The relay compresses with LZ4 unless it is set otherwise, which KafkaJS cannot read by itself.
const codec = { decompress: async (bytes) => Buffer.from(lz4.decompress(bytes)) };
kafkajs.CompressionCodecs[kafkajs.CompressionTypes.LZ4] = () => codec;
const kafka = new kafkajs.Kafka({ brokers: KAFKA.split(","), logLevel: kafkajs.logLevel.WARN });
const consumer = kafka.consumer({ groupId: GROUP, readUncommitted: false }); // which is the default
await consumer.connect();
await consumer.subscribe({ topics: [EVENTS, `${EVENTS}.latest`], fromBeginning: true });
await consumer.run({
  eachBatch: async ({ batch }) => {
    db.exec("BEGIN");
    try {
      for (const message of batch.messages) take(batch.topic, message);
      db.exec("COMMIT"); // first what was done; then KafkaJS notes where to go on: what comes again changes nothing
    } catch (error) {
      db.exec("ROLLBACK"); // KafkaJS tries the batch again
      throw error;
    }
  },
});

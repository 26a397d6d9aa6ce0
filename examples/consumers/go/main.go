// Prints each order event once, and keeps the newest status of each order. docs/consumers.md has the reasons.
package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"

	_ "github.com/ncruces/go-sqlite3/driver"
	"github.com/twmb/franz-go/pkg/kgo"
)

const tables = `CREATE TABLE IF NOT EXISTS told (source TEXT, id TEXT, PRIMARY KEY (source, id));
	CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, occurred_at TEXT, status TEXT)`
const newest = `INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
	occurred_at = excluded.occurred_at WHERE excluded.occurred_at >= orders.occurred_at`

func main() {
	ctx, events := context.Background(), cmp.Or(os.Getenv("PREFIX"), "pepay")+".orders"
	client := must(kgo.NewClient(kgo.SeedBrokers(cmp.Or(os.Getenv("KAFKA"), "localhost:9092")),
		kgo.ConsumerGroup(cmp.Or(os.Getenv("GROUP"), "order-status")), kgo.DisableAutoCommit(),
		kgo.ConsumeTopics(events, events+".latest"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))) // without it, uncommitted records too
	db := must(sql.Open("sqlite3", "file:"+cmp.Or(os.Getenv("STORE"), "orders.db")))
	must(db.Exec(tables))
	for {
		fetches := client.PollFetches(ctx)
		must(0, fetches.Err())
		tx := must(db.Begin())
		fetches.EachRecord(func(record *kgo.Record) {
			header, order := map[string]string{}, string(record.Key)
			for _, each := range record.Headers {
				header[each.Key] = string(each.Value)
			}
			if record.Value == nil { // a tombstone, which is among newest events alone
				must(tx.Exec(`DELETE FROM orders WHERE order_id = ?`, order))
			} else if header["ce_id"] == "" {
				panic(order + " is no event: does this consumer read uncommitted records?")
			} else if record.Topic == events { // a copy, a replay, a restart: what was handled is not handled again
				told := must(tx.Exec(`INSERT INTO told VALUES (?, ?) ON CONFLICT DO NOTHING`, header["ce_source"], header["ce_id"]))
				if must(told.RowsAffected()) == 1 {
					fmt.Println(order, header["ce_id"]+map[string]string{"true": " late"}[header["relay_stale"]])
				}
			} else { // the newest event of the order, never a stale one
				var event struct{ Status *string }
				must(0, json.Unmarshal(record.Value, &event))
				must(tx.Exec(newest, order, header["ce_time"], event.Status))
			}
		})
		must(0, tx.Commit())                          // first what was done,
		must(0, client.CommitUncommittedOffsets(ctx)) // then where to go on: what comes again changes nothing
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Reads a topic to its end with kafka-go as one that asks for committed records alone, and prints the key of each record.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/segmentio/kafka-go"
)

func main() {
	kafkas, topic, ctx := os.Getenv("KAFKA"), os.Getenv("TOPIC"), context.Background()
	partitions := must(kafka.LookupPartitions(ctx, "tcp", kafkas, topic))
	for _, partition := range partitions {
		leader := must(kafka.DialPartition(ctx, "tcp", kafkas, partition))
		end := must(leader.ReadLastOffset())
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{kafkas}, Topic: topic, Partition: partition.ID,
			IsolationLevel: kafka.ReadCommitted})
		for next := int64(0); next < end; {
			message := must(reader.ReadMessage(ctx))
			fmt.Printf("%q\n", message.Key)
			next = message.Offset + 1
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

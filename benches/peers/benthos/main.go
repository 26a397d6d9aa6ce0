// Benthos, the open core of Redpanda Connect, with an output of the same name, settings and client (franz-go) as there.
// It is the peer that can be built where Redpanda Connect itself is not installed; both read the settings beside this folder.
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

type output struct {
	options []kgo.Opt
	key     *service.InterpolatedString
	client  *kgo.Client
}

func (o *output) Connect(context.Context) (err error) {
	o.client, err = kgo.NewClient(o.options...)
	return err
}

func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	records := make([]*kgo.Record, len(batch))
	for i, message := range batch {
		value, err := message.AsBytes()
		if err != nil {
			return err
		}
		key, err := batch.TryInterpolatedBytes(i, o.key)
		if err != nil {
			return err
		}
		records[i] = &kgo.Record{Key: key, Value: value}
	}
	return o.client.ProduceSync(ctx, records...).FirstErr()
}

func (o *output) Close(context.Context) error {
	if o.client != nil {
		o.client.Close()
	}
	return nil
}

func open(conf *service.ParsedConfig, _ *service.Resources) (
	out service.BatchOutput, policy service.BatchPolicy, inFlight int, err error,
) {
	servers, err := conf.FieldStringList("seed_brokers")
	if err != nil {
		return
	}
	topic, err := conf.FieldString("topic")
	if err != nil {
		return
	}
	key, err := conf.FieldInterpolatedString("key")
	if err != nil {
		return
	}
	if policy, err = conf.FieldBatchPolicy("batching"); err != nil {
		return
	}
	if inFlight, err = conf.FieldMaxInFlight(); err != nil {
		return
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(servers...),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}
	return &output{options: options, key: key}, policy, inFlight, nil
}

func main() {
	spec := service.NewConfigSpec().Fields(
		service.NewStringListField("seed_brokers"),
		service.NewStringField("topic"),
		service.NewInterpolatedStringField("key"),
		service.NewStringField("compression").Default("lz4"),
		service.NewOutputMaxInFlightField(),
		service.NewBatchPolicyField("batching"),
	)
	if err := service.RegisterBatchOutput("kafka_franz", spec, open); err != nil {
		panic(err)
	}
	service.RunCLI(context.Background())
}

// franz-go against the appliance: prints one line "CHECK name ok|failed reason" for each check.
// With MODE=kill it writes numbers instead.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var topic = fmt.Sprintf("franz-%d", time.Now().UnixNano())

func check(name string, body func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := body(ctx); err != nil {
		fmt.Printf("CHECK %s failed %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("CHECK %s ok\n", name)
}

func roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pem, _ := os.ReadFile(os.Getenv("CA"))
	pool.AppendCertsFromPEM(pem)
	return pool
}

func byCertificate(user string, more ...kgo.Opt) *kgo.Client {
	pair, err := tls.LoadX509KeyPair(os.Getenv("CERT_"+user), os.Getenv("KEY_"+user))
	if err != nil {
		panic(err)
	}
	config := &tls.Config{RootCAs: roots(), Certificates: []tls.Certificate{pair}}
	options := append([]kgo.Opt{kgo.SeedBrokers(os.Getenv("BOOTSTRAP")), kgo.DialTLSConfig(config)}, more...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		panic(err)
	}
	return client
}

func byLogin(mechanism sasl.Mechanism) *kgo.Client {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Getenv("LOGIN_BOOTSTRAP")), kgo.DialTLSConfig(&tls.Config{RootCAs: roots()}),
		kgo.SASL(mechanism), kgo.RequestRetries(1), kgo.RecordDeliveryTimeout(10*time.Second))
	if err != nil {
		panic(err)
	}
	return client
}

func produce(ctx context.Context, client *kgo.Client, count int) error {
	defer client.Close()
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint(i)), Value: []byte("value")}
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

// One number after the other, until each is acknowledged (see killing.py).
func write() {
	client := byCertificate("admin", kgo.DefaultProduceTopic(os.Getenv("KILL_TOPIC")))
	defer client.Close()
	count, _ := strconv.Atoi(os.Getenv("COUNT"))
	for i := 0; i < count; i++ {
		number := i
		client.Produce(context.Background(), kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				fmt.Println("failed", err)
				os.Exit(1)
			}
			if number%10 == 0 {
				fmt.Printf("PROGRESS %d\n", number)
			}
		})
		time.Sleep(5 * time.Millisecond)
	}
	if err := client.Flush(context.Background()); err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	fmt.Println("DONE")
}

// throttle remembers whether the client was told that it is held back.
type throttle struct{ seen atomic.Int64 }

func (t *throttle) OnBrokerThrottle(_ kgo.BrokerMetadata, interval time.Duration, _ bool) {
	t.seen.Store(max(t.seen.Load(), int64(interval)))
}

func throttled(ctx context.Context) error {
	hook := &throttle{}
	client := byCertificate("admin", kgo.ClientID(os.Getenv("SLOW")), kgo.WithHooks(hook), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer client.Close()
	for i := 0; i < 50; i++ {
		value := make([]byte, 20000)
		rand.Read(value)
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value}).FirstErr(); err != nil {
			return err
		}
	}
	if hook.seen.Load() == 0 {
		return fmt.Errorf("no throttling was seen")
	}
	return nil
}

func main() {
	if os.Getenv("MODE") == "kill" {
		write()
		return
	}
	client := byCertificate("admin")
	admin := kadm.NewClient(client)
	check("admin: topics", func(ctx context.Context) error {
		if _, err := admin.CreateTopic(ctx, 2, -1, nil, topic); err != nil {
			return err
		}
		_, err := admin.UpdatePartitions(ctx, 3, topic)
		return err
	})
	check("admin: settings", func(ctx context.Context) error {
		value := "500000"
		_, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &value}}, topic)
		if err != nil {
			return err
		}
		_, err = admin.DescribeTopicConfigs(ctx, topic)
		return err
	})
	check("admin: cluster", func(ctx context.Context) error {
		_, err := admin.BrokerMetadata(ctx)
		return err
	})
	check("ACLs", func(ctx context.Context) error {
		builder := kadm.NewACLs().Topics("franz-").ResourcePatternType(kadm.ACLPatternPrefixed).
			Deny("User:franzuser").DenyHosts("*").Operations(kadm.OpRead)
		if _, err := admin.CreateACLs(ctx, builder); err != nil {
			return err
		}
		found, err := admin.DescribeACLs(ctx, builder)
		if err != nil {
			return err
		}
		if len(found) == 0 || len(found[0].Described) != 1 {
			return fmt.Errorf("described %v", found)
		}
		_, err = admin.DeleteACLs(ctx, builder)
		return err
	})
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		check("produce "+name, func(ctx context.Context) error {
			return produce(ctx, byCertificate("admin", kgo.ProducerBatchCompression(codec)), 50)
		})
	}
	check("consume", func(ctx context.Context) error {
		reader := byCertificate("admin", kgo.ConsumerGroup(topic+"-group"), kgo.ConsumeTopics(topic))
		defer reader.Close()
		for seen := 0; seen < 250; {
			fetches := reader.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return fmt.Errorf("saw %d: %w", seen, err)
			}
			seen += fetches.NumRecords()
		}
		return reader.CommitUncommittedOffsets(ctx)
	})
	check("admin: groups", func(ctx context.Context) error {
		groups, err := admin.ListGroups(ctx)
		if err != nil {
			return err
		}
		if _, there := groups[topic+"-group"]; !there {
			return fmt.Errorf("not listed")
		}
		_, err = admin.DescribeGroups(ctx, topic+"-group")
		return err
	})
	check("mutual TLS refused", func(ctx context.Context) error {
		if err := produce(ctx, byCertificate("nobody"), 1); err == nil {
			return fmt.Errorf("nobody was let in")
		}
		return nil
	})
	secret := scram.Auth{User: "admin", Pass: os.Getenv("PASSWORD")}
	check("SCRAM-SHA-256", func(ctx context.Context) error { return produce(ctx, byLogin(secret.AsSha256Mechanism()), 5) })
	check("SCRAM-SHA-512", func(ctx context.Context) error { return produce(ctx, byLogin(secret.AsSha512Mechanism()), 5) })
	check("OAUTHBEARER", func(ctx context.Context) error {
		return produce(ctx, byLogin(oauth.Auth{Token: os.Getenv("TOKEN")}.AsMechanism()), 5)
	})
	check("quota", throttled)
	check("admin: deletion", func(ctx context.Context) error {
		_, err := admin.DeleteTopics(ctx, topic)
		return err
	})
	client.Close()
}

// The Java client against the appliance: prints one line "CHECK name ok|failed reason" for each check.
// With MODE=kill it writes numbers instead.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

public class Client {
    interface Check { void run() throws Exception; }

    static void check(String name, Check body) {
        try {
            body.run();
            System.out.println("CHECK " + name + " ok");
        } catch (Throwable error) {
            System.out.println("CHECK " + name + " failed " + error.toString().replace('\n', ' '));
        }
    }

    static void expect(boolean holds, String what) {
        if (!holds) throw new IllegalStateException(what);
    }

    static Properties tls(String user) {
        Properties p = new Properties();
        p.put("bootstrap.servers", System.getenv("BOOTSTRAP"));
        p.put("security.protocol", "SSL");
        p.put("ssl.truststore.type", "PEM");
        p.put("ssl.truststore.location", System.getenv("CA"));
        p.put("ssl.keystore.type", "PEM");
        p.put("ssl.keystore.location", System.getenv("KEYSTORE_" + user));
        return p;
    }

    static Properties scram(String mechanism, String password) {
        Properties p = tls("admin");
        p.put("bootstrap.servers", System.getenv("LOGIN_BOOTSTRAP"));
        p.remove("ssl.keystore.type");
        p.remove("ssl.keystore.location");
        p.put("security.protocol", "SASL_SSL");
        p.put("sasl.mechanism", mechanism);
        p.put("sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required"
            + " username=\"admin\" password=\"" + password + "\";");
        return p;
    }

    static int produce(Properties base, String topic, String codec, int count) throws Exception {
        Properties p = (Properties) base.clone();
        p.put("compression.type", codec);
        p.put("enable.idempotence", "true");
        p.put("linger.ms", "5");
        try (var producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++)
                sent.add(producer.send(new ProducerRecord<>(topic, "k" + i, codec + i)));
            for (var each : sent) each.get(30, TimeUnit.SECONDS);
        }
        return count;
    }

    static int consume(Properties base, String topic, String group, int count) {
        Properties p = (Properties) base.clone();
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        int seen = 0;
        try (var consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            long end = System.currentTimeMillis() + 30000;
            while (seen < count && System.currentTimeMillis() < end)
                seen += consumer.poll(Duration.ofMillis(500)).count();
            consumer.commitSync();
        }
        return seen;
    }

    /** With a token from a file, which it reads itself. */
    static Properties bearer() {
        Properties p = scram("OAUTHBEARER", "");
        p.put("sasl.jaas.config", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;");
        p.put("sasl.login.callback.handler.class",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler");
        p.put("sasl.oauthbearer.token.endpoint.url", "file://" + System.getenv("TOKEN_FILE"));
        return p;
    }

    /** One number after the other, until each is acknowledged (see killing.py). */
    static void write() throws Exception {
        int count = Integer.parseInt(System.getenv("COUNT"));
        Properties p = tls("admin");
        p.put("enable.idempotence", "true");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < count; i++) {
                int number = i;
                sent.add(producer.send(new ProducerRecord<>(System.getenv("KILL_TOPIC"), "" + i), (told, error) -> {
                    if (error == null && number % 10 == 0) System.out.println("PROGRESS " + number);
                }));
                Thread.sleep(5);
            }
            for (var each : sent) each.get(120, TimeUnit.SECONDS);
        }
        System.out.println("DONE");
    }

    /** The longest throttling, in ms, that the client tells of. */
    static double throttled(String topic) throws Exception {
        Properties p = tls("admin");
        p.put("client.id", System.getenv("SLOW"));
        p.put("batch.size", "0");
        Random random = new Random();
        try (var producer = new KafkaProducer<>(p, new StringSerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                byte[] value = new byte[20000];
                random.nextBytes(value);
                sent.add(producer.send(new ProducerRecord<>(topic, value)));
            }
            for (var each : sent) each.get(60, TimeUnit.SECONDS);
            double most = 0;
            for (var each : producer.metrics().entrySet())
                if (each.getKey().name().equals("produce-throttle-time-max"))
                    most = Math.max(most, (double) each.getValue().metricValue());
            return most;
        }
    }

    public static void main(String[] arguments) throws Exception {
        if ("kill".equals(System.getenv("MODE"))) {
            write();
            return;
        }
        Properties admin = tls("admin");
        String topic = "java-" + System.nanoTime();
        try (Admin a = Admin.create(admin)) {
            check("admin: topics", () -> {
                a.createTopics(List.of(new NewTopic(topic, 2, (short) -1))).all().get();
                expect(a.listTopics().names().get().contains(topic), "listed");
                a.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
                var told = a.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
                expect(told.partitions().size() == 3, "three partitions");
            });
            check("admin: settings", () -> {
                var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                var op = new AlterConfigOp(new ConfigEntry("max.message.bytes", "500000"), AlterConfigOp.OpType.SET);
                a.incrementalAlterConfigs(Map.of(resource, List.of(op))).all().get();
                var config = a.describeConfigs(List.of(resource)).all().get().get(resource);
                expect(config.get("max.message.bytes").value().equals("500000"), "altered");
            });
            check("admin: cluster", () -> {
                expect(a.describeCluster().nodes().get().size() >= 1, "nodes");
                expect(a.describeFeatures().featureMetadata().get().finalizedFeatures().containsKey("metadata.version"), "features");
                expect(a.describeMetadataQuorum().quorumInfo().get().leaderId() >= 0, "quorum");
                a.describeLogDirs(List.of(a.describeCluster().nodes().get().iterator().next().id())).allDescriptions().get();
            });
            check("ACLs", () -> {
                var binding = new AclBinding(
                    new ResourcePattern(ResourceType.TOPIC, "java-", PatternType.PREFIXED),
                    new AccessControlEntry("User:javauser", "*", AclOperation.READ, AclPermissionType.DENY));
                a.createAcls(List.of(binding)).all().get();
                expect(a.describeAcls(binding.toFilter()).values().get().contains(binding), "described");
                expect(a.deleteAcls(List.of(binding.toFilter())).all().get().contains(binding), "deleted");
            });
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd"))
                check("produce " + codec, () -> produce(admin, topic, codec, 50));
            check("consume", () -> {
                int seen = consume(admin, topic, topic + "-group", 250);
                expect(seen == 250, "saw " + seen);
            });
            check("admin: groups", () -> {
                String group = topic + "-group";
                expect(a.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "listed");
                expect(a.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().size() > 0, "offsets");
                a.deleteConsumerGroups(List.of(group)).all().get();
            });
            check("mutual TLS refused", () -> {
                try {
                    produce(tls("nobody"), topic, "none", 1);
                } catch (ExecutionException error) {
                    expect(error.getCause() instanceof org.apache.kafka.common.errors.AuthorizationException, "" + error.getCause());
                    return;
                }
                throw new IllegalStateException("nobody was let in");
            });
            if (System.getenv("LOGIN_BOOTSTRAP") != null)
                for (var mechanism : ScramMechanism.values()) {
                    if (mechanism == ScramMechanism.UNKNOWN) continue;
                    check(mechanism.mechanismName(), () -> {
                        a.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
                            "admin", new ScramCredentialInfo(mechanism, 4096), "pencil"))).all().get();
                        expect(a.describeUserScramCredentials().all().get().containsKey("admin"), "described");
                        produce(scram(mechanism.mechanismName(), "pencil"), topic, "zstd", 10);
                        try (Admin other = Admin.create(scram(mechanism.mechanismName(), "wrong"))) {
                            other.listTopics().names().get();
                            throw new IllegalStateException("a wrong password was let in");
                        } catch (ExecutionException error) {
                            expect(error.getCause() instanceof org.apache.kafka.common.errors.SaslAuthenticationException, "" + error.getCause());
                        }
                    });
                }
            check("OAUTHBEARER", () -> produce(bearer(), topic, "none", 5));
            check("quota", () -> expect(throttled(topic) > 0, "no throttling was seen"));
            check("admin: deletion", () -> {
                a.deleteTopics(TopicCollection.ofTopicNames(List.of(topic))).all().get();
                expect(!a.listTopics().names().get().contains(topic), "gone");
            });
        }
    }
}

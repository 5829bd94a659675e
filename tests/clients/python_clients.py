"""The Python clients against the appliance: a line "CHECK name ok|failed reason" for each check.

Run as `python python_clients.py confluent|kafka-python|aiokafka`, in the environment of `run.py`.
"""

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable

import python_writers as writers

TOPIC = f"{sys.argv[1]}-{time.time_ns()}"
MADE: list[int] = []
"""How many records each produce before the consume has made."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
E = os.environ
KILLING = E.get("MODE") == "kill"
THROTTLED_S = 1.5
"""By how much a client must be slower under its quota, where it tells nothing of it."""


def check(name: str, body: Callable[[], object]) -> None:
    try:
        body()
    except Exception as error:  # noqa: BLE001 - whatever a client raises is the check's result
        reason = f"{type(error).__name__} {error}".replace("\n", " ")
        print(f"CHECK {name} failed {reason}", flush=True)
    else:
        print(f"CHECK {name} ok", flush=True)


def expect(holds: bool, what: object) -> None:
    if not holds:
        raise AssertionError(what)


def refused(body: Callable[[], object]) -> Callable[[], None]:
    """A check that must fail."""

    def run() -> None:
        try:
            body()
        except Exception:  # noqa: BLE001 - each client has an error of its own for it
            return
        raise AssertionError("it was let in")

    return run


# --- confluent-kafka -------------------------------------------------------------------------


def confluent() -> None:
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import (
        AclBinding,
        AclBindingFilter,
        AclOperation,
        AclPermissionType,
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewPartitions,
        NewTopic,
        ResourcePatternType,
        ResourceType,
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialUpsertion,
    )  # fmt: skip

    def options(user: str) -> dict[str, str]:
        return {
            "bootstrap.servers": E["BOOTSTRAP"],
            "security.protocol": "ssl",
            "ssl.ca.location": E["CA"],
            "ssl.certificate.location": E[f"CERT_{user}"],
            "ssl.key.location": E[f"KEY_{user}"],
        }

    def login(mechanism: str, **more: object) -> dict[str, object]:
        return {
            "bootstrap.servers": E["LOGIN_BOOTSTRAP"],
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": E["CA"],
            "sasl.mechanism": mechanism,
        } | more

    def produce(base: dict[str, object], count: int = 50, **more: object) -> None:
        errors: list[object] = []
        producer = Producer(
            base | {"enable.idempotence": True, "message.timeout.ms": 15_000} | more
        )
        for number in range(count):
            producer.produce(
                TOPIC, f"value {number}", on_delivery=lambda e, _: e and errors.append(e)
            )
        expect(producer.flush(20) == 0 and not errors, errors[:1])
        MADE.append(count)

    if KILLING:
        writers.confluent(options("admin"))
        return
    admin = AdminClient(options("admin"))

    def wait(futures: dict[object, object]) -> None:
        for future in futures.values():
            future.result(20)

    def topics() -> None:
        wait(admin.create_topics([NewTopic(TOPIC, 2)]))
        wait(admin.create_partitions([NewPartitions(TOPIC, 3)]))
        expect(len(admin.list_topics(TOPIC).topics[TOPIC].partitions) == 3, "three partitions")

    def settings() -> None:
        entry = ConfigEntry(
            "max.message.bytes", "500000", incremental_operation=AlterConfigOpType.SET
        )
        wait(admin.incremental_alter_configs(
            [ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])]
        ))  # fmt: skip
        (found,) = admin.describe_configs(
            [ConfigResource(ConfigResource.Type.TOPIC, TOPIC)]
        ).values()
        expect(found.result(20)["max.message.bytes"].value == "500000", "altered")

    def acls() -> None:
        fields = (ResourceType.TOPIC, "confluent", ResourcePatternType.PREFIXED, "User:late", "*",
                  AclOperation.READ, AclPermissionType.DENY)  # fmt: skip
        wait(admin.create_acls([AclBinding(*fields)]))
        wanted = AclBindingFilter(*fields)
        expect(len(admin.describe_acls(wanted).result(20)) == 1, "described")
        (gone,) = admin.delete_acls([wanted]).values()
        expect(len(gone.result(20)) == 1, "deleted")

    def consume() -> None:
        reader = Consumer(
            options("admin") | {"group.id": f"{TOPIC}-group", "auto.offset.reset": "earliest"}
        )
        reader.subscribe([TOPIC])
        seen, end = 0, time.monotonic() + 30
        while seen < sum(MADE) and time.monotonic() < end:
            seen += sum(each.error() is None for each in reader.consume(500, 1.0))
        reader.commit(asynchronous=False)
        reader.close()
        expect(seen == sum(MADE), f"saw {seen} of {sum(MADE)}")

    def groups() -> None:
        listed = admin.list_consumer_groups().result(20)
        expect(any(g.group_id == f"{TOPIC}-group" for g in listed.valid), "listed")
        wait(admin.describe_consumer_groups([f"{TOPIC}-group"]))
        wait(admin.delete_consumer_groups([f"{TOPIC}-group"]))

    def scram(mechanism: ScramMechanism, name: str) -> None:
        change = UserScramCredentialUpsertion(
            "admin", ScramCredentialInfo(mechanism, 4096), E["PASSWORD"].encode()
        )
        wait(admin.alter_user_scram_credentials([change]))
        secret = {"sasl.username": "admin", "sasl.password": E["PASSWORD"]}
        produce(login(name, **secret), 5)
        wrong = secret | {"sasl.password": "wrong", "message.timeout.ms": 3000}
        refused(lambda: produce(login(name, **wrong), 1))()

    def token(_: str) -> tuple[str, float]:
        return E["TOKEN"], time.time() + 600

    def bearer() -> None:
        """A token that the application has, and one that the client fetches itself."""
        produce(login("OAUTHBEARER", oauth_cb=token), 5)
        fetched = {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": E["TOKEN_CLIENT"],
            "sasl.oauthbearer.client.secret": E["TOKEN_SECRET"],
            "sasl.oauthbearer.token.endpoint.url": E["TOKEN_URL"],
            "https.ca.location": E["TOKEN_CA"],
        }
        produce(login("OAUTHBEARER", **fetched), 5)

    check("admin: topics", topics)
    check("admin: settings", settings)
    check("admin: cluster", lambda: admin.describe_cluster().result(20))
    check("ACLs", acls)
    for codec in CODECS:
        check(
            f"produce {codec}", lambda c=codec: produce(options("admin") | {"compression.type": c})
        )
    check("consume", consume)
    check("admin: groups", groups)
    check("mutual TLS refused", refused(lambda: produce(options("nobody"), 1)))
    check("SCRAM-SHA-256", lambda: scram(ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-256"))
    check("SCRAM-SHA-512", lambda: scram(ScramMechanism.SCRAM_SHA_512, "SCRAM-SHA-512"))
    check("OAUTHBEARER", bearer)
    check("quota", lambda: expect(
        writers.confluent_throttled(options("admin"), TOPIC) > 0, "no throttling was seen"
    ))  # fmt: skip
    check("admin: deletion", lambda: wait(admin.delete_topics([TOPIC])))


# --- kafka-python ----------------------------------------------------------------------------


def kafka_python() -> None:
    import warnings

    warnings.simplefilter("ignore")
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.admin import (
        ACL,
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ConfigResource,
        ConfigResourceType,
        KafkaAdminClient,
        NewPartitions,
        NewTopic,
        ResourcePattern,
        ResourcePatternFilter,
        ResourceType,
    )  # fmt: skip
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Token(AbstractTokenProvider):
        def token(self) -> str:
            return E["TOKEN"]

    def options(user: str) -> dict[str, object]:
        return {
            "bootstrap_servers": E["BOOTSTRAP"],
            "security_protocol": "SSL",
            "ssl_cafile": E["CA"],
            "ssl_certfile": E[f"CERT_{user}"],
            "ssl_keyfile": E[f"KEY_{user}"],
        }

    def login(mechanism: str) -> dict[str, object]:
        return {
            "bootstrap_servers": E["LOGIN_BOOTSTRAP"],
            "security_protocol": "SASL_SSL",
            "ssl_cafile": E["CA"],
            "sasl_mechanism": mechanism,
            "sasl_plain_username": "admin",
            "sasl_plain_password": E["PASSWORD"],
        }

    def produce(base: dict[str, object], codec: str = "none", count: int = 50) -> None:
        producer = KafkaProducer(
            **base, compression_type=None if codec == "none" else codec, enable_idempotence=True
        )
        try:
            for sent in [producer.send(TOPIC, b"value %d" % n) for n in range(count)]:
                sent.get(20)
            MADE.append(count)
        finally:
            producer.close(2)

    def consume() -> None:
        reader = KafkaConsumer(
            TOPIC, **options("admin"), group_id=f"{TOPIC}-group", auto_offset_reset="earliest"
        )
        seen, end = 0, time.monotonic() + 30
        while seen < sum(MADE) and time.monotonic() < end:
            seen += sum(len(batch) for batch in reader.poll(1000).values())
        reader.commit()
        reader.close()
        expect(seen == sum(MADE), f"saw {seen} of {sum(MADE)}")

    def topics() -> None:
        admin.create_topics([NewTopic(TOPIC, 2, -1)])
        admin.create_partitions({TOPIC: NewPartitions(3)})
        (told,) = admin.describe_topics([TOPIC])
        expect(len(told["partitions"]) == 3, "three partitions")

    def settings() -> None:
        topic = ConfigResourceType.TOPIC
        changed = ConfigResource(topic, TOPIC, configs={"max.message.bytes": "500000"})
        admin.alter_configs([changed])
        told = admin.describe_configs([ConfigResource(topic, TOPIC)])
        expect("500000" in repr(told), told)

    def acls() -> None:
        what = (ResourceType.TOPIC, "kafka-python", ACLResourcePatternType.PREFIXED)
        whom = ("User:late", "*", ACLOperation.READ, ACLPermissionType.DENY)
        wanted = ACLFilter(*whom, ResourcePatternFilter(*what))
        made = admin.create_acls([ACL(*whom, ResourcePattern(*what))])
        expect(len(made["succeeded"]) == 1, made)
        expect(len(admin.describe_acls(wanted)[0]) == 1, "described")
        ((_, gone, _),) = admin.delete_acls([wanted])
        expect(len(gone) == 1, "deleted")

    def groups() -> None:
        group = f"{TOPIC}-group"
        expect(group in repr(admin.list_groups()), "listed")
        expect(group in admin.describe_groups([group]), "described")
        admin.delete_groups([group])

    def bearer() -> None:
        base = login("OAUTHBEARER") | {"sasl_oauth_token_provider": Token()}
        produce({k: v for k, v in base.items() if "plain" not in k}, count=5)

    if KILLING:
        writers.kafka_python(options("admin"))
        return
    admin = KafkaAdminClient(**options("admin"))
    check("admin: topics", topics)
    check("admin: settings", settings)
    check("admin: cluster", admin.describe_cluster)
    check("ACLs", acls)
    for codec in CODECS:
        check(f"produce {codec}", lambda c=codec: produce(options("admin"), c))
    check("consume", consume)
    check("mutual TLS refused", refused(lambda: produce(options("nobody"), count=1)))
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        check(mechanism, lambda m=mechanism: produce(login(m), count=5))
    check("OAUTHBEARER", bearer)
    check("quota", lambda: expect(
        writers.kafka_python_throttled(options("admin"), TOPIC) > 0, "no throttling was seen"
    ))  # fmt: skip
    check("admin: groups", groups)
    check("admin: deletion", lambda: admin.delete_topics([TOPIC]))


# --- aiokafka --------------------------------------------------------------------------------


def aiokafka() -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.abc import AbstractTokenProvider
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    class Token(AbstractTokenProvider):
        async def token(self) -> str:
            return E["TOKEN"]

    def options(user: str) -> dict[str, object]:
        context = ssl.create_default_context(cafile=E["CA"])
        context.load_cert_chain(E[f"CERT_{user}"], E[f"KEY_{user}"])
        return {
            "bootstrap_servers": E["BOOTSTRAP"],
            "security_protocol": "SSL",
            "ssl_context": context,
        }

    def login(mechanism: str) -> dict[str, object]:
        return {
            "bootstrap_servers": E["LOGIN_BOOTSTRAP"],
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(cafile=E["CA"]),
            "sasl_mechanism": mechanism,
            "sasl_plain_username": "admin",
            "sasl_plain_password": E["PASSWORD"],
        }

    async def produce(base: dict[str, object], codec: str = "none", count: int = 50) -> None:
        compression = None if codec == "none" else codec
        async with asyncio.timeout(30):
            async with AIOKafkaProducer(
                **base, compression_type=compression, enable_idempotence=True
            ) as producer:
                for sent in [await producer.send(TOPIC, b"value") for _ in range(count)]:
                    await sent
        MADE.append(count)

    async def consume() -> None:
        reader = AIOKafkaConsumer(
            TOPIC, **options("admin"), group_id=f"{TOPIC}-group", auto_offset_reset="earliest"
        )
        async with asyncio.timeout(40), reader:
            seen = 0
            while seen < sum(MADE):
                batches = await reader.getmany(timeout_ms=1000)
                seen += sum(map(len, batches.values()))
            await reader.commit()

    async def administer(what: Callable[[AIOKafkaAdminClient], Awaitable[object]]) -> None:
        admin = AIOKafkaAdminClient(**options("admin"))
        await admin.start()
        try:
            await what(admin)
        finally:
            await admin.close()

    async def topics(admin: AIOKafkaAdminClient) -> None:
        await admin.create_topics([NewTopic(TOPIC, 2, 1)])
        await admin.create_partitions({TOPIC: NewPartitions(3)})
        (told,) = await admin.describe_topics([TOPIC])
        expect(len(told["partitions"]) == 3, "three partitions")

    async def settings(admin: AIOKafkaAdminClient) -> None:
        changed = {"max.message.bytes": "500000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, changed)])
        told = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)])
        expect("500000" in repr(told), told)

    async def groups(admin: AIOKafkaAdminClient) -> None:
        group = f"{TOPIC}-group"
        expect(group in repr(await admin.list_consumer_groups()), "listed")
        expect(group in repr(await admin.describe_consumer_groups([group])), "described")

    async def throttled() -> None:
        more = await writers.held_up(
            lambda client_id: writers.aiokafka_pace(options("admin"), TOPIC, client_id)
        )
        expect(more > THROTTLED_S, f"{more:.1f} s more")

    def bearer() -> None:
        base = login("OAUTHBEARER") | {"sasl_oauth_token_provider": Token()}
        asyncio.run(produce({k: v for k, v in base.items() if "plain" not in k}, count=5))

    if KILLING:
        asyncio.run(writers.aiokafka(options("admin")))
        return
    check("admin: topics", lambda: asyncio.run(administer(topics)))
    check("admin: settings", lambda: asyncio.run(administer(settings)))
    check("admin: cluster", lambda: asyncio.run(administer(lambda a: a.describe_cluster())))
    for codec in CODECS:
        check(f"produce {codec}", lambda c=codec: asyncio.run(produce(options("admin"), c)))
    check("consume", lambda: asyncio.run(consume()))
    check("mutual TLS refused", refused(lambda: asyncio.run(produce(options("nobody"), count=1))))
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        check(mechanism, lambda m=mechanism: asyncio.run(produce(login(m), count=5)))
    check("OAUTHBEARER", bearer)
    check("quota", lambda: asyncio.run(throttled()))
    check("admin: groups", lambda: asyncio.run(administer(groups)))
    check("admin: deletion", lambda: asyncio.run(administer(lambda a: a.delete_topics([TOPIC]))))


{"confluent": confluent, "kafka-python": kafka_python, "aiokafka": aiokafka}[sys.argv[1]]()

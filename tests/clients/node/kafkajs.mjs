// kafkajs against the appliance: prints one line "CHECK name ok|failed reason" for each check.
// It brings gzip alone; the other codecs come in packages of their own. With MODE=kill it writes numbers instead.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import lz4 from '@2l/kafkajs-lz4';
import zstd from '@mongodb-js/zstd';
import kafkajs from 'kafkajs';
import snappy from 'kafkajs-snappy';

const { Kafka, CompressionTypes, CompressionCodecs, logLevel, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = kafkajs;
const read = (name) => readFileSync(process.env[name], 'utf8');
const topic = `kafkajs-${Date.now()}`;
const Lz4 = lz4.default ?? lz4;

CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.LZ4] = new Lz4().codec;
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: (encoder) => zstd.compress(encoder.buffer),
  decompress: (buffer) => zstd.decompress(buffer),
});

function client(user, clientId = 'tests', retry = { retries: 2 }) {
  return new Kafka({
    clientId,
    brokers: [process.env.BOOTSTRAP],
    logLevel: logLevel.NOTHING,
    retry,
    ssl: { ca: [read('CA')], key: read(`KEY_${user}`), cert: read(`CERT_${user}`) },
  });
}

function login(password, mechanism = 'scram-sha-256') {
  return new Kafka({
    clientId: 'tests',
    brokers: [process.env.LOGIN_BOOTSTRAP],
    logLevel: logLevel.NOTHING,
    retry: { retries: 1 },
    ssl: { ca: [read('CA')] },
    sasl: { mechanism, username: 'admin', password },
  });
}

function token() {
  return new Kafka({
    clientId: 'tests',
    brokers: [process.env.LOGIN_BOOTSTRAP],
    logLevel: logLevel.NOTHING,
    retry: { retries: 1 },
    ssl: { ca: [read('CA')] },
    sasl: { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: process.env.TOKEN }) },
  });
}

async function check(name, body) {
  try {
    await body();
    console.log(`CHECK ${name} ok`);
  } catch (error) {
    console.log(`CHECK ${name} failed ${String(error).replaceAll('\n', ' ')}`);
  }
}

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

async function produce(kafka, options, count) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  try {
    const messages = Array.from({ length: count }, (_, i) => ({ key: `k${i}`, value: `v${i}` }));
    await producer.send({ topic, messages, ...options });
  } finally {
    await producer.disconnect();
  }
}

async function consume(count) {
  const consumer = client('admin').consumer({ groupId: `${topic}-group` });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let seen = 0;
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`saw ${seen}`)), 30000);
    consumer.run({
      eachMessage: async () => {
        seen += 1;
        if (seen === count) {
          clearTimeout(timer);
          resolve();
        }
      },
    });
  });
  await consumer.disconnect();
}

// One number after the other, until each is acknowledged (see killing.py).
async function write() {
  const count = Number(process.env.COUNT);
  const retry = { retries: 1000, initialRetryTime: 100, maxRetryTime: 1000 };
  // The producer's own patience does not reach to connecting again: that is the client's.
  const producer = client('admin', 'tests', retry).producer({ idempotent: true, maxInFlightRequests: 1, retry });
  await producer.connect();
  for (let number = 0; number < count; number += 1) {
    await producer.send({ topic: process.env.KILL_TOPIC, messages: [{ value: String(number) }] });
    if (number % 10 === 0) console.log(`PROGRESS ${number}`);
  }
  console.log('DONE');
  process.exit(0);
}

// Seconds that it takes to write more than the quota allows at once.
async function pace(clientId) {
  const producer = client('admin', clientId).producer();
  await producer.connect();
  const began = Date.now();
  for (let i = 0; i < 50; i += 1) await producer.send({ topic, messages: [{ value: randomBytes(20000) }] });
  await producer.disconnect();
  return (Date.now() - began) / 1000;
}

if (process.env.MODE === 'kill') await write();
const admin = client('admin').admin();
await admin.connect();
await check('admin: topics', async () => {
  expect(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), 'created');
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
  expect(topics[0].partitions.length === 3, 'three partitions');
});
await check('admin: settings', async () => {
  const configEntries = [{ name: 'max.message.bytes', value: '500000' }];
  await admin.alterConfigs({ resources: [{ type: 2, name: topic, configEntries }] });
  const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name: topic }] });
  const found = resources[0].configEntries.find((each) => each.configName === 'max.message.bytes');
  expect(found.configValue === '500000', 'altered');
});
await check('admin: cluster', async () => {
  expect((await admin.describeCluster()).brokers.length >= 1, 'brokers');
});
await check('ACLs', async () => {
  const acl = {
    resourceType: AclResourceTypes.TOPIC,
    resourceName: 'kafkajs-',
    resourcePatternType: ResourcePatternTypes.PREFIXED,
    principal: 'User:kafkajsuser',
    host: '*',
    operation: AclOperationTypes.READ,
    permissionType: AclPermissionTypes.DENY,
  };
  await admin.createAcls({ acl: [acl] });
  expect((await admin.describeAcls(acl)).resources.length === 1, 'described');
  const gone = await admin.deleteAcls({ filters: [acl] });
  expect(gone.filterResponses[0].matchingAcls.length === 1, 'deleted');
});
await check('produce none', () => produce(client('admin'), {}, 50));
for (const [name, compression] of Object.entries({
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
})) {
  await check(`produce ${name}`, () => produce(client('admin'), { compression }, 50));
}
await check('consume', () => consume(250));
await check('admin: groups', async () => {
  const { groups } = await admin.listGroups();
  expect(groups.some((each) => each.groupId === `${topic}-group`), 'listed');
  await admin.describeGroups([`${topic}-group`]);
  await admin.deleteGroups([`${topic}-group`]);
});
await check('mutual TLS refused', async () => {
  try {
    await produce(client('nobody'), {}, 1);
  } catch (error) {
    return;
  }
  throw new Error('nobody was let in');
});
for (const mechanism of ['SCRAM-SHA-256', 'SCRAM-SHA-512']) {
  await check(mechanism, async () => {
    await produce(login(process.env.PASSWORD, mechanism.toLowerCase()), {}, 5);
    try {
      await produce(login('wrong', mechanism.toLowerCase()), {}, 1);
    } catch (error) {
      return;
    }
    throw new Error('a wrong password was let in');
  });
}
await check('OAUTHBEARER', () => produce(token(), {}, 5));
await check('quota', async () => {
  const more = (await pace(process.env.SLOW)) - (await pace('quick'));
  expect(more > 1.5, `${more} s more`);
});
await check('admin: deletion', () => admin.deleteTopics({ topics: [topic] }));
await admin.disconnect();
process.exit(0);

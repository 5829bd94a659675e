// @platformatic/kafka against the appliance: prints one line "CHECK name ok|failed reason" for each check.
// With MODE=kill it writes numbers instead.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Admin, Consumer, Producer, MessagesStreamModes, stringDeserializers, stringSerializers } from '@platformatic/kafka';

const read = (name) => readFileSync(process.env[name], 'utf8');
const topic = `platformatic-${Date.now()}`;

function options(user) {
  return {
    clientId: 'tests',
    bootstrapBrokers: [process.env.BOOTSTRAP],
    retries: 1,
    tls: { ca: [read('CA')], key: read(`KEY_${user}`), cert: read(`CERT_${user}`) },
  };
}

function login(mechanism, credentials) {
  return {
    clientId: 'tests',
    bootstrapBrokers: [process.env.LOGIN_BOOTSTRAP],
    retries: 0,
    tls: { ca: [read('CA')] },
    sasl: { mechanism, ...credentials },
  };
}

async function check(name, body) {
  try {
    await body();
    console.log(`CHECK ${name} ok`);
  } catch (error) {
    console.log(`CHECK ${name} failed ${String(error).replaceAll('\n', ' ')}`);
  }
}

let made = 0;

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

async function produce(base, compression, count) {
  const producer = new Producer({ ...base, idempotent: true, serializers: stringSerializers });
  try {
    const messages = Array.from({ length: count }, (_, i) => ({ topic, key: `k${i}`, value: `v${i}` }));
    await producer.send({ messages, compression, acks: -1 });
    made += count;
  } finally {
    await producer.close();
  }
}

// One number after the other, until each is acknowledged (see killing.py).
async function write() {
  const count = Number(process.env.COUNT);
  const retries = { retries: 1000, retryDelay: 200, connectTimeout: 2000 };
  const producer = new Producer({ ...options('admin'), ...retries, idempotent: true, serializers: stringSerializers });
  for (let number = 0; number < count; number += 1) {
    await producer.send({ messages: [{ topic: process.env.KILL_TOPIC, value: String(number) }], acks: -1 });
    if (number % 10 === 0) console.log(`PROGRESS ${number}`);
  }
  console.log('DONE');
  process.exit(0);
}

// Seconds that it takes to write more than the quota allows at once.
async function pace(clientId) {
  const producer = new Producer({ ...options('admin'), clientId });
  const began = Date.now();
  for (let i = 0; i < 50; i += 1) await producer.send({ messages: [{ topic, value: randomBytes(20000) }], acks: -1 });
  await producer.close();
  return (Date.now() - began) / 1000;
}

if (process.env.MODE === 'kill') await write();
const admin = new Admin(options('admin'));
await check('admin: topics', async () => {
  await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1 });
  await admin.createPartitions({ topics: [{ name: topic, count: 3, assignments: null }], validateOnly: false });
  expect((await admin.listTopics()).includes(topic), 'listed');
});
await check('admin: settings', async () => {
  const configs = [{ name: 'max.message.bytes', configOperation: 0, value: '500000' }];
  await admin.incrementalAlterConfigs({ resources: [{ resourceType: 2, resourceName: topic, configs }] });
  const [told] = await admin.describeConfigs({ resources: [{ resourceType: 2, resourceName: topic }] });
  const found = told.configs.find((each) => each.name === 'max.message.bytes');
  expect(found.value === '500000', 'altered');
});
await check('admin: cluster', async () => {
  expect((await admin.metadata({})).brokers.size >= 1, 'brokers');
});
await check('ACLs', async () => {
  const acl = {
    resourceType: 2,
    resourceName: 'platformatic-',
    resourcePatternType: 4,
    principal: 'User:late',
    host: '*',
    operation: 3,
    permissionType: 2,
  };
  await admin.createAcls({ creations: [acl] });
  expect((await admin.describeAcls({ filter: acl })).length === 1, 'described');
  expect((await admin.deleteAcls({ filters: [acl] })).length === 1, 'deleted');
});
for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
  await check(`produce ${codec}`, () => produce(options('admin'), codec, 20));
}
await check('consume', async () => {
  const consumer = new Consumer({ ...options('admin'), groupId: `${topic}-group`, deserializers: stringDeserializers });
  const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.EARLIEST, autocommit: true, maxWaitTime: 500 });
  let seen = 0;
  const timer = setTimeout(() => stream.destroy(new Error(`saw ${seen}`)), 30000);
  for await (const _ of stream) {
    seen += 1;
    if (seen === made) break;
  }
  clearTimeout(timer);
  await consumer.close(true);
  expect(seen === made, `saw ${seen} of ${made}`);
});
await check('admin: groups', async () => {
  const groups = await admin.listGroups();
  expect([...groups.keys()].includes(`${topic}-group`), 'listed');
  await admin.describeGroups({ groups: [`${topic}-group`] });
  await admin.deleteGroups({ groups: [`${topic}-group`] });
});
await check('mutual TLS refused', async () => {
  try {
    await produce(options('nobody'), 'none', 1);
  } catch (error) {
    return;
  }
  throw new Error('nobody was let in');
});
for (const mechanism of ['SCRAM-SHA-256', 'SCRAM-SHA-512']) {
  await check(mechanism, () => produce(login(mechanism, { username: 'admin', password: process.env.PASSWORD }), 'none', 5));
}
await check('OAUTHBEARER', () => produce(login('OAUTHBEARER', { token: process.env.TOKEN }), 'none', 5));
await check('quota', async () => {
  const more = (await pace(process.env.SLOW)) - (await pace('quick'));
  expect(more > 1.5, `${more} s more`);
});
await check('admin: deletion', () => admin.deleteTopics({ topics: [topic] }));
await admin.close();
process.exit(0);

// @platformatic/kafka against the appliance: prints one line "CHECK name ok|failed reason" for each check.

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

const admin = new Admin(options('admin'));
await check('admin: topics', async () => {
  await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1 });
  expect((await admin.listTopics()).includes(topic), 'listed');
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
await check('admin: deletion', () => admin.deleteTopics({ topics: [topic] }));
await admin.close();
process.exit(0);

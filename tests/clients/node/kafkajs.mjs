// kafkajs against the appliance: prints one line "CHECK name ok|failed reason" for each check.
// It brings gzip alone; the other codecs need packages of their own.

import { readFileSync } from 'node:fs';
import kafkajs from 'kafkajs';

const { Kafka, CompressionTypes, logLevel, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = kafkajs;
const read = (name) => readFileSync(process.env[name], 'utf8');
const topic = `kafkajs-${Date.now()}`;

function client(user) {
  return new Kafka({
    clientId: 'tests',
    brokers: [process.env.BOOTSTRAP],
    logLevel: logLevel.NOTHING,
    retry: { retries: 2 },
    ssl: { ca: [read('CA')], key: read(`KEY_${user}`), cert: read(`CERT_${user}`) },
  });
}

function login(password) {
  return new Kafka({
    clientId: 'tests',
    brokers: [process.env.LOGIN_BOOTSTRAP],
    logLevel: logLevel.NOTHING,
    retry: { retries: 1 },
    ssl: { ca: [read('CA')] },
    sasl: { mechanism: 'scram-sha-256', username: 'admin', password },
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
await check('produce gzip', () => produce(client('admin'), { compression: CompressionTypes.GZIP }, 50));
await check('consume', () => consume(100));
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
await check('SCRAM-SHA-256', async () => {
  await produce(login(process.env.PASSWORD), {}, 5);
  try {
    await produce(login('wrong'), {}, 1);
  } catch (error) {
    return;
  }
  throw new Error('a wrong password was let in');
});
await check('OAUTHBEARER', () => produce(token(), {}, 5));
await check('admin: deletion', () => admin.deleteTopics({ topics: [topic] }));
await admin.disconnect();
process.exit(0);

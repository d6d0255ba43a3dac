// Devices over HTTPS, through `azure-iot-device-http`: messages one by one and in batches, and what waits for the device.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import device from 'azure-iot-device';
import { Http } from 'azure-iot-device-http';
import iothub from 'azure-iothub';
import { env, sendTo, telemetry, told } from './environment.mjs';

const registry = iothub.Registry.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
const deviceId = `node-https-${randomUUID()}`;
const key = randomBytes(32).toString('base64');
const PATIENCE_MS = 15_000;

function open(withKey = key) {
  return device.Client.fromConnectionString(`HostName=${env('IOTHUB_HOSTNAME')};DeviceId=${deviceId};SharedAccessKey=${withKey}`, Http);
}

before(async () => {
  await registry.create({ deviceId, authentication: { type: 'sas', symmetricKey: { primaryKey: key, secondaryKey: key } } });
});

after(async () => {
  await registry.delete(deviceId);
});

// Listens as an application does; `take` waits for the next message.
async function listen(client) {
  const waiting = [];
  let wake = () => {};
  await client.setTransportOptions({ interval: 0.2 });
  client.on('error', () => {});
  client.on('message', (message) => {
    waiting.push(message);
    wake();
  });
  await client.open();
  return async () => {
    for (const end = Date.now() + PATIENCE_MS; waiting.length === 0; ) {
      assert.ok(Date.now() < end, 'no message came');
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, 100);
      });
    }
    return waiting.shift();
  };
}

async function waitingMessages() {
  return (await registry.get(deviceId)).responseBody.cloudToDeviceMessageCount;
}

test('a message arrives with its properties, and a batch in its order', async () => {
  const client = open();
  await client.open();
  const message = new device.Message(JSON.stringify({ temperature: 20 }));
  message.messageId = 'm-1';
  message.correlationId = 'c-1';
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  message.properties.add('alarm', 'yes');
  await client.sendEvent(message);
  const batch = ['one', 'two', 'three'].map((text) => new device.Message(text));
  batch[1].properties.add('nr', '2');
  await client.sendEventBatch(batch);
  await client.close();

  const [single, ...others] = telemetry(deviceId);
  assert.deepEqual(single.body, { temperature: 20 });
  assert.deepEqual(single.properties, { alarm: 'yes' });
  assert.equal(single.systemProperties['iothub-connection-device-id'], deviceId);
  assert.ok(Object.values(single.systemProperties).includes('m-1') && Object.values(single.systemProperties).includes('c-1'));
  assert.equal(others.length, 3);
  assert.deepEqual(others.map((row) => row.properties), [{}, { nr: '2' }, {}]);
  assert.ok(others.every((row, at) => at === 0 || row.sequenceNumber > others[at - 1].sequenceNumber));
});

test('what is too large is named as such, and a wrong key as one', async () => {
  const sent = telemetry(deviceId).length;
  const client = open();
  await assert.rejects(client.sendEvent(new device.Message('x'.repeat(257 * 1024))), { name: 'MessageTooLargeError' });
  await client.close();
  const stranger = open(randomBytes(32).toString('base64'));
  await assert.rejects(stranger.sendEvent(new device.Message('x')), { name: 'UnauthorizedError' });
  await stranger.close();
  assert.equal(telemetry(deviceId).length, sent);
});

test('messages to the device are completed, abandoned and rejected, and the sender hears how they ended', async () => {
  await told('feedback');
  sendTo(deviceId, '--body', 'take me', '--ack', 'full', '--property', 'color=red');
  sendTo(deviceId, '--body', 'not me', '--ack', 'full');
  assert.equal(await waitingMessages(), 2);
  const client = open();
  const take = await listen(client);

  const first = await take();
  assert.equal(first.getData().toString(), 'take me');
  assert.deepEqual(first.properties.propertyList, [{ key: 'iothub-app-color', value: 'red' }]);
  await client.abandon(first);
  const again = await take();
  assert.equal(again.getData().toString(), 'take me');
  assert.notEqual(again.lockToken, first.lockToken);
  await assert.rejects(client.complete(first), 'the lock of what was abandoned');
  await client.complete(again);
  const second = await take();
  assert.equal(second.getData().toString(), 'not me');
  await client.reject(second);
  await client.close();
  assert.equal(await waitingMessages(), 0);

  let records = [];
  for (const end = Date.now() + PATIENCE_MS + 15_000; records.length < 2; ) {
    records.push(...(await told('feedback')).flat().filter((record) => record.deviceId === deviceId));
    assert.ok(Date.now() < end, `feedback: ${JSON.stringify(records)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual(records.map((record) => record.statusCode), ['Success', 'Rejected']);
});

test('what the transport lacks it says itself', async () => {
  const client = open();
  await assert.rejects(async () => client.getTwin(), { name: 'NotImplementedError' });
  await client.close();
});

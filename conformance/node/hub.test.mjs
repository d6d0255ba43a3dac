// Devices over MQTT and the service API over REST, through the Node SDKs.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import device from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import iothub from 'azure-iothub';
import { env } from './environment.mjs';

const registry = iothub.Registry.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
const service = iothub.Client.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
const deviceId = `node-${randomUUID()}`;
const key = randomBytes(32).toString('base64');

function open(moduleId) {
  const module = moduleId ? `;ModuleId=${moduleId}` : '';
  const text = `HostName=${env('IOTHUB_HOSTNAME')};DeviceId=${deviceId}${module};SharedAccessKey=${key}`;
  return moduleId ? device.ModuleClient.fromConnectionString(text, Mqtt) : device.Client.fromConnectionString(text, Mqtt);
}

before(async () => {
  const authentication = { type: 'sas', symmetricKey: { primaryKey: key, secondaryKey: key } };
  await registry.create({ deviceId, authentication });
  await registry.addModule({ deviceId, moduleId: 'mod1', authentication });
});

after(async () => {
  await registry.delete(deviceId);
});

test('an unknown device is named as such', async () => {
  await assert.rejects(registry.get('nobody-here'), { name: 'DeviceNotFoundError' });
});

test('telemetry, twin and methods work over one connection', async () => {
  const client = open();
  await client.open();
  const message = new device.Message(JSON.stringify({ temperature: 20 }));
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  message.properties.add('a b', 'c+d&e');
  await client.sendEvent(message);

  const twin = await client.getTwin();
  assert.equal(twin.properties.desired.$version, 1);
  await new Promise((resolve, reject) =>
    twin.properties.reported.update({ firmware: '1.0' }, (error) => (error ? reject(error) : resolve())),
  );
  const changed = once(twin, 'properties.desired');
  await new Promise((resolve) => setTimeout(resolve, 300)); // the SDK subscribes in the background
  const stored = (await registry.getTwin(deviceId)).responseBody;
  assert.equal(stored.properties.reported.firmware, '1.0');
  await registry.updateTwin(deviceId, { properties: { desired: { target: 21 } } }, stored.etag);
  await changed;
  await assert.rejects(registry.updateTwin(deviceId, { tags: { lost: true } }, stored.etag));

  client.onDeviceMethod('reboot', (request, response) => response.send(200, { was: request.payload }));
  await new Promise((resolve) => setTimeout(resolve, 300)); // as above
  const answer = await service.invokeDeviceMethod(deviceId, { methodName: 'reboot', payload: { in: 3 }, responseTimeoutInSeconds: 10 });
  assert.deepEqual(answer.result, { status: 200, payload: { was: { in: 3 } } });
  await client.close();
});

test('a module has a twin of its own', async () => {
  const client = open('mod1');
  await client.open();
  await registry.updateModuleTwin(deviceId, 'mod1', { properties: { desired: { fps: 30 } } }, '*');
  const twin = await client.getTwin();
  assert.equal(twin.properties.desired.fps, 30);
  await client.sendEvent(new device.Message('from the module'));
  await client.close();
});

test('a method to a device that is away fails as such', async () => {
  await assert.rejects(service.invokeDeviceMethod(deviceId, { methodName: 'x' }), /not|404/i);
});

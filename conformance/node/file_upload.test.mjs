// Files that devices upload to Azurite, through the Node device SDK, which asks, uploads and tells by itself.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { DefaultAzureCredential } from '@azure/identity';
import { BlobServiceClient } from '@azure/storage-blob';
import device from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import iothub from 'azure-iothub';
import { env, told } from './environment.mjs';

const skip = process.env.CONFORM_STORAGE ? false : 'Azurite is not there';
const CONTAINER = 'node-files';
const NOTIFICATIONS = 'filenotifications';
const deviceId = `node-files-${randomUUID()}`;
const key = randomBytes(32).toString('base64');
const registry = iothub.Registry.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));

function open() {
  return device.Client.fromConnectionString(`HostName=${env('IOTHUB_HOSTNAME')};DeviceId=${deviceId};SharedAccessKey=${key}`, Mqtt);
}

// The default hub gets storage and tells of uploads.
async function giveStorage() {
  const endpoint = env('AZURE_RESOURCE_MANAGER_ENDPOINT').replace(/\/$/, '');
  const scope = `${env('AZURE_RESOURCE_MANAGER_AUDIENCE').replace(/\/$/, '')}/.default`;
  const { token } = await new DefaultAzureCredential().getToken(scope);
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const group = `${endpoint}/subscriptions/${env('AZURE_SUBSCRIPTION_ID')}/resourceGroups/${env('AZURE_RESOURCE_GROUP')}`;
  const hubs = `${group}/providers/Microsoft.Devices/IotHubs`;
  const version = 'api-version=2023-06-30';
  const { value } = await (await fetch(`${hubs}?${version}`, { headers })).json();
  const hub = value.find((one) => one.name === env('IOTHUB_HOSTNAME').split('.')[0]) ?? value[0];
  hub.properties.storageEndpoints.$default = { connectionString: env('CONFORM_STORAGE'), containerName: CONTAINER };
  hub.properties.enableFileUploadNotifications = true;
  const put = await fetch(`${hubs}/${hub.name}?${version}`, { method: 'PUT', headers, body: JSON.stringify(hub) });
  assert.ok(put.ok, await put.text());
  for (const end = Date.now() + 30000; ; ) {
    const shown = await (await fetch(`${hubs}/${hub.name}?${version}`, { headers })).json();
    if (shown.properties.provisioningState === 'Succeeded') return;
    assert.ok(Date.now() < end, 'the hub does not become ready');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

let container;

before(async () => {
  if (skip) return;
  await registry.create({ deviceId, authentication: { type: 'sas', symmetricKey: { primaryKey: key, secondaryKey: key } } });
  container = BlobServiceClient.fromConnectionString(env('CONFORM_STORAGE')).getContainerClient(CONTAINER);
  await container.createIfNotExists();
  await giveStorage();
});

after(async () => {
  if (skip) return;
  await registry.delete(deviceId);
  // Each upload leaves a timer of half an hour behind in the SDK, which would keep the process that long.
  setTimeout(() => process.exit(), 500).unref();
});

test('a stream is uploaded by blocks and a back end hears of it', { skip }, async () => {
  await told(NOTIFICATIONS);
  const client = open();
  const body = randomBytes(9 * 1024 * 1024);
  await client.uploadToBlob('logs/today.bin', Readable.from([body.subarray(0, 5), body.subarray(5)]), body.length);
  const blobName = `${deviceId}/logs/today.bin`;
  const stored = await container.getBlobClient(blobName).downloadToBuffer();
  assert.ok(stored.equals(body));
  const [notification, ...more] = await told(NOTIFICATIONS);
  assert.deepEqual(more, []);
  assert.equal(notification.blobName, blobName);
  assert.equal(notification.deviceId, deviceId);
  assert.equal(notification.blobSizeInBytes, body.length);
  await client.close();
});

test('an upload that the account refuses is told as a failure, and nobody hears of it', { skip }, async () => {
  await told(NOTIFICATIONS);
  await container.delete();
  const client = open();
  await assert.rejects(client.uploadToBlob('lost.bin', Readable.from([Buffer.from('x')]), 1));
  assert.deepEqual(await told(NOTIFICATIONS), []);
  await client.close();
});

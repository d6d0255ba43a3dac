// Devices over MQTT, bare and in WebSockets, and the service API over REST, through the Node SDKs.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { BlobServiceClient, ContainerSASPermissions } from '@azure/storage-blob';
import device from 'azure-iot-device';
import { Mqtt, MqttWs } from 'azure-iot-device-mqtt';
import iothub from 'azure-iothub';
import { env } from './environment.mjs';

const registry = iothub.Registry.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
const service = iothub.Client.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
const deviceId = `node-${randomUUID()}`;
const key = randomBytes(32).toString('base64');

function open(Transport, moduleId) {
  const module = moduleId ? `;ModuleId=${moduleId}` : '';
  const text = `HostName=${env('IOTHUB_HOSTNAME')};DeviceId=${deviceId}${module};SharedAccessKey=${key}`;
  return moduleId ? device.ModuleClient.fromConnectionString(text, Transport) : device.Client.fromConnectionString(text, Transport);
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

for (const [name, Transport] of [['MQTT', Mqtt], ['WebSockets', MqttWs]]) {
  test(`telemetry, twin and methods work over one connection: ${name}`, async () => {
    const client = open(Transport);
    await client.open();
    const message = new device.Message(JSON.stringify({ temperature: 20 }));
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('a b', 'c+d&e');
    await client.sendEvent(message);

    const twin = await client.getTwin();
    const before = (await registry.getTwin(deviceId)).responseBody;
    assert.equal(twin.properties.desired.$version, before.properties.desired.$version);
    await new Promise((resolve, reject) =>
      twin.properties.reported.update({ firmware: name }, (error) => (error ? reject(error) : resolve())),
    );
    const changed = once(twin, 'properties.desired');
    await new Promise((resolve) => setTimeout(resolve, 300)); // the SDK subscribes in the background
    const stored = (await registry.getTwin(deviceId)).responseBody;
    assert.equal(stored.properties.reported.firmware, name);
    await registry.updateTwin(deviceId, { properties: { desired: { target: name } } }, stored.etag);
    await changed;
    await assert.rejects(registry.updateTwin(deviceId, { tags: { lost: true } }, stored.etag));

    client.onDeviceMethod('reboot', (request, response) => response.send(200, { was: request.payload }));
    await new Promise((resolve) => setTimeout(resolve, 300)); // as above
    const answer = await service.invokeDeviceMethod(deviceId, { methodName: 'reboot', payload: { in: 3 }, responseTimeoutInSeconds: 10 });
    assert.deepEqual(answer.result, { status: 200, payload: { was: { in: 3 } } });
    await client.close();
  });

  test(`a module has a twin of its own: ${name}`, async () => {
    const client = open(Transport, 'mod1');
    await client.open();
    await registry.updateModuleTwin(deviceId, 'mod1', { properties: { desired: { fps: 30 } } }, '*');
    const twin = await client.getTwin();
    assert.equal(twin.properties.desired.fps, 30);
    await client.sendEvent(new device.Message('from the module'));
    await client.close();
  });
}

test('a method to a device that is away fails as such', async () => {
  await assert.rejects(service.invokeDeviceMethod(deviceId, { methodName: 'x' }), /not|404/i);
});

test('queries come page by page until there are no more results', async () => {
  const ids = [0, 1, 2, 3, 4].map((n) => `${deviceId}-q${n}`);
  for (const [n, id] of ids.entries()) {
    await registry.create({ deviceId: id });
    await registry.updateTwin(id, { tags: { fleet: deviceId, floor: n % 2 } }, '*');
  }
  const all = async (text, size) => {
    const query = registry.createQuery(text, size);
    const sizes = [];
    const items = [];
    while (query.hasMoreResults) {
      const page = (await query.next(query.continuationToken)).result;
      sizes.push(page.length);
      items.push(...page);
    }
    return { sizes, items };
  };
  const twins = registry.createQuery(`SELECT * FROM devices WHERE tags.fleet = '${deviceId}'`, 2);
  const seen = [];
  while (twins.hasMoreResults) {
    seen.push(...(await twins.nextAsTwin()).result);
  }
  assert.deepEqual(seen.map((twin) => twin.deviceId), ids);
  assert.deepEqual(seen[0].tags, { fleet: deviceId, floor: 0 });

  const some = await all(`SELECT deviceId, tags.floor AS f FROM devices WHERE tags.fleet = '${deviceId}' AND tags.floor = 1`, 1);
  assert.deepEqual(some, { sizes: [1, 1], items: [{ deviceId: ids[1], f: 1 }, { deviceId: ids[3], f: 1 }] });
  const groups = await all(`SELECT tags.floor AS f, COUNT() AS n FROM devices WHERE tags.fleet = '${deviceId}' GROUP BY tags.floor`, 10);
  assert.deepEqual(groups.items, [{ f: 0, n: 3 }, { f: 1, n: 2 }]);
  const modules = await all(`SELECT * FROM devices.modules WHERE devices.deviceId = '${deviceId}'`, 10);
  assert.deepEqual(modules.items.map((twin) => twin.moduleId), ['mod1']);
  await assert.rejects(all('SELECT * FROM nothing', 10));
  for (const id of ids) {
    await registry.delete(id);
  }
});

test('jobs patch twins, are listed and are cancelled', async () => {
  const jobs = iothub.JobClient.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
  const jobId = randomUUID();
  const patch = { etag: '*', tags: { byJob: jobId } };
  const condition = `deviceId IN ['${deviceId}']`;
  const created = (await jobs.scheduleTwinUpdate(jobId, condition, patch, new Date(), 60)).jobStatus;
  assert.deepEqual([created.jobId, created.status, created.updateTwin.etag], [jobId, 'queued', '*']);
  let job = created;
  for (let tries = 0; job.status !== 'completed' && tries < 300; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    job = (await jobs.getJob(jobId)).jobStatus;
  }
  assert.deepEqual([job.status, job.deviceJobStatistics.succeededCount], ['completed', 1]);
  assert.equal((await registry.getTwin(deviceId)).responseBody.tags.byJob, jobId);

  const ahead = randomUUID();
  await jobs.scheduleTwinUpdate(ahead, condition, patch, new Date(Date.now() + 3_600_000), 60);
  const query = jobs.createQuery('scheduleUpdateTwin', 'scheduled', 1);
  const listed = [];
  do {
    listed.push(...(await query.next(query.continuationToken)).result);
  } while (query.hasMoreResults);
  assert.ok(listed.some((found) => found.jobId === ahead));
  assert.equal((await jobs.cancelJob(ahead)).jobStatus.status, 'cancelled');
});

test('configurations are made, applied, counted, updated and removed', async () => {
  const id = `cfg-${randomUUID()}`;
  const made = (await registry.addConfiguration({
    id,
    content: { deviceContent: { 'properties.desired.byConfiguration': { interval: 5 } } },
    targetCondition: `tags.configuration = '${id}'`,
    metrics: { queries: { all: `SELECT deviceId FROM devices WHERE tags.configuration = '${id}'` } },
    priority: 3,
  })).responseBody;
  assert.deepEqual([made.id, made.etag, made.schemaVersion, made.systemMetrics.results], [id, 'MQ==', '1.0', {}]);
  await registry.updateTwin(deviceId, { tags: { configuration: id } }, '*');
  const twin = (await registry.getTwin(deviceId)).responseBody;
  assert.deepEqual(twin.properties.desired.byConfiguration, { interval: 5 });
  assert.deepEqual(twin.configurations[id], { status: 'Applied' });

  made.priority = 4;
  const updated = (await registry.updateConfiguration(made)).responseBody;
  assert.deepEqual([updated.priority, updated.etag], [4, 'Mg==']);
  let shown = updated;
  const isCounted = () => shown.metrics.results.all === 1 && shown.systemMetrics.results.appliedCount === 1;
  for (let tries = 0; !isCounted() && tries < 300; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    shown = (await registry.getConfiguration(id)).responseBody;
  }
  assert.deepEqual([shown.metrics.results, shown.systemMetrics.results], [{ all: 1 }, { appliedCount: 1, targetedCount: 1 }]);
  for (const query of Object.values(shown.systemMetrics.queries)) {
    const found = (await registry.createQuery(query, 10).next()).result;
    assert.deepEqual(found.map((row) => row.deviceId), [deviceId]);
  }
  assert.ok((await registry.getConfigurations()).responseBody.some((one) => one.id === id));
  await assert.rejects(registry.updateConfiguration(made));
  await registry.updateConfiguration({ ...made, targetCondition: '' }, true);
  let left = twin;
  for (let tries = 0; left.configurations && tries < 300; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    left = (await registry.getTwin(deviceId)).responseBody;
  }
  assert.equal(left.properties.desired.byConfiguration, undefined);
  await registry.removeConfiguration(id);
  await assert.rejects(registry.getConfiguration(id));
});

test('a content is applied to one device', async () => {
  await registry.applyConfigurationContentOnDevice(deviceId, { deviceContent: { 'properties.desired.once': 1 } });
  assert.equal((await registry.getTwin(deviceId)).responseBody.properties.desired.once, 1);
});

test('many devices are added, updated and removed in one call', async () => {
  const devices = [0, 1, 2].map((n) => ({ deviceId: `${deviceId}-b${n}`, status: 'enabled' }));
  const added = (await registry.addDevices(devices)).responseBody;
  assert.deepEqual([added.isSuccessful, added.errors], [true, []]);
  const off = devices.map((one) => ({ ...one, status: 'disabled', statusReason: 'in one call' }));
  assert.equal((await registry.updateDevices(off, true)).responseBody.isSuccessful, true);
  const read = (await registry.get(devices[2].deviceId)).responseBody;
  assert.deepEqual([read.status, read.statusReason], ['disabled', 'in one call']);
  await assert.rejects(registry.addDevices(devices.slice(0, 1)));
  assert.equal((await registry.removeDevices(devices, true)).responseBody.isSuccessful, true);
  await assert.rejects(registry.get(devices[0].deviceId), /not ?found|404/i);
});

test('the registry is exported to a container and imported from it', async () => {
  const container = BlobServiceClient.fromConnectionString(env('AZURE_STORAGE_CONNECTION_STRING')).getContainerClient('node-registry');
  await container.createIfNotExists();
  const uri = await container.generateSasUrl({
    permissions: ContainerSASPermissions.parse('racwdl'),
    expiresOn: new Date(Date.now() + 3600_000),
  });
  const through = async (job) => {
    assert.equal(job.status, 'enqueued');
    for (let tries = 0; tries < 300; tries += 1) {
      const now = await registry.getJob(job.jobId);
      if (!['enqueued', 'running'].includes(now.status)) return now;
      await new Promise((wake) => { setTimeout(wake, 100); });
    }
    throw new Error('the job does not end');
  };
  const exported = await through(await registry.exportDevicesToBlob(uri, false));
  assert.deepEqual([exported.status, exported.progress, exported.failureReason], ['completed', 100, null]);
  const file = (await container.getBlobClient('devices.txt').downloadToBuffer()).toString();
  const own = file.split('\n').filter(Boolean).map((line) => JSON.parse(line)).filter((line) => line.id === deviceId);
  assert.deepEqual(own.map((line) => line.moduleId), [undefined, 'mod1']);
  assert.equal(own[0].authentication.symmetricKey.primaryKey, key);
  const added = { ...own[0], id: `${deviceId}-imported`, eTag: undefined };
  const wrong = { id: deviceId, importMode: 'create', status: 'enabled' };
  const lines = [added, wrong].map((line) => JSON.stringify(line)).join('\r\n');
  await container.getBlockBlobClient('devices.txt').upload(lines, Buffer.byteLength(lines));
  const imported = await through(await registry.importDevicesFromBlob(uri, uri));
  assert.equal(imported.status, 'completed');
  const log = (await container.getBlobClient('importErrors.log').downloadToBuffer()).toString();
  assert.deepEqual(log.trim().split('\n').map((line) => JSON.parse(line).errorCode), [409001]);
  assert.equal((await registry.get(added.id)).responseBody.authentication.symmetricKey.primaryKey, key);
  await registry.delete(added.id);
  const listed = (await registry.listJobs()).responseBody;
  assert.ok(listed.some((job) => job.jobId === imported.jobId && job.type === 'import'));
  await assert.rejects(registry.cancelJob(imported.jobId));
});

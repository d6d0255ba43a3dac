// Devices that prove themselves with certificates, over MQTT, WebSockets and HTTPS, through the Node device SDK. The SDK lets no
// module do so.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { IotHubClient } from '@azure/arm-iothub';
import { DefaultAzureCredential } from '@azure/identity';
import common from 'azure-iot-common';
import device from 'azure-iot-device';
import { Http } from 'azure-iot-device-http';
import { Mqtt, MqttWs } from 'azure-iot-device-mqtt';
import iothub from 'azure-iothub';
import { env, telemetry } from './environment.mjs';

const TRANSPORTS = [['MQTT', Mqtt], ['WebSockets', MqttWs], ['HTTPS', Http]];
const registry = iothub.Registry.fromConnectionString(env('IOTHUB_CONNECTION_STRING'));
const endpoint = env('AZURE_RESOURCE_MANAGER_ENDPOINT').replace(/\/$/, '');
const management = new IotHubClient(new DefaultAzureCredential(), env('AZURE_SUBSCRIPTION_ID'), { endpoint });
const folder = mkdtempSync(join(tmpdir(), 'twinhub-x509-'));

// A certificate with its key, signed by another one or by itself.
function certified(commonName, issuer, isCa = false) {
  const at = (kind) => join(folder, `${randomUUID()}.${kind}`);
  const [key, cert] = [at('key'), at('pem')];
  const of = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-subj', `/CN=${commonName}`];
  const signed = issuer ? ['-CA', issuer.certFile, '-CAkey', issuer.keyFile] : [];
  const constraints = ['-addext', `basicConstraints=critical,CA:${isCa ? 'TRUE' : 'FALSE'}`];
  execFileSync('openssl', ['req', '-x509', ...of, ...signed, ...constraints, '-days', '30', '-out', cert], { stdio: 'pipe' });
  const pem = readFileSync(cert, 'utf8');
  const thumbprint = new X509Certificate(pem).fingerprint256.replaceAll(':', '');
  return { cert: pem, key: readFileSync(key, 'utf8'), certFile: cert, keyFile: key, thumbprint };
}

// With what it needs to prove itself; `chain` is what stands between it and the root.
async function open(Transport, deviceId, { cert, key }, ...chain) {
  const text = `HostName=${env('IOTHUB_HOSTNAME')};DeviceId=${deviceId};x509=true`;
  const client = device.Client.fromConnectionString(text, Transport);
  const certificates = [cert, ...chain.map((each) => each.cert)].join('');
  // Over HTTPS the SDK tells that options are set only where there is one for receiving.
  await client.setOptions({ cert: certificates, key, http: { receivePolicy: { manualPolling: true } } });
  client.setRetryPolicy(new common.NoRetry());
  return client;
}

async function sendsOnce(client, deviceId, by) {
  await client.open();
  const message = new device.Message('{}');
  message.properties.add('by', by);
  await client.sendEvent(message);
  await client.close();
  const sent = telemetry(deviceId).filter((row) => row.properties.by === by);
  assert.equal(sent.length, 1);
  assert.equal(
    sent[0].systemProperties['iothub-connection-auth-method'],
    '{"scope":"device","type":"x509","issuer":"external","acceptingIpFilterRule":null}',
  );
}

async function isRefused(client, deviceId) {
  const before = telemetry(deviceId).length;
  await assert.rejects(async () => {
    await client.open();
    await client.sendEvent(new device.Message('not me'));
  });
  await client.close().catch(() => {});
  assert.equal(telemetry(deviceId).length, before);
}

const selfSigned = `node-self-${randomUUID()}`;
const signedByCa = `node-ca-${randomUUID()}`;
const certificateName = `node-${randomUUID().slice(0, 8)}`;
let own, other, root, line, below;

before(async () => {
  [own, other] = [certified(selfSigned), certified(selfSigned)];
  const x509Thumbprint = { primaryThumbprint: 'AB'.repeat(32), secondaryThumbprint: own.thumbprint };
  await registry.create({ deviceId: selfSigned, authentication: { type: 'selfSigned', x509Thumbprint } });

  root = certified('our root', undefined, true);
  line = certified('our line 1', root, true);
  below = certified(signedByCa, line);
  await registry.create({ deviceId: signedByCa, authentication: { type: 'certificateAuthority' } });
});

after(async () => {
  for (const id of [selfSigned, signedByCa]) await registry.delete(id);
  rmSync(folder, { recursive: true });
});

for (const [name, Transport] of TRANSPORTS) {
  test(`a device comes in by its thumbprint, and nobody else: ${name}`, async () => {
    await sendsOnce(await open(Transport, selfSigned, own), selfSigned, `a thumbprint over ${name}`);
    await isRefused(await open(Transport, selfSigned, other), selfSigned);
  });
}

test('a device comes in below an authority once that is verified', async (t) => {
  const at = [env('AZURE_RESOURCE_GROUP'), 'hub', certificateName];
  const certificates = management.certificates;
  const made = await certificates.createOrUpdate(...at, { properties: { certificate: Buffer.from(root.cert).toString('base64') } });
  let { etag } = made;
  assert.deepEqual([made.properties.isVerified, made.properties.subject], [false, 'CN=our root']);
  for (const [name, Transport] of TRANSPORTS) {
    await t.test(`not yet: ${name}`, async () => isRefused(await open(Transport, signedByCa, below, line), signedByCa));
  }

  const coded = await certificates.generateVerificationCode(...at, etag);
  const proof = certified(coded.properties.verificationCode, root);
  const verified = await certificates.verify(...at, coded.etag, { certificate: proof.cert });
  etag = verified.etag;
  assert.equal(verified.properties.isVerified, true);
  for (const [name, Transport] of TRANSPORTS) {
    await t.test(`now: ${name}`, async () => {
      await sendsOnce(await open(Transport, signedByCa, below, line), signedByCa, `an authority over ${name}`);
      await isRefused(await open(Transport, signedByCa, certified('another', line), line), signedByCa);
      await isRefused(await open(Transport, signedByCa, below), signedByCa);
    });
  }
  await certificates.delete(...at, etag);
  await assert.rejects(certificates.get(...at), { statusCode: 404 });
  for (const [name, Transport] of TRANSPORTS) {
    await t.test(`no more: ${name}`, async () => isRefused(await open(Transport, signedByCa, below, line), signedByCa));
  }
});

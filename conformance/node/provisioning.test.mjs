// Registration over MQTT, bare and in WebSockets, and HTTPS, through the Node SDKs.
import assert from 'node:assert/strict';
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import provisioning from 'azure-iot-provisioning-device';
import http from 'azure-iot-provisioning-device-http';
import mqtt from 'azure-iot-provisioning-device-mqtt';
import provisioningService from 'azure-iot-provisioning-service';
import symmetricKey from 'azure-iot-security-symmetric-key';
import { env } from './environment.mjs';

// These packages are CommonJS: their members are not found as named exports.
const { ProvisioningDeviceClient } = provisioning;
const { SymmetricKeySecurityClient } = symmetricKey;
const service = provisioningService.ProvisioningServiceClient.fromConnectionString(env('PROVISIONING_CONNECTION_STRING'));
const groupId = `node-group-${randomUUID()}`;
const groupKey = randomBytes(64).toString('base64');

before(() =>
  service.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: groupId,
    attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: groupKey, secondaryKey: groupKey } },
    provisioningStatus: 'enabled',
  }),
);

after(() => service.deleteEnrollmentGroup(groupId));

for (const [name, Transport] of [['MQTT', mqtt.Mqtt], ['WebSockets', mqtt.MqttWs], ['HTTPS', http.Http]]) {
  test(`a device of a group registers over ${name}`, async () => {
    const id = `node-${name.toLowerCase()}-${randomUUID()}`;
    const key = createHmac('sha256', Buffer.from(groupKey, 'base64')).update(id).digest('base64');
    const security = new SymmetricKeySecurityClient(id, key);
    const client = ProvisioningDeviceClient.create(env('PROVISIONING_HOST'), env('PROVISIONING_IDSCOPE'), new Transport(), security);
    const result = await client.register();
    assert.equal(result.deviceId, id);
    assert.equal(result.assignedHub, env('IOTHUB_HOSTNAME'));
    const state = (await service.getDeviceRegistrationState(id)).responseBody;
    assert.equal(state.status, 'assigned');
  });
}

test('enrollments are queried page by page', async () => {
  const ids = [1, 2, 3].map((n) => `node-page-${n}-${randomUUID()}`);
  for (const registrationId of ids) {
    await service.createOrUpdateIndividualEnrollment({ registrationId, attestation: { type: 'symmetricKey', symmetricKey: {} } });
  }
  const query = service.createIndividualEnrollmentQuery({ query: 'SELECT * FROM enrollments' }, 2);
  const found = [];
  // Without its own token, next() begins anew.
  while (query.hasMoreResults) found.push(...(await query.next(query.continuationToken)).responseBody.map((e) => e.registrationId));
  for (const id of ids) assert.ok(found.includes(id), `${id} is missing`);
  for (const id of ids) await service.deleteIndividualEnrollment(id);
});

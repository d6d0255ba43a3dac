// The graph and its management, through the Node SDKs.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { AzureDigitalTwinsManagementClient } from '@azure/arm-digitaltwins';
import { DigitalTwinsClient } from '@azure/digital-twins-core';
import { DefaultAzureCredential } from '@azure/identity';
import { env } from './environment.mjs';

const credential = new DefaultAzureCredential();

test('a building is modelled, built and queried', async () => {
  const client = new DigitalTwinsClient(env('AZURE_DIGITALTWINS_URL'), credential);
  const unique = randomUUID().replaceAll('-', '').slice(0, 8);
  const model = `dtmi:conformance:NodeRoom_${unique};1`;
  await client.createModels([
    {
      '@id': model,
      '@type': 'Interface',
      '@context': 'dtmi:dtdl:context;2',
      contents: [
        { '@type': 'Property', name: 'temperature', schema: 'double' },
        { '@type': 'Relationship', name: 'adjoins' },
      ],
    },
  ]);
  const ids = [`a-${unique}`, `b-${unique}`];
  for (const id of ids) await client.upsertDigitalTwin(id, JSON.stringify({ $metadata: { $model: model }, temperature: 20 }));
  await client.upsertRelationship(ids[0], 'door', { $relationshipName: 'adjoins', $targetId: ids[1] });
  await client.updateDigitalTwin(ids[1], [{ op: 'replace', path: '/temperature', value: 25 }]);

  const rows = [];
  const query = `SELECT B FROM DIGITALTWINS A JOIN B RELATED A.adjoins WHERE A.$dtId = '${ids[0]}' AND B.temperature > 20`;
  for await (const row of client.queryTwins(query)) rows.push(row);
  assert.deepEqual(rows.map((row) => row.B.$dtId), [ids[1]]);

  await assert.rejects(client.deleteDigitalTwin(ids[0]), { statusCode: 400 });
  await client.deleteRelationship(ids[0], 'door');
  for (const id of ids) await client.deleteDigitalTwin(id);
  await client.deleteModel(model);
});

test('an instance is managed', async () => {
  const endpoint = env('AZURE_RESOURCE_MANAGER_ENDPOINT').replace(/\/$/, '');
  const client = new AzureDigitalTwinsManagementClient(credential, env('AZURE_SUBSCRIPTION_ID'), { endpoint });
  const name = `node${randomUUID().slice(0, 8)}`;
  const group = env('AZURE_RESOURCE_GROUP');
  const made = await client.digitalTwins.beginCreateOrUpdateAndWait(group, name, { location: 'eastus' });
  assert.equal(made.provisioningState, 'Succeeded');
  await client.digitalTwins.beginDeleteAndWait(group, name);
  await assert.rejects(client.digitalTwins.get(group, name), { statusCode: 404 });
});

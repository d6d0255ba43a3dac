// The blob endpoint of the default storage account, through the Node client of storage.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import {
  AccountSASPermissions,
  BlobClient,
  BlobSASPermissions,
  BlobServiceClient,
  ContainerClient,
  ContainerSASPermissions,
  StorageSharedKeyCredential,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
} from '@azure/storage-blob';
import { env } from './environment.mjs';

const service = BlobServiceClient.fromConnectionString(env('AZURE_STORAGE_CONNECTION_STRING'));
const container = service.getContainerClient(`node-${randomUUID()}`);
const HOUR_MS = 3_600_000;
const soon = () => new Date(Date.now() + HOUR_MS);

before(async () => {
  await container.create({ metadata: { made: 'here' } });
});

after(async () => {
  await container.deleteIfExists();
});

test('what is uploaded is downloaded, whole and in ranges', async () => {
  const blob = container.getBlockBlobClient('dev 1/a+b é%.txt');
  const blobHTTPHeaders = { blobContentType: 'text/plain', blobCacheControl: 'no-cache', blobContentLanguage: 'de' };
  const put = await blob.upload('hello world', 11, { blobHTTPHeaders, metadata: { color: 'red' } });
  assert.ok(put.etag && put.lastModified instanceof Date);
  assert.equal((await blob.downloadToBuffer()).toString(), 'hello world');
  const part = await blob.download(6, 3);
  assert.deepEqual([part._response.status, part.contentRange], [206, 'bytes 6-8/11']);
  assert.equal((await buffer(part.readableStreamBody)).toString(), 'wor');
  assert.equal((await blob.downloadToBuffer(8)).toString(), 'rld');
  const properties = await blob.getProperties();
  assert.deepEqual(
    [properties.contentLength, properties.contentType, properties.cacheControl, properties.contentLanguage, properties.metadata],
    [11, 'text/plain', 'no-cache', 'de', { color: 'red' }],
  );
  assert.deepEqual([properties.blobType, properties.etag, properties.leaseState], ['BlockBlob', put.etag, 'available']);

  await blob.setMetadata({ color: 'blue', some_name: '1' });
  await blob.setHTTPHeaders({ blobContentType: 'a/b' });
  const changed = await blob.getProperties();
  assert.deepEqual([changed.metadata, changed.contentType, changed.cacheControl], [{ color: 'blue', some_name: '1' }, 'a/b', undefined]);
  assert.notEqual(changed.etag, put.etag);
  assert.equal((await blob.deleteIfExists()).succeeded, true);
  assert.equal((await blob.deleteIfExists()).succeeded, false);
  assert.equal(await blob.exists(), false);
});

test('an empty blob is one', async () => {
  const blob = container.getBlockBlobClient('empty');
  await blob.upload('', 0);
  assert.equal((await blob.getProperties()).contentLength, 0);
  assert.equal((await buffer((await blob.download()).readableStreamBody)).length, 0);
  await assert.rejects(blob.download(0, 5), { statusCode: 416, code: 'InvalidRange' });
});

test('large data goes in blocks and comes back in parallel ranges', async () => {
  const data = randomBytes(9 * 1024 * 1024 + 77);
  const blob = container.getBlockBlobClient('large');
  const progress = [];
  const onProgress = ({ loadedBytes }) => progress.push(loadedBytes);
  await blob.uploadData(data, { blockSize: 1024 * 1024, maxSingleShotSize: 1024, concurrency: 4, onProgress });
  assert.equal(progress.at(-1), data.length);
  const lists = await blob.getBlockList('all');
  assert.deepEqual([lists.committedBlocks.length, lists.uncommittedBlocks?.length ?? 0], [10, 0]);
  const down = await blob.downloadToBuffer(0, undefined, { blockSize: 1024 * 1024, concurrency: 4 });
  assert.ok(down.equals(data));
});

test('a stream of unknown length is uploaded, and downloaded as one', async () => {
  const data = randomBytes(3 * 1024 * 1024 + 5);
  const parts = Array.from({ length: Math.ceil(data.length / 100_000) }, (_, n) => data.subarray(n * 100_000, (n + 1) * 100_000));
  const blob = container.getBlockBlobClient('stream');
  await blob.uploadStream(Readable.from(parts), 1024 * 1024, 3, { blobHTTPHeaders: { blobContentType: 'x/y' } });
  const down = await blob.download();
  assert.deepEqual([down.contentLength, down.contentType], [data.length, 'x/y']);
  assert.ok((await buffer(down.readableStreamBody)).equals(data));
});

test('blocks wait for their list', async () => {
  const blob = container.getBlockBlobClient('blocks');
  const ids = [0, 1, 2].map((n) => Buffer.from(`block-${n}`).toString('base64'));
  for (const [n, id] of ids.entries()) await blob.stageBlock(id, 'abc'[n], 1);
  assert.equal(await blob.exists(), false);
  assert.equal((await blob.getBlockList('uncommitted')).uncommittedBlocks.length, 3);
  await blob.commitBlockList([ids[2], ids[0]]);
  assert.equal((await blob.downloadToBuffer()).toString(), 'ca');
  await assert.rejects(blob.commitBlockList([ids[1], Buffer.from('block-9').toString('base64')]), { statusCode: 400, code: 'InvalidBlockList' });
  assert.equal((await blob.downloadToBuffer()).toString(), 'ca');
});

test('an append blob grows at its end, where its client believes that to be', async () => {
  const blob = container.getAppendBlobClient('log');
  await blob.create();
  await blob.appendBlock('one\n', 4);
  const told = await blob.appendBlock('two\n', 4, { conditions: { appendPosition: 4 } });
  assert.deepEqual([told.blobAppendOffset, told.blobCommittedBlockCount], ['4', 2]);
  await assert.rejects(blob.appendBlock('x', 1, { conditions: { appendPosition: 4 } }), { statusCode: 412, code: 'AppendPositionConditionNotMet' });
  await assert.rejects(blob.appendBlock('x', 1, { conditions: { maxSize: 8 } }), { statusCode: 412, code: 'MaxBlobSizeConditionNotMet' });
  assert.equal((await blob.downloadToBuffer()).toString(), 'one\ntwo\n');
  const properties = await blob.getProperties();
  assert.deepEqual([properties.blobType, properties.blobCommittedBlockCount], ['AppendBlob', 2]);
  await assert.rejects(container.getAppendBlobClient('nothing').appendBlock('x', 1), { statusCode: 404, code: 'BlobNotFound' });
  const block = container.getBlockBlobClient('no-log');
  await block.upload('x', 1);
  await assert.rejects(container.getAppendBlobClient('no-log').appendBlock('x', 1), { statusCode: 409, code: 'InvalidBlobType' });
});

test('lists have pages, prefixes, folders and metadata', async () => {
  const own = service.getContainerClient(`node-list-${randomUUID()}`);
  await own.create();
  for (const name of ['a/1', 'a/2', 'b&<>"', 'c']) await own.getBlockBlobClient(name).upload(name, name.length, { metadata: { n: '1' } });
  const names = async (blobs) => {
    const all = [];
    for await (const blob of blobs) all.push(blob.kind === 'prefix' ? `${blob.name}…` : blob.name);
    return all;
  };
  assert.deepEqual(await names(own.listBlobsFlat()), ['a/1', 'a/2', 'b&<>"', 'c']);
  assert.deepEqual(await names(own.listBlobsFlat({ prefix: 'a/' })), ['a/1', 'a/2']);
  assert.deepEqual(await names(own.listBlobsByHierarchy('/')), ['a/…', 'b&<>"', 'c']);
  assert.deepEqual(await names(own.listBlobsByHierarchy('/', { prefix: 'a/' })), ['a/1', 'a/2']);

  const pages = own.listBlobsFlat({ includeMetadata: true }).byPage({ maxPageSize: 3 });
  const first = (await pages.next()).value;
  assert.deepEqual([first.segment.blobItems.length, first.segment.blobItems[0].metadata], [3, { n: '1' }]);
  const { continuationToken } = first;
  const rest = (await own.listBlobsFlat().byPage({ maxPageSize: 3, continuationToken }).next()).value;
  assert.deepEqual(rest.segment.blobItems.map((blob) => [blob.name, blob.properties.contentLength]), [['c', 1]]);
  assert.ok(!rest.continuationToken);
  await own.delete();
});

test('containers are made, described, listed and deleted', async () => {
  const name = `node-made-${randomUUID()}`;
  const own = service.getContainerClient(name);
  assert.equal(await own.exists(), false);
  assert.equal((await own.createIfNotExists()).succeeded, true);
  assert.equal((await own.createIfNotExists()).succeeded, false);
  await assert.rejects(own.create(), { statusCode: 409, code: 'ContainerAlreadyExists' });
  await own.setMetadata({ a: '1' });
  const described = await own.getProperties();
  assert.deepEqual(described.metadata, { a: '1' });
  const listed = [];
  for await (const one of service.listContainers({ prefix: name, includeMetadata: true })) listed.push(one);
  assert.deepEqual(listed.map((one) => [one.name, one.metadata]), [[name, { a: '1' }]]);
  assert.equal((await service.getAccountInfo()).accountKind, 'StorageV2');
  assert.ok(await service.getProperties());
  await own.delete();
  await assert.rejects(own.getProperties(), { statusCode: 404 });
  await assert.rejects(own.getBlockBlobClient('x').upload('x', 1), { statusCode: 404, code: 'ContainerNotFound' });
  await assert.rejects(service.getContainerClient('No-Capitals').create(), { statusCode: 400 });
});

test('conditions are held against what is there', async () => {
  const blob = container.getBlockBlobClient('conditions');
  const { etag } = await blob.upload('1', 1, { conditions: { ifNoneMatch: '*' } });
  await assert.rejects(blob.upload('2', 1, { conditions: { ifNoneMatch: '*' } }), { statusCode: 409, code: 'BlobAlreadyExists' });
  const second = await blob.upload('2', 1, { conditions: { ifMatch: etag } });
  await assert.rejects(blob.upload('3', 1, { conditions: { ifMatch: etag } }), { statusCode: 412, code: 'ConditionNotMet' });
  await assert.rejects(blob.setMetadata({ a: '1' }, { conditions: { ifMatch: etag } }), { statusCode: 412 });
  await assert.rejects(blob.delete({ conditions: { ifMatch: etag } }), { statusCode: 412, code: 'ConditionNotMet' });
  await assert.rejects(blob.download(0, undefined, { conditions: { ifNoneMatch: second.etag } }), { statusCode: 304 });
  await assert.rejects(blob.download(0, undefined, { conditions: { ifModifiedSince: soon() } }), { statusCode: 304 });
  await assert.rejects(blob.download(0, undefined, { conditions: { ifUnmodifiedSince: new Date(Date.now() - HOUR_MS) } }), { statusCode: 412 });
  assert.equal((await blob.downloadToBuffer(0, undefined, { conditions: { ifMatch: second.etag } })).toString(), '2');
  await blob.delete({ conditions: { ifMatch: second.etag } });
});

test('a body that is not what its sum says is refused', async () => {
  const blob = container.getBlockBlobClient('sum');
  const transactionalContentMD5 = Buffer.alloc(16);
  const id = Buffer.from('1').toString('base64');
  await assert.rejects(blob.stageBlock(id, 'abc', 3, { transactionalContentMD5 }), { statusCode: 400, code: 'Md5Mismatch' });
  const put = await blob.upload('abc', 3);
  assert.equal(Buffer.from(put.contentMD5).toString('hex'), '900150983cd24fb0d6963f7d28e17f72');
  const down = await blob.download();
  assert.equal(Buffer.from(down.contentMD5).toString('hex'), '900150983cd24fb0d6963f7d28e17f72');
  await buffer(down.readableStreamBody);
});

test('a token of a blob lets do to that blob what it says, for as long as it says', async () => {
  const { credential } = service;
  const blob = container.getBlockBlobClient('secret');
  await blob.upload('secret', 6);
  const at = { containerName: container.containerName, blobName: 'secret' };
  const token = (more) => generateBlobSASQueryParameters({ ...at, permissions: BlobSASPermissions.parse('r'), expiresOn: soon(), ...more }, credential);
  const reader = new BlobClient(`${blob.url}?${token({ contentType: 'told/so', contentDisposition: 'inline' })}`).getBlockBlobClient();
  const down = await reader.download();
  assert.equal((await buffer(down.readableStreamBody)).toString(), 'secret');
  assert.deepEqual([down.contentType, down.contentDisposition], ['told/so', 'inline']);
  await assert.rejects(reader.upload('x', 1), { statusCode: 403, code: 'AuthorizationPermissionMismatch' });
  const another = new BlobClient(`${container.getBlobClient('another').url}?${token({})}`);
  await assert.rejects(another.download(), { statusCode: 403, code: 'AuthenticationFailed' });
  const late = { startsOn: new Date(Date.now() - 2 * HOUR_MS), expiresOn: new Date(Date.now() - HOUR_MS) };
  await assert.rejects(new BlobClient(`${blob.url}?${token(late)}`).download(), { statusCode: 403, code: 'AuthenticationFailed' });
  const elsewhere = { ipRange: { start: '203.0.113.1', end: '203.0.113.9' } };
  await assert.rejects(new BlobClient(`${blob.url}?${token(elsewhere)}`).download(), { statusCode: 403 });

  const writable = await blob.generateSasUrl({ permissions: BlobSASPermissions.parse('cw'), expiresOn: soon() });
  const writer = new BlobClient(writable).getBlockBlobClient();
  await writer.uploadStream(Readable.from([Buffer.from('changed')]));
  await assert.rejects(writer.download(), { statusCode: 403, code: 'AuthorizationPermissionMismatch' });
  assert.equal((await blob.downloadToBuffer()).toString(), 'changed');
});

test('a token of a container lists it, and one that stands on a policy goes with it', async () => {
  await container.getBlockBlobClient('listed').upload('x', 1);
  const lister = new ContainerClient(await container.generateSasUrl({ permissions: ContainerSASPermissions.parse('l'), expiresOn: soon() }));
  const names = [];
  for await (const blob of lister.listBlobsFlat({ prefix: 'listed' })) names.push(blob.name);
  assert.deepEqual(names, ['listed']);
  await assert.rejects(lister.getBlobClient('listed').download(), { statusCode: 403, code: 'AuthorizationPermissionMismatch' });

  const accessPolicy = { startsOn: new Date(Date.now() - HOUR_MS), expiresOn: soon(), permissions: 'r' };
  await container.setAccessPolicy(undefined, [{ id: 'readers', accessPolicy }]);
  const [stored] = (await container.getAccessPolicy()).signedIdentifiers;
  assert.deepEqual([stored.id, stored.accessPolicy.permissions], ['readers', 'r']);
  const reader = new ContainerClient(await container.generateSasUrl({ identifier: 'readers' }));
  assert.equal((await reader.getBlobClient('listed').downloadToBuffer()).toString(), 'x');
  await container.setAccessPolicy(undefined, []);
  await assert.rejects(reader.getBlobClient('listed').download(), { statusCode: 403, code: 'AuthenticationFailed' });
});

test('a token of an account lets do everywhere what it says', async () => {
  const query = (permissions, resourceTypes) => {
    const values = { permissions: AccountSASPermissions.parse(permissions), services: 'b', resourceTypes, expiresOn: soon() };
    return generateAccountSASQueryParameters(values, service.credential);
  };
  const everything = new BlobServiceClient(`${service.url}?${query('rwdlac', 'sco')}`);
  const own = everything.getContainerClient(`node-sas-${randomUUID()}`);
  await own.create();
  await own.getBlockBlobClient('x').upload('x', 1);
  const found = [];
  for await (const one of everything.listContainers({ prefix: own.containerName })) found.push(one.name);
  assert.deepEqual(found, [own.containerName]);
  const objects = new BlobServiceClient(`${service.url}?${query('rwdlac', 'o')}`).getContainerClient(own.containerName);
  assert.equal((await objects.getBlobClient('x').downloadToBuffer()).toString(), 'x');
  await assert.rejects(objects.delete(), { statusCode: 403, code: 'AuthorizationResourceTypeMismatch' });
  await own.delete();
});

test('a wrong key and no key are refused', async () => {
  const wrong = new StorageSharedKeyCredential(service.accountName, randomBytes(64).toString('base64'));
  await assert.rejects(new BlobServiceClient(service.url, wrong).getProperties(), { statusCode: 403, code: 'AuthenticationFailed' });
  await assert.rejects(new BlobServiceClient(service.url).getProperties(), { statusCode: 401, code: 'NoAuthenticationInformation' });
});

test('what is not there yet says so', async () => {
  const blob = container.getBlockBlobClient('later');
  await blob.upload('x', 1);
  await assert.rejects(blob.getBlobLeaseClient().acquireLease(15), { statusCode: 501, code: 'NotImplemented' });
  await assert.rejects(blob.createSnapshot(), { statusCode: 501, code: 'NotImplemented' });
  await assert.rejects(blob.setAccessTier('Cool'), { statusCode: 501, code: 'NotImplemented' });
});

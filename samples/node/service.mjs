// The other side: waits for a device, sets its target, sees it reported, calls `stop`.
//   IOTHUB_CONNECTION_STRING=… NODE_EXTRA_CA_CERTS=… node service.mjs DEVICE
import iothub from 'azure-iothub';

const SECONDS_MAX = 30;
const deviceId = process.argv[2];
const registry = iothub.Registry.fromConnectionString(process.env.IOTHUB_CONNECTION_STRING);
const service = iothub.Client.fromConnectionString(process.env.IOTHUB_CONNECTION_STRING);

async function waitUntil(what, isSo) {
  const deadline = Date.now() + SECONDS_MAX * 1000;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`${deviceId}: not ${what} after ${SECONDS_MAX} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  console.log(what);
}

const device = async () => (await registry.get(deviceId)).responseBody;
const twin = async () => (await registry.getTwin(deviceId)).responseBody;

await waitUntil('connected', async () => (await device()).connectionState === 'Connected');
await registry.updateTwin(deviceId, { properties: { desired: { target: 20 } } }, '*');
await waitUntil('reported', async () => (await twin()).properties.reported.target === 20);
const method = { methodName: 'stop', payload: { in: 0 }, responseTimeoutInSeconds: 10, connectTimeoutInSeconds: 10 };
const { result } = await service.invokeDeviceMethod(deviceId, method);
console.log('stop:', result.status, result.payload);

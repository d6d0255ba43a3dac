// `cargo xtask conform` starts the server and gives us everything that `twinhub env` prints.
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';

export function env(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this through \`cargo xtask conform\``);
  return value;
}

function twinhub(...command) {
  const all = [...command, '--data-dir', env('TWINHUB_DATA_DIR')];
  return execFileSync(env('CONFORM_BINARY'), all, { encoding: 'utf8', timeout: 60_000, maxBuffer: 64 * 1024 * 1024 });
}

// What a device or module sent, from the hub's event stream, through the command a user would run.
export function telemetry(deviceId) {
  const lines = twinhub('events', '--from', 'earliest', '--json').split('\n').filter((line) => line);
  return lines.map((line) => JSON.parse(line)).filter((row) => row.deviceId === deviceId && row.source === 'Telemetry');
}

// A cloud-to-device message, sent by the command a user would run.
export function sendTo(deviceId, ...options) {
  twinhub('device', 'send', deviceId, '--to-device', ...options);
}

// The hub's REST API by the connection string of a back end.
export async function service(method, path) {
  const parts = Object.fromEntries(env('IOTHUB_CONNECTION_STRING').split(';').map((part) => part.split(/=(.*)/s)));
  const resource = encodeURIComponent(parts.HostName);
  const expiry = Math.floor(Date.now() / 1000) + 600;
  const signature = createHmac('sha256', Buffer.from(parts.SharedAccessKey, 'base64')).update(`${resource}\n${expiry}`).digest('base64');
  const token = `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}&skn=${parts.SharedAccessKeyName}`;
  return fetch(`https://${parts.HostName}${path}?api-version=2021-04-12`, { method, headers: { authorization: token } });
}

// Everything that waits at a service-bound endpoint: feedback, or notifications of files.
export async function told(endpoint) {
  const path = `/messages/serviceBound/${endpoint}`;
  const all = [];
  for (;;) {
    const answer = await service('GET', path);
    if (answer.status === 204) return all;
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status}`);
    all.push(await answer.json());
    const settled = await service('DELETE', `${path}/${answer.headers.get('iothub-messagelocktoken')}`);
    if (settled.status !== 204) throw new Error(`${path}: settling: ${settled.status}`);
  }
}

// A thermostat: sends a message, follows its target, and ends when the method `stop` is called.
//   IOTHUB_DEVICE_CONNECTION_STRING=… NODE_EXTRA_CA_CERTS=… node device.mjs
import device from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';

const client = device.Client.fromConnectionString(process.env.IOTHUB_DEVICE_CONNECTION_STRING, Mqtt);
await client.open();

client.onDeviceMethod('stop', (request, response) => {
  console.log('method:', request.methodName, request.payload);
  response.send(200, { stopped: true }, () => client.close());
});

const twin = await client.getTwin();
twin.on('properties.desired', (desired) => {
  console.log('desired:', desired);
  if (desired.target === undefined) return;
  twin.properties.reported.update({ target: desired.target }, (error) => {
    if (error) throw error;
  });
});

const message = new device.Message(JSON.stringify({ temperature: 21.5 }));
message.contentType = 'application/json';
message.contentEncoding = 'utf-8';
await client.sendEvent(message);
console.log('sent');

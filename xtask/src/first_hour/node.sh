# Somebody with Node and what npm has.
cp "$ROOT"/samples/node/*.mjs .
npm install --silent --no-audit --no-fund azure-iot-device azure-iot-device-mqtt azure-iothub
reached "the packages are installed"
serve
eval "$(twinhub env)"
export IOTHUB_DEVICE_CONNECTION_STRING="$(twinhub device create thermostat --json | jq -r .connectionString)"
reached "a device is made"
node device.mjs & device=$!
until seen; do sleep 0.05; done
reached "its message is seen"
node service.mjs thermostat
wait $device
reached "its twin is followed and a method is answered"

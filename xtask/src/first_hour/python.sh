# Somebody with Python 3 and what PyPI has.
python3 -m venv venv
venv/bin/pip install --quiet azure-iot-device azure-iot-hub six
reached "the packages are installed"
serve
eval "$(twinhub env)"
export IOTHUB_DEVICE_CONNECTION_STRING="$(twinhub device create thermostat --json | jq -r .connectionString)"
reached "a device is made"
venv/bin/python "$ROOT/samples/python/device.py" & device=$!
until seen; do sleep 0.05; done
reached "its message is seen"
venv/bin/python "$ROOT/samples/python/service.py" thermostat
wait $device
reached "its twin is followed and a method is answered"

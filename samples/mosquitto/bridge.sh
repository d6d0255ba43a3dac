#!/usr/bin/env bash
# A broker on this machine that is one device of the hub: what local clients publish below hub/ goes out as the device, and what the hub
# asks of the device comes in there.
#   bridge.sh DEVICE FOLDER [PORT]     writes FOLDER/bridge.conf; start it with mosquitto -c FOLDER/bridge.conf
set -euo pipefail
device="$1" folder="$2" port="${3:-1883}"
made="$(twinhub env --format json)"
value() { jq -r ".$1" <<<"$made"; }
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
# A broker that root starts goes on as the user mosquitto, who reads nothing in the data directory.
install -m 644 "$(value TWINHUB_CA_FILE)" "$folder/ca.pem"
cat >"$folder/bridge.conf" <<END
listener $port 127.0.0.1
allow_anonymous true
log_type error
log_type warning
connection hub
address $(value IOTHUB_HOSTNAME):$(value TWINHUB_MQTT_PORT)
bridge_cafile $folder/ca.pem
bridge_protocol_version mqttv311
remote_clientid $device
remote_username $(value IOTHUB_HOSTNAME)/$device/?api-version=2021-04-12
remote_password $(twinhub device sas "$device" --ttl 86400)
# What the hub takes for a protocol of its own is not for it.
try_private false
notifications false
cleansession true
topic messages/events/# out 1 hub/ devices/$device/
topic messages/devicebound/# in 1 hub/ devices/$device/
topic twin/GET/# out 0 hub/ \$iothub/
topic twin/PATCH/properties/reported/# out 0 hub/ \$iothub/
topic methods/res/# out 0 hub/ \$iothub/
topic twin/res/# in 0 hub/ \$iothub/
topic twin/PATCH/properties/desired/# in 1 hub/ \$iothub/
topic methods/POST/# in 1 hub/ \$iothub/
END
chmod 600 "$folder/bridge.conf"

# Somebody with Debian's mosquitto, mosquitto-clients and jq, and no SDK.
serve
twinhub device create thermostat >made.txt
reached "a device is made"

# The line that `device create` prints, as it is.
bash -euo pipefail -c "$(grep --max-count 1 --only-matching 'mosquitto_pub .*' made.txt)"
seen
reached "its message is seen"

port=$((20000 + $$ % 20000))
bash "$ROOT/samples/mosquitto/bridge.sh" thermostat bridge "$port"
mosquitto -c bridge/bridge.conf & broker=$!
until mosquitto_pub -p "$port" -t hello -n 2>/dev/null; do sleep 0.05; done
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if mosquitto_rr -p "$port" -W 2 -e 'hub/twin/res/200/?$rid=1' -t 'hub/twin/GET/?$rid=1' -n >twin.json; then break; fi
done
jq --exit-status .desired twin.json
reached "its twin is read"

mosquitto_sub -p "$port" -t 'hub/methods/POST/#' -q 1 -C 1 -W 30 -F '%t' >asked.txt & answerer=$!
( wait_for() { while [ ! -s asked.txt ]; do sleep 0.05; done; }
  wait_for
  mosquitto_pub -p "$port" -t "hub/methods/res/200/?\$rid=$(sed 's/.*rid=//' asked.txt)" -m '{"rebooted":true}' ) & reply=$!
sleep 0.5
twinhub device invoke thermostat reboot --connect-timeout 20
wait $answerer $reply
reached "a method is answered"
kill $broker
wait $broker || true

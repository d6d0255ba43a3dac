# Somebody who installs the package for others, in a root of its own above this machine's (OVERLAY is the folder for it): dpkg, the
# service, a backup, back from it, the next version in place. DEB and NEXT_DEB are the packages.
if [ -z "${INSIDE:-}" ]; then
  mkdir -p above
  INSIDE=yes exec unshare --mount bash -c "$(declare -f reached serve); set -euo pipefail; $SCRIPT"
fi
# The upper layer lies in memory: an overlay above an overlay cannot be.
mount -t tmpfs tmpfs above
mkdir above/upper above/work above/all
mount -t overlay overlay -o "lowerdir=/,upperdir=$PWD/above/upper,workdir=$PWD/above/work" above/all
mount -t proc proc above/all/proc
mount --rbind /dev above/all/dev
cp "$DEB" above/all/tmp/twinhub.deb
cp "$NEXT_DEB" above/all/tmp/next.deb
inside=(chroot "$PWD/above/all" /usr/bin/env --unset TWINHUB_DATA_DIR PATH=/usr/sbin:/usr/bin:/sbin:/bin)
within() { "${inside[@]}" "$@"; }

within dpkg --install /tmp/twinhub.deb
reached "the package is installed"

# The unit's own command, as its user, with its capability: systemd does not run in here.
command="$(within sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/twinhub.service)"
within sed -i 's/^# listen = .*/listen = "'"$LISTEN"'"/' /etc/twinhub/twinhub.toml
start() {
  # shellcheck disable=SC2086
  "${inside[@]}" setpriv --reuid twinhub --regid twinhub --clear-groups --inh-caps -all,+net_bind_service \
    --ambient-caps -all,+net_bind_service --bounding-set -all,+net_bind_service $command "$@" >>serve.log 2>&1 &
  server=$!
}
stop() { kill "$server"; wait "$server"; }
trap 'kill "$server" 2>/dev/null || true' EXIT
start
within twinhub wait --data-dir /var/lib/twinhub
reached "the service's command serves"
within twinhub device create thermostat --data-dir /var/lib/twinhub --json >made.json
within twinhub device send thermostat --data-dir /var/lib/twinhub
within twinhub events --data-dir /var/lib/twinhub | grep Telemetry >/dev/null
reached "a message is seen"

within twinhub backup /tmp/backup.tar --data-dir /var/lib/twinhub
reached "a backup is made"
stop
within mv /var/lib/twinhub /var/lib/twinhub.lost
within install --directory --mode 0711 --owner twinhub --group twinhub /var/lib/twinhub
within chown twinhub /tmp/backup.tar
within setpriv --reuid twinhub --regid twinhub --clear-groups twinhub restore /tmp/backup.tar --data-dir /var/lib/twinhub
start
within twinhub wait --data-dir /var/lib/twinhub
[ "$(within twinhub device keys thermostat --data-dir /var/lib/twinhub --json | jq -r .primaryKey)" = "$(jq -r .primaryKey made.json)" ]
reached "it goes on from the backup, with the same keys"

within dpkg --install /tmp/next.deb
stop
start
within twinhub wait --data-dir /var/lib/twinhub
within twinhub device show thermostat --data-dir /var/lib/twinhub >/dev/null
within grep --quiet "^listen = \"$LISTEN\"" /etc/twinhub/twinhub.toml
reached "the next version serves the same data with the same settings"
stop
within dpkg --remove twinhub
within test -f /var/lib/twinhub/records.db
within dpkg --purge twinhub
within test ! -e /var/lib/twinhub
reached "removing keeps the data, purging does not"

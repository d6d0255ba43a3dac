# Before every person's script: a folder of its own is the current one, LISTEN is the server's address, ROOT the checkout.
set -euo pipefail

# What has been reached; the one who plays notes the time.
reached() { echo "@@ $*"; }

serve() {
  export TWINHUB_DATA_DIR="$PWD/data"
  twinhub serve --listen "$LISTEN" >serve.log 2>&1 &
  server=$!
  trap 'kill "$server" 2>/dev/null; wait "$server" || true' EXIT
  twinhub wait
  reached "the server is ready"
}

# Not --quiet: who leaves a pipe early has the one before fail.
seen() { twinhub events "$@" | grep Telemetry >/dev/null; }

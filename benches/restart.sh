#!/usr/bin/env bash
# How soon is a queen ready who was killed under load, on a file of some size?
# usage: benches/restart.sh [MINUTES of filling; about 0.5 GB each] [ROUNDS]
# With KEEP=FILE the file is made once and used again.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-7}
rounds=${2:-5}
cargo build --release --quiet --workspace --bins
work=$(mktemp -d)
database=${KEEP:-$work/queen.db}
queen=
load=
trap 'kill $queen $load 2>/dev/null || true; wait; rm -rf "$work"' EXIT

now_ms() { date +%s%3N; }
# Waits until she is ready; says how long it took from the start of the program.
start() {
  local begun
  begun=$(now_ms)
  target/release/queen --db "$database" --bind 127.0.0.1:0 --local-hive=false --disk-budget 100GiB \
    "$@" >"$work/out" 2>>"$work/log" &
  queen=$!
  until grep -qs "listens on" "$work/out"; do
    kill -0 $queen || { cat "$work/log"; exit 1; }
    sleep 0.002
  done
  url=$(sed -n 's/.*listens on //p' "$work/out")
  until [ "$(curl -s -o /dev/null -w '%{http_code}' "$url/readyz")" = 200 ]; do sleep 0.002; done
  took=$(($(now_ms) - begun))
}
# In the program's own place, so that it can be ended by its number.
simulate() {
  exec target/release/hive-agent simulate --queen "$url" --hives 200 --workers 32 --quiet "$@" \
    >"$work/report" 2>>"$work/log"
}

if [ ! -e "$database" ]; then
  start --durability normal --seal-after 5s
  (simulate --start -8h --flat-out --duration "${minutes}m")
  kill $queen
  wait $queen || true
fi
start
printf 'file                 %d MB, %d worker-seconds\n' "$(($(stat -c %s "$database") / 1000000))" \
  "$(sqlite3 "$database" 'select sum(samples) from blocks')"
printf 'ready                %d ms after a stop in order\n' "$took"
for _ in $(seq "$rounds"); do
  simulate --hive-prefix live &
  load=$!
  sleep 8
  kill -9 $queen
  wait $queen 2>/dev/null || true
  kill $load
  wait $load || true
  log=$(stat -c %s "$database-wal")
  # Nothing of the file is in memory after a power cut.
  for file in "$database" "$database-wal"; do
    dd if="$file" iflag=nocache count=0 status=none
  done
  start
  printf 'ready                %d ms after kill -9, with a log of %d MB\n' "$took" $((log / 1000000))
done

#!/usr/bin/env bash
# How many heartbeats a second does the queen take, and how soon does she acknowledge them?
# usage: benches/ingest.sh [SECONDS] [further options of `hive-agent simulate`]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
shift || true
cargo build --release --quiet
work=$(mktemp -d)
target/release/queen --db "$work/queen.db" --bind 127.0.0.1:0 --local-hive=false >"$work/out" 2>"$work/log" &
queen=$!
trap 'kill $queen 2>/dev/null; wait $queen 2>/dev/null; rm -rf "$work"' EXIT
until grep -q "listens on" "$work/out"; do
  kill -0 $queen || { cat "$work/log"; exit 1; }
  sleep 0.05
done
url=$(sed -n 's/.*listens on //p' "$work/out")
target/release/hive-agent simulate --queen "$url" --hives 100 --workers 16 --flat-out \
  --duration "${seconds}s" --quiet "$@"
ticks=$(awk '{print $14 + $15}' "/proc/$queen/stat")
awk -v t="$ticks" -v hz="$(getconf CLK_TCK)" 'BEGIN {printf "queen cpu       %.1f s\n", t / hz}'
awk '/VmHWM/ {printf "queen memory    %.0f MiB at most\n", $2 / 1024}' "/proc/$queen/status"
sqlite3 "$work/queen.db" "
  select printf('blocks          %d sealed with %d samples', count(*), ifnull(sum(samples), 0)) from blocks;
  select printf('bytes           %.1f for a sealed worker-sample', sum(pgsize) * 1.0 / (select sum(samples) from blocks))
    from dbstat where name = 'samples' having (select count(*) from blocks) > 0;"

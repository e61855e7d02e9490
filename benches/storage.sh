#!/usr/bin/env bash
# What does one second of one worker take on disk, sealed, with its sums by minute?
# usage: benches/storage.sh [MINUTES] [further options of `hive-agent simulate`]
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-30}
shift || true
cargo build --release --quiet
work=$(mktemp -d)
queen=
trap '[ -z "$queen" ] || kill $queen 2>/dev/null; wait; rm -rf "$work"' EXIT

start() {
  target/release/queen --db "$work/queen.db" --bind 127.0.0.1:0 --local-hive=false "$@" \
    >"$work/out" 2>"$work/log" &
  queen=$!
  until grep -q "collector" "$work/out"; do
    kill -0 $queen || { cat "$work/log"; exit 1; }
    sleep 0.05
  done
}
stop() { kill $queen; wait $queen; queen=; }
ask() { sqlite3 "$work/queen.db" ".timeout 10000" "$1"; }

# A past at one reading a second, made up as fast as it is acknowledged.
start
url=$(sed -n 's/.*listens on //p' "$work/out")
target/release/hive-agent simulate --queen "$url" --hives 100 --workers 16 --gpus 8 \
  --start "-${minutes}m" --flat-out --quiet "$@"
stop
start --seal-after 1s
for _ in $(seq 600); do
  [ "$(ask 'select count(*) from heartbeats_live')" != 0 ] || break
  sleep 0.5
done
# Stopped, the log is written back into the file.
stop
echo "worker-seconds  $(ask 'select sum(samples) from blocks')"
ask "
  with part(name, bytes) as (
    select name, sum(pgsize) from dbstat group by name
  ), total(samples) as (select sum(samples) from blocks)
  select printf('%7.1f  bytes a worker-second in %s', bytes * 1.0 / samples, name)
    from part, total where bytes * 1.0 / samples >= 0.05 order by bytes desc;
  select printf('%7.1f  bytes a worker-second in all', (page_count - freelist_count) * page_size * 1.0
                / (select sum(samples) from blocks))
    from pragma_page_count, pragma_freelist_count, pragma_page_size;"
# The same readings with every figure there, fractional and changing, in rows as far on as those of
# a year of 1,000 workers.
ask "
  attach '$work/fractional.db' as fractional;
  $(ask "select sql from sqlite_master where name = 'samples'" | sed 's/CREATE TABLE /create table fractional./');
  insert into fractional.samples
  select row + 31536000000000, abs(random() % 400000), -abs(random() % 32000000),
         abs(random() % 500000), abs(random() % 500000), -abs(random() % 864000000),
         -abs(random() % 100000), -abs(random() % 80000000), abs(random() % 100),
         abs(random() % 100), abs(random() % 100000), gpus
    from samples order by row;
  select printf('%7.1f  bytes a worker-second in samples, all fractional', sum(pgsize) * 1.0
                / (select count(*) from fractional.samples))
    from dbstat('fractional') where name = 'samples';"

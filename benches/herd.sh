#!/usr/bin/env bash
# A fleet of agents comes back at once after an outage: how soon have all caught up, how late is
# what they measure meanwhile, and is anything missing?
# usage: benches/herd.sh [AGENTS] [OUTAGE in s] [INTERVAL] [further options of `hive-agent simulate`]
# Every agent is the real spool and the real delivery. An hour of 20 agents at one reading a second,
# accelerated twenty times: benches/herd.sh 20 180 50ms
set -euo pipefail
cd "$(dirname "$0")/.."
agents=${1:-1000}
outage=${2:-120}
interval=${3:-1s}
shift $(($# < 3 ? $# : 3))
# Agents come back up to 30 s after the queen does.
after=60
cargo build --release --quiet --workspace --bins
# The agents' disks are not the queen's: theirs are in memory.
spools=$(mktemp -d -p /dev/shm)
work=$(mktemp -d)
queen=
fleet=
trap 'kill $queen $fleet 2>/dev/null || true; wait; rm -rf "$work" "$spools"' EXIT

start() {
  target/release/queen --db "$work/queen.db" --bind "$1" --local-hive=false >"$work/out" 2>>"$work/log" &
  queen=$!
  until grep -qs "listens on" "$work/out"; do
    kill -0 $queen || { cat "$work/log"; exit 1; }
    sleep 0.01
  done
  url=$(sed -n 's/.*listens on //p' "$work/out")
}
ask() { sqlite3 -cmd ".timeout 10000" "$work/queen.db" "$1"; }

start 127.0.0.1:0
HIVE_AGENT_LOG=error target/release/hive-agent simulate --queen "$url" --hives "$agents" --workers 4 --interval "$interval" \
  --duration $((10 + outage + after))s --spool-dir "$spools" --quiet --json "$@" >"$work/report" &
fleet=$!
sleep 10
kill -9 $queen
wait $queen 2>/dev/null || true
sleep "$outage"
back=$(date +%s%3N)
start "${url#http://}"
while kill -0 $fleet 2>/dev/null; do
  sleep 1
  refused=$(curl -s "$url/metrics" | awk '
    /^queen_heartbeat_requests_rejected_total.*(queue_full|storage_unavailable)/ {n += $2} END {print n + 0}')
done
wait $fleet || true
memory=$(awk '/VmHWM/ {printf "%.0f", $2 / 1024}' "/proc/$queen/status")
figure() { sqlite3 :memory: "select readfile('$work/report') ->> '$1'"; }
made=$(figure $.kept.made)
printf 'agents               %s, away for %s s, one reading each %s\n' "$agents" "$outage" "$interval"
printf 'made                 %s heartbeats; %s still wait, %s dropped, %s refused\n' "$made" \
  "$(figure $.kept.waiting)" "$(figure $.kept.dropped)" "$(figure $.kept.refused)"
# An id is the moment of receipt in µs.
ask "
  create temp table h as select hive, ts_ms, id / 1000 as ms from hive_heartbeats;
  create temp table back as select hive, min(ms) as ms from h where ms >= $back group by hive;
  select printf('stored               %d, of which %d twice, %d missing', count(*),
    count(*) - (select count(*) from (select distinct hive, ts_ms from h)),
    $made - (select count(*) from (select distinct hive, ts_ms from h))) from h;
  select printf('back                 the first after %.1f s, half after %.1f s, the last after %.1f s',
    (min(ms) - $back) / 1e3, (select ms - $back from back order by ms limit 1 offset $agents / 2) / 1e3,
    (max(ms) - $back) / 1e3) from back;
  select printf('busiest second       %d agents came back', max(n))
    from (select count(*) as n from back group by (ms - $back) / 1000);
  select printf('all caught up        after %.1f s', (max(h.ms) - $back) / 1e3)
    from h join back using (hive) where h.ts_ms < back.ms - 1000;
  select printf('a new heartbeat      came after %.0f ms on average, %d ms at most', avg(h.ms - ts_ms),
    max(h.ms - ts_ms)) from h join back using (hive) where ts_ms >= back.ms;"
printf 'refused for load     %s requests\n' "${refused:-?}"
printf 'queen memory         %s MiB at most\n' "$memory"

#!/usr/bin/env bash
# Does who watches for hours see everything once, whatever happens to the queen meanwhile?
# usage: [BIN=DIR] benches/watch.sh [MINUTES] [HIVES]
# A fleet with the agents' own spools posts each second. The queen, who seals every five seconds, is
# stopped 24 times in between, in turn by SIGTERM and by kill -9, and stays away for up to ten seconds.
# Four subscribers go on where they were, as an EventSource does: one that only loses its connection
# with the queen, one whose connection is cut every few seconds, one that stands still for so long
# that it is given up, and one that watches a single hive. In the end each must have seen exactly
# what the history has: nothing missing, nothing twice, nothing else, nothing told in another way.
# Fails otherwise. BIN is a directory with queen and hive-agent, built before.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-60}
hives=${2:-30}
[ "${BIN:-}" ] || cargo build --release --quiet --workspace --bins
bin=${BIN:-target/release}
work=$(mktemp -d)
queen=
fleet=
others=()
trap 'touch "$work/over"; kill $fleet $queen "${others[@]}" $(cat "$work"/*.pid) 2>/dev/null || true; wait; rm -rf "$work"' EXIT

start() {
  rm -f "$work/out"
  "$bin/queen" --db "$work/queen.db" --bind "$1" --local-hive=false --seal-after 5s \
    --retention-raw $((minutes * 60 + 600))s --disk-budget 10GiB --min-free-disk 0B >"$work/out" 2>>"$work/log" &
  queen=$!
  until grep -qs "listens on" "$work/out"; do
    kill -0 $queen || { cat "$work/log"; exit 1; }
    sleep 0.01
  done
  url=$(sed -n 's/.*listens on //p' "$work/out")
}
ask() { sqlite3 -cmd ".timeout 10000" "$work/queen.db" "$1"; }

# What was dispatched: only a frame with its blank line counts, as the standard says.
# id, event, hive, time, late or not
dispatched() {
  awk -v id="$2" '
    /^id: / {id = substr($0, 5)}
    /^event: / {event = substr($0, 8)}
    /^data: / {data = $0}
    /^$/ && data != "" {
      if (event != "heartbeat" || data ~ /^data: \{"type":"hive_telemetry"/) {
        hive = time = ""
        if (match(data, /"hive_id":"[^"]*"/)) hive = substr(data, RSTART + 11, RLENGTH - 12)
        if (match(data, /"timestamp":"[^"]*"/)) time = substr(data, RSTART + 13, RLENGTH - 14)
        print id "\t" event "\t" hive "\t" time "\t" (data ~ /"backfill":true\}$/)
      }
      event = data = ""
    }' "$work/$1.frames"
}
# A subscriber: its name, how long a connection lasts at most, and what it chooses.
watch() {
  local name=$1 lasts=$2 chosen=$3 last=0
  printf '0\tfirst\t\t\t\n' >"$work/$name.seen"
  while [ ! -e "$work/over" ]; do
    curl -sN --max-time "$lasts" -H "Last-Event-ID: $last" -o "$work/$name.frames" \
      "$url/v1/heartbeats/stream?backfill=true$chosen" &
    echo $! >"$work/$name.pid"
    wait $! || true
    if [ -s "$work/$name.frames" ]; then
      dispatched "$name" "$last" >>"$work/$name.seen"
      rm "$work/$name.frames"
      last=$(tail -n 1 "$work/$name.seen" | cut -f 1)
    fi
    sleep 0.5
  done
}

start 127.0.0.1:0
watch steady 86400 '' &
others+=($!)
watch restless 7 '' &
others+=($!)
watch halting 86400 '' &
others+=($!)
watch one 13 '&hive=sim-0001' &
others+=($!)
# Longer than a client is waited for.
while sleep 20; do
  pid=$(cat "$work/halting.pid")
  kill -STOP "$pid" || continue
  sleep 40
  kill -CONT "$pid" || true
done 2>/dev/null &
others+=($!)
mkdir "$work/spools"
HIVE_AGENT_LOG=error "$bin/hive-agent" simulate --queen "$url" --hives "$hives" --workers 4 \
  --spool-dir "$work/spools" --duration $((minutes * 60))s --quiet --json >"$work/report" &
fleet=$!

for ((round = 1; round < 25; round++)); do
  sleep $((minutes * 60 / 25))
  kill $([ $((round % 2)) = 1 ] && echo -TERM || echo -9) $queen
  wait $queen 2>/dev/null || true
  sleep $((RANDOM % 10))
  start "${url#http://}"
done
wait $fleet || true

# The last frames are on their way to those that are connected, and for the others soon.
last=$(ask "select max(id) from hive_heartbeats")
for _ in $(seq 120); do
  sleep 1
  behind=
  for name in steady restless halting; do
    grep -qs "^\(id: \)\?$last\b" "$work/$name.frames" "$work/$name.seen" || behind=$name
  done
  [ "$behind" ] || break
done
touch "$work/over"
kill $(cat "$work"/*.pid) 2>/dev/null || true
kill "${others[4]}"
wait "${others[@]}" || true
kill $queen
wait $queen || true

code=0
figure() { sqlite3 :memory: "select readfile('$work/report') ->> '$1'"; }
made=$(figure $.kept.made)
waiting=$(figure $.kept.waiting)
stored=$(ask "select count(*) from hive_heartbeats")
printf 'made       %s heartbeats of %s hives in %s min; %s wait\n' "$made" "$hives" "$minutes" "$waiting"
printf 'stored     %s, and %s events\n' "$stored" "$(ask 'select count(*) from events')"
[ "$stored" = $((made - waiting)) ] || { echo "LOST OR DOUBLED"; code=1; }
for name in steady restless halting one; do
  chosen=$([ $name = one ] && echo "hive = 'sim-0001'" || echo 1)
  found=$(sqlite3 "$work/queen.db" -cmd ".timeout 10000" -cmd ".mode tabs" \
    -cmd "create temp table seen (id int, event text, hive text, time text, late int)" \
    -cmd "create temp table steady (id int, event text, hive text, time text, late int)" \
    -cmd ".import $work/$name.seen seen" -cmd ".import $work/steady.seen steady" "
    create temp table there as
      select id, 'heartbeat' as event, hive, ts_ms from hive_heartbeats where $chosen union all
      select event, 'lifecycle', (select id from hives where hives.hive = events.hive), ts from events
       where (select id from hives where hives.hive = events.hive) is null or
             (select id from hives where hives.hive = events.hive) in (select hive from hive_heartbeats where $chosen);
    create temp table came as
      select id, event, hive, cast(round((julianday(time) - 2440587.5) * 86400000) as int) as ts_ms from seen
       where event in ('heartbeat', 'lifecycle');
    select (select count(*) from came),
           (select count(*) from (select * from there except select * from came)),
           (select count(*) - count(distinct id) from came),
           (select count(*) from (select * from came except select * from there)),
           (select count(*) from seen where event = 'gap'),
           (select count(*) from seen join steady using (id) where seen.late <> steady.late);")
  read -r came missing twice other gaps otherwise <<<"$found"
  printf '%-10s %s seen; %s missing, %s twice, %s not in the history, %s gaps, %s told as late to one only\n' \
    "$name" "$came" "$missing" "$twice" "$other" "$gaps" "$otherwise"
  [ "$missing$twice$other$gaps$otherwise" = 00000 ] || { echo "NOT WHAT IS THERE"; code=1; }
done
grep -v INFO "$work/log" | tail -5 || true
exit $code

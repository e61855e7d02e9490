#!/usr/bin/env bash
# Everything at once for a while: does memory or a number of open files grow, and is anything lost?
# usage: benches/soak.sh [MINUTES] [HIVES]
# The queen seals every five seconds; a fleet with the agents' own spools posts each second, an agent
# measures this machine, streams are read, some of them badly, questions are asked, and the queen
# is stopped for a second now and then, and once for a minute. The disk's budget is less than all of it
# takes, so that the oldest readings go in the end; sums stay, by which all are counted.
# Fails where anything else is lost, or something grows. Ten minutes say something, a night says more.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-10}
hives=${2:-200}
profile=${PROFILE:-release}
cargo build --quiet --workspace --bins $([ "$profile" = release ] && echo --release)
bin=target/$profile
work=$(mktemp -d)
queen=
agent=
fleet=
others=()
trap 'kill $fleet $agent "${others[@]}" 2>/dev/null || true; kill $queen 2>/dev/null || true; wait; rm -rf "$work"' EXIT

"$bin/queen" --db "$work/queen.db" --bind 127.0.0.1:0 --local-hive=false --seal-after 5s \
  --disk-budget "$((hives * minutes * 48000))B" --min-free-disk 0B >"$work/out" 2>"$work/log" &
queen=$!
until grep -qs "listens on" "$work/out"; do
  kill -0 $queen || { cat "$work/log"; exit 1; }
  sleep 0.05
done
url=$(sed -n 's/.*listens on //p' "$work/out")
mkdir "$work/spool" "$work/spools"
"$bin/hive-agent" run --queen "$url" --hive-id here --spool-dir "$work/spool" 2>"$work/agent" &
agent=$!
HIVE_AGENT_LOG=error "$bin/hive-agent" simulate --queen "$url" --hives "$hives" --workers 8 --spool-dir "$work/spools" \
  --duration "$((minutes * 60))s" --quiet --json >"$work/report" &
fleet=$!

# Streams: some that read, some that take nothing and are given up.
for _ in 1 2 3 4; do
  while sleep 1; do curl -sN --max-time 60 "$url/v1/heartbeats/stream?since=-5s" | wc -c >>"$work/streamed" || true; done &
  others+=($!)
done
while sleep 1; do timeout 45 curl -sN --limit-rate 1 "$url/v1/heartbeats/stream" >/dev/null || true; done &
others+=($!)
# Questions, and who comes and goes. None looks back further than to the end of the warming up.
while sleep 0.5; do
  for path in 'v1/workers?state=any' 'v1/history/query?metric=gpu_util_pct&start=-2m&group_by=model' \
    'v1/history/query?metric=cpu_pct&start=-1m&agg=p95' v1/hives metrics v1/models \
    'v1/history/events?start=-2m' 'v1/history/export?start=-3s&format=ndjson' no/such/path; do
    curl -s -o /dev/null --max-time 30 "$url/$path" || true
  done
  curl -s -o /dev/null "$url/v1/route" -H 'content-type: application/json' -d '{"model": "x", "idle_only": false}'
  curl -s -o /dev/null "$url/v1/hive-heartbeat" -H 'content-type: application/json' -d '{"hive": {"id": "/"}}'
done &
others+=($!)
# Pauses: one of a minute, while all is warming up, and then of a second.
for ((n = 1; ; n++)); do sleep 47; kill -STOP $queen; sleep $((n == 1 ? 60 : 1)); kill -CONT $queen; done &
others+=($!)

# Of memory, what is a process's own: readers map the file, and that is the kernel's to take back.
look() {
  printf '%s %s %s %s %s\n' "$(date +%s)" "$(awk '/RssAnon/ {print $2}' "/proc/$queen/status")" \
    "$(ls "/proc/$queen/fd" | wc -l)" "$(awk '/RssAnon/ {print $2}' "/proc/$agent/status")" \
    "$(ls "/proc/$agent/fd" | wc -l)"
}
while kill -0 $fleet 2>/dev/null; do
  look >>"$work/looks"
  sleep 2
done
code=0
wait $fleet || code=1
ask() { sqlite3 -cmd ".timeout 10000" "$work/queen.db" "$1"; }
# At once: from now on they are silent.
offline=$(ask "select count(*) from events where kind = 'hive_offline'")
kill "${others[@]}" 2>/dev/null || true
others=()
figure() { sqlite3 :memory: "select readfile('$work/report') ->> '$1'"; }
made=$(figure $.kept.made)
taken=$((made - $(figure $.kept.waiting)))
kill $agent
wait $agent || true
agent=
# How many heartbeats the sums by minute are of. Each says how much memory its machine uses.
sums() {
  curl -sG "$url/v1/history/query" -d metric=node_memory_used_mb -d agg=count -d across=sum -d group_by= \
    -d step=1m -d "start=-$((minutes + 30))m" -d format=rows "$@" >"$work/sums"
  sqlite3 :memory: "select cast(total(value ->> 'value') as integer) from json_each(readfile('$work/sums'))"
}
summed=$(sums --data-urlencode 'match=hive=~sim-.*')
twice=$(ask "select count(*) - count(distinct hive || ' ' || ts_ms) from hive_heartbeats")
# Of one moment: while it is counted, more may go.
kept=$(ask "select (select count(*) from hive_heartbeats), (select total(heartbeats) from blocks where raw <> 1)")
gone=${kept#*|}
gone=${gone%.0}
kept=${kept%|*}
told=$(ask "select count(*) from events where kind = 'history_dropped'")
printf 'made                 %s heartbeats; %s wait, %s dropped, %s refused\n' "$made" \
  "$(figure $.kept.waiting)" "$(figure $.kept.dropped)" "$(figure $.kept.refused)"
printf 'in the sums          %s\n' "$summed"
printf 'single ones          %s are there, %s of them twice; %s went for want of disk, in %s blocks\n' \
  "$kept" "$twice" "$gone" "$told"
[ "$summed" = "$taken" ] || { echo "LOST OR DOUBLED"; code=1; }
[ "$twice" = 0 ] || { echo "DOUBLED"; code=1; }
[ "$((kept + gone))" = "$(sums)" ] || { echo "LOST OR DOUBLED AMONG THE SINGLE ONES"; code=1; }
[ "$told" -gt 0 ] && [ "$gone" -gt 0 ] || { echo "NOTHING WENT: the budget is too large for this test"; code=1; }
[ "$(figure $.kept.dropped)$(figure $.kept.refused)" = 00 ] || { echo "DROPPED OR REFUSED"; code=1; }
printf 'hives gone           %s\n' "$offline"
[ "$offline" = 0 ] || { echo "A FALSE ALARM"; code=1; }
# The first two fifths are for warming up: in ten minutes, the pause and what was left of it. Then
# the first and the last third of the rest may differ by a fifth, since what else the machine does
# shows too, and by 4 MiB or 8 files where that is more.
awk '
  {for (i = 2; i <= 5; i++) seen[NR, i] = $i}
  END {
    from = int(NR * 2 / 5); third = int((NR - from) / 3)
    split("x queen_kB queen_files agent_kB agent_files", name, " ")
    for (i = 2; i <= 5; i++) {
      a = b = 0
      for (n = 1; n <= third; n++) {a += seen[from + n, i]; b += seen[NR - third + n, i]}
      a /= third; b /= third
      slack = a / 5; least = i % 2 ? 8 : 4096
      if (slack < least) slack = least
      grows = b - a > slack
      printf "%-20s %.0f at first, %.0f at last%s\n", name[i], a, b, grows ? "  GROWS" : ""
      if (grows) failed = 1
    }
    exit failed
  }' "$work/looks" || code=1
# Sixteen thousand pages may be free beside what is used.
size=$(stat -c %s "$work/queen.db")
printf 'file                 %s MB, of %s MB that it may take\n' $((size / 1000000)) $((hives * minutes * 48000 / 1000000))
[ "$size" -lt $((hives * minutes * 48000 * 11 / 10 + 67108864)) ] || { echo "THE FILE GROWS"; code=1; }
grep -v -e INFO -e "for want of disk" "$work/log" | tail -5 || true
exit $code

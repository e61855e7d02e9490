#!/usr/bin/env bash
# How many heartbeats a second does the queen take, and how soon does she acknowledge them, as fast
# as they can be sent, at half that rate, and while she seals all the time?
# usage: benches/ingest.sh [SECONDS of each part] [further options of `hive-agent simulate`]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-15}
shift || true
hives=100
cargo build --release --quiet --workspace --bins
work=$(mktemp -d)
queen=
stop() { [ -z "$queen" ] || { kill "$queen" 2>/dev/null; wait "$queen" 2>/dev/null; } || true; }
trap 'stop; rm -rf "$work"' EXIT
# A queen with an empty file: start NAME [options].
start() {
  database="$work/$1.db"
  shift
  target/release/queen --db "$database" --bind 127.0.0.1:0 --local-hive=false "$@" \
    >"$work/out" 2>"$work/log" &
  queen=$!
  until grep -qs "listens on" "$work/out"; do
    kill -0 $queen || { cat "$work/log"; exit 1; }
    sleep 0.05
  done
  url=$(sed -n 's/.*listens on //p' "$work/out")
}

cpu_ms() { awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) * 1000 / hz}' "/proc/$queen/stat"; }
# One figure of the last report.
figure() { sqlite3 :memory: "select readfile('$work/report') ->> '$1'"; }

part() {
  printf '%s\n' "$1"
  shift
  local before
  before=$(cpu_ms)
  target/release/hive-agent simulate --queen "$url" --hives $hives --workers 16 \
    --duration "${seconds}s" --quiet --json "$@" >"$work/report"
  printf '  heartbeats/s         %.0f\n' "$(figure $.heartbeats_per_s)"
  printf '  worker-samples/s     %.0f\n' "$(figure $.worker_samples_per_s)"
  printf '  ack latency ms       p50 %.2f  p99 %.2f  max %.1f\n' "$(figure $.latency_ms.p50)" \
    "$(figure $.latency_ms.p99)" "$(figure $.latency_ms.max)"
  printf '  ticks skipped        %s\n' "$(figure $.ticks_skipped)"
  printf '  refused or failed    %s %s\n' "$(figure $.refusals)" "$(figure $.failures)"
  printf '  queen cpu            %.1f s\n' "$(awk -v a="$before" -v b="$(cpu_ms)" 'BEGIN {print (b - a) / 1000}')"
}

start usual
part "as fast as they are acknowledged" --flat-out "$@"
interval=$(awk -v hives=$hives -v rate="$(figure $.heartbeats_per_s)" \
  'BEGIN {printf "%dms", hives / (rate / 2) * 1000 + 0.5}')
part "at half that rate" --interval "$interval" "$@"
awk '/VmHWM/ {printf "queen memory           %.0f MiB at most\n", $2 / 1024}' "/proc/$queen/status"
stop

# Usually a minute is sealed in one go; here it never ends.
start sealing --seal-after 2s
part "as fast as they are acknowledged, and sealed after two seconds" --flat-out "$@"
live=$(curl -s "$url/metrics" | awk '$1 == "queen_live_samples" {print $2}')
sqlite3 "$database" "
  select printf('  sealed so far        %d samples, %d to go', ifnull(sum(samples), 0), $live) from blocks"

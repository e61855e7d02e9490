#!/usr/bin/env bash
# What does the agent cost the machine that it measures, at one reading a second?
# usage: [GPUS=8] [CHURN=0] [BUSY=0] benches/agent.sh [WORKERS] [SECONDS] [further options of `hive-agent run`]
# Where prometheus-node-exporter is installed, it is scraped beside it for comparison. CHURN is the
# number of workers killed and started again every second. Every ten minutes, or a sixth of the time
# if that is less, a line says how large the agent is, so that growth shows.
# As root: every worker is a cgroup with three processes that sleep; with BUSY=1 two of them wake up
# ten times a second, since a worker in which nobody runs costs less. The GPUs are played by the
# tests' library in NVIDIA's place: the cost of a real driver's calls comes on top.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=${1:-100}
seconds=${2:-60}
shift $(($# < 2 ? $# : 2))
gpus=${GPUS:-8}
churn=${CHURN:-0}
process='sleep infinity'
[ "${BUSY:-0}" = 0 ] || process='perl -e "select undef, undef, undef, 0.1 while 1"'
restarts=0
cargo build --release --quiet --workspace --bins
cargo build --release --quiet -p fake-nvml
work=$(mktemp -d)
cp target/release/libfake_nvml.so "$work/nvml.so"
root=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)/hive-agent-bench-$$
mkdir "$root"
queen=
agent=
exporter=
clean() {
  kill $agent $queen $exporter 2>/dev/null || true
  echo 1 >"$root/cgroup.kill"
  wait
  # The kernel lets go of dead processes' cgroups in its own time.
  for _ in {1..100}; do
    find "$root" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.05
  done
  rm -rf "$work"
}
trap clean EXIT

target/release/queen --db "$work/queen.db" --bind 127.0.0.1:0 --local-hive=false \
  >"$work/out" 2>"$work/log" &
queen=$!
until grep -qs "listens on" "$work/out"; do
  kill -0 $queen || { cat "$work/log"; exit 1; }
  sleep 0.05
done
url=$(sed -n 's/.*listens on //p' "$work/out")

start() {
  target/release/hive-agent spawn --cgroup-root "$root" --group llm --instance "$1" -- \
    sh -c "$process & $process & wait" worker --model "model-$1" 2>/dev/null &
}
for instance in $(seq "$workers"); do
  start "$instance"
done
until [ "$(cat "$root"/rbee.slice/llm/*/cgroup.procs 2>/dev/null | wc -l)" -eq $((workers * 3)) ]; do
  sleep 0.1
done

# Every process of worker N sits on GPU N modulo GPUS, works 5 % of the time and holds 1 GiB.
# A cgroup can vanish while it is read.
gpu_processes() {
  { grep -H . "$root"/rbee.slice/llm/*/cgroup.procs 2>/dev/null || true; } | sed 's,^.*/\([0-9]*\)/cgroup.procs:,\1 ,'
}
tell_gpus() {
  gpu_processes | awk -v gpus="$gpus" '
    { list = compute[$1 % gpus]; comma = list == "" ? "" : ","
      compute[$1 % gpus] = list comma sprintf("{\"pid\":%d,\"mb\":1024}", $2)
      samples[$1 % gpus] = samples[$1 % gpus] comma sprintf("{\"pid\":%d,\"sm_pct\":5}", $2) }
    END { printf "{\"driver_version\":\"580.82.07\",\"gpus\":["
      for (gpu = 0; gpu < gpus; gpu++)
        printf "%s{\"uuid\":\"GPU-%032d\",\"name\":\"NVIDIA H100 80GB HBM3\",\"util_pct\":50," \
          "\"used_mb\":40960,\"total_mb\":81559,\"temperature_c\":54,\"power_mw\":310500," \
          "\"ecc_errors\":0,\"recovery\":0,\"compute\":[%s],\"samples\":[%s]}", \
          gpu ? "," : "", gpu, compute[gpu], samples[gpu]
      print "]}" }' >"$work/nvml.next"
  mv "$work/nvml.next" "$work/nvml.json"
}
tell_gpus

target/release/hive-agent run --queen "$url" --cgroup-root "$root" --hive-id bench \
  --nvml-library "$work/nvml.so" "$@" \
  2>"$work/agent" &
agent=$!
# Command lines are read again until a process is ten seconds old.
sleep 12
# The agent's threads come and go; a process's sum keeps what they used.
cpu_ns() { awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); printf "%.0f", ($12 + $13) / hz * 1e9}' "/proc/$1/stat"; }
thread_ns() { awk '{print $1}' "$(dirname "$(grep -lx hive-collector /proc/$agent/task/*/comm)")/schedstat"; }
memory() { awk -v key="$1:" '$1 == key {printf "%.1f MiB", $2 / 1024}' "/proc/${2:-$agent}/status"; }
files() { ls "/proc/$agent/fd" | wc -l; }
exporter=
if command -v prometheus-node-exporter >/dev/null; then
  prometheus-node-exporter --web.listen-address=127.0.0.1:19100 2>"$work/exporter" &
  exporter=$!
fi
before=$(cpu_ns $agent)
collector_before=$(thread_ns)
exporter_before=${exporter:+$(cpu_ns $exporter)}
from=$(date +%s%N)
step=$((seconds < 3600 ? (seconds + 5) / 6 : 600))
last=$before
printf 'after  resident    its own     files  cpu of a core since\n'
for second in $(seq "$seconds"); do
  [ -z "$exporter" ] || curl -s 127.0.0.1:19100/metrics >/dev/null
  for _ in $(seq "$churn"); do
    instance=$((++restarts % workers + 1))
    { echo 1 >"$root/rbee.slice/llm/$instance/cgroup.kill"; } 2>/dev/null || true
    # Its name is free when its cgroup is gone.
    for _ in {1..200}; do
      [ -d "$root/rbee.slice/llm/$instance" ] || break
      sleep 0.01
    done
    start "$instance"
  done
  [ "$churn" -eq 0 ] || tell_gpus
  # Readings once a second, however long all this takes.
  left=$((from + second * 1000000000 - $(date +%s%N)))
  [ "$left" -le 0 ] || sleep "$(printf '%d.%09d' $((left / 1000000000)) $((left % 1000000000)))"
  if [ $((second % step)) -eq 0 ]; then
    now=$(cpu_ns $agent)
    printf '%5s s %9s %10s %9s  %s\n' "$second" "$(memory VmRSS)" "$(memory RssAnon)" "$(files)" \
      "$(awk -v cpu=$((now - last)) -v step="$step" 'BEGIN {printf "%.2f %%", cpu / step / 1e7}')"
    last=$now
  fi
done
after=$(cpu_ns $agent)
collector_after=$(thread_ns)
exporter_after=${exporter:+$(cpu_ns $exporter)}
to=$(date +%s%N)
printf 'workers              %s of 3 processes (%s), on %s GPUs, %s restarted every second\n' \
  "$workers" "${process%% *}" "$gpus" "$churn"
awk -v cpu=$((after - before)) -v time=$((to - from)) \
  'BEGIN {printf "agent cpu            %.2f %% of a core\n", cpu / time * 100}'
awk -v cpu=$((collector_after - collector_before)) -v seconds="$seconds" \
  'BEGIN {printf "collection           %.2f ms of CPU a tick, without the GPUs\n", cpu / seconds / 1e6}'
printf 'agent resident       %s, of which %s its own\n' "$(memory VmRSS)" "$(memory RssAnon)"
if [ -n "$exporter" ]; then
  awk -v cpu=$((exporter_after - exporter_before)) -v time=$((to - from)) -v memory="$(memory VmRSS $exporter)" \
    'BEGIN {printf "node exporter        %.2f %% of a core, %s, scraped every second; it knows no worker\n", cpu / time * 100, memory}'
fi
printf 'agent files          %s\n' "$(files)"
awk '/^Name/ {name = $2} /^voluntary/ {print "wakeups of thread    " name, $2}' \
  /proc/$agent/task/*/status
sqlite3 "$work/queen.db" "select 'with GPU figures     ' || count(vram_mb) || ' of ' || count(*)
  || ' worker-seconds' from history"
sqlite3 "$work/queen.db" "select 'heartbeats           ' || count(*) || ', ' || min(workers)
  || ' workers in the smallest' from (select count(*) as workers from history group by ts_ms)"
sqlite3 "$work/queen.db" "select printf('it says of itself    %.2f %% of a core, %.2f ms a collection by'
  || ' the clock, %d errors', avg(agent_cpu_pct), avg(collect_ms), sum(json_array_length(errors)))
  from hive_heartbeats"

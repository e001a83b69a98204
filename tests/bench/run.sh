#!/usr/bin/env bash
# The benchmark: builds what it needs once, then measures. `make bench` runs this.
# usage: run.sh [RUNS]      RUNS of each program, 5 where none are given
#
#   STILLFRAME_BENCH_DIR    the bench root's folder; target/bench where unset. Building it needs root, 3 GiB and minutes.
#   BENCH_WRITE=1           writes the table into docs/benchmarks.md
#
# Nothing else should run on the machine meanwhile: the times are wall times.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
bench=${STILLFRAME_BENCH_DIR:-$target/bench}

if [ ! -f "$bench/.done" ]; then
  [ "$(id -u)" = 0 ] || { echo 'error: the bench root is built as root' >&2
    echo 'hint: run this once as root, or set STILLFRAME_BENCH_DIR to a folder where it lies' >&2; exit 1; }
  echo "building the bench root in $bench"
  tests/setup.sh bench
  bash fixtures/recipes/bench-root.sh "$bench"
fi
tests/setup.sh peers
tests/venv.sh "$target/bench-venv" tests/bench/requirements.txt
cargo build --release --locked --package stillframe-scanner --package stillframe-fake-aws
cargo build --release --locked --package stillframe-channel --example channel_rate

missed=0
python3 tests/bench/measure.py --bench "$bench" --work "$target/bench-work" --runs "${1:-5}" \
  --stillframe "$target/release/stillframe" --trivy "$target/bench-venv/bin/trivy" \
  --channel-rate "$target/release/examples/channel_rate" ${BENCH_WRITE:+--write docs/benchmarks.md} || missed=1
python3 tests/bench/measure_ebs.py --bench "$bench" --work "$target/bench-work" --runs "${1:-5}" \
  --stillframe "$target/release/stillframe" --trivy "$target/bench-venv/bin/trivy" \
  --fake "$target/release/fake-aws" ${BENCH_WRITE:+--write docs/benchmarks.md} || missed=1
exit "$missed"

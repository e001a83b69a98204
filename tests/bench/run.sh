#!/usr/bin/env bash
# The benchmark: builds what it needs once, then measures. `make bench` runs this.
# usage: run.sh [RUNS [PART]...]      RUNS of each program, 5 where none are given; the parts images, readers and ebs, or all
#
#   STILLFRAME_BENCH_DIR    the bench root's folder; target/bench where unset. Building it needs root, 3 GiB and minutes.
#   BENCH_WRITE=1           writes the tables into docs/benchmarks.md
#   BENCH_NTFS=1            builds the tree on NTFS, too, for the `ntfs` crate: minutes
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
runs=${1:-5}
[ $# -gt 0 ] && shift
parts=("$@")
[ $# -gt 0 ] || parts=(images readers ebs)
wants() { case " ${parts[*]} " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

tests/setup.sh peers
tests/venv.sh "$target/bench-venv" tests/bench/requirements.txt
cargo build --release --locked --package stillframe-scanner --package stillframe-fake-aws
cargo build --release --locked --package stillframe-channel --example channel_rate
cargo build --release --locked --package stillframe-tree-rate

missed=0
if wants images; then
  python3 tests/bench/measure.py --bench "$bench" --work "$target/bench-work" --runs "$runs" \
    --stillframe "$target/release/stillframe" --trivy "$target/bench-venv/bin/trivy" \
    --channel-rate "$target/release/examples/channel_rate" ${BENCH_WRITE:+--write docs/benchmarks.md} || missed=1
fi
if wants readers; then
  bash tests/bench/images.sh "$bench"
  python3 tests/bench/measure_readers.py --bench "$bench" --work "$target/bench-work" --runs "$runs" \
    --tree-rate "$target/release/tree_rate" --stillframe "$target/release/stillframe" \
    ${BENCH_WRITE:+--write docs/benchmarks.md} || missed=1
fi
if wants ebs; then
  python3 tests/bench/measure_ebs.py --bench "$bench" --work "$target/bench-work" --runs "$runs" \
    --stillframe "$target/release/stillframe" --trivy "$target/bench-venv/bin/trivy" \
    --fake "$target/release/fake-aws" ${BENCH_WRITE:+--write docs/benchmarks.md} || missed=1
fi
exit "$missed"

#!/usr/bin/env bash
# Runs fuzz targets with cargo-fuzz, each for a while, and says what each came to.
# usage: run.sh [SECONDS [TARGET...]]      600 seconds and all targets of filesystems where none are given
#
#   STILLFRAME_FUZZ_DIR   where corpora and crashes go; target/fuzz where unset
#
# The pinned compiler is the stable one: RUSTC_BOOTSTRAP lets it take the flags that cargo-fuzz gives it. Without the
# address sanitizer: no crate of ours has unsafe code, and it would take most of the memory that is watched here.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-600}
[ $# -gt 0 ] && shift
targets=("$@")
[ $# -gt 0 ] || targets=(ext xfs btrfs ntfs exfat squashfs iso9660)
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
where=${STILLFRAME_FUZZ_DIR:-$target/fuzz}
export CARGO_TARGET_DIR=$target/fuzz-build RUSTC_BOOTSTRAP=1

command -v cargo-fuzz >/dev/null || { echo 'error: cargo-fuzz is not installed' >&2
  echo 'hint: cargo install cargo-fuzz --locked' >&2; exit 1; }

# One input for each golden disk, and for each way of treating checksums: the fuzzer finds the rest from there.
seeds() {
  local folder=$1 golden depth
  mkdir -p "$folder"
  for golden in $(seq 0 31); do
    for depth in 0 1 3; do
      printf "$(printf '\\x%02x\\x%02x' "$golden" "$depth")" > "$folder/seed-$golden-$depth"
      head -c 64 /dev/urandom >> "$folder/seed-$golden-$depth"
    done
  done
}

failed=0
for name in "${targets[@]}"; do
  corpus=$where/corpus/$name found=$where/artifacts/$name
  [ -d "$corpus" ] || seeds "$corpus"
  mkdir -p "$found"
  log=$where/$name.log
  options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -malloc_limit_mb=256 -max_len=514
    -artifact_prefix="$found/" -print_final_stats=1 -verbosity=1)
  if cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$name" "$corpus" -- "${options[@]}" > "$log" 2>&1; then
    result='no finding'
  else
    result="FAILED: $(grep -m1 -oE 'panicked at .*|ERROR: libFuzzer: .*|error: .*|error\[.*' "$log" || echo 'see the log')"
    failed=1
  fi
  # Lines of the fuzzer: `#1234 DONE cov: 5 ft: 6 …`, `stat::number_of_executed_units: 1234`.
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 || true)
  peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  echo "$name: ${seconds} s, ${runs:-no} runs, ${edges:-no coverage}, ${peak:-?} MiB: $result"
done
exit "$failed"

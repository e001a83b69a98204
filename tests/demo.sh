#!/usr/bin/env bash
# Unpacks two of the golden disks and scans them. `make demo` runs this.
# usage: demo.sh TARGET      the folder that the program was built in
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: demo.sh TARGET}
demo=$target/demo
mkdir -p "$demo"
PATH=$(cd "$target" && pwd)/release:$PATH
# The key of fingerprints is made on first use; the demo's stays in the demo.
XDG_STATE_HOME=$(cd "$demo" && pwd)/state
export XDG_STATE_HOME

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
[ -t 1 ] || bold='' plain=''
run() {
  local code=0
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  "$@" || code=$?
  # 2 says that something could not be read, and the report says what.
  [ "$code" = 0 ] || [ "$code" = 2 ] || exit "$code"
}

for name in debian-gpt-ext4 amazon-shape; do
  zstd --decompress --sparse --quiet --force "fixtures/golden/$name.img.zst" -o "$demo/$name.img"
done

echo 'Two disks, as clouds ship them: Debian on ext4, and Amazon Linux on XFS. Nothing is mounted.'
run stillframe layout "$demo/debian-gpt-ext4.img"
run stillframe scan image "$demo/debian-gpt-ext4.img"
run stillframe scan image "$demo/amazon-shape.img"

cat <<TEXT

${bold}Try next${plain}
  export PATH=$(cd "$target" && pwd)/release:\$PATH
  stillframe scan image --list-packages $demo/debian-gpt-ext4.img
  stillframe scan image --format json --output report.json $demo/amazon-shape.img
  stillframe scan image --format cyclonedx $demo/amazon-shape.img
  stillframe files --hash sha256 $demo/debian-gpt-ext4.img
  stillframe scan image YOUR-DISK.img
The exit code is 0 where all was read, 1 where --fail-on says so, and 2 where something was not read.
TEXT

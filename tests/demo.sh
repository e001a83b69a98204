#!/usr/bin/env bash
# The whole job on this machine: a fake of AWS with one running instance of two disks, snapshotted, read, reported and
# purged. `make demo` runs this.
# usage: demo.sh TARGET      the folder that the programs were built in
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(cd "${1:?usage: demo.sh TARGET}" && pwd)
demo=$target/demo
mkdir -p "$demo"
PATH=$target/release:$PATH
# The state store, the audit log and the key of fingerprints stay in the demo.
export XDG_STATE_HOME=$demo/state

for name in debian-gpt-ext4 btrfs-zstd; do
  zstd --decompress --sparse --quiet --force "fixtures/golden/$name.img.zst" -o "$demo/$name.img"
done
# In that cloud the program may do what its own policy allows, and nothing else.
policy=$(stillframe aws policy --quiet --region us-east-1)
cat > "$demo/world.json" <<JSON
{
  "accounts": [{"id": "111111111111", "policy": $policy}],
  "volumes": [
    {"id": "vol-0d1540fa11ba5e001", "size_gib": 8, "content": {"image": "debian-gpt-ext4.img"}},
    {"id": "vol-0d1540fa11ba5e002", "size_gib": 100, "content": {"image": "btrfs-zstd.img"}}
  ],
  "instances": [
    {"id": "i-0d1540fa11ba5e0f0", "tags": {"Name": "web-1"}, "devices": [
      {"name": "/dev/xvda", "volume": "vol-0d1540fa11ba5e001"},
      {"name": "/dev/sdf", "volume": "vol-0d1540fa11ba5e002"}]},
    {"id": "i-0d1540fa11ba5e0f1", "tags": {"Name": "web-2"}, "state": "stopped"}
  ],
  "settings": {"snapshot_delay_ms": 3000, "latency_ms": 20}
}
JSON

# It answers on loopback alone, as EC2, EBS and STS do; the credentials open nothing anywhere.
coproc FAKE { exec fake-aws --world "$demo/world.json"; }
trap 'kill "$FAKE_PID" 2>/dev/null || true' EXIT
read -r url <&"${FAKE[0]}"
export AWS_ENDPOINT_URL=$url AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo
export AWS_EC2_METADATA_DISABLED=true

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
[ -t 1 ] || bold='' plain=''
say() { printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"; }
fail() {
  printf '\ndemo: %s\n' "$*" >&2
  exit 1
}
# Everything on the fixture's disks can be read, so that anything but 0 is a fault.
run() {
  say "$@"
  "$@" || fail "\`$*\` ended with $?"
}

echo 'A cloud on this machine, with one running instance of two disks: Debian on ext4, and data on btrfs.'
run stillframe instances
run stillframe scan instance i-0d1540fa11ba5e0f0
say stillframe snapshots list
left=$(stillframe snapshots list) || fail 'the snapshots could not be listed'
printf '%s\n' "$left"
[ "$left" = 'us-east-1: no snapshots of stillframe' ] || fail 'a snapshot is left'
stillframe aws audit > /dev/null || fail 'the audit log does not hold together'

cat <<TEXT

${bold}Try next${plain}
  export PATH=$target/release:\$PATH
  stillframe scan image --list-packages $demo/debian-gpt-ext4.img
  stillframe scan image --format cyclonedx $demo/debian-gpt-ext4.img
  stillframe files --hash sha256 $demo/btrfs-zstd.img
  stillframe aws policy                                     what your account must allow, and no more
  stillframe scan instance i-… --dry-run                    in your own account and region
The exit code is 0 where all was read, 1 where --fail-on says so, and 2 where something was not read.
TEXT

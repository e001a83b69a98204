#!/usr/bin/env bash
# Builds what the benchmark of the readers needs beside the bench root: the same tree on other filesystems, and disks of a
# million entries. Does nothing where all of it is there. Needs root.
# usage: images.sh DIR       the folder that fixtures/recipes/bench-root.sh made
#
#   BENCH_NTFS=1   the tree on NTFS, too: ntfs-3g takes minutes to write it
set -euo pipefail
dir=${1:?usage: images.sh DIR}
mounted=$(mktemp -d)
trap 'umount -q "$mounted" 2>/dev/null || true; rmdir "$mounted"' EXIT

# Makes DIR/NAME.img: an empty disk of SIZE, a filesystem by the command that follows, and what `fill` puts on it.
image() {
  local name=$1 size=$2 fill=$3
  shift 3
  [ -f "$dir/$name.img" ] && return
  echo "building $name.img"
  rm -f "$dir/$name.part"
  truncate -s "$size" "$dir/$name.part"
  "$@" "$dir/$name.part" >/dev/null
  case $name in
    ntfs) ntfs-3g "$dir/$name.part" "$mounted" ;;
    *) mount -o loop "$dir/$name.part" "$mounted" ;;
  esac
  "$fill"
  umount "$mounted"
  mv "$dir/$name.part" "$dir/$name.img"
}

tree() {
  cp -a "$dir/root/." "$mounted/"
}

# 1,000 folders, in each of them 999 files; every tenth has content.
million() {
  python3 - "$mounted" <<'PYTHON'
import os, sys
for folder in range(1000):
    path = os.path.join(sys.argv[1], f"folder-{folder:03}")
    os.mkdir(path)
    place = os.open(path, os.O_RDONLY)
    for name in range(999):
        file = os.open(f"file-{name:03}.txt", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=place)
        if name % 10 == 0:
            os.write(file, b"some content\n")
        os.close(file)
    os.close(place)
PYTHON
}

image xfs 8G tree mkfs.xfs -q -L root
image btrfs 8G tree mkfs.btrfs -q -L root
[ -z "${BENCH_NTFS:-}" ] || image ntfs 8G tree mkntfs -F -Q -q
image million-ext4 8G million mkfs.ext4 -q -F -N 1100000
image million-xfs 8G million mkfs.xfs -q

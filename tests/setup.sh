#!/usr/bin/env bash
# Installs what the tests, the fixture recipes, the benchmark or the demo need. Does nothing where all of it is there.
# usage: setup.sh [tests|recipes|bench|peers|demo]...      without arguments: tests
#
# On Debian and its relatives it installs by apt-get, as root or by sudo. Elsewhere it says what is missing and ends
# with 1. Package names are those of Debian 12.
set -euo pipefail

# Where administrators' tools lie is not in every user's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# PROGRAM PACKAGE: the tests make disks with these, or ask them what is on one. A path in place of a program is a file.
tests='
  cc              gcc
  /usr/include/stdio.h libc6-dev
  mke2fs          e2fsprogs
  mkfs.xfs        xfsprogs
  mkfs.btrfs      btrfs-progs
  mkfs.ntfs       ntfs-3g
  mkfs.fat        dosfstools
  mformat         mtools
  mkfs.exfat      exfatprogs
  mkfs.minix      util-linux
  sgdisk          gdisk
  sfdisk          fdisk
  pvcreate        lvm2
  mdadm           mdadm
  cryptsetup      cryptsetup-bin
  grub-mkimage    grub-common
  /usr/lib/grub/i386-pc/biosdisk.mod grub-pc-bin
  mksquashfs      squashfs-tools
  genisoimage     genisoimage
  mkfs.erofs      erofs-utils
  mkfs.f2fs       f2fs-tools
  dpkg-query      dpkg
  rpmbuild        rpm
  sqlite3         sqlite3
  db5.3_load      db5.3-util
  gpg             gpg
  gpg-agent       gpg-agent
  xz              xz-utils
  gzip            gzip
  bzip2           bzip2
  zstd            zstd
  eatmydata       eatmydata
  python3         python3
  python3-venv    python3-venv
'

# The recipes build what the tests make, and more of it.
recipes="$tests"'
  mmdebstrap      mmdebstrap
  unshare         util-linux
  mount           mount
  perl            perl
  setfattr        attr
  setfacl         acl
  setcap          libcap2-bin
  linux.uml       user-mode-linux
  openssl         openssl
  xorriso         xorriso
  mount.exfat-fuse exfat-fuse
'

# What the bench root is built with.
bench='
  mmdebstrap      mmdebstrap
  sgdisk          gdisk
  mkfs.vfat       dosfstools
  mkfs.ext4       e2fsprogs
  mount           mount
  python3         python3
  pip3            python3-pip
  npm             npm
'

# What it is measured with.
peers='
  python3         python3
  python3-venv    python3-venv
  fls             sleuthkit
  sfdisk          fdisk
  mkfs.ext4       e2fsprogs
  mkfs.xfs        xfsprogs
  mkfs.btrfs      btrfs-progs
  mkntfs          ntfs-3g
  mount           mount
  strace          strace
  /usr/bin/time   time
'

demo='
  zstd            zstd
'

is_there() {
  case $1 in
    # Debian packages this part of Python apart; a Python from elsewhere has it.
    python3-venv) python3 -c 'import ensurepip' 2>/dev/null ;;
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# The packages of what is not there, each once.
missing_of() {
  while read -r program package; do
    [ -z "$program" ] || is_there "$program" || echo "$package"
  done | sort -u
}

missing=$(
  for purpose in "${@:-tests}"; do
    case $purpose in
      tests) echo "$tests" ;;
      recipes) echo "$recipes" ;;
      bench) echo "$bench" ;;
      peers) echo "$peers" ;;
      demo) echo "$demo" ;;
      *) echo "error: setup.sh does not know '$purpose'" >&2; exit 1 ;;
    esac
  done | missing_of
)
[ -n "$missing" ] || exit 0
list=$(echo "$missing" | paste -sd ' ')

as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo)
  # Nobody is there to type a password.
  [ -t 0 ] || as_root=(sudo -n)
fi
cannot() {
  printf 'error: %s\nhint: install what these Debian packages have: %s\n' "$1" "$list" >&2
  exit 1
}
command -v apt-get >/dev/null || cannot 'tools are missing, and there is no apt-get here to install them'
[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || cannot 'tools are missing, and you are neither root nor have sudo'

echo "installing: $list"
# No questions, no mail server for mdadm, no boot loader for grub.
install() {
  # shellcheck disable=SC2086  # a list of words
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --quiet --no-install-recommends $list </dev/null >/dev/null
}
# The package lists of a new machine are empty or old. Where they are good there is nothing to wait for; where one of
# several archives cannot be reached, the others may do.
install 2>/dev/null || {
  "${as_root[@]}" apt-get update --quiet --quiet </dev/null || true
  install || cannot 'apt-get could not install what is missing'
}

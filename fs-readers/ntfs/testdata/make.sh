#!/bin/sh
# Makes files.img.zst and scattered-mft.img.zst, and beside each what ntfs-3g says is on it: path, kind, links, mtime in
# seconds, size, SHA-256 of the content (of a link: its target). Streams are rows path:stream.
# Needs root, FUSE, ntfs-3g, attr, openssl, psmisc and zstd. Usage: make.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'umount "$work/mnt" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/mnt"

format() { # name, size, cluster bytes
    image="$work/$1.img"
    truncate -s "$2" "$image"
    mkntfs -q -F -c "$3" -L "$1" -p 0 -s 512 -H 1 -S 1 "$image" 2>/dev/null
}

mounted() {
    ntfs-3g -o compression,special_files=wsl,streams_interface=windows "$image" "$work/mnt"
}

unmounted() {
    sync
    umount "$work/mnt"
    # ntfs-3g leaves the mount before it has written all.
    while fuser -s "$image" 2>/dev/null; do sleep 0.1; done
}

listed() { # name
    mounted
    (
        cd "$work/mnt"
        find . -mindepth 1 -printf '%P\t%y\t%n\t%Ts\n' | LC_ALL=C sort | while IFS="$(printf '\t')" read -r path kind links mtime; do
            case $kind in
            f) printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$path" "$kind" "$links" "$mtime" "$(stat -c %s "$path")" "$(sha256sum <"$path" | cut -d' ' -f1)" ;;
            l)
                # The mount translates what is below; what the disk has is what is set here.
                case $path in
                junction | symlink) target='\??\C:\a' ;;
                wof | dedup) target=unsupported ;;
                *) target=$(readlink "$path") ;;
                esac
                printf '%s\t%s\t%s\t%s\t-\t%s\n' "$path" "$kind" "$links" "$mtime" "$target"
                ;;
            *) printf '%s\t%s\t%s\t%s\t-\t-\n' "$path" "$kind" "$links" "$mtime" ;;
            esac
        done
        for stream in ${streams:-}; do
            printf '%s\ts\t-\t-\t%s\t%s\n' "$stream" "$(stat -c %s "$stream" 2>/dev/null || wc -c <"$stream")" "$(sha256sum <"$stream" | cut -d' ' -f1)"
        done
    ) >"$here/$1.tsv"
    unmounted
    zstd -q -19 -f "$image" -o "$here/$1.img.zst"
}

noise() { # bytes, seed: the same bytes on every run
    openssl enc -aes-128-ctr -nosalt -pass "pass:$2" -pbkdf2 </dev/zero 2>/dev/null | head -c "$1"
}

format files 6M 4096
mounted
cd "$work/mnt"
printf 'resident\n' >resident
: >empty
seq 1 3000 >clusters
mkdir -p a/b/c "long"
printf 'deep\n' >a/b/c/deep
ln clusters a/hardlink
printf 'x' >'Ünïcode ☃ 😀.txt'
printf 'lone surrogate' >"$(printf 'lone \355\240\275 surrogate')"
printf 'long name' >"long/$(printf '%0250d' 7).name"
printf 'has a DOS name' >'A name with spaces.text'
setfattr -n system.ntfs_dos_name -v 'ANAME~1.TEX' 'A name with spaces.text'
# Two holes, data at the start, in the middle and at the end.
printf 'start' >sparse
printf 'middle' | dd of=sparse bs=1 seek=200000 conv=notrunc status=none
printf 'end' | dd of=sparse bs=1 seek=600000 conv=notrunc status=none
# More data runs than one file record holds.
index=0
while [ $index -lt 450 ]; do
    printf 'piece %d' $index | dd of=scattered bs=4096 seek=$((index * 2)) conv=notrunc status=none
    index=$((index + 1))
done
# Compressed: every file made in the directory.
mkdir compressed
setfattr -h -n system.ntfs_attrib_be -v 0x00000800 compressed
seq 1 60000 >compressed/numbers
noise 70000 one >compressed/noise
{ seq 1 20000; head -c 200000 /dev/zero; noise 66000 two; seq 5 9; } >compressed/mixed
printf 'small' >compressed/small
head -c 300000 /dev/zero >compressed/zeros
yes abcdefghij | head -c 65536 >compressed/one-unit
# Alternate streams: resident, in clusters, on a directory, compressed.
printf 'a stream' >resident:first
seq 1 5000 >resident:second
printf 'of a directory' >a:stream
seq 1 9000 >compressed/small:numbers
streams='resident:first resident:second a:stream compressed/small:numbers'
# Links and special files as WSL makes them.
ln -s ../clusters a/link
mkfifo a/fifo
# A junction, a Windows symbolic link, a file in a WIM archive, a deduplicated file: by their reparse data.
mkdir junction
names=5c003f003f005c0043003a005c0061000000
setfattr -h -n system.ntfs_reparse_data -v 0x030000a01c0000000000100012000000${names}0000 junction
: >symlink
setfattr -h -n system.ntfs_reparse_data -v 0x0c0000a024000000000010001200040000000000${names}43003a000000 symlink
printf 'wof' >wof
setfattr -h -n system.ntfs_reparse_data -v 0x170000801000000001000000010000000100000000000000 wof
printf 'dedup' >dedup
setfattr -h -n system.ntfs_reparse_data -v 0x130000800400000001020304 dedup
mkdir many
index=0
while [ $index -lt 400 ]; do
    printf '%d' $index >"many/file number $index with a name that fills index records"
    index=$((index + 1))
done
# Deleted, so that index records are left with stale entries.
index=0
while [ $index -lt 400 ]; do
    case $index in *7 | 1*) rm "many/file number $index with a name that fills index records" ;; esac
    index=$((index + 1))
done
touch -d '2001-02-03 04:05:06.123456700 UTC' clusters
cd "$here"
unmounted
listed files

# An MFT in so many pieces that its own record needs an attribute list; clusters smaller than a record. Two files take
# turns for all clusters, and one of them goes.
format scattered-mft 8M 512
mounted
cd "$work/mnt"
: >odd
: >even
index=0
while printf '%0512d' $index >>odd && printf '%0512d' $index >>even; do
    index=$((index + 1))
done 2>/dev/null
rm even
sync
index=0
while [ $index -lt 3200 ]; do
    printf 'content of %d' $index >"file $index" || break
    index=$((index + 1))
done
# Some stay; the MFT does not shrink.
index=0
while [ $index -lt 3200 ]; do
    case $index in *00 | *37) ;; *) rm -f "file $index" ;; esac
    index=$((index + 1))
done
: >odd
cd "$here"
unmounted
streams=
listed scattered-mft

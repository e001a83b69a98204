#!/bin/sh
# Makes fat12, fat16 and fat32 .img.zst with mkfs.vfat and mtools, and beside each what mtools reads back:
# path, kind, size, SHA-256.
# Needs dosfstools, mtools, openssl and zstd. Usage: make.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8 MTOOLS_SKIP_CHECK=1
cd "$work"

noise() { # bytes, seed: the same bytes on every run
    openssl enc -aes-128-ctr -nosalt -pass "pass:$2" -pbkdf2 </dev/zero 2>/dev/null | head -c "$1"
}

filled() { # image: files of every sort
    image=$1
    printf 'short' >SHORT.TXT
    printf 'lower' >lower.txt
    printf 'mixed' >Mixed.txt
    printf 'long' >'A rather long name, with spaces.text'
    printf 'unicode' >'Ünïcode ☃ name.txt'
    printf 'code page' >'ÇÜ.TXT'
    printf 'longest' >"$(printf '%0251d' 7).txt"
    : >EMPTY
    seq 1 4000 >NUMBERS
    # The longest first: mtools lengthens a directory by one cluster only for a name.
    mcopy -i "$image" 0*.txt ::
    mcopy -i "$image" SHORT.TXT lower.txt Mixed.txt A* Ü* Ç* EMPTY NUMBERS ::
    mmd -i "$image" ::/dir "::/dir/sub directory" ::/dir/many
    mcopy -i "$image" NUMBERS "::/dir/sub directory/numbers of the sub directory"
    mkdir -p many
    index=0
    while [ $index -lt 500 ]; do
        printf '%d' $index >"many/file number $index"
        index=$((index + 1))
    done
    mcopy -i "$image" many/* ::/dir/many
    # Deleted entries, and free clusters among used ones for a file in pieces.
    mdel -i "$image" '::/dir/many/*7' '::/dir/many/file number 3*'
    noise 40000 one >pieces.bin
    mcopy -i "$image" pieces.bin ::/dir
    noise "$2" two >"last file"
    mcopy -i "$image" "last file" ::
    rm -rf many
}

listed() { # name
    mkdir back
    mcopy -s -n -i "$1.img" '::/*' back
    (
        cd back
        find . -mindepth 1 -printf '%P\t%y\t%s\n' | sort | while IFS="$(printf '\t')" read -r path kind size; do
            case $kind in
            f) printf '%s\t%s\t%s\t%s\n' "$path" "$kind" "$size" "$(sha256sum <"$path" | cut -d' ' -f1)" ;;
            *) printf '%s\t%s\t0\t-\n' "$path" "$kind" ;;
            esac
        done
    ) >"$here/$1.tsv"
    rm -rf back
    zstd -q -19 -f "$1.img" -o "$here/$1.img.zst"
}

# name, size, FAT bits, sectors per cluster, label
made() {
    truncate -s "$2" "$1.img"
    mkfs.vfat -F "$3" -s "$4" -n "$5" -i "1234ABC${3#?}" "$1.img" >/dev/null
    filled "$1.img" "$6"
    listed "$1"
}

made fat12 1440K 12 1 'TWELVE' 20000
made fat16 9M 16 2 'SIX TEEN' 50000
made fat32 34M 32 1 'THIRTYTWO' 70000

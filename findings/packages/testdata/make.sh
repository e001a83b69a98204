#!/bin/sh
# Makes the small rpm databases beside this file: one set of packages that are built here, in each of rpm's databases.
# Needs rpm and rpmbuild (4.18), sqlite3, python3, and db5.3_load (Debian: rpm sqlite3 python3 db5.3-util).
# Debian's rpm is built without NDB, so its container is written here; the corpus has one that SUSE's rpm wrote.
#
#   expected.tsv          what rpm -qa lists: name, epoch, version, release, architecture, source rpm, vendor, module
#   Packages.db           NDB
#   rpmdb.sqlite          SQLite, pages of 1,024 bytes, the table Packages alone, without the last two packages
#   rpmdb.sqlite-wal      the log that has those two, and a third part that was not committed
#   Packages.little       Berkeley DB hash, little-endian, pages of 512 bytes
#   Packages.big          the same, big-endian, pages of 4,096 bytes
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

{
    cat <<'SPEC'
Name: alpha
Version: 1.0
Release: 1
Epoch: 3
Summary: Alpha
License: none
Vendor: Stillframe Tests
ModularityLabel: alpha:stream:1:abc
BuildArch: noarch
%description
Alpha.
%files
SPEC
    # A file list that makes the header a few pages long.
    for number in $(seq 40); do echo "%ghost /opt/alpha/file-$number"; done
    for name in beta gamma delta epsilon zeta eta theta; do
        printf '%%package -n %s\nSummary: %s\nVersion: 2.%s~rc1\nEpoch: 0\n%%description -n %s\n%s.\n%%files -n %s\n' \
            "$name" "$name" "${#name}" "$name" "$name" "$name"
    done
} > alpha.spec
rpmbuild --quiet --define "_topdir $work/build" --define '_build_id_links none' --define '_buildhost test' \
    --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' -bb alpha.spec

format='%{NAME}\t%{EPOCH}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\t%{VENDOR}\t%{MODULARITYLABEL}\n'
mkdir sqlite
rpm --define '_db_backend sqlite' --dbpath "$work/sqlite" --initdb
rpm --define '_db_backend sqlite' --dbpath "$work/sqlite" -i --justdb --nodeps --noscripts --nosignature \
    build/RPMS/noarch/*.rpm
rpm --define '_db_backend sqlite' --dbpath "$work/sqlite" -qa --qf "$format" | LC_ALL=C sort > "$here/expected.tsv"

sqlite3 sqlite/rpmdb.sqlite 'SELECT lower(hex(blob)) FROM Packages' > blobs
for order in little:1234:512 big:4321:4096; do
    name=${order%%:*}
    rest=${order#*:}
    {
        printf 'VERSION=3\nformat=bytevalue\ntype=hash\ndb_lorder=%s\ndb_pagesize=%s\nHEADER=END\n' "${rest%:*}" "${rest#*:}"
        # Under number 0 rpm keeps the highest number.
        printf ' 00000000\n 08000000\n'
        number=1
        while read -r blob; do
            printf ' %02x000000\n %s\n' "$number" "$blob"
            number=$((number + 1))
        done < blobs
        printf 'DATA=END\n'
    } | db5.3_load "Packages.$name"
    cp "Packages.$name" "$here/Packages.$name"
done

python3 - blobs "$here/Packages.db" <<'PYTHON'
import struct, sys, zlib
blobs = [bytes.fromhex(line) for line in open(sys.argv[1])]
slots = struct.pack("<4s7I", b"RpmP", 0, len(blobs), 1, len(blobs) + 1, 0, 0, 0)
content = b""
for number, blob in enumerate(blobs, 1):
    data = struct.pack("<4s3I", b"BlbS", number, number, len(blob)) + blob
    data += bytes(-(len(data) + 12) % 16)
    data += struct.pack("<II4s", zlib.adler32(data), len(blob), b"BlbE")
    slots += struct.pack("<4s3I", b"Slot", number, (4096 + len(content)) // 16, len(data) // 16)
    content += data
slots += struct.pack("<4s3I", b"Slot", 0, 0, 0) * ((4096 - len(slots)) // 16)
open(sys.argv[2], "wb").write(slots + content)
PYTHON

# The copies are made while the writer is still connected, so that the log is as on a machine that runs.
sqlite3 full.sqlite <<SQL
ATTACH 'sqlite/rpmdb.sqlite' AS source;
PRAGMA main.page_size = 1024;
PRAGMA main.journal_mode = WAL;
PRAGMA main.wal_autocheckpoint = 0;
CREATE TABLE main.Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);
INSERT INTO main.Packages SELECT hnum, blob FROM source.Packages ORDER BY hnum LIMIT 6;
PRAGMA main.wal_checkpoint(RESTART);
INSERT INTO main.Packages SELECT hnum, blob FROM source.Packages ORDER BY hnum LIMIT 1 OFFSET 6;
INSERT INTO main.Packages SELECT hnum, blob FROM source.Packages ORDER BY hnum LIMIT 1 OFFSET 7;
PRAGMA main.cache_size = 1;
BEGIN;
DELETE FROM main.Packages;
INSERT INTO main.Packages SELECT hnum + 100, blob FROM source.Packages;
.shell cp full.sqlite '$here/rpmdb.sqlite'; cp full.sqlite-wal '$here/rpmdb.sqlite-wal'
ROLLBACK;
SQL

//! Images that `testdata/make.sh` made with ntfs-3g, and what ntfs-3g listed of them.

use std::collections::BTreeSet;

use stillframe_fs::{FileKind, FsError, ReadOnlyFs};

use crate::support::{Entry, find, image, list, open, read_all, sha256, testdata, walk};

/// Compares the volume with `testdata/NAME.tsv`, row by row, and says how many rows there were.
fn compare(fs: &dyn ReadOnlyFs, name: &str) -> usize {
    let expected = std::fs::read(testdata(&format!("{name}.tsv"))).unwrap();
    let paths = walk(fs);
    let mut seen = BTreeSet::new();
    let rows = expected.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
    for row in rows {
        let fields: Vec<_> = row.split(|byte| *byte == b'\t').collect();
        let [path, kind, rest @ ..] = &fields[..] else { panic!("short row") };
        let rest: Vec<_> = rest.iter().map(|field| std::str::from_utf8(field).unwrap()).collect();
        if *kind == b"s" {
            compare_stream(fs, std::str::from_utf8(path).unwrap(), &rest);
            continue;
        }
        let entry = paths.get(*path).unwrap_or_else(|| panic!("{} is missing", path.escape_ascii()));
        compare_row(fs, path, kind[0].into(), entry, &rest);
        seen.insert(path.to_vec());
    }
    // The mount hides the volume's own files.
    let extra: Vec<_> = paths.keys().filter(|path| !seen.contains(*path) && path[0] != b'$').collect();
    assert!(extra.is_empty(), "not there by ntfs-3g: {extra:?}");
    seen.len()
}

fn compare_row(fs: &dyn ReadOnlyFs, path: &[u8], kind: char, entry: &Entry, rest: &[&str]) {
    let path = path.escape_ascii().to_string();
    let metadata = fs.metadata(entry.id).unwrap();
    let [links, mtime, size, content] = rest else { panic!("short row: {path}") };
    assert_eq!(metadata.modified.unwrap().seconds.to_string(), *mtime, "{path}");
    if *content == "unsupported" {
        assert!(matches!(fs.open(entry.id), Err(FsError::Unsupported(_))), "{path}");
        return;
    }
    assert_eq!(entry.kind.letter(), kind, "{path}");
    match kind {
        'f' => {
            assert_eq!(metadata.size_bytes.to_string(), *size, "{path}");
            assert_eq!(metadata.links.unwrap().to_string(), *links, "{path}");
            assert_eq!(sha256(&read_all(&mut *fs.open(entry.id).unwrap()).unwrap()), *content, "{path}");
        }
        'l' => {
            let target = fs.read_link(entry.id).unwrap();
            assert_eq!(target, content.as_bytes(), "{path}");
            assert_eq!(metadata.size_bytes, target.len() as u64, "{path}");
            assert!(matches!(fs.open(entry.id), Err(FsError::NotAFile)), "{path}");
        }
        _ => {}
    }
}

fn compare_stream(fs: &dyn ReadOnlyFs, path: &str, rest: &[&str]) {
    let (file, name) = path.split_once(':').unwrap();
    let id = find(fs, file);
    let streams = fs.alternate_streams(id).unwrap();
    let stream = streams.iter().find(|stream| stream.name == name.as_bytes()).unwrap();
    let content = read_all(&mut *fs.open_stream(id, name.as_bytes()).unwrap()).unwrap();
    assert_eq!(stream.size_bytes, content.len() as u64, "{path}");
    let [.., size, hash] = rest else { panic!("short row: {path}") };
    assert_eq!((stream.size_bytes.to_string().as_str(), sha256(&content).as_str()), (*size, *hash), "{path}");
}

#[test]
fn every_file_is_as_the_driver_reads_it() {
    let fs = open(image("files"));
    assert_eq!(compare(&*fs, "files"), 289);
    let description = fs.description();
    assert_eq!(description.label.as_deref(), Some(&b"files"[..]));
    assert_eq!(description.dirty, Some(false));
    assert_eq!(fs.faults(), []);
    assert!(fs.alternate_streams(find(&*fs, "clusters")).unwrap().is_empty());
    assert!(matches!(fs.open_stream(find(&*fs, "resident"), b"none"), Err(FsError::NotFound)));
}

#[test]
fn an_mft_in_many_pieces_with_clusters_smaller_than_a_record() {
    let fs = open(image("scattered-mft"));
    assert_eq!(compare(&*fs, "scattered-mft"), 36);
}

#[test]
fn content_kept_elsewhere_is_named() {
    let fs = open(image("files"));
    let what = |path| match fs.open(find(&*fs, path)) {
        Err(FsError::Unsupported(what)) => what,
        _ => panic!("{path} was opened"),
    };
    assert_eq!(what("wof"), "a file in a WIM archive (WOF)");
    assert_eq!(what("dedup"), "data deduplication");
}

#[test]
fn the_time_is_kept_to_100_nanoseconds() {
    let fs = open(image("files"));
    let modified = fs.metadata(find(&*fs, "clusters")).unwrap().modified.unwrap();
    assert_eq!((modified.seconds, modified.nanoseconds), (981_173_106, 123_456_700));
}

#[test]
fn reads_at_any_offset_agree_with_one_read() {
    let fs = open(image("files"));
    for path in ["compressed/mixed", "sparse", "scattered", "resident"] {
        let id = find(&*fs, path);
        let whole = read_all(&mut *fs.open(id).unwrap()).unwrap();
        let mut file = fs.open(id).unwrap();
        let mut state = 9_u64;
        for _ in 0..300 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let offset = (state >> 20) as usize % (whole.len() + 10);
            let mut bytes = vec![0xAA; (state >> 50) as usize];
            let read = file.read_at(offset as u64, &mut bytes).unwrap();
            let expected = whole.get(offset..).unwrap_or_default();
            let expected = &expected[..expected.len().min(bytes.len())];
            assert_eq!(&bytes[..read], expected, "{path} at {offset}");
        }
        assert_eq!(file.read_at(u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
}

#[test]
fn ids_are_file_references() {
    let fs = open(image("files"));
    let id = find(&*fs, "clusters");
    assert_eq!(id, find(&*fs, "a/hardlink"));
    let record = stillframe_fs::FileId::new(id.number & 0xFFFF_FFFF_FFFF);
    assert_eq!(fs.metadata(record).unwrap(), fs.metadata(id).unwrap());
    // The same record with another sequence number is another file, deleted since.
    let stale = stillframe_fs::FileId::new(id.number + (1 << 48));
    assert!(matches!(fs.metadata(stale), Err(FsError::NotFound)));
    assert!(matches!(fs.metadata(stillframe_fs::FileId::new(1 << 40)), Err(FsError::NotFound)));
    assert!(matches!(list(&*fs, id), Err(FsError::NotADirectory)));
    assert!(matches!(fs.open(fs.root()), Err(FsError::NotAFile)));
    assert_eq!(fs.metadata(fs.root()).unwrap().kind, FileKind::Directory);
}

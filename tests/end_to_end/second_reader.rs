//! A second opinion on ext: the crate `ext4-view` reads each image that it opens, and both must see the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType, PathBuf};
use sha2::{Digest, Sha256};
use stillframe_block::BlockSource;
use stillframe_fixtures::golden_names;
use stillframe_probe::FsKind;

use crate::harness::{Place, corpora};
use crate::listing::{Entry, Listing, corpus_image, listed, volumes};

/// Images that the crate refuses, or of which it lacks files, and why.
const REFUSED: [(&str, &str); 0] = [];

/// Files that the crate cannot read: image, path, its error.
const UNREADABLE: [(&str, &str, &str); 0] = [];

struct Source(Arc<dyn BlockSource>);

impl Ext4Read for Source {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.0.read_exact_at(start_byte, dst)?)
    }
}

/// What the crate lists, and what it cannot read.
#[derive(Default)]
struct Seen {
    listing: Listing,
    unreadable: Vec<(String, String)>,
}

impl Seen {
    fn folder(&mut self, filesystem: &str, fs: &Ext4, folder: &PathBuf) -> Result<(), Ext4Error> {
        for entry in fs.read_dir(folder)? {
            let entry = entry?;
            if matches!(entry.file_name().as_ref(), b"." | b"..") {
                continue;
            }
            let path = entry.path();
            let shown = path.display().to_string();
            let metadata = fs.symlink_metadata(&path)?;
            let kind = match metadata.file_type() {
                FileType::Regular => 'f',
                FileType::Directory => 'd',
                FileType::Symlink => 'l',
                FileType::BlockDevice => 'b',
                FileType::CharacterDevice => 'c',
                FileType::Fifo => 'p',
                FileType::Socket => 's',
            };
            let sha256 = match (kind == 'f').then(|| sha256(fs, &path)).transpose() {
                Ok(sha256) => sha256,
                Err(error) => {
                    self.unreadable.push((shown.clone(), error));
                    continue;
                }
            };
            let size_bytes = matches!(kind, 'f' | 'l').then(|| metadata.len());
            let key = (filesystem.to_owned(), path.as_ref().to_vec());
            self.listing.insert(key, Entry { kind, size_bytes, sha256 });
            if kind == 'd'
                && let Err(error) = self.folder(filesystem, fs, &path)
            {
                self.unreadable.push((shown, error.to_string()));
            }
        }
        Ok(())
    }
}

fn sha256(fs: &Ext4, path: &PathBuf) -> Result<String, String> {
    let mut file = fs.open(path).map_err(|error| error.to_string())?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut piece).map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    }))
}

fn look(image: &str, file: &Path) -> (Seen, Vec<(String, String)>) {
    let mut seen = Seen::default();
    let mut refused = Vec::new();
    for volume in volumes(file).into_iter().filter(|volume| volume.kind == FsKind::Ext) {
        match Ext4::load(Box::new(Source(volume.source))) {
            Ok(fs) => seen.folder(&volume.short_name, &fs, &PathBuf::new("/")).unwrap(),
            Err(error) => refused.push((format!("{image} {}", volume.short_name), error.to_string())),
        }
    }
    (seen, refused)
}

#[test]
fn explore() {
    let corpora = corpora().unwrap();
    for name in golden_names() {
        let place = Place::new();
        let file = place.golden(&name);
        let (seen, refused) = look(&name, &file);
        if seen.listing.is_empty() && refused.is_empty() { continue; }
        let (found, _) = listed(&place, &[&file]);
        let mut n = 0;
        for (k, v) in &seen.listing { if found.get(k) == Some(v) { n += 1 } else { eprintln!("  DIFF {:?} {:?} {:?}", String::from_utf8_lossy(&k.1), v, found.get(k)); } }
        for k in found.keys() { if !seen.listing.contains_key(k) && n > 0 { eprintln!("  NOT SEEN {} {:?}", k.0, String::from_utf8_lossy(&k.1)); } }
        eprintln!("{name}: {n} same; refused {refused:?}; unreadable {:?}", seen.unreadable);
    }
    for name in ["dissect-extfs/ext4.bin.gz","dissect-extfs/ext4_sparse.bin.gz","dissect-extfs/ext4_symlink_test.bin.gz","ext4-view/test_disk1.bin.zst","ext4-view/test_disk_4k_block_journal.bin.zst"] {
        let place = Place::new();
        let file = corpus_image(&place, &corpora.join("fs").join(name));
        let (seen, refused) = look(name, &file);
        let (found, _) = listed(&place, &[&file]);
        let mut n = 0;
        for (k, v) in &seen.listing { if found.get(k) == Some(v) { n += 1 } else { eprintln!("  DIFF {:?} {:?} {:?}", String::from_utf8_lossy(&k.1), v, found.get(k)); } }
        for k in found.keys() { if !seen.listing.contains_key(k) && n > 0 { eprintln!("  NOT SEEN {} {:?}", k.0, String::from_utf8_lossy(&k.1)); } }
        eprintln!("{name}: {n} same; refused {refused:?}; unreadable {:?}", seen.unreadable);
    }
}

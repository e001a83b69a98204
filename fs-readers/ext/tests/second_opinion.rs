//! What our own reader calls damaged, `ext4-view` is asked for.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test over a golden image")]

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_ext::open;
use stillframe_fs::{FileId, FileKind, ReadOnlyFs, read_whole};

fn number(image: &SparseMemorySource, at: u64) -> u64 {
    let mut bytes = [0; 4];
    image.read_exact_at(at, &mut bytes).unwrap();
    u32::from_le_bytes(bytes).into()
}

/// Where the link count of the root inode lies on an image without metadata checksums.
fn root_links(image: &SparseMemorySource) -> u64 {
    let block_bytes = 1024 << number(image, 1024 + 0x18);
    let descriptors = if block_bytes == 1024 { 2048 } else { block_bytes };
    let inode_bytes = number(image, 1024 + 0x58) & 0xffff;
    number(image, descriptors + 8) * block_bytes + inode_bytes + 0x1a
}

type Listing = Vec<(Vec<u8>, FileKind, u64, Option<Vec<u8>>)>;

fn list(fs: &dyn ReadOnlyFs, folder: FileId, path: &[u8], listing: &mut Listing) {
    let mut entries = Vec::new();
    fs.read_dir(folder, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id));
        ControlFlow::Continue(())
    })
    .unwrap();
    for (name, id) in entries {
        let path = [path, b"/", &name].concat();
        let metadata = fs.metadata(id).unwrap();
        let content = match metadata.kind {
            FileKind::File => Some(read_whole(&mut *fs.open(id).unwrap(), 64 << 20).ok()).flatten(),
            FileKind::Symlink => Some(fs.read_link(id).unwrap()),
            _ => None,
        };
        if metadata.kind == FileKind::Directory {
            list(fs, id, &path, listing);
        }
        listing.push((path, metadata.kind, metadata.size_bytes, content));
    }
}

fn listing(fs: &dyn ReadOnlyFs) -> Listing {
    let mut all = Vec::new();
    list(fs, fs.root(), b"", &mut all);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn a_root_that_ours_refuses_is_served_by_the_second_reader() {
    let healthy = stillframe_fixtures::golden("ext2-sparse");
    let own = open(Arc::new(healthy.clone())).unwrap();
    assert_eq!(own.description().reader, "stillframe-ext");

    let mut damaged = healthy;
    let links = root_links(&damaged);
    damaged.set(links, 0);
    damaged.set(links + 1, 0);
    let second = open(Arc::new(damaged)).unwrap();
    assert_eq!(second.description().reader, "ext4-view");
    assert!(second.faults().iter().any(|fault| fault.what == "link count"));
    let (ours, theirs) = (listing(&*own), listing(&*second));
    assert_eq!(ours.len(), theirs.len());
    let mut refused = 0;
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!((&ours.0, ours.1, ours.2), (&theirs.0, theirs.1, theirs.2));
        // The second reader cannot read a hole over a whole indirect block, and says so.
        if theirs.3.is_none() && ours.3.is_some() {
            refused += 1;
        } else {
            assert!(ours.3 == theirs.3, "{}", ours.0.escape_ascii());
        }
    }
    assert!((1..10).contains(&refused), "{refused}");
}

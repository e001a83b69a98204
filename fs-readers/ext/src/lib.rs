//! ext2, ext3 and ext4, read as the kernel would read them after replaying the journal.
//!
//! Own code over one [`BlockSource`], shared by all threads: extents and block maps with holes of any size, linear and
//! hashed directories, inline data, `meta_bg`, `flex_bg`, `bigalloc`, 64-bit, `casefold`, `large_dir`, `ea_inode`, `mmp`,
//! metadata checksums, and a journal with its fast commits. Named and not read: encrypted files and directories, e2compr, external journals.
//!
//! The crate `ext4-view` is a second opinion: it is asked where this reader finds a volume damaged, and the tests
//! compare the two. It does not serve the walk, since it refuses half of the features above, is not `Send`, and reads
//! the same metadata many times.
//!
//! Kernel documentation: `Documentation/filesystems/ext4/`.

mod acl;
mod attributes;
mod backup;
mod block_map;
mod checksum;
mod content;
mod directory;
mod fast_commit;
mod inode;
mod journal;
mod overlay;
mod reader;
mod second_opinion;
mod superblock;
mod volume;

pub use reader::ExtFs;

use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_fs::{FsError, ReadOnlyFs};

/// Opens the filesystem on `volume`: with our own reader, or with `ext4-view` where ours calls it damaged before it has
/// read the root.
///
/// # Errors
/// [`FsError`] where there is no superblock of ext2, ext3 or ext4, or it uses what this reader does not know, or neither
/// reader can open it; then what ours found.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    let own = ExtFs::open(volume)?;
    match own.metadata(own.root()) {
        Err(error @ FsError::Corrupt(_)) => match own.second_opinion() {
            Ok(second) => Ok(Box::new(second)),
            Err(_) => Err(error),
        },
        _ => Ok(Box::new(own)),
    }
}

//! What fast commits change: the picture of the filesystem that the kernel makes of them when it mounts. The kernel writes
//! it in place; here it lies before what is in place, in memory that is bounded.
//!
//! Kernel documentation: `filesystems/ext4/journal.rst`, "Fast commits". Not done, since it shows nowhere: bitmaps, counts
//! of blocks, and the times that the kernel gives the folders it changes, which are those of the mount.

mod blocks;
mod folders;
mod names;
mod replay;

use std::collections::HashMap;
use std::sync::Arc;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

pub(crate) use blocks::{Moved, MovedBlocks};
pub(crate) use folders::FolderChanges;
pub(crate) use replay::replay;

use crate::inode::Inode;
use crate::superblock::Superblock;

/// All that fast commits change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    inodes: HashMap<u64, ChangedInode>,
    folders: HashMap<u64, FolderChanges>,
    /// Some changes are left out.
    pub(crate) is_partial: bool,
}

impl Changes {
    pub(crate) fn inode(&self, number: u64) -> Option<&ChangedInode> {
        self.inodes.get(&number)
    }

    pub(crate) fn folder(&self, number: u64) -> Option<&FolderChanges> {
        self.folders.get(&number)
    }
}

/// An inode that fast commits describe.
#[derive(Debug)]
pub(crate) struct ChangedInode {
    /// Where it lies, in bytes, and where it will be written.
    at: u64,
    bytes: Vec<u8>,
    moved: Arc<MovedBlocks>,
}

impl ChangedInode {
    pub(crate) fn parse(&self, superblock: &Superblock, number: u64) -> Result<Inode, FsError> {
        Inode::parse_changed(superblock, number, self.at, self.bytes.clone(), self.moved.clone())
    }

    fn field<const N: usize>(&self, offset: usize) -> Result<[u8; N], Fault> {
        Structure::new("fast-commit inode", self.at, &self.bytes).array(offset)
    }

    fn put(&mut self, offset: usize, value: &[u8]) {
        self.bytes.iter_mut().skip(offset).zip(value).for_each(|(slot, byte)| *slot = *byte);
    }
}

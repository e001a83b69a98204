//! Tables of rows of one length, found by number: owners, fragments, attributes (Squashfs Binary Format, "Fragment Table",
//! "ID Table", "Xattr Table"). The rows lie in metadata blocks; where those begin is a list of addresses.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::SquashfsReader;
use crate::metadata::{BLOCK_LEN, Position};

const ADDRESS_BYTES: u64 = 8;
const KEPT_ADDRESSES: usize = 4096;

/// One such table.
pub(crate) struct LookupTable {
    what: &'static str,
    /// Where its list of addresses begins, in bytes.
    at: u64,
    rows: u32,
    row_bytes: u32,
    addresses: Mutex<BTreeMap<u64, u64>>,
}

impl LookupTable {
    pub(crate) fn new(what: &'static str, at: u64, rows: u32, row_bytes: u32) -> Self {
        Self { what, at, rows, row_bytes, addresses: Mutex::default() }
    }

    /// Reads row `number`, whose length is `N`.
    pub(crate) fn row<const N: usize>(&self, fs: &SquashfsReader, number: u32) -> Result<[u8; N], FsError> {
        if number >= self.rows {
            return Err(Fault::new(self.what, self.at, self.rows, number).into());
        }
        let block_bytes = u64::try_from(BLOCK_LEN).unwrap_or(u64::MAX);
        let offset = u64::from(number).saturating_mul(self.row_bytes.into());
        let (block, within) = (offset.checked_div(block_bytes), offset.checked_rem(block_bytes));
        let block_at = self.address(fs, block.unwrap_or(0))?;
        let within = usize::try_from(within.unwrap_or(0)).unwrap_or(usize::MAX);
        fs.metadata.cursor(Position { block_at, offset: within }, fs.superblock.bytes_used).array()
    }

    fn address(&self, fs: &SquashfsReader, block: u64) -> Result<u64, FsError> {
        let lock = || self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = lock().get(&block) {
            return Ok(*address);
        }
        let mut bytes = [0; 8];
        fs.source.read_exact_at(self.at.saturating_add(block.saturating_mul(ADDRESS_BYTES)), &mut bytes)?;
        let address = u64::from_le_bytes(bytes);
        let mut addresses = lock();
        if addresses.len() >= KEPT_ADDRESSES {
            addresses.clear();
        }
        addresses.insert(block, address);
        Ok(address)
    }
}

//! Transactions, put together again from the operations of the log's records: several may be open at once, and a region
//! may go on in the next record (XFS Algorithms & Data Structures, "Log Operations").

use std::collections::BTreeMap;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::volume::to_u64;

const OPERATION_HEADER_BYTES: usize = 12;
const CLIENT_TRANSACTION: u8 = 0x69;
const CLIENT_LOG: u8 = 0xaa;

const START: u8 = 0x01;
const COMMIT: u8 = 0x02;
const CONTINUES: u8 = 0x04;
const WAS_CONTINUED: u8 = 0x08;
const END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;

const HEADER_MAGIC: u32 = 0x5452_414e;
const HEADER_BYTES: usize = 16;
/// Regions of one item: a buffer of 64 KiB of which every second piece of 128 bytes changed, and its header.
const MAX_REGIONS: u16 = 257;
/// Bytes of transactions that are not committed yet. The kernel ends a checkpoint long before this.
const MAX_OPEN_BYTES: u64 = 256 << 20;

/// One change of one structure: a header that says what it is about, then its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    transaction: &'a Transaction,
    first: usize,
    count: usize,
}

impl<'a> Item<'a> {
    /// A part of it; 0 is the header. `at` of faults counts from the transaction's start.
    pub(super) fn region(&self, number: usize) -> Result<Structure<'a>, Fault> {
        let transaction = self.transaction;
        let span = self.first.checked_add(number).filter(|_| number < self.count);
        let span = span.and_then(|index| transaction.regions.get(index));
        let bytes = span.and_then(|span| transaction.bytes.get(span.start..span.end));
        let bytes =
            bytes.ok_or_else(|| Fault::new("log item regions", transaction.at, self.count, number))?;
        Ok(Structure::new("log item", transaction.at, bytes))
    }

    pub(super) fn regions(&self) -> usize {
        self.count
    }
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy)]
struct ItemSpan {
    first: usize,
    /// How many regions its header says it has.
    claimed: usize,
}

/// A transaction: in today's kernels a checkpoint of many changes.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Where the record begins that it starts in: its sequence number, and where on the volume, for faults.
    pub(super) lsn: u64,
    at: u64,
    header_bytes: usize,
    bytes: Vec<u8>,
    regions: Vec<Span>,
    items: Vec<ItemSpan>,
}

impl Transaction {
    /// The items in their order. The last one may lack regions, which is met by who asks for them.
    pub(super) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.items.iter().map(|item| {
            let count = item.claimed.min(self.regions.len().saturating_sub(item.first));
            Item { transaction: self, first: item.first, count }
        })
    }

    /// Items of one region each.
    #[cfg(test)]
    pub(super) fn of_items(items: &[Vec<u8>]) -> Self {
        let mut transaction = Self { header_bytes: HEADER_BYTES, ..Self::default() };
        items.iter().for_each(|item| transaction.add(&Structure::new("test", 0, item)).unwrap());
        transaction
    }

    /// Adds a region, or the transaction's own header where it has none yet.
    fn add(&mut self, content: &Structure<'_>) -> Result<(), Fault> {
        if content.is_empty() {
            return Ok(());
        }
        if self.header_bytes == 0 {
            let magic = content.u32_le(0)?;
            if magic != HEADER_MAGIC {
                let (claimed, found) = (Quantity::Hex(HEADER_MAGIC.into()), Quantity::Hex(magic.into()));
                return Err(content.fault("log transaction magic", 0, claimed, found));
            }
            if content.len() > HEADER_BYTES {
                return Err(content.fault("log transaction header", 0, HEADER_BYTES, content.len()));
            }
            self.header_bytes = content.len();
            return Ok(());
        }
        let is_full = self
            .items
            .last()
            .is_none_or(|item| self.regions.len().saturating_sub(item.first) >= item.claimed);
        if is_full {
            let claimed = content.u16_le(2)?;
            if claimed == 0 || claimed > MAX_REGIONS {
                return Err(content.fault("log item regions", 2, MAX_REGIONS, claimed));
            }
            self.items.push(ItemSpan { first: self.regions.len(), claimed: claimed.into() });
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(content.bytes());
        self.regions.push(Span { start, end: self.bytes.len() });
        Ok(())
    }

    /// Adds to the last region what the record before had no room for.
    fn add_to_last(&mut self, content: &Structure<'_>) -> Result<(), Fault> {
        if self.items.is_empty() {
            self.header_bytes = self.header_bytes.saturating_add(content.len());
            if self.header_bytes > HEADER_BYTES {
                return Err(content.fault("log transaction header", 0, HEADER_BYTES, self.header_bytes));
            }
            return Ok(());
        }
        self.bytes.extend_from_slice(content.bytes());
        if let Some(last) = self.regions.last_mut() {
            last.end = self.bytes.len();
        }
        Ok(())
    }
}

/// The transactions that began and were not committed yet, by their number.
#[derive(Debug, Default)]
pub(super) struct Open {
    transactions: BTreeMap<u32, Transaction>,
    open_bytes: u64,
}

impl Open {
    /// Takes the operations of one record in; gives each transaction that they commit to `commit`.
    pub(super) fn add_record(
        &mut self,
        lsn: u64,
        operations: u32,
        content: &Structure<'_>,
        commit: &mut dyn FnMut(&Transaction) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let mut at = 0_usize;
        for _ in 0..operations {
            if at >= content.len() {
                break;
            }
            let header = content.part("log operation", at, OPERATION_HEADER_BYTES)?;
            let (number, len) = (header.u32_be(0)?, header.u32_be(4)?);
            let (client, flags) = (header.u8(8)?, header.u8(9)?);
            if !matches!(client, CLIENT_TRANSACTION | CLIENT_LOG) {
                return Err(header.fault("log operation client", 8, CLIENT_TRANSACTION, client).into());
            }
            at = at.saturating_add(OPERATION_HEADER_BYTES);
            let region = content.part("log operation", at, usize::try_from(len).unwrap_or(usize::MAX))?;
            at = at.saturating_add(region.len());
            self.add_operation(lsn, number, flags, &region, commit)?;
        }
        Ok(())
    }

    fn add_operation(
        &mut self,
        lsn: u64,
        number: u32,
        flags: u8,
        region: &Structure<'_>,
        commit: &mut dyn FnMut(&Transaction) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let Some(transaction) = self.transactions.get_mut(&number) else {
            // What goes on without a start began before the tail, and is on the volume already.
            if flags & START != 0 {
                let started = Transaction { lsn, at: region.at(), ..Transaction::default() };
                self.transactions.insert(number, started);
            }
            return Ok(());
        };
        let mut flags = flags & !END;
        if flags & WAS_CONTINUED != 0 {
            flags &= !CONTINUES;
        }
        match flags {
            0 | CONTINUES => transaction.add(region)?,
            WAS_CONTINUED => transaction.add_to_last(region)?,
            COMMIT | UNMOUNT => {
                let transaction = self.transactions.remove(&number).unwrap_or_default();
                self.open_bytes = self.open_bytes.saturating_sub(to_u64(transaction.bytes.len()));
                return if flags == COMMIT { commit(&transaction) } else { Ok(()) };
            }
            other => return Err(region.fault("log operation flags", 0, "known", other).into()),
        }
        self.open_bytes = self.open_bytes.saturating_add(to_u64(region.len()));
        if self.open_bytes > MAX_OPEN_BYTES {
            return Err(FsError::Limit { what: "bytes of open log transactions", cap: MAX_OPEN_BYTES });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(number: u32, flags: u8, region: &[u8]) -> Vec<u8> {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.extend(u32::try_from(region.len()).unwrap().to_be_bytes());
        bytes.extend([CLIENT_TRANSACTION, flags, 0, 0]);
        bytes.extend(region);
        bytes
    }

    fn item(kind: u16, regions: u16, rest: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes(), &regions.to_le_bytes(), rest].concat()
    }

    /// Kind and regions.
    type ShownItem = (u16, Vec<Vec<u8>>);

    /// Sequence number and items of what the records commit.
    fn committed(records: &[Vec<Vec<u8>>]) -> Vec<(u64, Vec<ShownItem>)> {
        let mut committed = Vec::new();
        let mut open = Open::default();
        for (lsn, operations) in (1..).zip(records) {
            let content = operations.concat();
            let content = Structure::new("log record", 0, &content);
            let count = u32::try_from(operations.len()).unwrap();
            open.add_record(lsn, count, &content, &mut |transaction| {
                let items = transaction.items().map(|item| {
                    let regions =
                        (1..item.regions()).map(|number| item.region(number).unwrap().bytes().to_vec());
                    (item.region(0).unwrap().u16_le(0).unwrap(), regions.collect())
                });
                committed.push((transaction.lsn, items.collect()));
                Ok(())
            })
            .unwrap();
        }
        committed
    }

    #[test]
    fn interleaved_and_cut_transactions_are_put_together() {
        let header = [&HEADER_MAGIC.to_le_bytes()[..], &[0; 12]].concat();
        let records = [
            vec![
                // Began before the tail, and is of no interest.
                operation(9, 0, b"rest of an old one"),
                operation(1, START, b""),
                operation(2, START, b""),
                operation(2, CONTINUES, &header[..6]),
                operation(1, 0, &header),
                operation(1, 0, &item(0x123b, 2, b"a")),
            ],
            vec![
                operation(2, WAS_CONTINUED | END, &header[6..]),
                operation(1, CONTINUES, b"first"),
                operation(2, 0, &item(0x123c, 1, b"")),
            ],
            vec![
                operation(2, COMMIT, b""),
                operation(1, WAS_CONTINUED | CONTINUES, b" and"),
                operation(3, START, b""),
                operation(3, 0, &header),
                operation(3, 0, &item(0x123c, 1, b"never committed")),
            ],
            vec![operation(1, WAS_CONTINUED | END, b" last"), operation(1, COMMIT, b"")],
        ];
        let expected =
            vec![(1, vec![(0x123c, vec![])]), (1, vec![(0x123b, vec![b"first and last".to_vec()])])];
        assert_eq!(committed(&records), expected);
    }

    #[test]
    fn what_is_no_transaction_is_named() {
        let header = [&HEADER_MAGIC.to_le_bytes()[..], &[0; 12]].concat();
        for (operations, what) in [
            (vec![operation(1, START, b""), operation(1, 0, &[7; 16])], "log transaction magic"),
            (
                vec![operation(1, START, b""), operation(1, 0, &[&header[..], b"more"].concat())],
                "log transaction header",
            ),
            (vec![operation(1, START, b""), operation(1, START, b"")], "log operation flags"),
            (
                vec![
                    operation(1, START, b""),
                    operation(1, 0, &header),
                    operation(1, 0, &item(0x123b, 0, b"")),
                ],
                "log item regions",
            ),
        ] {
            let content = operations.concat();
            let content = Structure::new("log record", 0, &content);
            let count = u32::try_from(operations.len()).unwrap();
            match Open::default().add_record(1, count, &content, &mut |_| Ok(())) {
                Err(FsError::Corrupt(fault)) => assert_eq!(fault.what, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

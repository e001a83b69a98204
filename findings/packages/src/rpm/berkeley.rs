//! Berkeley DB hash files, as rpm's `Packages` is one.
//!
//! Format: Berkeley DB's `dbinc/db_page.h` and `dbinc/hash.h`; versions 7 to 10 of the hash (Berkeley DB 3.1 to 6),
//! either byte order. Page 0 describes the hash; bucket `b` begins on page `b + spares[ceil(log2(b + 1))]` and goes on
//! over `next_pgno`. A page has pairs of items, key and datum; a long datum is a chain of overflow pages, and data of
//! one key can lie on the page together or in a tree of their own (rpm makes neither of the last two).
//!
//! Not supported: encryption, page checksums, partitions, other access methods.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileContent, FsError};

use super::blob::{Chain, Inline, MAX_PAGES, MAX_PAGES_WAITING, PageSet, Pieces};
use super::cached::CachedFile;
use super::{header, length_of, offset_of};
use crate::collector::Collector;

const HASH_MAGIC: u32 = 0x0006_1561;
const META_BYTES: usize = 512;
const PAGE_HEADER_BYTES: usize = 26;

/// Page types.
const PAGE_INVALID: u8 = 0;
const PAGE_HASH_UNSORTED: u8 = 2;
const PAGE_BTREE_INTERNAL: u8 = 3;
const PAGE_RECNO_INTERNAL: u8 = 4;
const PAGE_RECNO_LEAF: u8 = 6;
const PAGE_OVERFLOW: u8 = 7;
const PAGE_HASH_META: u8 = 8;
const PAGE_DUPLICATE_LEAF: u8 = 12;
const PAGE_HASH: u8 = 13;

/// Item types of hash pages.
const ITEM_KEYDATA: u8 = 1;
const ITEM_DUPLICATE: u8 = 2;
const ITEM_OFFPAGE: u8 = 3;
const ITEM_OFFDUP: u8 = 4;

/// Item types of duplicate leaves; a set highest bit says deleted.
const LEAF_KEYDATA: u8 = 1;
const LEAF_OVERFLOW: u8 = 3;
const LEAF_DELETED: u8 = 0x80;

/// Whether a file that begins so is a Berkeley DB hash.
pub(super) fn is_hash(beginning: &[u8]) -> bool {
    let magic = Structure::new("Berkeley DB page 0", 0, beginning);
    magic.u32_le(12).is_ok_and(|magic| magic == HASH_MAGIC || magic.swap_bytes() == HASH_MAGIC)
}

pub(super) fn read(file: &mut dyn FileContent, collector: &mut Collector) -> Result<(), FsError> {
    let mut file = CachedFile::new(file);
    let mut bytes = [0; META_BYTES];
    file.read_exact("Berkeley DB page 0", 0, &mut bytes)?;
    let meta = Meta::parse(&bytes, file.len_bytes())?;
    let mut hash = Hash {
        file,
        order: meta.order,
        page_bytes: meta.page_bytes,
        last_page: meta.last_page,
        used: PageSet::default(),
    };
    hash.used.insert(0);
    for bucket in 0..=meta.max_bucket {
        let flow = match meta.bucket_page(bucket) {
            Ok(page) => hash.read_bucket(page, collector),
            Err(fault) => collector.fault(fault),
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// The byte order of a file: that of the machine that made it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, structure: &Structure<'_>, offset: usize) -> Result<u16, Fault> {
        match self {
            Self::Little => structure.u16_le(offset),
            Self::Big => structure.u16_be(offset),
        }
    }

    fn u32(self, structure: &Structure<'_>, offset: usize) -> Result<u32, Fault> {
        match self {
            Self::Little => structure.u32_le(offset),
            Self::Big => structure.u32_be(offset),
        }
    }
}

/// What page 0 says.
struct Meta {
    order: Order,
    page_bytes: usize,
    last_page: u32,
    max_bucket: u32,
    /// What is added to a bucket's number, by the doubling of the hash that made the bucket.
    spares: [u32; 32],
}

impl Meta {
    fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, FsError> {
        let meta = Structure::new("Berkeley DB page 0", 0, bytes);
        let order = if meta.u32_le(12)? == HASH_MAGIC { Order::Little } else { Order::Big };
        let (version, page_bytes) = (order.u32(&meta, 16)?, order.u32(&meta, 20)?);
        if !(7..=10).contains(&version) {
            return Err(FsError::Unsupported("Berkeley DB hash version"));
        }
        if !(512..=65_536).contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err(meta.fault("Berkeley DB page size in bytes", 20, "512 to 65536", page_bytes).into());
        }
        if meta.u8(24)? != 0 {
            return Err(FsError::Unsupported("Berkeley DB encryption"));
        }
        if meta.u8(25)? != PAGE_HASH_META {
            return Err(meta.fault("Berkeley DB page 0 type", 25, PAGE_HASH_META, meta.u8(25)?).into());
        }
        if meta.u8(26)? != 0 {
            return Err(FsError::Unsupported("Berkeley DB page checksums or partitions"));
        }
        let pages_there = file_bytes.div_ceil(page_bytes.into());
        // A snapshot may be older than the pages that were to follow: those are faults when they are met.
        let last_page = order.u32(&meta, 32)?;
        if last_page >= MAX_PAGES || u64::from(last_page) > pages_there.saturating_mul(2) {
            return Err(meta.fault("Berkeley DB last page", 32, last_page, pages_there).into());
        }
        let max_bucket = order.u32(&meta, 72)?;
        if max_bucket > last_page {
            return Err(meta.fault("Berkeley DB buckets", 72, max_bucket, last_page).into());
        }
        let mut spares = [0; 32];
        for (spare, offset) in spares.iter_mut().zip((96..).step_by(4)) {
            *spare = order.u32(&meta, offset)?;
        }
        Ok(Self { order, page_bytes: length_of(page_bytes), last_page, max_bucket, spares })
    }

    fn bucket_page(&self, bucket: u32) -> Result<u32, Fault> {
        let doubling = length_of(bucket.saturating_add(1).next_power_of_two().trailing_zeros());
        let page = self.spares.get(doubling).and_then(|spare| spare.checked_add(bucket));
        page.ok_or_else(|| Fault::new("Berkeley DB bucket page", 96, self.last_page, u32::MAX))
    }
}

struct Hash<'f> {
    file: CachedFile<'f>,
    order: Order,
    page_bytes: usize,
    last_page: u32,
    used: PageSet,
}

impl Hash<'_> {
    fn at(&self, page: u32) -> u64 {
        u64::from(page).saturating_mul(offset_of(self.page_bytes))
    }

    /// Reads `page`, which no one read before, into `bytes`.
    fn read_page(&mut self, page: u32, bytes: &mut Vec<u8>) -> Result<(), FsError> {
        let at = self.at(page);
        if page > self.last_page {
            return Err(Fault::new("Berkeley DB page number", at, self.last_page, page).into());
        }
        if !self.used.insert(page) {
            return Err(Fault::new("Berkeley DB page", at, "used once", "used twice").into());
        }
        bytes.resize(self.page_bytes, 0);
        self.file.read_exact("Berkeley DB page", at, bytes)?;
        // A page that was not written since the file grew has no number.
        let structure = Structure::new("Berkeley DB page", at, bytes);
        let number = self.order.u32(&structure, 8)?;
        if number != page && !(number == 0 && structure.u8(25)? == PAGE_INVALID) {
            return Err(structure.fault("Berkeley DB page's own number", 8, page, number).into());
        }
        Ok(())
    }

    fn read_bucket(&mut self, first_page: u32, collector: &mut Collector) -> ControlFlow<()> {
        let mut next = first_page;
        loop {
            let mut bytes = Vec::new();
            if let Err(error) = self.read_page(next, &mut bytes) {
                return collector.error(error);
            }
            let page = Structure::new("Berkeley DB hash page", self.at(next), &bytes);
            match self.read_hash_page(&page, collector)? {
                Some(page) => next = page,
                None => return ControlFlow::Continue(()),
            }
        }
    }

    /// Gives the page that the bucket goes on with.
    fn read_hash_page(
        &mut self,
        page: &Structure<'_>,
        collector: &mut Collector,
    ) -> ControlFlow<(), Option<u32>> {
        let items = match self.hash_items(page) {
            Ok(items) => items,
            Err(fault) => {
                collector.fault(fault)?;
                return ControlFlow::Continue(None);
            }
        };
        for pair in items.chunks_exact(2) {
            let [key, datum] = pair else { break };
            match self.read_pair(key, datum, collector) {
                Ok(flow) => flow?,
                Err(error) => collector.error(error)?,
            }
        }
        if items.len() % 2 != 0 {
            collector.fault(page.fault("Berkeley DB items", 20, "pairs", items.len()))?;
        }
        let next = self.order.u32(page, 16).unwrap_or(0);
        ControlFlow::Continue((next != 0).then_some(next))
    }

    /// The items of a hash page: they lie from its end downwards, each up to the one before.
    fn hash_items<'p>(&self, page: &Structure<'p>) -> Result<Vec<Structure<'p>>, Fault> {
        let (entries, kind) = (self.order.u16(page, 20)?, page.u8(25)?);
        if kind == PAGE_INVALID && entries == 0 {
            return Ok(Vec::new());
        }
        if kind != PAGE_HASH && kind != PAGE_HASH_UNSORTED {
            return Err(page.fault("Berkeley DB page type", 25, PAGE_HASH, kind));
        }
        let index =
            page.part("Berkeley DB item index", PAGE_HEADER_BYTES, usize::from(entries).saturating_mul(2))?;
        let lowest = PAGE_HEADER_BYTES.saturating_add(index.len());
        let mut items = Vec::with_capacity(usize::from(entries));
        let mut end = page.len();
        for position in (0..index.len()).step_by(2) {
            let begin = usize::from(self.order.u16(&index, position)?);
            if begin >= end || begin < lowest {
                return Err(index.fault("Berkeley DB item offset", position, end, begin));
            }
            items.push(page.part("Berkeley DB item", begin, end.saturating_sub(begin))?);
            end = begin;
        }
        Ok(items)
    }

    fn read_pair(
        &mut self,
        key: &Structure<'_>,
        datum: &Structure<'_>,
        collector: &mut Collector,
    ) -> Result<ControlFlow<()>, FsError> {
        // The key is the number of the package; under number 0 rpm keeps the highest number.
        if key.u8(0)? == ITEM_KEYDATA && self.order.u32(key, 1)? == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        match datum.u8(0)? {
            ITEM_KEYDATA => inline_header(&datum.rest("rpm header", 1)?, collector),
            ITEM_OFFPAGE => self.overflow_header(datum, collector),
            ITEM_DUPLICATE => self.read_duplicates(&datum.rest("Berkeley DB duplicates", 1)?, collector),
            ITEM_OFFDUP => self.read_duplicate_tree(self.order.u32(datum, 4)?, collector),
            kind => Err(datum.fault("Berkeley DB item type", 0, ITEM_OFFPAGE, kind).into()),
        }
    }

    /// A header in a chain of overflow pages, which `item` names at offset 4, and its length at offset 8.
    fn overflow_header(
        &mut self,
        item: &Structure<'_>,
        collector: &mut Collector,
    ) -> Result<ControlFlow<()>, FsError> {
        let (page, len) = (self.order.u32(item, 4)?, self.order.u32(item, 8)?);
        let at = self.at(page);
        let pieces = Overflow { hash: self, next: page };
        let mut chain = Chain::new("Berkeley DB overflow chain", at, len.into(), &[], pieces);
        header::read(&mut chain, at, collector)
    }

    /// Data of one key on the page: each between two copies of its length.
    fn read_duplicates(
        &mut self,
        data: &Structure<'_>,
        collector: &mut Collector,
    ) -> Result<ControlFlow<()>, FsError> {
        let mut offset = 0_usize;
        while offset < data.len() {
            let len = usize::from(self.order.u16(data, offset)?);
            let datum = data.part("rpm header", offset.saturating_add(2), len)?;
            if inline_header(&datum, collector)
                .or_else(|error| Ok::<_, FsError>(collector.error(error)))?
                .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            offset = offset.saturating_add(len).saturating_add(4);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Data of one key in a tree of their own.
    fn read_duplicate_tree(
        &mut self,
        root: u32,
        collector: &mut Collector,
    ) -> Result<ControlFlow<()>, FsError> {
        let mut pages = vec![root];
        let mut bytes = Vec::new();
        while let Some(number) = pages.pop() {
            let result = self.read_page(number, &mut bytes).and_then(|()| {
                let page = Structure::new("Berkeley DB duplicate page", self.at(number), &bytes);
                self.read_duplicate_page(&page, &mut pages, collector)
            });
            if result.or_else(|error| Ok::<_, FsError>(collector.error(error)))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read_duplicate_page(
        &mut self,
        page: &Structure<'_>,
        pages: &mut Vec<u32>,
        collector: &mut Collector,
    ) -> Result<ControlFlow<()>, FsError> {
        let (entries, kind) = (self.order.u16(page, 20)?, page.u8(25)?);
        let index =
            page.part("Berkeley DB item index", PAGE_HEADER_BYTES, usize::from(entries).saturating_mul(2))?;
        if pages.len() > MAX_PAGES_WAITING {
            return Err(page.fault("Berkeley DB duplicate pages", 20, MAX_PAGES_WAITING, pages.len()).into());
        }
        let mut item_bytes = 0_usize;
        for position in (0..index.len()).step_by(2) {
            let item = page.rest("Berkeley DB item", usize::from(self.order.u16(&index, position)?))?;
            let flow = match kind {
                PAGE_BTREE_INTERNAL => {
                    pages.push(self.order.u32(&item, 4)?);
                    continue;
                }
                PAGE_RECNO_INTERNAL => {
                    pages.push(self.order.u32(&item, 0)?);
                    continue;
                }
                PAGE_DUPLICATE_LEAF | PAGE_RECNO_LEAF => match item.u8(2)? {
                    kind if kind & LEAF_DELETED != 0 => continue,
                    LEAF_KEYDATA => {
                        let len = usize::from(self.order.u16(&item, 0)?);
                        // Items that overlap would cost more than the page has bytes.
                        item_bytes = item_bytes.saturating_add(len);
                        if item_bytes > page.len() {
                            return Err(item.fault("Berkeley DB items", 0, page.len(), item_bytes).into());
                        }
                        inline_header(&item.part("rpm header", 3, len)?, collector)
                    }
                    LEAF_OVERFLOW => self.overflow_header(&item, collector),
                    kind => Err(item.fault("Berkeley DB item type", 2, LEAF_KEYDATA, kind).into()),
                },
                kind => {
                    return Err(page.fault("Berkeley DB page type", 25, PAGE_DUPLICATE_LEAF, kind).into());
                }
            };
            if flow.or_else(|error| Ok::<_, FsError>(collector.error(error)))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn inline_header(datum: &Structure<'_>, collector: &mut Collector) -> Result<ControlFlow<()>, FsError> {
    header::read(&mut Inline { at: datum.at(), bytes: datum.bytes() }, datum.at(), collector)
}

/// A chain of overflow pages.
struct Overflow<'h, 'f> {
    hash: &'h mut Hash<'f>,
    next: u32,
}

impl Pieces for Overflow<'_, '_> {
    fn next_piece(&mut self, piece: &mut Vec<u8>) -> Result<bool, FsError> {
        if self.next == 0 {
            return Ok(false);
        }
        let at = self.hash.at(self.next);
        self.hash.read_page(self.next, piece)?;
        let page = Structure::new("Berkeley DB overflow page", at, piece);
        if page.u8(25)? != PAGE_OVERFLOW {
            return Err(page.fault("Berkeley DB page type", 25, PAGE_OVERFLOW, page.u8(25)?).into());
        }
        self.next = self.hash.order.u32(&page, 16)?;
        let len = usize::from(self.hash.order.u16(&page, 22)?);
        let end = PAGE_HEADER_BYTES.saturating_add(len);
        if len == 0 || end > page.len() {
            return Err(page.fault("Berkeley DB overflow bytes", 22, page.len(), end).into());
        }
        piece.truncate(end);
        piece.drain(..PAGE_HEADER_BYTES);
        Ok(true)
    }
}

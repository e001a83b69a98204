//! The table `Packages` of an SQLite database, read without SQLite.
//!
//! Format: sqlite.org/fileformat2.html. Read are the database header, the schema in page 1, and the b-tree of the one
//! table with its overflow pages, with what a write-ahead log has newer. Pages are 512 to 65,536 bytes, and may have
//! bytes reserved at their end.
//!
//! Not supported: texts in UTF-16 (rpm's are UTF-8), tables without row numbers, and rollback journals: rpm sets the
//! WAL mode.

mod record;
mod wal;

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileContent, FsError};

use self::record::{columns, short_column, varint};
use self::wal::Wal;
use super::blob::{Chain, MAX_PAGES, MAX_PAGES_WAITING, PageSet, Pieces, Tail};
use super::cached::CachedFile;
use super::{header, length_of, offset_of};
use crate::collector::Collector;

pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;

/// Types of b-tree pages.
const TABLE_INTERIOR: u8 = 5;
const TABLE_LEAF: u8 = 13;

pub(super) fn read(
    file: &mut dyn FileContent,
    wal: Option<&mut dyn FileContent>,
    collector: &mut Collector,
) -> Result<(), FsError> {
    let mut file = CachedFile::new(file);
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact("SQLite header", 0, &mut bytes)?;
    let page_bytes = page_bytes(&Structure::new("SQLite header", 0, &bytes))?;
    let wal = match wal {
        Some(wal) => Wal::open(wal, page_bytes, collector)?,
        None => None,
    };
    let mut database = Database::open(file, wal, page_bytes)?;
    let mut root = None;
    let faults_before = collector.parsed.faults.len();
    database.visit_rows(1, collector, &mut |row, at, _| {
        root = packages_root(row, at)?;
        Ok(if root.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    let Some(root) = root else {
        // Without the table's root nothing can be read: that is an error, and not a database of no packages.
        let stopped_by = collector.parsed.stopped_by.take();
        let fault = collector.parsed.faults.get(faults_before).copied();
        let fault = fault.unwrap_or_else(|| Fault::new("SQLite schema", 0, "a table Packages", "none"));
        return Err(stopped_by.unwrap_or(fault.into()));
    };
    database.visit_rows(root, collector, &mut |row, at, collector| {
        let [_, blob] = columns(row, at)?;
        if !blob.is_blob() {
            return Err(Fault::new("rpm header column", at, "a blob", "something else").into());
        }
        header::read(&mut Tail { blob: row, start: blob.offset, len_bytes: blob.len_bytes }, at, collector)
    });
    Ok(())
}

/// The root page of the table `Packages`, if `row` of the schema is its.
fn packages_root(row: &mut Row<'_, '_>, at: u64) -> Result<Option<u32>, FsError> {
    let [kind, name, _, root] = columns(row, at)?;
    if !kind.is_text() || !name.is_text() {
        return Ok(None);
    }
    if short_column::<5>(row, kind)?.as_deref() != Some(b"table") {
        return Ok(None);
    }
    if !short_column::<8>(row, name)?.is_some_and(|name| name.eq_ignore_ascii_case(b"Packages")) {
        return Ok(None);
    }
    let number = short_column::<8>(row, root)?.and_then(|bytes| root.number(&bytes));
    let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 1);
    number.map(Some).ok_or_else(|| Fault::new("SQLite root page", at, "a page", "none").into())
}

/// A row's record.
type Row<'d, 'f> = Chain<Overflow<'d, 'f>>;

type Visit<'v> = dyn FnMut(&mut Row<'_, '_>, u64, &mut Collector) -> Result<ControlFlow<()>, FsError> + 'v;

struct Database<'f> {
    file: CachedFile<'f>,
    wal: Option<Wal<'f>>,
    page_bytes: usize,
    /// The bytes of a page that are not reserved.
    usable_bytes: usize,
    pages: u32,
    used: PageSet,
}

impl<'f> Database<'f> {
    fn open(mut file: CachedFile<'f>, mut wal: Option<Wal<'f>>, page_bytes: usize) -> Result<Self, FsError> {
        // The log may have a newer header too.
        let mut bytes = vec![0; page_bytes];
        let is_in_wal = match &mut wal {
            Some(wal) => wal.read_page(1, &mut bytes)?,
            None => false,
        };
        if !is_in_wal {
            file.read_exact("SQLite page", 0, &mut bytes)?;
        }
        let header = Structure::new("SQLite header", 0, &bytes);
        let usable_bytes = page_bytes.saturating_sub(usize::from(header.u8(20)?));
        if usable_bytes < 480 {
            return Err(header.fault("SQLite usable page bytes", 20, 480_u16, usable_bytes).into());
        }
        if header.u8(19)? > 2 {
            return Err(FsError::Unsupported("SQLite read version"));
        }
        if !matches!(header.u32_be(56)?, 0 | 1) {
            return Err(FsError::Unsupported("SQLite text encoding"));
        }
        let pages_there = file.len_bytes().checked_div(offset_of(page_bytes)).unwrap_or(0);
        let pages = match &wal {
            Some(wal) => wal.database_pages,
            // The header's count holds only if the one who last changed the database knew of it.
            None if header.u32_be(28)? != 0 && header.u32_be(24)? == header.u32_be(92)? => {
                header.u32_be(28)?
            }
            None => u32::try_from(pages_there).unwrap_or(u32::MAX),
        };
        if pages >= MAX_PAGES {
            return Err(FsError::Limit { what: "SQLite pages", cap: MAX_PAGES.into() });
        }
        Ok(Self { file, wal, page_bytes, usable_bytes, pages, used: PageSet::default() })
    }

    fn at(&self, page: u32) -> u64 {
        u64::from(page).saturating_sub(1).saturating_mul(offset_of(self.page_bytes))
    }

    /// Reads `number`, which no one read before, into `bytes`: its usable part.
    fn read_page(&mut self, number: u32, bytes: &mut Vec<u8>) -> Result<(), FsError> {
        let at = self.at(number);
        if number == 0 || number > self.pages {
            return Err(Fault::new("SQLite page number", at, self.pages, number).into());
        }
        if !self.used.insert(number) {
            return Err(Fault::new("SQLite page", at, "used once", "used twice").into());
        }
        bytes.resize(self.page_bytes, 0);
        let is_in_wal = match &mut self.wal {
            Some(wal) => wal.read_page(number, bytes)?,
            None => false,
        };
        if !is_in_wal {
            self.file.read_exact("SQLite page", at, bytes)?;
        }
        bytes.truncate(self.usable_bytes);
        Ok(())
    }

    /// Calls `visit` for each row of the table whose b-tree has the root `root`, until it breaks. What is wrong with a
    /// page or row goes to `collector`, and the others are visited.
    fn visit_rows(&mut self, root: u32, collector: &mut Collector, visit: &mut Visit<'_>) {
        let mut pages = vec![root];
        let mut bytes = Vec::new();
        while let Some(number) = pages.pop() {
            let flow = match self.read_page(number, &mut bytes) {
                Ok(()) => self.visit_page(number, &bytes, &mut pages, collector, visit),
                Err(error) => Err(error),
            };
            if flow.unwrap_or_else(|error| collector.error(error)).is_break() {
                return;
            }
        }
    }

    fn visit_page(
        &mut self,
        number: u32,
        bytes: &[u8],
        pages: &mut Vec<u32>,
        collector: &mut Collector,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, FsError> {
        let page = Structure::new("SQLite b-tree page", self.at(number), bytes);
        // Page 1 has the database header before its own.
        let begin = if number == 1 { HEADER_BYTES } else { 0 };
        let header = page.rest("SQLite b-tree page header", begin)?;
        let (kind, cells) = (header.u8(0)?, usize::from(header.u16_be(3)?));
        let pointers = match kind {
            TABLE_INTERIOR => header.part("SQLite cell pointers", 12, cells.saturating_mul(2))?,
            TABLE_LEAF => header.part("SQLite cell pointers", 8, cells.saturating_mul(2))?,
            _ => return Err(header.fault("SQLite b-tree page type", 0, TABLE_LEAF, kind).into()),
        };
        let offsets = pointers.bytes().chunks_exact(2).map(|pointer| match *pointer {
            [high, low] => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        });
        if kind == TABLE_INTERIOR {
            // The last child is the first to wait, so that rows come in their order.
            pages.push(header.u32_be(8)?);
            let mut children = offsets.map(|offset| page.u32_be(offset)).collect::<Result<Vec<_>, _>>()?;
            children.reverse();
            if pages.len().saturating_add(children.len()) > MAX_PAGES_WAITING {
                return Err(header.fault("SQLite b-tree pages", 3, MAX_PAGES_WAITING, children.len()).into());
            }
            pages.append(&mut children);
            return Ok(ControlFlow::Continue(()));
        }
        let mut cell_bytes = 0_usize;
        for offset in offsets {
            let flow = self.visit_cell(&page, offset, &mut cell_bytes, collector, visit);
            if flow.unwrap_or_else(|error| collector.error(error)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn visit_cell(
        &mut self,
        page: &Structure<'_>,
        offset: usize,
        cell_bytes: &mut usize,
        collector: &mut Collector,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, FsError> {
        let cell = page.rest("SQLite cell", offset)?;
        let no_number = || cell.fault("SQLite cell", 0, "a variable-length integer", "none");
        let (len_bytes, len) = varint(cell.bytes()).ok_or_else(no_number)?;
        let after_len = cell.rest("SQLite cell", len)?;
        let (_, row_len) = varint(after_len.bytes()).ok_or_else(no_number)?;
        let record = after_len.rest("SQLite record", row_len)?;
        let local_len = self.local_bytes(len_bytes);
        let local = record.slice(0, local_len)?;
        // Cells do not overlap: this bounds the work of any page.
        *cell_bytes = cell_bytes.saturating_add(len).saturating_add(row_len).saturating_add(local_len);
        if *cell_bytes > page.len() {
            return Err(cell.fault("SQLite cells in bytes", 0, page.len(), *cell_bytes).into());
        }
        let next = if offset_of(local_len) < len_bytes { record.u32_be(local_len)? } else { 0 };
        let pieces = Overflow { database: self, next };
        visit(&mut Chain::new("SQLite record", record.at(), len_bytes, local, pieces), record.at(), collector)
    }

    /// How much of a record of `len_bytes` lies on the leaf page itself; the rest is on overflow pages.
    fn local_bytes(&self, len_bytes: u64) -> usize {
        let usable = self.usable_bytes;
        let most = usable.saturating_sub(35);
        if len_bytes <= offset_of(most) {
            return length_of(len_bytes);
        }
        let least = (usable.saturating_sub(12).saturating_mul(32) / 255).saturating_sub(23);
        let overflow = offset_of(usable.saturating_sub(4)).max(1);
        let last_page =
            length_of(len_bytes.saturating_sub(offset_of(least)).checked_rem(overflow).unwrap_or(0));
        let wanted = least.saturating_add(last_page);
        if wanted <= most { wanted } else { least }
    }
}

fn page_bytes(header: &Structure<'_>) -> Result<usize, Fault> {
    match header.u16_be(16)? {
        1 => Ok(65_536),
        size if size >= 512 && size.is_power_of_two() => Ok(usize::from(size)),
        size => Err(header.fault("SQLite page size in bytes", 16, "a power of two from 512", size)),
    }
}

/// A chain of overflow pages: each begins with the number of the next.
struct Overflow<'d, 'f> {
    database: &'d mut Database<'f>,
    next: u32,
}

impl Pieces for Overflow<'_, '_> {
    fn next_piece(&mut self, piece: &mut Vec<u8>) -> Result<bool, FsError> {
        if self.next == 0 {
            return Ok(false);
        }
        self.database.read_page(self.next, piece)?;
        self.next = Structure::new("SQLite overflow page", 0, piece).u32_be(0)?;
        piece.drain(..4);
        Ok(true)
    }
}

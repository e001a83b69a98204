//! Files that Windows keeps compressed behind the Windows Overlay Filter (CompactOS, `compact /exe`).
//!
//! The reparse point is WOF_EXTERNAL_INFO and FILE_PROVIDER_EXTERNAL_INFO ([MS-FSCC] 2.1.2, `ntifs.h`). The unnamed
//! stream has the file's size and no clusters; the stream `WofCompressedData` has a table of where each chunk ends, but
//! for the last, and the chunks. A chunk that is as long as what it stands for is stored as it is.
//!
//! Not supported: files that lie in a WIM archive (provider 1), which is another file.

use std::ops::Range;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{Extent, FileContent, FsError, read_full};

use crate::attribute::Kind;
use crate::content::{self, Content};
use crate::huffman::Huffman;
use crate::lzx::{self, Lzx};
use crate::record::{FileRecord, UNNAMED};
use crate::reparse::ReparsePoint;
use crate::volume::Volume;
use crate::xpress;

/// The name of the stream, in UTF-16.
const COMPRESSED_DATA: &[u8] = b"W\0o\0f\0C\0o\0m\0p\0r\0e\0s\0s\0e\0d\0D\0a\0t\0a\0";
const VERSION: u32 = 1;
const PROVIDER_WIM: u32 = 1;
const PROVIDER_FILE: u32 = 2;
/// Up to this size the chunk table has entries of 4 bytes, else of 8.
const SHORT_ENTRIES_UP_TO: u64 = u32::MAX as u64;
/// How much of the chunk table is held.
const TABLE_PIECE_LEN: usize = 4096;
/// How much of the compressed stream one read takes, where several chunks are wanted.
const WINDOW_BYTES: u64 = 128 << 10;

/// Whether this is the stream that Windows hides of a file behind the filter.
pub(crate) fn hides(point: Option<&ReparsePoint>, stream_name: &[u8]) -> bool {
    stream_name == COMPRESSED_DATA && point.is_some_and(ReparsePoint::is_wof)
}

/// Opens the content of a file whose reparse point is the filter's.
///
/// # Errors
/// Where the file lies in a WIM archive, or by an algorithm that Windows does not have, or the stream is missing.
pub(crate) fn open<'v>(
    volume: &'v Volume,
    record: &FileRecord,
    point: &ReparsePoint,
) -> Result<WofContent<'v>, FsError> {
    let (decoder, chunk_bytes) = decoder(&point.data()?)?;
    let data = Kind::DATA;
    let missing = |name| Fault::new("WOF file", record.at, name, "none");
    let len_bytes = record.first(data, UNNAMED).ok_or(missing("an unnamed $DATA attribute"))?.size();
    let chunks = len_bytes.div_ceil(chunk_bytes);
    let entry_bytes = if len_bytes > SHORT_ENTRIES_UP_TO { 8 } else { 4 };
    let table_bytes = chunks.saturating_sub(1).saturating_mul(entry_bytes);
    let stream =
        record.stream(volume, data, COMPRESSED_DATA)?.ok_or(missing("a WofCompressedData stream"))?;
    let at = stream.at;
    let Some(chunks_bytes) = stream.size.checked_sub(table_bytes) else {
        return Err(Fault::new("WOF chunk table", at, table_bytes, stream.size).into());
    };
    Ok(WofContent {
        compressed: content::open(volume, stream)?,
        at,
        len_bytes,
        chunk_bytes,
        chunks,
        table: ChunkTable { chunks, entry_bytes, table_bytes, chunks_bytes, piece: Vec::new(), first: 0 },
        decoder,
        held: None,
        window: Vec::new(),
        window_at: 0,
        chunk: Vec::new(),
    })
}

/// The decoder that the reparse data names, and how long its chunks are.
fn decoder(data: &Structure<'_>) -> Result<(Decoder, u64), FsError> {
    match (data.u32_le(0)?, data.u32_le(4)?) {
        (VERSION, PROVIDER_FILE) => {}
        (VERSION, PROVIDER_WIM) => return Err(FsError::Unsupported("a file in a WIM archive (WOF)")),
        _ => return Err(FsError::Unsupported("a WOF provider other than files and WIM archives")),
    }
    if data.u32_le(8)? != VERSION {
        return Err(FsError::Unsupported("WOF compression of another version"));
    }
    let xpress = || Decoder::Xpress(Box::new(Huffman::new()));
    match data.u32_le(12)? {
        0 => Ok((xpress(), 4 << 10)),
        1 => {
            let chunk_bytes = u64::try_from(lzx::CHUNK_LEN).unwrap_or(0);
            Ok((Decoder::Lzx(Box::new(Lzx::new())), chunk_bytes))
        }
        2 => Ok((xpress(), 8 << 10)),
        3 => Ok((xpress(), 16 << 10)),
        _ => Err(FsError::Unsupported("WOF compression by another algorithm")),
    }
}

enum Decoder {
    Xpress(Box<Huffman>),
    Lzx(Box<Lzx>),
}

/// The content of an open file.
pub(crate) struct WofContent<'v> {
    compressed: Content<'v>,
    /// Where the header of the compressed stream's attribute lies.
    at: u64,
    len_bytes: u64,
    chunk_bytes: u64,
    chunks: u64,
    table: ChunkTable,
    decoder: Decoder,
    /// The number of the chunk that `chunk` holds.
    held: Option<u64>,
    /// Some bytes of the compressed stream, from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    chunk: Vec<u8>,
}

/// Where each chunk ends, counted from behind the table.
struct ChunkTable {
    chunks: u64,
    entry_bytes: u64,
    table_bytes: u64,
    chunks_bytes: u64,
    /// Some entries, from number `first` on.
    piece: Vec<u8>,
    first: u64,
}

impl ChunkTable {
    /// The bytes of the compressed stream that hold chunk `number`.
    fn chunk(&mut self, compressed: &mut Content<'_>, at: u64, number: u64) -> Result<Range<u64>, FsError> {
        let start = match number.checked_sub(1) {
            None => 0,
            Some(before) => self.end(compressed, before)?,
        };
        let is_last = number.checked_add(1) == Some(self.chunks);
        let end = if is_last { self.chunks_bytes } else { self.end(compressed, number)? };
        if start >= end || end > self.chunks_bytes {
            return Err(Fault::new("WOF chunk table", at, "rising offsets in the stream", end).into());
        }
        Ok(self.table_bytes.saturating_add(start)..self.table_bytes.saturating_add(end))
    }

    fn end(&mut self, compressed: &mut Content<'_>, number: u64) -> Result<u64, FsError> {
        if let Some(end) = self.held(number) {
            return Ok(end);
        }
        let offset = number.saturating_mul(self.entry_bytes);
        let left = usize::try_from(self.table_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.piece.clear();
        self.piece.resize(left.min(TABLE_PIECE_LEN), 0);
        self.first = number;
        let read = read_full(compressed, offset, &mut self.piece);
        if !matches!(read, Ok(len) if len == self.piece.len()) {
            self.piece.clear();
        }
        read?;
        let missing = Fault::new("WOF chunk table", offset, self.table_bytes, "a shorter stream");
        self.held(number).ok_or(missing.into())
    }

    fn held(&self, number: u64) -> Option<u64> {
        let within = number.checked_sub(self.first)?.checked_mul(self.entry_bytes)?;
        let rest = self.piece.get(usize::try_from(within).ok()?..)?;
        if self.entry_bytes == 8 {
            rest.first_chunk().map(|entry| u64::from_le_bytes(*entry))
        } else {
            rest.first_chunk().map(|entry| u32::from_le_bytes(*entry).into())
        }
    }
}

impl WofContent<'_> {
    /// Makes `chunk` hold chunk `number`, where those up to `last` will be wanted next.
    fn load(&mut self, number: u64, last: u64) -> Result<(), FsError> {
        if self.held == Some(number) {
            return Ok(());
        }
        // Forgotten first, so that no error leaves a wrong chunk behind.
        self.held = None;
        let range = self.table.chunk(&mut self.compressed, self.at, number)?;
        let start = number.saturating_mul(self.chunk_bytes);
        let output_bytes = self.len_bytes.saturating_sub(start).min(self.chunk_bytes);
        let input_bytes = range.end.saturating_sub(range.start);
        if input_bytes > output_bytes {
            return Err(Fault::new("WOF chunk", self.at, output_bytes, input_bytes).into());
        }
        self.fetch(number, &range, last)?;
        let within = usize::try_from(range.start.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        let window = Structure::new("WOF chunk", self.at, &self.window);
        let input = window.slice(within, usize::try_from(input_bytes).unwrap_or(usize::MAX))?;
        let output_len = usize::try_from(output_bytes).unwrap_or(0);
        let at = self.compressed.position(range.start).unwrap_or(self.at);
        match &mut self.decoder {
            _ if input_bytes == output_bytes => {
                self.chunk.clear();
                self.chunk.extend_from_slice(input);
            }
            Decoder::Xpress(code) => xpress::decompress(code, at, input, output_len, &mut self.chunk)?,
            Decoder::Lzx(lzx) => lzx.decompress(at, input, output_len, &mut self.chunk)?,
        }
        self.held = Some(number);
        Ok(())
    }

    /// Makes `window` hold `range`, the bytes of chunk `number`, and those of as many chunks up to `last` as fit.
    fn fetch(&mut self, number: u64, range: &Range<u64>, last: u64) -> Result<(), FsError> {
        let window_end = self.window_at.saturating_add(u64::try_from(self.window.len()).unwrap_or(0));
        if self.window_at <= range.start && range.end <= window_end {
            return Ok(());
        }
        // Whole chunks, so that no byte is read twice. Where the table is damaged further on, those before are read all
        // the same.
        let most = range.start.saturating_add(WINDOW_BYTES);
        let mut whole = range.end;
        for next in number.saturating_add(1)..=last {
            match self.table.chunk(&mut self.compressed, self.at, next) {
                Ok(next) if next.start == whole && next.end <= most => whole = next.end,
                _ => break,
            }
        }
        let mut read = Ok(());
        for end in [whole, range.end] {
            self.window.clear();
            self.window.resize(usize::try_from(end.saturating_sub(range.start)).unwrap_or(0), 0);
            self.window_at = range.start;
            read = match read_full(&mut self.compressed, range.start, &mut self.window) {
                Ok(len) if len == self.window.len() => return Ok(()),
                Ok(_) => Err(Fault::new("WOF chunk", self.at, end, "a shorter stream").into()),
                Err(error) => Err(error),
            };
            self.window.clear();
            if read.as_ref().is_err_and(FsError::is_final) {
                break;
            }
        }
        read
    }
}

impl FileContent for WofContent<'_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = usize::try_from(self.len_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let mut rest = buffer.get_mut(..len).unwrap_or_default();
        let mut at = offset;
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(0));
        let last = end.saturating_sub(1).checked_div(self.chunk_bytes).unwrap_or(0);
        while !rest.is_empty() {
            let number = at.checked_div(self.chunk_bytes).unwrap_or(0);
            self.load(number, last)?;
            let within = at.saturating_sub(number.saturating_mul(self.chunk_bytes));
            let bytes =
                usize::try_from(within).ok().and_then(|within| self.chunk.get(within..)).unwrap_or_default();
            let take = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(bytes.get(..take).unwrap_or_default());
            if take == 0 {
                return Err(Fault::new("WOF chunk", self.at, "more bytes", within).into());
            }
            at = at.saturating_add(u64::try_from(take).unwrap_or(0));
            rest = later;
        }
        Ok(len)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        let end = range.end.min(self.len_bytes);
        let (Some(last), Some(first)) =
            (end.checked_sub(1), range.start.checked_div(self.chunk_bytes).filter(|_| range.start < end))
        else {
            return Vec::new();
        };
        let last = last.checked_div(self.chunk_bytes).unwrap_or(0).min(self.chunks.saturating_sub(1));
        let Self { table, compressed, at, .. } = self;
        let Ok(from) = table.chunk(compressed, *at, first) else { return Vec::new() };
        let Ok(to) = table.chunk(compressed, *at, last) else { return Vec::new() };
        compressed.extents(from.start..to.end)
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.compressed.wants_hints() {
            let extents = self.extents(range);
            self.compressed.prefetch(&extents);
        }
    }
}

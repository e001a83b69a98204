//! Pieces of the MFT that are kept: some records side by side, without their update sequences.
//!
//! Of a record only what is ever asked for is kept: not what lies behind its end, nor the attributes from $FILE_NAME to
//! $OBJECT_ID. That is a quarter of what the MFT takes on the disk, so that the records of some hundred thousand files are
//! still at hand when, after the walk, content is read in an order that is not that of the MFT.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_bytes::{Fault, Structure};

use crate::attribute;

/// How much of the MFT is kept, in bytes of memory: 64 MiB in so many parts, each with a lock of its own.
const KEPT_AT_MOST_BYTES: usize = 64 << 20;
const PARTS: usize = 16;
/// What a file record's header takes, with all its fields that are read.
pub(crate) const RECORD_HEADER_BYTES: usize = 0x30;

/// Some records side by side.
pub(crate) struct Piece {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// By record: what is wrong with its update sequence.
    faults: Vec<(usize, Fault)>,
}

/// Where a record lies in [`Piece::bytes`], and what was left out of it.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    /// How much of it lies before what was left out.
    head_len: u32,
    left_out: u32,
    tail_len: u32,
}

/// The bytes of one file record, its update sequence undone.
pub(crate) struct RecordBytes {
    /// The offset of the record on the volume, in bytes.
    pub(crate) at: u64,
    piece: Arc<Piece>,
    place: Place,
}

impl Piece {
    /// A piece that has no record yet and is for `count`.
    pub(crate) fn for_records(count: usize) -> Self {
        Self { bytes: Vec::new(), places: Vec::with_capacity(count), faults: Vec::new() }
    }

    /// Adds the next record, or what is wrong with it.
    pub(crate) fn push(&mut self, record: Result<&[u8], Fault>) {
        let record = record.unwrap_or_else(|fault| {
            self.faults.push((self.places.len(), fault));
            &[]
        });
        let (head, left_out, tail) = cut(record);
        let number = |len| u32::try_from(len).unwrap_or(u32::MAX);
        self.places.push(Place {
            start: number(self.bytes.len()),
            head_len: number(head.len()),
            left_out: number(left_out),
            tail_len: number(tail.len()),
        });
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(tail);
    }

    /// Gives back what it has no need of.
    pub(crate) fn closed(mut self) -> Arc<Self> {
        self.bytes.shrink_to_fit();
        Arc::new(self)
    }

    /// Record `index` of it, if it is one, which lies `at` bytes into the volume.
    pub(crate) fn record(self: Arc<Self>, index: usize, at: u64) -> Result<RecordBytes, Fault> {
        if let Some((_, fault)) = self.faults.iter().find(|(damaged, _)| *damaged == index) {
            return Err(*fault);
        }
        let place = self.places.get(index).copied();
        let place = place.ok_or_else(|| Fault::new("file record", at, "in its piece of the MFT", index))?;
        let record = RecordBytes { at, piece: self, place };
        let (head, _) = record.parts();
        if head.slice(0, 4)? != b"FILE" {
            return Err(head.fault("file record signature", 0, "FILE", "something else"));
        }
        Ok(record)
    }

    fn memory_bytes(&self) -> usize {
        let places = self.places.len().saturating_mul(size_of::<Place>());
        let faults = self.faults.len().saturating_mul(size_of::<(usize, Fault)>());
        // And what the lists and locks that lead to it take.
        self.bytes.len().saturating_add(places).saturating_add(faults).saturating_add(256)
    }
}

/// What is kept of a record: the bytes before and behind what is left out, and how long that is.
fn cut(record: &[u8]) -> (&[u8], usize, &[u8]) {
    let fields = Structure::new("file record", 0, record);
    let used = fields.u32_le(0x18).ok().and_then(|used| usize::try_from(used).ok());
    // One that claims more than there is stays whole, and is refused when it is asked for.
    let Some(used) = used.filter(|used| *used <= record.len()) else { return (record, 0, &[]) };
    let used = record.get(..used.max(RECORD_HEADER_BYTES)).unwrap_or(record);
    let left_out = if record.starts_with(b"FILE") { attribute::never_read(used) } else { 0..0 };
    match (used.get(..left_out.start), used.get(left_out.end..)) {
        (Some(head), Some(tail)) if !left_out.is_empty() => (head, left_out.len(), tail),
        _ => (used, 0, &[]),
    }
}

impl RecordBytes {
    /// The record up to what was left out of it, and what follows that, if anything was.
    pub(crate) fn parts(&self) -> (Structure<'_>, Option<Structure<'_>>) {
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let bytes = |start: usize, len| self.piece.bytes.get(start..start.saturating_add(len));
        let Place { start, head_len, left_out, tail_len } = self.place;
        let (start, head_len) = (number(start), number(head_len));
        let head = bytes(start, head_len).unwrap_or_default();
        let tail = bytes(start.saturating_add(head_len), number(tail_len)).unwrap_or_default();
        let skipped = u64::from(self.place.head_len).saturating_add(u64::from(left_out));
        let tail = Structure::new("file record", self.at.saturating_add(skipped), tail);
        (Structure::new("file record", self.at, head), (left_out > 0).then_some(tail))
    }
}

/// The pieces that are kept, by their numbers. Where they are too many, those that were read first go first.
pub(crate) struct Pieces(Vec<Mutex<Part>>);

#[derive(Default)]
struct Part {
    kept: HashMap<u64, Arc<Piece>>,
    by_age: VecDeque<u64>,
    bytes: usize,
}

impl Pieces {
    pub(crate) fn new() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }

    fn part(&self, number: u64) -> Option<&Mutex<Part>> {
        let part = number.checked_rem(u64::try_from(self.0.len()).ok()?)?;
        self.0.get(usize::try_from(part).ok()?)
    }

    pub(crate) fn kept(&self, number: u64) -> Option<Arc<Piece>> {
        let part = self.part(number)?.lock().unwrap_or_else(PoisonError::into_inner);
        part.kept.get(&number).map(Arc::clone)
    }

    pub(crate) fn keep(&self, number: u64, piece: &Arc<Piece>) {
        if let Some(part) = self.part(number) {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.keep(number, piece, KEPT_AT_MOST_BYTES / PARTS);
        }
    }
}

impl Part {
    fn keep(&mut self, number: u64, piece: &Arc<Piece>, at_most_bytes: usize) {
        match self.kept.insert(number, Arc::clone(piece)) {
            // Another thread read it too.
            Some(before) => self.bytes = self.bytes.saturating_sub(before.memory_bytes()),
            None => self.by_age.push_back(number),
        }
        self.bytes = self.bytes.saturating_add(piece.memory_bytes());
        while self.bytes > at_most_bytes
            && let Some(oldest) = self.by_age.pop_front()
        {
            let gone = self.kept.remove(&oldest);
            self.bytes = self.bytes.saturating_sub(gone.map_or(0, |gone| gone.memory_bytes()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "test code")]
mod tests {
    use super::*;

    /// A record of 1024 bytes with attributes of these types, each 24 bytes long and full of its type's low byte.
    fn record(kinds: &[u8]) -> Vec<u8> {
        let mut record = vec![0; 0x38];
        record[..4].copy_from_slice(b"FILE");
        record[0x14] = 0x38;
        for kind in kinds {
            let start = record.len();
            record.resize(start + 24, *kind);
            record[start..start + 8].copy_from_slice(&[*kind, 0, 0, 0, 24, 0, 0, 0]);
        }
        record.extend([0xFF; 4]);
        let used = record.len().to_le_bytes();
        record[0x18..0x1C].copy_from_slice(&used[..4]);
        record.resize(1024, 0xAA);
        record
    }

    fn kept(record: &[u8]) -> (Vec<u8>, Option<(u64, Vec<u8>)>) {
        let mut piece = Piece::for_records(2);
        piece.push(Ok(b"BAAD"));
        piece.push(Ok(record));
        let record = piece.closed().record(1, 5000).unwrap();
        let (head, tail) = record.parts();
        (head.bytes().to_vec(), tail.map(|tail| (tail.at(), tail.bytes().to_vec())))
    }

    #[test]
    fn names_and_what_lies_behind_the_end_are_left_out() {
        let whole = record(&[0x10, 0x30, 0x30, 0x40, 0x80]);
        let (head, tail) = kept(&whole);
        assert_eq!(head, whole[..0x38 + 24]);
        let at = 0x38 + 4 * 24;
        assert_eq!(tail, Some((5000 + at as u64, whole[at..at + 24 + 4].to_vec())));
        // Nothing to leave out, and nothing behind what is left out.
        let whole = record(&[0x10, 0x80]);
        assert_eq!(kept(&whole), (whole[..0x38 + 48 + 4].to_vec(), None));
    }

    #[test]
    fn damaged_records_are_kept_as_far_as_damage_is_seen() {
        // A length of 0 behind the first name: that name is left out, and the next is there to be refused.
        let mut whole = record(&[0x10, 0x30, 0x30, 0x80]);
        whole[0x38 + 48 + 4] = 0;
        let (_, tail) = kept(&whole);
        assert_eq!(tail.unwrap().1, whole[0x38 + 48..0x38 + 96 + 4]);
        // Longer than it can be.
        let mut whole = record(&[0x10, 0x30]);
        whole[0x1A] = 1;
        assert_eq!(kept(&whole), (whole, None));
        let mut whole = record(&[0x10, 0x30]);
        whole[..4].copy_from_slice(b"BAAD");
        assert_eq!(cut(&whole).1, 0);
    }

    #[test]
    fn a_record_that_was_cut_off_is_a_fault_and_no_other_is() {
        let mut piece = Piece::for_records(2);
        piece.push(Err(Fault::new("update sequence number", 7, 1_u8, 2_u8)));
        piece.push(Ok(&record(&[0x10])));
        let piece = piece.closed();
        assert_eq!(
            Arc::clone(&piece).record(0, 7).err().map(|fault| fault.what),
            Some("update sequence number")
        );
        assert!(Arc::clone(&piece).record(1, 7).is_ok() && piece.record(2, 7).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let piece = |len: usize| {
            let mut piece = Piece::for_records(1);
            let mut record = vec![0; len];
            record[0x18..0x1C].copy_from_slice(&len.to_le_bytes()[..4]);
            piece.push(Ok(&record));
            piece.closed()
        };
        let mut part = Part::default();
        for number in 0..100 {
            part.keep(number, &piece(700), 10_000);
            part.keep(number, &piece(700), 10_000);
        }
        assert!((8..14).contains(&part.kept.len()) && part.bytes <= 10_000, "{}", part.kept.len());
        assert!(part.kept.contains_key(&99) && part.kept.len() == part.by_age.len());
        // What alone is too much is not kept, and takes all others with it.
        part.keep(100, &piece(10_000), 10_000);
        assert!(part.kept.is_empty() && part.by_age.is_empty() && part.bytes == 0);
    }
}

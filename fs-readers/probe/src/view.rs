use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::Structure;

/// How much of the start is looked at: the last place there is the UFS superblock at 256 KiB.
const HEAD_BYTES: u64 = 260 << 10;
/// How much of the end is looked at: an md 0.90 superblock lies up to 128 KiB before it.
const TAIL_BYTES: u64 = 128 << 10;
/// VMFS keeps its volume header behind the first mebibyte.
const FAR_AT: u64 = 1 << 20;
const FAR_BYTES: u64 = 512;

/// The parts of a volume where signatures lie.
pub(crate) struct View {
    len_bytes: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl View {
    pub(crate) fn read(volume: &dyn BlockSource) -> Result<Self, ReadError> {
        let len_bytes = volume.len_bytes();
        let head = piece(volume, 0, HEAD_BYTES)?;
        let tail = piece(volume, len_bytes.saturating_sub(TAIL_BYTES), TAIL_BYTES)?;
        Ok(Self { len_bytes, pieces: vec![head, tail] })
    }

    /// As this one, with the sector at 1 MiB.
    pub(crate) fn with_far_sector(&self, volume: &dyn BlockSource) -> Result<Self, ReadError> {
        let mut pieces = self.pieces.clone();
        pieces.push(piece(volume, FAR_AT, FAR_BYTES)?);
        Ok(Self { len_bytes: self.len_bytes, pieces })
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The `len` bytes at `at`, where they were read.
    pub(crate) fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(len)?)
        })
    }

    pub(crate) fn structure(&self, name: &'static str, at: u64, len: usize) -> Option<Structure<'_>> {
        Some(Structure::new(name, at, self.bytes(at, len)?))
    }

    pub(crate) fn has(&self, at: u64, magic: &[u8]) -> bool {
        self.bytes(at, magic.len()) == Some(magic)
    }
}

fn piece(volume: &dyn BlockSource, at: u64, len: u64) -> Result<(u64, Vec<u8>), ReadError> {
    let len = len.min(volume.len_bytes().saturating_sub(at));
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    // A window behind the end of its disk is empty, and refuses even a read of nothing.
    if !bytes.is_empty() {
        volume.read_exact_at(at, &mut bytes)?;
    }
    Ok((at, bytes))
}

/// `Some(())` where `condition` holds, so that a check can end with `?`.
pub(crate) fn ensure(condition: bool) -> Option<()> {
    condition.then_some(())
}

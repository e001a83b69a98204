use stillframe_bytes::Fault;
use stillframe_fs::{FileContent, FsError, read_full};

use super::{length_of, offset_of};

/// A power of two.
const CHUNK_BYTES: usize = 64 << 10;

/// 1 MiB in all.
const CHUNKS: usize = 16;

/// A file of which the chunks used last are kept: pages are small, near each other, and read more than once.
pub(super) struct CachedFile<'f> {
    file: &'f mut dyn FileContent,
    chunks: Vec<Chunk>,
    clock: u64,
}

struct Chunk {
    at: u64,
    bytes: Vec<u8>,
    used: u64,
}

impl<'f> CachedFile<'f> {
    pub(super) fn new(file: &'f mut dyn FileContent) -> Self {
        Self { file, chunks: Vec::new(), clock: 0 }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.file.len_bytes()
    }

    /// Fills `buffer` with what is at `at`.
    ///
    /// # Errors
    /// A fault of `what` where the file ends before, else what the file fails with.
    pub(super) fn read_exact(
        &mut self,
        what: &'static str,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<(), FsError> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = at.saturating_add(offset_of(filled));
            let within = length_of(position & offset_of(CHUNK_BYTES - 1));
            let chunk_at = position.saturating_sub(offset_of(within));
            let chunk = match self.chunk(chunk_at) {
                Ok(chunk) => chunk.get(within..).unwrap_or_default(),
                // A part of the chunk that was not asked for may be what cannot be read.
                Err(FsError::Corrupt(_)) => return self.read_uncached(what, position, rest),
                Err(error) => return Err(error),
            };
            let len = chunk.len().min(rest.len());
            if len == 0 {
                return Err(Fault::new(what, at, buffer.len(), filled).into());
            }
            if let (Some(into), Some(from)) = (rest.get_mut(..len), chunk.get(..len)) {
                into.copy_from_slice(from);
            }
            filled = filled.saturating_add(len);
        }
        Ok(())
    }

    fn read_uncached(&mut self, what: &'static str, at: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let read = read_full(self.file, at, buffer)?;
        if read < buffer.len() {
            return Err(Fault::new(what, at, buffer.len(), read).into());
        }
        Ok(())
    }

    /// The chunk at `at`, shorter where the file ends in it.
    fn chunk(&mut self, at: u64) -> Result<&[u8], FsError> {
        self.clock = self.clock.saturating_add(1);
        let index = match self.chunks.iter().position(|chunk| chunk.at == at) {
            Some(index) => index,
            None => self.load(at)?,
        };
        let clock = self.clock;
        Ok(self.chunks.get_mut(index).map_or(&[], |chunk| {
            chunk.used = clock;
            &chunk.bytes
        }))
    }

    fn load(&mut self, at: u64) -> Result<usize, FsError> {
        let oldest =
            self.chunks.iter().enumerate().min_by_key(|(_, chunk)| chunk.used).map(|(index, _)| index);
        let mut bytes = match oldest.filter(|_| self.chunks.len() >= CHUNKS) {
            Some(oldest) => self.chunks.swap_remove(oldest).bytes,
            None => Vec::new(),
        };
        bytes.resize(CHUNK_BYTES, 0);
        let read = read_full(self.file, at, &mut bytes)?;
        bytes.truncate(read);
        self.chunks.push(Chunk { at, bytes, used: self.clock });
        Ok(self.chunks.len().saturating_sub(1))
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
mod tests {
    use stillframe_fs::MemoryContent;

    use super::*;

    #[test]
    fn reads_cross_chunks_and_end_with_the_file() {
        let content: Vec<u8> = (0..CHUNK_BYTES * 20 + 100).map(|at| (at / 7 % 251) as u8).collect();
        let mut file = MemoryContent(content.clone());
        let mut cached = CachedFile::new(&mut file);
        let mut buffer = vec![0; CHUNK_BYTES * 2];
        for at in (0..content.len() - buffer.len()).step_by(CHUNK_BYTES / 3).chain([0, 5]) {
            cached.read_exact("test", at as u64, &mut buffer).unwrap();
            assert!(buffer == content[at..at + buffer.len()], "{at}");
        }
        assert!(cached.chunks.len() <= CHUNKS);
        let end = content.len() as u64;
        assert!(cached.read_exact("test", end - 10, &mut buffer[..10]).is_ok());
        assert!(matches!(cached.read_exact("test", end - 10, &mut buffer[..11]), Err(FsError::Corrupt(_))));
        assert!(matches!(
            cached.read_exact("test", u64::MAX - 3, &mut buffer[..11]),
            Err(FsError::Corrupt(_))
        ));
    }
}

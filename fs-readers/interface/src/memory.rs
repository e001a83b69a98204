use crate::{FileContent, FsError};

/// A file held in memory whole, for tests and for parsers of what was read already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryContent(pub Vec<u8>);

impl FileContent for MemoryContent {
    fn len_bytes(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(start..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        if let (Some(into), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
            into.copy_from_slice(from);
        }
        Ok(len)
    }
}

use std::fmt;

/// A GUID as the disk has it: the first three fields are little-endian.
#[derive(Clone, Copy)]
pub(crate) struct Guid(pub(crate) [u8; 16]);

impl Guid {
    pub(crate) fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
}

/// The order in which the bytes are written.
const TEXT_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl fmt::Display for Guid {
    /// Lower-case, as `blkid` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in TEXT_ORDER.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0.get(*place).unwrap_or(&0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_the_specification_writes_it() {
        // The EFI system partition's type in UEFI table 5-7, and its bytes as any such disk has them.
        let bytes =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(Guid(bytes).to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}

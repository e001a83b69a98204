//! The checksums of ext4 and its journal. All are CRCs without the usual final inversion, continued from a seed.

/// crc32c continued from `seed`, without the final inversion (the kernel's `crc32c_le`).
pub(crate) fn crc32c_raw(seed: u32, bytes: &[u8]) -> u32 {
    // The crate takes and gives the inverted state.
    !crc32c::crc32c_append(!seed, bytes)
}

/// CRC-16 (polynomial 0x8005, reflected) continued from `seed`: group descriptors under `gdt_csum`.
pub(crate) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

/// CRC-32 (polynomial 0x04c11db7, most significant bit first) continued from `seed`: the first journal checksum.
pub(crate) fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The check values of the catalogue of parametrised CRC algorithms for "123456789".
    #[test]
    fn check_values() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d); // CRC-16/ARC
        assert_eq!(crc32_be(u32::MAX, b"123456789"), 0x0376_e6e7); // CRC-32/MPEG-2
        assert_eq!(!crc32c_raw(u32::MAX, b"123456789"), 0xe306_9283); // CRC-32/ISCSI
    }
}

use std::fmt;

/// The most extended attributes that a reader gives of one file. `listxattr(2)` names no more than 64 KiB of them.
pub const XATTRS_AT_MOST: usize = 4096;
/// The most bytes of values that a reader gives of one file; the kernel takes 64 KiB for one.
pub const XATTR_BYTES_AT_MOST: usize = 4 << 20;

/// One extended attribute of a file (`xattr(7)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// The name with its prefix, as `listxattr(2)` gives it.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What `lsattr` shows of a file: the bits of `FS_IOC_GETFLAGS` (`include/uapi/linux/fs.h`). Formats that store them
/// otherwise are translated; a bit that the format does not have is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileFlags(pub u32);

impl FileFlags {
    /// `c`: compressed.
    pub const COMPRESSED: Self = Self(0x4);
    /// `S`: written synchronously.
    pub const SYNCHRONOUS: Self = Self(0x8);
    /// `i`: cannot be changed, renamed, linked or deleted.
    pub const IMMUTABLE: Self = Self(0x10);
    /// `a`: can only be appended to.
    pub const APPEND_ONLY: Self = Self(0x20);
    /// `d`: left out by `dump`.
    pub const NO_DUMP: Self = Self(0x40);
    /// `A`: reading leaves the access time as it is.
    pub const NO_ACCESS_TIME: Self = Self(0x80);
    /// `C`: not copied on write.
    pub const NO_COPY_ON_WRITE: Self = Self(0x80_0000);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A Windows security identifier ([MS-DTYP] 2.4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sid {
    /// The identifier authority, 48 bits: 5 is NT.
    pub authority: u64,
    /// The subauthorities, at most 15.
    pub subauthorities: Vec<u32>,
}

impl fmt::Display for Sid {
    /// `S-1-5-18`. An authority that does not fit 32 bits is written in hexadecimal ([MS-DTYP] 2.4.2.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if u32::try_from(self.authority).is_ok() {
            write!(f, "S-1-{}", self.authority)?;
        } else {
            write!(f, "S-1-0x{:012x}", self.authority)?;
        }
        self.subauthorities.iter().try_for_each(|part| write!(f, "-{part}"))
    }
}

/// Who owns a file of a filesystem of Windows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// The owner.
    pub owner: Option<Sid>,
    /// The primary group.
    pub group: Option<Sid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sids_are_written_as_windows_writes_them() {
        let sid = |authority, parts: &[u32]| Sid { authority, subauthorities: parts.to_vec() }.to_string();
        assert_eq!(sid(5, &[32, 544]), "S-1-5-32-544");
        assert_eq!(sid(0xffff_ffff, &[]), "S-1-4294967295");
        assert_eq!(sid(0x1_0000_0000, &[1]), "S-1-0x000100000000-1");
    }
}

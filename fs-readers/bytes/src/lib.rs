//! Bounds-checked reading of on-disk structures.
//!
//! A parser wraps the bytes of a structure in [`Structure`], which knows its name and where on the volume it lies, and
//! reads named fields from it. A field that is not there is a [`Fault`] that says what, where, claimed and found: no
//! parser indexes a slice.

mod calendar;
mod wtf8;

use std::fmt;

pub use calendar::days_since_1970;
pub use wtf8::wtf8;

/// What is wrong with something on a disk: where it is, what it claims, what is there. It holds numbers and words of
/// the program only, never bytes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {at:#x}: claimed {claimed}, found {found}")]
pub struct Fault {
    /// The structure and its field, in the format's own words.
    pub what: &'static str,
    /// Offset in bytes from the start of the volume or file that is parsed.
    pub at: u64,
    /// What the disk, or the format's rules, say.
    pub claimed: Quantity,
    /// What is there.
    pub found: Quantity,
}

impl Fault {
    /// A fault of `what` at byte `at`.
    pub fn new(
        what: &'static str,
        at: u64,
        claimed: impl Into<Quantity>,
        found: impl Into<Quantity>,
    ) -> Self {
        Self { what, at, claimed: claimed.into(), found: found.into() }
    }
}

/// One side of a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// A count, size or number.
    Number(u64),
    /// A checksum, magic or address.
    Hex(u64),
    /// Words of the program.
    Text(&'static str),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Hex(number) => write!(f, "{number:#x}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

macro_rules! quantity_from {
    ($($number:ty),*) => {$(
        impl From<$number> for Quantity {
            fn from(number: $number) -> Self {
                Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
            }
        }
    )*};
}
quantity_from!(u8, u16, u32, u64, usize);

impl From<&'static str> for Quantity {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

/// The bytes of one structure, read by named fields.
#[derive(Debug, Clone, Copy)]
pub struct Structure<'a> {
    name: &'static str,
    at: u64,
    bytes: &'a [u8],
}

macro_rules! number_field {
    ($($name:ident $number:ty, $from:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// # Errors
        /// [`Fault`] where the structure ends before the field does.
        pub fn $name(&self, offset: usize) -> Result<$number, Fault> {
            Ok(<$number>::$from(self.array(offset)?))
        }
    )*};
}

impl<'a> Structure<'a> {
    /// `bytes`, which begin `at` bytes into the volume or file, as a structure called `name`.
    #[must_use]
    pub const fn new(name: &'static str, at: u64, bytes: &'a [u8]) -> Self {
        Self { name, at, bytes }
    }

    /// What this is, in the format's own words.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The `len` bytes at `offset`.
    ///
    /// # Errors
    /// [`Fault`] where the structure ends before.
    pub fn slice(&self, offset: usize, len: usize) -> Result<&'a [u8], Fault> {
        let end = offset.checked_add(len);
        end.and_then(|end| self.bytes.get(offset..end)).ok_or_else(|| {
            let needed = end.unwrap_or(usize::MAX);
            Fault::new(self.name, self.position(offset), needed, self.bytes.len())
        })
    }

    /// The `N` bytes at `offset`.
    ///
    /// # Errors
    /// [`Fault`] where the structure ends before.
    pub fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(offset, N)?);
        Ok(array)
    }

    /// The part at `offset`, `len` bytes long, as a structure of its own.
    ///
    /// # Errors
    /// [`Fault`] where this structure ends before.
    pub fn part(&self, name: &'static str, offset: usize, len: usize) -> Result<Structure<'a>, Fault> {
        Ok(Structure { name, at: self.position(offset), bytes: self.slice(offset, len)? })
    }

    /// What follows `offset`, as a structure of its own.
    ///
    /// # Errors
    /// [`Fault`] where this structure ends before.
    pub fn rest(&self, name: &'static str, offset: usize) -> Result<Structure<'a>, Fault> {
        self.part(name, offset, self.bytes.len().saturating_sub(offset))
    }

    /// The byte at `offset`.
    ///
    /// # Errors
    /// [`Fault`] where the structure ends before.
    pub fn u8(&self, offset: usize) -> Result<u8, Fault> {
        Ok(u8::from_le_bytes(self.array(offset)?))
    }

    number_field! {
        u16_le u16, from_le_bytes, "The little-endian `u16` at `offset`.";
        u32_le u32, from_le_bytes, "The little-endian `u32` at `offset`.";
        u64_le u64, from_le_bytes, "The little-endian `u64` at `offset`.";
        u16_be u16, from_be_bytes, "The big-endian `u16` at `offset`.";
        u32_be u32, from_be_bytes, "The big-endian `u32` at `offset`.";
        u64_be u64, from_be_bytes, "The big-endian `u64` at `offset`.";
        i32_le i32, from_le_bytes, "The little-endian `i32` at `offset`.";
        i64_le i64, from_le_bytes, "The little-endian `i64` at `offset`.";
    }

    /// A fault of this structure's field at `offset`.
    pub fn fault(
        &self,
        what: &'static str,
        offset: usize,
        claimed: impl Into<Quantity>,
        found: impl Into<Quantity>,
    ) -> Fault {
        Fault::new(what, self.position(offset), claimed, found)
    }

    fn position(&self, offset: usize) -> u64 {
        self.at.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_their_order() {
        let structure = Structure::new("test", 0x100, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(structure.u16_le(0).unwrap(), 0x0201);
        assert_eq!(structure.u16_be(0).unwrap(), 0x0102);
        assert_eq!(structure.u32_le(4).unwrap(), 0x0807_0605);
        assert_eq!(structure.part("inner", 6, 2).unwrap().u8(1).unwrap(), 8);
    }

    #[test]
    fn a_missing_field_says_where() {
        let structure = Structure::new("inode", 0x100, &[0; 8]);
        let fault = structure.u32_le(6).unwrap_err();
        assert_eq!(fault.to_string(), "inode at 0x106: claimed 10, found 8");
        assert!(structure.slice(usize::MAX, 2).is_err());
        assert!(structure.rest("tail", 9).is_err());
    }
}

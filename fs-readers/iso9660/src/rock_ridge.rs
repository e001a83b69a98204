//! Rock Ridge: names, modes, links and times of Unix in the system use areas (IEEE P1281, "System Use Sharing Protocol";
//! IEEE P1282, "Rock Ridge Interchange Protocol").

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FsError, Timestamp};

use crate::record::{Record, long_time, short_time};

/// Continuation areas of one record: as many as the kernel follows.
const CONTINUATIONS_CAP: usize = 32;
const NAME_CAP_BYTES: usize = 255;
const TARGET_CAP_BYTES: usize = 4096;
const HEADER_LEN: usize = 4;
/// Flags of names and of links' components.
const GOES_ON: u8 = 1;
const CURRENT: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;
/// Flags of times: which there are, in this order, and that they have seventeen bytes.
const TIMES: usize = 7;
const MODIFIED: usize = 1;
const ATTRIBUTES: usize = 3;
const LONG_FORM: u8 = 0x80;

/// What the entries of a record say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RockRidge {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) posix: Option<Posix>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) changed: Option<Timestamp>,
    /// The target of a symbolic link.
    pub(crate) target: Option<Vec<u8>>,
    /// The block of a directory that lies elsewhere, since it would be too deep here.
    pub(crate) child_block: Option<u32>,
    /// Set on such a directory where it lies: it is not shown there.
    pub(crate) is_relocated: bool,
    /// The length of a file that is compressed by zisofs.
    pub(crate) zisofs_bytes: Option<u32>,
    /// Set on a file with holes.
    pub(crate) is_sparse: bool,
    /// Set in the root directory's own record where an extension is named: what makes it Rock Ridge.
    pub(crate) names_extension: bool,
}

/// The mode with its type bits, links, and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posix {
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// How many bytes of each system use area are not Rock Ridge's, where the root directory's own record says that the
/// protocol is used.
pub(crate) fn skipped_bytes(root: &Record) -> Option<u8> {
    let area = Structure::new("system use area", root.system_use_at, &root.system_use);
    let is_used = area.slice(0, 3) == Ok(b"SP\x07") && area.slice(4, 2) == Ok(&[0xBE, 0xEF]);
    if is_used { area.u8(6).ok() } else { None }
}

impl RockRidge {
    /// Reads the entries of `record`, whose first `skip` bytes are others'; and what continues them elsewhere.
    pub(crate) fn read(
        source: &dyn BlockSource,
        block_bytes: u64,
        record: &Record,
        skip: usize,
    ) -> Result<Self, FsError> {
        let mut found = Found::default();
        let area = record.system_use.get(skip..).unwrap_or_default();
        let at = record.system_use_at.saturating_add(u64::try_from(skip).unwrap_or(0));
        let mut next = found.take_area(&Structure::new("system use area", at, area))?;
        for _ in 0..CONTINUATIONS_CAP {
            let Some(continuation) = next else {
                return Ok(found.done());
            };
            let len = u64::from(continuation.len);
            if u64::from(continuation.offset).saturating_add(len) > block_bytes {
                return Err(Fault::new("continuation area in bytes", record.at, block_bytes, len).into());
            }
            let at = u64::from(continuation.block)
                .saturating_mul(block_bytes)
                .saturating_add(continuation.offset.into());
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            source.read_exact_at(at, &mut bytes)?;
            next = found.take_area(&Structure::new("continuation area", at, &bytes))?;
        }
        Err(Fault::new("continuation areas of a record", record.at, CONTINUATIONS_CAP, "more").into())
    }
}

/// Where entries go on.
#[derive(Debug, Clone, Copy)]
struct Continuation {
    block: u32,
    offset: u32,
    len: u32,
}

#[derive(Debug, Default)]
struct Found {
    rock_ridge: RockRidge,
    target: Target,
    has_target: bool,
}

impl Found {
    /// Takes the entries of an area; says where they go on.
    fn take_area(&mut self, area: &Structure<'_>) -> Result<Option<Continuation>, Fault> {
        let mut next = None;
        let mut offset = 0_usize;
        while area.len().saturating_sub(offset) >= HEADER_LEN {
            let len = usize::from(area.u8(offset.saturating_add(2))?);
            // Zeros, or what is not of this protocol.
            if len < HEADER_LEN {
                break;
            }
            let entry = area.part("system use entry", offset, len)?;
            match &entry.array(0)? {
                b"CE" => {
                    next = Some(Continuation {
                        block: entry.u32_le(4)?,
                        offset: entry.u32_le(12)?,
                        len: entry.u32_le(20)?,
                    })
                }
                b"ST" => break,
                signature => self.take(*signature, &entry)?,
            }
            offset = offset.saturating_add(len);
        }
        Ok(next)
    }

    fn take(&mut self, signature: [u8; 2], entry: &Structure<'_>) -> Result<(), Fault> {
        let found = &mut self.rock_ridge;
        match &signature {
            b"ER" => found.names_extension = true,
            b"NM" => {
                let name = found.name.get_or_insert_default();
                let flags = entry.u8(4)?;
                // `.` and `..` are named by their records, too.
                if flags & (CURRENT | PARENT) == 0 {
                    name.extend_from_slice(entry.rest("alternate name", 5)?.bytes());
                }
                if name.len() > NAME_CAP_BYTES {
                    return Err(entry.fault("alternate name in bytes", 0, NAME_CAP_BYTES, name.len()));
                }
            }
            b"PX" => {
                let [mode, links, uid, gid] =
                    [entry.u32_le(4)?, entry.u32_le(12)?, entry.u32_le(20)?, entry.u32_le(28)?];
                found.posix = Some(Posix { mode, links, uid, gid });
            }
            b"TF" => self.take_times(entry)?,
            b"SL" => {
                self.has_target = true;
                self.target.take(entry)?;
            }
            b"CL" => found.child_block = Some(entry.u32_le(4)?),
            b"RE" => found.is_relocated = true,
            b"SF" => found.is_sparse = true,
            // The algorithm `pz`: header length, block size, and the length of the content.
            b"ZF" => found.zisofs_bytes = Some(entry.u32_le(8)?),
            _ => {}
        }
        Ok(())
    }

    fn take_times(&mut self, entry: &Structure<'_>) -> Result<(), Fault> {
        let flags = entry.u8(4)?;
        let mut offset = 5_usize;
        for time in 0..TIMES {
            if flags & 1_u8.checked_shl(u32::try_from(time).unwrap_or(0)).unwrap_or(0) == 0 {
                continue;
            }
            let (read, len) = if flags & LONG_FORM == 0 {
                (short_time(entry.array(offset)?), 7)
            } else {
                (long_time(entry.array(offset)?), 17)
            };
            match time {
                MODIFIED => self.rock_ridge.modified = read,
                ATTRIBUTES => self.rock_ridge.changed = read,
                _ => {}
            }
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    fn done(self) -> RockRidge {
        let target = self.has_target.then_some(self.target.bytes);
        RockRidge { target, name: self.rock_ridge.name.filter(|name| !name.is_empty()), ..self.rock_ridge }
    }
}

/// A link's target as it is put together from components.
#[derive(Debug, Default)]
struct Target {
    bytes: Vec<u8>,
    /// Set where a component goes on in the next one.
    is_within_component: bool,
}

impl Target {
    fn take(&mut self, entry: &Structure<'_>) -> Result<(), Fault> {
        let mut components = entry.rest("symbolic link components", 5)?;
        while !components.is_empty() {
            let (flags, len) = (components.u8(0)?, usize::from(components.u8(1)?));
            let text: &[u8] = match flags & (CURRENT | PARENT | ROOT) {
                CURRENT => b".",
                PARENT => b"..",
                ROOT => b"",
                _ => components.slice(2, len)?,
            };
            let needs_separator =
                !self.bytes.is_empty() && !self.is_within_component && !self.bytes.ends_with(b"/");
            if needs_separator || flags & ROOT != 0 {
                self.bytes.push(b'/');
            }
            self.bytes.extend_from_slice(text);
            self.is_within_component = flags & GOES_ON != 0;
            if self.bytes.len() > TARGET_CAP_BYTES {
                return Err(entry.fault(
                    "symbolic link target in bytes",
                    0,
                    TARGET_CAP_BYTES,
                    self.bytes.len(),
                ));
            }
            components = components.rest("symbolic link components", len.saturating_add(2))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(entries: &[&[u8]]) -> Vec<u8> {
        let mut target = Target::default();
        for components in entries {
            let entry = [b"SL\0\x01\0", *components].concat();
            target.take(&Structure::new("SL", 0, &entry)).unwrap();
        }
        target.bytes
    }

    #[test]
    fn targets_are_put_together() {
        assert_eq!(target(&[b"\0\x03usr\0\x03bin"]), b"usr/bin");
        assert_eq!(target(&[b"\x08\0\0\x03usr"]), b"/usr");
        assert_eq!(target(&[b"\x08\0"]), b"/");
        assert_eq!(target(&[b"\x04\0\x04\0\0\x01x\x02\0"]), b"../../x/.");
        assert_eq!(target(&[b"\0\x03usr\x01\x02lo", b"\0\x03cal\0\x03bin"]), b"usr/local/bin");
        let mut cut = Target::default();
        assert!(cut.take(&Structure::new("SL", 0, b"SL\0\x01\0\0\x09usr")).is_err());
    }
}

//! Self-relative security descriptors: who owns a file ([MS-DTYP] 2.4.6 and 2.4.2). Access control lists are not read.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{Owners, Sid};

const REVISION: u8 = 1;
const SELF_RELATIVE: u16 = 0x8000;
/// SID_MAX_SUB_AUTHORITIES.
const SUBAUTHORITIES_AT_MOST: u8 = 15;

/// The owner and the primary group.
///
/// # Errors
/// [`Fault`] where the descriptor is of another revision, or a SID lies outside it.
pub(crate) fn owners(descriptor: &Structure<'_>) -> Result<Owners, Fault> {
    let revision = descriptor.u8(0)?;
    if revision != REVISION {
        return Err(descriptor.fault("security descriptor revision", 0, REVISION, revision));
    }
    if descriptor.u16_le(2)? & SELF_RELATIVE == 0 {
        return Err(descriptor.fault("security descriptor control", 2, "self-relative", "absolute"));
    }
    Ok(Owners { owner: sid(descriptor, 4)?, group: sid(descriptor, 8)? })
}

/// The SID whose offset lies at `field`; 0 is none.
fn sid(descriptor: &Structure<'_>, field: usize) -> Result<Option<Sid>, Fault> {
    let offset = descriptor.u32_le(field)?;
    if offset == 0 {
        return Ok(None);
    }
    let sid = descriptor.rest("SID", usize::try_from(offset).unwrap_or(usize::MAX))?;
    let (revision, count) = (sid.u8(0)?, sid.u8(1)?);
    if revision != REVISION {
        return Err(sid.fault("SID revision", 0, REVISION, revision));
    }
    if count > SUBAUTHORITIES_AT_MOST {
        return Err(sid.fault("SID subauthorities", 1, SUBAUTHORITIES_AT_MOST, count));
    }
    let authority = sid.array::<6>(2)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    let parts = sid.slice(8, usize::from(count).saturating_mul(4))?.chunks_exact(4);
    let subauthorities = parts.filter_map(|part| part.first_chunk().map(|part| u32::from_le_bytes(*part)));
    Ok(Some(Sid { authority, subauthorities: subauthorities.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Owners, Fault> {
        owners(&Structure::new("security descriptor", 0, bytes))
    }

    #[test]
    fn the_owner_and_the_group_are_where_the_descriptor_says() {
        let head = [1, 0, 4, 0x80, 20, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let administrators = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
        let everyone = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let whole = [&head[..], &administrators, &everyone].concat();
        let owners = read(&whole).unwrap();
        assert_eq!(owners.owner.unwrap().to_string(), "S-1-5-32-544");
        assert_eq!(owners.group.unwrap().to_string(), "S-1-1-0");
        for (at, byte) in [(0, 2), (3, 0), (4, 200), (5, 200), (20, 2), (21, 16), (37, 15), (8, 35)] {
            let mut changed = whole.clone();
            changed.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
            assert!(read(&changed).is_err(), "{at}");
        }
        let mut none = head;
        (none[4], none[8]) = (0, 0);
        assert_eq!(read(&none).unwrap(), Owners::default());
        assert!(read(&head[..11]).is_err());
    }
}

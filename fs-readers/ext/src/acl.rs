//! Access control lists: ext4 keeps them in a form of its own, shorter than the one that `getxattr(2)` gives.

use stillframe_bytes::{Fault, Structure};

const VERSION_ON_DISK: u32 = 1;
const VERSION_SHOWN: u32 = 2;
/// What stands for the owner, the owning group, the mask and all others, who have no number.
const NO_ID: u32 = u32::MAX;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const USER_OBJECT: u16 = 0x01;
const GROUP_OBJECT: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The list as `getxattr(2)` gives it; `None` for an empty one, which the kernel takes for none.
pub(crate) fn as_shown(s: &Structure<'_>) -> Result<Option<Vec<u8>>, Fault> {
    let version = s.u32_le(0)?;
    if version != VERSION_ON_DISK {
        return Err(s.fault("access control list version", 0, VERSION_ON_DISK, version));
    }
    let mut shown = VERSION_SHOWN.to_le_bytes().to_vec();
    let mut at = 4;
    while at < s.len() {
        let (tag, permissions) = (s.u16_le(at)?, s.u16_le(at.saturating_add(2))?);
        let id = match tag {
            USER | GROUP => Some(s.u32_le(at.saturating_add(4))?),
            USER_OBJECT | GROUP_OBJECT | MASK | OTHER => None,
            _ => return Err(s.fault("access control list tag", at, "a known tag", tag)),
        };
        at = at.saturating_add(if id.is_some() { 8 } else { 4 });
        shown.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()));
        shown.extend(id.unwrap_or(NO_ID).to_le_bytes());
    }
    Ok((s.len() > 4).then_some(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_cut_or_of_another_version_is_a_fault() {
        let shown = |bytes: &[u8]| as_shown(&Structure::new("list", 0, bytes));
        let list = [1, 0, 0, 0, 1, 0, 7, 0, 2, 0, 4, 0, 232, 3, 0, 0];
        assert_eq!(
            shown(&list).unwrap().unwrap(),
            [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0]
        );
        assert_eq!(shown(&list[..4]).unwrap(), None);
        for bytes in [&list[..3], &list[..14], &[2, 0, 0, 0], &[1, 0, 0, 0, 3, 0, 7, 0]] {
            assert!(shown(bytes).is_err());
        }
    }
}

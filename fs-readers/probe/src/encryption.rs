//! LUKS, BitLocker and Apple CoreStorage.
//!
//! Specifications: LUKS On-Disk Format 1.2.3 figure 1, LUKS2 On-Disk Format 1.1.1 section 2.1; libbde's documentation
//! ("Volume header"); libfvde's documentation ("Volume header").

use stillframe_bytes::Structure;

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{Content, EncryptionKind};

const LUKS2_SECOND_HEADERS: [u64; 5] = [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000];

/// The header at 0, or LUKS2's second one behind a first that is gone.
pub(crate) fn luks(view: &View) -> Option<Candidate> {
    if let Some(header) = view.structure("LUKS header", 0, 208).filter(|_| view.has(0, b"LUKS\xba\xbe")) {
        let kind = match header.u16_be(6).ok()? {
            1 => EncryptionKind::Luks1,
            2 => EncryptionKind::Luks2,
            _ => return None,
        };
        let luks = Candidate::new(Content::Encrypted(kind), 0).uuid(luks_uuid(&header));
        // luksFormat overwrites everything up to the end of the key slots.
        return Some(luks.clears(0..32 << 10));
    }
    LUKS2_SECOND_HEADERS.iter().find_map(|at| {
        ensure(view.has(*at, b"SKUL\xba\xbe"))?;
        let header = view.structure("LUKS2 second header", *at, 512)?;
        ensure(header.u16_be(6).ok()? == 2 && header.u64_be(256).ok()? == *at)?;
        let luks = Candidate::new(Content::Encrypted(EncryptionKind::Luks2), *at).certain(false);
        Some(luks.uuid(luks_uuid(&header)))
    })
}

/// The UUID's text, where it is one: nothing else of the disk goes into a report.
fn luks_uuid(header: &Structure<'_>) -> Option<String> {
    let field = header.slice(168, 40).ok()?;
    let text = field.split(|byte| *byte == 0).next()?;
    let is_uuid = text.len() == 36
        && text.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    ensure(is_uuid)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

/// The identifiers of a BitLocker volume header as they lie on the disk.
const BITLOCKER_IDENTIFIERS: [[u8; 16]; 2] = [
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01],
    [0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8],
];

/// `-FVE-FS-` as the OEM name, or the identifier of BitLocker To Go in what looks like a FAT boot sector.
pub(crate) fn bitlocker(view: &View) -> Option<Candidate> {
    let names_it = view.has(3, b"-FVE-FS-");
    let to_go = view.has(3, b"MSWIN4.1") && view.has(424, &BITLOCKER_IDENTIFIERS[0]);
    ensure(names_it || to_go)?;
    // Windows Vista's header has no identifier there.
    let has_identifier = BITLOCKER_IDENTIFIERS.iter().any(|identifier| view.has(160, identifier));
    let has_55aa = view.has(510, &[0x55, 0xaa]);
    let kind = Content::Encrypted(EncryptionKind::BitLocker);
    Some(Candidate::new(kind, 3).certain(has_identifier || to_go || has_55aa).clears(0..512))
}

/// `CS` in a volume header of version 1 and block type 16, with its CRC as the checksum's algorithm.
pub(crate) fn core_storage(view: &View) -> Option<Candidate> {
    let header = view.structure("CoreStorage volume header", 0, 512)?;
    ensure(header.slice(88, 2).ok()? == b"CS")?;
    ensure(header.u16_le(8).ok()? == 1 && header.u16_le(10).ok()? == 0x10)?;
    ensure(header.u32_le(90).ok()? == 1)?;
    let size_bytes = header.u64_le(64).ok()?;
    let kind = Content::Encrypted(EncryptionKind::CoreStorage);
    Some(Candidate::new(kind, 88).clears(0..512).ends_at(size_bytes))
}

//! Boot code that lies on a partition of its own: GRUB's core image, ChromeOS kernels, PowerPC executables.
//!
//! Facts: GRUB's manual section "Images" and `diskboot.img` itself; ChromiumOS "Verified Boot Data Structures"
//! (`vb2_keyblock`); the ELF specification's "ELF Header".

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{BootCodeKind, Content};

/// Where GRUB's first sector keeps its list of blocks, which grows downwards: the last entry names the segment that the
/// core image is loaded to.
const GRUB_SEGMENT_AT: u64 = 510;
const GRUB_SECTORS_AT: u64 = 508;
const GRUB_SEGMENT: [u8; 2] = [0x20, 0x08];
/// The messages of that sector.
const GRUB_MESSAGES: [&[u8]; 3] = [b"loading\0", b"Geom\0", b"Read\0 Error\0"];

/// `diskboot.img`, the first sector of a core image: it saves the boot drive (`push %dx`), has its messages, and ends in
/// a block list whose segment is 0x820.
pub(crate) fn grub_core(view: &View) -> Option<Candidate> {
    let sector = view.bytes(0, 512)?;
    ensure(sector.first() == Some(&0x52) && view.has(GRUB_SEGMENT_AT, &GRUB_SEGMENT))?;
    let says = |message: &[u8]| sector.windows(message.len()).any(|window| window == message);
    ensure(GRUB_MESSAGES.iter().all(|message| says(message)))?;
    // How many sectors follow this one; the core image was written as a whole.
    let sectors = view.structure("GRUB block list", GRUB_SECTORS_AT, 2)?.u16_le(0).ok()?;
    let core = Candidate::new(Content::BootCode(BootCodeKind::GrubCore), 0);
    Some(core.clears(0..u64::from(sectors).saturating_add(1).saturating_mul(512)))
}

/// The key block at a kernel partition's start.
pub(crate) fn chrome_os_kernel(view: &View) -> Option<Candidate> {
    let key_block = view.structure("ChromeOS key block", 0, 16)?;
    ensure(key_block.slice(0, 8).ok()? == b"CHROMEOS" && key_block.u32_le(8).ok()? == 2)?;
    Some(Candidate::new(Content::BootCode(BootCodeKind::ChromeOsKernel), 0).clears(0..64 << 10))
}

/// An executable ELF file for PowerPC, which open firmware loads from a PReP partition.
pub(crate) fn powerpc_elf(view: &View) -> Option<Candidate> {
    let header = view.structure("ELF header", 0, 20)?;
    ensure(header.slice(0, 4).ok()? == b"\x7fELF")?;
    let (file_type, machine) = match header.u8(5).ok()? {
        1 => (header.u16_le(16).ok()?, header.u16_le(18).ok()?),
        2 => (header.u16_be(16).ok()?, header.u16_be(18).ok()?),
        _ => return None,
    };
    ensure(file_type == 2 && matches!(machine, 20 | 21))?;
    Some(Candidate::new(Content::BootCode(BootCodeKind::PowerPcElf), 0).clears(0..4096))
}

//! The architecture that the machine's programs are built for, from the ELF header of one that every system has.
//!
//! System V ABI, "ELF Header": `e_ident` (class at 4, data encoding at 5) and `e_machine` at 18.

use stillframe_fs::{FsError, read_full};
use stillframe_model::{Label, Scanner};

use crate::{Delivered, Detector, Fact, Found, Interest, Pattern, Sourced};

pub(crate) struct Architecture;

impl Detector for Architecture {
    fn name(&self) -> &'static str {
        "architecture"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        // A shell, or the system manager: one of them is a file, not a link, on every system.
        ["/usr/bin/bash", "/bin/bash", "/usr/bin/dash", "/bin/busybox"]
            .map(|path| Interest::open(Pattern::Path(path)))
            .to_vec()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Open(file, _) = content else { return Ok(()) };
        let mut header = [0; 20];
        if read_full(file, 0, &mut header)? == header.len()
            && let Some(name) = machine(&header)
        {
            facts.push(found.fact(Fact::Architecture(Label::new(name))));
        }
        Ok(())
    }
}

/// The architecture as `uname -m` prints it.
fn machine(header: &[u8; 20]) -> Option<&'static str> {
    let [0x7f, b'E', b'L', b'F', class, data, .., low, high] = *header else { return None };
    let is_little = data == 1;
    let machine = if is_little { u16::from_le_bytes([low, high]) } else { u16::from_be_bytes([low, high]) };
    Some(match (machine, class, is_little) {
        (3, ..) => "i686",
        (62, ..) => "x86_64",
        (40, ..) => "armv7l",
        (183, _, true) => "aarch64",
        (22, 2, _) => "s390x",
        (21, _, true) => "ppc64le",
        (21, _, false) => "ppc64",
        (243, 2, _) => "riscv64",
        (258, 2, _) => "loongarch64",
        (8, 2, true) => "mips64el",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, data: u8, machine: [u8; 2]) -> [u8; 20] {
        let mut header = [0; 20];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
        header[18..].copy_from_slice(&machine);
        header
    }

    #[test]
    fn headers_name_their_machine() {
        assert_eq!(machine(&header(2, 1, [62, 0])), Some("x86_64"));
        assert_eq!(machine(&header(2, 1, [183, 0])), Some("aarch64"));
        assert_eq!(machine(&header(2, 2, [0, 22])), Some("s390x"));
        assert_eq!(machine(&header(2, 1, [0, 99])), None);
        assert_eq!(machine(b"#!/bin/sh\nexec dash\n"), None);
    }

    #[test]
    fn this_machine_s_own_shell_is_what_uname_says() {
        let shell = std::fs::read("/bin/bash").expect("the tests run where bash is");
        let said = std::process::Command::new("uname").arg("-m").output().unwrap().stdout;
        assert_eq!(machine(shell[..20].try_into().unwrap()), Some(str::from_utf8(&said).unwrap().trim()));
    }
}

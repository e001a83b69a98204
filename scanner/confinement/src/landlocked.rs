//! Landlock: every right is handled and none is granted.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};

use crate::{Error, is_absent};

/// The newest interface whose rights we know. Older kernels enforce those that they have.
const KNOWN: ABI = ABI::V6;

/// Forbids every path, port, abstract socket and signal; says by which version of the interface. `None` where the kernel has
/// none, or a filter that is there keeps it from us.
pub(crate) fn restrict() -> Result<Option<u32>, Error> {
    let restricted = || -> Result<_, RulesetError> {
        landlock::Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            .restrict_self()
    };
    let status = match restricted() {
        Ok(status) => status,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(Error::Landlock(Box::new(error))),
    };
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => None,
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => version(status.landlock),
    })
}

/// Which version the kernel has. Asked by a thread that restricts itself in nothing that anybody needs and ends.
pub(crate) fn abi() -> Option<u32> {
    let asking = std::thread::spawn(restrict);
    asking.join().ok()?.ok()?
}

fn version(status: LandlockStatus) -> Option<u32> {
    match status {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            // The crate's enumeration has the numbers of the interface as its values.
            let known = u32::try_from(effective_abi as i32).ok()?;
            Some(kernel_abi.and_then(|newer| u32::try_from(newer).ok()).unwrap_or(known))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread;

    use super::*;

    /// Landlock by itself: the filter of system calls, which the hostile readers of `tests/hostile` meet first, is not in
    /// force here. A thread restricts itself alone.
    #[test]
    fn a_restricted_thread_reaches_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let name = SocketAddr::from_abstract_name(format!("stillframe-test-{}", std::process::id())).unwrap();
        let abstract_listener = UnixListener::bind_addr(&name).unwrap();
        let (path, name) = (file.path().to_owned(), &name);
        thread::scope(|scope| {
            let restricted = scope.spawn(move || {
                let Some(version) = restrict().unwrap() else { panic!("this kernel has no Landlock") };
                let denied = |result: Result<(), std::io::Error>| {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
                };
                denied(File::open(&path).map(drop));
                denied(File::create(&path).map(drop));
                denied(std::fs::read_dir("/proc").map(drop));
                denied(std::fs::remove_file(&path));
                if version >= 4 {
                    denied(TcpStream::connect(port).map(drop));
                    denied(TcpListener::bind("127.0.0.1:0").map(drop));
                }
                if version >= 6 {
                    denied(UnixStream::connect_addr(name).map(drop));
                }
                version
            });
            assert!(restricted.join().unwrap() >= 1);
        });
        // Others go on.
        drop(abstract_listener);
        assert!(File::open(file.path()).is_ok());
        assert!(TcpStream::connect(port).is_ok());
        assert!(abi().is_some());
    }
}

//! Who is alive: each scan holds a lock on a file beside the state store for as long as its process lives. The kernel lets
//! it go whichever way the process ends, so a lock that can be had belongs to a dead scan.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::tags::ScanId;

/// Where the locks of a state store lie.
#[derive(Debug, Clone)]
pub struct LockFolder(PathBuf);

impl LockFolder {
    /// The folder `locks` beside the state store at `state_path`, made where it is missing, for the owner alone.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn beside(state_path: &Path) -> io::Result<Self> {
        let folder = state_path.with_file_name("locks");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    /// Takes the scan's lock. To be done before anything is recorded or created in its name.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where a living scan has this name, and what else the operating system says.
    pub fn take(&self, scan: &ScanId) -> io::Result<ScanLock> {
        let path = self.path(scan);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(ScanLock { file, path })
    }

    /// Whether the scan lives, as far as this folder knows.
    ///
    /// # Errors
    /// What the operating system says; the scan must then be taken for alive.
    pub fn liveness(&self, scan: &ScanId) -> io::Result<Liveness> {
        let file = match File::open(self.path(scan)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Liveness::Unknown),
            Err(error) => return Err(error),
        };
        // Shared: two that ask at once must not take each other for the scan.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Liveness::Dead),
            Err(Errno::WOULDBLOCK) => Ok(Liveness::Alive),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the lock file of a dead scan of which nothing is left.
    pub fn forget(&self, scan: &ScanId) {
        if matches!(self.liveness(scan), Ok(Liveness::Dead)) {
            // A file that stays is asked again the next time, no more.
            let _ = std::fs::remove_file(self.path(scan));
        }
    }

    fn path(&self, scan: &ScanId) -> PathBuf {
        self.0.join(format!("{scan}.lock"))
    }
}

/// What a lock says of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Its lock is held.
    Alive,
    /// Its lock is there and free.
    Dead,
    /// There is no lock: it ended and nothing was left, or it is another state store's.
    Unknown,
}

/// A scan's life. Dropping it is death; [`ScanLock::finish`] is a good end.
#[derive(Debug)]
#[must_use]
pub struct ScanLock {
    file: File,
    path: PathBuf,
}

impl ScanLock {
    /// Nothing of the scan is left: the file goes too.
    pub fn finish(self) {
        let _ = std::fs::remove_file(&self.path);
        drop(self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lives_as_long_as_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let locks = LockFolder::beside(&folder.path().join("state.db")).unwrap();
        let scan = ScanId::parse("0123456789abcdef").unwrap();
        assert_eq!(locks.liveness(&scan).unwrap(), Liveness::Unknown);
        let lock = locks.take(&scan).unwrap();
        assert_eq!(locks.liveness(&scan).unwrap(), Liveness::Alive);
        assert_eq!(locks.take(&scan).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert_eq!(locks.liveness(&scan).unwrap(), Liveness::Dead);
        let lock = locks.take(&scan).unwrap();
        locks.forget(&scan);
        assert_eq!(locks.liveness(&scan).unwrap(), Liveness::Alive);
        lock.finish();
        assert_eq!(locks.liveness(&scan).unwrap(), Liveness::Unknown);
    }

    #[test]
    fn a_lock_of_another_process_is_seen_and_its_kill_too() {
        let folder = tempfile::tempdir().unwrap();
        let locks = LockFolder::beside(&folder.path().join("state.db")).unwrap();
        let scan = ScanId::parse("0123456789abcdef").unwrap();
        drop(locks.take(&scan).unwrap());
        let path = locks.path(&scan);
        let mut other = std::process::Command::new("flock")
            .args(["--no-fork", "--exclusive"])
            .arg(&path)
            .args(["sleep", "60"])
            .spawn()
            .unwrap();
        let mut seen = Liveness::Unknown;
        for _ in 0..200 {
            seen = locks.liveness(&scan).unwrap();
            if seen == Liveness::Alive {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(seen, Liveness::Alive);
        assert_eq!(locks.liveness(&scan).unwrap(), Liveness::Dead);
    }
}

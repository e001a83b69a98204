//! The fingerprint key: given by a file, or made once and kept in the state directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use stillframe_model::{FingerprintKey, KEY_BYTES, KeyError};
use zeroize::Zeroizing;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("the fingerprint key {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no fingerprint key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// Others can read the file.
    #[error("others than you can read the fingerprint key {}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made.
    #[error("the fingerprint key {} cannot be made", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Neither `XDG_STATE_HOME` nor `HOME` is set.
    #[error("there is no state directory: neither XDG_STATE_HOME nor HOME is set")]
    NoStateDirectory,
}

/// Reads the key in `path`.
///
/// # Errors
/// [`KeyFileError`] where it cannot be read, is none, or others can read it too.
pub fn load(path: &Path) -> Result<FingerprintKey, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned() });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    FingerprintKey::from_hex(&text).map_err(|source| KeyFileError::NotAKey { path: path.to_owned(), source })
}

/// The key of this state directory (`$XDG_STATE_HOME/stillframe`), made on first use.
///
/// # Errors
/// [`KeyFileError`] where it can neither be read nor made.
pub fn load_or_make(state: &Path) -> Result<FingerprintKey, KeyFileError> {
    let path = state.join("fingerprint.key");
    let unwritable = |source: io::Error| KeyFileError::Unwritable { path: path.clone(), source };
    match load(&path) {
        Err(KeyFileError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(unwritable)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| unwritable(io::Error::other(error)))?;
    // Written beside and linked into place: of two first scans one makes the key, and both use it.
    let made = state.join(format!("fingerprint.key.{}", random_name()));
    let key = FingerprintKey::new(*bytes);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made).map_err(unwritable)?;
    let written = file.write_all(key.to_hex().as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&made, &path));
    fs::remove_file(&made).map_err(unwritable)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => load(&path),
        Err(error) => Err(unwritable(error)),
    }
}

/// Sixteen digits for the name of a file that is only ours. A process id would not do: in containers it is often the
/// same, and what a killed run left behind would be in the way.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return std::process::id().to_string();
    }
    format!("{:016x}", u64::from_le_bytes(bytes))
}

/// `$XDG_STATE_HOME/stillframe`, else `~/.local/state/stillframe` (XDG Base Directory Specification).
///
/// # Errors
/// [`KeyFileError::NoStateDirectory`] where neither variable is set.
pub fn state_directory() -> Result<PathBuf, KeyFileError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("stillframe"))
        .ok_or(KeyFileError::NoStateDirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = load_or_make(&state).unwrap().id();
        assert_eq!(load_or_make(&state).unwrap().id(), first);
        let path = state.join("fingerprint.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Exposed { .. })));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "canary-canary").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let Err(error) = load(&path) else { panic!("it is no key") };
        assert!(matches!(error, KeyFileError::NotAKey { .. }) && !format!("{error:?}").contains("canary"));
    }

    #[test]
    fn two_first_scans_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let state = folder.path().to_owned();
                    scope.spawn(move || load_or_make(&state).unwrap().id())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }
}

use std::collections::HashMap;

use crate::{Delivery, Detector, Pattern};

/// One detector's wish for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The detector's index in the list that the matcher was made from.
    pub detector: usize,
    /// How it wants the entry.
    pub delivery: Delivery,
}

/// All interests of all detectors, ready to be asked folder by folder: an entry costs a look-up only in folders that
/// somebody is interested in, unless an interest is in a name anywhere.
#[derive(Debug, Default)]
pub struct Matcher {
    folders: HashMap<Vec<u8>, Folder>,
    endings: Vec<(Vec<u8>, Want)>,
    anywhere: HashMap<Vec<u8>, Vec<Want>>,
}

#[derive(Debug, Default)]
struct Folder {
    by_name: HashMap<Vec<u8>, Vec<Want>>,
    every: Vec<Want>,
}

/// The part of a [`Matcher`] that concerns one folder.
#[derive(Debug, Clone)]
pub struct FolderMatcher<'m> {
    folder: Option<&'m Folder>,
    by_ending: Vec<Want>,
    anywhere: &'m HashMap<Vec<u8>, Vec<Want>>,
}

impl Matcher {
    /// Compiles the interests of `detectors`.
    #[must_use]
    pub fn new(detectors: &[Box<dyn Detector>]) -> Self {
        let mut matcher = Self::default();
        for (index, detector) in detectors.iter().enumerate() {
            for interest in detector.interests() {
                matcher.add(interest.pattern, Want { detector: index, delivery: interest.delivery });
            }
        }
        matcher
    }

    fn add(&mut self, pattern: Pattern, want: Want) {
        match pattern {
            Pattern::Path(path) => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                let folder = self.folders.entry(folder.into()).or_default();
                folder.by_name.entry(name.into()).or_default().push(want);
            }
            Pattern::In(folder) => self.folders.entry(folder.into()).or_default().every.push(want),
            Pattern::InFolderEndingWith(ending) => self.endings.push((ending.into(), want)),
            Pattern::Named(name) => self.anywhere.entry(name.into()).or_default().push(want),
        }
    }

    /// What concerns the folder at `path` of the machine (`/etc`, and the empty path for the root); `None` for a folder
    /// that the machine mounts nowhere.
    #[must_use]
    pub fn folder(&self, path: Option<&[u8]>) -> FolderMatcher<'_> {
        let by_ending = path.map_or_else(Vec::new, |path| {
            self.endings.iter().filter(|(ending, _)| path.ends_with(ending)).map(|(_, want)| *want).collect()
        });
        FolderMatcher {
            folder: path.and_then(|path| self.folders.get(path)),
            by_ending,
            anywhere: &self.anywhere,
        }
    }
}

impl FolderMatcher<'_> {
    /// Who wants the entry called `name` in this folder.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> Vec<Want> {
        let mut wants = Vec::new();
        if let Some(folder) = self.folder {
            wants.extend(folder.by_name.get(name).into_iter().flatten().chain(&folder.every));
        }
        wants.extend(&self.by_ending);
        if !self.anywhere.is_empty() {
            wants.extend(self.anywhere.get(name).into_iter().flatten());
        }
        wants
    }

    /// Whether no entry of this folder can be wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folder.is_none() && self.by_ending.is_empty() && self.anywhere.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher() -> Matcher {
        let mut matcher = Matcher::default();
        let patterns = [
            Pattern::Path("/etc/os-release"),
            Pattern::In("/var/lib/dpkg/status.d"),
            Pattern::InFolderEndingWith("/storage/overlay"),
            Pattern::Named("id_rsa"),
            Pattern::Path("/top"),
        ];
        for (detector, pattern) in patterns.into_iter().enumerate() {
            matcher.add(pattern, Want { detector, delivery: Delivery::Entry });
        }
        matcher
    }

    fn who(folder: Option<&str>, name: &str) -> Vec<usize> {
        let matcher = matcher();
        let wants = matcher.folder(folder.map(str::as_bytes)).wants(name.as_bytes());
        wants.into_iter().map(|want| want.detector).collect()
    }

    #[test]
    fn each_pattern_matches_what_it_names_and_nothing_near_it() {
        assert_eq!(who(Some("/etc"), "os-release"), [0]);
        assert_eq!(who(Some("/etc"), "os-release2"), [0_usize; 0]);
        assert_eq!(who(Some("/x/etc"), "os-release"), [0_usize; 0]);
        assert_eq!(who(Some("/var/lib/dpkg/status.d"), "base"), [1]);
        assert_eq!(who(Some("/var/lib/dpkg/status.d/base"), "x"), [0_usize; 0]);
        assert_eq!(who(Some("/home/a/storage/overlay"), "l"), [2]);
        assert_eq!(who(Some("/home/a/storage/overlay2"), "l"), [0_usize; 0]);
        assert_eq!(who(Some("/root/.ssh"), "id_rsa"), [3]);
        assert_eq!(who(Some(""), "top"), [4]);
    }

    #[test]
    fn what_is_mounted_nowhere_is_matched_by_name_only() {
        assert_eq!(who(None, "id_rsa"), [3]);
        assert_eq!(who(None, "os-release"), [0_usize; 0]);
    }
}

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Delivery, Detector, Pattern};

/// One detector's wish for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The detector's index in the list that the matcher was made from.
    pub detector: usize,
    /// How it wants the entry.
    pub delivery: Delivery,
    /// The folder as the detector wrote it, where a symbolic link leads from there to the folder that the entry is in.
    pub written: Option<Arc<[u8]>>,
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
    /// What is wanted of it by other paths.
    by_link: Vec<(Arc<[u8]>, &'m Folder)>,
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
                matcher.add(
                    interest.pattern,
                    Want { detector: index, delivery: interest.delivery, written: None },
                );
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

    /// The folders that are named from the root, in no order.
    pub fn folder_paths(&self) -> impl Iterator<Item = &[u8]> {
        self.folders.keys().map(Vec::as_slice)
    }

    /// What concerns the folder at `path` of the machine (`/etc`, and the empty path for the root); `None` for a folder
    /// that the machine mounts nowhere. `links` are other paths that lead to it.
    #[must_use]
    pub fn folder<'m, 'l>(
        &'m self,
        path: Option<&[u8]>,
        links: impl Iterator<Item = &'l [u8]>,
    ) -> FolderMatcher<'m> {
        let by_ending = path.map_or_else(Vec::new, |path| {
            let ends = |(ending, _): &&(Vec<u8>, Want)| path.ends_with(ending);
            self.endings.iter().filter(ends).map(|(_, want)| want.clone()).collect()
        });
        FolderMatcher {
            folder: path.and_then(|path| self.folders.get(path)),
            by_link: links.filter_map(|link| Some((link.into(), self.folders.get(link)?))).collect(),
            by_ending,
            anywhere: &self.anywhere,
        }
    }
}

impl Folder {
    fn of(&self, name: &[u8]) -> impl Iterator<Item = &Want> {
        self.by_name.get(name).into_iter().flatten().chain(&self.every)
    }
}

impl FolderMatcher<'_> {
    /// Who wants the entry called `name` in this folder. One who wants it by several paths gets it once, by the real one.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> Vec<Want> {
        let mut wants = Vec::new();
        if let Some(folder) = self.folder {
            wants.extend(folder.of(name).cloned());
        }
        wants.extend(self.by_ending.iter().cloned());
        if !self.anywhere.is_empty() {
            wants.extend(self.anywhere.get(name).into_iter().flatten().cloned());
        }
        for (written, folder) in &self.by_link {
            for want in folder.of(name) {
                let is_same =
                    |known: &Want| (known.detector, known.delivery) == (want.detector, want.delivery);
                if !wants.iter().any(is_same) {
                    wants.push(Want { written: Some(written.clone()), ..want.clone() });
                }
            }
        }
        wants
    }

    /// Whether no entry of this folder can be wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folder.is_none()
            && self.by_link.is_empty()
            && self.by_ending.is_empty()
            && self.anywhere.is_empty()
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
            matcher.add(pattern, Want { detector, delivery: Delivery::Entry, written: None });
        }
        matcher
    }

    fn who(folder: Option<&str>, name: &str) -> Vec<usize> {
        let matcher = matcher();
        let wants = matcher.folder(folder.map(str::as_bytes), std::iter::empty()).wants(name.as_bytes());
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

    #[test]
    fn a_folder_is_wanted_by_the_paths_that_lead_to_it_and_each_entry_once() {
        let mut matcher = matcher();
        let want = Want { detector: 0, delivery: Delivery::Entry, written: None };
        matcher.add(Pattern::Path("/usr/lib/os-release"), want);
        let wants = |links: &[&'static [u8]], name: &str| {
            let folder = matcher.folder(Some(b"/usr/lib"), links.iter().copied());
            let wants = folder.wants(name.as_bytes()).into_iter();
            wants.map(|want| (want.detector, want.written.as_deref().map(<[u8]>::to_vec))).collect::<Vec<_>>()
        };
        assert_eq!(
            wants(&[b"/etc"], "os-release"),
            [(0, None)],
            "by its real path, and not again by the link"
        );
        assert_eq!(wants(&[b"/var/lib/dpkg/status.d"], "x"), [(1, Some(b"/var/lib/dpkg/status.d".to_vec()))]);
        assert_eq!(wants(&[b"/nowhere"], "x"), []);
    }
}

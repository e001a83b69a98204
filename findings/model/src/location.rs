use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::path::{escape_path, split_at_user};
use crate::{DiskText, Label, PathView, ShownPath};

/// Where something is: which volume, which filesystem, which path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// The volume as the coverage ledger calls it: `disk0/p1`.
    pub volume: DiskText,
    /// The filesystem's kind: `ext4`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filesystem: Option<Label>,
    /// The path on the machine, with people's names masked; on a filesystem that is mounted nowhere, from its root.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<ShownPath>,
    /// The path from the filesystem's root, where the machine sees another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume_path: Option<ShownPath>,
    /// The owner's number: of the file, given where its path hides a person's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner_uid: Option<u32>,
    /// What an id is made of; not shown.
    #[serde(skip)]
    identity: String,
}

impl Location {
    /// A place in `volume`, which holds a filesystem of `kind`.
    #[must_use]
    pub fn in_volume(volume: &str, kind: &'static str) -> Self {
        let identity = volume.to_owned();
        Self {
            volume: DiskText::new(volume),
            filesystem: Some(Label::new(kind)),
            path: None,
            volume_path: None,
            owner_uid: None,
            identity,
        }
    }

    /// The file at `path`, whose owner is `owner_uid` if known.
    #[must_use]
    pub fn at(mut self, path: &[u8], owner_uid: Option<u32>, view: PathView<'_>) -> Self {
        self.path = Some(view.show(path));
        self.identity = match split_at_user(path) {
            Some((root, _, rest)) => {
                self.owner_uid = owner_uid;
                let owner = owner_uid.map_or_else(String::new, |uid| uid.to_string());
                format!("{}\0{}\0~{owner}\0{}", self.volume, escape_path(root), escape_path(rest))
            }
            None => format!("{}\0{}", self.volume, escape_path(path)),
        };
        self
    }

    /// The same file's path from the root of its filesystem; `on_machine` is the path that [`Self::at`] was given.
    #[must_use]
    pub fn from_volume_root(mut self, path: &[u8], on_machine: &[u8], view: PathView<'_>) -> Self {
        let shown = view.show_beside(path, on_machine);
        self.volume_path = (self.path.as_ref() != Some(&shown)).then_some(shown);
        self
    }

    /// What tells this place from others in every scan; holds no person's name.
    /// What tells it from other places, whatever the key of fingerprints is. Not part of a report.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// With the identity that it had in another process: a report leaves it out.
    #[must_use]
    pub fn with_identity(mut self, identity: String) -> Self {
        self.identity = identity;
        self
    }
}

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DiskText, Location, Purl};

/// Who installed a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// dpkg.
    Deb,
    /// rpm.
    Rpm,
    /// apk.
    Apk,
}

impl PackageKind {
    /// The type in a package URL.
    #[must_use]
    pub const fn purl_type(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }
}

/// An installed package. No person of its metadata (author, maintainer, packager) has a field here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    /// Its package URL, with the distribution's qualifiers.
    pub purl: Purl,
    /// Who installed it.
    pub kind: PackageKind,
    /// Its name.
    pub name: DiskText,
    /// Its version as the package manager writes it: with epoch and release.
    pub version: DiskText,
    /// The architecture that it was built for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub architecture: Option<DiskText>,
    /// The source package, where it has another name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_name: Option<DiskText>,
    /// The source package's version, where it has another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_version: Option<DiskText>,
    /// The module stream (rpm).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<DiskText>,
    /// The databases that list it.
    pub found_in: Vec<Location>,
}

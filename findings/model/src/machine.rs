use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DiskText, Label};

/// The machine that the disks belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Its operating system, where one was recognised.
    pub os: Option<OperatingSystem>,
    /// Its name.
    pub hostname: Option<DiskText>,
    /// The architecture that its programs are built for, as the Linux kernel names it: `x86_64`, `aarch64`.
    pub architecture: Option<Label>,
    /// The kernel packages that are installed.
    pub kernels: Vec<Kernel>,
}

/// An operating system as its own files describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatingSystem {
    /// `linux` or `windows`.
    pub family: Label,
    /// `debian`, `ubuntu`, `rhel`, `amzn`: `ID` of `os-release(5)`.
    pub id: DiskText,
    /// `12`, `22.04`, `9.4`: `VERSION_ID`.
    pub version_id: Option<DiskText>,
    /// `bookworm`: `VERSION_CODENAME`.
    pub codename: Option<DiskText>,
    /// `Debian GNU/Linux 12 (bookworm)`: `PRETTY_NAME`.
    pub pretty_name: Option<DiskText>,
    /// `rhel fedora`: `ID_LIKE`.
    pub id_like: Vec<DiskText>,
}

/// An installed kernel package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Kernel {
    /// The package.
    pub package: DiskText,
    /// Its version.
    pub version: DiskText,
}

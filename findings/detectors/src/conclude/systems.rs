//! Which system it is, and which package manager it should have.

use stillframe_model::{Coverage, CoverageKind, DiskText, Label, OperatingSystem, Package, Reason, Status};

use super::{kernel_architecture, operating_system};
use crate::{DatabaseKind, Release};

pub(super) const LINUX: Label = Label::new("linux");
pub(super) const WINDOWS: Label = Label::new("windows");

/// The release that is believed; where it lacks a version, the next one of the same distribution lends its own.
pub(super) fn choose(mut releases: Vec<Release>, is_windows: bool) -> Option<OperatingSystem> {
    releases.sort_by_key(|release| release.source);
    let mut releases = releases.into_iter();
    let Some(mut best) = releases.next() else {
        return is_windows.then(|| OperatingSystem {
            family: WINDOWS,
            id: DiskText::new("windows"),
            version_id: None,
            codename: None,
            pretty_name: Some(DiskText::new("Windows")),
            id_like: Vec::new(),
        });
    };
    for other in releases.filter(|other| other.id == best.id) {
        best.version_id = best.version_id.or(other.version_id);
        best.codename = best.codename.or(other.codename);
    }
    Some(operating_system(best))
}

/// The ledger's row for the system.
pub(super) fn row(system: usize, os: Option<&OperatingSystem>) -> Coverage {
    let name = match (os, system) {
        (None, _) => DiskText::new("none recognised"),
        (Some(os), _) => match (&os.pretty_name, &os.version_id) {
            (Some(name), _) => name.clone(),
            (None, Some(version)) => DiskText::new(&format!("{} {version}", os.id)),
            (None, None) => os.id.clone(),
        },
    };
    let unread = |words| {
        Coverage::unread(
            CoverageKind::OperatingSystem,
            name.clone(),
            Status::Unsupported,
            Reason::words(words),
        )
    };
    let mut row = match os {
        None => unread("no system that is known here is on these disks"),
        Some(os) if os.family == WINDOWS => unread("Windows is recognised and not read yet"),
        Some(_) => Coverage::scanned(CoverageKind::OperatingSystem, name),
    };
    if system > 0 {
        row.notes.push(Label::new("a second system on these disks"));
    }
    row
}

/// The package manager that a distribution, or one that it is like, has.
pub(super) fn package_manager(os: &OperatingSystem) -> Option<DatabaseKind> {
    std::iter::once(&os.id).chain(&os.id_like).find_map(|id| match id.as_str() {
        "debian" | "ubuntu" | "raspbian" | "linuxmint" | "kali" | "pop" | "devuan" | "elementary"
        | "deepin" => Some(DatabaseKind::Dpkg),
        "rhel"
        | "fedora"
        | "centos"
        | "rocky"
        | "almalinux"
        | "ol"
        | "amzn"
        | "sles"
        | "sled"
        | "suse"
        | "opensuse"
        | "opensuse-leap"
        | "opensuse-tumbleweed"
        | "sle_hpc"
        | "sles_sap"
        | "sl-micro"
        | "mariner"
        | "azurelinux"
        | "photon"
        | "scientific"
        | "virtuozzo"
        | "cloudlinux"
        | "openeuler"
        | "anolis"
        | "bottlerocket"
        | "redhat"
        | "xenenterprise" => Some(DatabaseKind::Rpm),
        "alpine" | "wolfi" | "chainguard" | "postmarketos" => Some(DatabaseKind::Apk),
        _ => None,
    })
}

/// The architecture that most packages are built for.
pub(super) fn architecture_of(packages: &[Package]) -> Option<Label> {
    let mut counts = std::collections::BTreeMap::<Label, usize>::new();
    for package in packages {
        let name = package.architecture.as_ref().and_then(|name| kernel_architecture(name.as_str()));
        if let Some(name) = name {
            let count = counts.entry(name).or_default();
            *count = count.saturating_add(1);
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
}

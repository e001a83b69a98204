//! From the facts of all volumes to what the report says of the machine: its system, its packages, and the rows of the
//! ledger that are not about disks.

mod databases;
mod purls;
mod systems;

use std::collections::{BTreeMap, BTreeSet};

use stillframe_model::{
    Coverage, CoverageKind, DiskText, Kernel, Label, Machine, OperatingSystem, Package, Reason, Scanner,
    Status,
};

use crate::{DatabaseKind, Fact, Release, Sourced};

/// What the facts come to.
#[derive(Debug, Default)]
pub struct Conclusion {
    /// The machine.
    pub machine: Machine,
    /// What is installed, sorted.
    pub packages: Vec<Package>,
    /// Rows for the operating system, the package databases, container storage and the scanners.
    pub coverage: Vec<Coverage>,
}

/// Draws the conclusions for the scanners that were asked for.
#[must_use]
pub fn conclude(mut facts: Vec<Sourced<Fact>>, scanners: &[Scanner]) -> Conclusion {
    // Facts come in from many threads: order them, so that two scans of a disk say the same.
    facts.sort_by(|a, b| {
        (a.system, &a.location.volume, &a.path).cmp(&(b.system, &b.location.volume, &b.path))
    });
    let mut conclusion = Conclusion::default();
    let mut by_system: BTreeMap<usize, Vec<Sourced<Fact>>> = BTreeMap::new();
    for fact in facts {
        by_system.entry(fact.system).or_default().push(fact);
    }
    // The machine's own system is spoken of even where nothing of it was found.
    by_system.entry(0).or_default();
    for (system, facts) in by_system {
        conclude_system(system, facts, &mut conclusion, scanners);
    }
    conclusion.packages.sort_by(|a, b| (&a.purl, &a.name).cmp(&(&b.purl, &b.name)));
    conclusion
}

fn conclude_system(
    system: usize,
    facts: Vec<Sourced<Fact>>,
    conclusion: &mut Conclusion,
    scanners: &[Scanner],
) {
    let mut releases = Vec::new();
    let mut hostname = None;
    let mut architecture = None;
    let mut is_windows = false;
    let mut found = Vec::new();
    let mut layers: BTreeMap<(Label, Vec<u8>, DiskText), u64> = BTreeMap::new();
    for fact in facts {
        let Sourced { path, location, what, .. } = fact;
        match what {
            Fact::Release(release) => releases.push(release),
            Fact::Hostname(name) => hostname = hostname.or(Some(name)),
            Fact::Architecture(name) => architecture = architecture.or(Some(name)),
            Fact::WindowsRegistry => is_windows = true,
            Fact::Layer(layer) => {
                let name = DiskText::new(&format!("{} in {}", layer.runtime, location.volume));
                let count = layers.entry((layer.runtime, folder_of(&path), name)).or_default();
                *count = count.saturating_add(1);
            }
            Fact::Packages(database) => found.push((path, location, database)),
        }
    }
    let os = systems::choose(releases, is_windows);
    let before = conclusion.packages.len();
    let kinds: BTreeSet<DatabaseKind> = found.iter().map(|(_, _, database)| database.kind).collect();
    let (rows, packages) = databases::conclude(found, os.as_ref());
    conclusion.packages.extend(packages);
    let own = conclusion.packages.get(before..).unwrap_or_default();
    if system == 0 {
        let architecture = architecture.or_else(|| systems::architecture_of(own));
        conclusion.machine = Machine { os: os.clone(), hostname, architecture, kernels: kernels(own) };
    }
    let has_packages = !own.is_empty();
    conclusion.coverage.push(systems::row(system, os.as_ref()));
    conclusion.coverage.extend(rows);
    conclusion.coverage.extend(databases::missing(os.as_ref(), &kinds));
    conclusion.coverage.extend(layers.into_iter().map(|((_, _, name), count)| layers_row(name, count)));
    if system == 0 {
        conclusion
            .coverage
            .extend(scanners.iter().map(|scanner| scanner_row(*scanner, os.as_ref(), has_packages)));
    }
}

fn folder_of(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default().to_vec()
}

fn layers_row(name: DiskText, count: u64) -> Coverage {
    let reason = Reason::counted(count, "container layer", "container layers", ", not read yet");
    Coverage::unread(CoverageKind::ContainerStorage, name, Status::Unsupported, reason)
}

fn scanner_row(scanner: Scanner, os: Option<&OperatingSystem>, has_packages: bool) -> Coverage {
    let name = scanner.name();
    let unsupported =
        |words| Coverage::unread(CoverageKind::Scanner, name, Status::Unsupported, Reason::words(words));
    match os {
        None if has_packages => Coverage::scanned(CoverageKind::Scanner, name),
        None => unsupported("no operating system was found to look at"),
        Some(os) if os.family == systems::WINDOWS => unsupported("no collector for Windows yet"),
        Some(os) if !has_packages && systems::package_manager(os).is_none() => {
            unsupported("no collector for this system's package manager yet")
        }
        Some(_) => Coverage::scanned(CoverageKind::Scanner, name),
    }
}

/// Names of packages that hold a kernel image.
fn kernels(packages: &[Package]) -> Vec<Kernel> {
    let is_kernel = |name: &str| {
        let deb =
            name.strip_prefix("linux-image-").map(|rest| rest.strip_prefix("unsigned-").unwrap_or(rest));
        deb.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            || matches!(
                name,
                "kernel"
                    | "kernel-core"
                    | "kernel-default"
                    | "kernel-uek"
                    | "kernel-uek-core"
                    | "kernel-rt"
                    | "kernel-rt-core"
                    | "kernel-lt"
                    | "kernel-ml"
                    | "kernel-64k-core"
                    | "kernel6.12"
                    | "kernel6.18"
                    | "kernel-azure"
                    | "linux-lts"
                    | "linux-virt"
                    | "linux-edge"
                    | "linux-stable"
                    | "linux-rpi"
            )
    };
    let mut kernels: Vec<Kernel> = packages
        .iter()
        .filter(|package| is_kernel(package.name.as_str()))
        .map(|package| Kernel { package: package.name.clone(), version: package.version.clone() })
        .collect();
    kernels.sort();
    kernels.dedup();
    kernels
}

/// An architecture as the Linux kernel names it, from what a package manager calls it.
pub(crate) fn kernel_architecture(name: &str) -> Option<Label> {
    Some(Label::new(match name {
        "amd64" | "x86_64" => "x86_64",
        "arm64" | "aarch64" => "aarch64",
        "i386" | "i486" | "i586" | "i686" | "x86" => "i686",
        "armhf" | "armv7" | "armv7hl" => "armv7l",
        "s390x" => "s390x",
        "ppc64el" | "ppc64le" => "ppc64le",
        "ppc64" => "ppc64",
        "riscv64" => "riscv64",
        "loong64" | "loongarch64" => "loongarch64",
        _ => return None,
    }))
}

/// What the release says, bounded and escaped.
pub(crate) fn operating_system(release: Release) -> OperatingSystem {
    let text = |value: Option<String>| value.map(|value| DiskText::new(&value));
    OperatingSystem {
        family: systems::LINUX,
        id: DiskText::new(&release.id),
        version_id: text(release.version_id),
        codename: text(release.codename),
        pretty_name: text(release.pretty_name),
        id_like: release.id_like.iter().map(|like| DiskText::new(like)).collect(),
    }
}

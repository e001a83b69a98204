//! Reports to write.

use stillframe_model::{
    CloudCalls, CloudCost, CloudLimits, CloudUse, Coverage, CoverageKind, DataLocality, DiskText, Evidence,
    Finding, FindingKind, FingerprintKey, Io, Isolation, Kernel, KeyId, Label, Location, Machine,
    OperatingSystem, Package, PackageKind, PathView, Purl, REPORT_SCHEMA, Reason, Report, RowFault, Rule,
    Scan, Scanner, Severity, SnapshotFate, SnapshotReceipt, State, Status, Tool, Value, VolumeFacts,
};

pub(crate) const SCAN_ID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

/// Every sample, with its name.
pub(crate) fn all() -> Vec<(&'static str, Report)> {
    vec![
        ("empty", empty()),
        ("complete", complete()),
        ("incomplete", incomplete()),
        ("instance", instance()),
        ("leftovers", leftovers()),
        ("hostile", hostile()),
    ]
}

/// No disk, no machine, nothing.
pub(crate) fn empty() -> Report {
    Report {
        schema: Label::new(REPORT_SCHEMA),
        scan: Scan {
            id: DiskText::new(SCAN_ID),
            tool: Tool { name: Label::new("stillframe"), version: Label::new("0.1.0") },
            started: "2026-03-01T03:12:09.25Z".parse().unwrap(),
            finished: "2026-03-01T03:12:10.49Z".parse().unwrap(),
            scanners: vec![Scanner::Inventory],
            fingerprint_key_id: KeyId::try_from("0123456789abcdef".to_owned()).unwrap(),
            user_paths_masked: true,
            complete: true,
            isolation: Some(Isolation {
                kernel: DiskText::new("6.1.0-18-amd64"),
                landlock_abi: Some(2),
                seccomp: true,
                memory_locked: false,
                deaths: 0,
            }),
        },
        machine: Machine::default(),
        coverage: vec![],
        packages: vec![],
        findings: vec![],
        io: Io::default(),
        snapshots: vec![],
        cloud: None,
    }
}

/// A stock cloud image of Debian, packages of three kinds.
pub(crate) fn complete() -> Report {
    let mut report = empty();
    report.machine = debian("web01");
    report.coverage = vec![
        Coverage::scanned(CoverageKind::Disk, "disk0").with_facts(sized("gpt", 8 << 30)),
        Coverage::scanned(CoverageKind::Partition, "disk0/p1").with_facts(VolumeFacts {
            label: Some(DiskText::new("cloudimg-rootfs")),
            start_bytes: Some(131_072 << 10),
            len_bytes: Some((8 << 30) - (128 << 20)),
            ..VolumeFacts::default()
        }),
        filesystem("disk0/p1", "ext4", "/", 66_497, Some(5)).noted("journal replayed: 214 blocks"),
        Coverage::unread(CoverageKind::Partition, "disk0/p14", Status::Skipped, Reason::words("boot code"))
            .with_facts(VolumeFacts { len_bytes: Some(3 << 20), ..VolumeFacts::default() }),
        Coverage::scanned(CoverageKind::Partition, "disk0/p15")
            .with_facts(VolumeFacts { len_bytes: Some(124 << 20), ..VolumeFacts::default() }),
        filesystem("disk0/p15", "vfat", "/boot/efi", 12, None),
        Coverage::unread(CoverageKind::Unallocated, "disk0/gap1", Status::Skipped, Reason::words("empty"))
            .with_facts(VolumeFacts { len_bytes: Some(1 << 20), ..VolumeFacts::default() }),
        Coverage::scanned(CoverageKind::OperatingSystem, "Debian GNU/Linux 12 (bookworm)"),
        database("dpkg /var/lib/dpkg/status", 2),
        database("rpm /srv/chroot/var/lib/rpm/rpmdb.sqlite", 2),
        database("apk /srv/alpine/lib/apk/db/installed", 1),
        Coverage::scanned(CoverageKind::Scanner, "inventory"),
    ];
    report.packages = vec![
        package(PackageKind::Deb, "debian", "curl", "7.88.1-10+deb12u5", "/var/lib/dpkg/status"),
        package(PackageKind::Deb, "debian", "linux-image-6.1.0-18-amd64", "6.1.76-1", "/var/lib/dpkg/status"),
        package(PackageKind::Rpm, "rhel", "bash", "5.1.8-9.el9", "/srv/chroot/var/lib/rpm/rpmdb.sqlite"),
        package(
            PackageKind::Rpm,
            "rhel",
            "nodejs",
            "1:18.19.0-1.module+el9",
            "/srv/chroot/var/lib/rpm/rpmdb.sqlite",
        ),
        package(PackageKind::Apk, "alpine", "musl", "1.2.4-r2", "/srv/alpine/lib/apk/db/installed"),
    ];
    report.packages[0].source_name = Some(DiskText::new("curl-source"));
    report.packages[0].source_version = Some(DiskText::new("7.88.1-10"));
    report.packages[3].module = Some(DiskText::new("nodejs:18"));
    report.io = Io { blocks_fetched: 98, bytes_read: 51_380_224, requests: 1204, entries: 66_509 };
    report
}

/// The same machine as an instance in a cloud, two volumes of it, whose snapshots are gone.
pub(crate) fn instance() -> Report {
    let mut report = complete();
    report.scan.finished = "2026-03-01T03:12:56.9Z".parse().unwrap();
    let mut data = filesystem("disk1", "ext4", "/srv", 1_204, None);
    data.facts.label = Some(DiskText::new("data"));
    report.coverage.splice(
        7..7,
        [Coverage::scanned(CoverageKind::Disk, "disk1").with_facts(sized("ext4", 100 << 30)), data],
    );
    report.io.entries += 1_204;
    report.snapshots = vec![
        receipt("snap-0a1b2c3d4e5f60718", "/dev/xvda", SnapshotFate::Gone),
        receipt("snap-0a1b2c3d4e5f60719", "/dev/sdf", SnapshotFate::Gone),
    ];
    report.snapshots[1].volume_id = DiskText::new("vol-0c9df61146c4d7902");
    report.snapshots[1].lifetime_seconds = 39;
    report.cloud = Some(CloudUse {
        provider: Label::new("aws"),
        account: DiskText::new("123456789012"),
        region: DiskText::new("eu-west-3"),
        instance_id: Some(DiskText::new("i-0123456789abcdef0")),
        locality: DataLocality::SameRegion,
        calls: CloudCalls {
            gets: 131,
            lists: 2,
            describes: 9,
            changes: 3,
            block_bytes: 131 << 19,
            ..CloudCalls::default()
        },
        cost: CloudCost {
            gets_nano_usd: 393_000,
            lists_nano_usd: 1_200,
            storage_nano_usd: 85_417,
            total_nano_usd: 479_617,
        },
        limits: CloudLimits::default(),
        unknown_creations: 0,
    });
    report
}

/// A scan in a cloud after which a snapshot of every fate is told of, within limits, from another region.
pub(crate) fn leftovers() -> Report {
    use SnapshotFate::{Gone, InRecycleBin, Kept, NotRequested, ReadOnly, Requested};
    let mut report = instance();
    let fates = [
        (Gone, None),
        (Requested, None),
        (Kept, Some("SnapshotLocked")),
        (InRecycleBin, None),
        (Kept, Some("InvalidSnapshot.InUse")),
        (NotRequested, Some("RequestLimitExceeded")),
        (Kept, Some("UnauthorizedOperation: ec2:DeleteSnapshot")),
        (Kept, Some("UnauthorizedOperation: ec2:DeleteSnapshot")),
        (Kept, None),
        (NotRequested, None),
        (ReadOnly, None),
        (Requested, None),
    ];
    report.snapshots = (10_u64..)
        .zip(fates)
        .map(|(number, (fate, code))| {
            let mut receipt =
                receipt(&format!("snap-0a1b2c3d4e5f607{number}"), &format!("/dev/sd{number}"), fate);
            receipt.code = code.map(DiskText::new);
            receipt
        })
        .collect();
    let cloud = report.cloud.as_mut().unwrap();
    cloud.unknown_creations = 2;
    cloud.locality = DataLocality::CrossRegionAllowed;
    cloud.limits = CloudLimits { max_blocks: Some(4_000), max_cost_nano_usd: Some(500_000_000) };
    cloud.calls = CloudCalls { throttles: 12, failures: 3, bad_blocks: 1, ..cloud.calls };
    report
}

/// A machine of which much could not be read, with findings of all severities.
pub(crate) fn incomplete() -> Report {
    let mut report = complete();
    report.machine.hostname = Some(DiskText::new("db-eu-west-3"));
    report.scan.complete = false;
    report.scan.isolation.as_mut().unwrap().landlock_abi = None;
    let root = report.coverage.iter_mut().find(|row| row.facts.entries == Some(66_497)).unwrap();
    root.status = Status::Partial;
    root.reason = Some(Reason::counted(14, "entry", "entries", " could not be read"));
    for inode in 0..14 {
        root.push_fault(RowFault {
            what: Label::new("extent header"),
            path: Some(
                PathView::Plain.show(format!("/var/lib/postgresql/base/16384/{}", 2600 + inode).as_bytes()),
            ),
            at: Some(0x0040_0000 + inode * 4096),
            claimed: Some(Value::hex(0xf30a)),
            found: Some(Value::Number(0)),
        });
    }
    let mut lvm = Coverage::unread(
        CoverageKind::Disk,
        "disk2",
        Status::Unsupported,
        Reason::words("LVM2 physical volume"),
    )
    .with_facts(sized("lvm2", 500 << 30));
    lvm.push_fault(RowFault {
        what: Label::new("physical volume label"),
        path: None,
        at: Some(512),
        claimed: None,
        found: Some(Value::Words(Label::new("LABELONE"))),
    });
    report.coverage.splice(
        7..7,
        [
            Coverage::unread(
                CoverageKind::Disk,
                "disk1",
                Status::Encrypted,
                Reason::words("LUKS2, and there is no key"),
            )
            .with_facts(sized("luks2", 40 << 30)),
            lvm,
            Coverage::unread(
                CoverageKind::Disk,
                "disk3",
                Status::Corrupt,
                Reason::because("neither partition table can be read", "the checksum of the header differs"),
            )
            .with_facts(sized("gpt", 1 << 40)),
        ],
    );
    report.coverage.push(Coverage::unread(
        CoverageKind::ContainerStorage,
        "docker /var/lib/docker",
        Status::Unsupported,
        Reason::counted(12, "container layer", "container layers", ", not read yet"),
    ));
    report.findings = findings();
    report
}

/// Everything that a disk names, named by somebody who means harm.
pub(crate) fn hostile() -> Report {
    let mut report = incomplete();
    report.scan.isolation = None;
    let names = hostile_names();
    report.machine.hostname = Some(DiskText::new(&names[0]));
    let os = report.machine.os.as_mut().unwrap();
    os.pretty_name = Some(DiskText::new(&names[1]));
    os.version_id = Some(DiskText::new(&names[3]));
    os.id = DiskText::new(&names[2]);
    report.coverage.truncate(7);
    for (index, name) in names.iter().enumerate() {
        let mut row = Coverage::unread(
            CoverageKind::Partition,
            format!("disk0/{name}"),
            [Status::Scanned, Status::Corrupt, Status::Skipped, Status::Partial][index % 4],
            Reason::words("no reason is long enough to be given twice, and this one is long enough to wrap"),
        );
        row.facts.label = Some(DiskText::new(name));
        row.facts.uuid = Some(DiskText::new(name));
        row.facts.mounted_at = Some(PathView::Plain.show(name.as_bytes()));
        row.facts.len_bytes = Some(u64::MAX);
        row.push_fault(RowFault {
            what: Label::new("directory entry"),
            path: Some(PathView::Plain.show(name.repeat(9).as_bytes())),
            at: Some(u64::MAX),
            claimed: Some(Value::Number(u64::MAX)),
            found: Some(Value::hex(u64::MAX)),
        });
        report.coverage.push(row);
    }
    report.packages = Vec::new();
    for name in &names {
        report.packages.push(package(PackageKind::Deb, name, name, name, name));
        report.packages.push(package(PackageKind::Deb, name, name, name, "/elsewhere"));
        report.packages.push(package(PackageKind::Deb, name, name, name, name));
    }
    report.machine.kernels = names
        .iter()
        .map(|name| Kernel { package: DiskText::new(name), version: DiskText::new(name) })
        .collect();
    hostile_cloud(&mut report);
    report.io = Io { blocks_fetched: u64::MAX, bytes_read: u64::MAX, requests: u64::MAX, entries: u64::MAX };
    report
}

/// What a cloud says, said by somebody who means harm, with every number as large as it can be.
fn hostile_cloud(report: &mut Report) {
    let names = hostile_names();
    let template = leftovers();
    report.snapshots.clear();
    for (index, name) in names.iter().enumerate() {
        for mut receipt in template.snapshots.iter().skip(index % 3).step_by(3).cloned() {
            receipt.snapshot_id = DiskText::new(name);
            receipt.volume_id = DiskText::new(name);
            receipt.device = Some(DiskText::new(name));
            receipt.code = Some(DiskText::new(name));
            receipt.cost_allocation_tag = Some(DiskText::new(name));
            receipt.lifetime_seconds = u64::MAX;
            report.snapshots.push(receipt);
        }
    }
    let mut cloud = template.cloud.unwrap();
    cloud.account = DiskText::new(&names[0]);
    cloud.region = DiskText::new(&names[2]);
    cloud.instance_id = Some(DiskText::new(&names[4]));
    cloud.calls = CloudCalls {
        gets: u64::MAX,
        lists: u64::MAX,
        describes: u64::MAX,
        changes: u64::MAX,
        throttles: u64::MAX,
        failures: u64::MAX,
        bad_blocks: u64::MAX,
        block_bytes: u64::MAX,
    };
    cloud.cost = CloudCost {
        gets_nano_usd: u64::MAX,
        lists_nano_usd: u64::MAX,
        storage_nano_usd: u64::MAX,
        total_nano_usd: u64::MAX,
    };
    cloud.limits = CloudLimits { max_blocks: Some(u64::MAX), max_cost_nano_usd: Some(u64::MAX) };
    cloud.unknown_creations = u64::MAX;
    report.cloud = Some(cloud);
}

/// Escape sequences, quotes, marks of direction, no letter at all, and 300 of them.
pub(crate) fn hostile_names() -> Vec<String> {
    vec![
        "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nroot# ".to_owned(),
        "\"quoted\" 'twice' \\ back, {\"json\":null}, `id`, $(id) <b>&amp;".to_owned(),
        "\u{202e}gnp.exe\u{2066}\u{200b}\u{feff}é東京 \u{1f4a3}".to_owned(),
        "\u{1b}".repeat(300),
        "x".repeat(300),
        "a b/../../c d/".repeat(30),
        String::new(),
        " ".repeat(40),
        "e\u{301}".repeat(90),
    ]
}

trait Noted {
    fn noted(self, note: &'static str) -> Self;
}

impl Noted for Coverage {
    fn noted(mut self, note: &'static str) -> Self {
        self.notes.push(Label::new(note));
        self
    }
}

fn debian(hostname: &str) -> Machine {
    Machine {
        os: Some(OperatingSystem {
            family: Label::new("linux"),
            id: DiskText::new("debian"),
            version_id: Some(DiskText::new("12")),
            codename: Some(DiskText::new("bookworm")),
            pretty_name: Some(DiskText::new("Debian GNU/Linux 12 (bookworm)")),
            id_like: vec![],
        }),
        hostname: Some(DiskText::new(hostname)),
        architecture: Some(Label::new("x86_64")),
        kernels: vec![Kernel {
            package: DiskText::new("linux-image-6.1.0-18-amd64"),
            version: DiskText::new("6.1.76-1"),
        }],
    }
}

fn sized(format: &'static str, len_bytes: u64) -> VolumeFacts {
    VolumeFacts { format: Some(Label::new(format)), len_bytes: Some(len_bytes), ..VolumeFacts::default() }
}

fn filesystem(
    name: &str,
    format: &'static str,
    mount: &str,
    entries: u64,
    packages: Option<u64>,
) -> Coverage {
    let label = if mount == "/" { "root" } else { "UEFI" };
    Coverage::scanned(CoverageKind::Filesystem, name).with_facts(VolumeFacts {
        format: Some(Label::new(format)),
        label: Some(DiskText::new(label)),
        uuid: Some(DiskText::new("9f1d2a44-95f4-4f0c-8a65-1b7a3d0c5a11")),
        mounted_at: Some(PathView::Plain.show(mount.as_bytes())),
        dirty: Some(mount == "/"),
        reader: Some(Label::new("ext4-view")),
        entries: Some(entries),
        packages,
        ..VolumeFacts::default()
    })
}

fn database(name: &str, packages: u64) -> Coverage {
    Coverage::scanned(CoverageKind::PackageDatabase, name)
        .with_facts(VolumeFacts { packages: Some(packages), ..VolumeFacts::default() })
}

fn package(kind: PackageKind, namespace: &str, name: &str, version: &str, database: &str) -> Package {
    Package {
        purl: Purl::new(kind.purl_type(), namespace, name, version, &[("arch", "amd64")]),
        kind,
        name: DiskText::new(name),
        version: DiskText::new(version),
        architecture: Some(DiskText::new("amd64")),
        source_name: None,
        source_version: None,
        module: None,
        found_in: vec![Location::in_volume("disk0/p1", "ext4").at(
            database.as_bytes(),
            Some(0),
            PathView::Plain,
        )],
    }
}

/// A snapshot of which as much is known as its fate allows.
pub(crate) fn receipt(id: &str, device: &str, fate: SnapshotFate) -> SnapshotReceipt {
    use SnapshotFate::{Gone, InRecycleBin, ReadOnly, Requested};
    let ours = fate != ReadOnly;
    SnapshotReceipt {
        snapshot_id: DiskText::new(id),
        volume_id: DiskText::new("vol-049df61146c4d7901"),
        device: ours.then(|| DiskText::new(device)),
        created: if ours { "2026-03-01T03:12:11Z" } else { "2025-11-28T23:00:00Z" }.parse().unwrap(),
        completed: Some(if ours { "2026-03-01T03:12:26Z" } else { "2025-11-29T00:10:00Z" }.parse().unwrap()),
        deleted: matches!(fate, Gone | InRecycleBin | Requested)
            .then(|| "2026-03-01T03:12:49Z".parse().unwrap()),
        confirmed_gone: matches!(fate, Gone | InRecycleBin).then(|| "2026-03-01T03:12:52Z".parse().unwrap()),
        lifetime_seconds: match fate {
            Gone | InRecycleBin => 41,
            ReadOnly => 7_963_976,
            _ => 105,
        },
        fate,
        code: None,
        cost_allocation_tag: ours.then(|| DiskText::new("CreatedBy=Microsoft Defender for Cloud")),
    }
}

const PRIVATE_KEY: Rule = Rule {
    id: "secret.private_key",
    kind: FindingKind::Secret,
    severity: Severity::Critical,
    title: "A private key that everyone can read",
    remediation: "Take the file away from others (`chmod 600`), and replace the key: whoever had an account here \
                  may have a copy.",
};
const SSH_ROOT: Rule = Rule {
    id: "ssh.root_login",
    kind: FindingKind::Misconfiguration,
    severity: Severity::High,
    title: "root may log in over SSH with a password",
    remediation: "Set `PermitRootLogin no` in sshd_config.",
};
const OLD_PACKAGE: Rule = Rule {
    id: "update.missing",
    kind: FindingKind::MissingUpdate,
    severity: Severity::Medium,
    title: "A newer version is in the distribution's index",
    remediation: "Install it with the package manager.",
};
const WORLD_WRITABLE: Rule = Rule {
    id: "mode.world_writable",
    kind: FindingKind::Misconfiguration,
    severity: Severity::Low,
    title: "A program's file that everyone can write",
    remediation: "Take the right to write away from others (`chmod o-w`).",
};

fn findings() -> Vec<Finding> {
    let key = FingerprintKey::new([7; 32]);
    let at = |path: &str, uid| {
        Location::in_volume("disk0/p1", "ext4").at(path.as_bytes(), Some(uid), PathView::Masked(&key))
    };
    let mut findings = vec![
        Finding::new(
            &OLD_PACKAGE,
            at("/var/lib/dpkg/status", 0),
            "curl",
            vec![Evidence::Package {
                name: DiskText::new("curl"),
                version: DiskText::new("7.88.1-10+deb12u5"),
            }],
        ),
        Finding::new(
            &PRIVATE_KEY,
            at("/etc/ssl/private/web.key", 0),
            "",
            vec![Evidence::Mode { bits: 0o644 }, Evidence::Line { number: 1 }],
        ),
        Finding::new(
            &PRIVATE_KEY,
            at("/home/alice/.ssh/id_ed25519", 1000),
            "",
            vec![Evidence::Mode { bits: 0o666 }],
        ),
        Finding::new(
            &SSH_ROOT,
            at("/etc/ssh/sshd_config", 0),
            "",
            vec![Evidence::Setting {
                name: Label::new("PermitRootLogin"),
                required: State::Word(Label::new("no")),
                found: State::Word(Label::new("yes")),
            }],
        ),
    ];
    findings.extend((0..9).map(|number| {
        Finding::new(
            &WORLD_WRITABLE,
            at(&format!("/opt/vendor/agent/plugins/plugin-{number}.so"), 0),
            "",
            vec![Evidence::Mode { bits: 0o777 }, Evidence::Owner { uid: 0 }],
        )
    }));
    findings
}

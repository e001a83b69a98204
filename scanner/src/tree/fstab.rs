//! What a system mounts where: `fstab(5)`.
//!
//! The first field names a filesystem by `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`, the links of `/dev/disk`, or the name
//! that the kernel gave its device. For btrfs an option names a subvolume by its path or its number.

use super::devices::DeviceName;

/// A line that mounts a filesystem of a disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) by: By,
    /// Where; empty for `/`.
    pub(super) at: Vec<u8>,
    /// The type in the third field; empty where it says `auto`.
    pub(super) kind: String,
    pub(super) subvolume: Subvolume,
}

/// How a line names its filesystem.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum By {
    Uuid(String),
    Label(String),
    PartUuid(String),
    PartLabel(String),
    Device(DeviceName),
    /// By the path of an image in a file.
    File(Vec<u8>),
    /// By the path of a folder that is shown a second time.
    Bind(Vec<u8>),
    /// By something that lies above partitions, and is not read: device mapper, md.
    Other,
}

/// Which folder of the filesystem is mounted.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum Subvolume {
    /// The one that is mounted where nothing is said: its root, or the default subvolume of btrfs.
    Default,
    /// `subvol=`: from the top of the filesystem; empty for the top itself.
    Path(Vec<u8>),
    /// `subvolid=`
    Number(u64),
}

/// The lines of an `fstab`, in their order.
pub(super) fn parse(text: &str) -> Vec<Line> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
    let (spec, at) = (fields.next()?, fields.next()?);
    let (kind, options) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    if spec.starts_with('#') || !is_mounted_at_boot(options) || kind == "swap" {
        return None;
    }
    self::line(spec, at, kind, options)
}

/// The line that these fields make, if they mount a filesystem of a disk or of a file, or a folder a second time.
pub(super) fn line(spec: &str, at: &str, kind: &str, options: &str) -> Option<Line> {
    let at = unescape(at);
    let at = at.strip_prefix('/')?.trim_end_matches('/');
    let by = match is_bind(options) {
        true => spec.starts_with('/').then(|| By::Bind(unescape(spec).into_bytes()))?,
        false => name(spec)?,
    };
    Some(Line {
        by,
        at: folder(at),
        kind: if kind == "auto" { String::new() } else { kind.to_owned() },
        subvolume: subvolume(options),
    })
}

/// A line with `noauto` waits for somebody to mount it, unless systemd does on first use.
fn is_mounted_at_boot(options: &str) -> bool {
    let has = |wanted: &str| options.split(',').any(|option| option == wanted);
    !has("noauto") || has("x-systemd.automount")
}

fn is_bind(options: &str) -> bool {
    options.split(',').any(|option| option == "bind" || option == "rbind")
}

/// `None` for what is no disk: network shares, `tmpfs`, `proc`.
fn name(spec: &str) -> Option<By> {
    type Make = fn(String) -> By;
    const KINDS: [(&str, Make); 8] = [
        ("UUID=", By::Uuid),
        ("LABEL=", By::Label),
        ("PARTUUID=", By::PartUuid),
        ("PARTLABEL=", By::PartLabel),
        ("/dev/disk/by-uuid/", By::Uuid),
        ("/dev/disk/by-label/", By::Label),
        ("/dev/disk/by-partuuid/", By::PartUuid),
        ("/dev/disk/by-partlabel/", By::PartLabel),
    ];
    if let Some((make, value)) =
        KINDS.iter().find_map(|(prefix, make)| Some((make, spec.strip_prefix(prefix)?)))
    {
        // The links of `udev` write what is not harmless as `\x20`, `fstab` itself as `\040`.
        return Some(make(unescape(value.trim_matches(['"', '\'']))));
    }
    let Some(device) = spec.strip_prefix("/dev/") else {
        return spec.starts_with('/').then(|| By::File(unescape(spec).into_bytes()));
    };
    match DeviceName::parse(device) {
        Some(name) => Some(By::Device(name)),
        // The kernel's own word for whatever it was started from.
        None if device == "root" => None,
        None => Some(By::Other),
    }
}

fn subvolume(options: &str) -> Subvolume {
    let option = |name: &str| options.split(',').filter_map(|option| option.strip_prefix(name)).next_back();
    if let Some(path) = option("subvol=") {
        return Subvolume::Path(folder(&unescape(path)));
    }
    match option("subvolid=").and_then(|number| number.parse().ok()) {
        Some(number) => Subvolume::Number(number),
        None => Subvolume::Default,
    }
}

fn folder(path: &str) -> Vec<u8> {
    match path.trim_matches('/') {
        "" => Vec::new(),
        path => format!("/{path}").into_bytes(),
    }
}

/// Spaces and their like are written as `\040`, in the names of links as `\x20`.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let (digits, radix) = match after.strip_prefix('x') {
            Some(hex) => (hex.get(..2), 16),
            None => (after.get(..3), 8),
        };
        match digits.and_then(|digits| u8::from_str_radix(digits, radix).ok()) {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &Line) -> (By, String, String, Subvolume) {
        (
            line.by.clone(),
            String::from_utf8(line.at.clone()).unwrap(),
            line.kind.clone(),
            line.subvolume.clone(),
        )
    }

    #[test]
    fn lines_name_filesystems_and_subvolumes() {
        let text = "# comment\n\
            UUID=0a1b /  btrfs subvol=/@,compress=zstd 0 0\n\
            LABEL=\"my\\040data\"\t/srv/my\\040data/ ext4 defaults\n\
            PARTUUID=5d-01 /boot/efi vfat umask=0077 0 1\n\
            /dev/disk/by-label/a\\x20b /a auto\n\
            /dev/xvda1 /mnt ext4 defaults 0 0\n\
            /dev/mapper/vg-home /home xfs defaults,subvolid=257 0 0\n\
            UUID=77 none swap sw 0 0\n\
            UUID=only-one-field\n";
        let by = |text: &str| text.to_owned();
        let plain = Subvolume::Default;
        assert_eq!(
            parse(text).iter().map(shown).collect::<Vec<_>>(),
            [
                (By::Uuid(by("0a1b")), by(""), by("btrfs"), Subvolume::Path(b"/@".to_vec())),
                (By::Label(by("my data")), by("/srv/my data"), by("ext4"), plain.clone()),
                (By::PartUuid(by("5d-01")), by("/boot/efi"), by("vfat"), plain.clone()),
                (By::Label(by("a b")), by("/a"), by(""), plain.clone()),
                (By::Device(DeviceName::parse("xvda1").unwrap()), by("/mnt"), by("ext4"), plain),
                (By::Other, by("/home"), by("xfs"), Subvolume::Number(257)),
            ]
        );
    }

    #[test]
    fn what_is_no_disk_or_is_not_mounted_is_no_line() {
        for line in [
            "tmpfs /tmp tmpfs defaults 0 0",
            "server:/export /mnt nfs4 defaults 0 0",
            "/dev/sdb1 /mnt ext4 noauto,user 0 0",
            "/dev/sdb2 none swap sw 0 0",
            "/dev/root / ext4 ro 0 0",
            "none /proc proc defaults 0 0",
        ] {
            assert_eq!(parse(line), [], "{line}");
        }
        let bind = parse("/srv/data /var/data none defaults,bind 0 0");
        assert_eq!(bind.first().map(|line| &line.by), Some(&By::Bind(b"/srv/data".to_vec())));
        let image = parse("/srv/data\\040disk.img /mnt ext4 loop 0 0");
        assert_eq!(image.first().map(|line| &line.by), Some(&By::File(b"/srv/data disk.img".to_vec())));
        assert_eq!(parse("/dev/sdb1 /mnt ext4 noauto,x-systemd.automount 0 0").len(), 1);
    }
}

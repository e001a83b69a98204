use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use stillframe_block::{BlockSource, FileSource};
use stillframe_probe::{Content, Probe, probe};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// A folder of images that goes with the test.
pub(crate) struct Images {
    folder: TempDir,
}

impl Images {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A sparse file of zeros.
    pub(crate) fn blank(&self, name: &str, len_bytes: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(len_bytes).unwrap();
        path
    }

    /// A folder with a few files, for the formats that are made from one.
    pub(crate) fn tree(&self) -> PathBuf {
        let tree = self.path("tree");
        std::fs::create_dir_all(tree.join("etc")).unwrap();
        std::fs::write(tree.join("etc/hostname"), "example\n").unwrap();
        tree
    }
}

/// Runs a tool that the tests need; without it they fail.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> String {
    run_with_input(tool, arguments, "")
}

pub(crate) fn run_with_input(tool: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;

    // Takes `sync(2)` from the tools, which waits for every disk of the machine: for good, where one hangs.
    let mut child = Command::new("eatmydata")
        .arg(tool)
        .args(arguments)
        .env("PATH", tool_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool} is needed by this test and does not run: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where administrators' tools lie is not in every user's path.
fn tool_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `blkid` says of an image, by its low-level probe; empty where it knows nothing or too much.
pub(crate) fn blkid(path: &Path) -> BTreeMap<String, String> {
    let output =
        Command::new("blkid").args(["-p", "-o", "export"]).arg(path).env("PATH", tool_path()).output();
    let output = output.unwrap_or_else(|error| panic!("blkid is needed by this test: {error}"));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The content as `blkid` would name it in `TYPE`, and `VERSION` where that tells kinds apart.
pub(crate) fn blkid_name(content: Content) -> String {
    use stillframe_probe::{EncryptionKind, FsKind, MemberKind, SwapKind, UnsupportedKind};

    match content {
        Content::Filesystem(FsKind::Ext) => "ext".to_owned(),
        Content::Filesystem(kind) => kind.name().to_owned(),
        Content::Encrypted(EncryptionKind::Luks1) => "crypto_LUKS 1".to_owned(),
        Content::Encrypted(EncryptionKind::Luks2) => "crypto_LUKS 2".to_owned(),
        Content::Encrypted(kind) => kind.name().to_owned(),
        Content::Member(MemberKind::Lvm2) => "LVM2_member".to_owned(),
        Content::Member(MemberKind::Md(version)) => format!("linux_raid_member {version}"),
        Content::Member(MemberKind::Bcache) => "bcache".to_owned(),
        Content::Swap(SwapKind::Swap) => "swap".to_owned(),
        Content::Swap(_) => "swsuspend".to_owned(),
        Content::Unsupported(UnsupportedKind::Apfs) => "apfs".to_owned(),
        Content::Unsupported(kind) => kind.name().to_owned(),
        other => other.to_string(),
    }
}

/// `blkid`'s answer in the words of [`blkid_name`].
pub(crate) fn blkid_answer(path: &Path) -> String {
    let fields = blkid(path);
    let kind = fields.get("TYPE").map_or("", String::as_str);
    match kind {
        "ext2" | "ext3" | "ext4" => "ext".to_owned(),
        "crypto_LUKS" => format!("{kind} {}", fields["VERSION"]),
        // 0.90.0: the patch level is no part of the format's name.
        "linux_raid_member" => format!("{kind} {}", fields["VERSION"].replace("0.90.0", "0.90")),
        kind => kind.to_owned(),
    }
}

pub(crate) fn probe_file(path: &Path) -> Probe {
    probe(&FileSource::open(path).unwrap()).unwrap()
}

pub(crate) fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

pub(crate) fn read_at(path: &Path, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    FileSource::open(path).unwrap().read_exact_at(offset, &mut bytes).unwrap();
    bytes
}

/// Numbers that look random and are the same on each run.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

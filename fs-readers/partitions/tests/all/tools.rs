use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stillframe_block::{BlockSource, FileSource};
use stillframe_partitions::{Partition, PartitionTable, Scheme, read_table};
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

    /// A sparse file of zeros.
    pub(crate) fn blank(&self, name: &str, len_bytes: u64) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(len_bytes).unwrap();
        path
    }
}

/// `eatmydata` takes `sync(2)` from the tools, which waits for every disk of the machine: for good, where one hangs.
fn command(tool: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("eatmydata");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command
        .arg(tool)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a tool that the tests need; without it, or where it fails, they fail.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &str) -> String {
    let mut child = command(tool, arguments)
        .spawn()
        .unwrap_or_else(|error| panic!("{tool} is needed by this test and does not run: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn sfdisk(path: &Path, script: &str) {
    run("sfdisk", &["-q", "--no-reread", "--no-tell-kernel", text(path)], script);
}

pub(crate) fn sgdisk(path: &Path, arguments: &[&str]) {
    let mut arguments = arguments.to_vec();
    arguments.push(text(path));
    run("sgdisk", &arguments, "");
}

pub(crate) fn read(path: &Path) -> PartitionTable {
    read_table(&FileSource::open(path).unwrap()).unwrap()
}

/// A partition as `sfdisk --json` has it: number, start and size in sectors, type, name, GUID.
pub(crate) type Row = (u32, u64, u64, String, Option<String>, Option<String>);

/// The label, its identifier and the rows that `sfdisk` reads; `None` where it sees no table.
pub(crate) fn sfdisk_json(path: &Path) -> Option<(String, String, Vec<Row>)> {
    let output = command("sfdisk", &["--json", text(path)]).output();
    let output = output.unwrap_or_else(|error| panic!("sfdisk is needed by this test: {error}"));
    if !output.status.success() {
        return None;
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let table = &json["partitiontable"];
    let field = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let rows = table["partitions"].as_array().into_iter().flatten().map(|partition| {
        let node = partition["node"].as_str().unwrap().strip_prefix(text(path)).unwrap();
        (
            node.trim_start_matches('p').parse().unwrap(),
            partition["start"].as_u64().unwrap(),
            partition["size"].as_u64().unwrap(),
            field(&partition["type"]).unwrap(),
            field(&partition["name"]),
            field(&partition["uuid"]),
        )
    });
    Some((field(&table["label"]).unwrap(), field(&table["id"]).unwrap(), rows.collect()))
}

/// Our partition in the words of `sfdisk`.
pub(crate) fn row(partition: &Partition, table: &PartitionTable) -> Row {
    let sector_bytes = u64::from(table.sector_bytes);
    let guid = partition.part_uuid.clone().filter(|_| table.scheme == Scheme::Gpt);
    (
        partition.number,
        partition.start_bytes / sector_bytes,
        partition.len_bytes / sector_bytes,
        partition.type_code.to_string(),
        partition.name.clone(),
        guid.map(|guid| guid.to_uppercase()),
    )
}

pub(crate) fn rows(table: &PartitionTable) -> Vec<Row> {
    table.partitions.iter().map(|partition| row(partition, table)).collect()
}

/// What we read is what `sfdisk` reads, without a fault, and the identifiers are those of `blkid` and `partx`.
pub(crate) fn assert_agreed(path: &Path) -> PartitionTable {
    let table = read(path);
    let (label, id, expected) = sfdisk_json(path).expect("sfdisk sees a table");
    assert_eq!(table.faults, [], "{}", path.display());
    assert_eq!(rows(&table), expected, "{}", path.display());
    let scheme = if label == "gpt" { Scheme::Gpt } else { Scheme::Mbr };
    assert_eq!(table.scheme, scheme);
    let disk_id = table.disk_id.clone().unwrap_or_else(|| "00000000".to_owned());
    assert_eq!(disk_id, id.trim_start_matches("0x").to_lowercase());
    let blkid = run("blkid", &["-p", "-o", "export", text(path)], "");
    let blkid_id = blkid.lines().find_map(|line| line.strip_prefix("PTUUID=")).map(str::to_owned);
    assert_eq!(table.disk_id, blkid_id);
    let uuids: BTreeMap<u32, Option<String>> =
        table.partitions.iter().map(|partition| (partition.number, partition.part_uuid.clone())).collect();
    assert_eq!(uuids, partx_uuids(path), "{}", path.display());
    table
}

fn partx_uuids(path: &Path) -> BTreeMap<u32, Option<String>> {
    run("partx", &["-P", "-o", "NR,UUID", text(path)], "")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('"').collect();
            (fields[1].parse().unwrap(), Some(fields[3].to_owned()).filter(|uuid| !uuid.is_empty()))
        })
        .collect()
}

/// Number, first and last sector and sectors that `fdisk` reads in sectors of 4 KiB.
pub(crate) fn fdisk_4k(path: &Path) -> Vec<(u32, u64, u64)> {
    run("fdisk", &["-b", "4096", "-l", "-o", "Device,Start,Sectors", text(path)], "")
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(text(path))?;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let number = fields[0].trim_start_matches('p').parse().ok()?;
            Some((number, fields[1].parse().unwrap(), fields[2].parse().unwrap()))
        })
        .collect()
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

pub(crate) fn set_len(path: &Path, len_bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len_bytes).unwrap();
}

/// Whether a fault of this name is there.
pub(crate) fn has_fault(table: &PartitionTable, what: &str) -> bool {
    table.faults.iter().any(|fault| fault.what == what)
}

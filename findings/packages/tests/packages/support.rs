//! What the tests share: corpus files, tools, and packages as lines of text.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stillframe_fs::{FileContent, FsError, MemoryContent};
use stillframe_packages::{OsPackage, Parsed, rpm};

/// The folder of third-party data; `None`, and a message, where the environment names none.
pub(crate) fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
    }
    folder
}

/// Whether all of `tools` are installed. Where the corpora are, the tools must be too.
pub(crate) fn have(tools: &[&str]) -> bool {
    for tool in tools {
        if !is_installed(tool) {
            assert!(std::env::var_os("STILLFRAME_CORPORA").is_none(), "{tool} is not installed");
            eprintln!("skipped: {tool} is not installed");
            return false;
        }
    }
    true
}

pub(crate) fn is_installed(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file())
}

/// A corpus file, decompressed where it lies there with `.xz` behind its name.
pub(crate) fn read_corpus(path: &Path) -> Vec<u8> {
    let compressed = PathBuf::from(format!("{}.xz", path.display()));
    if !compressed.exists() {
        return std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let output = Command::new("xz").arg("-dc").arg(&compressed).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "xz -dc {}", compressed.display());
    output.stdout
}

/// The standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that reads `input` and must succeed.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> String {
    use std::io::Write as _;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The tool may write before it has read all.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A file of the `testdata` folder.
pub(crate) fn testdata(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn parse_rpm(database: &[u8], wal: Option<&[u8]>) -> Result<Parsed, FsError> {
    let mut wal = wal.map(|wal| MemoryContent(wal.to_vec()));
    let wal = wal.as_mut().map(|wal| -> &mut dyn FileContent { wal });
    rpm::read(&mut MemoryContent(database.to_vec()), wal)
}

/// As [`parse_rpm`], of a database with nothing wrong in it.
pub(crate) fn rpm_lines(database: &[u8], wal: Option<&[u8]>) -> Vec<String> {
    let parsed = parse_rpm(database, wal).unwrap();
    assert!(parsed.is_complete(), "{:?} {:?}", parsed.faults, parsed.stopped_by);
    sorted(parsed.packages.iter().map(rpm_line))
}

/// What [`QUERY`] prints of a package.
pub(crate) fn rpm_line(package: &OsPackage) -> String {
    let none = || "(none)".to_owned();
    let text = |text: &Option<String>| text.clone().unwrap_or_else(none);
    let (version, release) = package.version.rsplit_once('-').unwrap();
    [
        package.name.clone(),
        package.epoch.map_or_else(none, |epoch| epoch.to_string()),
        version.to_owned(),
        release.to_owned(),
        text(&package.architecture),
        text(&package.source_rpm),
        text(&package.vendor),
        text(&package.module),
    ]
    .join("\t")
}

/// The format for `rpm -qa` that [`rpm_line`] is compared with.
pub(crate) const QUERY: &str = "%{NAME}\\t%{EPOCH}\\t%{VERSION}\\t%{RELEASE}\\t%{ARCH}\\t%{SOURCERPM}\\t%{VENDOR}\\t%{MODULARITYLABEL}\\n";

/// What rpm says is in the database in `folder`.
pub(crate) fn rpm_query(folder: &Path, backend: &str) -> Vec<String> {
    let mut command = Command::new("rpm");
    command.arg("--define").arg(format!("_db_backend {backend}")).arg("--dbpath").arg(folder);
    let text = output(command.args(["-qa", "--qf", QUERY]));
    sorted(text.lines().map(str::to_owned))
}

pub(crate) fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

/// `columns` of each line, joined by tabs again.
pub(crate) fn cut(lines: &[String], columns: usize) -> Vec<String> {
    sorted(lines.iter().map(|line| line.split('\t').take(columns).collect::<Vec<_>>().join("\t")))
}

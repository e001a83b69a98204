//! What the tests share: the program, golden images as files, the corpora.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder of its own for one test: images, reports, the state directory.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a golden image with its holes.
    pub fn golden(&self, name: &str) -> PathBuf {
        let path = self.path(&format!("{name}.img"));
        stillframe_fixtures::write_sparse(name, &path);
        path
    }

    /// The program, with this folder as its state directory and nothing else of the environment.
    pub fn stillframe(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillframe"));
        command.env_clear().env("XDG_STATE_HOME", self.path("state")).current_dir(self.folder.path());
        command
    }

    /// The program, begun by a shell `script` that takes its command line as `$0` and `$@`.
    pub fn limited(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.env_clear().env("XDG_STATE_HOME", self.path("state")).current_dir(self.folder.path());
        command.args(["-c", script, env!("CARGO_BIN_EXE_stillframe")]);
        command
    }

    /// Runs the program with `arguments` and the path of an image.
    pub fn run(&self, arguments: &[&str], images: &[&Path]) -> Output {
        self.stillframe().args(arguments).args(images).output().unwrap()
    }

    /// The JSON report of a scan, and the exit code.
    pub fn scan(&self, image: &Path) -> (serde_json::Value, i32) {
        self.scan_all(&[image])
    }

    /// The same of several disks of one machine.
    pub fn scan_all(&self, images: &[&Path]) -> (serde_json::Value, i32) {
        let output = self.run(&["scan", "image", "--format", "json"], images);
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (report, output.status.code().unwrap())
    }
}

/// The corpora, if this machine has them: `STILLFRAME_CORPORA` names the folder. CI always sets it.
pub fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
    }
    folder
}

/// An image of an ext filesystem that holds the folder `tree`, by mke2fs.
pub fn ext_image(place: &Place, tree: &Path, kind: &str) -> PathBuf {
    let image = place.path("tree.img");
    let _ = std::fs::remove_file(&image);
    let content: u64 = tree_bytes(tree);
    let size = format!("{}k", content / 1024 + 4096);
    let arguments = ["-q", "-F", "-t", kind, "-d", tree.to_str().unwrap(), image.to_str().unwrap(), &size];
    crate::disks::tool("mke2fs", &arguments);
    image
}

fn tree_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => 4096 + tree_bytes(&entry.path()),
            metadata => metadata.len() + 4096,
        })
        .sum()
}

/// All files below `folder`, by their path from it.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The rows of a report's ledger, one line each: `partition disk0/p1 encrypted: LUKS2`.
pub fn rows_of(report: &serde_json::Value) -> Vec<String> {
    let line = |row: &serde_json::Value| {
        let field = |name: &str| row.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let row = format!("{} {} {}: {}", field("kind"), field("name"), field("status"), field("reason"));
        row.trim_end_matches(": ").to_owned()
    };
    report["coverage"].as_array().unwrap().iter().map(line).collect()
}

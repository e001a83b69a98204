//! What the tests share: the program, golden images as files, the corpora.

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

/// The rows of a report's ledger, one line each: `partition disk0/p1 encrypted: LUKS2`.
pub fn rows_of(report: &serde_json::Value) -> Vec<String> {
    let line = |row: &serde_json::Value| {
        let field = |name: &str| row.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let row = format!("{} {} {}: {}", field("kind"), field("name"), field("status"), field("reason"));
        row.trim_end_matches(": ").to_owned()
    };
    report["coverage"].as_array().unwrap().iter().map(line).collect()
}

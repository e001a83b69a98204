//! Runs of the program on images.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A machine of two disks: Debian on three partitions, and a btrfs without a partition table.
pub struct Machine {
    pub folder: TempDir,
    images: Vec<PathBuf>,
    patience: &'static str,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = ["debian-gpt-ext4", "btrfs-zstd"].map(|name| {
            let path = folder.path().join(format!("{name}.img"));
            stillframe_fixtures::write_sparse(name, &path);
            path
        });
        Self { folder, images: images.to_vec(), patience: "2000" }
    }

    /// Waits longer for a reader.
    pub fn patient() -> Self {
        Self { patience: "60000", ..Self::new() }
    }

    /// The program, whose reader does as `plan` says. Whatever else it has in its environment is a secret.
    pub fn command(&self, plan: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(crate::PROGRAM);
        command
            .env_clear()
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("AWS_SECRET_ACCESS_KEY", "no secret")
            .env("HOSTILE", plan)
            .env("HOSTILE_PATIENCE", self.patience)
            .args(arguments);
        command
    }

    /// Scans the machine.
    pub fn scan(&self, plan: &str) -> Scanned {
        self.scan_with(plan, &[])
    }

    pub fn scan_with(&self, plan: &str, more: &[&str]) -> Scanned {
        let mut command = self.command(plan, &["scan", "image", "--format", "json"]);
        let output = command.args(more).args(&self.images).output().unwrap();
        Scanned::new(output)
    }

    pub fn image(&self, number: usize) -> &Path {
        &self.images[number]
    }
}

pub struct Scanned {
    pub code: i32,
    pub report: Value,
    pub err: String,
}

impl Scanned {
    fn new(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{err}", String::from_utf8_lossy(&output.stdout)));
        Self { code: output.status.code().unwrap(), report, err }
    }

    /// The row of this kind and name.
    pub fn row(&self, kind: &str, name: &str) -> &Value {
        let rows = self.report["coverage"].as_array().unwrap();
        let found = rows.iter().find(|row| row["kind"] == kind && row["name"] == name);
        found.unwrap_or_else(|| panic!("no row {kind} {name}: {:#}", self.report["coverage"]))
    }

    /// Its status, and the words of its reason.
    pub fn status(&self, kind: &str, name: &str) -> (String, String) {
        let row = self.row(kind, name);
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// Names and versions of all packages.
    pub fn packages(&self) -> Vec<String> {
        let packages = self.report["packages"].as_array().unwrap();
        packages.iter().map(|package| package["purl"].as_str().unwrap().to_owned()).collect()
    }

    pub fn deaths(&self) -> u64 {
        self.report["scan"]["isolation"]["deaths"].as_u64().unwrap()
    }
}

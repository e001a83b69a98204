//! x
use crate::{disks, harness};
use std::path::{Path, PathBuf};
use std::time::Instant;
#[test]
fn explore() {
    let Some(corpora) = harness::corpora() else { return };
    let mut images: Vec<PathBuf> = Vec::new();
    for e in std::fs::read_dir(corpora.join("fs/e2fsprogs")).unwrap() {
        for f in std::fs::read_dir(e.unwrap().path()).unwrap() {
            let p = f.unwrap().path();
            let n = p.file_name().unwrap().to_str().unwrap();
            if n.starts_with("image") {
                images.push(p);
            }
        }
    }
    for f in std::fs::read_dir(corpora.join("fs/btrfs-progs-fuzz")).unwrap() {
        let p = f.unwrap().path();
        if p.extension().unwrap() == "xz" {
            images.push(p);
        }
    }
    images.sort();
    let tmp = tempfile::tempdir().unwrap();
    for p in images {
        let disk = disks::decompressed(&p);
        let out = tmp.path().join("i");
        disks::write(&disk, &out);
        let fsck = std::process::Command::new("timeout").args(["5", "e2fsck", "-fn"]).arg(&out).output().unwrap();
        let len = stillframe_block::BlockSource::len_bytes(&disk);
        let t = Instant::now();
        let r = disks::scanned(disk, disks::tight_budget());
        let el = t.elapsed();
        println!(
            "## {} len {} {:?} fsck {:?} complete {}",
            p.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
                + "/"
                + p.file_name().unwrap().to_str().unwrap(),
            len,
            el,
            fsck.status.code(),
            r.is_complete()
        );
        for row in &r.coverage {
            println!("   {:?} {:?} {:?} n={}", row.kind, row.status, row.reason, row.fault_count);
            for f in row.faults.iter().take(6) {
                println!("       {:?} {}", f.path.as_ref().map(|p| p.as_str().to_owned()), f.line());
            }
        }
    }
}

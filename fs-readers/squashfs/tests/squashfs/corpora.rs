//! An image of another project, where the variable `STILLFRAME_CORPORA` says it is.

use std::path::PathBuf;

use crate::support::walk;
use crate::volume::open_bytes;

/// Three hundred empty files, each with an attribute of its own: what unsquashfs and
/// getfattr show.
#[test]
fn an_image_of_go_diskfs() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from) else {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
        return;
    };
    let image =
        std::fs::read(corpora.join("fs/go-diskfs/filesystem/squashfs/testdata/dir_read.sqs")).unwrap();
    let fs = open_bytes(image).unwrap();
    let paths = walk(&*fs);
    let names: Vec<_> = (1..=300).map(|number| format!("/file_{number:03}").into_bytes()).collect();
    assert_eq!(paths.keys().cloned().collect::<Vec<_>>(), names);
    for (number, (path, id)) in (1..).zip(&paths) {
        let metadata = fs.metadata(*id).unwrap();
        assert_eq!((metadata.mode, metadata.size_bytes), (Some(0o100_644), 0), "{}", path.escape_ascii());
        let xattrs = fs.xattrs(*id).unwrap();
        let [xattr] = &xattrs[..] else { panic!("{number}: {} attributes", xattrs.len()) };
        assert_eq!(
            (&xattr.name[..], &xattr.value[..]),
            (&b"user.test"[..], format!("{number:03}").as_bytes())
        );
    }
}

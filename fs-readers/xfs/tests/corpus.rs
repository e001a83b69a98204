//! Images that others made, with listings that others made of them.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

mod tree;

use std::path::PathBuf;
use std::sync::Arc;

#[test]
fn corpus_images_read_as_expected() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from) else {
        eprintln!("STILLFRAME_CORPORA is not set: not tested");
        return;
    };
    for name in ["xfs", "xfs_sparse", "xfs_symlink_test"] {
        let image = corpora.join(format!("fs/dissect-xfs/{name}.bin.gz"));
        let fs = stillframe_xfs::open(Arc::new(tree::decompressed("gzip", &image))).unwrap();
        let (listing, errors) = tree::read_all(&*fs);
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let rows = tree::expected_rows(&corpora.join(format!("fs/expected/dissect-xfs/{name}.bin.gz.tsv")));
        tree::assert_rows(&listing, &rows, name);
        assert_eq!(listing.len(), rows.len(), "{name}");
    }
}

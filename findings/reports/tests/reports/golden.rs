//! Files that a test compares with, and how to renew them.

use std::path::Path;

/// Compares `found` with the file at `path`, relative to this crate; with `STILLFRAME_BLESS=1` writes it instead.
pub(crate) fn check(path: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("STILLFRAME_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&file, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let same = expected.lines().zip(found.lines()).take_while(|(old, new)| old == new).count();
    assert!(
        expected == found,
        "{path} differs from what is written now, first in line {}.\nIf the change is meant, renew it with\n\n    \
         STILLFRAME_BLESS=1 cargo test -p stillframe-reports\n\nand look at the difference.\n\n{found}",
        same + 1
    );
}

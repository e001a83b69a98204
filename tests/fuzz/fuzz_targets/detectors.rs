//! Every detector over every file that it wants: release files, host names, programs, …
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_detectors::{Delivered, Delivery, FileSet, Found, Pattern, catalog, conclude};
use stillframe_fs::{FileContent, FileId, FileKind, FsError};
use stillframe_fuzz::file;
use stillframe_model::{Location, Scanner};

struct Nothing;

impl FileSet for Nothing {
    fn open_beside(&self, _: &[u8]) -> Result<Option<Box<dyn FileContent + '_>>, FsError> {
        Ok(None)
    }
}

fuzz_target!(|data: &[u8]| {
    let location = Location::in_volume("disk0/p1", "ext4");
    let mut facts = Vec::new();
    for detector in catalog(Scanner::ALL) {
        for interest in detector.interests() {
            let (Pattern::Path(path)
            | Pattern::In(path)
            | Pattern::InFolderEndingWith(path)
            | Pattern::Named(path)) = interest.pattern;
            let name = path.rsplit('/').next().unwrap_or(path).as_bytes();
            let (path, kind, id) = (path.as_bytes(), FileKind::File, FileId::new(1));
            let found = Found { path, name, kind, id, location: &location, system: 0 };
            let mut content = file(data);
            let delivered = match interest.delivery {
                Delivery::Entry => Delivered::Entry,
                Delivery::Whole { .. } => Delivered::Whole(data),
                Delivery::Open | Delivery::Stream => Delivered::Open(&mut content, &Nothing),
            };
            let _ = detector.inspect(&found, delivered, &mut facts);
        }
    }
    let _ = conclude(facts, Scanner::ALL);
});

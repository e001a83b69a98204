use stillframe_model::{Rule, Scanner};

use crate::Detector;
use crate::architecture::Architecture;
use crate::containers::Containers;
use crate::hostname::Hostname;
use crate::packages::{Apk, Dpkg, Rpm};
use crate::release::ReleaseFiles;
use crate::windows::Windows;

/// Every detector of the given scanners. A new one gets its line here.
#[must_use]
pub fn catalog(scanners: &[Scanner]) -> Vec<Box<dyn Detector>> {
    let all: Vec<Box<dyn Detector>> = vec![
        Box::new(ReleaseFiles),
        Box::new(Hostname),
        Box::new(Architecture),
        Box::new(Windows),
        Box::new(Containers),
        Box::new(Dpkg),
        Box::new(Rpm),
        Box::new(Apk),
    ];
    all.into_iter().filter(|detector| scanners.contains(&detector.scanner())).collect()
}

/// Every rule that something is found by. A new one gets its line here: a finding by another is not believed.
pub const RULES: &[&Rule] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    /// A detector that is written and not listed would never run.
    #[test]
    fn every_detector_of_this_crate_is_in_the_catalog() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut written = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            written += text.lines().filter(|line| line.starts_with("impl Detector for ")).count();
        }
        assert_eq!(catalog(&[Scanner::Inventory]).len(), written);
    }
}

use std::ops::ControlFlow;

use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::{MAX_FAULTS, MAX_FAULTS_KEPT, MAX_PACKAGES, MAX_TOTAL_TEXT_BYTES, OsPackage, Parsed, offset_of};

/// Gathers packages and faults, and holds the caps on both.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) parsed: Parsed,
    text_bytes: usize,
}

impl Collector {
    /// Takes a package; breaks where a cap is reached.
    pub(crate) fn package(&mut self, package: OsPackage) -> ControlFlow<()> {
        let text_bytes = self.text_bytes.saturating_add(text_bytes(&package));
        if self.parsed.packages.len() >= MAX_PACKAGES {
            return self.limit("packages in a database", offset_of(MAX_PACKAGES));
        }
        if text_bytes > MAX_TOTAL_TEXT_BYTES {
            return self.limit("text of a package database in bytes", offset_of(MAX_TOTAL_TEXT_BYTES));
        }
        self.text_bytes = text_bytes;
        self.parsed.packages.push(package);
        ControlFlow::Continue(())
    }

    /// Takes a fault; breaks where there are too many.
    pub(crate) fn fault(&mut self, fault: Fault) -> ControlFlow<()> {
        self.parsed.fault_count = self.parsed.fault_count.saturating_add(1);
        if self.parsed.faults.len() < MAX_FAULTS_KEPT {
            self.parsed.faults.push(fault);
        }
        if self.parsed.fault_count >= MAX_FAULTS {
            return self.limit("faults in a package database", MAX_FAULTS);
        }
        ControlFlow::Continue(())
    }

    /// Takes an error: damage of one structure is a fault, and everything else ends the reading.
    pub(crate) fn error(&mut self, error: FsError) -> ControlFlow<()> {
        match error {
            FsError::Corrupt(fault) => self.fault(fault),
            other => {
                self.parsed.stopped_by.get_or_insert(other);
                ControlFlow::Break(())
            }
        }
    }

    fn limit(&mut self, what: &'static str, cap: u64) -> ControlFlow<()> {
        self.error(FsError::Limit { what, cap })
    }
}

fn text_bytes(package: &OsPackage) -> usize {
    let optional = [
        &package.architecture,
        &package.source_name,
        &package.source_version,
        &package.source_rpm,
        &package.module,
        &package.vendor,
    ];
    optional
        .into_iter()
        .flatten()
        .chain([&package.name, &package.version])
        .fold(0, |sum: usize, text| sum.saturating_add(text.len()))
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
mod tests {
    use super::*;

    #[test]
    fn packages_end_at_the_cap() {
        let mut collector = Collector::default();
        let package = OsPackage { name: "a".to_owned(), ..OsPackage::default() };
        let taken = std::iter::repeat_with(|| collector.package(package.clone()))
            .take_while(ControlFlow::is_continue)
            .count();
        assert_eq!(taken, MAX_PACKAGES);
        assert_eq!(collector.parsed.packages.len(), MAX_PACKAGES);
        assert!(matches!(collector.parsed.stopped_by, Some(FsError::Limit { cap: 100_000, .. })));
    }

    #[test]
    fn text_ends_at_the_cap() {
        let mut collector = Collector::default();
        let text = "a".repeat(255);
        let package = OsPackage {
            name: text.clone(),
            version: text.clone(),
            vendor: Some(text.clone()),
            module: Some(text),
            ..OsPackage::default()
        };
        while collector.package(package.clone()).is_continue() {}
        assert_eq!(collector.parsed.packages.len(), MAX_TOTAL_TEXT_BYTES / (4 * 255));
        assert!(collector.parsed.stopped_by.is_some());
    }

    #[test]
    fn faults_are_counted_past_those_kept() {
        let mut collector = Collector::default();
        let fault = Fault::new("test", 0, 1_u8, 2_u8);
        for _ in 0..1000 {
            assert!(collector.fault(fault).is_continue());
        }
        assert_eq!((collector.parsed.faults.len(), collector.parsed.fault_count), (MAX_FAULTS_KEPT, 1000));
        while collector.fault(fault).is_continue() {}
        assert_eq!(collector.parsed.fault_count, MAX_FAULTS);
    }
}

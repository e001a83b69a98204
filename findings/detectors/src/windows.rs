//! Whether a volume carries Windows: the registry hives of the system. What they say is not read yet.

use stillframe_fs::FsError;
use stillframe_model::Scanner;

use crate::{Delivered, Detector, Fact, Found, Interest, Pattern, Sourced};

pub(crate) struct Windows;

impl Detector for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        [
            "/Windows/System32/config/SOFTWARE",
            "/WINDOWS/system32/config/software",
            "/Windows/System32/Config/SOFTWARE",
        ]
        .map(|path| Interest::entry(Pattern::Path(path)))
        .to_vec()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        _content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        facts.push(found.fact(Fact::WindowsRegistry));
        Ok(())
    }
}

//! Landlock: every right is handled and none is granted.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};

use crate::Error;

/// The newest interface whose rights we know. Older kernels enforce those that they have.
const KNOWN: ABI = ABI::V6;

/// Forbids every path, port, abstract socket and signal; says by which version of the interface.
pub(crate) fn restrict() -> Result<Option<u32>, Error> {
    let restricted = || -> Result<_, RulesetError> {
        landlock::Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            .restrict_self()
    };
    let status = restricted().map_err(|error| Error::Landlock(Box::new(error)))?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => None,
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => version(status.landlock),
    })
}

/// Which version the kernel has. Asked by a thread that restricts itself in nothing that anybody needs and ends.
pub(crate) fn abi() -> Option<u32> {
    let asking = std::thread::spawn(restrict);
    asking.join().ok()?.ok()?
}

fn version(status: LandlockStatus) -> Option<u32> {
    match status {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            // The crate's enumeration has the numbers of the interface as its values.
            let known = u32::try_from(effective_abi as i32).ok()?;
            Some(kernel_abi.and_then(|newer| u32::try_from(newer).ok()).unwrap_or(known))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

//! Capabilities: `capabilities(7)`, `capset(2)`. Root's reader must not have more than anybody's.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
};

use crate::Error;

/// Drops all of them for this thread, and for those that it starts.
pub(crate) fn drop_all() -> Result<(), Error> {
    // Needs a capability itself, so it comes first. Without it the bounding set stays, and gives nothing to a process that
    // starts no program. Numbers go on until the kernel knows no more.
    let all =
        (0..u64::BITS).filter_map(|number| 1_u64.checked_shl(number)).map(CapabilitySet::from_bits_retain);
    for one in all {
        if remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    let none = CapabilitySet::empty();
    // The kernel keeps no ambient capability that is not permitted.
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    match set_capabilities(None, none) {
        Err(_) if capabilities(None).is_ok_and(|have| have == none) => Ok(()),
        result => result.map_err(|error| Error::Attribute { what: "no capabilities", source: error.into() }),
    }
}

/// Whether this thread has this one.
pub(crate) fn has(one: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|have| have.effective.contains(one))
}

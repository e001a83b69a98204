//! What takes minutes because the program waits for AWS as long as it must: all at once, it takes as long as the longest.

use crate::{faults, leftovers, signals};

#[test]
fn what_waits_long() {
    std::thread::scope(|scope| {
        scope.spawn(faults::a_failure_of_the_call_that_creates_is_followed_by_another_call);
        scope.spawn(faults::what_is_refused_for_now_is_waited_for);
        scope.spawn(leftovers::what_is_known_is_deleted_though_lists_never_come);
        scope.spawn(signals::a_minute_is_waited_for_snapshots_that_stay_pending);
    });
}

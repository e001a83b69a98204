//! Trying again what may work the next time: full jitter, a bounded number of attempts, a deadline.
//!
//! Throttles, failures of the service and lost replies are tried again; so is what a caller's own check says is broken (a
//! cut body, a wrong checksum). A denied call, a key that may not be used, credentials, and a call that makes no sense
//! never are: they would fail again, and an account that locks callers out counts them.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::{ApiError, ErrorKind};

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// The longest pause after the first attempt; it doubles with each.
    pub base: Duration,
    /// The longest pause of all.
    pub cap: Duration,
    /// No attempt is begun later than this after the first.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    /// With a third of all calls failing, one in half a million fails twelve times.
    fn default() -> Self {
        Self {
            attempts: 12,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(5),
            deadline: Duration::from_secs(120),
        }
    }
}

/// An error that knows whether another try may help.
pub trait Transient {
    /// Whether the same call may succeed later.
    fn is_transient(&self) -> bool;
}

impl Transient for ApiError {
    fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Throttled | ErrorKind::Service | ErrorKind::NoReply => true,
            ErrorKind::VolumeRate
            | ErrorKind::ConcurrentSnapshots
            | ErrorKind::PendingSnapshots
            | ErrorKind::SnapshotQuota
            | ErrorKind::NotFound
            | ErrorKind::AccessDenied
            | ErrorKind::KmsDenied
            | ErrorKind::Credentials
            | ErrorKind::InUse
            | ErrorKind::Invalid
            | ErrorKind::InvalidToken
            | ErrorKind::Other => false,
        }
    }
}

/// Calls until it succeeds, until an error is not transient, or until attempts or time are used up: the last error then.
///
/// # Errors
/// The last attempt's.
pub async fn retry<T, E, F, Call>(policy: RetryPolicy, mut call: F) -> Result<T, E>
where
    E: Transient,
    F: FnMut() -> Call,
    Call: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut attempt = 1_u32;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !error.is_transient() || attempt >= policy.attempts {
            return Err(error);
        }
        let pause = full_jitter(policy.base, policy.cap, attempt);
        if started.elapsed().saturating_add(pause) > policy.deadline {
            return Err(error);
        }
        sleep(pause).await;
        attempt = attempt.saturating_add(1);
    }
}

/// A random pause between nothing and `base` doubled with each attempt after the first, `cap` at most: callers that failed
/// together do not come back together.
#[must_use]
pub fn full_jitter(base: Duration, cap: Duration, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(20);
    let longest = base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(cap);
    // Where the system gives no random number the whole pause is as good as any.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> ApiError {
        ApiError { operation: "ebs:Test", resource: None, kind, code: "Test".to_owned(), request_id: None }
    }

    async fn calls_made(kind: ErrorKind, fail: u32) -> (u32, Result<(), ApiError>) {
        let mut calls = 0;
        let result = retry(RetryPolicy::default(), || {
            calls += 1;
            let answer = if calls <= fail { Err(error(kind)) } else { Ok(()) };
            async move { answer }
        })
        .await;
        (calls, result)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
        for kind in [ErrorKind::Throttled, ErrorKind::Service, ErrorKind::NoReply] {
            assert_eq!(calls_made(kind, 3).await, (4, Ok(())), "{kind:?}");
        }
        for kind in [
            ErrorKind::AccessDenied,
            ErrorKind::KmsDenied,
            ErrorKind::Credentials,
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::InUse,
        ] {
            assert_eq!(calls_made(kind, 1).await, (1, Err(error(kind))), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded() {
        let (calls, result) = calls_made(ErrorKind::Service, 1000).await;
        assert_eq!((calls, result), (12, Err(error(ErrorKind::Service))));
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_bounded() {
        let started = Instant::now();
        let policy = RetryPolicy { attempts: u32::MAX, ..RetryPolicy::default() };
        let result: Result<(), _> = retry(policy, || async {
            sleep(Duration::from_secs(1)).await;
            Err(error(ErrorKind::NoReply))
        })
        .await;
        assert!(result.is_err());
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(60) && took <= Duration::from_secs(122), "{took:?}");
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_differ() {
        let (base, cap) = (Duration::from_millis(100), Duration::from_secs(5));
        for (attempt, longest) in [(1, 100), (2, 200), (4, 800), (7, 5000), (4_000_000_000, 5000)] {
            let pauses: Vec<_> = (0..200).map(|_| full_jitter(base, cap, attempt)).collect();
            let longest = Duration::from_millis(longest);
            assert!(pauses.iter().all(|pause| *pause <= longest));
            assert!(pauses.iter().any(|pause| *pause > longest / 2), "attempt {attempt}");
            assert!(pauses.iter().any(|pause| *pause < longest / 2), "attempt {attempt}");
        }
    }
}

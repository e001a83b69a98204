//! How many calls a second: a token bucket for each account, region and operation, shared by all scans of the process.
//!
//! The rate halves when the cloud says that it is too much, and grows again slowly while it does not, between a floor and
//! the configured rate. A throttle counts once: of the calls that were under way when the rate was halved, none says
//! anything about the new rate, and others' traffic must not push ours to the floor within one round trip.
//!
//! A token is taken ahead of time: a caller is told how long to wait, and callers are served in the order they came. One
//! that gives up while waiting wastes its token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::api::Place;

/// What is limited separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `GetSnapshotBlock`.
    Get,
    /// `ListSnapshotBlocks`.
    List,
    /// EC2's `Describe…`.
    Describe,
    /// `CreateSnapshot`.
    CreateSnapshot,
    /// `CreateSnapshots`.
    CreateSnapshots,
    /// `DeleteSnapshot`.
    DeleteSnapshot,
}

/// The limits of one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Calls a second at most, and at first.
    pub cap: f64,
    /// Calls a second at least, however often the cloud throttles.
    pub floor: f64,
    /// Calls that may be made at once after a pause.
    pub burst: f64,
    /// By how many calls a second the rate grows in a second of full use without a throttle.
    pub increase: f64,
}

impl Rate {
    /// `cap` calls a second, a tenth of it at least, a tenth of a second's calls at once, back from floor to cap in
    /// about 20 s.
    #[must_use]
    pub fn per_second(cap: f64) -> Self {
        let cap = if cap.is_finite() { cap.max(0.1) } else { 0.1 };
        Self { cap, floor: cap / 10.0, burst: (cap / 10.0).max(1.0), increase: cap / 20.0 }
    }
}

/// The limits of all operations of one account and region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// `GetSnapshotBlock`.
    pub get: Rate,
    /// `ListSnapshotBlocks`.
    pub list: Rate,
    /// EC2's `Describe…`.
    pub describe: Rate,
    /// Each of EC2's calls that change something.
    pub mutate: Rate,
}

impl Default for Rates {
    /// Well under the quotas (1,000 gets, 50 lists, 20 describes, 5 changes a second), since others read too.
    fn default() -> Self {
        Self {
            get: Rate::per_second(400.0),
            list: Rate::per_second(20.0),
            describe: Rate::per_second(20.0),
            mutate: Rate::per_second(5.0),
        }
    }
}

impl Rates {
    fn of(&self, operation: Operation) -> Rate {
        match operation {
            Operation::Get => self.get,
            Operation::List => self.list,
            Operation::Describe => self.describe,
            Operation::CreateSnapshot | Operation::CreateSnapshots | Operation::DeleteSnapshot => self.mutate,
        }
    }
}

/// All buckets of the process.
#[derive(Debug, Default)]
pub struct Limiter {
    rates: Rates,
    buckets: Mutex<HashMap<(Place, Operation), Arc<Bucket>>>,
}

impl Limiter {
    /// No bucket yet.
    #[must_use]
    pub fn new(rates: Rates) -> Arc<Self> {
        Arc::new(Self { rates, buckets: Mutex::default() })
    }

    /// The one bucket of this operation there.
    #[must_use]
    pub fn bucket(&self, place: &Place, operation: Operation) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry((place.clone(), operation));
        bucket.or_insert_with(|| Arc::new(Bucket::new(self.rates.of(operation)))).clone()
    }
}

/// A token bucket whose rate follows the cloud's answers.
#[derive(Debug)]
pub struct Bucket {
    limits: Rate,
    state: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    rate: f64,
    /// Tokens left; below zero where callers wait already.
    tokens: f64,
    filled: Instant,
    halved: Option<Instant>,
}

/// The right to make one call. Tell what came of it.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    bucket: Arc<Bucket>,
    started: Instant,
}

/// Two halvings are this far apart at least.
const HALVING_PAUSE: Duration = Duration::from_secs(1);

impl Bucket {
    fn new(limits: Rate) -> Self {
        let level = Level { rate: limits.cap, tokens: limits.burst, filled: Instant::now(), halved: None };
        Self { limits, state: Mutex::new(level) }
    }

    /// Waits for a token.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        let due = self.reserve();
        if let Some(due) = due {
            sleep_until(due).await;
        }
        Permit { bucket: Arc::clone(self), started: Instant::now() }
    }

    /// The rate now, in calls a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.level().rate
    }

    fn reserve(&self) -> Option<Instant> {
        let mut level = self.level();
        let now = Instant::now();
        let passed = now.saturating_duration_since(level.filled).as_secs_f64();
        level.tokens = (level.tokens + passed * level.rate).min(self.limits.burst);
        level.filled = now;
        level.tokens -= 1.0;
        if level.tokens >= 0.0 {
            return None;
        }
        let wait = Duration::try_from_secs_f64(-level.tokens / level.rate).unwrap_or(Duration::from_secs(60));
        now.checked_add(wait)
    }

    fn succeeded(&self) {
        let mut level = self.level();
        // One call is `1 / rate` of a second of full use.
        level.rate = (level.rate + self.limits.increase / level.rate).min(self.limits.cap);
    }

    fn throttled(&self, started: Instant) {
        let mut level = self.level();
        let now = Instant::now();
        let counts = match level.halved {
            None => true,
            Some(halved) => started >= halved && now.saturating_duration_since(halved) >= HALVING_PAUSE,
        };
        if counts {
            level.rate = (level.rate / 2.0).max(self.limits.floor.max(0.01));
            level.tokens = level.tokens.min(0.0);
            level.halved = Some(now);
        }
    }

    fn level(&self) -> MutexGuard<'_, Level> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The call was answered, with or without success: it was not too much.
    pub fn answered(self) {
        self.bucket.succeeded();
    }

    /// The cloud said that it was too much.
    pub fn throttled(self) {
        self.bucket.throttled(self.started);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    fn place(account: &str) -> Place {
        Place { account: account.to_owned(), region: "eu-west-3".to_owned() }
    }

    async fn calls_in(bucket: &Arc<Bucket>, time: Duration) -> u32 {
        let until = Instant::now() + time;
        let mut calls = 0;
        while Instant::now() < until {
            bucket.acquire().await.answered();
            calls += 1;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_as_many_calls_as_the_rate_and_a_burst() {
        let bucket = Limiter::new(Rates::default()).bucket(&place("1"), Operation::Get);
        let calls = calls_in(&bucket, Duration::from_secs(10)).await;
        assert!((4000..=4041).contains(&calls), "{calls} calls");
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_share_one_rate_and_none_starves() {
        let limiter = Limiter::new(Rates::default());
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let bucket = limiter.bucket(&place("1"), Operation::List);
            tasks.spawn(async move {
                for _ in 0..2 {
                    bucket.acquire().await.answered();
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        // 200 calls, 2 at once, 20 a second.
        let took = start.elapsed().as_secs_f64();
        assert!((9.8..=10.0).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_and_operations_do_not_share() {
        let limiter = Limiter::new(Rates::default());
        let one = limiter.bucket(&place("1"), Operation::Get);
        one.acquire().await.throttled();
        assert_eq!(limiter.bucket(&place("1"), Operation::Get).rate(), 200.0);
        assert_eq!(limiter.bucket(&place("2"), Operation::Get).rate(), 400.0);
        assert_eq!(limiter.bucket(&place("1"), Operation::List).rate(), 20.0);
    }

    #[tokio::test(start_paused = true)]
    async fn throttles_halve_once_a_round_trip_down_to_the_floor_and_calls_bring_the_rate_back() {
        let bucket = Limiter::new(Rates::default()).bucket(&place("1"), Operation::Get);
        // Twenty calls that are under way together and all throttled halve once.
        let mut under_way = Vec::new();
        for _ in 0..20 {
            under_way.push(bucket.acquire().await);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        under_way.into_iter().for_each(Permit::throttled);
        assert_eq!(bucket.rate(), 200.0);
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            bucket.acquire().await.throttled();
        }
        assert_eq!(bucket.rate(), 40.0);
        let calls = calls_in(&bucket, Duration::from_secs(5)).await;
        // About 20/s more each second: 40 × 5 + 20 × (0.5 + 1.5 + … + 4.5) = 450.
        assert!((420..=500).contains(&calls), "{calls} calls");
        calls_in(&bucket, Duration::from_secs(30)).await;
        assert_eq!(bucket.rate(), 400.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_settles_under_a_quota_that_is_lower() {
        // The cloud allows 100 a second in each second; what passes is throttled.
        let bucket = Limiter::new(Rates::default()).bucket(&place("1"), Operation::Get);
        let start = Instant::now();
        let (mut second, mut used, mut good, mut bad) = (0, 0, 0_u32, 0_u32);
        while start.elapsed() < Duration::from_secs(120) {
            let permit = bucket.acquire().await;
            if start.elapsed().as_secs() != second {
                (second, used) = (start.elapsed().as_secs(), 0);
            }
            used += 1;
            if used > 100 {
                bad += 1;
                permit.throttled();
            } else {
                good += 1;
                permit.answered();
            }
        }
        let (per_second, wasted) = (good / 120, f64::from(bad) / f64::from(good + bad));
        assert!(per_second >= 70, "{per_second} calls a second came through");
        assert!(wasted < 0.25, "{wasted} of the calls were throttled");
    }
}

//! Time as the fake sees it. States, quotas, tokens and latencies all ask one [`Clock`].
//!
//! - [`TokioClock`]: real time, and virtual time under a paused tokio runtime. A client in the same runtime then sleeps
//!   on the same clock, and hours pass in milliseconds. The choice for tests in one process.
//! - [`ScaledClock`]: real time that runs faster. The choice where processes are killed.
//! - [`ManualClock`]: stands still until it is advanced, or advances by itself whenever somebody sleeps.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// A sleep on a clock.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// What time it is, and how to wait.
pub trait Clock: Debug + Send + Sync {
    /// The time since 1970.
    fn now(&self) -> Duration;
    /// Ends when `length` has passed on this clock.
    fn sleep(&self, length: Duration) -> Sleep;
}

fn wall_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time of the tokio runtime.
#[derive(Debug)]
pub struct TokioClock {
    begun: Duration,
    instant: tokio::time::Instant,
}

impl TokioClock {
    /// Begins at the wall's time. Under a paused runtime, call it inside the runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { begun: wall_time(), instant: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.begun + self.instant.elapsed()
    }

    fn sleep(&self, length: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(length))
    }
}

/// Real time, `factor` times as fast.
#[derive(Debug)]
pub struct ScaledClock {
    begun: Duration,
    instant: tokio::time::Instant,
    factor: f64,
}

impl ScaledClock {
    /// Begins at the wall's time. A factor of 60 makes a minute of each second.
    ///
    /// # Panics
    /// Where the factor is not above zero.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        assert!(factor.is_finite() && factor > 0.0, "a clock's factor is above zero");
        Self { begun: wall_time(), instant: tokio::time::Instant::now(), factor }
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Duration {
        self.begun + self.instant.elapsed().mul_f64(self.factor)
    }

    fn sleep(&self, length: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(length.div_f64(self.factor)))
    }
}

/// A clock that moves only when it is told to. Its clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hand>);

#[derive(Debug)]
struct Hand {
    now: Mutex<Duration>,
    moved: Notify,
    advances_itself: bool,
}

impl ManualClock {
    /// Stands still until [`ManualClock::advance`]; sleepers wait for that.
    #[must_use]
    pub fn new() -> Self {
        Self::with(false)
    }

    /// Whoever sleeps advances the clock, at once. Sleeps that begin at the same time overlap: they do not add up.
    #[must_use]
    pub fn advancing_itself() -> Self {
        Self::with(true)
    }

    fn with(advances_itself: bool) -> Self {
        // A round date of our own: 2026-01-01 00:00:00 UTC.
        let now = Mutex::new(Duration::from_secs(1_767_225_600));
        Self(Arc::new(Hand { now, moved: Notify::new(), advances_itself }))
    }

    /// Moves the clock on.
    pub fn advance(&self, length: Duration) {
        let until = self.now() + length;
        self.advance_to(until);
    }

    fn advance_to(&self, until: Duration) {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = until.max(*now);
        drop(now);
        self.0.moved.notify_waiters();
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, length: Duration) -> Sleep {
        let clock = self.clone();
        let until = self.now() + length;
        Box::pin(async move {
            if clock.0.advances_itself {
                // Others that are ready begin their sleep first, so that theirs overlaps with this one.
                tokio::task::yield_now().await;
                clock.advance_to(until);
                return;
            }
            loop {
                let moved = clock.0.moved.notified();
                tokio::pin!(moved);
                // Listening begins before the look at the clock, or a move between the two would be missed.
                moved.as_mut().enable();
                if clock.now() >= until {
                    return;
                }
                moved.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_whoever_waited_long_enough() {
        let clock = ManualClock::new();
        let short = tokio::spawn(clock.sleep(Duration::from_secs(5)));
        let long = tokio::spawn(clock.sleep(Duration::from_secs(50)));
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(10));
        short.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!long.is_finished());
        clock.advance(Duration::from_secs(40));
        long.await.unwrap();
    }

    #[tokio::test]
    async fn sleeps_that_begin_together_overlap() {
        let clock = ManualClock::advancing_itself();
        let begun = clock.now();
        let sleeps: Vec<_> = (0..32).map(|_| tokio::spawn(clock.sleep(Duration::from_millis(20)))).collect();
        for sleep in sleeps {
            sleep.await.unwrap();
        }
        assert_eq!(clock.now() - begun, Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn under_a_paused_runtime_hours_take_no_time() {
        let real = std::time::Instant::now();
        let clock = TokioClock::new();
        let begun = clock.now();
        clock.sleep(Duration::from_secs(7 * 24 * 3600)).await;
        assert!(clock.now() - begun >= Duration::from_secs(7 * 24 * 3600));
        assert!(real.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_scaled_clock_runs_ahead() {
        let clock = ScaledClock::new(1_000.0);
        let begun = clock.now();
        clock.sleep(Duration::from_secs(30)).await;
        let passed = clock.now() - begun;
        assert!(passed >= Duration::from_secs(30), "{passed:?}");
    }
}

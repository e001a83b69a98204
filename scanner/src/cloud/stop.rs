use tokio::sync::watch;

/// A wish to stop, that the operator has or gets while a scan runs.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// One that is made when `signal` ends.
    pub fn when(signal: impl Future<Output = ()> + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            signal.await;
            // Kept until everybody who may ask is gone.
            sender.send_replace(true);
            sender.closed().await;
        });
        Self(receiver)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for it.
    pub async fn wanted(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|wanted| *wanted).await.is_err() {
            // Nobody can wish it any more.
            std::future::pending::<()>().await;
        }
    }
}

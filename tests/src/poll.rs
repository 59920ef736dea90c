//! Waiting for a state of the world, with an end.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

const PAUSE: Duration = Duration::from_millis(10);

/// How long anything that must happen may take on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Asks until the answer is `Ok`, at most for that long; then fails with the last refusal.
pub async fn within<T, E: Debug, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    what: &str,
    ask: impl FnMut() -> F,
) -> T {
    every(PAUSE, limit, what, ask).await
}

/// [`within`], with so much time between two questions: for what costs something to answer.
pub async fn every<T, E: Debug, F: Future<Output = Result<T, E>>>(
    pause: Duration,
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) if Instant::now() > end => panic!("{what}: not within {limit:?}: {why:?}"),
            Err(_) => sleep(pause).await,
        }
    }
}

/// [`within`] a [`LONG`] time.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    ask: impl FnMut() -> F,
) -> T {
    within(LONG, what, ask).await
}

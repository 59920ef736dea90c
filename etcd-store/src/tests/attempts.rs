//! The span of a call says how often the call was tried.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{
    Instrument as _, Subscriber, debug_span,
    field::{Empty, Field, Visit},
    span::{Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use super::{
    network::Network,
    peer::{Act, Peer, Seen},
    *,
};

/// What was recorded of attempts.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Vec<u64>>>);

impl<S: Subscriber> Layer<S> for Attempts {
    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut self.clone());
    }
}

impl Visit for Attempts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        assert_eq!(field.name(), "keyloom.attempts");
        self.0.lock().push(value);
    }

    fn record_debug(&mut self, field: &Field, _: &dyn std::fmt::Debug) {
        panic!("{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_tried_again_says_how_often() {
    let attempts = Attempts::default();
    let subscriber = tracing_subscriber::registry().with(attempts.clone());
    let _subscribed = tracing::subscriber::set_default(subscriber);
    let network = Network::default();
    let first = |seen: &Seen| match seen.connection {
        0 => Act::Hangup,
        _ => Act::Answer(b"yes"),
    };
    let _peer = Peer::scripted(&network, "a", first);
    let store = store(&network, &["a"]);
    for told in [&[2][..], &[]] {
        let span = debug_span!("store call", keyloom.attempts = Empty);
        store.call(read()).instrument(span).await.unwrap();
        assert_eq!(*attempts.0.lock(), told);
        attempts.0.lock().clear();
    }
}

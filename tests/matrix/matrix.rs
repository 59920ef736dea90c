//! The rows, by what happens.

/// One test for each kind of call.
macro_rules! cells {
    ($fault:ident, $victim:ident: $($name:ident $call:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                use keyloom_tests::matrix::{Call, Fault, Victim, run};
                run(Fault::$fault, Victim::$victim, Call::$call).await;
            }
        )+
    };
}
use cells;

mod store_down;
mod store_hung;
mod store_half_open;
mod store_slow;
mod answers_lost;
mod store_restarted;
mod default_store_down;
mod default_store_restarted;

//! The cells: what happens, against what a client does then. A row and a column are a line each.

use keyloom_tests::matrix::{Call, Change, Fault, Victim, change, run};

/// A row: one test for each kind of call.
macro_rules! row {
    ($name:ident, $cell:ident($($what:expr),+)) => {
        mod $name {
            use super::*;
            cell!(write, $cell($($what),+, Call::Write));
            cell!(compare_and_write, $cell($($what),+, Call::Cas));
            cell!(list, $cell($($what),+, Call::List));
            cell!(pages, $cell($($what),+, Call::Pages));
            cell!(watch, $cell($($what),+, Call::Watch));
            cell!(progress, $cell($($what),+, Call::Progress));
            cell!(keep_alive, $cell($($what),+, Call::KeepAlive));
            cell!(reload, $cell($($what),+, Call::Reload));
            cell!(compaction, $cell($($what),+, Call::Compaction));
        }
    };
}

macro_rules! cell {
    ($name:ident, $run:expr) => {
        #[tokio::test]
        async fn $name() {
            $run.await;
        }
    };
}

row!(store_down, run(Fault::Down, Victim::Tenant));
row!(store_hung, run(Fault::Hung, Victim::Tenant));
row!(store_half_open, run(Fault::HalfOpen, Victim::Tenant));
row!(store_slow, run(Fault::Slow, Victim::Tenant));
row!(answers_lost, run(Fault::AnswersLost, Victim::Tenant));
row!(store_killed, run(Fault::Killed, Victim::Tenant));
row!(disk_full, run(Fault::Full, Victim::Pods));
row!(default_store_down, run(Fault::Down, Victim::Default));
row!(default_store_hung, run(Fault::Hung, Victim::Default));
row!(
    default_store_half_open,
    run(Fault::HalfOpen, Victim::Default)
);
row!(default_store_killed, run(Fault::Killed, Victim::Default));
row!(keyloom_killed, change(Change::Killed));
row!(keyloom_paused, change(Change::Paused));
row!(keyloom_cut_off, change(Change::CutOff));

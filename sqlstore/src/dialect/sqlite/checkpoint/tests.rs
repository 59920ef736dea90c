//! A writer that never rests, and the log that it writes.

use keyloom_environment::SeededRandom;

use super::{super::SqliteOptions, *};
use crate::{
    error::Origin,
    metrics::Metrics,
    session::{ChangeSeq, Row, Session as _, Survives},
};

const SMALL: Limits = Limits {
    soon: 32,
    long: 128,
    rest: 16,
    longest: 1 << 20,
};

/// Who writes without a pause does not keep the log from its end.
#[test]
fn the_log_begins_anew_though_the_writer_never_rests() {
    let folder = tempfile::tempdir().unwrap();
    let options = Arc::new(SqliteOptions::new("test", folder.path().join("state.db")));
    let watchman = TimedStatements {
        origin: Arc::new(Origin {
            name: "test".into(),
            place: options.path.display().to_string().into(),
        }),
        metrics: Arc::new(Metrics::default().of_store("test")),
        slow: options.store.slow_statement,
        injected: Default::default(),
    };
    let connect = Connect { options, watchman };
    connect.prepare(&SeededRandom::new(1), None).unwrap();
    let checkpointer = Arc::new(Checkpointer {
        limits: SMALL,
        ..Checkpointer::default()
    });
    let file = connect.file().unwrap();
    let told = Some(checkpointer.clone());
    let mut writer = connect.session(Role::Writer, file.clone(), told).unwrap();
    let thread = checkpointer.start(&connect, file).unwrap();

    let (mut begun, mut pages) = (0, 0);
    let began = tokio::time::Instant::now();
    for place in 1.. {
        writer.begin_write(Survives::WithTheNext).unwrap();
        let row = Row {
            key: &i64::to_be_bytes(place % 50),
            mod_revision: place,
            create_revision: place,
            version: 1,
            lease: 0,
            value: &[7; 8000],
        };
        writer.append(ChangeSeq(place), &row).unwrap();
        writer.commit().unwrap();
        writer.between_writes().unwrap();
        let now = checkpointer.pages.load(Ordering::Relaxed);
        begun += i64::from(now < pages);
        pages = now;
        if begun == 3 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(300), "{begun}");
    }
    checkpointer.stop();
    thread.join().unwrap();
}

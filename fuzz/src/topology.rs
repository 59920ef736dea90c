//! The topology file: any text is accepted, or refused with a reason.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a file takes is a matter of real time"
)]

use std::time::{Duration, Instant};

use keyloom_topology::{ParseOptions, parse};

/// A file of the length that is tried here takes no longer, on a busy machine and without
/// optimisation.
const LONGEST: Duration = Duration::from_secs(60);

/// Longer inputs say nothing new.
const LENGTH: usize = 16 << 10;

pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(LENGTH)]);
    let began = Instant::now();
    match parse(&text, &ParseOptions::default()) {
        Ok(accepted) => {
            let topology = accepted.topology;
            let written = topology.to_text();
            let again = parse(&written, &ParseOptions::default());
            let again = again.unwrap_or_else(|refused| {
                panic!("{written}\n{}", refused.in_file("again").join("\n"))
            });
            assert!(topology.diff(&again.topology).is_empty(), "{written}");
            assert_eq!(again.topology.to_text(), written);
        }
        Err(refused) => {
            let lines = refused.in_file("file");
            assert!(!lines.is_empty());
            assert!(
                lines.iter().any(|line| line.contains("error: ")),
                "{lines:?}"
            );
        }
    }
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
}

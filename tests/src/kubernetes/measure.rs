//! How fast a kube-apiserver is over one endpoint: objects created, a list, a watch.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Api,
    work::{CONFIG_MAPS, NAMESPACES},
};
use crate::poll;

/// Objects created at once, and one after the other.
const MANY: usize = 200;
const SINGLE: usize = 20;
const AT_ONCE: usize = 6;

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub created_per_second: f64,
    /// A list of all config maps in pages of 500.
    pub list: Duration,
    /// From the sending of a create until a watch says it, the median of several.
    pub watch: Duration,
}

/// One round; its objects are named after it.
pub async fn round(api: &Api, round: usize) -> Measured {
    let path = |number: usize| CONFIG_MAPS.within(NAMESPACES[number % 2]);
    let object = |name: String| json!({"metadata": {"name": name}, "data": {"a": "b".repeat(500)}});
    let start = Instant::now();
    let made = stream::iter(0..MANY).map(|number| async move {
        let object = object(format!("m{round}-{number}"));
        api.create(&path(number), &object).await;
    });
    made.buffer_unordered(AT_ONCE).collect::<()>().await;
    let created = start.elapsed();

    let start = Instant::now();
    api.pages(&CONFIG_MAPS.everywhere(), 500).await;
    let list = start.elapsed();

    let watching = api.watch(&CONFIG_MAPS.everywhere()).await;
    let mut delays = Vec::new();
    for number in 0..SINGLE {
        let name = format!("w{round}-{number}");
        let full = format!("{}/{name}", NAMESPACES[number % 2]);
        let start = Instant::now();
        api.create(&path(number), &object(name)).await;
        let heard = poll::eventually("the event", || async {
            let seen = watching.seen().await;
            let found = seen.iter().find(|seen| seen.name == full);
            found.map(|seen| seen.at).ok_or(full.clone())
        })
        .await;
        delays.push(heard - start);
    }
    delays.sort_unstable();
    Measured {
        created_per_second: f64::from(u32::try_from(MANY).unwrap_or(u32::MAX))
            / created.as_secs_f64(),
        list,
        watch: delays[SINGLE / 2],
    }
}

/// The medians of several rounds, and between which values they lie, as a row of a table.
#[must_use]
pub fn row(name: &str, rounds: &[Measured]) -> String {
    let shown = |digits: usize, value: fn(&Measured) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        let middle = values[values.len() / 2];
        format!("{middle:.digits$} ({least:.digits$} to {most:.digits$})")
    };
    let created = shown(0, |round| round.created_per_second);
    let list = shown(1, |round| millis(round.list));
    let watch = shown(1, |round| millis(round.watch));
    format!("| {name} | {created} | {list} | {watch} |")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

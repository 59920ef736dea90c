//! Random programs and watchers: never an alarm, and always one where something is spoiled.

use proptest::prelude::*;

use super::*;
use crate::program::{Chance, Generator, Group, Settings};

/// Random programs and watchers on one etcd.
fn random(seed: u64) -> Scene {
    let settings = Settings::new(vec![Group::numbered("/a/", 4), Group::numbered("/b/", 3)]);
    let mut generator = Generator::new(seed, settings);
    let (mut chance, mut scene) = (Chance::new(seed), Scene::new());
    scene.open();
    scene.ask(
        0,
        create(WatchCreateRequest {
            range_end: "\0".into(),
            start_revision: 1,
            ..WatchCreateRequest::default()
        }),
    );
    for _ in 0..200 {
        let stream = chance.below(scene.streams.len());
        match chance.below(20) {
            0 if scene.streams.len() < 6 => scene.open(),
            1 | 2 => {
                let request = random_watch(&mut chance, scene.etcd.revision());
                scene.ask(stream, create(request));
            }
            // As in etcd, what happened was sent before anybody can ask.
            3 => {
                scene.deliver(stream);
                scene.ask(stream, progress());
            }
            4 => {
                scene.deliver(stream);
                let (recording, served) = &mut scene.streams[stream];
                let told = served.progress_due(&scene.etcd);
                told.iter().for_each(|response| recording.told(response));
            }
            5 if stream > 0 => {
                let watch_id = chance.between(0, 3);
                scene.ask(
                    stream,
                    RequestUnion::CancelRequest(WatchCancelRequest { watch_id }),
                );
            }
            6..9 => scene.deliver(stream),
            _ => {
                let step = generator.next_step();
                let recording = scene.recorder.begin(0, step.clone());
                // A compaction of what was not delivered would hide it from all.
                scene.deliver_all();
                let answer = scene.etcd.apply(&step).map_err(Into::into);
                generator.learn(&step, &answer);
                recording.end(answer);
            }
        }
    }
    scene.deliver_all();
    scene
}

fn random_watch(chance: &mut Chance, now: i64) -> WatchCreateRequest {
    let ranges = [
        ("/a/", "/a0"),
        ("/b/default/0", ""),
        ("\0", "\0"),
        ("/a/kube-system/1", "/b/l"),
    ];
    let (key, range_end) = chance.pick(&ranges).copied().unwrap_or_default();
    let filters = [FilterType::Noput, FilterType::Nodelete];
    let filters = filters.map(|filter| chance.percent(10).then_some(filter.into()));
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: chance.between(0, now + 3),
        prev_kv: chance.percent(50),
        progress_notify: chance.percent(50),
        fragment: chance.percent(50),
        filters: filters.into_iter().flatten().collect(),
        ..WatchCreateRequest::default()
    }
}

/// Places of responses with events, as stream and place.
fn with_events(history: &mut History) -> Vec<(usize, usize)> {
    let places = (0..history.streams.len()).flat_map(|stream| {
        let told = told(history, stream);
        let with_events = told
            .iter()
            .enumerate()
            .filter(|(_, it)| !it.events.is_empty());
        with_events
            .map(|(place, _)| (stream, place))
            .collect::<Vec<_>>()
    });
    places.collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    })]

    #[test]
    fn what_an_etcd_sends_is_accepted(seed: u64) {
        let scene = random(seed);
        let broken = scene.broken(&scene.history());
        prop_assert!(broken.is_empty(), "{:#?}", broken);
    }

    /// A response that is lost or comes twice is found wherever it is, unless it is the last of
    /// its watcher.
    #[test]
    fn a_lost_or_repeated_response_is_found(seed: u64, which: prop::sample::Index, twice: bool) {
        let scene = random(seed);
        let mut history = scene.history();
        // The first stream sees everything, so that it is known what the others miss.
        let places = with_events(&mut history);
        let places: Vec<_> = places.into_iter().filter(|(stream, _)| *stream > 0).collect();
        prop_assume!(!places.is_empty());
        let (stream, place) = *which.get(&places);
        let spoiled = told(&mut history, stream)[place].clone();
        let (at, message) = take(&mut history, stream, place);
        let messages = &mut history.streams[stream].messages;
        let after = messages.partition_point(|(other, _)| *other < at);
        let later = messages[after..].iter().filter_map(|(_, message)| match message {
            Message::Told(told) if !told.created => Some(told),
            Message::Told(_) | Message::Asked(_) => None,
        });
        let goes_on = later
            .take_while(|told| !told.canceled || told.watch_id != spoiled.watch_id)
            .any(|told| [spoiled.watch_id, -1].contains(&told.watch_id));
        if twice {
            messages.insert(after, (at, message.clone()));
            messages.insert(after, (at, message));
        }
        let broken = scene.broken(&history);
        prop_assert_eq!(broken.is_empty(), !twice && !goes_on, "{:#?}", broken);
    }
}

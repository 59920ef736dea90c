//! A cluster's traffic, in the proportions of a quiet one: the heartbeats of its nodes outweigh
//! all else, then come the changes of its pods, the events about them, and reads.

use anyhow::Result;
use bytes::Bytes;

use super::{
    Script, Shape,
    event::Events,
    list::{Count, List},
    single::{Churn, Single, Verb},
};
use crate::{connection::Connection, request::Request};

/// The parts, each with its share of a hundred requests.
const HEARTBEATS: usize = 45;
const PODS: usize = 20;
const EVENTS: usize = 10;
const READS: usize = 19;
const LISTS: usize = 3;
const COUNTS: usize = 3;

/// One client of a cluster's control plane.
pub(super) struct Mix {
    parts: Vec<(usize, Box<dyn Script>)>,
    turn: usize,
    current: usize,
}

impl Mix {
    pub(super) async fn new(shape: Shape, client: usize, connection: &Connection) -> Result<Self> {
        let space = shape.keyspace;
        let mut heartbeats = Single::new(Verb::Update, space, client);
        heartbeats.read(connection).await?;
        Ok(Self {
            parts: vec![
                (HEARTBEATS, Box::new(heartbeats)),
                (PODS, Box::new(Churn::new(space, client))),
                (EVENTS, Box::new(Events::new(space, client))),
                (READS, Box::new(Single::new(Verb::Get, space, client))),
                (LISTS, Box::new(List::of_namespaces(shape, client))),
                (COUNTS, Box::new(Count::new(space, client))),
            ],
            // Clients are not in step.
            turn: client * 37,
            current: 0,
        })
    }
}

/// Which part has the turn. Turns are spread: 61 and 100 have no common factor, so that a hundred
/// turns go to every part as often as its share says, and the parts take turns in between.
fn part_of(shares: impl Iterator<Item = usize>, turn: usize) -> usize {
    let mut left = turn.wrapping_mul(61) % 100;
    for (place, share) in shares.enumerate() {
        if left < share {
            return place;
        }
        left -= share;
    }
    0
}

impl Script for Mix {
    fn request(&mut self) -> Request {
        self.turn = self.turn.wrapping_add(1);
        self.current = part_of(self.parts.iter().map(|(share, _)| *share), self.turn);
        match self.parts.get_mut(self.current) {
            Some((_, part)) => part.request(),
            // `part_of` names a part that is there.
            None => Request::get(&Bytes::new()),
        }
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        self.parts
            .get_mut(self.current)
            .map_or(Ok(()), |(_, part)| part.answer(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_share() {
        let shares = [HEARTBEATS, PODS, EVENTS, READS, LISTS, COUNTS];
        assert_eq!(shares.iter().sum::<usize>(), 100);
        let mut turns = [0; 6];
        for turn in 0..100 {
            turns[part_of(shares.into_iter(), turn)] += 1;
        }
        assert_eq!(turns, shares);
    }
}

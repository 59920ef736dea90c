//! In which order a call goes round the endpoints. Pure.

use super::health::EndpointState;

/// The round of one call. An endpoint is asked once; if all were and none could answer, one more
/// try is made, because a connection that broke under a call says little about the next one.
#[derive(Debug)]
pub(super) struct Tour {
    start: usize,
    /// The endpoints that were asked, as bits.
    asked: u64,
    once_more: bool,
}

impl Tour {
    /// A round that begins at the endpoint `start`, taken modulo their number.
    pub(super) fn new(start: usize) -> Self {
        Self {
            start,
            asked: 0,
            once_more: true,
        }
    }

    /// The place of the next endpoint to ask: the healthy ones first.
    pub(super) fn next(
        &mut self,
        count: usize,
        state: impl Fn(usize) -> EndpointState,
    ) -> Option<usize> {
        use EndpointState::{Untried, Unwell, Well};
        let (start, asked) = (self.start % count.max(1), self.asked);
        let first = |wanted: &[EndpointState]| {
            let mut order = (0..count).map(|place| (start + place) % count);
            order.find(|&place| asked & (1 << place) == 0 && wanted.contains(&state(place)))
        };
        let place = first(&[Untried, Well]).or_else(|| first(&[Unwell]))?;
        self.asked |= 1 << place;
        Some(place)
    }

    /// Begins the one more try, if it was not made yet.
    pub(super) fn once_more(&mut self) -> bool {
        self.asked = 0;
        std::mem::take(&mut self.once_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::{Unreachable, Untried, Unwell, Well};

    fn order(states: &[EndpointState], start: usize) -> Vec<usize> {
        let mut tour = Tour::new(start);
        std::iter::from_fn(|| tour.next(states.len(), |place| states[place])).collect()
    }

    #[test]
    fn who_is_asked_and_when() {
        let table: &[(&[EndpointState], usize, &[usize])] = &[
            (&[Untried], 0, &[0]),
            (&[Well], usize::MAX, &[0]),
            (&[Well, Untried, Well], 0, &[0, 1, 2]),
            (&[Well, Untried, Well], 2, &[2, 0, 1]),
            (&[Unwell, Well, Unwell, Well], 0, &[1, 3, 0, 2]),
            (&[Unreachable, Well, Unreachable], 0, &[1]),
            (&[Unwell, Unreachable], 1, &[0]),
            (&[Unreachable, Unreachable], 0, &[]),
        ];
        for (states, start, expected) in table {
            assert_eq!(order(states, *start), *expected, "{states:?} from {start}");
        }
        let many = [Well; crate::config::MOST_ENDPOINTS];
        assert_eq!(order(&many, 0).len(), many.len());
    }

    #[test]
    fn there_is_one_more_try() {
        let mut tour = Tour::new(0);
        assert_eq!(tour.next(1, |_| Well), Some(0));
        assert_eq!(tour.next(1, |_| Well), None);
        assert!(tour.once_more());
        assert_eq!(tour.next(1, |_| Well), Some(0));
        assert_eq!(tour.next(1, |_| Well), None);
        assert!(!tour.once_more());
    }
}

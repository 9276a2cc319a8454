//! Which stream of an agent sends next: small answers before bulk, bulk in turns, and no stream starves.

use std::collections::VecDeque;

use crate::{frame::StreamId, limits::SMALL_RUN};

/// What a stream is sending, as far as the lanes need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The first [`crate::limits::SMALL_ANSWER_LEN`] bytes of a body.
    Small,
    /// Everything after that.
    Bulk,
}

/// The streams that could send a frame now. A stream is in at most one lane, at most once; the caller keeps a flag per
/// stream to make sure.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    small: VecDeque<StreamId>,
    bulk: VecDeque<StreamId>,
    /// Small frames sent since the last bulk frame.
    run: u32,
}

impl Lanes {
    pub(crate) fn push(&mut self, stream: StreamId, lane: Lane) {
        match lane {
            Lane::Small => self.small.push_back(stream),
            Lane::Bulk => self.bulk.push_back(stream),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<StreamId> {
        if !self.owes_bulk()
            && let Some(stream) = self.small.pop_front()
        {
            self.run += 1;
            return Some(stream);
        }
        self.run = 0;
        self.bulk.pop_front()
    }

    /// True if the limit of small frames in a row is reached, so that a bulk frame must be next.
    pub(crate) fn owes_bulk(&self) -> bool {
        self.run >= SMALL_RUN && !self.bulk.is_empty()
    }

    /// Counts a small frame that was sent without being in a lane.
    pub(crate) fn small_went(&mut self) {
        self.run += 1;
    }

    pub(crate) fn remove(&mut self, stream: StreamId) {
        self.small.retain(|other| *other != stream);
        self.bulk.retain(|other| *other != stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> StreamId {
        StreamId::new(number).unwrap()
    }

    #[test]
    fn small_answers_overtake_bulk() {
        let mut lanes = Lanes::default();
        lanes.push(id(1), Lane::Bulk);
        lanes.push(id(2), Lane::Small);
        assert_eq!(lanes.pop(), Some(id(2)));
        assert_eq!(lanes.pop(), Some(id(1)));
        assert_eq!(lanes.pop(), None);
    }

    #[test]
    fn bulk_goes_in_turns() {
        let mut lanes = Lanes::default();
        (1..=3).for_each(|n| lanes.push(id(n), Lane::Bulk));
        let mut order = Vec::new();
        for _ in 0..6 {
            let stream = lanes.pop().unwrap();
            order.push(stream);
            lanes.push(stream, Lane::Bulk);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3].map(id));
    }

    #[test]
    fn a_flood_of_small_answers_leaves_bulk_its_ninth() {
        let mut lanes = Lanes::default();
        lanes.push(id(1), Lane::Bulk);
        lanes.push(id(2), Lane::Small);
        let mut bulk = 0;
        for _ in 0..90 {
            let stream = lanes.pop().unwrap();
            bulk += u32::from(stream == id(1));
            lanes.push(stream, if stream == id(1) { Lane::Bulk } else { Lane::Small });
        }
        assert_eq!(bulk, 10);
    }
}

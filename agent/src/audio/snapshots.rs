//! Snapshots of the GSM decoder's state at points of recordings, so that a seek does not decode everything before it
//! again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use audiovault_agent_core::{gsm::Decoder, layout::Layout};
use parking_lot::Mutex;

/// The most recordings whose states are kept, those used last: as many as a busy site has listeners. With
/// [`MAX_STATES`] of about 300 bytes each they take 2.5 MB at most.
const MAX_RECORDINGS: usize = 32;
/// The most states of one recording. An hour then has one state every 14 s, from which any position is decoded within
/// a few milliseconds.
const MAX_STATES: u64 = 256;
/// The least distance between two states, in bytes of decoded sound: ten seconds.
const MIN_SPACING: u64 = 160_000;

/// The states of several recordings. A `Content` identifies one content of one file: a file that is overwritten needs
/// another one, because the states of what it was before would decode it wrongly.
#[derive(Debug)]
pub struct Snapshots<Content> {
    /// The one used last comes first.
    recordings: Mutex<VecDeque<(Content, Arc<States>)>>,
}

/// The states of one recording.
#[derive(Debug)]
pub struct States {
    /// Number of blocks from one state to the next.
    spacing: u64,
    /// Each state, under the number of the block that it decodes next.
    states: Mutex<BTreeMap<u64, Decoder>>,
}

impl<Content> Default for Snapshots<Content> {
    fn default() -> Self {
        Self { recordings: Mutex::default() }
    }
}

impl<Content: PartialEq> Snapshots<Content> {
    /// The states of a recording; there are none at first.
    pub fn of(&self, content: Content, layout: &Layout) -> Arc<States> {
        let mut recordings = self.recordings.lock();
        let known = recordings.iter().position(|(known, _)| *known == content);
        let (content, states) = known
            .and_then(|at| recordings.remove(at))
            .unwrap_or_else(|| (content, Arc::new(States::spread_over(layout))));
        recordings.push_front((content, Arc::clone(&states)));
        recordings.truncate(MAX_RECORDINGS);
        states
    }
}

impl States {
    fn spread_over(layout: &Layout) -> Self {
        let near = MIN_SPACING.div_ceil(layout.block_out());
        Self { spacing: near.max(layout.blocks().div_ceil(MAX_STATES)), states: Mutex::default() }
    }

    /// The last state at or before a block, and the block that it decodes next.
    pub fn before(&self, block: u64) -> (u64, Decoder) {
        let states = self.states.lock();
        let last = states.range(..=block).next_back();
        last.map(|(block, state)| (*block, state.clone())).unwrap_or_default()
    }

    /// Stores the state if this block is one at which states are kept.
    pub fn pass(&self, block: u64, state: &Decoder) {
        if block.is_multiple_of(self.spacing) {
            let mut states = self.states.lock();
            states.entry(block).or_insert_with(|| state.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: u64) -> Layout {
        Layout::of("gsm", &[0xd0], hours * 3600 * 1650).unwrap()
    }

    #[test]
    fn a_long_recording_has_no_more_states_than_may_be() {
        for length in [1, 70] {
            let layout = hours(length);
            let states = States::spread_over(&layout);
            for block in 0..=layout.blocks() {
                states.pass(block, &Decoder::default());
            }
            let kept = states.states.lock();
            assert!((100..=257).contains(&kept.len()), "{length} h: {}", kept.len());
        }
        assert_eq!(size_of::<Decoder>(), 276);
    }

    #[test]
    fn the_nearest_state_before_a_place_is_found() {
        let states = States::spread_over(&hours(1));
        assert_eq!(states.before(5_000), (0, Decoder::default()));
        states.pass(states.spacing + 1, &Decoder::default());
        states.pass(states.spacing, &Decoder::default());
        assert_eq!(states.before(5_000).0, states.spacing);
        assert_eq!(states.before(states.spacing - 1).0, 0);
    }

    #[test]
    fn the_recordings_that_were_listened_to_last_are_remembered() {
        let snapshots = Snapshots::default();
        let layout = hours(1);
        let first = snapshots.of(0, &layout);
        for other in 1..MAX_RECORDINGS as u64 {
            snapshots.of(other, &layout);
        }
        assert!(Arc::ptr_eq(&first, &snapshots.of(0, &layout)));
        snapshots.of(100, &layout);
        assert!(Arc::ptr_eq(&first, &snapshots.of(0, &layout)));
        assert_eq!(snapshots.recordings.lock().len(), MAX_RECORDINGS);
    }
}

//! Events at one relay that count at its peers too: once a second, each peer asks for those that it does not
//! know yet.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The maximum number of events that are kept for the peers. If there are more within a second, the oldest
/// count at this relay alone.
const MAX_REMEMBERED: usize = 10_000;

/// Events that some peers may not know yet.
#[derive(Debug)]
pub(super) struct ChangeLog<T> {
    /// The number of events since the start.
    number: u64,
    recent: VecDeque<T>,
}

/// Events for a peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changes<T> {
    /// The number with which the peer asks next time.
    pub number: u64,
    /// The events after the number with which the peer asked.
    pub items: Vec<T>,
}

impl<T> Default for ChangeLog<T> {
    fn default() -> Self {
        Self { number: 0, recent: VecDeque::new() }
    }
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { number: 0, items: Vec::new() }
    }
}

impl<T: Clone> ChangeLog<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.recent.len() >= MAX_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(item);
        self.number += 1;
    }

    /// The events after `number`. A peer that asks for the first time (`None`) gets none of the earlier ones.
    pub(super) fn since(&self, number: Option<u64>) -> Changes<T> {
        let new = number.map_or(0, |number| self.number.saturating_sub(number));
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(self.recent.len());
        let items = self.recent.iter().skip(self.recent.len() - new).cloned().collect();
        Changes { number: self.number, items }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_of_everything_once() {
        let mut log = ChangeLog::default();
        log.push('a');
        let first = log.since(None);
        assert!(first.items.is_empty(), "that was before");
        log.push('b');
        log.push('c');
        let second = log.since(Some(first.number));
        assert_eq!(second.items, ['b', 'c']);
        assert!(log.since(Some(second.number)).items.is_empty());
        assert!(log.since(Some(99)).items.is_empty(), "a number of another run");
    }

    #[test]
    fn what_nobody_asks_for_is_not_remembered_for_ever() {
        let mut log = ChangeLog::default();
        (0..=MAX_REMEMBERED).for_each(|number| log.push(number));
        let report = log.since(Some(0));
        assert_eq!((report.items.len(), report.items[0]), (MAX_REMEMBERED, 1));
    }
}

//! What happens at this relay and counts at the others too: each asks once a second for what came after what it knows.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The newest that are remembered; of more than these in a second the oldest count here alone.
const MAX_REMEMBERED: usize = 10_000;

/// What others have not been told of yet, perhaps.
#[derive(Debug)]
pub(super) struct Untold<T> {
    /// How many there have been.
    number: u64,
    recent: VecDeque<T>,
}

/// What is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct News<T> {
    /// Where to go on from.
    pub number: u64,
    /// What has happened since.
    pub items: Vec<T>,
}

impl<T> Default for Untold<T> {
    fn default() -> Self {
        Self { number: 0, recent: VecDeque::new() }
    }
}

impl<T> Default for News<T> {
    fn default() -> Self {
        Self { number: 0, items: Vec::new() }
    }
}

impl<T: Clone> Untold<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.recent.len() >= MAX_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(item);
        self.number += 1;
    }

    /// What came after a number. Who asks for the first time is told nothing of what was before.
    pub(super) fn since(&self, number: Option<u64>) -> News<T> {
        let new = number.map_or(0, |number| self.number.saturating_sub(number));
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(self.recent.len());
        let items = self.recent.iter().skip(self.recent.len() - new).cloned().collect();
        News { number: self.number, items }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_of_everything_once() {
        let mut untold = Untold::default();
        untold.push('a');
        let first = untold.since(None);
        assert!(first.items.is_empty(), "that was before");
        untold.push('b');
        untold.push('c');
        let second = untold.since(Some(first.number));
        assert_eq!(second.items, ['b', 'c']);
        assert!(untold.since(Some(second.number)).items.is_empty());
        assert!(untold.since(Some(99)).items.is_empty(), "a number of another run");
    }

    #[test]
    fn what_nobody_asks_for_is_not_remembered_for_ever() {
        let mut untold = Untold::default();
        (0..=MAX_REMEMBERED).for_each(|number| untold.push(number));
        let told = untold.since(Some(0));
        assert_eq!((told.items.len(), told.items[0]), (MAX_REMEMBERED, 1));
    }
}

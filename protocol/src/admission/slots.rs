//! Per-key counting semaphore; permits are released on drop.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

type Taken<K> = Arc<Mutex<HashMap<K, u32>>>;

/// A number of slots for each key. Only keys with a slot in use take memory.
#[derive(Debug)]
pub struct Slots<K> {
    most: u32,
    taken: Taken<K>,
    /// Slots in use at other relays, as these last reported.
    elsewhere: Mutex<HashMap<K, u32>>,
}

impl<K: Hash + Eq + Clone> Slots<K> {
    /// At most `most` slots for each key.
    pub fn new(most: u32) -> Self {
        Self { most, taken: Taken::default(), elsewhere: Mutex::default() }
    }

    /// Takes a slot, or returns `None` if this key has none left.
    pub fn take(&self, key: K) -> Option<Slot<K>> {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.get(&key).copied().unwrap_or_default();
        if here.saturating_add(elsewhere.unwrap_or_default()) >= self.most {
            return None;
        }
        taken.insert(key.clone(), here + 1);
        Some(Slot { taken: Arc::clone(&self.taken), key })
    }

    /// How many slots of a key are in use.
    pub fn taken(&self, key: &K) -> u32 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }

    /// How many slots are in use, for all keys.
    pub fn all(&self) -> Vec<(K, u32)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// Sets the slots in use at other relays, in place of the earlier numbers.
    pub fn hear(&self, elsewhere: HashMap<K, u32>) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

/// One slot; dropping it releases it.
pub struct Slot<K: Hash + Eq> {
    taken: Taken<K>,
    key: K,
}

impl<K: Hash + Eq + fmt::Debug> fmt::Debug for Slot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.key).finish()
    }
}

impl<K: Hash + Eq> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_slots_and_none_is_remembered_when_free() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take("a").unwrap(), slots.take("a").unwrap());
        assert!(slots.take("a").is_none());
        let other = slots.take("b").unwrap();
        drop(first);
        assert_eq!((slots.taken(&"a"), slots.taken(&"b")), (1, 1));
        let again = slots.take("a").unwrap();
        drop((second, other, again));
        assert_eq!(slots.keys(), 0);
    }

    #[test]
    fn what_is_taken_elsewhere_counts_here() {
        let slots = Slots::new(2);
        slots.hear([("a", 1), ("b", 7)].into());
        let _one = slots.take("a").unwrap();
        assert!(slots.take("a").is_none() && slots.take("b").is_none());
        assert_eq!(slots.keys(), 1, "a refused one is not remembered");
        slots.hear(HashMap::new());
        assert!(slots.take("a").is_some() && slots.take("b").is_some());
        assert_eq!(slots.all(), [("a", 1)]);
    }
}

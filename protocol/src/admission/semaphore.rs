//! Per-key counting semaphore; permits are released on drop.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use parking_lot::Mutex;

type Taken<K> = Arc<Mutex<HashMap<K, u32>>>;

/// A number of permits for each key. Only keys with a permit in use take memory.
#[derive(Debug)]
pub struct KeyedSemaphore<K> {
    most: u32,
    taken: Taken<K>,
    /// KeyedSemaphore in use at other relays, as these last reported.
    elsewhere: Mutex<HashMap<K, u32>>,
}

impl<K: Hash + Eq + Clone> KeyedSemaphore<K> {
    /// At most `most` permits for each key.
    pub fn new(most: u32) -> Self {
        Self { most, taken: Taken::default(), elsewhere: Mutex::default() }
    }

    /// Takes a permit, or returns `None` if this key has none left.
    pub fn take(&self, key: K) -> Option<Permit<K>> {
        let elsewhere = self.elsewhere.lock().get(&key).copied();
        let mut taken = self.taken.lock();
        let here = taken.get(&key).copied().unwrap_or_default();
        if here.saturating_add(elsewhere.unwrap_or_default()) >= self.most {
            return None;
        }
        taken.insert(key.clone(), here + 1);
        Some(Permit { taken: Arc::clone(&self.taken), key })
    }

    /// How many permits of a key are in use.
    pub fn taken(&self, key: &K) -> u32 {
        self.taken.lock().get(key).copied().unwrap_or_default()
    }

    /// How many permits are in use, for all keys.
    pub fn all(&self) -> Vec<(K, u32)> {
        let taken = self.taken.lock();
        taken.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// Sets the permits in use at other relays, in place of the earlier numbers.
    pub fn set_elsewhere(&self, elsewhere: HashMap<K, u32>) {
        *self.elsewhere.lock() = elsewhere;
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.taken.lock().len()
    }
}

/// One permit; dropping it releases it.
pub struct Permit<K: Hash + Eq> {
    taken: Taken<K>,
    key: K,
}

impl<K: Hash + Eq + fmt::Debug> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.key).finish()
    }
}

impl<K: Hash + Eq> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
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
    fn each_key_has_its_own_slots_and_a_free_key_is_forgotten() {
        let semaphore = KeyedSemaphore::new(2);
        let first = semaphore.take("a").unwrap();
        let second = semaphore.take("a").unwrap();
        assert!(semaphore.take("a").is_none());
        let other = semaphore.take("b").unwrap();
        drop(first);
        assert_eq!((semaphore.taken(&"a"), semaphore.taken(&"b")), (1, 1));
        let again = semaphore.take("a").unwrap();
        drop((second, other, again));
        assert_eq!(semaphore.keys(), 0);
    }

    #[test]
    fn what_is_taken_elsewhere_counts_here() {
        let semaphore = KeyedSemaphore::new(2);
        semaphore.set_elsewhere([("a", 1), ("b", 7)].into());
        let _one = semaphore.take("a").unwrap();
        assert!(semaphore.take("a").is_none() && semaphore.take("b").is_none());
        assert_eq!(semaphore.keys(), 1, "a refused one is not remembered");
        semaphore.set_elsewhere(HashMap::new());
        assert!(semaphore.take("a").is_some() && semaphore.take("b").is_some());
        assert_eq!(semaphore.all(), [("a", 1)]);
    }
}

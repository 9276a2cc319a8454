//! Numbers of storage roots.

/// The number of a storage root: its position among the roots of one [`StorageSettings`], from zero.
///
/// Valid as long as these settings are: for the drivers, recordings and links that were made from them. After a reload
/// the same number may mean another root. What lives longer names a root by its pattern instead: a signed link by a
/// fingerprint of it, and an index by its digest.
///
/// [`StorageSettings`]: crate::storage::StorageSettings
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(usize);

impl RootId {
    /// The first root, or the only one.
    pub const FIRST: Self = Self(0);

    /// Numbers the roots of some settings, or what was made from each of them in the same order.
    pub fn number<T>(roots: impl IntoIterator<Item = T>) -> impl Iterator<Item = (Self, T)> {
        roots.into_iter().enumerate().map(|(position, root)| (Self(position), root))
    }

    /// What belongs to this root in a list that [`number`](Self::number) would number. `None` if the list ends before.
    pub fn of<T>(self, roots: &[T]) -> Option<&T> {
        roots.get(self.0)
    }

    /// The root at this position.
    #[cfg(test)]
    pub(crate) const fn at(position: usize) -> Self {
        Self(position)
    }
}

//! What outlives a change of configuration, such as counters: as long as anybody uses it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Things by key, each kept while it is used.
pub struct Kept<K, T>(Mutex<HashMap<K, Weak<T>>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, T> Kept<K, T> {
    /// What is kept under the key, where it still `fits`; else what `make` makes.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get<E>(
        &self,
        key: K,
        fits: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| kept.strong_count() > 0);
        if let Some(kept) = all.get(&key).and_then(Weak::upgrade).filter(|kept| fits(kept)) {
            return Ok(kept);
        }
        let made = Arc::new(make()?);
        all.insert(key, Arc::downgrade(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn things_are_kept_while_they_are_used_and_fit() {
        let all: Kept<&str, u8> = Kept::default();
        let get = |fits: bool, make: u8| all.get("a", |_| fits, || Ok::<_, Infallible>(make)).unwrap();
        let first = get(true, 1);
        assert_eq!((*get(true, 2), *get(false, 3)), (1, 3));
        assert_eq!((*first, *get(true, 4)), (1, 4));
    }
}

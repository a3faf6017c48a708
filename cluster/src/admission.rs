//! How many bytes may be under way: counted before anything is queued, given back when the answer is out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Error;

/// A bound on bytes (or on anything that is counted). Cheap to clone; clones share the bound.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    what: &'static str,
    limit: usize,
    used: AtomicUsize,
}

impl Admission {
    /// A bound of `limit`; `what` names it in errors.
    pub fn new(what: &'static str, limit: usize) -> Self {
        Self { inner: Arc::new(Inner { what, limit, used: AtomicUsize::new(0) }) }
    }

    /// What is under way.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Takes `amount` at once, or refuses at once.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if it would pass the bound.
    pub fn admit(&self, amount: usize) -> Result<Permit, Error> {
        let mut permit = Permit { inner: Arc::clone(&self.inner), amount: 0 };
        permit.grow(amount)?;
        Ok(permit)
    }
}

/// What was admitted; given back on drop.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    inner: Arc<Inner>,
    amount: usize,
}

impl Permit {
    /// Takes `more` on top, as a body of unknown length arrives.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if it would pass the bound; what was held stays held.
    pub fn grow(&mut self, more: usize) -> Result<(), Error> {
        if more == 0 {
            return Ok(());
        }
        let limit = self.inner.limit;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        match self.inner.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.amount += more;
                Ok(())
            }
            Err(_) => Err(Error::Overloaded { what: self.inner.what }),
        }
    }

    /// How much it holds.
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: the bound is never passed, and what is given back can be taken again.
    #[test]
    fn the_bound_holds() {
        let admission = Admission::new("test", 10);
        let mut first = admission.admit(6).unwrap();
        assert!(admission.admit(5).is_err());
        assert!(first.grow(usize::MAX).is_err());
        first.grow(4).unwrap();
        assert_eq!((first.amount(), admission.used()), (10, 10));
        drop(first);
        assert_eq!(admission.used(), 0);
    }
}

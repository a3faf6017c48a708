//! Appends that are written and wait for the high watermark. In the order of their offsets, so that each move of the mark looks only at the front.

use std::collections::VecDeque;

use tidegate_types::Offset;

use crate::broker::Appended;

/// Owners of written appends, each with the place of its records.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    queue: VecDeque<(T, Appended)>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new() }
    }
}

impl<T> Waiters<T> {
    /// Adds one behind all others.
    pub(crate) fn push(&mut self, owner: T, appended: Appended) {
        let in_order = self.queue.back().is_none_or(|(_, last)| last.last_offset < appended.base_offset);
        assert!(in_order, "appends come in the order of their offsets");
        self.queue.push_back((owner, appended));
    }

    /// The next one whose records all lie below the high watermark.
    pub(crate) fn pop_below(&mut self, high_watermark: Offset) -> Option<(T, Appended)> {
        self.queue.pop_front_if(|(_, appended)| appended.last_offset < high_watermark)
    }

    /// All that are left, when nothing will come any more.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (T, Appended)> {
        std::mem::take(&mut self.queue).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::topic_config::Durability;

    use super::*;
    use crate::broker::Origin;

    /// A promise: nobody is answered before all of his records are below the high watermark.
    #[test]
    fn only_whole_appends_are_released() {
        let offset = |n| Offset::new(n).unwrap();
        let mut waiters = Waiters::default();
        for (owner, base, last) in [('a', 0, 2), ('b', 3, 3), ('c', 4, 9)] {
            waiters.push(
                owner,
                Appended {
                    base_offset: offset(base),
                    last_offset: offset(last),
                    append_time: None,
                    durability: Durability::Fsync,
                    origin: Origin::Written,
                    key_window_ms: None,
                },
            );
        }
        assert!(waiters.pop_below(offset(2)).is_none());
        let mut released = Vec::new();
        while let Some((owner, _)) = waiters.pop_below(offset(9)) {
            released.push(owner);
        }
        assert_eq!(released, ['a', 'b']);
        assert_eq!(waiters.take_all().map(|(owner, _)| owner).collect::<Vec<_>>(), ['c']);
    }
}

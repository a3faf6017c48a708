//! What a bad network has done, counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)*) => {
        /// What has happened so far.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counts {
            $($(#[$doc])+ pub $name: u64,)*
        }

        /// The same while it grows.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl fmt::Display for Counts {
            /// Each by its name, on one line.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let all = [$((stringify!($name), self.$name),)*];
                for (at, (name, count)) in all.iter().enumerate() {
                    write!(f, "{}{name}={count}", if at == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    };
}

counters! {
    /// Connections taken.
    connections,
    /// Requests whose head and body were read.
    requests,
    /// Answers that were passed on whole.
    answers,
    /// See [`super::Faults::dropped`].
    dropped,
    /// See [`super::Faults::cut_requests`].
    cut_requests,
    /// See [`super::Faults::lost_answers`].
    lost_answers,
    /// See [`super::Faults::cut_answers`].
    cut_answers,
    /// See [`super::Faults::duplicated`].
    duplicated,
    /// See [`super::Faults::late_copies`].
    late_copies,
    /// See [`super::Faults::late_requests`].
    late_requests,
    /// Duplicates, late copies and late requests that the node has answered.
    strays,
    /// See [`super::Faults::late_answers`].
    late_answers,
    /// See [`super::Faults::held_back`].
    held_back,
    /// Of those, how many a later request has really overtaken.
    overtaken,
    /// See [`super::Faults::delayed`].
    delayed,
}

impl Counts {
    /// Connections that were broken on purpose.
    pub const fn broken(&self) -> u64 {
        self.dropped + self.cut_requests + self.lost_answers + self.cut_answers + self.late_requests
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

//! The id of a request: the client's own if it brings a fit one, else a UUID that sorts by time. It is in the answer, in problems and in the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderValue};
use tidegate_types::Clock;
use uuid::{Builder, Uuid};

use super::REQUEST_ID;

/// The longest id that is taken from a client.
const BYTES_MAX: usize = 128;

/// Makes ids. They are distinct, not secret: a counter is stirred into a random seed, so that no system call is needed for each.
pub(super) struct RequestIds {
    clock: Arc<dyn Clock>,
    seed: u64,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self { clock, seed: high, count: AtomicU64::new(low) }
    }

    /// The id of a request with these headers.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(id) if is_fit(id.as_bytes()) => id.clone(),
            Some(_) | None => self.next(),
        }
    }

    fn next(&self) -> HeaderValue {
        let millis = u64::try_from(self.clock.wall().millis()).unwrap_or(0);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&stir(count).to_le_bytes());
        random[8..].copy_from_slice(&stir(self.seed ^ count).to_le_bytes()[..2]);
        let mut text = Uuid::encode_buffer();
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none")) // A UUID is visible ASCII.
    }
}

/// Visible ASCII, so that it can stand in a header, in a log line and in JSON as it is.
fn is_fit(id: &[u8]) -> bool {
    (1..=BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The mixing step of SplitMix64: a bijection, so that distinct counts stay distinct.
fn stir(count: u64) -> u64 {
    let mut x = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl fmt::Debug for RequestIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIds").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_types::time::SystemClock;

    use super::*;

    /// A promise: ids that the node makes are UUIDs of version 7, and no two are the same.
    #[test]
    fn made_ids_are_distinct() {
        let ids = RequestIds::new(Arc::new(SystemClock::new()));
        let made: BTreeSet<String> = (0..10_000).map(|_| ids.next().to_str().unwrap().to_owned()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| Uuid::parse_str(id).is_ok_and(|id| id.get_version_num() == 7)));
    }

    /// A promise: a client's id is kept if it is short and visible, and replaced if not.
    #[test]
    fn fit_ids_are_kept() {
        let ids = RequestIds::new(Arc::new(SystemClock::new()));
        let of = |id: &str| ids.of(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).unwrap())]));
        let longest = "x".repeat(128);
        for kept in ["a", "01J-{\"weird\"}", &longest] {
            assert_eq!(of(kept), kept);
        }
        for replaced in ["", "with space", &"x".repeat(129)] {
            assert!(Uuid::parse_str(of(replaced).to_str().unwrap()).is_ok(), "{replaced}");
        }
    }
}

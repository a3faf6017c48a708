//! The values of `Idempotency-Key` that a partition remembers: for each the offset of its records, in the order in which they came. Pure.
//!
//! A key takes 24 bytes and a place in a hash table (5 bytes, at most half of them empty). It goes when it has been here for the window, by the time
//! of its arrival, or when there are too many: then the oldest go, and [`KeyWindow::held_ms`] says what is left of the window.

use std::collections::VecDeque;

use hashbrown::HashTable;
use tidegate_types::Offset;
use tidegate_types::producer::KEYED_IDS;

/// How long and how many keys are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRules {
    /// So long, in ms (`idempotency.window.ms`).
    pub window_ms: i64,
    /// So many at most (`idempotency.window.entries`).
    pub entries_max: usize,
}

/// A remembered key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its producer id: [`KEYED_IDS`] and 62 bits.
    pub id: i64,
    /// The hash of what came under it, 31 bits.
    pub sequence: i32,
    /// Where the first of its records stands.
    pub offset: Offset,
    /// When it came, in ms since 1970; 44 bits reach to the year 2527.
    pub arrival: i64,
}

/// As it is kept, in memory and in a file: id; 53 bits of the offset and the upper 11 of the arrival; its lower 33 and the sequence.
pub(super) type Packed = [u64; 3];

const ARRIVAL_LOW_BITS: u32 = 33;
const ARRIVAL_HIGH_BITS: u32 = 11;
const SEQUENCE_BITS: u32 = 31;
const ARRIVAL_MAX: u64 = (1 << (ARRIVAL_LOW_BITS + ARRIVAL_HIGH_BITS)) - 1;

impl Key {
    pub(super) fn pack(self) -> Packed {
        let arrival = u64::try_from(self.arrival).unwrap_or(0).min(ARRIVAL_MAX);
        let place = self.offset.get() << ARRIVAL_HIGH_BITS | arrival >> ARRIVAL_LOW_BITS;
        let rest = (arrival & ((1 << ARRIVAL_LOW_BITS) - 1)) << SEQUENCE_BITS | u64::from(self.sequence.unsigned_abs());
        [self.id.cast_unsigned(), place, rest]
    }

    /// `None` if the bits are of no key.
    pub(super) fn unpack([id, place, rest]: Packed) -> Option<Self> {
        let arrival = (place & ((1 << ARRIVAL_HIGH_BITS) - 1)) << ARRIVAL_LOW_BITS | rest >> SEQUENCE_BITS;
        let sequence = i32::try_from(rest & ((1 << SEQUENCE_BITS) - 1)).ok()?;
        let id = id.cast_signed();
        let offset = Offset::new(place >> ARRIVAL_HIGH_BITS)?;
        (id >= KEYED_IDS).then_some(Self { id, sequence, offset, arrival: arrival.cast_signed() })
    }
}

/// All of a partition's.
#[derive(Debug)]
pub struct KeyWindow {
    rules: KeyRules,
    /// In the order of arrival.
    ring: VecDeque<Packed>,
    /// The number of the ring's first entry; the others count on, and go round.
    first: u32,
    /// The numbers of the entries, by id.
    places: HashTable<u32>,
    /// Arrivals up to this one were let go before their time.
    let_go: i64,
    now: i64,
}

/// Ids are hashes already.
fn hash(id: u64) -> u64 {
    // The table looks at the upper bits first, of which two are always the same.
    id.rotate_left(2)
}

impl KeyWindow {
    /// None yet.
    pub fn new(rules: KeyRules) -> Self {
        Self { rules, ring: VecDeque::new(), first: 0, places: HashTable::new(), let_go: i64::MIN, now: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Takes new rules; they hold at once.
    pub fn set_rules(&mut self, rules: KeyRules) {
        self.rules = rules;
    }

    /// The time is `now`, in ms; a clock that goes back stands still.
    pub fn advance(&mut self, now: i64) {
        self.advance_clock(now);
        let oldest = self.now.saturating_sub(self.rules.window_ms);
        while self.ring.front().copied().and_then(Key::unpack).is_some_and(|key| key.arrival <= oldest) {
            self.drop_oldest();
        }
        while self.ring.len() > self.rules.entries_max {
            self.let_oldest_go();
        }
    }

    pub(super) fn advance_clock(&mut self, now: i64) {
        self.now = self.now.max(now);
    }

    /// What is remembered of `id`.
    pub fn find(&self, id: i64) -> Option<Key> {
        let id = id.cast_unsigned();
        let number = self.places.find(hash(id), |number| self.at(*number)[0] == id)?;
        Key::unpack(self.at(*number)).filter(|key| key.arrival > self.now.saturating_sub(self.rules.window_ms))
    }

    /// Whether the key is not to be known any more at `now`.
    pub(super) fn is_over(&self, key: &Key, now: i64) -> bool {
        key.arrival <= now.max(self.now).saturating_sub(self.rules.window_ms)
    }

    /// Remembers that what came under `id` stands at `offset`.
    pub(super) fn note(&mut self, id: i64, sequence: i32, offset: Offset) {
        self.push(Key { id, sequence, offset, arrival: self.now });
        while self.ring.len() > self.rules.entries_max {
            self.let_oldest_go();
        }
    }

    /// Puts a key behind the others. One of the same id is forgotten.
    pub(super) fn push(&mut self, key: Key) {
        let (ring, first) = (&self.ring, self.first);
        let number = first.wrapping_add(u32::try_from(ring.len()).unwrap_or(u32::MAX));
        let packed = key.pack();
        let at = |number: u32| ring.get(number.wrapping_sub(first) as usize).map_or(packed[0], |packed| packed[0]);
        let known = self.places.find_entry(hash(packed[0]), |number| at(*number) == packed[0]);
        match known {
            Ok(mut entry) => *entry.get_mut() = number,
            Err(_) => {
                self.places.insert_unique(hash(packed[0]), number, |number| hash(at(*number)));
            }
        }
        self.ring.push_back(packed);
    }

    /// How long keys are remembered just now, in ms: the whole window, unless there were too many of them.
    pub fn held_ms(&self) -> i64 {
        self.rules.window_ms.min(self.now.saturating_sub(self.let_go).max(0))
    }

    /// All keys, oldest first.
    pub(super) fn packed(&self) -> impl ExactSizeIterator<Item = &Packed> {
        self.ring.iter()
    }

    /// Up to which arrival keys were let go before their time; `None` if none was.
    pub(super) fn let_go(&self) -> Option<i64> {
        (self.let_go > i64::MIN).then_some(self.let_go)
    }

    pub(super) fn set_let_go(&mut self, let_go: Option<i64>) {
        self.let_go = let_go.unwrap_or(i64::MIN);
    }

    /// What came before the time was known arrives now.
    pub(super) fn arrive_now(&mut self) {
        if self.let_go == 0 {
            self.let_go = self.now;
        }
        for packed in &mut self.ring {
            if let Some(key) = Key::unpack(*packed).filter(|key| key.arrival == 0) {
                *packed = Key { arrival: self.now, ..key }.pack();
            }
        }
    }

    fn at(&self, number: u32) -> Packed {
        self.ring.get(number.wrapping_sub(self.first) as usize).copied().unwrap_or_default()
    }

    fn let_oldest_go(&mut self) {
        if let Some(key) = self.ring.front().copied().and_then(Key::unpack) {
            self.let_go = self.let_go.max(key.arrival);
        }
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        let Some([id, ..]) = self.ring.front().copied() else { return };
        // A later one of the same id may have its place.
        if let Ok(entry) = self.places.find_entry(hash(id), |number| *number == self.first) {
            entry.remove();
        }
        self.ring.pop_front();
        self.first = self.first.wrapping_add(1);
        if self.ring.is_empty() {
            (self.ring, self.places) = (VecDeque::new(), HashTable::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const RULES: KeyRules = KeyRules { window_ms: 1_000, entries_max: 100 };

    fn offset(n: u64) -> Offset {
        Offset::new(n).unwrap()
    }

    fn id(n: u64) -> i64 {
        // Spread as hashes are.
        KEYED_IDS | (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2).cast_signed()
    }

    /// A promise: a key in 24 bytes is the same key, at the ends of every range too.
    #[test]
    fn keys_are_packed() {
        for (n, sequence, at, arrival) in
            [(0, 0, 0, 0), (7, 5, 9, 1_763_709_600_000), (u64::MAX, i32::MAX, Offset::MAX.get(), (1 << 44) - 1)]
        {
            let key = Key { id: id(n), sequence, offset: offset(at), arrival };
            assert_eq!(Key::unpack(key.pack()), Some(key));
        }
        assert_eq!(Key::unpack([7, 0, 0]), None, "an id that is no key's");
    }

    /// A promise: whatever comes and goes, exactly those keys are known that came within the window and were not too many, each with its latest place.
    #[test]
    fn it_is_a_map_with_a_window() {
        let mut random = crate::io::SplitMix(5);
        let mut window = KeyWindow::new(RULES);
        // By id: sequence, offset, arrival, number.
        let mut model: BTreeMap<i64, (i32, u64, i64)> = BTreeMap::new();
        let mut order: VecDeque<(i64, i64)> = VecDeque::new();
        let mut now = 0;
        for n in 0..50_000_u64 {
            now += i64::try_from(random.below(20)).unwrap();
            window.advance(now);
            let who = id(random.below(300));
            let known = model.get(&who).copied().filter(|(_, _, arrival)| *arrival > now - RULES.window_ms);
            assert_eq!(window.find(who).map(|key| (key.sequence, key.offset.get(), key.arrival)), known, "{n}");
            if known.is_none() {
                let sequence = i32::try_from(random.below(1 << 31)).unwrap();
                window.note(who, sequence, offset(n));
                model.insert(who, (sequence, n, now));
                order.push_back((now, who));
            }
            while order.len() > RULES.entries_max || order.front().is_some_and(|(arrival, _)| *arrival <= now - RULES.window_ms) {
                let (arrival, gone) = order.pop_front().unwrap();
                model.retain(|who, known| (*who, known.2) != (gone, arrival));
            }
            assert_eq!(window.len(), order.len());
        }
    }

    /// A promise: when there are too many keys the oldest go, and the window says how far back it really reaches.
    #[test]
    fn a_full_window_says_what_it_holds() {
        let mut window = KeyWindow::new(RULES);
        window.advance(10_000);
        assert_eq!(window.held_ms(), 1_000);
        for n in 0..150_u64 {
            window.advance(10_000 + n.cast_signed());
            window.note(id(n), 0, offset(n));
        }
        assert_eq!((window.len(), window.find(id(49)), window.find(id(50)).map(|key| key.offset)), (100, None, Some(offset(50))));
        assert_eq!(window.held_ms(), 100, "the last that went came at 10,049");
        window.advance(10_049 + 1_000);
        assert_eq!(window.held_ms(), 1_000);
        window.advance(9_000);
        assert!(window.find(id(60)).is_some(), "a clock that goes back keeps what is there");
        window.set_rules(KeyRules { window_ms: 1_000, entries_max: 10 });
        window.advance(11_049);
        assert_eq!(window.len(), 10);
    }
}

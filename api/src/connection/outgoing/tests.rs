use bytes::Buf;
use proptest::prelude::*;

use super::*;

/// A piece whose content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content(Vec<u8>);

impl Piece for Content {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn skip(&mut self, bytes: u64) {
        self.0.drain(..usize::try_from(bytes).unwrap());
    }
}

#[derive(Debug, Clone)]
enum Part {
    /// Bytes that hyper writes of its own.
    Head(Vec<u8>),
    /// Bytes of a file.
    File(Vec<u8>),
}

fn any_part() -> impl Strategy<Value = Part> {
    // No zeros: those would be the region's.
    let bytes = |max| proptest::collection::vec(1_u8.., 0..max);
    prop_oneof![bytes(30).prop_map(Part::Head), bytes(200).prop_map(Part::File)]
}

/// Writes as hyper does: what is not written stays at the front; a writer takes as much as it likes.
fn write(outgoing: &Outgoing<Content>, mut buffers: VecDeque<Bytes>, mut takes: impl FnMut() -> usize) -> io::Result<Vec<u8>> {
    let mut wire = Vec::new();
    while !buffers.is_empty() {
        let slices: Vec<_> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
        let mut written = match outgoing.next(&slices)? {
            Next::Slices(count) => {
                let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = all.len().min(takes());
                wire.extend_from_slice(&all[..taken]);
                taken
            }
            Next::Piece(piece) => {
                let taken = piece.0.len().min(takes());
                wire.extend_from_slice(&piece.0[..taken]);
                outgoing.sent(taken as u64);
                taken
            }
        };
        while let Some(front) = buffers.front_mut() {
            let taken = written.min(front.len());
            front.advance(taken);
            written -= taken;
            if !front.is_empty() {
                break;
            }
            buffers.pop_front();
        }
    }
    outgoing.check_empty()?;
    Ok(wire)
}

fn placed(outgoing: &Outgoing<Content>, parts: &[Part]) -> VecDeque<Bytes> {
    let place = |part: &Part| match part {
        Part::Head(bytes) => Some(Bytes::from(bytes.clone())),
        Part::File(bytes) if bytes.is_empty() => None, // There are no empty pieces.
        Part::File(bytes) => Some(outgoing.push(Content(bytes.clone()))),
    };
    parts.iter().filter_map(place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A promise: whatever the order of heads and files, and however little the socket takes at a time, what is on the wire is exactly
    /// the heads and the files' own bytes.
    #[test]
    fn the_wire_has_the_files_bytes(parts in proptest::collection::vec(any_part(), 0..20), takes in proptest::collection::vec(1_usize..300, 1..40)) {
        let outgoing = Outgoing::default();
        let buffers = placed(&outgoing, &parts);
        let mut takes = takes.into_iter().cycle();
        let wire = write(&outgoing, buffers, || takes.next().unwrap()).unwrap();
        let expected: Vec<u8> = parts.into_iter().flat_map(|part| match part { Part::Head(bytes) | Part::File(bytes) => bytes }).collect();
        prop_assert_eq!(wire, expected);
    }

    /// A promise: if hyper loses, cuts, repeats or copies a slice, writing ends with an error before a byte of the region is written.
    #[test]
    fn what_does_not_agree_is_not_written(
        parts in proptest::collection::vec(any_part(), 1..10), which: prop::sample::Index, change in 0..3, take in 1_usize..300,
    ) {
        let outgoing = Outgoing::default();
        let mut buffers = placed(&outgoing, &parts);
        let placeholders: Vec<_> = (0..buffers.len()).filter(|i| !buffers[*i].is_empty() && is_placeholder(&buffers[*i])).collect();
        prop_assume!(!placeholders.is_empty());
        let at = *which.get(&placeholders);
        match change {
            0 => drop(buffers.remove(at)),
            1 => {
                let shorter = buffers[at].len() - 1;
                buffers[at].truncate(shorter);
            }
            _ => {
                let again = buffers[at].clone();
                buffers.insert(at, again);
            }
        }
        let mut seen = Vec::new();
        let written = write(&outgoing, buffers, || { seen.push(take); take });
        prop_assert!(written.is_err());
    }
}

/// A promise: a slice that is no placeholder is never taken for one, though it be as long and as empty as one.
#[test]
fn only_the_region_is_a_placeholder() {
    let outgoing = Outgoing::<Content>::default();
    let zeros = vec![0; PIECE_BYTES];
    assert_eq!(outgoing.next(&[IoSlice::new(&zeros)]).unwrap(), Next::Slices(1));
    assert_eq!(outgoing.next(&[IoSlice::new(&[])]).unwrap(), Next::Slices(1));
    assert!(outgoing.next(&[IoSlice::new(&REGION[..1])]).is_err(), "the region without a piece");
    assert!(outgoing.next(&[IoSlice::new(&REGION[PIECE_BYTES - 1..])]).is_err());
}

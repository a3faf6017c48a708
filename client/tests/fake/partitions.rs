//! A made-up node that keeps the wire's rules for idempotent producers, but for patience: what comes too early is told so at once.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use serde_json::json;
use tidegate_types::producer::sequences_behind;
use tidegate_types::{ProducerStamp, StoredBatches};

use super::{Says, asks_for_identity, cluster, identity, problem, topic_of};

/// The node's only topic, `t`, and the ids that it gave.
#[derive(Default)]
pub(crate) struct Partitions {
    pub(crate) parts: Vec<Part>,
    pub(crate) ids: i64,
    /// Values that it refuses.
    pub(crate) refused: HashSet<String>,
}

/// One partition.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) log: Vec<String>,
    /// The stamp of each batch, as written.
    pub(crate) stamps: Vec<ProducerStamp>,
    pub(crate) producers: HashMap<i64, Known>,
    /// Requests for it.
    pub(crate) requests: usize,
}

/// What it knows of a producer: epoch, next sequence, and where its last batches are.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) epoch: i16,
    pub(crate) next: i32,
    pub(crate) last: VecDeque<(i32, usize, u64)>,
}

impl Partitions {
    pub(crate) fn new(count: usize) -> Self {
        Self { parts: (0..count).map(|_| Part::default()).collect(), ..Self::default() }
    }

    /// The partition that a write is for.
    pub(crate) fn place(line: &str) -> Option<usize> {
        line.strip_prefix("post /v1/topics/t/partitions/")?.split_once("/batches")?.0.parse().ok()
    }

    /// What the node says.
    pub(crate) fn answer(&mut self, line: &str, body: &[u8]) -> Says {
        if asks_for_identity(line) {
            self.ids += 1;
            return identity(self.ids);
        }
        match Self::place(line) {
            Some(place) => self.parts[place].write(&Bytes::copy_from_slice(body), &self.refused),
            None if line.contains("/cluster") => Says::Json(200, cluster(&[])),
            None => Says::Json(200, topic_of(u32::try_from(self.parts.len()).unwrap(), 1)),
        }
    }
}

impl Part {
    fn write(&mut self, body: &Bytes, refused: &HashSet<String>) -> Says {
        self.requests += 1;
        let batch = StoredBatches::new(body.clone()).next().unwrap().unwrap();
        batch.verify().unwrap();
        assert_eq!(batch.header.total_bytes(), body.len(), "one batch a request");
        let stamp = ProducerStamp::of(&batch.header).expect("a batch says who wrote it");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let values: Vec<String> = batch.records().unwrap().iter().map(|record| text(record.unwrap().value.unwrap())).collect();
        if let Some(index) = values.iter().position(|value| refused.contains(value)) {
            let errors = json!([{"index": index, "code": "rule-broken"}]);
            let answer = json!({"code": "record-rejected", "status": 422, "retryable": false, "side_effects": "none", "errors": errors});
            return Says::Json(422, answer);
        }
        let known = self.producers.entry(stamp.id).or_insert_with(|| Known { epoch: -1, ..Known::default() });
        if known.epoch == -1 {
            *known = Known { epoch: stamp.epoch, next: stamp.sequence, ..Known::default() };
        }
        if stamp.epoch < known.epoch {
            return problem(409, "producer-fenced", false, "none");
        }
        if stamp.epoch > known.epoch {
            if stamp.sequence != 0 {
                return problem(409, "sequence-gap", false, "none");
            }
            *known = Known { epoch: stamp.epoch, ..Known::default() };
        }
        if stamp.sequence != known.next {
            if sequences_behind(stamp.sequence, known.next).is_none() {
                return problem(409, "sequence-gap", false, "none");
            }
            let same = known.last.iter().find(|(sequence, count, _)| (*sequence, *count) == (stamp.sequence, values.len()));
            let duplicate = |answer| Says::With(("producer-duplicate", "true".to_owned()), 200, answer);
            return duplicate(match same {
                Some((_, count, base)) => json!({"base_offset": base, "last_offset": base + *count as u64 - 1, "durability": "fsync"}),
                None => json!({"durability": "fsync"}),
            });
        }
        let base = self.log.len() as u64;
        known.next = stamp.advanced_by(u32::try_from(values.len()).unwrap()).sequence;
        known.last.push_back((stamp.sequence, values.len(), base));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        self.stamps.push(stamp);
        self.log.extend(values);
        Says::Json(200, json!({"base_offset": base, "last_offset": self.log.len() - 1, "durability": "fsync"}))
    }
}

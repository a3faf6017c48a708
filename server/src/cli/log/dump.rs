//! `log dump`: batches, records, and the entries of indexes and checkpoints, one after the other: files may be larger than the memory.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_storage::inspect::{self, Finding, Shown};
use tidegate_storage::io::{Io, RealIo};
use tidegate_types::{ProducerStamp, Record, StoredBatch};

use super::{damage, failure, segments};
use crate::cli::output::Output;
use crate::cli::record::read::owned;
use crate::cli::record::screen::visible;
use crate::cli::record::show::{Show, form};
use crate::cli::record::{count, object, records};
use crate::cli::{Failure, time};

pub(super) fn run(path: &Path, with_records: bool, with_indexes: bool, output: &Output) -> Result<(), Failure> {
    let is_file = path.extension().is_some_and(|e| e == "log");
    let is_small = !is_file && inspect::is_small_file(path);
    let files = if is_file || is_small { vec![path.to_owned()] } else { segments(path)? };
    if files.is_empty() {
        let one = a_partition(path);
        let advice = one.map_or_else(String::new, |one| format!(": name one of the partitions in it, such as {}", one.display()));
        return Err(Failure::Local(format!("{} has no .log files of its own{advice}", path.display())));
    }
    let mut dump = Dump { output, show: Show::new(form(output, None)?, ""), with_records, damage: Vec::new() };
    let outcome = if is_small { dump.small_file(path) } else { files.iter().try_for_each(|file| dump.segment(file, with_indexes)) };
    if output.format().is_for_programs() {
        dump.show.end()?;
    }
    outcome.and_then(|()| damage(&dump.damage))
}

/// Shows files batch by batch: they may be larger than the memory.
struct Dump<'o> {
    output: &'o Output,
    /// For programs.
    show: Show<'static>,
    with_records: bool,
    damage: Vec<Finding>,
}

/// Why a dump goes no further.
enum Stop {
    Damaged(String),
    Output(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Output(failure)
    }
}

impl From<tidegate_types::BatchError> for Stop {
    fn from(error: tidegate_types::BatchError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Dump<'_> {
    fn segment(&mut self, file: &Path, with_indexes: bool) -> Result<(), Failure> {
        self.file(file)?;
        let indexes = ["index", "timeindex"].map(|suffix| file.with_extension(suffix));
        indexes.iter().filter(|index| with_indexes && RealIo.length(index).is_ok()).try_for_each(|index| self.small_file(index))
    }

    fn small_file(&mut self, file: &Path) -> Result<(), Failure> {
        let is_for_programs = self.output.format().is_for_programs();
        if !is_for_programs {
            self.show.text(&format!("{}\n", file.display()))?;
        }
        let mut show = |shown: &Shown| {
            if is_for_programs { self.show.object(&shown_json(file, shown).to_string()) } else { self.show.text(&shown_line(shown)) }
        };
        let finding = inspect::show(&RealIo, file, &mut show).map_err(failure)??;
        self.show.flush()?;
        self.damage.extend(finding);
        Ok(())
    }

    fn file(&mut self, file: &Path) -> Result<(), Failure> {
        if !self.output.format().is_for_programs() {
            self.show.text(&format!("{}\n", file.display()))?;
        }
        let mut stopped = None;
        let finding = inspect::dump(&RealIo, file, &mut |position, batch| {
            self.batch(file, position, batch).map_err(|stop| match stop {
                Stop::Damaged(reason) => reason,
                Stop::Output(failure) => {
                    stopped = Some(failure);
                    String::new()
                }
            })
        });
        self.show.flush()?;
        match stopped {
            Some(failure) => Err(failure),
            None => {
                self.damage.extend(finding.map_err(failure)?);
                Ok(())
            }
        }
    }

    fn batch(&mut self, file: &Path, position: u64, batch: &StoredBatch) -> Result<(), Stop> {
        let is_for_programs = self.output.format().is_for_programs();
        if is_for_programs {
            self.show.object(&batch_json(file, position, batch).to_string())?;
        } else {
            self.show.text(&batch_line(position, batch))?;
        }
        if !self.with_records {
            return Ok(());
        }
        for record in &batch.records()? {
            let record = record?;
            if is_for_programs {
                self.show.object(&record_json(partition_of(file), &record).map_err(Failure::Local)?)?;
            } else {
                self.show.text(&record_line(&record))?;
            }
        }
        Ok(())
    }
}

/// One of the directories in a data directory that hold segments.
fn a_partition(path: &Path) -> Option<PathBuf> {
    let mut found: Vec<_> = RealIo.list(path).ok()?.into_iter().filter(|entry| entry.is_dir).map(|entry| path.join(entry.name)).collect();
    found.sort_unstable();
    found.into_iter().find(|directory| segments(directory).is_ok_and(|files| !files.is_empty()))
}

fn shown_line(shown: &Shown) -> String {
    match shown {
        Shown::Index { offset, position } => format!("  the batch at {position} ends with offset {offset}\n"),
        Shown::TimeIndex { timestamp, offset } => format!("  newest up to offset {offset}: {}\n", time::shown(*timestamp)),
        Shown::Segment { base, end, bytes, max_timestamp, index_crc, time_index_crc } => {
            let newest = max_timestamp.map_or_else(|| "none".to_owned(), time::shown);
            let bytes = count(*bytes);
            format!(
                "  offsets {base} up to {end}, {bytes} bytes, newest {newest}, crc of its indexes {index_crc:#010x} {time_index_crc:#010x}\n"
            )
        }
        Shown::Epoch { epoch, start } => format!("  epoch {epoch} from offset {start} on\n"),
        Shown::Producer { producer_id, epoch, last_sequence, last_offset } => {
            format!("  producer {producer_id}, epoch {epoch}: sequence {last_sequence} at offset {last_offset}\n")
        }
        Shown::Key(key) => {
            let (id, hash, offset, came) = (key.id, key.sequence, key.offset, time::shown(key.arrival));
            format!("  key {id:#018x}, content {hash:#010x}: from offset {offset} on, came {came}\n")
        }
        Shown::Partition { topic } => format!("  topic id {topic}\n"),
        Shown::Offset { tp, offset } => format!("  {tp}: {offset}\n"),
        Shown::Property { key, value } => format!("  {}={}\n", visible(key.as_bytes()), visible(value.as_bytes())),
    }
}

fn shown_json(file: &Path, shown: &Shown) -> Value {
    let mut object = match shown {
        Shown::Index { offset, position } => json!({"kind": "index-entry", "offset": offset, "position": position}),
        Shown::TimeIndex { timestamp, offset } => json!({"kind": "time-index-entry", "timestamp": timestamp, "offset": offset}),
        Shown::Segment { base, end, bytes, max_timestamp, index_crc, time_index_crc } => json!({
            "kind": "segment", "base_offset": base, "end_offset": end, "bytes": bytes, "max_timestamp": max_timestamp,
            "index_crc": index_crc, "time_index_crc": time_index_crc,
        }),
        Shown::Epoch { epoch, start } => json!({"kind": "leader-epoch", "leader_epoch": epoch, "start_offset": start}),
        Shown::Producer { producer_id, epoch, last_sequence, last_offset } => json!({
            "kind": "producer", "producer_id": producer_id, "epoch": epoch, "last_sequence": last_sequence, "last_offset": last_offset,
        }),
        // Beyond what numbers of JSON hold everywhere.
        Shown::Key(key) => json!({
            "kind": "idempotency-key", "id": format!("{:#018x}", key.id), "content": key.sequence, "offset": key.offset, "arrival": key.arrival,
        }),
        Shown::Partition { topic } => json!({"kind": "partition-metadata", "topic_id": topic}),
        Shown::Offset { tp, offset } => json!({"kind": "offset", "topic": tp.topic, "partition": tp.partition, "offset": offset}),
        Shown::Property { key, value } => json!({"kind": "property", "key": key, "value": value}),
    };
    object["file"] = file.display().to_string().into();
    object
}

/// The partition's number, as the directory of its files says.
fn partition_of(file: &Path) -> Option<u32> {
    let absolute = file.canonicalize().ok()?;
    absolute.parent()?.file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

fn batch_line(position: u64, batch: &StoredBatch) -> String {
    let h = &batch.header;
    let kind = if h.is_control() { " control" } else { "" };
    let producer = match ProducerStamp::of(h) {
        None => String::new(),
        Some(stamp) if stamp.is_keyed() => format!(", key {:#018x}", stamp.id),
        Some(ProducerStamp { id, epoch, sequence }) => format!(", producer {id} epoch {epoch} from sequence {sequence}"),
    };
    format!(
        "  at {position}: offsets {}..{}, {}, {} bytes, {}, epoch {}, newest {}, crc {:#010x}{producer}{kind}\n",
        h.first_offset(),
        h.last_offset(),
        records(u64::try_from(h.record_count).unwrap_or_default()),
        count(batch.bytes().len() as u64),
        h.codec().name(),
        h.leader_epoch,
        time::shown(h.max_timestamp),
        h.crc
    )
}

fn batch_json(file: &Path, position: u64, batch: &StoredBatch) -> Value {
    let h = &batch.header;
    json!({
        "kind": "batch", "file": file.display().to_string(), "position": position, "base_offset": h.first_offset().get(),
        "last_offset": h.last_offset().get(), "record_count": h.record_count, "bytes": batch.bytes().len(), "codec": h.codec().name(),
        "leader_epoch": h.leader_epoch, "max_timestamp": h.max_timestamp, "crc": h.crc, "control": h.is_control(), "producer_id": h.producer_id,
        "producer_epoch": h.producer_epoch, "base_sequence": h.base_sequence,
    })
}

/// Bytes as people read them: text if they are, else their number; long ones are cut.
fn shown(bytes: Option<&[u8]>) -> String {
    const CHARACTERS: usize = 120;
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => "none".to_owned(),
        Some((bytes, Err(_))) => format!("{} bytes", bytes.len()),
        Some((_, Ok(text))) if text.chars().count() > CHARACTERS => format!("{:?}…", text.chars().take(CHARACTERS).collect::<String>()),
        Some((_, Ok(text))) => format!("{text:?}"),
    }
}

fn record_line(record: &Record<'_>) -> String {
    let headers = record.headers.iter().map(|h| format!(" {}={}", visible(h.name.as_bytes()), shown(h.value))).collect::<String>();
    let time = time::shown(record.timestamp.millis());
    format!("    {}: time {time}, key {}, value {}{headers}\n", record.offset, shown(record.key), shown(record.value))
}

/// The record as `consume` writes it, with its kind before all; without a partition if none is known.
fn record_json(partition: Option<u32>, record: &Record<'_>) -> Result<String, String> {
    let line = object::to_line(&owned(partition.unwrap_or_default(), record))?;
    let fields = match partition {
        Some(_) => line.strip_prefix('{'),
        None => line.strip_prefix("{\"partition\":0,"),
    };
    Ok(format!("{{\"kind\":\"record\",{}", fields.unwrap_or_default()))
}

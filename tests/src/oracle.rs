//! Others' opinions: pip `kafka-python` and the crate `kafka-protocol` read what we wrote, and make what we must read. And where the
//! programs of others are that the suites run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use kafka_protocol::records::{Compression, RecordBatchDecoder, RecordSet};
use serde::Deserialize;

/// The five codecs by the names that the scripts use, in the order of their numbers.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A record as an oracle read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OracleRecord {
    /// The codec of its batch.
    pub codec: String,
    /// Its offset.
    pub offset: u64,
    /// In ms.
    pub timestamp: i64,
    /// `None` is no key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A line of the scripts' output; the last one has only counts.
#[derive(Debug, Deserialize)]
struct Line {
    file: Option<String>,
    codec: Option<String>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    records: Option<usize>,
}

impl Line {
    fn record(self) -> anyhow::Result<OracleRecord> {
        let headers = self.headers.into_iter().map(|(name, value)| Ok((name, value.map(|v| unhex(&v)).transpose()?)));
        Ok(OracleRecord {
            codec: self.codec.context("a line without a codec")?,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(|k| unhex(&k)).transpose()?,
            value: self.value.map(|v| unhex(&v)).transpose()?,
            headers: headers.collect::<anyhow::Result<_>>()?,
        })
    }
}

fn unhex(hex: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(hex.len().is_multiple_of(2) && hex.is_ascii(), "not hex");
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?)).collect()
}

/// The root of the clone.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).map(Path::to_owned).unwrap_or_default()
}

/// A program of the oracles' virtual environment.
///
/// # Errors
/// If the environment has not been made.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let venv = std::env::var_os("TIDEGATE_VENV").map_or_else(|| root().join(".venv"), PathBuf::from);
    let path = venv.join("bin").join(name);
    ensure!(path.is_file(), "{} is missing: `.ci/setup python` makes it (`make test` does so by itself)", path.display());
    Ok(path)
}

/// The folder of the pinned node packages, with `bin/node`; `None` if whoever runs the tests has said `TIDEGATE_NODEJS=none`.
///
/// # Errors
/// If it has not been made.
pub fn node_folder() -> anyhow::Result<Option<PathBuf>> {
    let folder = std::env::var_os("TIDEGATE_NODEJS").map_or_else(|| root().join(".node"), PathBuf::from);
    if folder == Path::new("none") {
        return Ok(None);
    }
    let is_made = folder.join("bin/node").is_file() && folder.join("node_modules").is_dir();
    ensure!(
        is_made,
        "Node.js with the contract's packages is missing in {}: `.ci/setup node` makes it (`make test` does so by itself); \
         TIDEGATE_NODEJS=none leaves out what needs it",
        folder.display()
    );
    Ok(Some(folder))
}

fn script(name: &str, argument: &Path) -> anyhow::Result<String> {
    let script = root().join("tests/oracle").join(name);
    let output = Command::new(program("python")?).arg(script).arg(argument).output()?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What the second reader (`tests/oracle/verify.py`) says of a data directory: its report, with `findings`.
///
/// # Errors
/// It cannot be run.
pub fn verify(directory: &Path, options: &[&str]) -> anyhow::Result<serde_json::Value> {
    let script = root().join("tests/oracle/verify.py");
    let output = Command::new(program("python")?).arg(script).arg("--json").args(options).arg(directory).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The findings of such a report that break a rule.
pub fn problems(report: &serde_json::Value) -> Vec<&serde_json::Value> {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter(|finding| finding["severity"] == "problem").collect()
}

/// What kafka-python reads in every `.log` below `directory`: records by file (relative, as `flights-0/00000000000000000000.log`), CRCs checked.
///
/// # Errors
/// What it refuses.
pub fn decode_with_python(directory: &Path) -> anyhow::Result<BTreeMap<String, Vec<OracleRecord>>> {
    let mut files = BTreeMap::<String, Vec<OracleRecord>>::new();
    let (mut seen, mut counted) = (0, None);
    for line in script("decode_log.py", directory)?.lines() {
        let mut line: Line = serde_json::from_str(line)?;
        match line.file.take() {
            Some(file) => files.entry(file).or_default().push(line.record()?),
            None => counted = line.records,
        }
        seen += 1;
    }
    ensure!(counted == Some(seen - 1), "the script's output is cut short");
    Ok(files)
}

/// What the crate kafka-protocol reads in every `.log` below `directory`, in the same shape.
///
/// # Errors
/// What it refuses.
pub fn decode_with_crate(directory: &Path) -> anyhow::Result<BTreeMap<String, Vec<OracleRecord>>> {
    let mut files = BTreeMap::new();
    for path in log_files(directory)? {
        let name = path.strip_prefix(directory)?.to_string_lossy().replace('\\', "/");
        let mut data = Bytes::from(std::fs::read(&path)?);
        let mut records = Vec::new();
        while data.iter().any(|byte| *byte != 0) {
            let batch = decode_batch(&mut data).with_context(|| name.clone())?;
            let codec = CODECS[batch.compression as usize].to_owned();
            records.extend(batch.records.into_iter().map(|record| OracleRecord {
                codec: codec.clone(),
                offset: u64::try_from(record.offset).unwrap_or(u64::MAX),
                timestamp: record.timestamp,
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                headers: record.headers.into_iter().map(|(name, value)| (name.to_string(), value.map(Into::into))).collect(),
            }));
        }
        if !records.is_empty() {
            files.insert(name, records);
        }
    }
    Ok(files)
}

/// The crate's own feature for zstd would build that library with the formats of its old versions, into the node as well.
fn decode_batch(data: &mut Bytes) -> anyhow::Result<RecordSet> {
    /// Where a batch's attributes end; their lowest three bits are its codec.
    const ATTRIBUTES_END: usize = 22;
    if data.get(ATTRIBUTES_END).is_some_and(|attributes| attributes & 7 == Compression::Zstd as u8) {
        let unpack = |packed: &mut Bytes, _| Ok(Bytes::from(zstd::decode_all(packed.as_ref())?));
        return RecordBatchDecoder::decode_with_custom_compression(data, Some(unpack));
    }
    RecordBatchDecoder::decode(data)
}

/// Every segment below `directory`: twenty digits and `.log` (RocksDB, beside the partitions, names its own files `.log` too).
///
/// # Errors
/// The system's.
pub fn log_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_segment(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
    name.is_some_and(|name| name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Batches of one codec made by kafka-python, and what it put into them.
#[derive(Debug)]
pub struct MadeBatches {
    /// The codec.
    pub codec: &'static str,
    /// Batches back to back.
    pub bytes: Vec<u8>,
    /// Their records, in order; offsets are all 0.
    pub records: Vec<OracleRecord>,
}

/// Lets kafka-python make batches, of all five codecs; `scratch` is an empty directory to do it in.
///
/// # Errors
/// The script's.
pub fn make_with_python(scratch: &Path) -> anyhow::Result<Vec<MadeBatches>> {
    let mut records = Vec::new();
    for line in script("make_batches.py", scratch)?.lines() {
        records.push(serde_json::from_str::<Line>(line)?.record()?);
    }
    let made = CODECS.map(|codec| {
        let bytes = std::fs::read(scratch.join(format!("{codec}.batches")))?;
        let records = records.iter().filter(|record| record.codec == codec).cloned().collect();
        Ok(MadeBatches { codec, bytes, records })
    });
    made.into_iter().collect()
}

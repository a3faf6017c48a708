//! Results in files: written whole or not at all, read with a bound.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::Failure;
use super::integrity::{ALGORITHM, Digests, PartitionDigest};

/// A result with all the gaps that are kept is smaller.
const BYTES_MAX: u64 = 64 << 20;

/// Puts `result` at `path`.
///
/// # Errors
/// A sentence with the path.
pub(crate) fn write(path: &Path, result: &impl Serialize) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::Local(format!("the result cannot be written to {}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| fail(&error))?;
    serde_json::to_writer_pretty(&mut file, result).map_err(|error| fail(&error))?;
    file.write_all(b"\n").map_err(|error| fail(&error))?;
    file.persist(path).map_err(|error| fail(&error.error))?;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Written {
    integrity: WrittenIntegrity,
}

#[derive(Debug, Deserialize)]
struct WrittenIntegrity {
    algorithm: String,
    partitions: Vec<PartitionDigest>,
}

/// What the result at `path` says was acknowledged.
///
/// # Errors
/// A sentence with the path, if it is no result of a bench that has acknowledged something.
pub(crate) fn read(path: &Path) -> Result<Digests, Failure> {
    let fail = |reason: &dyn std::fmt::Display| Failure::Local(format!("{} is no result to compare with: {reason}", path.display()));
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text)).map_err(|error| fail(&error))?;
    let Written { integrity } = serde_json::from_slice(&text).map_err(|error| fail(&error))?;
    if integrity.algorithm != ALGORITHM {
        return Err(fail(&format!("its hashes are '{}', this version makes '{ALGORITHM}'", integrity.algorithm)));
    }
    let digests = Digests::from_list(integrity.partitions).map_err(|reason| fail(&reason))?;
    if digests.records() == 0 {
        return Err(fail(&"nothing was acknowledged in it"));
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a file that is no result is refused with its path, whatever is wrong with it.
    #[test]
    fn no_result_no_comparison() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        assert!(read(&path).is_err());
        for text in [
            "",
            "{}",
            "\u{0}",
            r#"{"integrity":{"algorithm":"md5","partitions":[]}}"#,
            r#"{"integrity":{"algorithm":"sum-xxh3-64","partitions":[]}}"#,
            r#"{"integrity":{"algorithm":"sum-xxh3-64","partitions":[{"partition":0,"records":1,"hash":"zz","ranges":[[0,1]]}]}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let Err(Failure::Local(reason)) = read(&path) else { panic!("{text}") };
            assert!(reason.contains("r.json"), "{reason}");
        }
        write(
            &path,
            &serde_json::json!({"integrity": {"algorithm": ALGORITHM,
            "partitions": [{"partition": 0, "records": 1, "hash": "ff", "ranges": [[0, 1]]}]}}),
        )
        .unwrap();
        assert_eq!(read(&path).unwrap().records(), 1);
    }
}

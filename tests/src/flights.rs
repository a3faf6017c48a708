//! Real data: the flights that left New York's airports in 2013 (nycflights13, CC0), a few thousand in the clone or all 336,776 from its archive.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::oracle::root;

/// One flight: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// The aircraft's tail number, as it stands in the row (`NA` is a value like any other); empty is none.
    pub tail_number: Option<String>,
    /// The row as a JSON object.
    pub json: String,
}

/// The sample in the clone: rows of real flights, one JSON object a line, in the file's order.
///
/// # Errors
/// If it is missing or no such thing.
pub fn sample() -> anyhow::Result<Vec<Flight>> {
    let path = root().join("tests/fixtures/flights-sample.ndjson");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines().map(flight).collect()
}

fn flight(line: &str) -> anyhow::Result<Flight> {
    let row: serde_json::Value = serde_json::from_str(line)?;
    let tail_number = row["tailnum"].as_str().filter(|tail| !tail.is_empty()).map(str::to_owned);
    Ok(Flight { tail_number, json: line.to_owned() })
}

/// All flights, from `flights.csv.zip`, in the file's order.
///
/// # Errors
/// If it is no archive of one CSV file with a header and a column `tailnum`.
pub fn all(archive: &Path) -> anyhow::Result<Vec<Flight>> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive)?)?;
    ensure!(archive.len() == 1, "the archive has {} files, not one", archive.len());
    let mut csv = Vec::new();
    archive.by_index(0)?.read_to_end(&mut csv)?;
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    let names = reader.headers()?.clone();
    ensure!(names.iter().any(|name| name == "tailnum"), "there is no column `tailnum`");
    reader.records().map(|row| flight(&object(&names, &row?)?)).collect()
}

/// A row as an object: numbers stay the digits they are, everything else becomes a text.
fn object(names: &csv::StringRecord, row: &csv::StringRecord) -> anyhow::Result<String> {
    let mut json = String::from("{");
    for (name, field) in names.iter().zip(row) {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&serde_json::to_string(name)?);
        json.push(':');
        json.push_str(&if is_number(field) { field.to_owned() } else { serde_json::to_string(field)? });
    }
    json.push('}');
    Ok(json)
}

fn is_number(field: &str) -> bool {
    let digits = field.strip_prefix('-').unwrap_or(field);
    digits == "0" || (!digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: the sample is a few thousand real rows, most of them with a tail number.
    #[test]
    fn the_sample_is_there() {
        let flights = sample().unwrap();
        assert!(flights.len() > 2_000, "{}", flights.len());
        assert!(flights.iter().filter(|f| f.tail_number.is_some()).count() > flights.len() / 2);
    }

    /// A promise: a row keeps its digits, and what is no number becomes a text.
    #[test]
    fn rows_become_objects() {
        let row = csv::StringRecord::from(vec!["-5", "0517", "NA", "", "a\"b"]);
        let names = csv::StringRecord::from(vec!["a", "b", "c", "d", "tailnum"]);
        let json = object(&names, &row).unwrap();
        assert_eq!(json, r#"{"a":-5,"b":"0517","c":"NA","d":"","tailnum":"a\"b"}"#);
        assert_eq!(flight(&json).unwrap().tail_number.as_deref(), Some("a\"b"));
    }
}

//! Records as people and other programs write them: what the verbs that move records have in common.
//!
//! | module | subject |
//! |---|---|
//! | [`point`] | `--from` and `--until` |
//! | [`template`] | `-f '%k\t%v\n'` |
//! | [`object`] | a record as a JSON object on one line, both ways |
//! | [`screen`] | what is safe to show on a terminal |
//! | [`print`](mod@print) | records out: by a template, as JSON, YAML, rows |
//! | [`split`], [`scan`], [`array`](mod@array), [`row`] | input cut into pieces: lines, by a template, a JSON array, CSV |
//! | [`input`] | records in: which form, and what is added to each |
//! | [`feed`] | input read on a thread of its own, ahead by a bounded amount |
//! | [`progress`] | how far a long job has come, on a terminal |
//! | [`ledger`] | what became of the records that were sent |
//! | [`span`], [`read`] | from where to where each partition is read, and the reading |
//! | [`show`] | which form records are written in, and the writing |

pub(super) mod array;
pub(super) mod feed;
pub(super) mod input;
pub(super) mod ledger;
pub(super) mod object;
pub(super) mod point;
pub(super) mod print;
pub(super) mod progress;
pub(super) mod read;
pub(super) mod row;
pub(super) mod scan;
pub(super) mod screen;
pub(super) mod show;
pub(super) mod span;
pub(super) mod split;
pub(super) mod template;

use bytes::Bytes;
use tidegate_client::Value;

/// A value as it stands in plain input: text if it is UTF-8, bytes otherwise.
fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

/// A number as people read it: `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many records, in words.
pub(super) fn records(number: u64) -> String {
    format!("{} record{}", count(number), if number == 1 { "" } else { "s" })
}

/// A flag's number of records.
///
/// # Errors
/// A sentence on what is taken.
pub(super) fn parse_records(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a number of records is wanted, such as 100".to_owned())
}

/// The same, of at least one.
///
/// # Errors
/// As [`parse_records`].
pub(super) fn parse_some_records(text: &str) -> Result<u64, String> {
    parse_records(text).ok().filter(|records| *records > 0).ok_or_else(|| "a number of records is wanted, 1 or more".to_owned())
}

/// A flag's partition.
///
/// # Errors
/// A sentence on what is taken.
pub(super) fn parse_partition(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a partition's number is wanted, such as 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: numbers are grouped by three.
    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((records(1), records(0)), ("1 record".to_owned(), "0 records".to_owned()));
    }
}

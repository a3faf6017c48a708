//! Records in: which form the input has, what is added to each record, and one walk that hands them on with their lines.

use std::io::BufRead;
use std::ops::ControlFlow;

use bytes::Bytes;
use tidegate_client::{Header, NewRecord, Value};

use super::array::Elements;
use super::row::{self, Roles, Rows};
use super::scan::Scan;
use super::split::{Ended, InputError, Splitter, without_byte_order_mark};
use super::{object, text_or_bytes};

/// The form of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// Each line is a value.
    Lines,
    /// By a template.
    Template(Scan),
    /// One record object a line.
    Objects,
    /// A JSON array of record objects.
    Array,
    /// One JSON value a line.
    JsonValues(Roles),
    /// Rows under a head line.
    Csv {
        /// Which columns are more than a part of the value.
        roles: Roles,
        /// What separates fields.
        delimiter: u8,
        /// Whether numbers, `true` and `false` become that.
        infer: bool,
    },
    /// All of it is one value.
    Raw,
}

/// What is added to, or taken from, each record of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Additions {
    /// The key of records without one.
    pub(in crate::cli) key: Option<Bytes>,
    /// Headers after its own.
    pub(in crate::cli) headers: Vec<Header>,
    /// Where all go.
    pub(in crate::cli) partition: Option<u32>,
    /// Whether partitions that records name are forgotten.
    pub(in crate::cli) repartition: bool,
    /// Whether an empty value is none.
    pub(in crate::cli) tombstones: bool,
}

impl Additions {
    fn apply(&self, mut record: NewRecord) -> NewRecord {
        if record.key.is_none() {
            record.key.clone_from(&self.key);
        }
        record.headers.extend_from_slice(&self.headers);
        if self.repartition {
            record.partition = None;
        }
        record.partition = self.partition.or(record.partition);
        if self.tombstones && record.value.as_bytes().is_some_and(<[u8]>::is_empty) {
            record.value = Value::Tombstone;
        }
        record
    }
}

/// What a record may be at most, in bytes of input. Of record objects it is more: their values can be escaped or in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Bound {
    plain: usize,
    escaped: usize,
}

impl Bound {
    /// For a topic whose batches have at most so many bytes.
    pub(in crate::cli) const fn of_batches(batch_bytes_max: usize) -> Self {
        // One character of a text may be escaped in six; the fields around it take room, too.
        Self { plain: batch_bytes_max, escaped: batch_bytes_max.saturating_mul(6).saturating_add(4 << 10) }
    }
}

/// The line that a record begins at, from 1, and the record.
pub(in crate::cli) type Numbered = (u64, NewRecord);

impl Form {
    /// Whether the line at which a record begins says which one it is, and the form is read the same from a later line on.
    pub(in crate::cli) fn is_by_lines(&self) -> bool {
        match self {
            Self::Lines | Self::Objects | Self::JsonValues(_) | Self::Csv { .. } => true,
            Self::Template(scan) => scan.ends_lines(),
            Self::Array | Self::Raw => false,
        }
    }

    /// Whether it is text in UTF-8, which may begin with a mark that is no part of it. Of lines and whole files every byte is kept.
    const fn has_byte_order_mark(&self) -> bool {
        matches!(self, Self::Objects | Self::Array | Self::JsonValues(_) | Self::Csv { .. })
    }
}

/// Walks through `input` and hands each record on that begins at line `from_line` or later, until there are no more or `take` has enough.
pub(in crate::cli) fn read(
    input: impl BufRead,
    form: &Form,
    additions: &Additions,
    bound: Bound,
    from_line: u64,
    take: impl FnMut(Numbered) -> ControlFlow<()>,
) -> Result<(), InputError> {
    if form.has_byte_order_mark() {
        read_text(without_byte_order_mark(input)?, form, additions, bound, from_line, take)
    } else {
        read_text(input, form, additions, bound, from_line, take)
    }
}

fn read_text(
    input: impl BufRead,
    form: &Form,
    additions: &Additions,
    bound: Bound,
    from_line: u64,
    mut take: impl FnMut(Numbered) -> ControlFlow<()>,
) -> Result<(), InputError> {
    let mut take = |line: u64, record: NewRecord| {
        if line < from_line { ControlFlow::Continue(()) } else { take((line, additions.apply(record))) }
    };
    match form {
        Form::Lines => each_line(input, bound.plain, from_line, |line, piece| Ok(take(line, NewRecord::new(text_or_bytes(piece))))),
        Form::Objects => each_line(input, bound.escaped, from_line, |line, piece| {
            let at_line = |reason| InputError::new(line, reason);
            if piece.trim_ascii().is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            let text = std::str::from_utf8(piece).map_err(|_| at_line("it is no UTF-8".to_owned()))?;
            Ok(take(line, object::from_json(text).map_err(at_line)?))
        }),
        Form::JsonValues(roles) => each_line(input, bound.plain, from_line, |line, piece| {
            if piece.trim_ascii().is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            Ok(take(line, row::from_json(piece, roles).map_err(|reason| InputError::new(line, reason))?))
        }),
        Form::Template(scan) => {
            let (mut splitter, mut piece) = (Splitter::new(input, bound.escaped), Vec::new());
            loop {
                let line = splitter.line();
                let Some(record) = scan.next(&mut splitter, &mut piece)? else { return Ok(()) };
                if take(line, record).is_break() {
                    return Ok(());
                }
            }
        }
        Form::Array => {
            let (mut elements, mut element) = (Elements::new(input, bound.escaped), Vec::new());
            while let Some(line) = elements.next(&mut element)? {
                if line < from_line {
                    continue;
                }
                let at_line = |reason| InputError::new(line, reason);
                let text = std::str::from_utf8(&element).map_err(|_| at_line("it is no UTF-8".to_owned()))?;
                if take(line, object::from_json(text).map_err(at_line)?).is_break() {
                    break;
                }
            }
            Ok(())
        }
        Form::Csv { roles, delimiter, infer } => {
            let mut rows = Rows::new(input, *delimiter, *infer, roles, bound.plain)?;
            while let Some((line, record)) = rows.next(roles, from_line)? {
                if take(line, record).is_break() {
                    break;
                }
            }
            Ok(())
        }
        Form::Raw => {
            let mut whole = Vec::new();
            Splitter::new(input, bound.plain).piece(b"", None, &mut whole)?;
            // There is one record, and nobody to ask for another.
            let _ = take(1, NewRecord::new(text_or_bytes(&whole)));
            Ok(())
        }
    }
}

fn each_line(
    input: impl BufRead,
    line_bytes_max: usize,
    from_line: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, InputError>,
) -> Result<(), InputError> {
    let (mut splitter, mut piece) = (Splitter::new(input, line_bytes_max), Vec::new());
    loop {
        let line = splitter.line();
        let ended = splitter.piece(b"\n", None, &mut piece)?;
        // A last line may lack its line feed, but what is after the last line feed is no line.
        if ended == Ended::InputEnd && piece.is_empty() || line >= from_line && each(line, &piece)?.is_break() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(input: &str, form: &Form, additions: &Additions) -> Result<Vec<Numbered>, InputError> {
        let mut all = Vec::new();
        let taken = read(input.as_bytes(), form, additions, Bound::of_batches(100), 1, |numbered| {
            all.push(numbered);
            ControlFlow::Continue(())
        });
        taken.map(|()| all)
    }

    fn plain(input: &str, form: &Form) -> Vec<Numbered> {
        records(input, form, &Additions::default()).unwrap()
    }

    /// A promise: every form gives its records with the lines they begin at.
    #[test]
    fn forms() {
        let text = NewRecord::text;
        assert_eq!(plain("a\r\n\nb", &Form::Lines), [(1, text("a\r")), (2, text("")), (3, text("b"))]);
        assert_eq!(plain("", &Form::Lines), []);
        let objects = "{\"text\":\"a\"}\n\n {\"text\":\"b\",\"partition\":1,\"offset\":7}\n";
        let b = NewRecord { partition: Some(1), ..text("b") };
        assert_eq!(plain(objects, &Form::Objects), [(1, text("a")), (3, b.clone())]);
        assert_eq!(plain("[{\"text\":\"a\"},\n{\"text\":\"b\",\"partition\":1}]\n", &Form::Array), [(1, text("a")), (2, b)]);
        assert_eq!(plain("a\nb\n", &Form::Raw), [(1, text("a\nb\n"))]);
        assert_eq!(plain("", &Form::Raw), [(1, text(""))]);
        let roles = Roles { key: Some("k".to_owned()), ..Roles::default() };
        let json = NewRecord::new(Value::Json(object::json_of(*b"{\"k\":\"x\"}").unwrap())).key("x");
        assert_eq!(plain("{\"k\":\"x\"}\n", &Form::JsonValues(roles.clone())), [(1, json.clone())]);
        assert_eq!(plain("k\nx\n", &Form::Csv { roles, delimiter: b',', infer: false }), [(2, json)]);
        let scan = Scan::separated_by(":").unwrap();
        assert_eq!(plain("k:v:w\n", &Form::Template(scan)), [(1, text("v:w").key("k"))]);
    }

    /// A promise: what is added is added, and what a record brings of its own stays.
    #[test]
    fn additions() {
        let additions = Additions {
            key: Some("k".into()),
            headers: vec![Header { name: "h".to_owned(), value: None }],
            partition: Some(2),
            repartition: false,
            tombstones: true,
        };
        let input = "{\"key\":\"own\",\"text\":\"\",\"headers\":[{\"name\":\"h\"}],\"partition\":1}\n{\"text\":\"b\"}\n";
        let found = records(input, &Form::Objects, &additions).unwrap();
        let keys: Vec<_> =
            found.iter().map(|(_, r)| (r.key.clone().unwrap(), r.headers.len(), r.partition, r.value == Value::Tombstone)).collect();
        assert_eq!(keys, [("own".into(), 2, Some(2), true), ("k".into(), 1, Some(2), false)]);
        let found = records(input, &Form::Objects, &Additions { repartition: true, ..Additions::default() }).unwrap();
        assert_eq!(found[0].1.partition, None);
    }

    /// A promise: a mark that says "UTF-8" is no part of what is read as text, and stays where every byte counts.
    #[test]
    fn byte_order_marks() {
        let text = NewRecord::text;
        assert_eq!(plain("\u{feff}{\"text\":\"a\"}\n", &Form::Objects), [(1, text("a"))]);
        assert_eq!(plain("\u{feff}[{\"text\":\"a\"}]", &Form::Array), [(1, text("a"))]);
        let one = NewRecord::new(Value::Json(object::json_of(*b"1").unwrap()));
        assert_eq!(plain("\u{feff}1\n", &Form::JsonValues(Roles::default())), [(1, one)]);
        let csv = Form::Csv { roles: Roles { key: Some("k".to_owned()), ..Roles::default() }, delimiter: b',', infer: false };
        assert_eq!(plain("\u{feff}\"k\"\nx\n", &csv)[0].1.key.as_deref(), Some(&b"x"[..]));
        assert_eq!(plain("\u{feff}a\n", &Form::Lines), [(1, text("\u{feff}a"))]);
        assert_eq!(plain("\u{feff}", &Form::Raw), [(1, text("\u{feff}"))]);
    }

    /// A promise: from a later line on, the same records come with the same lines, and what is before them is not looked into.
    #[test]
    fn from_a_line_on() {
        let csv = Form::Csv { roles: Roles { key: Some("k".to_owned()), ..Roles::default() }, delimiter: b',', infer: false };
        let pairs = Form::Template(Scan::new(&"%k\n%v\n".parse().unwrap()).unwrap());
        for (input, form) in [
            ("a\n\nb\nc", Form::Lines),
            ("{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n{\"text\":\"c\"}\n", Form::Objects),
            ("[{\"text\":\"a\"},\n{\"text\":\"b\"},\n\n{\"text\":\"c\"}]", Form::Array),
            ("1\n2\n3\n", Form::JsonValues(Roles::default())),
            ("k,v\na,\"x\ny\"\nb,z\nc,z\n", csv),
            ("a\nb\nc\nd\n", pairs),
        ] {
            let all = plain(input, &form);
            for from_line in 0..7 {
                let mut found = Vec::new();
                let taken = read(input.as_bytes(), &form, &Additions::default(), Bound::of_batches(100), from_line, |numbered| {
                    found.push(numbered);
                    ControlFlow::Continue(())
                });
                taken.unwrap();
                let wanted: Vec<_> = all.iter().filter(|(line, _)| *line >= from_line).cloned().collect();
                assert_eq!(found, wanted, "{form:?} from {from_line}");
            }
        }
        let bad = b"{\"text\":1}\n{\"text\":\"b\"}\n";
        let mut count = 0;
        read(&bad[..], &Form::Objects, &Additions::default(), Bound::of_batches(100), 2, |_| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        let csv = Form::Csv { roles: Roles::default(), delimiter: b',', infer: false };
        for from_line in [2, 3] {
            let taken = read(&b"a,b\n1\n2,2\n"[..], &csv, &Additions::default(), Bound::of_batches(100), from_line, |_| {
                count += 1;
                ControlFlow::Continue(())
            });
            assert_eq!(taken.is_ok(), from_line == 3);
        }
        assert_eq!(count, 2);
    }

    /// A promise: a bad record ends the walk with its line; those before it have been handed on.
    #[test]
    fn bad_records_have_lines() {
        let mut seen = 0;
        let error =
            read(&b"{\"text\":\"a\"}\n{\"text\":1}\n"[..], &Form::Objects, &Additions::default(), Bound::of_batches(100), 1, |_| {
                seen += 1;
                ControlFlow::Continue(())
            });
        assert_eq!((error.unwrap_err().line, seen), (2, 1));
        let long = format!("a\n{}\n", "x".repeat(101));
        assert_eq!(records(&long, &Form::Lines, &Additions::default()).unwrap_err().line, 2);
        let mut taken = 0;
        let endless = std::io::BufReader::new(std::io::repeat(b'\n'));
        read(endless, &Form::Lines, &Additions::default(), Bound::of_batches(100), 1, |_| {
            taken += 1;
            if taken < 10 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
        assert_eq!(taken, 10);
    }
}

//! What `produce` is told, and what that means: which flags go together, and which do not.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap_complete::ArgValueCompleter;
use tidegate_client::{Acks, Header, NewRecord, Value};
use tidegate_types::Codec;

use crate::cli::Failure;
use crate::cli::completion;
use crate::cli::record::feed::Source;
use crate::cli::record::input::{Additions, Form};
use crate::cli::record::row::Roles;
use crate::cli::record::scan::Scan;
use crate::cli::record::template::Template;
use crate::cli::time::parse_duration;

const EXAMPLES: &str = "\
Examples:
  echo hello | tidegate produce greetings -k en
  tidegate produce users users.txt -f '%k\\t%v\\n'
  tidegate produce flights flights.csv --input csv --key-field tailnum --infer
  tidegate produce logo logo.png --input raw -k logo -H type=image/png
  tidegate consume a -o ndjson | tidegate produce b --input ndjson
  tidegate produce users -k u17 --tombstone
  tidegate produce flights flights.csv --input csv --from-line 168051

Format: %k key  %v value  %h headers  %T timestamp  %p partition; %k{hex} %v{base64} %v{json} %h{json} %T{rfc3339}
        what stands between two fields ends the first; \\n \\t \\0 \\xNN %%";

/// The form of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum InputName {
    /// Each line is a value: text, or bytes if it is no UTF-8
    Lines,
    /// Each line is a record object, as `consume -o ndjson` writes it
    Ndjson,
    /// A JSON array of record objects, as `consume -o json` writes it
    Json,
    /// Each line is a value in JSON
    JsonValues,
    /// A table with a head line; each row becomes a JSON object
    Csv,
    /// The whole input is one value
    Raw,
}

/// When the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum AcksName {
    /// When the topic's durability holds
    All,
    /// When the leader has written it
    Leader,
    /// At once
    None,
}

/// How batches are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum CodecName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// What to produce.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Arguments {
    /// The topic
    #[arg(add = ArgValueCompleter::new(completion::topics))]
    pub(super) topic: String,
    /// Where records are read from; if not given or -, from standard input
    file: Option<PathBuf>,
    /// The form of the input
    #[arg(short, long, value_enum, default_value_t = InputName::Lines, value_name = "FORM")]
    input: InputName,
    /// Each record is read by this format, such as '%k\t%v\n'; see below
    #[arg(short, long, value_name = "FORMAT", conflicts_with_all = ["input", "key_sep"], allow_hyphen_values = true)]
    format: Option<Template>,
    /// Each line is a key, SEP and a value
    #[arg(long, value_name = "SEP", conflicts_with = "input", allow_hyphen_values = true)]
    key_sep: Option<String>,
    /// Records that begin before this line of the input are passed over; a CSV's head line is read all the same
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) from_line: u64,
    /// The key of records without one
    #[arg(short, long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// A header for every record; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<Header>,
    /// All go to this partition, not where their key leads
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// Forget the partitions that records name: their keys lead them
    #[arg(long, conflicts_with = "partition")]
    repartition: bool,
    /// An empty value is none; with --key and no file, one record without a value is sent
    #[arg(short = 'Z', long)]
    tombstone: bool,
    /// csv, json-values: the field that is the key
    #[arg(long, value_name = "NAME")]
    key_field: Option<String>,
    /// csv, json-values: a field that becomes a header, too; may be given several times
    #[arg(long = "header-field", value_name = "NAME")]
    header_fields: Vec<String>,
    /// csv, json-values: the field that is the timestamp
    #[arg(long, value_name = "NAME")]
    timestamp_field: Option<String>,
    /// csv: numbers, true and false become that in JSON; without it, all is text
    #[arg(long)]
    infer: bool,
    /// csv: what separates fields
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// When the server answers
    #[arg(long, value_enum, default_value_t = AcksName::All, value_name = "WHO", help_heading = "Sending")]
    acks: AcksName,
    /// How batches are packed
    #[arg(short = 'z', long, value_enum, default_value_t = CodecName::None, value_name = "CODEC", help_heading = "Sending")]
    compression: CodecName,
    /// A batch is sent when it has so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10, value_parser = batch_bytes, help_heading = "Sending")]
    pub(super) batch_bytes: usize,
    /// … or when its first record has waited so long
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = parse_duration, help_heading = "Sending")]
    pub(super) linger: Duration,
    /// How long after that a record is tried again while the node is away or has no room
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, help_heading = "Sending")]
    pub(super) try_for: Duration,
}

/// `name=value`; the value may be empty and may have `=` in it.
fn header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once('=').ok_or("a header is written as name=value")?;
    Ok(Header { name: name.to_owned(), value: Some(value.to_owned().into()) })
}

/// No more than every topic takes by default.
fn batch_bytes(text: &str) -> Result<usize, String> {
    let largest = tidegate_types::limits::BATCH_BYTES_DEFAULT;
    text.parse().ok().filter(|bytes| (1..=largest).contains(bytes)).ok_or_else(|| format!("wanted: 1 to {largest}"))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        [b'\\', b't'] => Ok(b'\t'),
        _ => Err("a delimiter is one ASCII character, such as ; or \\t".to_owned()),
    }
}

/// What the flags mean together.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    file: Option<PathBuf>,
    pub(super) form: Form,
    pub(super) additions: Additions,
    /// The one record that the flags make, if nothing is to be read.
    pub(super) only: Option<NewRecord>,
}

impl Plan {
    /// Whether the input comes from standard input.
    pub(super) const fn is_stdin(&self) -> bool {
        self.file.is_none()
    }

    /// Where the input comes from.
    pub(super) fn source(&self) -> Result<Source, Failure> {
        match &self.file {
            None => Ok(Source::Stdin),
            Some(path) => Source::open(path).map_err(Failure::Local),
        }
    }
}

impl Arguments {
    /// What the flags mean together.
    ///
    /// # Errors
    /// [`Failure::Usage`] if they contradict each other.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        let roles = Roles { key: self.key_field.clone(), headers: self.header_fields.clone(), timestamp: self.timestamp_field.clone() };
        let has_fields = matches!(self.input, InputName::Csv | InputName::JsonValues) && self.format.is_none() && self.key_sep.is_none();
        if !roles.is_empty() && !has_fields {
            return usage("--key-field, --header-field and --timestamp-field go with --input csv or json-values");
        }
        if self.input != InputName::Csv && (self.infer || self.delimiter != b',') {
            return usage("--infer and --delimiter go with --input csv");
        }
        let form = match (&self.format, &self.key_sep, self.input) {
            (Some(template), _, _) => Form::Template(Scan::new(template).map_err(Failure::Usage)?),
            (None, Some(separator), _) => Form::Template(Scan::separated_by(separator).map_err(Failure::Usage)?),
            (None, None, InputName::Lines) => Form::Lines,
            (None, None, InputName::Ndjson) => Form::Objects,
            (None, None, InputName::Json) => Form::Array,
            (None, None, InputName::JsonValues) => Form::JsonValues(roles),
            (None, None, InputName::Csv) => Form::Csv { roles, delimiter: self.delimiter, infer: self.infer },
            (None, None, InputName::Raw) => Form::Raw,
        };
        if self.from_line > 1 && form == Form::Raw {
            return usage("--from-line goes with input that has many records; raw input is one");
        }
        let key = self.key.clone().map(Bytes::from);
        let only = if self.tombstone && key.is_some() && self.file.is_none() {
            Some(NewRecord {
                key: key.clone(),
                value: Value::Tombstone,
                headers: self.headers.clone(),
                timestamp: None,
                partition: self.partition,
            })
        } else {
            None
        };
        let additions = Additions {
            key,
            headers: self.headers.clone(),
            partition: self.partition,
            repartition: self.repartition,
            tombstones: self.tombstone,
        };
        let file = self.file.clone().filter(|path| path.as_os_str() != "-");
        Ok(Plan { file, form, additions, only })
    }

    pub(super) const fn acks(&self) -> Acks {
        match self.acks {
            AcksName::All => Acks::All,
            AcksName::Leader => Acks::Leader,
            AcksName::None => Acks::None,
        }
    }

    pub(super) const fn codec(&self) -> Codec {
        match self.compression {
            CodecName::None => Codec::None,
            CodecName::Gzip => Codec::Gzip,
            CodecName::Snappy => Codec::Snappy,
            CodecName::Lz4 => Codec::Lz4,
            CodecName::Zstd => Codec::Zstd,
        }
    }
}

fn usage<T>(reason: &str) -> Result<T, Failure> {
    Err(Failure::Usage(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let line = Line::try_parse_from([&["produce", "t"], words].concat()).map_err(|error| error.to_string())?;
        line.arguments.plan().map_err(|failure| failure.sentence("").unwrap_or_default())
    }

    /// A promise: flags that say what the form of the input is lead to that form.
    #[test]
    fn forms() {
        for (words, form) in [
            (&[][..], Form::Lines),
            (&["--input", "raw", "f"], Form::Raw),
            (&["-i", "ndjson", "-"], Form::Objects),
            (&["-i", "json"], Form::Array),
            (&["--key-sep", ":"], Form::Template(Scan::separated_by(":").unwrap())),
            (&["-f", r"%k:%v\n"], Form::Template(Scan::separated_by(":").unwrap())),
            (&["-i", "csv", "--delimiter", r"\t", "--infer"], Form::Csv { roles: Roles::default(), delimiter: b'\t', infer: true }),
        ] {
            assert_eq!(plan(words).unwrap().form, form, "{words:?}");
        }
        assert!(plan(&["-i", "ndjson", "-"]).unwrap().file.is_none());
    }

    /// A promise: flags that contradict each other are refused with the reason.
    #[test]
    fn contradictions() {
        for (words, help) in [
            (&["-f", "%v\\n", "--key-sep", ":"][..], "cannot be used with"),
            (&["-f", "%v\\n", "--input", "csv"], "cannot be used with"),
            (&["-f", "%v"], "add \\n"),
            (&["-f", "%z\\n"], "no '%z'"),
            (&["--key-field", "a"], "go with --input csv"),
            (&["--infer", "-i", "json-values"], "go with --input csv"),
            (&["-H", "a"], "name=value"),
            (&["-i", "csv", "--delimiter", "ab"], "one ASCII character"),
            (&["-p", "1", "--repartition"], "cannot be used with"),
            (&["--linger", "soon"], "no duration"),
            (&["--from-line", "0"], "invalid value"),
            (&["-i", "raw", "--from-line", "2"], "many records"),
        ] {
            let error = plan(words).unwrap_err();
            assert!(error.contains(help), "{words:?}: {error}");
        }
    }

    /// A promise: a tombstone by flags alone reads nothing; with a file it is about empty values.
    #[test]
    fn tombstones() {
        let only = plan(&["-k", "a", "-Z", "-H", "h=1=2"]).unwrap().only.unwrap();
        assert_eq!((only.value, only.headers[0].value.as_deref()), (Value::Tombstone, Some(&b"1=2"[..])));
        let lines = plan(&["-k", "a", "-Z", "-"]).unwrap();
        assert!(lines.only.is_none() && lines.additions.tombstones);
    }
}

//! Records on standard output: the form is chosen by the flags and by who reads, output is buffered and flushed whenever there is nothing more to write.

use std::io::{BufWriter, IsTerminal, StdoutLock, Write};

use tidegate_client::Record;

use super::print::{Form, Printer};
use super::template::Template;
use crate::cli::Failure;
use crate::cli::output::{Format, Output};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// The form that records are written in: a template if there is one; what was asked for; else rows on a terminal, and values one a line in a pipe.
///
/// # Errors
/// [`Failure::Usage`] for a format that records do not have.
pub(in crate::cli) fn form(output: &Output, template: Option<&Template>) -> Result<Form, Failure> {
    if let Some(template) = template {
        return Ok(Form::Template(template.clone()));
    }
    let look = output.look();
    match output.format() {
        Format::Table if output.is_chosen() || std::io::stdout().is_terminal() => Ok(Form::Rows { width: look.width.map(usize::from) }),
        Format::Table => r"%v\n".parse().map(Form::Template).map_err(Failure::Local),
        Format::Wide => Ok(Form::Rows { width: None }),
        Format::Json => Ok(Form::Array),
        Format::Ndjson => Ok(Form::Lines),
        Format::Yaml => Ok(Form::Yaml),
        Format::Name => Err(Failure::Usage("records have no names: -o name shows nothing here".to_owned())),
    }
}

/// Records on their way to standard output.
#[derive(Debug)]
pub(in crate::cli) struct Show<'t> {
    printer: Printer<'t>,
    out: BufWriter<StdoutLock<'static>>,
}

impl<'t> Show<'t> {
    /// Writes records of `topic`.
    pub(in crate::cli) fn new(form: Form, topic: &'t str) -> Self {
        let stdout = std::io::stdout();
        let printer = Printer::new(form, topic, stdout.is_terminal());
        Self { printer, out: BufWriter::with_capacity(BUFFER_BYTES, stdout.lock()) }
    }

    /// Writes one record, sooner or later.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] if nobody reads any more.
    pub(in crate::cli) fn record(&mut self, record: &Record) -> Result<(), Failure> {
        Ok(self.printer.record(&mut self.out, record)?)
    }

    /// Writes one JSON object, on one line as it stands in `line`, sooner or later.
    ///
    /// # Errors
    /// As [`Show::record`].
    pub(in crate::cli) fn object(&mut self, line: &str) -> Result<(), Failure> {
        Ok(self.printer.object(&mut self.out, line)?)
    }

    /// Writes a text for people as it stands, sooner or later.
    ///
    /// # Errors
    /// As [`Show::record`].
    pub(in crate::cli) fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Records written so far.
    pub(in crate::cli) const fn written(&self) -> u64 {
        self.printer.written()
    }

    /// Writes what has been gathered: nothing more comes for now.
    ///
    /// # Errors
    /// As [`Show::record`].
    pub(in crate::cli) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Writes what comes after the last record.
    ///
    /// # Errors
    /// As [`Show::record`].
    pub(in crate::cli) fn end(&mut self) -> Result<(), Failure> {
        self.printer.end(&mut self.out)?;
        self.flush()
    }
}

//! A page of records, fetched as JSON or as stored batches, and what is in it.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_client::{Error, batch};
use tidegate_types::StoredBatches;

use super::arguments::Form;
use super::connection::{Answer, Connection, Node, unexpected};

/// How pages are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    node: Node,
    topic: String,
    form: Form,
    records: u32,
    bytes: usize,
}

/// A page, and where it leads.
#[derive(Debug)]
pub(crate) struct Page {
    form: Form,
    start: u64,
    pub(crate) next_offset: u64,
    pub(crate) high_watermark: u64,
    pub(crate) body: Bytes,
}

impl Pages {
    /// Of up to `records` (as JSON) and about `bytes`.
    pub(crate) fn new(node: &Node, topic: &str, form: Form, records: u32, bytes: usize) -> Self {
        Self { node: node.clone(), topic: topic.to_owned(), form, records, bytes }
    }

    /// The page from `offset` on; waits up to `wait_ms` for one that is not empty.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn fetch(&self, connection: &mut Connection, partition: u32, offset: u64, wait_ms: u64) -> Result<Page, Error> {
        let Self { topic, bytes, records, .. } = self;
        let (what, most) = match self.form {
            Form::Batches => ("batches", String::new()),
            Form::Json | Form::Ndjson | Form::Raw => ("records", format!("&max_records={records}")),
        };
        let wait = if wait_ms == 0 { String::new() } else { format!("&max_wait_ms={wait_ms}") };
        let target = format!("/v1/topics/{topic}/partitions/{partition}/{what}?offset={offset}&max_bytes={bytes}{most}{wait}");
        let answer: Answer = connection.exchange(&self.node.call(Method::GET, &target, None)?, Bytes::new()).await?;
        let (next_offset, high_watermark) = (answer.number("next-offset")?, answer.number("high-watermark")?);
        if next_offset < offset {
            return Err(unexpected("it leads backwards"));
        }
        Ok(Page { form: self.form, start: offset, next_offset, high_watermark, body: answer.body })
    }
}

#[derive(Debug, Deserialize)]
struct Records<'a> {
    #[serde(borrow)]
    records: Vec<Record<'a>>,
}

/// A record's value in one of its shapes; a tombstone has none.
#[derive(Debug, Deserialize)]
struct Record<'a> {
    offset: u64,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    base64: Option<Cow<'a, str>>,
}

impl Page {
    /// Offsets that it leads over.
    pub(crate) const fn records(&self) -> u64 {
        self.next_offset - self.start
    }

    /// Hands the offset and the value of each record to `each`.
    ///
    /// # Errors
    /// [`Error::Answer`] if it is no page.
    pub(crate) fn read(&self, mut each: impl FnMut(u64, &[u8])) -> Result<(), Error> {
        if self.form == Form::Batches {
            for stored in StoredBatches::new(self.body.clone()) {
                let stored = stored.map_err(|error| unexpected(&error.to_string()))?;
                batch::read(&stored, self.start, |record| each(record.offset.get(), record.value.unwrap_or_default()))?;
            }
            return Ok(());
        }
        let page: Records<'_> = serde_json::from_slice(&self.body).map_err(|error| unexpected(&error.to_string()))?;
        for record in page.records {
            let text = record.text.or(record.base64);
            let value = record.value.map(|json| json.get().as_bytes()).or(text.as_ref().map(|text| text.as_bytes()));
            each(record.offset, value.unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(form: Form, body: impl Into<Bytes>) -> Page {
        Page { form, start: 5, next_offset: 9, high_watermark: 9, body: body.into() }
    }

    /// A promise: values are read as the bytes that they were, whatever shape they come in; what is no page is an error.
    #[test]
    fn pages_are_read() {
        let json = r#"{"records":[{"partition":0,"offset":5,"value":{ "a":1.0}},{"offset":6,"text":"a\nb"},{"offset":7,"base64":"AA=="},
            {"offset":8,"tombstone":true}],"next_offset":9}"#;
        let mut seen = Vec::new();
        page(Form::Json, json).read(|offset, value| seen.push((offset, value.to_vec()))).unwrap();
        let want = [(5, &br#"{ "a":1.0}"#[..]), (6, &b"a\nb"[..]), (7, &b"AA=="[..]), (8, &b""[..])];
        assert_eq!(seen, want.map(|(offset, value)| (offset, value.to_vec())));
        assert!(page(Form::Json, "[]").read(|_, _| {}).is_err());
        assert!(page(Form::Batches, vec![1; 100]).read(|_, _| {}).is_err());
    }
}

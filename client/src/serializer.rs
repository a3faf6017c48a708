//! Typed values: what turns them into records and back, and a producer and a consumer that do so by themselves.
//!
//! ```no_run
//! # use tidegate_client::serializer::{Json, Text, TypedConsumer, TypedProducer};
//! # use tidegate_client::Client;
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let producer = TypedProducer::new(client.producer().build()?, Text, Json);
//! producer.send("readings", Some("sensor-1"), &vec![20.5, 21.0]).await?.await?;
//!
//! let mut consumer = TypedConsumer::new(client.consumer().topic("readings").build().await?, Text, Json);
//! let records: Option<Vec<_>> = consumer.next::<String, Vec<f64>>().await?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_types::{Encoding, Record};

use crate::consumer::{Consumer, ConsumerError};
use crate::error::Error;
use crate::producer::{Delivery, Producer, ProducerError};
use crate::record::{Header, NewRecord, Value};

/// Turns a `T` into a value; as a key, the value's bytes.
pub trait Serializer<T: ?Sized> {
    /// The value, and with it the mark of how it is written.
    ///
    /// # Errors
    /// [`Error::Input`] if `value` has no such form.
    fn serialize(&self, value: &T) -> Result<Value, Error>;
}

/// Turns bytes into a `T`.
pub trait Deserializer<T> {
    /// The value that `bytes` are. They may be anything that anybody has written; `encoding` is the mark that they came with (`Unknown` for keys).
    ///
    /// # Errors
    /// [`Error::Input`] if they are not what this reads.
    fn deserialize(&self, encoding: Encoding, bytes: &[u8]) -> Result<T, Error>;
}

/// JSON, by serde.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<T: Serialize + ?Sized> Serializer<T> for Json {
    fn serialize(&self, value: &T) -> Result<Value, Error> {
        serde_json::value::to_raw_value(value).map(Value::Json).map_err(|error| Error::Input(error.to_string()))
    }
}

impl<T: DeserializeOwned> Deserializer<T> for Json {
    fn deserialize(&self, _: Encoding, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::Input(error.to_string()))
    }
}

/// UTF-8 text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Text;

impl<T: AsRef<str> + ?Sized> Serializer<T> for Text {
    fn serialize(&self, value: &T) -> Result<Value, Error> {
        Ok(Value::Text(value.as_ref().to_owned()))
    }
}

impl Deserializer<String> for Text {
    fn deserialize(&self, _: Encoding, bytes: &[u8]) -> Result<String, Error> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| Error::Input(error.to_string()))
    }
}

/// The bytes themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl<T: AsRef<[u8]> + ?Sized> Serializer<T> for Raw {
    fn serialize(&self, value: &T) -> Result<Value, Error> {
        Ok(Value::Bytes(Bytes::copy_from_slice(value.as_ref())))
    }
}

impl Deserializer<Bytes> for Raw {
    fn deserialize(&self, _: Encoding, bytes: &[u8]) -> Result<Bytes, Error> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

impl Deserializer<Vec<u8>> for Raw {
    fn deserialize(&self, _: Encoding, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(bytes.to_vec())
    }
}

/// A value's bytes, as a key has them.
fn key_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Json(json) => Some(Box::<str>::from(json).into_boxed_bytes().into()),
        Value::Text(text) => Some(text.into()),
        Value::Bytes(bytes) => Some(bytes),
        Value::Tombstone => None,
    }
}

/// A [`Producer`] of typed keys and values.
#[derive(Debug, Clone)]
pub struct TypedProducer<K, V> {
    producer: Producer,
    keys: K,
    values: V,
}

impl<K, V> TypedProducer<K, V> {
    /// Writes keys by `keys` and values by `values`.
    pub const fn new(producer: Producer, keys: K, values: V) -> Self {
        Self { producer, keys, values }
    }

    /// The producer underneath: to flush, to close, to count.
    pub const fn producer(&self) -> &Producer {
        &self.producer
    }

    /// As [`Producer::send`].
    ///
    /// # Errors
    /// [`ProducerError::Input`] if key or value cannot be written; else as [`Producer::send`].
    pub async fn send<A: ?Sized, B: ?Sized>(&self, topic: &str, key: Option<&A>, value: &B) -> Result<Delivery, ProducerError>
    where
        K: Serializer<A>,
        V: Serializer<B>,
    {
        let input = |error: Error| ProducerError::Input(error.to_string());
        let mut record = NewRecord::new(self.values.serialize(value).map_err(input)?);
        record.key = key.map(|key| self.keys.serialize(key)).transpose().map_err(input)?.and_then(key_bytes);
        self.producer.send(topic, record).await
    }
}

/// A record with its key and value read.
#[derive(Debug, Clone, PartialEq)]
pub struct TypedRecord<A, B> {
    /// The topic …
    pub topic: Arc<str>,
    /// … the partition …
    pub partition: u32,
    /// … and the offset.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// `None` is no key.
    pub key: Option<A>,
    /// `None` is a tombstone.
    pub value: Option<B>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

/// A [`Consumer`] of typed keys and values.
#[derive(Debug)]
pub struct TypedConsumer<K, V> {
    consumer: Consumer,
    keys: K,
    values: V,
}

impl<K, V> TypedConsumer<K, V> {
    /// Reads keys by `keys` and values by `values`.
    pub const fn new(consumer: Consumer, keys: K, values: V) -> Self {
        Self { consumer, keys, values }
    }

    /// The consumer underneath: to seek, to pause, to ask where it stands.
    pub const fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// As [`Consumer::next`], with every record read.
    ///
    /// # Errors
    /// As [`Consumer::next`]; and [`Error::Input`] with the offset of a record that cannot be read. The position is then behind its batch: a
    /// [`Consumer::seek`] leads back to any record of it.
    pub async fn next<A, B>(&mut self) -> Result<Option<Vec<TypedRecord<A, B>>>, ConsumerError>
    where
        K: Deserializer<A>,
        V: Deserializer<B>,
    {
        let Some(batch) = self.consumer.next().await? else { return Ok(None) };
        let read = |record: Record<'_>| {
            let offset = record.offset.get();
            self.read(&batch.topic, batch.partition, &record).map_err(|error| ConsumerError {
                topic: Arc::clone(&batch.topic),
                partition: batch.partition,
                error: Error::Input(format!("the record at offset {offset} cannot be read: {error}")),
            })
        };
        batch.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn read<A, B>(&self, topic: &Arc<str>, partition: u32, record: &Record<'_>) -> Result<TypedRecord<A, B>, Error>
    where
        K: Deserializer<A>,
        V: Deserializer<B>,
    {
        let header = |h: tidegate_types::record::Header<'_>| Header { name: h.name.to_owned(), value: h.value.map(Bytes::copy_from_slice) };
        Ok(TypedRecord {
            topic: Arc::clone(topic),
            partition,
            offset: record.offset.get(),
            timestamp: record.timestamp.millis(),
            key: record.key.map(|key| self.keys.deserialize(Encoding::Unknown, key)).transpose()?,
            value: record.value.map(|value| self.values.deserialize(record.encoding, value)).transpose()?,
            headers: record.headers.iter().map(header).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what was written is read back the same, and what is something else is an error.
    #[test]
    fn values_come_back() {
        let json: Value = Json.serialize(&("a", 1)).unwrap();
        let pair: (String, u8) = Json.deserialize(Encoding::Json, json.as_bytes().unwrap()).unwrap();
        assert_eq!(pair, ("a".to_owned(), 1));
        let text: Value = Text.serialize("é").unwrap();
        assert_eq!(Text.deserialize(Encoding::Text, text.as_bytes().unwrap()).unwrap(), "é");
        let raw: Value = Raw.serialize(&[0xff_u8, 0]).unwrap();
        let back: Vec<u8> = Raw.deserialize(Encoding::Bytes, raw.as_bytes().unwrap()).unwrap();
        assert_eq!(back, [0xff, 0]);
        assert!(Text.deserialize(Encoding::Text, &[0xff]).is_err());
        assert!(Deserializer::<u8>::deserialize(&Json, Encoding::Json, b"{").is_err());
        assert_eq!(key_bytes(Json.serialize(&1).unwrap()).as_deref(), Some(&b"1"[..]));
    }
}

//! What a consumer knows of one partition: where it stands, what it holds, what its fetcher was told last. What came is handed out in the order in which
//! it came, a failure too.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_types::StoredBatch;
use tokio::sync::watch;

use super::batch::ConsumedBatch;
use super::fetcher::{Chunk, Order};
use crate::error::Error;
use crate::fetch::From;

/// One partition that is read.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    orders: watch::Sender<Order>,
    position: Option<u64>,
    end: u64,
    held: VecDeque<Held>,
    is_over: bool,
}

/// What came and was not yet handed out.
#[derive(Debug)]
enum Held {
    Chunk(Chunk),
    /// The fetcher could not go on behind what came before.
    Failure(Error),
}

impl Reader {
    pub(super) fn new(topic: Arc<str>, partition: u32, orders: watch::Sender<Order>) -> Self {
        Self { topic, partition, orders, position: None, end: u64::MAX, held: VecDeque::new(), is_over: false }
    }

    pub(super) fn generation(&self) -> u64 {
        self.orders.borrow().generation
    }

    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    /// Whether it has found its place, or cannot.
    pub(super) fn is_started(&self) -> bool {
        self.position.is_some() || self.is_over || !self.held.is_empty()
    }

    /// Whether nothing more will come, unless it is told to go elsewhere.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.held.is_empty()
    }

    /// Answers, or a failure behind them, that are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn started(&mut self, position: u64, end: u64) {
        // After a reset there may be something left of what was fetched before.
        if self.held.is_empty() {
            self.position = Some(position);
        }
        self.end = end;
    }

    pub(super) fn finished(&mut self, position: u64) {
        if self.held.is_empty() {
            self.position = Some(position);
        }
        self.is_over = true;
    }

    /// Takes an answer; whether it may be handed out now.
    pub(super) fn hold(&mut self, chunk: Chunk) -> bool {
        self.held.push_back(Held::Chunk(chunk));
        !self.orders.borrow().is_paused
    }

    /// The fetcher has failed: that is told behind what it brought before. Whether it may be told now.
    pub(super) fn fail(&mut self, error: Error) -> bool {
        self.held.push_back(Held::Failure(error));
        !self.orders.borrow().is_paused
    }

    /// The failure that is to be told next, if it is one.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        match self.held.pop_front_if(|held| matches!(held, Held::Failure(_))) {
            Some(Held::Failure(error)) => {
                self.is_over = true;
                Some(error)
            }
            Some(Held::Chunk(_)) | None => None,
        }
    }

    pub(super) fn seek(&mut self, to: From) {
        self.held.clear();
        self.is_over = false;
        self.position = match to {
            From::Offset(offset) => Some(offset),
            From::Earliest | From::Latest | From::Timestamp(_) | From::Tail(_) => None,
        };
        self.orders.send_modify(|order| {
            order.generation += 1;
            order.from = to;
            order.is_stopped = false;
        });
    }

    pub(super) fn pause(&self, is_paused: bool) {
        self.orders.send_if_modified(|order| std::mem::replace(&mut order.is_paused, is_paused) != is_paused);
    }

    /// The next batch of the first answer that is held; `None` if that answer has no more, which is then gone. A failure that stands there is told, once.
    pub(super) fn next_batch(&mut self) -> Result<Option<ConsumedBatch>, Error> {
        if let Some(error) = self.take_failure() {
            return Err(error);
        }
        let Some(Held::Chunk(chunk)) = self.held.front_mut() else { return Ok(None) };
        for stored in chunk.batches.by_ref() {
            let offsets = chunk.position..self.end;
            let unpack = |stored: StoredBatch| {
                let next = stored.header.last_offset().next().get();
                let batch = ConsumedBatch::unpack(&self.topic, self.partition, chunk.high_watermark, &stored, offsets)?;
                Ok((batch, next))
            };
            match stored.and_then(unpack) {
                Ok((Some(batch), next)) => {
                    chunk.position = next.max(chunk.position);
                    self.position = Some(chunk.position.min(self.end));
                    return Ok(Some(batch));
                }
                Ok((None, _)) => {}
                Err(error) => {
                    self.stop_fetching();
                    return Err(Error::Answer { call: "a fetch of batches".to_owned(), reason: error.to_string() });
                }
            }
        }
        self.position = Some(chunk.next_offset.max(chunk.position).min(self.end));
        self.held.pop_front();
        Ok(None)
    }

    /// Nothing behind what was handed out is wanted.
    pub(super) fn stop_fetching(&mut self) {
        self.held.clear();
        self.is_over = true;
        self.orders.send_modify(|order| {
            order.generation += 1;
            order.is_stopped = true;
        });
    }
}

//! The threads that write and sync, so that no disk can stall the runtime. Partitions sync in parallel, as many at a time as there are threads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads for one data directory. A partition has at most one job here at a time, which bounds the queue.
#[derive(Debug)]
pub struct DiskPool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopping: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("jobs", &self.lock().jobs.len()).finish()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.stopping {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl DiskPool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// The system's, if it gives no more threads.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let spawn = |i| {
            let queue = Arc::clone(&queue);
            let run = move || {
                while let Some(job) = queue.next() {
                    job();
                }
            };
            std::thread::Builder::new().name(format!("disk-{i}")).spawn(run)
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { queue, threads })
    }

    /// Hands a job over; it runs even if the pool is dropped right after.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.queue.lock().jobs.push_back(Box::new(job));
        self.queue.wake.notify_one();
    }
}

impl Drop for DiskPool {
    /// Runs what is queued, then ends the threads.
    fn drop(&mut self) {
        self.queue.lock().stopping = true;
        self.queue.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

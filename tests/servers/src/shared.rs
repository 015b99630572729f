//! A server that tests of one program share while any of them runs. It can't be a plain static: those are never dropped.

use std::sync::{Arc, Weak};

use tokio::{runtime::Handle, sync::Mutex, task::spawn_blocking};

/// Something that is there while somebody holds it.
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T: Send + Sync + 'static> Shared<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// What others hold; started if nobody does, on a thread of its own.
    pub async fn get<F: Future<Output = T>>(&self, start: impl FnOnce() -> F + Send + 'static) -> Arc<T> {
        let mut held = self.0.lock().await;
        if let Some(there) = held.upgrade() {
            return there;
        }
        let runtime = Handle::current();
        let started = Arc::new(spawn_blocking(move || runtime.block_on(start())).await.expect("it starts"));
        *held = Arc::downgrade(&started);
        started
    }
}

impl<T: Send + Sync + 'static> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}
